using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;
using static PvDiffFuzz.Backends.Xen.XenAbi;

namespace PvDiffFuzz.Backends.Xen;

/// <content>The life of a case in the guest: load, enter, event, response, clean-up.</content>
internal sealed partial class AgentCode
{
    /// <summary>General registers by number, without RCX and RSP, which an entry keeps, and without those that the agent keeps on its stack.</summary>
    private static readonly (AssemblerRegister64 Register, int Number)[] Saved =
        [(rax, 0), (rdx, 2), (rbx, 3), (rbp, 5), (rsi, 6), (rdi, 7), (r8, 8), (r9, 9), (r10, 10), (r11, 11), (r12, 12), (r13, 13)];

    /// <summary>Takes the next record: hypercalls, memory, then falls into <see cref="EmitEnter"/>. Without one, gives the slot back.</summary>
    private void EmitNextRecord()
    {
        Label hypercall = _.CreateLabel();
        Label prepared = _.CreateLabel();
        Label run = _.CreateLabel();
        Label copy = _.CreateLabel();
        Label loaded = _.CreateLabel();

        _.Label(ref _nextRecord);
        _.mov(r15, MailboxAddress);
        _.lea(rsp, __[r15 + Mailbox.StackTop]);
        _.mov(rbx, Field(Mailbox.Slot));
        _.mov(r13, Field(Mailbox.Record));
        _.cmp(r13, __qword_ptr[rbx + Mailbox.SlotEnd]);
        _.jae(_nextSlot);
        _.mov(r14, Field(Mailbox.Result));
        _.cmp(r14, __qword_ptr[rbx + Mailbox.SlotLimit]);
        _.ja(_full);

        _.mov(Field(Mailbox.Header), r14);
        _.mov(__qword_ptr[r14 + Result.Events], 0);
        _.add(r14, Result.HeaderSize);
        _.mov(Field(Mailbox.Result), r14);
        _.mov(eax, __dword_ptr[r13 + Record.Responses]);
        _.mov(Field32(Mailbox.ResponsesLeft), eax);
        _.mov(eax, __dword_ptr[r13 + Record.ResponsesAt]);
        _.add(rax, r13);
        _.mov(Field(Mailbox.NextResponse), rax);
        _.inc(Field(Mailbox.Sequence));
        _.mov(Field(Mailbox.Busy), 1);
        _.mov(Field(Mailbox.ReturnsFrom), 0);
        _.mov(Field(Mailbox.Breakpoints), 0);

        // Every case starts with x87 and vector state as after a reset; before the hypercalls, which may set CR0.TS.
        _.mov(rax, GuestMap.At(GuestMap.CleanState));
        _.fxrstor64(__[rax]);
        _.mov(ebx, __dword_ptr[r13 + Record.Hypercalls]);
        _.lea(rsi, __[r13 + Record.FirstHypercall]);
        _.Label(ref hypercall);
        _.sub(ebx, 1);
        _.jc(prepared);
        EmitListedHypercall();
        _.jmp(hypercall);

        _.Label(ref prepared);
        _.mov(ebx, __dword_ptr[r13 + Record.Runs]);
        _.mov(esi, __dword_ptr[r13 + Record.RunsAt]);
        _.add(rsi, r13);
        _.mov(r8, GuestMap.At(GuestMap.Pool));
        _.Label(ref run);
        _.sub(ebx, 1);
        _.jc(loaded);
        _.mov(edi, __dword_ptr[rsi]);
        _.mov(ecx, __dword_ptr[rsi + 4]);
        _.add(rsi, Record.RunHead);
        _.add(rdi, r8);
        _.Label(ref copy);
        _.mov(rax, __qword_ptr[rsi]);
        _.mov(__qword_ptr[rdi], rax);
        _.add(rsi, 8);
        _.add(rdi, 8);
        _.dec(ecx);
        _.jnz(copy);
        _.jmp(run);

        _.Label(ref loaded);
        _.mov(eax, __dword_ptr[r13 + Record.Flags]);
        _.mov(Field(Mailbox.Flags), rax);
        _.test(eax, (int)RecordFlags.NoPayload);
        _.jnz(_finish);

        Label noCr2 = _.CreateLabel();
        _.mov(rax, __qword_ptr[r13 + Record.VcpuInfo + 16]);
        _.test(__dword_ptr[r13 + Record.Flags], (int)RecordFlags.LoadCr2);
        _.jz(noCr2);
        _.mov(cr2, rax);
        _.Label(ref noCr2);
        _.mov(rcx, SharedInfoAddress);
        _.mov(__qword_ptr[rcx + 16], rax);
        _.mov(rax, __qword_ptr[r13 + Record.VcpuInfo + 8]);
        _.mov(__qword_ptr[rcx + 8], rax);
        _.mov(rax, __qword_ptr[r13 + Record.VcpuInfo]);
        _.mov(Field(Mailbox.VcpuInfo), rax);
        _.lea(rsi, __[r13 + Record.Initial]);
        _.test(__dword_ptr[r13 + Record.Flags], (int)RecordFlags.ByIret);
        _.jnz(_return);
    }

    /// <summary>Enters kernel mode with the registers at RSI: a jump, which is what costs least.</summary>
    private void EmitEnter()
    {
        _.Label(ref _enter);
        EmitLoadSegments(rsi, Initial.Ds, Initial.FsBase);
        EmitLoadControl();
        _.mov(rax, __qword_ptr[rsi + Initial.Rip]);
        _.mov(Field(Mailbox.Target), rax);
        _.mov(rax, __qword_ptr[rsi + Initial.Rsp]);
        _.mov(Field(Mailbox.EntryRsp), rax);
        _.push(__qword_ptr[rsi + Initial.Rflags]);
        EmitLoadRegisters();
        _.mov(rcx, __qword_ptr[rsi + Initial.Gpr + 8]);
        _.mov(rsi, __qword_ptr[rsi + Initial.Gpr + 48]);
        _.popfq();
        _.AddInstruction(Instruction.Create(Code.Mov_r64_rm64, rsp, Far(Mailbox.EntryRsp)));
        _.AddInstruction(Instruction.Create(Code.Jmp_rm64, Far(Mailbox.Target)));

        // By HYPERVISOR_iret, which takes everything else from the frame, and can load every flag. R11 shows the flags of the call where the frame's are not taken.
        _.Label(ref _return);
        EmitLoadSegments(rsi, Initial.Ds, Initial.FsBase);
        EmitLoadControl();
        _.push((int)(Core.RflagsBits.Fixed1 | Core.RflagsBits.IF));
        _.popfq();
        EmitLoadRegisters();
        _.lea(rsp, __[rsi + Initial.Frame]);
        _.mov(rsi, __qword_ptr[rsi + Initial.Gpr + 48]);
        _.mov(eax, (int)HYPERVISOR_iret);
        _.syscall();
        _.Label(ref _returned);
        _.ud2();
    }

    /// <summary>Loads general registers from RSI, but for RCX, RSP and RSI.</summary>
    private void EmitLoadRegisters()
    {
        foreach ((AssemblerRegister64 register, int number) in Saved)
        {
            if (number != 6)
            {
                _.mov(register, __qword_ptr[rsi + Initial.Gpr + (number * 8)]);
            }
        }

        _.mov(r14, __qword_ptr[rsi + Initial.Gpr + (14 * 8)]);
        _.mov(r15, __qword_ptr[rsi + Initial.Gpr + (15 * 8)]);
    }

    /// <summary>Loads selectors, where they are not there already, and the bases. Changes RAX and RCX.</summary>
    /// <param name="from">Address of an <see cref="Initial"/> or a <see cref="Context"/>.</param>
    /// <param name="selectors">Offset of DS, which ES, FS and GS follow.</param>
    /// <param name="bases">Offset of the base of FS, which that of GS follows.</param>
    private void EmitLoadSegments(AssemblerRegister64 from, int selectors, int bases)
    {
        foreach ((AssemblerRegisterSegment segment, int index) in (ReadOnlySpan<(AssemblerRegisterSegment, int)>)[(ds, 0), (es, 1), (fs, 2), (gs, 3)])
        {
            Label same = _.CreateLabel();
            _.movzx(eax, __word_ptr[from + selectors + (index * sizeof(ushort))]);
            _.mov(ecx, segment);
            _.cmp(eax, ecx);
            _.je(same);
            _.mov(segment, eax);
            _.Label(ref same);
        }

        if (_segmentBases)
        {
            _.mov(rax, __qword_ptr[from + bases]);
            _.wrfsbase(rax);
            _.mov(rax, __qword_ptr[from + bases + sizeof(ulong)]);
            _.wrgsbase(rax);
        }
    }

    /// <summary>Loads CR4 as the payload has it, where that can be seen. Changes RAX.</summary>
    private void EmitLoadCr4()
    {
        if (_segmentBases)
        {
            Label usual = _.CreateLabel();
            _.test(Field32(Mailbox.Flags), (int)RecordFlags.OwnCr4);
            _.jz(usual);
            _.mov(rax, Field(Mailbox.Record));
            _.mov(rax, __qword_ptr[rax + Record.Cr4]);
            _.mov(cr4, rax);
            _.Label(ref usual);
        }
    }

    /// <summary>Puts breakpoints out of force, which the agent would meet in frames of the payload. DR6 keeps what it has. Changes RAX.</summary>
    private void EmitStopBreakpoints()
    {
        Label without = _.CreateLabel();
        _.test(Field32(Mailbox.Flags), (int)RecordFlags.Breakpoints);
        _.jz(without);
        _.mov(rax, dr7);
        _.mov(Field(Mailbox.Breakpoints), rax);
        _.mov(eax, (int)GuestState.DefaultDr7);
        _.mov(dr7, rax);
        _.Label(ref without);
    }

    /// <summary>Puts them in force again. Which are allowed depends on CR4, so that has to be the payload's. Changes RAX.</summary>
    private void EmitStartBreakpoints()
    {
        Label without = _.CreateLabel();
        _.mov(rax, Field(Mailbox.Breakpoints));
        _.test(rax, rax);
        _.jz(without);
        _.mov(dr7, rax);
        _.mov(Field(Mailbox.Breakpoints), 0);
        _.Label(ref without);
    }

    /// <summary>Loads CR4, and what is pending and masked. Changes RAX and RCX.</summary>
    private void EmitLoadControl()
    {
        EmitLoadCr4();
        EmitStartBreakpoints();

        // From here on events can come, so nothing of the agent may enter Xen any more.
        _.mov(rax, Field(Mailbox.VcpuInfo));
        _.mov(rcx, SharedInfoAddress);
        _.mov(__qword_ptr[rcx], rax);
    }

    /// <summary>Every entry: the number is in ECX, RCX and nothing else of the payload's in the mailbox.</summary>
    private void EmitEvent()
    {
        Label short_ = _.CreateLabel();
        Label notTheEnd = _.CreateLabel();
        Label ofPayload = _.CreateLabel();

        _.Label(ref _callbackEntry);
        _.movzx(ecx, cl);
        _.lea(ecx, __[rcx + EntryNumber.FirstCallback]);
        _.jmp(_event);
        _.Label(ref _vectorEntry);
        _.movzx(ecx, cl);
        _.Label(ref _event);
        _.AddInstruction(Instruction.Create(Code.Mov_rm64_r64, Far(Mailbox.EntryRsp), rsp));
        _.mov(rsp, MailboxAddress + Mailbox.StackTop);
        _.pushfq();
        _.cld();
        _.push(r15);
        _.mov(r15, MailboxAddress);
        _.push(r14);
        _.mov(r14, Field(Mailbox.Result));
        foreach ((AssemblerRegister64 register, int number) in Saved)
        {
            _.mov(__qword_ptr[r14 + Context.Gpr + (number * 8)], register);
        }

        _.pop(__qword_ptr[r14 + Context.Gpr + (14 * 8)]);
        _.pop(__qword_ptr[r14 + Context.Gpr + (15 * 8)]);
        _.pop(__qword_ptr[r14 + Context.Rflags]);
        _.mov(rax, Field(Mailbox.EntryRcx));
        _.mov(__qword_ptr[r14 + Context.Gpr + 8], rax);
        _.mov(rsi, Field(Mailbox.EntryRsp));
        _.mov(__qword_ptr[r14 + Context.Gpr + 32], rsi);
        _.mov(__qword_ptr[r14 + Context.Entry], rcx);
        foreach ((AssemblerRegisterSegment segment, int field) in (ReadOnlySpan<(AssemblerRegisterSegment, int)>)
            [(cs, Context.Cs), (ss, Context.Ss), (ds, Context.Ds), (es, Context.Es), (fs, Context.Fs), (gs, Context.Gs)])
        {
            _.mov(eax, segment);
            _.mov(__word_ptr[r14 + field], ax);
        }

        _.mov(rdx, SharedInfoAddress);
        _.mov(rax, __qword_ptr[rdx]);
        _.mov(__qword_ptr[r14 + Context.VcpuInfo], rax);
        _.mov(Field(Mailbox.VcpuInfo), rax);
        _.mov(rax, __qword_ptr[rdx + 8]);
        _.mov(__qword_ptr[r14 + Context.VcpuInfo + 8], rax);
        _.mov(rdi, __qword_ptr[rdx + VcpuCr2]);
        _.mov(__qword_ptr[r14 + Context.Cr2], rdi);

        // Nothing comes in while the agent works. Xen emulates what follows, and would deliver on its way back what is pending.
        _.mov(__word_ptr[rdx + UpcallPending], 0x100);
        EmitStopBreakpoints();
        if (_segmentBases)
        {
            Label usual = _.CreateLabel();
            _.test(Field32(Mailbox.Flags), (int)RecordFlags.OwnCr4);
            _.jz(usual);
            _.mov(rdx, Field(Mailbox.Record));
            _.mov(rax, cr4);
            _.mov(__qword_ptr[rdx + Record.Cr4], rax);
            _.mov(rax, Field(Mailbox.AgentCr4));
            _.mov(cr4, rax);
            _.Label(ref usual);
            _.rdfsbase(rax);
            _.mov(__qword_ptr[r14 + Context.FsBase], rax);
            _.rdgsbase(rax);
            _.mov(__qword_ptr[r14 + Context.GsBase], rax);
        }

        _.mov(rbx, Field(Mailbox.Header));
        _.inc(__dword_ptr[rbx + Result.Events]);
        _.mov(r12, r14);
        _.add(r14, Context.Size);
        _.mov(r13, Field(Mailbox.Record));
        _.cmp(ecx, EntryNumber.End);
        _.je(_finish);
        _.ja(_hypercalls);

        // Xen aligns the stack before it pushes, so RSP tells whether the frame has seven words or eight.
        _.mov(rax, __qword_ptr[rsi]);
        _.lea(rbx, __[_returned]);
        _.cmp(rax, rbx);
        _.jne(ofPayload);
        _.mov(rax, Field(Mailbox.ReturnsFrom));
        _.Label(ref ofPayload);
        _.mov(__qword_ptr[r12 + Context.Frame], rax);
        for (int i = 1; i < 7; i++)
        {
            _.mov(rax, __qword_ptr[rsi + (i * 8)]);
            _.mov(__qword_ptr[r12 + Context.Frame + (i * 8)], rax);
        }

        _.test(sil, 8);
        _.jnz(short_);
        _.mov(rax, __qword_ptr[rsi + 56]);
        _.mov(__qword_ptr[r12 + Context.Frame + 56], rax);
        _.Label(ref short_);

        // The fetch of user code from the end of the code is always the last event; with an error code, RIP is the fourth word of the frame.
        _.cmp(ecx, PageFaultVector);
        _.jne(notTheEnd);
        _.cmp(rdi, __qword_ptr[r13 + Record.End]);
        _.jne(notTheEnd);
        _.cmp(rdi, __qword_ptr[r12 + Context.Frame + 24]);
        _.jne(notTheEnd);
        _.test(__byte_ptr[r12 + Context.Frame + 32], 3);
        _.jz(notTheEnd);
        _.test(__byte_ptr[r12 + Context.Frame + 16], 0x10);
        _.jnz(_finish);
        _.Label(ref notTheEnd);
        _.sub(Field32(Mailbox.ResponsesLeft), 1);
        _.jc(_finish);
    }
}
