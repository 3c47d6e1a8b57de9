using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;
using static PvDiffFuzz.Backends.Xen.XenAbi;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>The machine code of our kernel: it loads cases, enters them, records their events, answers them, and cleans up.</summary>
/// <remarks>
/// It does nothing else. What a case needs of Xen comes as a list of hypercalls that the harness has written, page tables included.
/// Register use outside of payloads: R15 mailbox, R14 next byte of results, R13 record of the case.
/// </remarks>
internal sealed partial class AgentCode
{
    private const int PageFaultVector = 14;
    private const ulong MailboxAddress = GuestMap.Base + GuestMap.MailboxPage;
    private const ulong SharedInfoAddress = GuestMap.Base + GuestMap.SharedInfo;

    /// <summary>Nanoseconds that the agent sleeps at first when it has waited in vain, and at most.</summary>
    private const int ShortestSleep = 125_000, LongestSleep = 4_000_000;

    private readonly Assembler _ = new(64);
    private readonly bool _segmentBases;

    private Label _vectorEntry, _callbackEntry, _nextSlot, _full, _nextRecord, _enter, _event, _respond, _hypercalls, _return, _returned, _finish;

    private AgentCode(bool segmentBases)
    {
        _segmentBases = segmentBases;
        _vectorEntry = _.CreateLabel();
        _callbackEntry = _.CreateLabel();
        _nextSlot = _.CreateLabel();
        _full = _.CreateLabel();
        _nextRecord = _.CreateLabel();
        _enter = _.CreateLabel();
        _event = _.CreateLabel();
        _respond = _.CreateLabel();
        _hypercalls = _.CreateLabel();
        _return = _.CreateLabel();
        _returned = _.CreateLabel();
        _finish = _.CreateLabel();
    }

    /// <summary>The code, for <see cref="GuestMap.Agent"/>.</summary>
    public byte[] Bytes { get; private init; } = [];

    /// <summary>Where the entries of vectors go, with the number in CL and RCX in <see cref="Mailbox.EntryRcx"/>.</summary>
    public ulong VectorEntry { get; init; }

    /// <summary>Where the entries of callbacks go.</summary>
    public ulong CallbackEntry { get; init; }

    /// <summary>What RCX holds after the SYSCALL of HYPERVISOR_iret: a frame shows it where the payload has not begun yet.</summary>
    public ulong Returned { get; init; }

    /// <summary>The agent.</summary>
    /// <param name="segmentBases">True when the processor has the instructions for segment bases.</param>
    public static AgentCode Assemble(bool segmentBases)
    {
        AgentCode code = new(segmentBases);
        code.EmitStart();
        code.EmitNextSlot();
        code.EmitNextRecord();
        code.EmitEnter();
        code.EmitEvent();
        code.EmitResponse();
        code.EmitFinish();

        using MemoryStream stream = new();
        AssemblerResult result = code._.Assemble(new StreamCodeWriter(stream), GuestMap.Base + GuestMap.Agent, BlockEncoderOptions.ReturnNewInstructionOffsets);
        return new AgentCode(segmentBases)
        {
            Bytes = stream.ToArray(),
            VectorEntry = result.GetLabelRIP(code._vectorEntry),
            CallbackEntry = result.GetLabelRIP(code._callbackEntry),
            Returned = result.GetLabelRIP(code._returned),
        };
    }

    /// <summary>An entry: keeps RCX, puts its number there, and goes on in the agent. Flags and all other registers stay.</summary>
    /// <param name="number">See <see cref="EntryNumber"/>.</param>
    /// <param name="address">Where the entry lies.</param>
    /// <returns>At most <see cref="Core.XenTrap.HandlerSize"/> bytes.</returns>
    public byte[] EntryAt(int number, ulong address)
    {
        bool vector = number < EntryNumber.FirstCallback;
        Assembler a = new(64);
        a.AddInstruction(Instruction.Create(Code.Mov_rm64_r64, Far(Mailbox.EntryRcx), rcx));
        a.mov(cl, (byte)number);
        a.jmp(vector ? VectorEntry : CallbackEntry);
        using MemoryStream stream = new();
        a.Assemble(new StreamCodeWriter(stream), address);
        return stream.ToArray();
    }

    private static AssemblerMemoryOperand Field(int offset) => __qword_ptr[r15 + offset];

    private static AssemblerMemoryOperand Field32(int offset) => __dword_ptr[r15 + offset];

    /// <summary>A field of the mailbox while R15 is the payload's.</summary>
    private static MemoryOperand Far(int offset) => new(Iced.Intel.Register.RIP, (long)(MailboxAddress + (ulong)offset), 8);

    /// <summary>The first instructions: RSI is the address of start_info.</summary>
    private void EmitStart()
    {
        _.mov(r15, MailboxAddress);
        _.lea(rsp, __[r15 + Mailbox.StackTop]);
        _.mov(Field(Mailbox.StartInfo), rsi);
        if (_segmentBases)
        {
            // The instructions for segment bases are a guest's choice (CR4.FSGSBASE).
            _.mov(rax, cr4);
            _.or(rax, 1 << 16);
            _.mov(cr4, rax);
            _.mov(Field(Mailbox.AgentCr4), rax);
        }

        // A processor with UMIP does not tell a guest.
        Label hidden = _.CreateLabel();
        _.mov(eax, 7);
        _.xor(ecx, ecx);
        _.cpuid();
        _.test(ecx, 1 << 2);
        _.jnz(hidden);
        EmitReadTables();
        _.mov(Field32(Mailbox.TableSelectors), eax);
        _.Label(ref hidden);
        _.mov(rax, ~Mailbox.MagicValue);
        _.not(rax);
        _.mov(Field(Mailbox.Magic), rax);
        _.mov(rbx, Field(Mailbox.Slot));
    }

    /// <summary>Reads LDTR and TR as <see cref="Mailbox.TableSelectors"/> has them into EAX. Changes ECX.</summary>
    private void EmitReadTables()
    {
        _.sldt(eax);
        _.str(ecx);
        _.shl(ecx, 16);
        _.or(eax, ecx);
    }

    /// <summary>Takes the next slot once the harness has filled it. Looks for a while, then sleeps between looks, so that an idle guest takes no processor time.</summary>
    private void EmitNextSlot()
    {
        Label wait = _.CreateLabel();
        Label look = _.CreateLabel();
        Label ready = _.CreateLabel();
        Label left = _.CreateLabel();
        Label shifted = _.CreateLabel();
        Label atLongest = _.CreateLabel();

        _.Label(ref wait);
        _.mov(r12, Field(Mailbox.Patience));
        _.mov(r13d, ShortestSleep);
        _.Label(ref look);
        _.cmp(__dword_ptr[rbx + Mailbox.SlotState], (int)Mailbox.Ready);
        _.je(ready);
        _.sub(r12, 1);
        _.ja(look);

        // Sleep by the clock that Xen shares, twice as long each time.
        _.mov(r8, SharedInfoAddress);
        _.rdtsc();
        _.shl(rdx, 32);
        _.or(rax, rdx);
        _.sub(rax, __qword_ptr[r8 + TimeStamp]);
        _.mov(cl, __byte_ptr[r8 + TimeShift]);
        _.test(cl, cl);
        _.jns(left);
        _.neg(cl);
        _.shr(rax, cl);
        _.jmp(shifted);
        _.Label(ref left);
        _.shl(rax, cl);
        _.Label(ref shifted);
        _.mov(edx, __dword_ptr[r8 + TimeMultiplier]);
        _.mul(rdx);
        _.shrd(rax, rdx, 32);
        _.add(rax, __qword_ptr[r8 + SystemTime]);
        _.add(rax, r13);
        _.cmp(r13d, LongestSleep);
        _.jae(atLongest);
        _.add(r13d, r13d);
        _.Label(ref atLongest);

        // struct sched_poll: pointer to ports, their number (none), time-out.
        _.lea(rsi, Field(Mailbox.Poll));
        _.mov(__qword_ptr[rsi + 16], rax);
        _.mov(edi, (int)SCHEDOP_poll);
        _.mov(eax, (int)HYPERVISOR_sched_op);
        _.syscall();
        _.mov(r12d, 1);
        _.jmp(look);

        // Results have to be taken before this slot can go on.
        _.Label(ref _full);
        _.mov(rbx, Field(Mailbox.Slot));
        _.mov(__dword_ptr[rbx + Mailbox.SlotState], (int)Mailbox.Full);
        _.jmp(wait);

        _.Label(ref _nextSlot);
        _.mov(rbx, Field(Mailbox.Slot));
        _.mov(__dword_ptr[rbx + Mailbox.SlotState], (int)Mailbox.Idle);
        _.xor(rbx, Mailbox.FirstSlot ^ (Mailbox.FirstSlot + Mailbox.SlotStride));
        _.mov(Field(Mailbox.Slot), rbx);
        _.jmp(wait);

        _.Label(ref ready);
        _.mov(rax, __qword_ptr[rbx + Mailbox.SlotFirst]);
        _.mov(Field(Mailbox.Record), rax);
        _.mov(rax, __qword_ptr[rbx + Mailbox.SlotResults]);
        _.mov(Field(Mailbox.Result), rax);
    }

    /// <summary>Makes the hypercall whose number and arguments lie at RSI, and writes the result over the number. Changes RAX, RCX, RDX, RDI, R8 to R11.</summary>
    private void EmitListedHypercall()
    {
        _.mov(rbp, rsi);
        _.mov(rax, __qword_ptr[rbp]);
        _.mov(rdi, __qword_ptr[rbp + 8]);
        _.mov(rdx, __qword_ptr[rbp + 24]);
        _.mov(r10, __qword_ptr[rbp + 32]);
        _.mov(r8, __qword_ptr[rbp + 40]);
        _.mov(r9, __qword_ptr[rbp + 48]);
        _.mov(rsi, __qword_ptr[rbp + 16]);
        _.syscall();
        _.mov(__qword_ptr[rbp], rax);
        _.lea(rsi, __[rbp + Record.HypercallSize]);
    }
}
