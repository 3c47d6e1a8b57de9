using System.Collections.Immutable;
using Iced.Intel;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Agents;

/// <summary>Assembler macros that move the payload's registers between the processor and a context.</summary>
/// <remarks>Some macros end with a label, which belongs to the instruction that comes next.</remarks>
internal static class RegisterMacros
{
    private static readonly AssemblerRegister64[] General = [rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15];
    private static readonly AssemblerRegisterSegment[] Segments = [ds, es, fs, gs];

    /// <summary>Stores general registers in the context at R14.</summary>
    /// <param name="_">The assembler.</param>
    /// <param name="places">Their places in the context, in encoding order.</param>
    /// <param name="but">Registers that are not stored.</param>
    public static void StoreRegisters(this Assembler _, ImmutableArray<int> places, params ReadOnlySpan<AssemblerRegister64> but)
    {
        for (int i = 0; i < General.Length; i++)
        {
            if (!but.Contains(General[i]))
            {
                _.mov(__qword_ptr[r14 + places[i]], General[i]);
            }
        }
    }

    /// <summary>Loads general registers from the context at RSI, and RSI last.</summary>
    /// <param name="_">The assembler.</param>
    /// <param name="places">Their places in the context, in encoding order.</param>
    /// <param name="but">Registers that are not loaded.</param>
    public static void LoadRegisters(this Assembler _, ImmutableArray<int> places, params ReadOnlySpan<AssemblerRegister64> but)
    {
        for (int i = 0; i < General.Length; i++)
        {
            if (General[i] != rsi && !but.Contains(General[i]))
            {
                _.mov(General[i], __qword_ptr[rsi + places[i]]);
            }
        }

        _.mov(rsi, __qword_ptr[rsi + places[Array.IndexOf(General, rsi)]]);
    }

    /// <summary>Stores DS, ES, FS and GS.</summary>
    /// <param name="_">The assembler.</param>
    /// <param name="first">Where the first of four words is.</param>
    /// <param name="through">A register to change.</param>
    /// <param name="low">Its low 16 bits.</param>
    public static void StoreSelectors(this Assembler _, AssemblerMemoryOperand first, AssemblerRegister32 through, AssemblerRegister16 low)
    {
        for (int i = 0; i < Segments.Length; i++)
        {
            _.mov(through, Segments[i]);
            _.mov(first + (i * sizeof(ushort)), low);
        }
    }

    /// <summary>Loads DS, ES, FS and GS, unless they are there already: comparing costs much less than loading. Changes RAX and RCX.</summary>
    /// <param name="_">The assembler.</param>
    /// <param name="first">Where the first of four words is.</param>
    public static void LoadSelectors(this Assembler _, AssemblerMemoryOperand first)
    {
        for (int i = 0; i < Segments.Length; i++)
        {
            Label same = _.CreateLabel();
            _.movzx(eax, first + (i * sizeof(ushort)));
            _.mov(ecx, Segments[i]);
            _.cmp(eax, ecx);
            _.je(same);
            _.mov(Segments[i], eax);
            _.Label(ref same);
        }
    }

    /// <summary>Stores the bases of FS and GS.</summary>
    /// <param name="_">The assembler.</param>
    /// <param name="first">Where the first of two quadwords is.</param>
    /// <param name="through">A register to change.</param>
    public static void StoreBases(this Assembler _, AssemblerMemoryOperand first, AssemblerRegister64 through)
    {
        _.rdfsbase(through);
        _.mov(first, through);
        _.rdgsbase(through);
        _.mov(first + sizeof(ulong), through);
    }

    /// <summary>Loads the bases of FS and GS. Changes RAX.</summary>
    /// <param name="_">The assembler.</param>
    /// <param name="first">Where the first of two quadwords is.</param>
    public static void LoadBases(this Assembler _, AssemblerMemoryOperand first)
    {
        _.mov(rax, first);
        _.wrfsbase(rax);
        _.mov(rax, first + sizeof(ulong));
        _.wrgsbase(rax);
    }
}
