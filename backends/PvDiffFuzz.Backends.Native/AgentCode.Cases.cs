using Iced.Intel;
using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Backends.Interop;
using Tmds.Linux;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Native;

/// <content>The life of a case in the child: load, enter, event, response, clean-up.</content>
internal sealed partial class AgentCode
{
    /// <summary>Bytes of a pool block that are tested at once.</summary>
    private const int Block = 256;

    /// <summary>Takes the next record: writes its memory, opens its result, and falls into <see cref="EmitEnter"/>.</summary>
    private void EmitNextCase()
    {
        _.Label(ref _nextCase);
        _.TakeRecord(Mailbox.Batch, none: _mainLoop);
        _.OpenResult(Context.Layout, Mailbox.Batch);
        _.inc(Field(Mailbox.Sequence));

        _.FindRuns(Context.Layout);
        _.lea(r8, __[r15 + Shared.PoolAt]);
        _.WriteRuns();

        // The signal that ended the case before has reset all vector state; since then only these were used, and with zero upper halves.
        _.pxor(xmm0, xmm0);
        _.pxor(xmm1, xmm1);
        _.lea(rsi, __[r13 + Record.Initial]);
    }

    /// <summary>Enters the payload with the context at RSI. IRETQ is the one instruction that loads TF, RF, NT, ID and AC as given.</summary>
    private void EmitEnter()
    {
        _.Label(ref _enter);
        _.LoadSelectors(__word_ptr[rsi + Context.Ds]);
        if (_segmentBases)
        {
            _.LoadBases(__qword_ptr[rsi + Context.FsBase]);
        }

        _.lea(rsp, __[r15 + Mailbox.IretFrame]);
        _.mov(rax, __qword_ptr[rsi + Context.Rip]);
        _.mov(__qword_ptr[rsp], rax);
        _.movzx(eax, __word_ptr[rsi + Context.Cs]);
        _.mov(__qword_ptr[rsp + 8], rax);
        _.mov(rax, __qword_ptr[rsi + Context.Rflags]);
        _.mov(__qword_ptr[rsp + 16], rax);
        _.mov(rax, __qword_ptr[rsi + Context.Rsp]);
        _.mov(__qword_ptr[rsp + 24], rax);
        _.movzx(eax, __word_ptr[rsi + Context.Ss]);
        _.mov(__qword_ptr[rsp + 32], rax);

        _.LoadRegisters(Context.Layout.Gpr, but: [rsp]);
        _.iretq();
    }

    /// <summary>The handler of all signals: RDI signal, RSI siginfo, RDX saved context. Every other register and RFLAGS may be the payload's.</summary>
    private void EmitHandler()
    {
        Label save = _.CreateLabel();
        Label resume = _.CreateLabel();
        Label refused = _.CreateLabel();
        Label stopped = _.CreateLabel();
        Label notTheEnd = _.CreateLabel();
        ulong imageAddress = _codeAddress - ElfImage.HeaderSize;

        _.Label(ref _handler);
        _.mov(r15, _mailbox);
        _.cmp(edi, LibC.SIGALRM);
        _.jne(save);

        // The harness asks to stop a case. It may have ended meanwhile: then whatever was interrupted goes on as if nothing had been.
        // NT, AC and ID are not touched on this path, because rt_sigreturn(2) does not restore all of them.
        _.mov(rax, __qword_ptr[rdx + (SignalFrameGpr + Context.Rip)]);
        _.mov(rcx, imageAddress);
        _.sub(rax, rcx);
        _.cmp(rax, Shared.DistanceFromCode);
        _.jb(resume);
        _.mov(rax, Field(Mailbox.Victim));
        _.cmp(rax, Field(Mailbox.Sequence));
        _.je(save);
        _.Label(ref resume);
        _.ret();

        _.Label(ref _restorer);
        _.mov(eax, LinuxAbi.SYS_rt_sigreturn);
        _.syscall();
        _.Label(ref _returnSite);
        _.ud2();

        // Linux clears DF, TF and RF for a handler, but a leaked NT would make the next IRETQ fault and a leaked AC our unaligned accesses.
        _.Label(ref save);
        _.push(0x202);
        _.popfq();
        _.mov(r14, Field(Mailbox.Batch.Result));
        for (int i = 0; i < Context.SizeFromFrame; i += 16)
        {
            // The last one copies eight bytes too many, which the selectors below overwrite.
            _.movups(xmm0, __xmmword_ptr[rdx + (SignalFrameGpr + i)]);
            _.movups(__xmmword_ptr[r14 + i], xmm0);
        }

        _.StoreSelectors(__word_ptr[r14 + Context.Ds], eax, ax);
        if (_segmentBases)
        {
            _.StoreBases(__qword_ptr[r14 + Context.FsBase], rax);
        }

        _.mov(rax, __qword_ptr[rdx + (SignalFrameGpr + Context.SizeFromFrame)]);
        _.mov(Field(Mailbox.VectorState), rax);
        _.mov(__dword_ptr[r14 + Context.Signal], edi);
        _.mov(eax, __dword_ptr[rsi + SiginfoArchitecture]);
        _.mov(__dword_ptr[r14 + Context.Architecture], eax);
        _.mov(r12, r14);
        _.add(r14, Context.Size);
        _.mov(rbx, Field(Mailbox.Batch.Header));
        _.inc(__dword_ptr[rbx + Result.Events]);

        // RSP stays below the frame, so that a late SIGALRM does not overwrite the vector state in it.
        _.mov(r13, Field(Mailbox.Batch.Record));
        _.mov(rax, __qword_ptr[r12 + Context.Rip]);
        _.mov(rcx, imageAddress);
        _.mov(rdx, rax);
        _.sub(rdx, rcx);
        _.cmp(rdx, Shared.DistanceFromCode);
        _.jb(refused);
        _.cmp(edi, LibC.SIGALRM);
        _.je(stopped);

        // The end of the case: a fetch #PF at the address after the code.
        _.cmp(edi, LibC.SIGSEGV);
        _.jne(notTheEnd);
        _.cmp(__qword_ptr[r12 + Context.Trap], 14);
        _.jne(notTheEnd);
        _.test(__byte_ptr[r12 + Context.Error], 0x10);
        _.jz(notTheEnd);
        _.cmp(rax, __qword_ptr[r12 + Context.Cr2]);
        _.jne(notTheEnd);
        _.cmp(rax, __qword_ptr[r13 + Record.End]);
        _.je(_finish);
        _.Label(ref notTheEnd);
        _.sub(__dword_ptr[r15 + Mailbox.Batch.ResponsesLeft], 1);
        _.jc(_finish);
        Label respond = _.CreateLabel();
        _.jmp(respond);

        _.Label(ref refused);
        _.mov(__dword_ptr[rbx + Result.Status], (int)Result.Refused);
        _.jmp(_finish);
        _.Label(ref stopped);
        _.mov(__dword_ptr[rbx + Result.Status], (int)Result.Stopped);
        _.jmp(_finish);
        _.Label(ref respond);
    }

    /// <summary>Applies the next response to the event at R12 and goes back to the payload.</summary>
    private void EmitResponse()
    {
        _.mov(Field(Mailbox.Batch.Result), r14);
        for (int i = 0; i < Context.SizeOfInput; i += 16)
        {
            _.movups(xmm0, __xmmword_ptr[r12 + i]);
            _.movups(__xmmword_ptr[r15 + (Mailbox.Scratch + i)], xmm0);
        }

        _.ApplyResponse(Mailbox.Batch, Mailbox.Scratch);

        // Linux resets vector state for a handler; the payload goes on with its own.
        _.mov(rdi, Field(Mailbox.VectorState));
        if (_saveArea)
        {
            _.mov(eax, -1);
            _.mov(edx, eax);
            _.xrstor64(__[rdi]);
        }
        else
        {
            _.fxrstor64(__[rdi]);
        }

        _.lea(rsi, __[r15 + Mailbox.Scratch]);
        _.jmp(_enter);
    }

    /// <summary>Ends a case: clears what it had in pages that are not writable, moves what writable pages hold to the result, and goes on.</summary>
    private void EmitFinish()
    {
        _.Label(ref _finish);
        _.lea(rsp, __[r15 + Shared.AgentStackAt + Shared.AgentStackSize]);
        _.lea(r8, __[r15 + Shared.PoolAt]);
        _.FindRuns(Context.Layout);
        _.ClearReadOnlyRuns();
        _.MoveWords(Mailbox.Batch, Block, _wideVectors);
        if (_wideVectors)
        {
            // Clean upper halves keep signal frames short.
            _.vzeroupper();
        }

        _.CloseCase(Mailbox.Batch, next: _nextCase);
    }
}
