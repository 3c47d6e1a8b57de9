using Iced.Intel;
using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Core;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Pvm;

/// <content>What the supervisor does after an event: hypercalls, patches, and the way back.</content>
internal sealed partial class GuestAgent
{
    private const int RegistersSize = 16 * sizeof(ulong);
    private const ushort Syscall = 0x050f;

    /// <summary>Makes the hypercalls of the next response to the event at R12, with the event's registers but for number and arguments. Each comes back through the entry.</summary>
    private void EmitCalls()
    {
        Label loaded = _.CreateLabel();

        _.mov(Field(Mailbox.Event), r12);
        _.mov(rsi, Field(Mailbox.Batch.NextResponse));
        _.mov(Field(Mailbox.Response), rsi);
        _.movzx(eax, __byte_ptr[rsi + Answer.Calls]);
        _.mov(__dword_ptr[r15 + Mailbox.CallsLeft], eax);
        _.add(rsi, Answer.HeaderSize);
        _.mov(Field(Mailbox.NextCall), rsi);

        _.Label(ref _nextCall);
        _.mov(__dword_ptr[r15 + Mailbox.Calling], 0);
        EmitCopyOfEvent();
        _.sub(__dword_ptr[r15 + Mailbox.CallsLeft], 1);
        _.jc(_back);
        _.mov(rsi, Field(Mailbox.NextCall));
        _.mov(rax, __qword_ptr[rsi]);
        _.mov(__qword_ptr[r15 + Mailbox.Scratch + Context.GprAt(0)], rax);
        _.mov(ecx, __dword_ptr[rsi + 8]);
        int[] arguments = [3, 10, 2]; // RBX, R10, RDX
        for (int i = 0; i < arguments.Length; i++)
        {
            _.cmp(ecx, i + 1);
            _.jb(loaded);
            _.mov(rax, __qword_ptr[rsi + 16 + (i * sizeof(ulong))]);
            _.mov(__qword_ptr[r15 + Mailbox.Scratch + Context.GprAt(arguments[i])], rax);
        }

        _.Label(ref loaded);
        _.add(rsi, Answer.CallSize);
        _.mov(Field(Mailbox.NextCall), rsi);
        _.mov(__dword_ptr[r15 + Mailbox.Calling], 1);
        _.mov(rsi, Field(Mailbox.Event));
        _.push(__qword_ptr[rsi + Context.Rflags]);
        _.lea(rsi, __[r15 + Mailbox.Scratch]);
        _.popfq();
        _.mov(rcx, __qword_ptr[rsi + Context.GprAt(1)]);
        _.mov(rsp, __qword_ptr[rsi + Context.GprAt(4)]);
        _.LoadRegisters(Context.Gpr, but: [rcx, rsp]);
        _.syscall();
        EmitLanding(_, AgentPort.Called);
        _.jmp(_arrive);
    }

    /// <summary>Copies the event's general registers to the scratch context.</summary>
    private void EmitCopyOfEvent()
    {
        _.mov(rsi, Field(Mailbox.Event));
        _.lea(rdi, __[r15 + Mailbox.Scratch]);
        _.mov(ecx, RegistersSize / sizeof(ulong));
        _.rep.movsq();
    }

    /// <summary>Applies the patches of a response to a copy of the event's context, to the structure, or to the frame of the return, and returns. R8: the structure, R9: the copy, R10: the frame.</summary>
    private void EmitReturn()
    {
        Label patch = _.CreateLabel();
        Label patched = _.CreateLabel();
        Label wide = _.CreateLabel();
        Label half = _.CreateLabel();
        Label bySyscall = _.CreateLabel();
        Label ready = _.CreateLabel();
        Label go = _.CreateLabel();

        // Segments are those of now: a hypercall may have loaded one.
        _.Label(ref _back);
        _.lea(rsi, __[r12 + Context.Ds]);
        _.mov(ecx, (Context.Target - Context.Ds) / sizeof(ulong));
        _.rep.movsq();
        EmitCheckOfMsr(ready);
        _.Label(ref ready);
        _.mov(r11, Field(Mailbox.Response));
        _.mov(r8, Field(Mailbox.Structure));
        _.lea(r9, __[r15 + Mailbox.Scratch]);
        _.mov(rax, __qword_ptr[r11 + Answer.Target]);
        _.mov(__qword_ptr[r9 + Context.Target], rax);
        EmitFrame();

        _.mov(ecx, __dword_ptr[r11 + Answer.Patches]);
        _.mov(rsi, Field(Mailbox.NextCall));
        _.Label(ref patch);
        _.sub(ecx, 1);
        _.jc(patched);
        _.mov(edi, __dword_ptr[rsi]);
        _.mov(rax, __qword_ptr[rsi + 8]);
        _.movzx(ebx, __word_ptr[rsi + 6]);
        _.mov(rdx, r9);
        _.cmp(__word_ptr[rsi + 4], Record.OfStructure);
        _.cmove(rdx, r8);
        _.cmova(rdx, r10);
        _.add(rdi, rdx);
        _.add(rsi, Record.PatchSize);
        _.cmp(ebx, 4);
        _.ja(wide);
        _.je(half);
        _.mov(__word_ptr[rdi], ax);
        _.jmp(patch);
        _.Label(ref half);
        _.mov(__dword_ptr[rdi], eax);
        _.jmp(patch);
        _.Label(ref wide);
        _.mov(__qword_ptr[rdi], rax);
        _.jmp(patch);

        _.Label(ref patched);
        _.mov(Field(Mailbox.Batch.NextResponse), rsi);
        _.cmp(__byte_ptr[r11 + Answer.Return], (int)ReturnKind.Iretq);
        _.jne(bySyscall);
        _.mov(rax, __qword_ptr[r9 + Context.GprAt(4)]);
        _.mov(__qword_ptr[r10 + 24], rax);
        _.mov(__qword_ptr[r9 + Context.GprAt(4)], r10);
        _.mov(FieldOf(SystemRegister.PvcsEventVector, out int vectorWidth)!.Value, 0);
        _.jmp(go);

        // The payload or a patch of the frame may have overwritten the instruction.
        _.Label(ref bySyscall);
        _.mov(rax, __qword_ptr[r9 + Context.Target]);
        _.cmp(__word_ptr[rax], Syscall);
        _.jne(_takenAway);

        _.Label(ref go);
        _.mov(rsi, r9);
        _.cmp(__byte_ptr[r11 + Answer.Injects], 0);
        _.je(_enter);
        _.lea(rax, __[_inject]);
        _.mov(__qword_ptr[r9 + Context.Target], rax);
        _.jmp(_enter);
    }

    /// <summary>Asks the hypervisor where the return is, when the payload may have changed that.</summary>
    private void EmitCheckOfMsr(Label ready)
    {
        Label toUser = _.CreateLabel();
        _.mov(r11, Field(Mailbox.Response));
        _.cmp(__byte_ptr[r11 + Answer.Checked], 0);
        _.je(ready);
        _.mov(ebx, RetuRipMsr);
        _.cmp(__byte_ptr[r11 + Answer.Return], (int)ReturnKind.Erets);
        _.jne(toUser);
        _.mov(ebx, RetsRipMsr);
        _.Label(ref toUser);
        _.mov(eax, ReadMsrCall);
        _.syscall();
        _.mov(r11, Field(Mailbox.Response));
        _.cmp(rax, __qword_ptr[r11 + Answer.Target]);
        _.jne(_takenAway);
    }

    /// <summary>Finds or makes the frame of a return to supervisor mode: the one that the event pushed, else one of the structure's fields.</summary>
    private void EmitFrame()
    {
        Label done = _.CreateLabel();
        Label byInterruptReturn = _.CreateLabel();

        _.movzx(ecx, __byte_ptr[r11 + Answer.Return]);
        _.cmp(ecx, (int)ReturnKind.Eretu);
        _.je(done);
        _.cmp(ecx, (int)ReturnKind.Erets);
        _.mov(r10, GuestMap.AgentDataAddress);
        _.jne(byInterruptReturn);
        if (_first)
        {
            Label made = _.CreateLabel();
            _.mov(rcx, Field(Mailbox.Event));
            _.cmp(__dword_ptr[rcx + Context.Port], (int)AgentPort.SupervisorEntry);
            _.jne(made);
            _.mov(r10, __qword_ptr[r9 + Context.GprAt(4)]);
            _.jmp(done);
            _.Label(ref made);
        }

        SystemRegister[] fields =
        [
            SystemRegister.PvcsEventErrcode, SystemRegister.PvcsRip, SystemRegister.PvcsUserCs, SystemRegister.PvcsEflags, SystemRegister.PvcsRsp, SystemRegister.PvcsUserSs, SystemRegister.PvcsRcx,
            SystemRegister.PvcsR11,
        ];
        for (int i = 0; i < fields.Length; i++)
        {
            EmitLoadField(fields[i]);
            _.mov(__qword_ptr[r10 + (i * sizeof(ulong))], rax);
        }

        _.mov(__qword_ptr[r9 + Context.GprAt(4)], r10);
        _.jmp(done);

        _.Label(ref byInterruptReturn);
        EmitLoadField(SystemRegister.PvcsRip);
        _.mov(__qword_ptr[r10], rax);
        _.mov(__qword_ptr[r10 + 8], Selectors.UserCode64);
        EmitLoadField(SystemRegister.PvcsEflags);
        _.mov(__qword_ptr[r10 + 16], rax);
        _.mov(__qword_ptr[r10 + 32], Selectors.UserData);
        EmitLoadField(SystemRegister.PvcsRcx);
        _.mov(__qword_ptr[r9 + Context.GprAt(1)], rax);
        EmitLoadField(SystemRegister.PvcsR11);
        _.mov(__qword_ptr[r9 + Context.GprAt(11)], rax);
        _.Label(ref done);
    }

    /// <summary>Loads a field of the structure at R8 into RAX; 0 where the revision has none.</summary>
    private void EmitLoadField(SystemRegister register)
    {
        switch (FieldOf(register, out int width))
        {
            case null:
                _.xor(eax, eax);
                break;
            case AssemblerMemoryOperand field when width == 2:
                _.movzx(eax, field);
                break;
            case AssemblerMemoryOperand field when width == 4:
                _.mov(eax, field);
                break;
            case AssemblerMemoryOperand field:
                _.mov(rax, field);
                break;
        }
    }

    private AssemblerMemoryOperand? FieldOf(SystemRegister register, out int width)
    {
        foreach (PvcsField field in PvcsLayout.Of(_revision))
        {
            if (field.Register == register)
            {
                width = field.Width;
                return width switch
                {
                    2 => __word_ptr[r8 + field.Offset],
                    4 => __dword_ptr[r8 + field.Offset],
                    _ => __qword_ptr[r8 + field.Offset],
                };
            }
        }

        width = 0;
        return null;
    }
}
