using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Xen;

/// <content>What the kernel does between an event and its return.</content>
internal sealed partial class AgentCode
{
    /// <summary>Answers the event at R12.</summary>
    private void EmitResponse()
    {
        Label next = _.CreateLabel();
        Label patch = _.CreateLabel();
        Label narrow = _.CreateLabel();
        Label patched = _.CreateLabel();
        Label short_ = _.CreateLabel();

        _.Label(ref _respond);
        _.mov(Field(Mailbox.Result), r14);
        _.mov(Field(Mailbox.Answered), r12);
        _.mov(rsi, Field(Mailbox.NextResponse));
        _.mov(eax, __dword_ptr[rsi + 20]);
        _.mov(Field32(Mailbox.HypercallsLeft), eax);
        _.mov(eax, __dword_ptr[rsi + 16]);
        _.shl(eax, 4);
        _.lea(rsi, __[rsi + rax + Record.ResponseHead]);
        _.mov(Field(Mailbox.NextHypercall), rsi);
        _.jmp(next);

        // A hypercall has returned, and has been recorded like an entry.
        _.Label(ref _hypercalls);
        _.mov(Field(Mailbox.Result), r14);
        _.mov(r12, Field(Mailbox.Answered));
        _.Label(ref next);
        _.mov(rsi, Field(Mailbox.NextHypercall));
        _.sub(Field32(Mailbox.HypercallsLeft), 1);
        Label done = _.CreateLabel();
        _.jc(done);
        EmitResponseHypercall();

        // The registers of the event, with its frame as that of the return; then the patches.
        _.Label(ref done);
        _.mov(r11, rsi);
        _.lea(rdi, __[r15 + Mailbox.Scratch]);
        _.mov(rsi, r12);
        _.mov(ecx, Initial.Frame / 8);
        _.rep.movsq();
        _.mov(rax, __qword_ptr[r12 + Context.Gpr]);
        _.mov(Field(Mailbox.Scratch + Initial.Rax), rax);
        _.mov(rax, __qword_ptr[r12 + Context.Frame]);
        _.mov(Field(Mailbox.Scratch + Initial.Rcx), rax);
        _.mov(rax, __qword_ptr[r12 + Context.Frame + 8]);
        _.mov(Field(Mailbox.Scratch + Initial.R11), rax);
        _.lea(rsi, __[r12 + Context.Frame + 16]);
        _.test(__byte_ptr[r12 + Context.Gpr + 32], 8);
        _.jnz(short_);
        _.add(rsi, 8);
        _.Label(ref short_);
        _.lea(rdi, __[r15 + Mailbox.Scratch + Initial.Rip]);
        _.mov(ecx, 5);
        _.rep.movsq();
        _.mov(rax, __qword_ptr[r12 + Context.Ds]);
        _.mov(Field(Mailbox.Scratch + Initial.Ds), rax);
        _.mov(rax, __qword_ptr[r12 + Context.FsBase]);
        _.mov(Field(Mailbox.Scratch + Initial.FsBase), rax);
        _.mov(rax, __qword_ptr[r12 + Context.GsBase]);
        _.mov(Field(Mailbox.Scratch + Initial.GsBase), rax);

        _.mov(rsi, Field(Mailbox.NextResponse));
        _.mov(Field(Mailbox.NextResponse), r11);
        _.mov(r8, __qword_ptr[rsi]);
        _.or(r8, Field(Mailbox.VcpuInfo));
        _.mov(rax, __qword_ptr[rsi + 8]);
        _.mov(Field(Mailbox.Scratch + Initial.Flags), rax);
        _.mov(ecx, __dword_ptr[rsi + 16]);
        _.add(rsi, Record.ResponseHead);
        _.Label(ref patch);
        _.sub(ecx, 1);
        _.jc(patched);
        _.mov(edi, __dword_ptr[rsi]);
        _.mov(rax, __qword_ptr[rsi + 8]);
        _.cmp(__dword_ptr[rsi + 4], 2);
        _.lea(rsi, __[rsi + Record.PatchSize]);
        _.je(narrow);
        _.mov(__qword_ptr[r15 + rdi + Mailbox.Scratch], rax);
        _.jmp(patch);
        _.Label(ref narrow);
        _.mov(__word_ptr[r15 + rdi + Mailbox.Scratch], ax);
        _.jmp(patch);

        // What comes from outside is pending when the return is made, which counts as made at the entry.
        _.Label(ref patched);
        EmitReturnsFrom();
        _.mov(Field(Mailbox.VcpuInfo), r8);
        _.lea(rsi, __[r15 + Mailbox.Scratch]);
        _.jmp(_return);
    }

    /// <summary>Looks up where the entry of the event at R12 lies. Its RCX does not tell: a return can begin a handler with any. Changes RAX, RCX, RDX and RDI.</summary>
    private void EmitReturnsFrom()
    {
        Label next = _.CreateLabel();
        Label found = _.CreateLabel();

        _.mov(rdx, Field(Mailbox.Record));
        _.mov(eax, __dword_ptr[rdx + Record.EntriesAt]);
        _.add(rdx, rax);
        _.mov(edi, __dword_ptr[r12 + Context.Entry]);
        _.imul(eax, edi, Core.XenTrap.HandlerSize);
        _.add(rax, __qword_ptr[rdx]);
        _.mov(ecx, __dword_ptr[rdx + 8]);
        _.Label(ref next);
        _.sub(ecx, 1);
        _.jc(found);
        _.add(rdx, Record.EntrySize);
        _.cmp(edi, __dword_ptr[rdx]);
        _.jne(next);
        _.mov(rax, __qword_ptr[rdx + 8]);
        _.Label(ref found);
        _.mov(Field(Mailbox.ReturnsFrom), rax);
    }

    /// <summary>Makes the hypercall at RSI with the registers of the event at R12, whatever the one before changed, and records what it leaves.</summary>
    private void EmitResponseHypercall()
    {
        EmitLoadSegments(r12, Context.Ds, Context.FsBase);
        EmitLoadCr4();
        EmitStartBreakpoints();
        (AssemblerRegister64 Register, int Number)[] arguments = [(rdi, 7), (rsi, 6), (rdx, 2), (r10, 10), (r8, 8), (r9, 9)];
        for (int i = 0; i < arguments.Length; i++)
        {
            _.mov(rax, __qword_ptr[r12 + Context.Gpr + (arguments[i].Number * 8)]);
            _.mov(Field(Mailbox.Arguments + (i * 8)), rax);
        }

        _.mov(rax, __qword_ptr[rsi]);
        _.mov(ecx, __dword_ptr[rsi + 8]);
        _.add(rsi, Record.CallHead);
        _.lea(rdi, __[r15 + Mailbox.Arguments]);
        _.rep.movsq();
        _.mov(Field(Mailbox.NextHypercall), rsi);
        _.mov(rdx, SharedInfoAddress);
        _.mov(rcx, Field(Mailbox.VcpuInfo));
        _.mov(__qword_ptr[rdx], rcx);
        _.mov(rcx, __qword_ptr[r12 + Context.Gpr + 32]);
        _.mov(Field(Mailbox.EntryRsp), rcx);
        for (int i = 0; i < arguments.Length; i++)
        {
            _.mov(arguments[i].Register, Field(Mailbox.Arguments + (i * 8)));
        }

        foreach ((AssemblerRegister64 register, int number) in (ReadOnlySpan<(AssemblerRegister64, int)>)
            [(rbx, 3), (rbp, 5), (r11, 11), (r13, 13), (r14, 14), (r15, 15), (r12, 12)])
        {
            _.mov(register, __qword_ptr[r12 + Context.Gpr + (number * 8)]);
        }

        _.push((int)(Core.RflagsBits.Fixed1 | Core.RflagsBits.IF));
        _.popfq();
        _.AddInstruction(Instruction.Create(Code.Mov_r64_rm64, rsp, Far(Mailbox.EntryRsp)));
        _.syscall();
        _.AddInstruction(Instruction.Create(Code.Mov_rm64_r64, Far(Mailbox.EntryRcx), rcx));
        _.mov(ecx, EntryNumber.HypercallReturn);
        _.jmp(_event);
    }
}
