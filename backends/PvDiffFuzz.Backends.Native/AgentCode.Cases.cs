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
        Label reply = _mainLoop;
        Label run = _.CreateLabel();
        Label copy = _.CreateLabel();
        Label loaded = _.CreateLabel();

        _.Label(ref _nextCase);
        _.mov(r13, Field(Mailbox.Record));
        _.cmp(r13, Field(Mailbox.RequestEnd));
        _.jae(reply);
        _.mov(r14, Field(Mailbox.Result));
        _.cmp(r14, Field(Mailbox.ResultLimit));
        _.ja(reply);

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
        _.lea(r8, __[r15 + Shared.PoolAt]);
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

        // The signal that ended the case before has reset all vector state; since then only these were used, and with zero upper halves.
        _.Label(ref loaded);
        _.pxor(xmm0, xmm0);
        _.pxor(xmm1, xmm1);
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
        if (_segmentBases)
        {
            _.mov(rax, __qword_ptr[rsi + Context.FsBase]);
            _.wrfsbase(rax);
            _.mov(rax, __qword_ptr[rsi + Context.GsBase]);
            _.wrgsbase(rax);
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

        _.mov(rax, __qword_ptr[rsi + Context.Rax]);
        _.mov(rcx, __qword_ptr[rsi + Context.Rcx]);
        _.mov(rdx, __qword_ptr[rsi + Context.Rdx]);
        _.mov(rbx, __qword_ptr[rsi + Context.Rbx]);
        _.mov(rbp, __qword_ptr[rsi + Context.Rbp]);
        _.mov(rdi, __qword_ptr[rsi + Context.Rdi]);
        _.mov(r8, __qword_ptr[rsi + Context.R8]);
        _.mov(r9, __qword_ptr[rsi + Context.R9]);
        _.mov(r10, __qword_ptr[rsi + Context.R10]);
        _.mov(r11, __qword_ptr[rsi + Context.R11]);
        _.mov(r12, __qword_ptr[rsi + Context.R12]);
        _.mov(r13, __qword_ptr[rsi + Context.R13]);
        _.mov(r14, __qword_ptr[rsi + Context.R14]);
        _.mov(r15, __qword_ptr[rsi + Context.R15]);
        _.mov(rsi, __qword_ptr[rsi + Context.Rsi]);
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
        _.mov(r14, Field(Mailbox.Result));
        for (int i = 0; i < Context.SizeFromFrame; i += 16)
        {
            // The last one copies eight bytes too many, which the selectors below overwrite.
            _.movups(xmm0, __xmmword_ptr[rdx + (SignalFrameGpr + i)]);
            _.movups(__xmmword_ptr[r14 + i], xmm0);
        }

        _.mov(eax, ds);
        _.mov(__word_ptr[r14 + Context.Ds], ax);
        _.mov(eax, es);
        _.mov(__word_ptr[r14 + Context.Es], ax);
        _.mov(eax, fs);
        _.mov(__word_ptr[r14 + Context.Fs], ax);
        _.mov(eax, gs);
        _.mov(__word_ptr[r14 + Context.Gs], ax);
        if (_segmentBases)
        {
            _.rdfsbase(rax);
            _.mov(__qword_ptr[r14 + Context.FsBase], rax);
            _.rdgsbase(rax);
            _.mov(__qword_ptr[r14 + Context.GsBase], rax);
        }

        _.mov(rax, __qword_ptr[rdx + (SignalFrameGpr + Context.SizeFromFrame)]);
        _.mov(Field(Mailbox.VectorState), rax);
        _.mov(__dword_ptr[r14 + Context.Signal], edi);
        _.mov(eax, __dword_ptr[rsi + SiginfoArchitecture]);
        _.mov(__dword_ptr[r14 + Context.Architecture], eax);
        _.mov(r12, r14);
        _.add(r14, Context.Size);
        _.mov(rbx, Field(Mailbox.Header));
        _.inc(__dword_ptr[rbx + Result.Events]);

        // RSP stays below the frame, so that a late SIGALRM does not overwrite the vector state in it.
        _.mov(r13, Field(Mailbox.Record));
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
        _.sub(__dword_ptr[r15 + Mailbox.ResponsesLeft], 1);
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
        Label patch = _.CreateLabel();
        Label narrow = _.CreateLabel();
        Label patched = _.CreateLabel();

        _.mov(Field(Mailbox.Result), r14);
        for (int i = 0; i < Context.SizeOfInput; i += 16)
        {
            _.movups(xmm0, __xmmword_ptr[r12 + i]);
            _.movups(__xmmword_ptr[r15 + (Mailbox.Scratch + i)], xmm0);
        }

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
        // Linux resets vector state for a handler; the payload goes on with its own.
        _.Label(ref patched);
        _.mov(Field(Mailbox.NextResponse), rsi);
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
        Label run = _.CreateLabel();
        Label clear = _.CreateLabel();
        Label cleared = _.CreateLabel();
        Label block = _.CreateLabel();
        Label clean = _.CreateLabel();
        Label word = _.CreateLabel();
        Label scanned = _.CreateLabel();

        _.Label(ref _finish);
        _.lea(rsp, __[r15 + Shared.AgentStackAt + Shared.AgentStackSize]);
        _.lea(r8, __[r15 + Shared.PoolAt]);
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
        if (_wideVectors)
        {
            // Clean upper halves keep signal frames short.
            _.vzeroupper();
        }

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
