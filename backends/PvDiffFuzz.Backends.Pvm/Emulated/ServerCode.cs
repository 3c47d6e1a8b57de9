using Iced.Intel;
using PvDiffFuzz.Backends.Interop;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Pvm.Emulated;

/// <summary>Fields of the page by which the server in an emulated host and this process talk.</summary>
internal static class ServerPage
{
    /// <summary>Linear address of the page in the server.</summary>
    public const ulong Address = 0x10_0000_0000;

    /// <summary>Two words by which the page is found in the RAM of the host.</summary>
    public const int Signature = 0x00;

    /// <summary>Number of the last program that was asked for, 64 bits.</summary>
    public const int Asked = 0x10;

    /// <summary>Number of the last program that was carried out, 64 bits.</summary>
    public const int Done = 0x18;

    /// <summary>Operations of the program, 64 bits.</summary>
    public const int Count = 0x20;

    /// <summary>How long the server sleeps when nothing is asked for: a timespec.</summary>
    public const int Pause = 0x28;

    /// <summary>The operations, one behind the other.</summary>
    public const int Operations = 0x40;

    /// <summary>Bytes of an operation: its number, six arguments and its result, 64 bits each.</summary>
    public const int OperationSize = 64;

    /// <summary>Offset of the result in an operation.</summary>
    public const int Result = 56;

    /// <summary>Most operations of a program.</summary>
    public const int MostOperations = 40;

    /// <summary>Room for what operations need until there is more memory.</summary>
    public const int Data = 0xc00;

    /// <summary>Bytes of that room.</summary>
    public const int DataSize = 0x400;

    /// <summary>Number of an operation that copies: to, from, bytes. All others that are not negative are system calls.</summary>
    public const long Copy = -1;

    /// <summary>Number of an operation that executes CPUID: EAX and ECX, replaced by EAX, EBX, ECX and EDX.</summary>
    public const long CpuId = -2;

    /// <summary>Number of an operation that asks for the rights of a selector: the selector, replaced by LAR's and LSL's results; the result is 0 when it has none.</summary>
    public const long Selector = -3;

    /// <summary>The first word of the signature. It is inverted in the code, so that only the page holds it.</summary>
    public const ulong First = 0x5d1f_c0de_9e37_79b9;

    /// <summary>The second word.</summary>
    public const ulong Second = 0x7f4a_7c15_ba5e_ba11;
}

/// <summary>The only program of an emulated host: it carries out system calls that this process asks for through shared memory, so that nothing else has to run on the slow processor.</summary>
/// <remarks>Register use: RBX page, R12 number of the last program, R13 operation, R14 operations left.</remarks>
internal static class ServerCode
{
    /// <summary>What it says on the console when it waits.</summary>
    public const string Greeting = "pvdf-server";

    private const ulong ImageAddress = 0x40_0000;
    /// <summary>Looks at the page before it sleeps: some fifty microseconds. Without PAUSE, at which an emulator leaves its translated code.</summary>
    private const int Spins = 30_000;

    /// <summary>The program, as an ELF file.</summary>
    public static byte[] Image()
    {
        Assembler _ = new(64);
        Label wait = _.CreateLabel(), spin = _.CreateLabel(), go = _.CreateLabel(), next = _.CreateLabel(), store = _.CreateLabel();
        Label copy = _.CreateLabel(), cpuid = _.CreateLabel(), selector = _.CreateLabel(), greeting = _.CreateLabel();

        _.mov(eax, LinuxAbi.SYS_mmap);
        _.mov(rdi, ServerPage.Address);
        _.mov(esi, 4096);
        _.mov(edx, 3);
        _.mov(r10d, LinuxAbi.MAP_PRIVATE | LinuxAbi.MAP_ANONYMOUS | LinuxAbi.MAP_FIXED | LinuxAbi.MAP_LOCKED | LinuxAbi.MAP_POPULATE);
        _.mov(r8, -1);
        _.xor(r9d, r9d);
        _.syscall();
        _.mov(rbx, ServerPage.Address);
        foreach ((int at, ulong word) in (ReadOnlySpan<(int, ulong)>)[(0, ServerPage.First), (8, ServerPage.Second)])
        {
            _.mov(rax, ~word);
            _.not(rax);
            _.mov(__[rbx + ServerPage.Signature + at], rax);
        }

        _.xor(r12d, r12d);
        _.mov(__qword_ptr[rbx + ServerPage.Pause + 8], 50_000);
        _.mov(eax, LinuxAbi.SYS_write);
        _.mov(edi, 1);
        _.lea(rsi, __[greeting]);
        _.mov(edx, Greeting.Length + 1);
        _.syscall();

        _.Label(ref wait);
        _.mov(ecx, Spins);
        _.Label(ref spin);
        _.cmp(__[rbx + ServerPage.Asked], r12);
        _.jne(go);
        _.dec(ecx);
        _.jnz(spin);
        _.mov(eax, LinuxAbi.SYS_nanosleep);
        _.lea(rdi, __[rbx + ServerPage.Pause]);
        _.xor(esi, esi);
        _.syscall();
        _.jmp(wait);

        _.Label(ref go);
        _.mov(r12, __[rbx + ServerPage.Asked]);
        _.lea(r13, __[rbx + ServerPage.Operations]);
        _.mov(r14, __[rbx + ServerPage.Count]);
        _.Label(ref next);
        _.mov(rax, __[r13]);
        _.cmp(rax, (int)ServerPage.Copy);
        _.je(copy);
        _.cmp(rax, (int)ServerPage.CpuId);
        _.je(cpuid);
        _.cmp(rax, (int)ServerPage.Selector);
        _.je(selector);
        _.mov(rdi, __[r13 + 8]);
        _.mov(rsi, __[r13 + 16]);
        _.mov(rdx, __[r13 + 24]);
        _.mov(r10, __[r13 + 32]);
        _.mov(r8, __[r13 + 40]);
        _.mov(r9, __[r13 + 48]);
        _.syscall();

        _.Label(ref store);
        _.mov(__[r13 + ServerPage.Result], rax);
        _.add(r13, ServerPage.OperationSize);
        _.dec(r14);
        _.jnz(next);
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

        _.Label(ref greeting);
        _.db(System.Text.Encoding.ASCII.GetBytes(Greeting + "\n"));
        using MemoryStream stream = new();
        _.Assemble(new StreamCodeWriter(stream), ImageAddress + ElfImage.HeaderSize);
        return ElfImage.Write(ImageAddress, stream.ToArray());
    }
}
