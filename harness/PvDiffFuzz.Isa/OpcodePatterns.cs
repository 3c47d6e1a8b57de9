using System.Buffers;
using System.Collections.Frozen;
using Iced.Intel;

namespace PvDiffFuzz.Isa;

/// <summary>Opcode bytes of excluded forms, whatever prefixes stand before them.</summary>
/// <remarks>Indexed by the byte after 0x0f: a set of third bytes (ModRM, or the opcode in the 0x0f 0x38 map). XBEGIN is the one excluded form outside these maps.</remarks>
internal sealed class OpcodePatterns
{
    private const byte Escape = 0x0f;
    private const byte XbeginOpcode = 0xc7;
    private const byte XbeginModRm = 0xf8;

    private readonly bool[] _second = new bool[256];
    private readonly bool[] _third = new bool[256 * 256];
    private readonly Dictionary<int, Exclusion> _anyPrefix = [];

    /// <summary>Collects the patterns of the excluded mnemonics.</summary>
    public OpcodePatterns(FrozenDictionary<Mnemonic, Exclusion> excluded)
    {
        foreach (Code code in Enum.GetValues<Code>())
        {
            OpCodeInfo info = code.ToOpCode();
            if (info.Encoding != EncodingKind.Legacy || !info.IsInstruction || !excluded.TryGetValue(info.Mnemonic, out Exclusion? row))
            {
                continue;
            }

            foreach ((byte second, byte third) in Bytes(info))
            {
                _second[second] = true;
                _third[(second * 256) + third] = true;
                if (row.AnyPrefix)
                {
                    _anyPrefix[(second * 256) + third] = row;
                }
            }
        }
    }

    /// <summary>Bytes with which a pattern can begin.</summary>
    public static SearchValues<byte> FirstBytes { get; } = SearchValues.Create([Escape, XbeginOpcode]);

    /// <summary>True when an excluded opcode may begin here.</summary>
    public bool MayBegin(ReadOnlySpan<byte> code)
    {
        if (code[0] == XbeginOpcode)
        {
            return code.Length > 1 && code[1] == XbeginModRm;
        }

        // At the very end of the code the rest may come from the next bytes in memory; a two-byte opcode is decided by itself.
        return code.Length > 1 && _second[code[1]] && (code.Length == 2 || _third[(code[1] * 256) + code[2]]);
    }

    /// <summary>The row that condemns these bytes whatever the prefixes are.</summary>
    public Exclusion? AnyPrefix(ReadOnlySpan<byte> code) =>
        code.Length > 2 && code[0] == Escape && _anyPrefix.TryGetValue((code[1] * 256) + code[2], out Exclusion? row) ? row : null;

    private static IEnumerable<(byte Second, byte Third)> Bytes(OpCodeInfo info)
    {
        if (info.Table == OpCodeTableKind.T0F38)
        {
            yield return (0x38, (byte)info.OpCode);
            yield break;
        }

        if (info.Table != OpCodeTableKind.T0F)
        {
            yield break;
        }

        if (info.OpCodeLength == 2)
        {
            yield return ((byte)(info.OpCode >> 8), (byte)info.OpCode);
            yield break;
        }

        bool memoryOnly = Enumerable.Range(0, info.OpCount).Any(i => info.GetOpKind(i) == OpCodeOperandKind.mem);
        for (int third = 0; third < 256; third++)
        {
            bool digit = !info.IsGroup || ((third >> 3) & 7) == info.GroupIndex;
            if (digit && (!memoryOnly || third < 0xc0))
            {
                yield return ((byte)info.OpCode, (byte)third);
            }
        }
    }
}
