using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Generate;

/// <summary>Collects instructions whose final addresses are known only when the last one is written, since code ends at a fixed address.</summary>
internal sealed class CodeWriter
{
    private const int Capacity = CodeBlock.MaximumLength;

    private readonly byte[] _bytes = new byte[Capacity + TemplateEncoder.MaximumLength];
    private readonly int[] _starts = new int[Capacity + 1];
    private readonly bool[] _inside = new bool[Capacity + 1];
    private readonly Fixup[] _fixups = new Fixup[Capacity];
    private int _fixupCount;
    private bool _unshifted;

    private enum FixupKind : byte
    {
        Data,
        Branch,
        Absolute,
    }

    /// <summary>Instructions written.</summary>
    public int Count { get; private set; }

    /// <summary>Bytes written.</summary>
    public int Length { get; private set; }

    /// <summary>True when another instruction may not fit.</summary>
    public bool Full => Length > Capacity - 64 || _fixupCount > Capacity - 8;

    /// <summary>The bytes so far; complete after <see cref="Resolve"/>.</summary>
    public Span<byte> Bytes => _bytes.AsSpan(0, Length);

    /// <summary>Forgets everything.</summary>
    public void Clear()
    {
        Count = 0;
        Length = 0;
        _fixupCount = 0;
        _unshifted = false;
    }

    /// <summary>Adds an instruction.</summary>
    /// <param name="instruction">Its bytes.</param>
    /// <param name="inside">True when it belongs to the instruction before it, so that no generated branch goes between them.</param>
    public void Add(ReadOnlySpan<byte> instruction, bool inside)
    {
        instruction.CopyTo(_bytes.AsSpan(Length));
        _starts[Count] = Length;
        _inside[Count] = inside;
        Count++;
        Length += instruction.Length;
    }

    /// <summary>From here on no branch of the case lands inside an instruction: this one holds another that must not run by itself.</summary>
    public void KeepWhole() => _unshifted = true;

    /// <summary>The last instruction's displacement reaches a linear address.</summary>
    /// <param name="at">Offset of the 32-bit displacement in the instruction.</param>
    /// <param name="target">Linear address.</param>
    public void AimAtData(int at, ulong target) => AddFixup(new Fixup(FixupKind.Data, _starts[Count - 1] + at, 4, Length, target, 0));

    /// <summary>The last instruction's branch displacement reaches a later instruction.</summary>
    /// <param name="at">Offset of the displacement in the instruction.</param>
    /// <param name="size">Its bytes: 1, 2 or 4.</param>
    /// <param name="ahead">How many instructions to skip.</param>
    /// <param name="shift">Bytes to add to the target, to land inside an instruction.</param>
    public void AimAhead(int at, int size, int ahead, int shift) =>
        AddFixup(new Fixup(FixupKind.Branch, _starts[Count - 1] + at, (byte)size, Length, (ulong)(Count + ahead), shift));

    /// <summary>The last instruction's immediate is the linear address of a later instruction.</summary>
    /// <param name="at">Offset of the immediate in the instruction.</param>
    /// <param name="size">Its bytes: 4 or 8.</param>
    /// <param name="ahead">How many instructions to skip.</param>
    public void AddressAhead(int at, int size, int ahead) =>
        AddFixup(new Fixup(FixupKind.Absolute, _starts[Count - 1] + at, (byte)size, Length, (ulong)(Count + ahead), 0));

    /// <summary>Offset of an instruction, or of the end for numbers past the last.</summary>
    public int OffsetOf(int instruction) => instruction >= Count ? Length : _starts[instruction];

    /// <summary>Offset of the first instruction from <paramref name="instruction"/> on that a branch may reach.</summary>
    public int BoundaryFrom(int instruction)
    {
        while (instruction < Count && _inside[instruction])
        {
            instruction++;
        }

        return OffsetOf(instruction);
    }

    /// <summary>Fills in displacements and addresses now that the place of the code is known.</summary>
    /// <param name="address">Linear address of the first byte.</param>
    public void Resolve(ulong address)
    {
        for (int i = 0; i < _fixupCount; i++)
        {
            Fixup fixup = _fixups[i];
            Span<byte> place = _bytes.AsSpan(fixup.At);
            switch (fixup.Kind)
            {
                case FixupKind.Data:
                    BinaryPrimitives.WriteInt32LittleEndian(place, (int)(fixup.Target - address - (ulong)fixup.End));
                    break;
                case FixupKind.Absolute:
                    ulong target = address + (ulong)BoundaryFrom((int)fixup.Target);
                    if (fixup.Size == 8)
                    {
                        BinaryPrimitives.WriteUInt64LittleEndian(place, target);
                    }
                    else
                    {
                        BinaryPrimitives.WriteUInt32LittleEndian(place, (uint)target);
                    }

                    break;
                default:
                    WriteBranch(in fixup, place);
                    break;
            }
        }
    }

    /// <summary>Lengths of the instructions.</summary>
    public ImmutableArray<byte> Lengths()
    {
        byte[] lengths = new byte[Count];
        for (int i = 0; i < lengths.Length; i++)
        {
            lengths[i] = (byte)(OffsetOf(i + 1) - _starts[i]);
        }

        return ImmutableCollectionsMarshal.AsImmutableArray(lengths);
    }

    private void WriteBranch(in Fixup fixup, Span<byte> place)
    {
        int instruction = (int)fixup.Target;
        int distance = BoundaryFrom(instruction) - fixup.End;
        while (fixup.Size == 1 && distance > 100)
        {
            instruction--;
            distance = BoundaryFrom(instruction) - fixup.End;
        }

        distance += _unshifted ? 0 : fixup.Shift;
        switch (fixup.Size)
        {
            case 1:
                place[0] = (byte)distance;
                break;
            case 2:
                BinaryPrimitives.WriteInt16LittleEndian(place, (short)distance);
                break;
            default:
                BinaryPrimitives.WriteInt32LittleEndian(place, distance);
                break;
        }
    }

    private void AddFixup(Fixup fixup) => _fixups[_fixupCount++] = fixup;

    private readonly record struct Fixup(FixupKind Kind, int At, byte Size, int End, ulong Target, int Shift);
}
