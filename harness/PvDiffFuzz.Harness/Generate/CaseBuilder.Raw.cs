using System.Runtime.InteropServices;
using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Generate;

/// <content>The second generator: bytes of a generated case, mutated without regard to instructions.</content>
internal partial class CaseBuilder
{
    private const int MutationAttempts = 8;
    private const int LongestRandom = 48;

    private readonly byte[] _raw = new byte[CodeBlock.MaximumLength];

    private protected TestCase? FinishRaw()
    {
        _code.Resolve(CodeTop - (ulong)_code.Length);
        for (int attempt = 0; attempt < MutationAttempts; attempt++)
        {
            int length = Mutate();
            ReadOnlySpan<byte> bytes = _raw.AsSpan(0, length);
            if (!IsExcluded(bytes) && !LoopsBack(bytes))
            {
                ulong address = CodeTop - (ulong)length;
                return Assemble(new CodeBlock(address, ImmutableCollectionsMarshal.AsImmutableArray(bytes.ToArray()), CodeSplitter.Split(bytes, _mode, _profile.Vendor)));
            }
        }

        return null;
    }

    /// <summary>Fills the raw buffer.</summary>
    /// <returns>Its length, at least 1.</returns>
    private int Mutate()
    {
        if (_random.Below(5) == 0)
        {
            int random = 1 + _random.Below(LongestRandom);
            for (int i = 0; i < random; i++)
            {
                _raw[i] = (byte)(_random.Next() >> 24);
            }

            return random;
        }

        int length = Math.Min(_code.Length, CodeBlock.MaximumLength - 64);
        _code.Bytes[..length].CopyTo(_raw);
        int mutations = 1 + _random.Below(4);
        for (int i = 0; i < mutations; i++)
        {
            length = MutateOnce(length);
        }

        return length;
    }

    private int MutateOnce(int length)
    {
        int at = _random.Below(length);
        switch (_random.Below(6))
        {
            case 0:
                _raw[at] ^= (byte)(1 << _random.Below(8));
                return length;
            case 1:
                _raw[at] = (byte)(_random.Next() >> 24);
                return length;
            case 2:
                _raw[at] = _random.Pick(EdgeValues.Bytes.AsSpan());
                return length;
            case 3:
                _raw.AsSpan(at, length - at).CopyTo(_raw.AsSpan(at + 1));
                _raw[at] = _random.Percent(50) ? (byte)(_random.Next() >> 24) : _random.Pick<byte>([0x66, 0x67, 0xf0, 0xf2, 0xf3, 0x2e, 0x48, 0x4f, 0x0f, 0x64]);
                return length + 1;
            case 4 when length > 1:
                _raw.AsSpan(at + 1, length - at - 1).CopyTo(_raw.AsSpan(at));
                return length - 1;
            default:
                // Splice: one part of the code over another.
                int from = _random.Below(length);
                int count = Math.Min(1 + _random.Below(12), length - Math.Max(from, at));
                _raw.AsSpan(from, count).CopyTo(_raw.AsSpan(at));
                return length;
        }
    }

    /// <summary>True when a branch on the linear sweep goes back into the code or into itself: almost always an endless loop.</summary>
    private bool LoopsBack(ReadOnlySpan<byte> bytes)
    {
        byte[] code = bytes.ToArray();
        ByteArrayCodeReader reader = new(code);
        Decoder decoder = Decoder.Create(Long64 ? 64 : 32, reader, 0x1_0000, DecoderOptions.None);
        for (int at = 0; at < code.Length;)
        {
            reader.Position = at;
            decoder.IP = 0x1_0000 + (ulong)at;
            decoder.Decode(out Instruction instruction);
            if (!instruction.IsInvalid && instruction.Op0Kind is OpKind.NearBranch16 or OpKind.NearBranch32 or OpKind.NearBranch64)
            {
                // In front of the code stand zeros, which execute as ADD and come back to it.
                long target = (long)instruction.NearBranchTarget - 0x1_0000;
                if (target < at + instruction.Length && target > -2 * PageLayout.PageSize)
                {
                    return true;
                }
            }

            at += instruction.IsInvalid ? 1 : instruction.Length;
        }

        return false;
    }
}
