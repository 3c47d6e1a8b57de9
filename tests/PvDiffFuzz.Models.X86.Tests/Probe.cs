using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>One code on one model, for grids of many operand values.</summary>
internal sealed class Probe(string code, CpuMode mode = CpuMode.Long64, CpuProfile? profile = null) : IDisposable
{
    private readonly X86Model _model = new(profile);
    private readonly TestCase _case = Payload.Case(mode, code);
    private readonly string _code = code;

    /// <summary>Values at the edges of all widths, and some without a pattern.</summary>
    public static IReadOnlyList<ulong> Edges { get; } =
    [
        0, 1, 2, 3, 7, 8, 10, 0x1f, 0x20, 0x40, 0x7f, 0x80, 0x81, 0xff, 0x100, 0x7fff, 0x8000, 0xffff, 0x1_0000, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff, 0x1_0000_0000,
        0x7fff_ffff_ffff_ffff, 0x8000_0000_0000_0000, 0x8000_0000_0000_0001, ulong.MaxValue - 1, ulong.MaxValue,
        0x0123_4567_89ab_cdef, 0xfedc_ba98_7654_3210, 0xaaaa_aaaa_aaaa_aaaa, 0x5555_5555_5555_5555, 0x1000_0000_3000_0e10,
    ];

    /// <summary>Runs once and demands a comparable outcome.</summary>
    public Outcome Run(ulong status, params ReadOnlySpan<(Register Register, ulong Value)> registers)
    {
        RegisterState state = _case.Registers;
        state = state with { Rflags = state.Rflags | status };
        foreach ((Register register, ulong value) in registers)
        {
            state = state.With(register, value);
        }

        Outcome outcome = _model.Run(_case with { Registers = state });
        Assert.True(outcome.Comparable, $"{_code}: {outcome.Detail}");
        return outcome;
    }

    /// <summary>Runs once and demands that the code ran to its end.</summary>
    public RegisterState RunToEnd(ulong status, params ReadOnlySpan<(Register Register, ulong Value)> registers)
    {
        Outcome outcome = Run(status, registers);
        Assert.Equal(EndKind.ReachedEnd, outcome.End);
        return outcome.Registers!;
    }

    /// <summary>The low bits of a value.</summary>
    public static ulong Low(ulong value, int bits) => bits == 64 ? value : value & ((1UL << bits) - 1);

    /// <summary>What a register holds after a write of some bits: 32-bit writes clear the upper half, narrower ones keep the rest.</summary>
    public static ulong Written(ulong old, ulong value, int bits) => bits >= 32 ? Low(value, bits) : (old & ~Low(ulong.MaxValue, bits)) | Low(value, bits);

    /// <summary>SF, ZF and PF by counting bits.</summary>
    public static ulong ResultFlags(ulong value, int bits)
    {
        int ones = 0;
        for (int bit = 0; bit < 8; bit++)
        {
            ones += (int)(value >> bit) & 1;
        }

        return ((value >> (bits - 1)) & 1) * RflagsBits.SF
            | (Low(value, bits) == 0 ? RflagsBits.ZF : 0)
            | (ones % 2 == 0 ? RflagsBits.PF : 0);
    }

    /// <summary>Demands that a grid had no failure, and shows the first ones.</summary>
    public static void AssertNone(IReadOnlyCollection<string> failures, int cases)
    {
        Assert.True(cases > 0, "the grid was empty");
        Assert.True(failures.Count == 0, $"{failures.Count} of {cases} differ:{Environment.NewLine}{string.Join(Environment.NewLine, failures.Take(20))}");
    }

    /// <inheritdoc/>
    public void Dispose() => _model.Dispose();
}
