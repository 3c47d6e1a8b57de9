using Iced.Intel;
using PvDiffFuzz.Core;
using static Iced.Intel.AssemblerRegisters;
using static PvDiffFuzz.Backends.Xen.XenAbi;

namespace PvDiffFuzz.Backends.Xen;

/// <content>The end of a case: what it has written.</content>
internal sealed partial class AgentCode
{
    /// <summary>Bytes of a page that are tested at once.</summary>
    private const int Block = 128;

    /// <summary>Written pages, counted over cases, from which on looking at them costs more than clearing their marks.</summary>
    private const int ManyDirtyPages = 6;

    /// <summary>Ends a case: reports and clears the pages that were written, clears what the case had in others, and goes on.</summary>
    private void EmitFinish()
    {
        Label look = _.CreateLabel();
        Label page = _.CreateLabel();
        Label block = _.CreateLabel();
        Label clean = _.CreateLabel();
        Label word = _.CreateLabel();
        Label pageDone = _.CreateLabel();
        Label looked = _.CreateLabel();
        Label run = _.CreateLabel();
        Label clear = _.CreateLabel();
        Label cleared = _.CreateLabel();
        Label notSwitched = _.CreateLabel();
        Label fewDirty = _.CreateLabel();

        _.Label(ref _finish);
        _.test(__dword_ptr[r13 + Record.Flags], (int)RecordFlags.ClearTaskSwitched);
        _.jz(notSwitched);
        _.xor(edi, edi);
        _.mov(eax, (int)HYPERVISOR_fpu_taskswitch);
        _.syscall();
        _.Label(ref notSwitched);
        _.pxor(xmm7, xmm7);
        _.mov(r8, GuestMap.At(GuestMap.Pool));
        _.mov(rsi, GuestMap.At(GuestMap.DirtyList));
        _.mov(r9, Field(Mailbox.DirtyCount));
        _.mov(rbx, Field(Mailbox.Header));
        _.mov(ebp, __dword_ptr[r13 + Record.Flags]);
        _.Label(ref look);
        _.sub(r9, 1);
        _.jc(looked);
        _.mov(rax, __qword_ptr[rsi + DirtyEntry.First]);
        _.mov(rdx, __qword_ptr[rsi + DirtyEntry.Second]);
        _.add(rsi, DirtyEntry.Size);
        _.test(__byte_ptr[rax], (sbyte)PageTables.Dirty);
        _.jnz(page);
        _.test(ebp, (int)RecordFlags.UserMode);
        _.jz(look);
        _.test(__byte_ptr[rdx], (sbyte)PageTables.Dirty);
        _.jz(look);

        _.Label(ref page);
        _.inc(__dword_ptr[rbx + Result.DirtyPages]);
        _.mov(r10, __qword_ptr[rsi + DirtyEntry.Offset - DirtyEntry.Size]);
        _.lea(rax, __[r10 + 1]);
        _.mov(__qword_ptr[r14], rax);
        _.add(r14, Result.WordSize);
        _.lea(rdi, __[r8 + r10]);
        _.mov(r11d, PageLayout.PageSize / Block);
        _.Label(ref block);
        EmitTestBlock();
        _.je(clean);

        // Every word is written to the result, but the pointer moves on only past those that are not zero.
        _.mov(edx, Block / 8);
        _.Label(ref word);
        _.mov(rax, __qword_ptr[rdi]);
        _.xor(ecx, ecx);
        _.mov(__qword_ptr[r14], r10);
        _.mov(__qword_ptr[r14 + 8], rax);
        _.mov(__qword_ptr[rdi], rcx);
        _.test(rax, rax);
        _.setne(cl);
        _.shl(ecx, 4);
        _.add(r14, rcx);
        _.add(rdi, 8);
        _.add(r10, 8);
        _.dec(edx);
        _.jnz(word);
        _.jmp(pageDone);
        _.Label(ref clean);
        _.add(rdi, Block);
        _.add(r10, Block);
        _.Label(ref pageDone);
        _.dec(r11d);
        _.jnz(block);
        _.jmp(look);

        _.Label(ref looked);
        _.mov(Field(Mailbox.Result), r14);
        _.mov(__qword_ptr[rbx + Result.EndAt], r14);
        _.cmp(__dword_ptr[rbx + Result.DirtyPages], ManyDirtyPages);
        _.jb(fewDirty);
        EmitClearMarks();
        _.Label(ref fewDirty);
        _.mov(ebx, __dword_ptr[r13 + Record.Runs]);
        _.mov(esi, __dword_ptr[r13 + Record.RunsAt]);
        _.add(rsi, r13);
        _.xor(eax, eax);
        _.Label(ref run);
        _.sub(ebx, 1);
        _.jc(cleared);
        _.mov(edi, __dword_ptr[rsi]);
        _.mov(ecx, __dword_ptr[rsi + 4]);
        _.lea(rsi, __[rsi + (rcx * 8) + Record.RunHead]);
        _.add(rdi, r8);
        _.Label(ref clear);
        _.mov(__qword_ptr[rdi], rax);
        _.add(rdi, 8);
        _.dec(ecx);
        _.jnz(clear);
        _.jmp(run);

        _.Label(ref cleared);
        _.mov(rbx, Field(Mailbox.Slot));
        _.inc(__qword_ptr[rbx + Mailbox.SlotFinished]);
        _.mov(Field(Mailbox.Busy), 0);
        _.mov(eax, __dword_ptr[r13 + Record.Length]);
        _.add(rax, r13);
        _.mov(Field(Mailbox.Record), rax);
        EmitCheckTables();
        _.jmp(_nextRecord);
    }

    /// <summary>VIF and VIP.</summary>
    private const int VirtualInterruptFlags = 0x18_0000;

    /// <summary>
    /// Stops, until the snapshot is loaded, when the case has left something that Xen knows nothing of. The emulator lets MOV to the segment registers 6 and 7 load LDTR and TR, and IRET of 32-bit code VIF and VIP,
    /// which nothing clears again. Changes RAX, RBX, RCX and RDX.
    /// </summary>
    private void EmitCheckTables()
    {
        Label same = _.CreateLabel();
        Label torn = _.CreateLabel();
        Label stop = _.CreateLabel();

        _.mov(edx, Field32(Mailbox.TableSelectors));
        _.test(edx, edx);
        _.jz(same);
        _.pushfq();
        _.pop(rax);
        _.test(eax, VirtualInterruptFlags);
        _.jnz(torn);
        EmitReadTables();
        _.cmp(eax, edx);
        _.je(same);
        _.Label(ref torn);
        _.mov(Field(Mailbox.Torn), 1);
        _.mov(rbx, Field(Mailbox.Slot));
        _.mov(__dword_ptr[rbx + Mailbox.SlotState], (int)Mailbox.Full);
        _.Label(ref stop);
        _.pause();
        _.jmp(stop);
        _.Label(ref same);
    }

    /// <summary>Clears the marks of all written pages. Keeps R8 and R12 to R15.</summary>
    private void EmitClearMarks()
    {
        Label look = _.CreateLabel();
        Label listed = _.CreateLabel();

        _.mov(rsi, GuestMap.At(GuestMap.DirtyList));
        _.mov(rdi, GuestMap.At(GuestMap.Updates));
        _.mov(rbp, rdi);
        _.mov(r9, Field(Mailbox.DirtyCount));
        _.Label(ref look);
        _.sub(r9, 1);
        _.jc(listed);
        foreach ((int entry, int update) in (ReadOnlySpan<(int, int)>)[(DirtyEntry.First, DirtyEntry.FirstUpdate), (DirtyEntry.Second, DirtyEntry.SecondUpdate)])
        {
            Label unmarked = _.CreateLabel();
            _.mov(rax, __qword_ptr[rsi + entry]);
            _.test(__byte_ptr[rax], (sbyte)PageTables.Dirty);
            _.jz(unmarked);
            _.mov(rax, __qword_ptr[rsi + update]);
            _.mov(rdx, __qword_ptr[rsi + update + 8]);
            _.mov(__qword_ptr[rdi], rax);
            _.mov(__qword_ptr[rdi + 8], rdx);
            _.add(rdi, 16);
            _.Label(ref unmarked);
        }

        _.add(rsi, DirtyEntry.Size);
        _.jmp(look);

        _.Label(ref listed);
        _.mov(rbx, r8);
        _.mov(rsi, rdi);
        _.sub(rsi, rbp);
        _.shr(rsi, 4);
        _.mov(rdi, rbp);
        _.xor(edx, edx);
        _.mov(r10d, (int)DOMID_SELF);
        _.mov(eax, (int)HYPERVISOR_mmu_update);
        _.syscall();
        _.lea(rdi, Field(Mailbox.Flush));
        _.mov(esi, 1);
        _.xor(edx, edx);
        _.mov(r10d, (int)DOMID_SELF);
        _.mov(eax, (int)HYPERVISOR_mmuext_op);
        _.syscall();
        _.mov(r8, rbx);
    }

    /// <summary>Sets ZF when the block at RDI is all zero.</summary>
    private void EmitTestBlock()
    {
        _.movdqa(xmm0, __xmmword_ptr[rdi]);
        for (int i = 16; i < Block; i += 16)
        {
            _.por(xmm0, __xmmword_ptr[rdi + i]);
        }

        _.pcmpeqb(xmm0, xmm7);
        _.pmovmskb(eax, xmm0);
        _.cmp(eax, 0xffff);
    }
}
