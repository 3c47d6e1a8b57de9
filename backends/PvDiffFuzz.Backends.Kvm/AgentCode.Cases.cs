using Iced.Intel;
using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Core;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Kvm;

/// <content>The life of a case in the guest: load, enter, event, response, clean-up.</content>
internal sealed partial class AgentCode
{
    /// <summary>Bytes of a pool block that are tested at once.</summary>
    private const int Block = 256;

    /// <summary>General registers by place in <see cref="Context"/>, without RSP, and without those that the agent keeps on its stack at an event.</summary>
    private static readonly (AssemblerRegister64 Register, int Number)[] Saved =
    [
        (rax, 0), (rcx, 1), (rdx, 2), (rbx, 3), (rbp, 5), (rsi, 6), (rdi, 7), (r8, 8), (r9, 9), (r10, 10), (r11, 11), (r12, 12), (r13, 13),
    ];

    /// <summary>Takes the next record: writes its memory, opens its result, and falls into <see cref="EmitEnter"/>. Without one, rings the doorbell.</summary>
    private void EmitNextCase()
    {
        Label run = _.CreateLabel();
        Label copy = _.CreateLabel();
        Label loaded = _.CreateLabel();

        _.Label(ref _ring);
        _.mov(rax, GuestMap.Base + GuestMap.Doorbell);
        _.mov(__dword_ptr[rax], ecx);

        _.Label(ref _nextCase);
        _.mov(r15, MailboxAddress);
        _.lea(rsp, __[r15 + Mailbox.StackTop]);
        _.mov(r13, Field(Mailbox.Record));
        _.cmp(r13, Field(Mailbox.RequestEnd));
        _.jae(_ring);
        _.mov(r14, Field(Mailbox.Result));
        _.cmp(r14, Field(Mailbox.ResultLimit));
        _.ja(_ring);

        _.mov(Field(Mailbox.Header), r14);
        _.mov(__qword_ptr[r14 + Result.Events], 0);
        _.add(r14, Result.HeaderSize);
        _.mov(Field(Mailbox.Result), r14);
        _.mov(eax, __dword_ptr[r13 + Record.Responses]);
        _.mov(__dword_ptr[r15 + Mailbox.ResponsesLeft], eax);
        _.mov(eax, __dword_ptr[r13 + Record.ResponsesAt(Context.Layout)]);
        _.add(rax, r13);
        _.mov(Field(Mailbox.NextResponse), rax);
        _.inc(Field(Mailbox.Sequence));

        _.mov(ebx, __dword_ptr[r13 + Record.Runs(Context.Layout)]);
        _.lea(rsi, __[r13 + Record.FirstRun(Context.Layout)]);
        _.mov(r8, GuestMap.Base + GuestMap.Pool);
        _.Label(ref run);
        _.sub(ebx, 1);
        _.jc(loaded);
        _.mov(edi, __dword_ptr[rsi]);
        _.mov(ecx, __dword_ptr[rsi + 4]);
        _.add(rsi, 8);
        _.add(rdi, r8);
        _.and(ecx, 0x7fff_ffff);
        _.Label(ref copy);
        _.mov(rax, __qword_ptr[rsi]);
        _.mov(__qword_ptr[rdi], rax);
        _.add(rsi, 8);
        _.add(rdi, 8);
        _.dec(ecx);
        _.jnz(copy);
        _.jmp(run);

        // Every case starts with x87 and vector state as after a reset.
        _.Label(ref loaded);
        _.mov(rcx, GuestMap.Base + GuestMap.CleanState);
        _.mov(eax, -1);
        _.mov(edx, eax);
        _.xrstor64(__[rcx]);
        _.lea(rsi, __[r13 + Record.Initial]);
    }

    /// <summary>Enters the payload with the context at RSI. IRETQ is the one instruction that loads TF, RF, NT, ID and AC as given.</summary>
    private void EmitEnter()
    {
        _.Label(ref _enter);
        EmitLoadSegment(ds, Context.Ds);
        EmitLoadSegment(es, Context.Es);
        EmitLoadSegment(fs, Context.Fs);
        EmitLoadSegment(gs, Context.Gs);
        _.mov(rax, __qword_ptr[rsi + Context.FsBase]);
        _.wrfsbase(rax);
        _.mov(rax, __qword_ptr[rsi + Context.GsBase]);
        _.wrgsbase(rax);
        _.lea(rsp, __[rsi + Context.Rip]);
        foreach ((AssemblerRegister64 register, int number) in Saved)
        {
            if (number != 6)
            {
                _.mov(register, __qword_ptr[rsi + Context.GprAt(number)]);
            }
        }

        _.mov(r14, __qword_ptr[rsi + Context.GprAt(14)]);
        _.mov(r15, __qword_ptr[rsi + Context.GprAt(15)]);
        _.mov(rsi, __qword_ptr[rsi + Context.GprAt(6)]);
        _.iretq();
    }

    /// <summary>Loads a selector from the context at RSI, unless it is there already: comparing costs much less than loading.</summary>
    private void EmitLoadSegment(AssemblerRegisterSegment segment, int field)
    {
        Label same = _.CreateLabel();
        _.movzx(eax, __word_ptr[rsi + field]);
        _.mov(ecx, segment);
        _.cmp(eax, ecx);
        _.je(same);
        _.mov(segment, eax);
        _.Label(ref same);
    }

    /// <summary>Every event: the vector is on the agent's stack, RFLAGS are the agent's, all other registers the payload's.</summary>
    private void EmitEvent()
    {
        Label inside = _.CreateLabel();
        Label landed = _.CreateLabel();
        Label notTheEnd = _.CreateLabel();
        Label respond = _.CreateLabel();

        _.Label(ref _event);
        _.push(r15);
        _.mov(r15, MailboxAddress);
        _.push(r14);
        _.mov(r14, Field(Mailbox.Result));
        foreach ((AssemblerRegister64 register, int number) in Saved)
        {
            _.mov(__qword_ptr[r14 + Context.GprAt(number)], register);
        }

        _.pop(rax);
        _.mov(__qword_ptr[r14 + Context.GprAt(14)], rax);
        _.pop(rax);
        _.mov(__qword_ptr[r14 + Context.GprAt(15)], rax);
        _.pop(rcx);
        _.mov(__qword_ptr[r14 + Context.Vector], rcx);
        _.mov(rsi, FrameView);
        _.mov(rdx, __qword_ptr[rsi]);
        _.mov(__qword_ptr[r14 + Context.Below], rdx);
        for (int i = 4; i >= 0; i--)
        {
            _.mov(rax, __qword_ptr[rsi + 8 + (i * 8)]);
            _.mov(__qword_ptr[r14 + Context.Rip + (i * 8)], rax);
        }

        _.mov(rdi, Field(Mailbox.Extra));
        _.mov(__qword_ptr[r14 + Context.Extra], rdi);
        EmitSaveSegment(ds, Context.Ds);
        EmitSaveSegment(es, Context.Es);
        EmitSaveSegment(fs, Context.Fs);
        EmitSaveSegment(gs, Context.Gs);
        _.rdfsbase(rsi);
        _.mov(__qword_ptr[r14 + Context.FsBase], rsi);
        _.rdgsbase(rsi);
        _.mov(__qword_ptr[r14 + Context.GsBase], rsi);
        _.mov(r12, r14);
        _.add(r14, Context.Size);
        _.mov(rbx, Field(Mailbox.Header));
        _.inc(__dword_ptr[rbx + Result.Events]);
        _.mov(r13, Field(Mailbox.Record));

        // RAX: RIP, RCX: vector, RDX: error code, RDI: CR2.
        _.cmp(ecx, GuestMap.SyscallVector);
        _.je(landed);
        _.mov(rsi, GuestMap.Base);
        _.mov(r8, rax);
        _.sub(r8, rsi);
        _.shr(r8, 32);
        _.jz(inside);
        _.cmp(ecx, PageFaultVector);
        _.jne(notTheEnd);
        _.test(dl, 0x10);
        _.jz(notTheEnd);
        _.cmp(rax, rdi);
        _.jne(notTheEnd);
        _.cmp(rax, __qword_ptr[r13 + Record.End]);
        _.je(_finish);
        _.Label(ref notTheEnd);
        _.sub(__dword_ptr[r15 + Mailbox.ResponsesLeft], 1);
        _.jc(_finish);
        _.jmp(respond);

        // What SYSCALL leaves in RCX and R11 is what a return would take; all other registers are as they were.
        _.Label(ref landed);
        _.mov(__qword_ptr[r12 + Context.Vector], GuestMap.SyscallVector);
        _.mov(rax, Field(Mailbox.LandingCs));
        _.mov(__qword_ptr[r12 + Context.Below], rax);
        _.mov(rax, Field(Mailbox.LandingRax));
        _.mov(__qword_ptr[r12 + Context.GprAt(0)], rax);
        _.mov(rax, Field(Mailbox.LandingRsp));
        _.mov(__qword_ptr[r12 + Context.Rsp], rax);
        _.mov(rax, __qword_ptr[r12 + Context.GprAt(1)]);
        _.mov(__qword_ptr[r12 + Context.Rip], rax);
        _.mov(rax, __qword_ptr[r12 + Context.GprAt(11)]);
        _.mov(__qword_ptr[r12 + Context.Rflags], rax);
        _.mov(__qword_ptr[r12 + Context.Cs], Selectors.UserCode64);
        _.mov(__qword_ptr[r12 + Context.Ss], Selectors.UserData);
        _.jmp(notTheEnd);

        // The only INT3 of the agent is in the landing; anything else inside means that its IRETQ was refused.
        _.Label(ref inside);
        _.cmp(ecx, BreakpointVector);
        _.je(landed);
        _.mov(__dword_ptr[rbx + Result.Status], (int)Result.Refused);
        _.jmp(_finish);

        // The harness has stopped the processor in the middle of a payload and put it here.
        _.Label(ref _stop);
        _.mov(r15, MailboxAddress);
        _.mov(r14, Field(Mailbox.Result));
        _.mov(r13, Field(Mailbox.Record));
        _.mov(rbx, Field(Mailbox.Header));
        _.mov(__dword_ptr[rbx + Result.Status], (int)Result.Stopped);
        _.jmp(_finish);
        _.Label(ref respond);
    }

    private void EmitSaveSegment(AssemblerRegisterSegment segment, int field)
    {
        _.mov(esi, segment);
        _.mov(__word_ptr[r14 + field], si);
    }

    /// <summary>Applies the next response to the event at R12 and goes back to the payload.</summary>
    private void EmitResponse()
    {
        Label patch = _.CreateLabel();
        Label narrow = _.CreateLabel();
        Label patched = _.CreateLabel();

        // General registers only: the payload goes on with its own vector state.
        _.mov(Field(Mailbox.Result), r14);
        _.mov(rsi, r12);
        _.lea(rdi, __[r15 + Mailbox.Scratch]);
        _.mov(ecx, Context.SizeOfInput / 8);
        _.rep.movsq();
        _.mov(rsi, Field(Mailbox.NextResponse));
        _.mov(ecx, __dword_ptr[rsi]);
        _.add(rsi, 8);
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
        _.Label(ref patched);
        _.mov(Field(Mailbox.NextResponse), rsi);
        _.lea(rsi, __[r15 + Mailbox.Scratch]);
        _.jmp(_enter);
    }

    /// <summary>Ends a case: clears what it had in pages that the payload cannot write, moves what writable pages hold to the result, and goes on.</summary>
    private void EmitFinish()
    {
        Label run = _.CreateLabel();
        Label clear = _.CreateLabel();
        Label cleared = _.CreateLabel();
        Label block = _.CreateLabel();
        Label clean = _.CreateLabel();
        Label word = _.CreateLabel();
        Label scanned = _.CreateLabel();

        _.Label(ref _finish);
        _.mov(r8, GuestMap.Base + GuestMap.Pool);
        _.mov(ebx, __dword_ptr[r13 + Record.Runs(Context.Layout)]);
        _.lea(rsi, __[r13 + Record.FirstRun(Context.Layout)]);
        _.xor(eax, eax);
        _.Label(ref run);
        _.sub(ebx, 1);
        _.jc(cleared);
        _.mov(edi, __dword_ptr[rsi]);
        _.mov(ecx, __dword_ptr[rsi + 4]);
        _.mov(edx, ecx);
        _.and(edx, 0x7fff_ffff);
        _.lea(rsi, __[rsi + (rdx * 8) + 8]);
        _.test(ecx, ecx);
        _.jns(run);
        _.add(rdi, r8);
        _.Label(ref clear);
        _.mov(__qword_ptr[rdi], rax);
        _.add(rdi, 8);
        _.dec(edx);
        _.jnz(clear);
        _.jmp(run);

        _.Label(ref cleared);
        _.pxor(xmm7, xmm7);
        _.mov(rsi, r8);
        _.mov(rdi, Field(Mailbox.ScanEnd));
        _.Label(ref block);
        _.cmp(rsi, rdi);
        _.jae(scanned);
        if (_wideVectors)
        {
            EmitTestBlockWide();
        }
        else
        {
            EmitTestBlock();
        }

        _.je(clean);

        // Every word is written to the result, but the pointer moves on only past those that are not zero.
        _.mov(rdx, rsi);
        _.sub(rdx, r8);
        _.mov(ebx, Block / 8);
        _.Label(ref word);
        _.mov(rax, __qword_ptr[rsi]);
        _.xor(ecx, ecx);
        _.mov(__qword_ptr[r14], rdx);
        _.mov(__qword_ptr[r14 + 8], rax);
        _.mov(__qword_ptr[rsi], rcx);
        _.test(rax, rax);
        _.setne(cl);
        _.shl(ecx, 4);
        _.add(r14, rcx);
        _.add(rsi, 8);
        _.add(rdx, 8);
        _.dec(ebx);
        _.jnz(word);
        _.jmp(block);

        _.Label(ref clean);
        _.add(rsi, Block);
        _.jmp(block);

        _.Label(ref scanned);
        _.mov(Field(Mailbox.Result), r14);
        _.mov(rbx, Field(Mailbox.Header));
        _.mov(__qword_ptr[rbx + Result.EndAt], r14);
        _.mov(eax, __dword_ptr[r13 + Record.Length]);
        _.add(rax, r13);
        _.mov(Field(Mailbox.Record), rax);
        _.jmp(_nextCase);
    }

    /// <summary>Sets ZF when the block at RSI is all zero.</summary>
    private void EmitTestBlock()
    {
        _.movdqa(xmm0, __xmmword_ptr[rsi]);
        _.movdqa(xmm1, __xmmword_ptr[rsi + 16]);
        for (int i = 32; i < Block; i += 32)
        {
            _.por(xmm0, __xmmword_ptr[rsi + i]);
            _.por(xmm1, __xmmword_ptr[rsi + i + 16]);
        }

        _.por(xmm0, xmm1);
        _.pcmpeqb(xmm0, xmm7);
        _.pmovmskb(eax, xmm0);
        _.cmp(eax, 0xffff);
    }

    /// <summary>As <see cref="EmitTestBlock"/>, with AVX2.</summary>
    private void EmitTestBlockWide()
    {
        _.vmovdqa(ymm0, __ymmword_ptr[rsi]);
        _.vmovdqa(ymm1, __ymmword_ptr[rsi + 32]);
        for (int i = 64; i < Block; i += 64)
        {
            _.vpor(ymm0, ymm0, __ymmword_ptr[rsi + i]);
            _.vpor(ymm1, ymm1, __ymmword_ptr[rsi + i + 32]);
        }

        _.vpor(ymm0, ymm0, ymm1);
        _.vptest(ymm0, ymm0);
    }
}
