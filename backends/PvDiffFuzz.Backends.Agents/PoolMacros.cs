using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Agents;

/// <summary>Assembler macros for the payload's pages, which the agent has at R8, one after the other, those that the payload can write first.</summary>
/// <remarks>Some macros end with a label, which belongs to the instruction that comes next.</remarks>
internal static class PoolMacros
{
    private const int RunLength = 0x7fff_ffff;

    /// <summary>Goes to the first memory run of the record at R13: RSI is its address, EBX how many there are.</summary>
    /// <param name="_">The assembler.</param>
    /// <param name="layout">Contexts of the agent.</param>
    public static void FindRuns(this Assembler _, ContextLayout layout)
    {
        _.mov(ebx, __dword_ptr[r13 + Record.Runs(layout)]);
        _.lea(rsi, __[r13 + Record.FirstRun(layout)]);
    }

    /// <summary>Writes the runs that <see cref="FindRuns"/> has found. Changes RAX, RCX, RBX, RSI and RDI.</summary>
    /// <param name="_">The assembler.</param>
    public static void WriteRuns(this Assembler _)
    {
        Label run = _.CreateLabel();
        Label copy = _.CreateLabel();
        Label written = _.CreateLabel();

        _.Label(ref run);
        _.sub(ebx, 1);
        _.jc(written);
        _.mov(edi, __dword_ptr[rsi]);
        _.mov(ecx, __dword_ptr[rsi + 4]);
        _.add(rsi, 8);
        _.add(rdi, r8);
        _.and(ecx, RunLength);
        _.Label(ref copy);
        _.mov(rax, __qword_ptr[rsi]);
        _.mov(__qword_ptr[rdi], rax);
        _.add(rsi, 8);
        _.add(rdi, 8);
        _.dec(ecx);
        _.jnz(copy);
        _.jmp(run);
        _.Label(ref written);
    }

    /// <summary>Clears the runs that <see cref="FindRuns"/> has found, as far as the payload cannot write there. Changes RAX, RCX, RDX, RBX, RSI and RDI.</summary>
    /// <param name="_">The assembler.</param>
    public static void ClearReadOnlyRuns(this Assembler _)
    {
        Label run = _.CreateLabel();
        Label clear = _.CreateLabel();
        Label cleared = _.CreateLabel();

        _.xor(eax, eax);
        _.Label(ref run);
        _.sub(ebx, 1);
        _.jc(cleared);
        _.mov(edi, __dword_ptr[rsi]);
        _.mov(ecx, __dword_ptr[rsi + 4]);
        _.mov(edx, ecx);
        _.and(edx, RunLength);
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
    }

    /// <summary>Moves what writable pages hold to the result at R14, as pairs of pool offset and value. Changes RAX, RCX, RDX, RBX, RSI, RDI and vector registers.</summary>
    /// <param name="_">The assembler.</param>
    /// <param name="batch">Where the mailbox has the batch.</param>
    /// <param name="block">Bytes that are tested at once, a multiple of 64 that divides a page.</param>
    /// <param name="wide">True to test with AVX2.</param>
    public static void MoveWords(this Assembler _, BatchFields batch, int block, bool wide)
    {
        Label next = _.CreateLabel();
        Label clean = _.CreateLabel();
        Label word = _.CreateLabel();
        Label moved = _.CreateLabel();

        _.pxor(xmm7, xmm7);
        _.mov(rsi, r8);
        _.mov(rdi, __qword_ptr[r15 + batch.ScanEnd]);
        _.Label(ref next);
        _.cmp(rsi, rdi);
        _.jae(moved);
        if (wide)
        {
            _.TestBlockWide(block);
        }
        else
        {
            _.TestBlock(block);
        }

        _.je(clean);

        // Every word is written to the result, but the pointer moves on only past those that are not zero.
        _.mov(rdx, rsi);
        _.sub(rdx, r8);
        _.mov(ebx, block / sizeof(ulong));
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
        _.jmp(next);

        _.Label(ref clean);
        _.add(rsi, block);
        _.jmp(next);
        _.Label(ref moved);
    }

    /// <summary>Sets ZF when the block at RSI is all zero; XMM7 is.</summary>
    private static void TestBlock(this Assembler _, int block)
    {
        _.movdqa(xmm0, __xmmword_ptr[rsi]);
        _.movdqa(xmm1, __xmmword_ptr[rsi + 16]);
        for (int i = 32; i < block; i += 32)
        {
            _.por(xmm0, __xmmword_ptr[rsi + i]);
            _.por(xmm1, __xmmword_ptr[rsi + i + 16]);
        }

        _.por(xmm0, xmm1);
        _.pcmpeqb(xmm0, xmm7);
        _.pmovmskb(eax, xmm0);
        _.cmp(eax, 0xffff);
    }

    /// <summary>As <see cref="TestBlock"/>, with AVX2.</summary>
    private static void TestBlockWide(this Assembler _, int block)
    {
        _.vmovdqa(ymm0, __ymmword_ptr[rsi]);
        _.vmovdqa(ymm1, __ymmword_ptr[rsi + 32]);
        for (int i = 64; i < block; i += 64)
        {
            _.vpor(ymm0, ymm0, __ymmword_ptr[rsi + i]);
            _.vpor(ymm1, ymm1, __ymmword_ptr[rsi + i + 32]);
        }

        _.vpor(ymm0, ymm0, ymm1);
        _.vptest(ymm0, ymm0);
    }
}
