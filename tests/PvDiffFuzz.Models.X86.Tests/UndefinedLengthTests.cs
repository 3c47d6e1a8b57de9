using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>An encoding that means nothing is #UD once all its bytes are there, and #PF where they run into a page that cannot be fetched.</summary>
public sealed class UndefinedLengthTests
{
    private static readonly CpuProfile Avx512 = CpuProfile.DefaultAmd with { Features = CpuProfile.DefaultAmd.Features.Add("AVX512F") };

    /// <summary>The fourth byte of EVEX is followed by an opcode; map 5 has the shape of map 1, map 7 that of map 3, and bit 3 of the second byte changes neither.</summary>
    [Theory]
    [InlineData("62 f5 7c 48", 14)]
    [InlineData("62 f5 7c 48 c8", 6)] // BSWAP's place in map 1: no ModRM byte
    [InlineData("62 fd 7c 48 c8", 6)]
    [InlineData("62 f5 7c 48 c9", 6)]
    [InlineData("62 f5 7c 48 00", 14)]
    [InlineData("62 f5 7c 48 00 c0", 6)]
    [InlineData("62 f5 7c 48 00 80", 14)] // a displacement of four bytes
    [InlineData("62 f5 7c 48 00 80 00 00 00", 14)]
    [InlineData("62 f5 7c 48 00 80 00 00 00 00", 6)]
    [InlineData("62 f5 7c 48 70 c0", 14)] // PSHUFW's place: an immediate
    [InlineData("62 f5 7c 48 70 c0 00", 6)]
    [InlineData("62 f7 7c 48 00 c0", 14)]
    [InlineData("62 ff 7c 48 00 c0", 14)]
    [InlineData("62 f7 7c 48 00 c0 00", 6)]
    [InlineData("62 f6 7c 48 c8", 14)]
    [InlineData("62 f6 7c 48 c8 c0", 6)]
    [InlineData("62 f9 7c 48 7a", 14)] // empty in map 1 without the prefix
    [InlineData("62 f9 7c 48 7a c0", 6)]
    [InlineData("62 f9 7c 48 78 c0", 6)] // EXTRQ's place, without its immediates
    public void UndefinedEvexEncodingsHaveALength(string code, byte vector)
    {
        Event only = Payload.Case(code).Run(Avx512).Only();

        Assert.Equal((vector, vector == 14 ? Payload.End : null), (only.Vector, only.Cr2));
    }

    /// <summary>Without AVX-512 62 is BOUND, which 64-bit mode does not have: #UD with its ModRM byte.</summary>
    [Theory]
    [InlineData("62", 14)]
    [InlineData("62 f5", 6)]
    public void WithoutAvx512ItIsBound(string code, byte vector) => Assert.Equal(vector, Payload.Case(code).Run(CpuProfile.DefaultAmd).Only().Vector);
}
