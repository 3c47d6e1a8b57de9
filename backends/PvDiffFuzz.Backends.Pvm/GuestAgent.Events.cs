using Iced.Intel;
using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Core;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Pvm;

/// <content>From an event on: record it, and end the case and clean up when nothing answers it.</content>
internal sealed partial class GuestAgent
{
    private const int PageFaultVector = 14;
    private const int FetchError = 0x10;

    /// <summary>Bytes of a pool block that are tested at once.</summary>
    private const int Block = 128;

    /// <summary>Every event: the port is in ECX, RCX in the mailbox, all other registers and flags as delivered. The end of supervisor code arrives here too, with the payload's flags.</summary>
    private void EmitArrive()
    {
        Label noFrame = _.CreateLabel();
        Label noDebug = _.CreateLabel();
        Label answer = _.CreateLabel();
        Label known = _.CreateLabel();
        Label undisturbed = _.CreateLabel();
        Label mayChangeMode = _.CreateLabel();

        _.Label(ref _arrive);
        _.AddInstruction(Instruction.Create(Code.Mov_rm64_r64, Far(Mailbox.SavedRsp), rsp));
        _.AddInstruction(Instruction.Create(Code.Mov_rm64_r64, Far(Mailbox.SavedR15), r15));
        _.mov(r15, GuestMap.BatchAddress);
        _.lea(rsp, __[r15 + Mailbox.StackTop]);
        _.push(r14);
        _.pushfq();
        _.push(2);
        _.popfq();
        _.mov(r14, Field(Mailbox.Batch.Result));
        _.StoreRegisters(Context.Gpr, but: [rcx, rsp, r14, r15]);
        _.pop(rax);
        _.mov(__qword_ptr[r14 + Context.Rflags], rax);
        _.pop(rax);
        _.mov(__qword_ptr[r14 + Context.GprAt(14)], rax);
        foreach ((int field, int number) in (ReadOnlySpan<(int, int)>)[(Mailbox.SavedRcx, 1), (Mailbox.SavedRsp, 4), (Mailbox.SavedR15, 15)])
        {
            _.mov(rax, Field(field));
            _.mov(__qword_ptr[r14 + Context.GprAt(number)], rax);
        }

        _.mov(__qword_ptr[r14 + Context.Port], rcx);
        _.mov(ebp, ecx);
        _.StoreSelectors(__word_ptr[r14 + Context.Ds], eax, ax);
        _.StoreBases(__qword_ptr[r14 + Context.FsBase], rax);
        _.mov(rsi, Field(Mailbox.Structure));
        _.lea(rdi, __[r14 + Context.Structure]);
        _.mov(ecx, PvcsLayout.Size / sizeof(ulong));
        _.rep.movsq();
        _.mov(r12, r14);
        _.add(r14, Context.Size);
        _.mov(Field(Mailbox.Batch.Result), r14);
        _.mov(rbx, Field(Mailbox.Batch.Header));
        _.inc(__dword_ptr[rbx + Result.Events]);
        _.mov(r13, Field(Mailbox.Batch.Record));
        _.cmp(__qword_ptr[r13 + Record.AsksStructure], 0);
        _.je(known);
        _.mov(ebx, VcpuStructMsr);
        _.mov(eax, ReadMsrCall);
        _.syscall();
        _.mov(__qword_ptr[r12 + Context.StructureAt], rax);
        _.mov(rbx, Field(Mailbox.Batch.Header));
        _.Label(ref known);
        _.cmp(ebp, (int)AgentPort.Called);
        _.je(_nextCall);

        // RAX: the interrupted RIP, EDX: the vector.
        _.mov(rax, __qword_ptr[r12 + Context.Structure + _ripAt]);
        _.movzx(edx, __byte_ptr[r12 + Context.Structure + _vectorAt]);
        if (_first)
        {
            _.cmp(ebp, (int)AgentPort.SupervisorEntry);
            _.jne(noFrame);
            _.mov(rsi, Field(Mailbox.SavedRsp));
            _.lea(rdi, __[r12 + Context.Frame]);
            _.mov(ecx, EventReader.FrameSize / sizeof(ulong));
            _.rep.movsq();
            _.mov(rax, __qword_ptr[r12 + Context.Frame + 8]);
            _.movzx(edx, __byte_ptr[r12 + Context.Frame + 4]);
            _.Label(ref noFrame);
        }

        _.cmp(ebp, (int)AgentPort.End);
        _.je(_finish);

        // What comes while the agent runs disturbs it, unless it comes before the first instruction of an entry.
        _.mov(rcx, rax);
        _.sub(rcx, Field(Mailbox.EventEntry));
        _.test(rcx, ~(256 | 512));
        _.jz(undisturbed);
        _.cmp(rax, Field(Mailbox.Lstar));
        _.je(undisturbed);
        _.mov(rcx, AddressMap.AgentFirst);
        _.sub(rcx, rax);
        _.neg(rcx);
        _.mov(rsi, AddressMap.AgentLast - AddressMap.AgentFirst);
        _.cmp(rcx, rsi);
        _.jbe(_refuse);
        _.Label(ref undisturbed);

        // Supervisor code that has found its way to user mode has changed what later cases of a batch begin with.
        _.cmp(Field(Mailbox.Alone), 0);
        _.jne(mayChangeMode);
        _.cmp(ebp, (int)AgentPort.UserEntry);
        _.sete(sil);
        _.cmp(ebp, (int)AgentPort.Lstar);
        _.sete(dil);
        _.or(sil, dil);
        _.mov(rcx, Record.NoEnd);
        _.cmp(rcx, __qword_ptr[r13 + Record.End]);
        _.sete(dil);
        _.test(sil, dil);
        _.jnz(_refuse);
        _.Label(ref mayChangeMode);
        _.cmp(ebp, (int)AgentPort.Lstar);
        _.je(answer);
        _.cmp(dl, 1);
        _.jne(noDebug);
        _.or(__dword_ptr[rbx + Result.Status], (int)Result.Debug);
        _.Label(ref noDebug);
        EmitIsEnd(answer);
        _.Label(ref answer);
        _.sub(__dword_ptr[r15 + Mailbox.Batch.ResponsesLeft], 1);
        _.jc(_finish);
    }

    /// <summary>Ends the case for the fetch #PF with which user code ends; goes to a label for all else.</summary>
    private void EmitIsEnd(Label other)
    {
        _.cmp(ebp, (int)AgentPort.UserEntry);
        _.jne(other);
        _.cmp(dl, PageFaultVector);
        _.jne(other);
        _.test(__byte_ptr[r12 + Context.Structure + _errorAt], FetchError);
        _.jz(other);
        _.cmp(rax, __qword_ptr[r13 + Record.End]);
        _.jne(other);
        _.cmp(rax, __qword_ptr[r12 + Context.Structure + _cr2At]);
        _.jne(other);
        _.or(__dword_ptr[rbx + Result.Status], (int)Result.AtEnd);
        _.jmp(_finish);
    }

    /// <summary>Ends a case: one alone by leaving; in a batch clears what it had in pages that the payload cannot write, moves what writable pages hold to the result, and goes on.</summary>
    private void EmitFinish()
    {
        Label run = _.CreateLabel();
        Label cleared = _.CreateLabel();
        Label skip = _.CreateLabel();
        Label noDebug = _.CreateLabel();

        _.Label(ref _takenAway);
        _.mov(rbx, Field(Mailbox.Batch.Header));
        _.or(__dword_ptr[rbx + Result.Status], (int)Result.TakenAway);
        _.Label(ref _refuse);
        _.mov(rbx, Field(Mailbox.Batch.Header));
        _.or(__dword_ptr[rbx + Result.Status], (int)Result.Refused);
        _.mov(rax, Unknown);
        _.mov(Field(Mailbox.KernelGsBase), rax);

        _.Label(ref _finish);
        _.cmp(Field(Mailbox.Alone), 0);
        _.jne(_ring);
        _.mov(rbx, Field(Mailbox.Batch.Header));
        _.test(__dword_ptr[rbx + Result.Status], (int)Result.Debug);
        _.jz(noDebug);
        _.mov(rax, dr6);
        _.mov(__qword_ptr[rbx + Result.Dr6], rax);
        _.mov(eax, FixedDr6);
        _.mov(dr6, rax);
        _.Label(ref noDebug);

        _.mov(r8, GuestMap.PoolAddress);
        _.mov(ebx, __dword_ptr[r13 + Record.Runs]);
        _.lea(rsi, __[r13 + Record.FirstRun]);
        _.xor(eax, eax);
        _.Label(ref run);
        _.sub(ebx, 1);
        _.jc(cleared);
        _.mov(edi, __dword_ptr[rsi]);
        _.mov(ecx, __dword_ptr[rsi + 4]);
        _.test(ecx, ecx);
        _.jns(skip);
        _.and(ecx, 0x7fff_ffff);
        _.lea(rsi, __[rsi + rcx + 15]);
        _.and(rsi, -8);
        _.add(rdi, r8);
        _.rep.stosb();
        _.jmp(run);
        _.Label(ref skip);
        _.lea(rsi, __[rsi + rcx + 15]);
        _.and(rsi, -8);
        _.jmp(run);

        _.Label(ref cleared);
        _.MoveWords(Mailbox.Batch, Block, wide: false);
        _.CloseCase(Mailbox.Batch, next: _nextCase);
    }
}
