using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>How many bytes an encoding occupies, whether or not it means anything.</summary>
/// <remarks>
/// Fetching comes before decoding: an undefined opcode whose bytes run into a page that cannot be fetched is #PF, and one of more than fifteen bytes #GP(0).
/// So undefined encodings need a length too, by prefixes, opcode map, ModRM, displacement and immediate. Works on whatever bytes there are.
/// </remarks>
[Spec("SDM", "vol.3A 6.9 Table 6-2 Priority Among Concurrent Events (fetch faults before decode faults); vol.2A 2.1 Instruction Format for Protected Mode, Real-Address Mode, and Virtual-8086 Mode; 2.2 IA-32e Mode")]
[Spec("x86-readings", "undefined-length")]
internal ref struct LengthDecoder
{
    private readonly ReadOnlySpan<byte> _bytes;
    private readonly bool _long64;
    private readonly bool _amd;
    private readonly bool _evex;
    private readonly bool _xop;
    private int _at;
    private bool _operand16;
    private bool _wide;
    private bool _addressOverride;
    private bool _rex;

    private LengthDecoder(ReadOnlySpan<byte> bytes, bool long64, bool amd, bool evex, bool xop)
    {
        _evex = evex;
        _xop = xop;
        _bytes = bytes;
        _long64 = long64;
        _amd = amd;
    }

    /// <summary>Length of the encoding at the start of some bytes.</summary>
    /// <param name="bytes">What could be fetched, at most fifteen bytes.</param>
    /// <param name="long64">True for 64-bit mode.</param>
    /// <param name="amd">True for AMD, whose opcode map differs in a few places.</param>
    /// <param name="evex">True when 62 is the EVEX prefix, which needs AVX-512; else it is BOUND, undefined in 64-bit mode.</param>
    /// <param name="xop">True when the processor has XOP. Without it AMD's processors still know the prefix, but map 8 has no immediates.</param>
    /// <returns>The length; more than the number of bytes when some are missing, then at least one more than could be seen.</returns>
    public static int Measure(ReadOnlySpan<byte> bytes, bool long64, bool amd, bool evex, bool xop)
    {
        LengthDecoder decoder = new(bytes, long64, amd, evex, xop);
        return decoder.Measure();
    }

    private int Measure()
    {
        byte opcode = SkipPrefixes();
        if (_at > _bytes.Length)
        {
            return _at;
        }

        switch (opcode)
        {
            case 0x0f:
                return Escape(Next());
            case 0xc5 when IsVector():
                return Mapped(1, payload: 1);
            case 0xc4 when IsVector():
                return Mapped(Peek(0) & 0x1f, payload: 2);
            case 0x62 when _evex && IsVector():
                return Evex();
            case 0x8f when _amd && !_rex && (Peek(0) & 0x38) != 0:
                return Extended(Peek(0) & 0x1f);
            default:
                break;
        }

        int immediate = OneByteImmediate(opcode);
        if (HasModRm(opcode))
        {
            byte modRm = Peek(0);
            SkipModRm();
            immediate = opcode switch
            {
                0xf6 => (modRm & 0x30) == 0 ? 1 : 0,
                0xf7 => (modRm & 0x30) == 0 ? Word() : 0,
                _ => immediate,
            };
        }

        return _at + immediate;
    }

    private byte SkipPrefixes()
    {
        while (true)
        {
            byte value = Next();
            switch (value)
            {
                case 0x66:
                    _operand16 = true;
                    _wide = false;
                    _rex = false;
                    break;
                case 0x67:
                    _addressOverride = true;
                    _wide = false;
                    _rex = false;
                    break;
                case 0x26 or 0x2e or 0x36 or 0x3e or 0x64 or 0x65 or 0xf0 or 0xf2 or 0xf3:
                    _wide = false;
                    _rex = false;
                    break;
                case >= 0x40 and <= 0x4f when _long64:
                    _wide = (value & 8) != 0;
                    _rex = true;
                    break;
                default:
                    return value;
            }

            if (_at > _bytes.Length)
            {
                return value;
            }
        }
    }

    /// <summary>C4, C5 and 62 are LES, LDS and BOUND after a REX prefix, and in 32-bit mode unless a register form follows.</summary>
    private readonly bool IsVector() => _long64 ? !_rex : Peek(0) >= 0xc0;

    private int Escape(byte opcode)
    {
        switch (opcode)
        {
            case 0x38:
                Next();
                SkipModRm();
                return _at;
            case 0x3a:
                Next();
                SkipModRm();
                return _at + 1;
            default:
                return AfterTwoByteOpcode(opcode);
        }
    }

    private int AfterTwoByteOpcode(byte opcode)
    {
        if (HasNoModRm(opcode) || (_amd && IsReservedByAmd(opcode)))
        {
            return _at;
        }

        if (opcode is >= 0x20 and <= 0x23)
        {
            // MOV to and from control and debug registers takes mod as 3, whatever it says.
            return _at + 1;
        }

        if (opcode is >= 0x80 and <= 0x8f)
        {
            return _at + Displacement();
        }

        SkipModRm();
        if (opcode == 0x78 && _amd)
        {
            // EXTRQ and INSERTQ have two immediate bytes, and so has every other prefix's encoding, VEX included.
            return _at + 2;
        }

        return _at + (opcode is 0x0f or (>= 0x70 and <= 0x73) or 0xa4 or 0xac or 0xba or 0xc2 or 0xc4 or 0xc5 or 0xc6 ? 1 : 0);
    }

    private static bool HasNoModRm(byte opcode) =>
        opcode is (>= 0x04 and <= 0x0c) or 0x0e or (>= 0x30 and <= 0x37) or 0x77 or (>= 0xa0 and <= 0xa2) or (>= 0xa8 and <= 0xaa) or (>= 0xc8 and <= 0xcf);

    /// <summary>Opcodes that AMD's map leaves empty or, for UD0 and UD1, without ModRM byte.</summary>
    [Spec("APM", "vol.3 app. A Secondary Opcode Map; UD0, UD1, UD2")]
    [Spec("x86-readings", "empty-opcode-modrm")]
    private static bool IsReservedByAmd(byte opcode) =>
        opcode is (>= 0x24 and <= 0x27) or 0x39 or (>= 0x3b and <= 0x3f) or 0x7a or 0x7b or 0xa6 or 0xa7 or 0xb9 or 0xff;

    /// <summary>A VEX or EVEX encoding: the prefix's payload, then opcode, ModRM and for some an immediate.</summary>
    private int Mapped(int map, int payload)
    {
        byte opcode = Peek(payload);
        _at += payload + 1;

        // The prefix has an operand size of its own; a legacy 66 before it makes it #UD, but not shorter.
        _operand16 = false;
        if (map == 1)
        {
            // The escapes to maps 2 and 3 are no opcodes of their own here.
            return opcode is 0x38 or 0x3a ? _at : AfterTwoByteOpcode(opcode);
        }

        SkipModRm();
        return _at + (map == 3 ? 1 : 0);
    }

    /// <summary>An EVEX encoding: always a ModRM byte in maps 2 and 3, and in map 3 an immediate. AMD gives maps 4 to 7 the shapes of maps 0 to 3.</summary>
    [Spec("x86-readings", "evex-length")]
    private int Evex()
    {
        const int payload = 3;
        int map = Peek(0) & (_amd ? 3 : 7);
        byte opcode = Peek(payload);
        if (map != 1 || opcode is not (0x78 or 0x7a or 0x7b))
        {
            return Mapped(map, payload);
        }

        // Conversions of vectors, and so neither EXTRQ nor empty.
        _at += payload + 1;
        SkipModRm();
        return _at;
    }

    /// <summary>An XOP encoding: map 8 has an immediate byte from opcode 80 up where XOP exists, map 10 a doubleword always.</summary>
    [Spec("x86-readings", "xop-length")]
    private int Extended(int map)
    {
        byte opcode = Peek(2);
        _at += 3;
        SkipModRm();
        return _at + (map == 8 && opcode >= 0x80 && _xop ? 1 : map == 10 ? 4 : 0);
    }

    private void SkipModRm()
    {
        byte modRm = Next();
        int mod = modRm >> 6;
        int rm = modRm & 7;
        if (mod == 3)
        {
            return;
        }

        if (!_long64 && _addressOverride)
        {
            _at += mod == 1 ? 1 : mod == 2 || rm == 6 ? 2 : 0;
            return;
        }

        int baseField = rm;
        if (rm == 4)
        {
            baseField = Next() & 7;
        }

        _at += mod == 1 ? 1 : mod == 2 || baseField == 5 ? 4 : 0;
    }

    private readonly bool HasModRm(byte opcode) => opcode switch
    {
        < 0x40 => (opcode & 7) < 4,
        0x62 or 0xc4 or 0xc5 => true,
        0x63 or 0x69 or 0x6b or (>= 0x80 and <= 0x8f) or 0xc0 or 0xc1 or 0xc6 or 0xc7 or (>= 0xd0 and <= 0xd3) or (>= 0xd8 and <= 0xdf) or 0xf6 or 0xf7 or 0xfe or 0xff => true,
        _ => false,
    };

    private readonly int OneByteImmediate(byte opcode) => opcode switch
    {
        < 0x40 => (opcode & 7) == 4 ? 1 : (opcode & 7) == 5 ? Word() : 0,
        0x68 or 0x69 or 0x81 or 0xa9 or 0xc7 => Word(),
        0x6a or 0x6b or (>= 0x70 and <= 0x80) or 0x82 or 0x83 or 0xa8 or (>= 0xb0 and <= 0xb7) or 0xc0 or 0xc1 or 0xc6 or 0xcd or (>= 0xe0 and <= 0xe7) or 0xeb => 1,
        0xd4 or 0xd5 => 1,
        0x9a or 0xea => Word() + 2,
        >= 0xa0 and <= 0xa3 => _long64 ? (_addressOverride ? 4 : 8) : _addressOverride ? 2 : 4,
        >= 0xb8 and <= 0xbf => _wide ? 8 : Word(),
        0xc2 or 0xca => 2,
        0xc8 => 3,
        0xe8 or 0xe9 => Displacement(),
        _ => 0,
    };

    /// <summary>Bytes of an immediate that follows the operand size, 64-bit ones being four bytes long.</summary>
    private readonly int Word() => _operand16 && !_wide ? 2 : 4;

    /// <summary>Bytes of a near branch's displacement: Intel ignores the operand-size prefix in 64-bit mode, AMD only beside REX.W.</summary>
    private readonly int Displacement() => _operand16 && !_wide && (_amd || !_long64) ? 2 : 4;

    /// <summary>The next byte, 0 past the end; the position moves on either way.</summary>
    private byte Next() => _at < _bytes.Length ? _bytes[_at++] : Missing();

    private byte Missing()
    {
        _at++;
        return 0;
    }

    private readonly byte Peek(int ahead) => _at + ahead < _bytes.Length ? _bytes[_at + ahead] : (byte)0;
}
