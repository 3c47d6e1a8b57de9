using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Agents;

/// <summary>Where the agent of a backend has the registers of a machine state. All places are offsets in bytes; a state with its registers there is a context.</summary>
/// <remarks>An agent puts them where its entries and returns want them, and what else it records of an event behind them.</remarks>
internal sealed unsafe class ContextLayout
{
    /// <summary>Places of the general registers, in encoding order.</summary>
    public required ImmutableArray<int> Gpr { get; init; }

    /// <summary>Place of RIP.</summary>
    public required int Rip { get; init; }

    /// <summary>Place of RFLAGS.</summary>
    public required int Rflags { get; init; }

    /// <summary>Place of CS.</summary>
    public required int Cs { get; init; }

    /// <summary>Place of SS.</summary>
    public required int Ss { get; init; }

    /// <summary>Bytes that CS and SS take, 2 or 8.</summary>
    public required int FrameSelectorWidth { get; init; }

    /// <summary>Place of DS, ES, FS and GS, 16 bits each, which the bases of FS and GS follow, 64 bits each.</summary>
    public required int Segments { get; init; }

    /// <summary>What of a context a case or a response gives: this many bytes from its beginning, a multiple of 8.</summary>
    public required int SizeOfInput { get; init; }

    /// <summary>Size in a result.</summary>
    public required int Size { get; init; }

    private int Bases => Segments + (4 * sizeof(ushort));

    /// <summary>Writes registers; what else lies in the first <see cref="SizeOfInput"/> bytes becomes zero.</summary>
    public void Write(RegisterState registers, byte* context)
    {
        // SAFETY: the caller has room for the input of a context, in which all places lie.
        new Span<byte>(context, SizeOfInput).Clear();
        GprFile gpr = registers.Gpr;
        for (int i = 0; i < GprFile.Count; i++)
        {
            *(ulong*)(context + Gpr[i]) = gpr[i];
        }

        *(ulong*)(context + Rip) = registers.Rip;
        *(ulong*)(context + Rflags) = registers.Rflags;
        *(ushort*)(context + Cs) = registers.Cs;
        *(ushort*)(context + Ss) = registers.Ss;
        ushort* selectors = (ushort*)(context + Segments);
        (selectors[0], selectors[1], selectors[2], selectors[3]) = (registers.Ds, registers.Es, registers.Fs, registers.Gs);
        ulong* bases = (ulong*)(context + Bases);
        (bases[0], bases[1]) = (registers.FsBase, registers.GsBase);
    }

    /// <summary>Reads registers.</summary>
    public RegisterState Read(byte* context)
    {
        // SAFETY: as in Write.
        GprFile gpr = default;
        for (int i = 0; i < GprFile.Count; i++)
        {
            gpr[i] = *(ulong*)(context + Gpr[i]);
        }

        ushort* selectors = (ushort*)(context + Segments);
        ulong* bases = (ulong*)(context + Bases);
        return new RegisterState
        {
            Gpr = gpr,
            Rip = *(ulong*)(context + Rip),
            Rflags = *(ulong*)(context + Rflags),
            Cs = *(ushort*)(context + Cs),
            Ss = *(ushort*)(context + Ss),
            Ds = selectors[0],
            Es = selectors[1],
            Fs = selectors[2],
            Gs = selectors[3],
            FsBase = bases[0],
            GsBase = bases[1],
        };
    }

    /// <summary>Where a response changes a register, and how many bytes there: 2 or 8.</summary>
    public (int Place, int Width) PlaceOf(Register register) => register switch
    {
        <= Register.R15 => (Gpr[(int)register], 8),
        Register.Rip => (Rip, 8),
        Register.Rflags => (Rflags, 8),
        Register.Cs => (Cs, FrameSelectorWidth),
        Register.Ss => (Ss, FrameSelectorWidth),
        >= Register.Ds and <= Register.Gs => (Segments + (((int)register - (int)Register.Ds) * sizeof(ushort)), 2),
        Register.FsBase => (Bases, 8),
        Register.GsBase => (Bases + sizeof(ulong), 8),
        _ => throw new InvalidOperationException($"{register}: cannot be patched; the case was not checked"),
    };
}
