using System.Runtime.Intrinsics.X86;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>The machine code that lives in the guest and runs at CPL3: it loads cases, enters them, records their events, and cleans up.</summary>
/// <remarks>
/// <para>
/// It runs at CPL3 because some hosts emulate CPL0: there only the two or three instructions of a gate's handler cost anything. The handler takes a prepared
/// frame and returns at once to the agent, which reads what the processor pushed through a read-only view of the stack of CPL0.
/// </para>
/// <para>Register use outside of payloads: R15 mailbox, R14 next byte of results, R13 record of the case.</para>
/// </remarks>
internal sealed partial class AgentCode
{
    private const int BreakpointVector = 3;
    private const int PageFaultVector = 14;
    private const ulong MailboxAddress = GuestMap.Base + GuestMap.MailboxPage;
    private const ulong FrameView = GuestMap.Base + GuestMap.Ring0View + GuestMap.StackTop - 48;

    private readonly Assembler _ = new(64);
    private readonly bool _wideVectors;
    private readonly Label[] _thunks = new Label[GuestMap.SyscallVector + 1];

    private Label _ring, _nextCase, _enter, _event, _finish, _stop;

    private AgentCode(bool wideVectors)
    {
        _wideVectors = wideVectors;
        _ring = _.CreateLabel();
        _nextCase = _.CreateLabel();
        _enter = _.CreateLabel();
        _event = _.CreateLabel();
        _finish = _.CreateLabel();
        _stop = _.CreateLabel();
        for (int i = 0; i < _thunks.Length; i++)
        {
            _thunks[i] = _.CreateLabel();
        }
    }

    /// <summary>The code, for <see cref="GuestMap.Agent"/>.</summary>
    public byte[] Bytes { get; private init; } = [];

    /// <summary>Where the processor starts: takes the first case, and rings the doorbell when there is none left.</summary>
    public ulong Start { get; private init; }

    /// <summary>Where the processor goes to end the case that runs.</summary>
    public ulong Stop { get; private init; }

    /// <summary>Where the handler of each vector returns to, that of SYSCALL last.</summary>
    public ulong[] Thunks { get; private init; } = [];

    /// <summary>The agent for this processor.</summary>
    /// <param name="wideVectors">True when the guest has AVX2.</param>
    public static AgentCode Assemble(bool wideVectors)
    {
        AgentCode code = new(wideVectors && Avx2.IsSupported);
        code.EmitLanding();
        code.EmitThunks();
        code.EmitNextCase();
        code.EmitEnter();
        code.EmitEvent();
        code.EmitResponse();
        code.EmitFinish();

        using MemoryStream stream = new();
        AssemblerResult result = code._.Assemble(new StreamCodeWriter(stream), GuestMap.Landing, BlockEncoderOptions.ReturnNewInstructionOffsets);
        return new AgentCode(wideVectors)
        {
            Bytes = stream.ToArray(),
            Start = result.GetLabelRIP(code._nextCase),
            Stop = result.GetLabelRIP(code._stop),
            Thunks = [.. code._thunks.Select(label => result.GetLabelRIP(label))],
        };
    }

    /// <summary>The handlers of CPL0 in <see cref="GuestMap.BatchStubs"/>: take a prepared frame and return to the agent.</summary>
    public static byte[] BatchStubs()
    {
        byte[] stubs = new byte[256 * GuestMap.StubSize];
        for (int vector = 0; vector < 256; vector++)
        {
            byte[] stub = Assemble(
                a =>
                {
                    if (vector == PageFaultVector)
                    {
                        // CPL3 cannot read CR2, so it travels in RAX.
                        a.push(rax);
                        a.mov(rax, cr2);
                    }

                    a.mov(rsp, FrameAddress(vector));
                    a.iretq();
                },
                GuestMap.Base + GuestMap.BatchStubs + (ulong)(vector * GuestMap.StubSize));
            stub.CopyTo(stubs, vector * GuestMap.StubSize);
        }

        return stubs;
    }

    /// <summary>The handlers in <see cref="GuestMap.SingleStubs"/>: leave the guest through the port of the vector's number; then, if run on, look at the selectors.</summary>
    public static byte[] SingleStubs()
    {
        byte[] stubs = new byte[256 * GuestMap.StubSize];
        for (int vector = 0; vector < 256; vector++)
        {
            Assemble(a => LeaveThenLook(a, (byte)vector), 0).CopyTo(stubs, vector * GuestMap.StubSize);
        }

        return stubs;
    }

    /// <summary>The code at <see cref="GuestMap.SingleLanding"/>: leaves the guest, or faults where SYSCALL did not reach CPL0.</summary>
    public static byte[] SingleLanding() => Assemble(a => LeaveThenLook(a, 0), 0);

    /// <summary>
    /// The code at <see cref="GuestMap.SingleEntry"/>: loads selectors and bases that lie behind the frame at RSP, then RAX, then the frame. KVM does not load all of
    /// that on every host, and IRETQ is the one instruction that loads TF, RF, NT, ID and AC as given.
    /// </summary>
    public static byte[] SingleEntry() => Assemble(
        a =>
        {
            int place = EntryFrame.Selectors;
            foreach (AssemblerRegisterSegment segment in (ReadOnlySpan<AssemblerRegisterSegment>)[ds, es, fs, gs])
            {
                a.movzx(eax, __word_ptr[rsp + place]);
                a.mov(segment, eax);
                place += 2;
            }

            a.mov(rax, __qword_ptr[rsp + EntryFrame.FsBase]);
            a.wrfsbase(rax);
            a.mov(rax, __qword_ptr[rsp + EntryFrame.GsBase]);
            a.wrgsbase(rax);
            a.mov(rax, __qword_ptr[rsp + EntryFrame.Rax]);
            a.iretq();
        },
        0);

    /// <summary>The code at <see cref="GuestMap.SingleSelectors"/>.</summary>
    public static byte[] SingleSelectors() => Assemble(
        a =>
        {
            a.mov(rcx, MailboxAddress + Mailbox.Selectors);
            int place = 0;
            foreach (AssemblerRegisterSegment segment in (ReadOnlySpan<AssemblerRegisterSegment>)[ds, es, fs, gs])
            {
                a.mov(eax, segment);
                a.mov(__word_ptr[rcx + place], ax);
                place += 2;
            }

            a.mov(rcx, GuestMap.Base + GuestMap.Doorbell);
            a.mov(__dword_ptr[rcx], ecx);
        },
        GuestMap.Base + GuestMap.SingleSelectors);

    /// <summary>Address of the prepared frame of a vector.</summary>
    public static ulong FrameAddress(int vector) => GuestMap.Base + GuestMap.Frames + (ulong)(vector * 40);

    private static void LeaveThenLook(Assembler a, byte port)
    {
        a.@out(port, al);
        a.mov(rsp, FrameAddress(GuestMap.SelectorsFrame));
        a.iretq();
    }

    private static byte[] Assemble(Action<Assembler> emit, ulong address)
    {
        Assembler assembler = new(64);
        emit(assembler);
        using MemoryStream stream = new();
        assembler.Assemble(new StreamCodeWriter(stream), address);
        return stream.ToArray();
    }

    private static AssemblerMemoryOperand Field(int offset) => __qword_ptr[r15 + offset];

    /// <summary>Stores into the mailbox while R15 is the payload's.</summary>
    private void StoreFar(int offset, AssemblerRegister64 register) => _.AddInstruction(Instruction.Create(Code.Mov_rm64_r64, FarField(offset), register));

    private static MemoryOperand FarField(int offset) => new(Iced.Intel.Register.RIP, (long)(MailboxAddress + (ulong)offset), 8);

    /// <summary>Where SYSCALL lands, at CPL0 or, on hosts that do not raise the privilege, at CPL3. All registers but RCX and R11 are the payload's, RSP too.</summary>
    private void EmitLanding()
    {
        Label atUserLevel = _.CreateLabel();
        StoreFar(Mailbox.LandingRsp, rsp);
        StoreFar(Mailbox.LandingRax, rax);
        _.mov(rsp, MailboxAddress + Mailbox.StackTop);
        _.mov(eax, cs);
        StoreFar(Mailbox.LandingCs, rax);
        _.test(al, 3);
        _.jnz(atUserLevel);
        _.mov(rsp, FrameAddress(GuestMap.SyscallVector));
        _.iretq();

        // Such a host keeps an IF of its own, cleared now, which only a return from CPL0 can set again: take the way through a gate.
        _.Label(ref atUserLevel);
        _.int3();
    }

    /// <summary>The agent's entries at CPL3, one for each vector.</summary>
    private void EmitThunks()
    {
        for (int vector = 0; vector < GuestMap.SyscallVector; vector++)
        {
            _.Label(ref _thunks[vector]);
            if (vector == PageFaultVector)
            {
                StoreFar(Mailbox.Extra, rax);
                _.mov(rax, GuestMap.Base + GuestMap.Ring0View + GuestMap.StackTop - 56);
                _.mov(rax, __qword_ptr[rax]);
            }

            _.push(vector);
            _.jmp(_event);
        }

        _.Label(ref _thunks[GuestMap.SyscallVector]);
        _.push(GuestMap.SyscallVector);
        _.jmp(_event);
    }
}
