using Iced.Intel;
using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Core;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>
/// The guest's supervisor: it records events and answers them. In a batch it does all of a case without leaving the guest: it loads, enters and cleans up, too.
/// </summary>
/// <remarks>
/// It is supervisor software of PVM like any other: CPL3, entered by what the hypervisor delivers, left by synthetic returns. Register use outside of payloads: R15 mailbox,
/// R14 next byte of results, R13 record of the case, R12 the event that is being recorded.
/// </remarks>
internal sealed partial class GuestAgent
{
    private const uint KernelGsBaseMsr = 0xc000_0102;
    private const uint RedzoneMsr = 0x4b56_4df3;
    private const uint VcpuStructMsr = CaseNumbers.VcpuStructMsr;
    private const uint RetuRipMsr = 0x4b56_4df5;
    private const uint RetsRipMsr = 0x4b56_4df6;
    private const int ReadMsrCall = 0x1708_8207;
    private const int WriteMsrCall = 0x1708_8208;
    private const ulong Unknown = 0x8000_0000_0000_0001; // not canonical, so no GS base
    private const uint FixedDr6 = 0xffff_0ff0;

    private static readonly byte[] StubBytes = AgentCode.Jump(AgentPort.End);

    private readonly Assembler _ = new(64);
    private readonly bool _first;
    private readonly int _vectorAt, _errorAt, _cr2At, _ripAt;
    private readonly Abi _revision;
    private Label _ring, _nextCase, _enter, _arrive, _nextCall, _back, _interruptReturn, _inject, _refuse, _takenAway, _finish;

    private GuestAgent(Abi revision)
    {
        _revision = revision;
        _first = revision == Abi.PvmRfc1;
        _vectorAt = OffsetOf(revision, SystemRegister.PvcsEventVector);
        _errorAt = OffsetOf(revision, SystemRegister.PvcsEventErrcode);
        _cr2At = OffsetOf(revision, SystemRegister.PvcsCr2);
        _ripAt = OffsetOf(revision, SystemRegister.PvcsRip);
        _ring = _.CreateLabel();
        _nextCase = _.CreateLabel();
        _enter = _.CreateLabel();
        _arrive = _.CreateLabel();
        _nextCall = _.CreateLabel();
        _back = _.CreateLabel();
        _interruptReturn = _.CreateLabel();
        _inject = _.CreateLabel();
        _takenAway = _.CreateLabel();
        _refuse = _.CreateLabel();
        _finish = _.CreateLabel();
    }

    /// <summary>The code, for <see cref="GuestMap.AgentProgram"/>.</summary>
    public byte[] Bytes { get; private init; } = [];

    /// <summary>Where the processor starts: takes the next case, and leaves the guest when there is none.</summary>
    public ulong Start { get; private init; }

    /// <summary>The OUT that says <see cref="AgentPort.Done"/>.</summary>
    public ulong Ring { get; private init; }

    /// <summary>Where all entries lead, with a port's number in ECX.</summary>
    public ulong Arrive { get; private init; }

    /// <summary>The IRETQ that starts or goes on with supervisor code.</summary>
    public ulong InterruptReturn { get; private init; }

    /// <summary>The OUT that says <see cref="AgentPort.Inject"/>.</summary>
    public ulong Inject { get; private init; }

    /// <summary>The agent for a revision.</summary>
    public static GuestAgent Assemble(Abi revision)
    {
        GuestAgent code = new(revision);
        code.EmitNextCase();
        code.EmitEnter();
        code.EmitArrive();
        code.EmitCalls();
        code.EmitReturn();
        code.EmitFinish();
        using MemoryStream stream = new();
        AssemblerResult result = code._.Assemble(new StreamCodeWriter(stream), GuestMap.BatchLinear(GuestMap.AgentProgram), BlockEncoderOptions.ReturnNewInstructionOffsets);
        return new GuestAgent(revision)
        {
            Bytes = stream.ToArray(),
            Start = result.GetLabelRIP(code._nextCase),
            Ring = result.GetLabelRIP(code._ring),
            Arrive = result.GetLabelRIP(code._arrive),
            InterruptReturn = result.GetLabelRIP(code._interruptReturn),
            Inject = result.GetLabelRIP(code._inject),
        };
    }

    /// <summary>Where an entry leads: all registers but RCX stay, and RCX is kept.</summary>
    /// <param name="port">What the entry is.</param>
    public byte[] Landing(AgentPort port)
    {
        Assembler assembler = new(64);
        EmitLanding(assembler, port);
        assembler.jmp(Arrive);
        using MemoryStream stream = new();
        assembler.Assemble(new StreamCodeWriter(stream), GuestMap.BatchLinear(AgentCode.LandingOf(port)));
        return stream.ToArray();
    }

    private static void EmitLanding(Assembler assembler, AgentPort port)
    {
        assembler.AddInstruction(Instruction.Create(Code.Mov_rm64_r64, Far(Mailbox.SavedRcx), rcx));
        assembler.mov(ecx, (int)port);
    }

    /// <summary>The stub behind supervisor code of a batch.</summary>
    public static ReadOnlySpan<byte> Stub => StubBytes;

    private static int OffsetOf(Abi revision, SystemRegister register)
    {
        foreach (PvcsField field in PvcsLayout.Of(revision))
        {
            if (field.Register == register)
            {
                return field.Offset;
            }
        }

        throw new ArgumentOutOfRangeException(nameof(revision));
    }

    /// <summary>A mailbox field while R15 is the payload's.</summary>
    private static MemoryOperand Far(int offset) => new(Iced.Intel.Register.RIP, (long)GuestMap.BatchLinear(GuestMap.MailboxPage + offset), 8);

    private static AssemblerMemoryOperand Field(int offset) => __qword_ptr[r15 + offset];

    /// <summary>Takes the next record: writes its memory and its structure, sets what MSRs differ, opens its result. Without one, leaves the guest.</summary>
    private void EmitNextCase()
    {
        Label run = _.CreateLabel();
        Label loaded = _.CreateLabel();
        _.Label(ref _ring);
        _.@out((byte)AgentPort.Done, al);

        _.Label(ref _nextCase);
        _.mov(r15, GuestMap.BatchAddress);
        _.lea(rsp, __[r15 + Mailbox.StackTop]);
        _.TakeRecord(Mailbox.Batch, none: _ring);

        _.mov(Field(Mailbox.Batch.Header), r14);
        _.mov(__qword_ptr[r14 + Result.Events], 0);
        _.mov(__qword_ptr[r14 + Result.Dr6], 0);
        _.add(r14, Result.HeaderSize);
        _.mov(Field(Mailbox.Batch.Result), r14);
        _.mov(eax, __dword_ptr[r13 + Record.Responses]);
        _.mov(__dword_ptr[r15 + Mailbox.Batch.ResponsesLeft], eax);
        _.mov(eax, __dword_ptr[r13 + Record.ResponsesAt]);
        _.add(rax, r13);
        _.mov(Field(Mailbox.Batch.NextResponse), rax);

        _.mov(ebx, __dword_ptr[r13 + Record.Runs]);
        _.lea(rsi, __[r13 + Record.FirstRun]);
        _.mov(r8, GuestMap.PoolAddress);
        _.Label(ref run);
        _.sub(ebx, 1);
        _.jc(loaded);
        _.mov(edi, __dword_ptr[rsi]);
        _.mov(ecx, __dword_ptr[rsi + 4]);
        _.add(rsi, 8);
        _.add(rdi, r8);
        _.and(ecx, 0x7fff_ffff);
        _.rep.movsb();
        _.add(rsi, 7);
        _.and(rsi, -8);
        _.jmp(run);

        _.Label(ref loaded);
        _.lea(rsi, __[r13 + Record.Structure]);
        _.mov(rdi, Field(Mailbox.Structure));
        _.mov(ecx, PvcsLayout.Size / sizeof(ulong));
        _.rep.movsq();
        EmitSetMsr(KernelGsBaseMsr, Record.KernelGsBase, Mailbox.KernelGsBase);
        if (_first)
        {
            EmitSetMsr(RedzoneMsr, Record.Redzone, Mailbox.Redzone);
        }

        _.lea(rsi, __[r13 + Record.Initial]);
    }

    /// <summary>Sets an MSR by a hypercall unless it has the value already.</summary>
    private void EmitSetMsr(uint msr, int wanted, int present)
    {
        Label same = _.CreateLabel();
        _.mov(r10, __qword_ptr[r13 + wanted]);
        _.cmp(r10, Field(present));
        _.je(same);
        _.mov(ebx, msr);
        _.mov(eax, WriteMsrCall);
        _.syscall();
        _.test(rax, rax);
        _.jnz(_refuse);
        _.mov(r10, __qword_ptr[r13 + wanted]);
        _.mov(Field(present), r10);
        _.Label(ref same);
    }

    /// <summary>Enters the payload with the context at RSI.</summary>
    private void EmitEnter()
    {
        _.Label(ref _enter);
        _.LoadSelectors(__word_ptr[rsi + Context.Ds]);
        _.LoadBases(__qword_ptr[rsi + Context.FsBase]);
        _.mov(rax, __qword_ptr[rsi + Context.Target]);
        _.mov(Field(Mailbox.Target), rax);
        _.mov(rcx, __qword_ptr[rsi + Context.GprAt(1)]);
        _.mov(rsp, __qword_ptr[rsi + Context.GprAt(4)]);
        _.LoadRegisters(Context.Gpr, but: [rcx, rsp]);
        _.AddInstruction(Instruction.Create(Code.Jmp_rm64, Far(Mailbox.Target)));
        _.Label(ref _interruptReturn);
        _.iretq();
        _.Label(ref _inject);
        _.@out((byte)AgentPort.Inject, al);
    }
}
