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

    /// <summary>Takes the next record: writes its memory, opens its result, and falls into <see cref="EmitEnter"/>. Without one, rings the doorbell.</summary>
    private void EmitNextCase()
    {

        _.Label(ref _ring);
        _.mov(rax, GuestMap.Base + GuestMap.Doorbell);
        _.mov(__dword_ptr[rax], ecx);

        _.Label(ref _nextCase);
        _.mov(r15, MailboxAddress);
        _.lea(rsp, __[r15 + Mailbox.StackTop]);
        _.TakeRecord(Mailbox.Batch, none: _ring);
        _.OpenResult(Context.Layout, Mailbox.Batch);
        _.inc(Field(Mailbox.Sequence));

        _.FindRuns(Context.Layout);
        _.mov(r8, GuestMap.Base + GuestMap.Pool);
        _.WriteRuns();

        // Every case starts with x87 and vector state as after a reset.
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
        _.LoadSelectors(__word_ptr[rsi + Context.Ds]);
        _.LoadBases(__qword_ptr[rsi + Context.FsBase]);
        _.lea(rsp, __[rsi + Context.Rip]);
        _.LoadRegisters(Context.Layout.Gpr, but: [rsp]);
        _.iretq();
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
        _.mov(r14, Field(Mailbox.Batch.Result));
        _.StoreRegisters(Context.Layout.Gpr, but: [rsp, r14, r15]);
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
        _.StoreSelectors(__word_ptr[r14 + Context.Ds], esi, si);
        _.StoreBases(__qword_ptr[r14 + Context.FsBase], rsi);
        _.mov(r12, r14);
        _.add(r14, Context.Size);
        _.mov(rbx, Field(Mailbox.Batch.Header));
        _.inc(__dword_ptr[rbx + Result.Events]);
        _.mov(r13, Field(Mailbox.Batch.Record));

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
        _.sub(__dword_ptr[r15 + Mailbox.Batch.ResponsesLeft], 1);
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
        _.mov(r14, Field(Mailbox.Batch.Result));
        _.mov(r13, Field(Mailbox.Batch.Record));
        _.mov(rbx, Field(Mailbox.Batch.Header));
        _.mov(__dword_ptr[rbx + Result.Status], (int)Result.Stopped);
        _.jmp(_finish);
        _.Label(ref respond);
    }

    /// <summary>Applies the next response to the event at R12 and goes back to the payload.</summary>
    private void EmitResponse()
    {
        _.mov(Field(Mailbox.Batch.Result), r14);
        _.mov(rsi, r12);
        _.lea(rdi, __[r15 + Mailbox.Scratch]);
        _.mov(ecx, Context.SizeOfInput / 8);
        _.rep.movsq();
        _.ApplyResponse(Mailbox.Batch, Mailbox.Scratch);
        _.lea(rsi, __[r15 + Mailbox.Scratch]);
        _.jmp(_enter);
    }

    /// <summary>Ends a case: clears what it had in pages that the payload cannot write, moves what writable pages hold to the result, and goes on.</summary>
    private void EmitFinish()
    {
        _.Label(ref _finish);
        _.mov(r8, GuestMap.Base + GuestMap.Pool);
        _.FindRuns(Context.Layout);
        _.ClearReadOnlyRuns();
        _.MoveWords(Mailbox.Batch, Block, _wideVectors);
        _.CloseCase(Mailbox.Batch, next: _nextCase);
    }
}
