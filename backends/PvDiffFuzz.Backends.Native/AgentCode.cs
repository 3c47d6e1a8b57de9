using System.Runtime.Intrinsics.X86;
using Iced.Intel;
using PvDiffFuzz.Backends.Interop;
using Tmds.Linux;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Native;

/// <summary>The machine code that lives in the child: it loads cases, enters them, records their events, and cleans up.</summary>
/// <remarks>
/// Register use outside of payloads: R15 mailbox, R14 next byte of results, R13 record of the case. A payload may leave anything in any register, so each
/// signal handler starts by loading R15 again.
/// </remarks>
internal sealed partial class AgentCode
{
    private const int SignalFrameGpr = 40; // offsetof(ucontext_t, uc_mcontext)
    private const int SiginfoArchitecture = 28; // offsetof(siginfo_t, si_arch)
    private const int AuxiliaryVdso = 33; // AT_SYSINFO_EHDR

    private readonly Assembler _ = new(64);
    private readonly ulong _codeAddress;
    private readonly ulong _mailbox;
    private readonly bool _segmentBases;
    private readonly bool _wideVectors = Avx2.IsSupported;
    private readonly bool _saveArea = Avx.IsSupported;

    private Label _runCalls, _mainLoop, _nextCase, _enter, _finish, _fail, _handler, _restorer;
    private Label _callsSite, _readSite, _writeSite, _returnSite, _exitSite;

    private AgentCode(ulong imageAddress, bool segmentBases)
    {
        _codeAddress = imageAddress + ElfImage.HeaderSize;
        _mailbox = imageAddress + Shared.DistanceFromCode;
        _segmentBases = segmentBases;
        _runCalls = _.CreateLabel();
        _mainLoop = _.CreateLabel();
        _nextCase = _.CreateLabel();
        _enter = _.CreateLabel();
        _finish = _.CreateLabel();
        _fail = _.CreateLabel();
        _handler = _.CreateLabel();
        _restorer = _.CreateLabel();
        _callsSite = _.CreateLabel();
        _readSite = _.CreateLabel();
        _writeSite = _.CreateLabel();
        _returnSite = _.CreateLabel();
        _exitSite = _.CreateLabel();
    }

    /// <summary>The executable file.</summary>
    public byte[] Image { get; private init; } = [];

    /// <summary>Address of the signal handler.</summary>
    public ulong Handler { get; private init; }

    /// <summary>Address of the code that a handler returns to.</summary>
    public ulong Restorer { get; private init; }

    /// <summary>The agent's system call instructions.</summary>
    public SyscallSites Sites { get; private init; }

    /// <summary>Assembles the agent for one place in the address space.</summary>
    /// <param name="imageAddress">Page-aligned address of the image; the shared memory follows at <see cref="Shared.DistanceFromCode"/>.</param>
    /// <param name="segmentBases">True when RDFSBASE and its relatives can be used.</param>
    public static AgentCode Assemble(ulong imageAddress, bool segmentBases)
    {
        AgentCode code = new(imageAddress, segmentBases);
        code.EmitStart();
        code.EmitRunCalls();
        code.EmitMainLoop();
        code.EmitNextCase();
        code.EmitEnter();
        code.EmitHandler();
        code.EmitResponse();
        code.EmitFinish();
        code.EmitExit();

        using MemoryStream stream = new();
        AssemblerResult result = code._.Assemble(new StreamCodeWriter(stream), code._codeAddress, BlockEncoderOptions.ReturnNewInstructionOffsets);
        return new AgentCode(imageAddress, segmentBases)
        {
            Image = ElfImage.Write(imageAddress, stream.ToArray()),
            Handler = result.GetLabelRIP(code._handler),
            Restorer = result.GetLabelRIP(code._restorer),
            Sites = new SyscallSites(
                result.GetLabelRIP(code._callsSite),
                result.GetLabelRIP(code._readSite),
                result.GetLabelRIP(code._writeSite),
                result.GetLabelRIP(code._returnSite),
                result.GetLabelRIP(code._exitSite)),
        };
    }

    private static AssemblerMemoryOperand Field(int offset) => __qword_ptr[r15 + offset];

    /// <summary>Entry point: remembers where the vDSO was, maps the shared memory, makes the start-up calls, and says so.</summary>
    private void EmitStart()
    {
        Label pastEnvironment = _.CreateLabel();
        Label auxiliary = _.CreateLabel();
        Label found = _.CreateLabel();
        Label map = _.CreateLabel();

        // The stack holds argc, that many pointers and a zero, the environment with a zero, then pairs of type and value.
        _.mov(rax, __qword_ptr[rsp]);
        _.lea(rsi, __[rsp + (rax * 8) + 16]);
        _.Label(ref pastEnvironment);
        _.mov(rax, __qword_ptr[rsi]);
        _.add(rsi, 8);
        _.test(rax, rax);
        _.jnz(pastEnvironment);
        _.xor(r13d, r13d);
        _.Label(ref auxiliary);
        _.mov(rax, __qword_ptr[rsi]);
        _.cmp(rax, AuxiliaryVdso);
        _.je(found);
        _.add(rsi, 16);
        _.test(rax, rax);
        _.jnz(auxiliary);
        _.jmp(map);
        _.Label(ref found);
        _.mov(r13, __qword_ptr[rsi + 8]);

        _.Label(ref map);
        _.mov(r15, _mailbox);
        _.mov(eax, LinuxAbi.SYS_mmap);
        _.mov(rdi, r15);
        _.mov(esi, Shared.Size);
        _.mov(edx, 3); // PROT_READ | PROT_WRITE
        _.mov(r10d, 1 | LibC.MAP_FIXED_NOREPLACE); // MAP_SHARED
        _.mov(r8d, SeccompFilter.MemoryFd);
        _.xor(r9d, r9d);
        _.syscall();
        _.cmp(rax, r15);
        _.jne(_fail);
        _.mov(Field(Mailbox.Vdso), r13);
        _.lea(rsp, __[r15 + Shared.AgentStackAt + Shared.AgentStackSize]);
        _.call(_runCalls);
        _.jmp(_mainLoop);
    }

    /// <summary>Makes the listed system calls: eight quadwords each, number, six arguments, and whether it may fail. Stops at one that fails.</summary>
    private void EmitRunCalls()
    {
        Label loop = _.CreateLabel();
        Label failed = _.CreateLabel();
        Label done = _.CreateLabel();
        Label next = _.CreateLabel();

        _.Label(ref _runCalls);
        _.lea(rbx, __[r15 + Shared.CallsAt]);
        _.Label(ref loop);
        _.cmp(Field(Mailbox.Calls), 0);
        _.je(done);
        _.mov(rax, __qword_ptr[rbx]);
        _.mov(rdi, __qword_ptr[rbx + 8]);
        _.mov(rsi, __qword_ptr[rbx + 16]);
        _.mov(rdx, __qword_ptr[rbx + 24]);
        _.mov(r10, __qword_ptr[rbx + 32]);
        _.mov(r8, __qword_ptr[rbx + 40]);
        _.mov(r9, __qword_ptr[rbx + 48]);
        _.syscall();
        _.Label(ref _callsSite);
        _.nop();
        _.cmp(__qword_ptr[rbx + StartupCalls.MayFail], 0);
        _.jne(next);
        _.cmp(rax, -4095);
        _.jae(failed);
        _.Label(ref next);
        _.add(rbx, 64);
        _.dec(Field(Mailbox.Calls));
        _.jmp(loop);

        // What is left in Mailbox.Calls tells which one failed.
        _.Label(ref failed);
        _.mov(Field(Mailbox.CallError), rax);
        _.Label(ref done);
        _.ret();
    }

    /// <summary>Says "done", waits for the next command, makes its calls, runs its cases.</summary>
    private void EmitMainLoop()
    {
        _.Label(ref _mainLoop);
        _.lea(rsp, __[r15 + Shared.AgentStackAt + Shared.AgentStackSize]);
        _.mov(eax, LinuxAbi.SYS_write);
        _.mov(edi, SeccompFilter.ReplyFd);
        _.lea(rsi, __[r15 + Mailbox.Word]);
        _.mov(edx, 8);
        _.syscall();
        _.Label(ref _writeSite);
        _.nop();
        _.cmp(rax, 8);
        _.jne(_fail);

        _.mov(eax, LinuxAbi.SYS_read);
        _.mov(edi, SeccompFilter.CommandFd);
        _.lea(rsi, __[r15 + Mailbox.Word]);
        _.mov(edx, 8);
        _.syscall();
        _.Label(ref _readSite);
        _.nop();
        _.cmp(rax, 8);
        _.jne(_fail);

        _.call(_runCalls);
        _.cmp(Field(Mailbox.CallError), 0);
        _.jne(_mainLoop);
    }

    private void EmitExit()
    {
        _.Label(ref _fail);
        _.mov(edi, 1);
        _.mov(eax, LinuxAbi.SYS_exit_group);
        _.syscall();
        _.Label(ref _exitSite);
        _.ud2();
    }
}
