using System.Buffers.Binary;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness;

/// <summary>Changes one instruction: a bit of its bytes, an immediate or a displacement, a prefix more or less. What comes out is cut into instructions anew.</summary>
internal sealed class EncodingMutation : IMutation
{
    /// <inheritdoc/>
    public int Weight => 20;

    private static ReadOnlySpan<byte> Prefixes => [0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x40, 0x41, 0x42, 0x44, 0x48, 0x49, 0x4c, 0x4f];

    /// <inheritdoc/>
    public TestCase? Apply(TestCase testCase, TestCase donor, ref CounterRandom random, MutationContext context)
    {
        CodePiece[] pieces = CodeEdit.PiecesOf(testCase.Code);
        int at = random.Below(pieces.Length);
        byte[] bytes = [.. pieces[at].Bytes];
        switch (random.Below(9))
        {
            case 0 or 1:
                bytes[random.Below(bytes.Length)] ^= (byte)(1 << random.Below(8));
                break;
            case 2:
                bytes[^1] = random.Pick(EdgeValues.Bytes.AsSpan());
                break;
            case 3 when bytes.Length > 4:
                BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(^4..), (uint)random.Pick(EdgeValues.Operands.AsSpan()));
                break;
            case 4 when bytes.Length > 4:
                Span<byte> field = bytes.AsSpan(^4..);
                BinaryPrimitives.WriteUInt32LittleEndian(field, BinaryPrimitives.ReadUInt32LittleEndian(field) + (uint)(random.Below(33) - 16));
                break;
            case 5 when bytes.Length > 1 && CodeEdit.IsPrefix(bytes[0], testCase.Mode):
                bytes = bytes[1..];
                break;
            case 6 when bytes.Length < CodeSplitter.MaximumInstructionLength:
                // Among the prefixes that are there: REX counts only right before the opcode.
                int prefixes = 0;
                while (prefixes < bytes.Length - 1 && CodeEdit.IsPrefix(bytes[prefixes], testCase.Mode))
                {
                    prefixes++;
                }

                int place = random.Below(prefixes + 1);
                bytes = [.. bytes[..place], random.Pick(Prefixes), .. bytes[place..]];
                break;
            case 7:
                // A register in the place of a memory operand, if it is ModRM.
                bytes[random.Below(bytes.Length)] |= 0xc0;
                break;
            default:
                bytes[random.Below(bytes.Length)] = (byte)(random.Next() >> 24);
                break;
        }

        if (bytes.AsSpan().SequenceEqual(pieces[at].Bytes.AsSpan()))
        {
            return null;
        }

        pieces[at] = pieces[at] with { Bytes = ImmutableCollectionsMarshal.AsImmutableArray(bytes) };
        return CodeEdit.Arrange(testCase, pieces, context.Vendor) is TestCase changed
            ? changed with { Code = changed.Code with { Lengths = CodeSplitter.Split(changed.Code.Bytes.AsSpan(), changed.Mode, context.Vendor) } }
            : null;
    }
}
