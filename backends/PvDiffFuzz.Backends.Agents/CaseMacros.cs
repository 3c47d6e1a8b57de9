using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Agents;

/// <summary>Assembler macros for the life of a case. R15 is the mailbox, R14 the next byte of results, R13 the record.</summary>
/// <remarks>Some macros end with a label, which belongs to the instruction that comes next.</remarks>
internal static class CaseMacros
{
    /// <summary>Takes the next record: sets R13 and R14.</summary>
    /// <param name="_">The assembler.</param>
    /// <param name="batch">Where the mailbox has the batch.</param>
    /// <param name="none">Where to go when there is no record, or no room for its result.</param>
    public static void TakeRecord(this Assembler _, BatchFields batch, Label none)
    {
        _.mov(r13, Field(batch.Record));
        _.cmp(r13, Field(batch.RequestEnd));
        _.jae(none);
        _.mov(r14, Field(batch.Result));
        _.cmp(r14, Field(batch.ResultLimit));
        _.ja(none);
    }

    /// <summary>Opens the result of the record at R13, and goes to its first response. Changes RAX.</summary>
    /// <param name="_">The assembler.</param>
    /// <param name="layout">Contexts of the agent.</param>
    /// <param name="batch">Where the mailbox has the batch.</param>
    public static void OpenResult(this Assembler _, ContextLayout layout, BatchFields batch)
    {
        _.mov(Field(batch.Header), r14);
        _.mov(__qword_ptr[r14 + Result.Events], 0);
        _.add(r14, Result.HeaderSize);
        _.mov(Field(batch.Result), r14);
        _.mov(eax, __dword_ptr[r13 + Record.Responses]);
        _.mov(__dword_ptr[r15 + batch.ResponsesLeft], eax);
        _.mov(eax, __dword_ptr[r13 + Record.ResponsesAt(layout)]);
        _.add(rax, r13);
        _.mov(Field(batch.NextResponse), rax);
    }

    /// <summary>Applies the next response to a copy of the event's context. Changes RAX, RCX, RSI and RDI.</summary>
    /// <param name="_">The assembler.</param>
    /// <param name="batch">Where the mailbox has the batch.</param>
    /// <param name="copy">Where the mailbox has the copy.</param>
    public static void ApplyResponse(this Assembler _, BatchFields batch, int copy)
    {
        Label patch = _.CreateLabel();
        Label narrow = _.CreateLabel();
        Label patched = _.CreateLabel();

        _.mov(rsi, Field(batch.NextResponse));
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
        _.mov(__qword_ptr[r15 + rdi + copy], rax);
        _.jmp(patch);
        _.Label(ref narrow);
        _.mov(__word_ptr[r15 + rdi + copy], ax);
        _.jmp(patch);
        _.Label(ref patched);
        _.mov(Field(batch.NextResponse), rsi);
    }

    /// <summary>Ends the result at R14 and goes on to the next record.</summary>
    /// <param name="_">The assembler.</param>
    /// <param name="batch">Where the mailbox has the batch.</param>
    /// <param name="next">Where the agent takes the next record.</param>
    public static void CloseCase(this Assembler _, BatchFields batch, Label next)
    {
        _.mov(Field(batch.Result), r14);
        _.mov(rbx, Field(batch.Header));
        _.mov(__qword_ptr[rbx + Result.EndAt], r14);
        _.mov(eax, __dword_ptr[r13 + Record.Length]);
        _.add(rax, r13);
        _.mov(Field(batch.Record), rax);
        _.jmp(next);
    }

    private static AssemblerMemoryOperand Field(int offset) => __qword_ptr[r15 + offset];
}
