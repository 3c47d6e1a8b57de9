using Iced.Intel;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Backends.Kvm;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Pvm.Emulated;

/// <summary>The only program of an emulated host: it carries out system calls that this process asks for through shared memory, so that nothing else has to run on the slow processor.</summary>
/// <remarks>Register use: RBP first page, RBX page, R12 number of the program, R13 operation, R14 operations left, R15 rounds until it sleeps.</remarks>
internal static class ServerCode
{
    /// <summary>What it says on the console when it waits.</summary>
    public const string Greeting = "pvdf-server";

    private const ulong ImageAddress = 0x40_0000;

    /// <summary>Looks at all pages before it sleeps: some ten microseconds. Without PAUSE, at which an emulator leaves its translated code.</summary>
    private const int Rounds = 200;

    /// <summary>A run that a signal ends sooner, in ticks of the time-stamp counter, begins again: under a millisecond.</summary>
    private const int ShortRun = 1 << 20;

    /// <summary>The first sleep, in nanoseconds. Each takes twice as long as the one before, as sleeping is the dearest thing that an emulated processor does.</summary>
    private const int ShortestPause = 50_000;

    /// <summary>The last doubling is from below this.</summary>
    private const int LongPause = 1_000_000;

    /// <summary>The program, as an ELF file.</summary>
    public static byte[] Image()
    {
        Assembler _ = new(64);
        Label wait = _.CreateLabel(), round = _.CreateLabel(), look = _.CreateLabel(), sleep = _.CreateLabel(), go = _.CreateLabel(), greeting = _.CreateLabel();

        AllowKeys(_);
        Begin(_, greeting);

        _.Label(ref wait);
        _.mov(__qword_ptr[rbp + ServerPage.Current], 0);
        _.mov(r15d, Rounds);
        _.Label(ref round);
        _.mov(rbx, rbp);
        _.mov(ecx, ServerPage.Pages);
        _.Label(ref look);
        _.mov(r12, __[rbx + ServerPage.Asked]);
        _.cmp(r12, __[rbx + ServerPage.Done]);
        _.jne(go);
        _.add(rbx, ServerPage.Size);
        _.sub(ecx, 1);
        _.jnz(look);
        _.sub(r15d, 1);
        _.jnz(round);
        _.mov(eax, LinuxAbi.SYS_nanosleep);
        _.lea(rdi, __[rbp + ServerPage.Pause]);
        _.xor(esi, esi);
        _.syscall();
        _.mov(rax, __[rbp + ServerPage.Pause + 8]);
        _.cmp(rax, LongPause);
        _.jae(sleep);
        _.add(rax, rax);
        _.mov(__[rbp + ServerPage.Pause + 8], rax);
        _.Label(ref sleep);
        _.mov(r15d, 1);
        _.jmp(round);

        _.Label(ref go);
        _.mov(__qword_ptr[rbp + ServerPage.Pause + 8], ShortestPause);
        CarryOut(_, wait);

        _.Label(ref greeting);
        _.db(System.Text.Encoding.ASCII.GetBytes(Greeting + "\n"));
        using MemoryStream stream = new();
        _.Assemble(new StreamCodeWriter(stream), ImageAddress + ElfImage.HeaderSize);
        return ElfImage.Write(ImageAddress, stream.ToArray());
    }

    /// <summary>Sets PKRU to 0, which is what guests of PVM have: the hypervisor then has nothing to change at their entries and exits, where each WRPKRU costs an emulator its whole TLB.</summary>
    private static void AllowKeys(Assembler _)
    {
        const int structured = 7;
        const int osPke = 4;
        Label done = _.CreateLabel();
        _.xor(eax, eax);
        _.cpuid();
        _.cmp(eax, structured);
        _.jb(done);
        _.mov(eax, structured);
        _.xor(ecx, ecx);
        _.cpuid();
        _.bt(ecx, osPke);
        _.jnc(done);
        _.xor(eax, eax);
        _.xor(ecx, ecx);
        _.xor(edx, edx);
        _.wrpkru();
        _.Label(ref done);
        _.nop();
    }

    /// <summary>Makes the pages and says that it waits.</summary>
    private static void Begin(Assembler _, Label greeting)
    {
        _.mov(eax, LinuxAbi.SYS_mmap);
        _.mov(rdi, ServerPage.Address);
        _.mov(esi, ServerPage.Pages * ServerPage.Size);
        _.mov(edx, 3);
        _.mov(r10d, LinuxAbi.MAP_PRIVATE | LinuxAbi.MAP_ANONYMOUS | LinuxAbi.MAP_FIXED | LinuxAbi.MAP_LOCKED | LinuxAbi.MAP_POPULATE);
        _.mov(r8, -1);
        _.xor(r9d, r9d);
        _.syscall();
        _.mov(rbp, ServerPage.Address);
        foreach ((int at, ulong word) in (ReadOnlySpan<(int, ulong)>)[(0, ServerPage.First), (8, ServerPage.Second)])
        {
            _.mov(rax, ~word);
            _.not(rax);
            _.mov(__[rbp + ServerPage.Signature + at], rax);
        }

        _.mov(__qword_ptr[rbp + ServerPage.Pause + 8], ShortestPause);
        _.mov(eax, LinuxAbi.SYS_write);
        _.mov(edi, 1);
        _.lea(rsi, __[greeting]);
        _.mov(edx, Greeting.Length + 1);
        _.syscall();
    }

    /// <summary>Carries out the program of a page.</summary>
    private static void CarryOut(Assembler _, Label wait)
    {
        Label next = _.CreateLabel(), store = _.CreateLabel(), done = _.CreateLabel(), copy = _.CreateLabel(), cpuid = _.CreateLabel(), selector = _.CreateLabel(), run = _.CreateLabel();

        _.mov(__[rbp + ServerPage.Current], rbx);
        _.lea(r13, __[rbx + ServerPage.Operations]);
        _.mov(r14, __[rbx + ServerPage.Count]);
        _.Label(ref next);
        _.mov(eax, __[r13]);
        foreach ((int number, Label label) in (ReadOnlySpan<(int, Label)>)[(ServerPage.Run, run), (ServerPage.Copy, copy), (ServerPage.CpuId, cpuid), (ServerPage.Selector, selector)])
        {
            _.cmp(eax, number);
            _.je(label);
        }

        _.mov(rdi, __[r13 + 8]);
        _.mov(rsi, __[r13 + 16]);
        _.mov(rdx, __[r13 + 24]);
        _.mov(r10, __[r13 + 32]);
        _.mov(r8, __[r13 + 40]);
        _.mov(r9, __[r13 + 48]);
        _.syscall();
        _.mov(ecx, __[r13 + ServerPage.Needed]);
        _.test(ecx, ecx);
        _.jz(store);
        _.sub(ecx, 1);
        _.cmp(rax, rcx);
        _.je(store);
        _.mov(__[r13 + ServerPage.Result], rax);
        _.jmp(done);

        _.Label(ref store);
        _.mov(__[r13 + ServerPage.Result], rax);
        _.add(r13, ServerPage.OperationSize);
        _.sub(r14, 1);
        _.jnz(next);
        _.Label(ref done);
        _.mov(__[rbx + ServerPage.Done], r12);
        _.jmp(wait);

        _.Label(ref copy);
        _.mov(rdi, __[r13 + 8]);
        _.mov(rsi, __[r13 + 16]);
        _.mov(rcx, __[r13 + 24]);
        _.shr(rcx, 3);
        _.rep.movsq();
        _.mov(rcx, __[r13 + 24]);
        _.and(ecx, 7);
        _.rep.movsb();
        _.xor(eax, eax);
        _.jmp(store);

        _.Label(ref run);
        RunProcessor(_);
        _.jmp(store);

        _.Label(ref cpuid);
        _.mov(r15, rbx);
        _.mov(eax, __[r13 + 8]);
        _.mov(ecx, __[r13 + 16]);
        _.cpuid();
        _.mov(__[r13 + 8], rax);
        _.mov(__[r13 + 16], rbx);
        _.mov(__[r13 + 24], rcx);
        _.mov(__[r13 + 32], rdx);
        _.mov(rbx, r15);
        _.jmp(store);

        _.Label(ref selector);
        _.mov(ecx, __[r13 + 8]);
        _.xor(eax, eax);
        _.xor(edx, edx);
        _.xor(esi, esi);
        _.lar(edx, ecx);
        _.sete(al);
        _.lsl(esi, ecx);
        _.mov(__[r13 + 8], rdx);
        _.mov(__[r13 + 16], rsi);
        _.jmp(store);
    }

    /// <summary>KVM_RUN between two copies. A signal that has ended it is taken at once, so that it does not end the next processor's run too; one that had waited for it does not count.</summary>
    private static void RunProcessor(Assembler _)
    {
        Label again = _.CreateLabel(), back = _.CreateLabel();
        _.mov(rdi, __[r13 + 16]);
        _.mov(rsi, __[r13 + 24]);
        _.mov(ecx, KvmArgument.RunInput / sizeof(ulong));
        _.rep.movsq();
        _.Label(ref again);
        ReadTimestamp(_);
        _.mov(r15, rax);
        _.mov(eax, LinuxAbi.SYS_ioctl);
        _.mov(rdi, __[r13 + 8]);
        _.mov(esi, (uint)KvmAbi.KVM_RUN);
        _.xor(edx, edx);
        _.syscall();
        _.mov(__[r13 + ServerPage.Result], rax);
        _.cmp(rax, -Tmds.Linux.LibC.EINTR);
        _.jne(back);
        _.mov(eax, LinuxAbi.SYS_rt_sigtimedwait);
        _.lea(rdi, __[rbp + ServerPage.Signals]);
        _.xor(esi, esi);
        _.lea(rdx, __[rbp + ServerPage.AtOnce]);
        _.mov(r10d, sizeof(ulong));
        _.syscall();
        _.test(rax, rax);
        _.js(back);
        ReadTimestamp(_);
        _.sub(rax, r15);
        _.cmp(rax, ShortRun);
        _.jb(again);
        _.Label(ref back);
        _.mov(rdi, __[r13 + 24]);
        _.mov(rsi, __[r13 + 16]);
        _.mov(ecx, KvmArgument.RunSize / sizeof(ulong));
        _.rep.movsq();
        _.mov(rax, __[r13 + ServerPage.Result]);
    }

    /// <summary>The time-stamp counter in RAX.</summary>
    private static void ReadTimestamp(Assembler _)
    {
        _.rdtsc();
        _.shl(rdx, 32);
        _.or(rax, rdx);
    }
}
