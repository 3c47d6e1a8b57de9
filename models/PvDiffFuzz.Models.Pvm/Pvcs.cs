using System.Buffers.Binary;
using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>The per-VCPU structure in memory, by the names of its fields.</summary>
/// <typeparam name="TAbi">The revision, whose layout it has.</typeparam>
/// <param name="bytes">The structure, at least <see cref="PvcsLayout.Size"/> bytes.</param>
[Spec("PVM rfc1", "MSR_PVM_VCPU_CTRL_STRUCT")]
internal readonly ref struct Pvcs<TAbi>(Span<byte> bytes)
    where TAbi : struct, IPvmAbi
{
    private const int Fields = SystemRegister.PvcsR11 - SystemRegister.PvcsEventFlags + 1;

    private static readonly PvcsField[] Places = Index();

    private readonly Span<byte> _bytes = bytes;

    /// <summary>A field, zero-extended. A value that is too wide loses its upper bits; a field that the revision does not have reads 0 and is not written.</summary>
    public ulong this[SystemRegister field]
    {
        get
        {
            PvcsField place = Places[field - SystemRegister.PvcsEventFlags];
            ReadOnlySpan<byte> at = _bytes[place.Offset..];
            return place.Width switch
            {
                8 => BinaryPrimitives.ReadUInt64LittleEndian(at),
                4 => BinaryPrimitives.ReadUInt32LittleEndian(at),
                2 => BinaryPrimitives.ReadUInt16LittleEndian(at),
                _ => 0,
            };
        }

        set
        {
            PvcsField place = Places[field - SystemRegister.PvcsEventFlags];
            Span<byte> at = _bytes[place.Offset..];
            switch (place.Width)
            {
                case 8:
                    BinaryPrimitives.WriteUInt64LittleEndian(at, value);
                    break;
                case 4:
                    BinaryPrimitives.WriteUInt32LittleEndian(at, (uint)value);
                    break;
                case 2:
                    BinaryPrimitives.WriteUInt16LittleEndian(at, (ushort)value);
                    break;
            }
        }
    }

    /// <summary>The bytes of the structure, as the frame of an event.</summary>
    public ImmutableArray<byte> ToFrame() => ImmutableArray.Create<byte>(_bytes[..PvcsLayout.Size]);

    private static PvcsField[] Index()
    {
        PvcsField[] places = new PvcsField[Fields];
        foreach (PvcsField field in PvcsLayout.Of(TAbi.Revision))
        {
            places[field.Register - SystemRegister.PvcsEventFlags] = field;
        }

        return places;
    }
}
