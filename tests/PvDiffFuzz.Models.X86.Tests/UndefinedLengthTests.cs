using PvDiffFuzz.Core;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>How many bytes of an encoding that means nothing are fetched before it is #UD: with fewer before the end of the page, the fetch faults.</summary>
public sealed class UndefinedLengthTests
{
    private static readonly CpuProfile Amd = CpuProfile.DefaultAmd with { Features = CpuProfile.DefaultAmd.Features.Add("AVX512F") };
    private static readonly CpuProfile Intel = CpuProfile.DefaultIntel with { Features = CpuProfile.DefaultIntel.Features.Add("AVX512F") };

    /// <summary>The last byte given is the last one needed for AMD; Intel needs as many as are stated.</summary>
    [Theory]
    [InlineData("62 f7 7c 48 10 c0 00", 6)] // Map 7 as map 3: ModRM and an immediate byte. Intel: ModRM.
    [InlineData("62 f5 7c 48 05", 6)] // Map 5 as map 1, where 05 has no ModRM.
    [InlineData("62 f5 7c 48 80 00 00 00 00", 6)] // Map 5 as map 1, where 80 has a displacement.
    [InlineData("62 f1 7c 48 38", 5)] // No escape to a third byte.
    [InlineData("62 f1 7c 48 04", 5)] // Map 1 itself.
    [InlineData("62 f6 7c 48 fe c0", 6)] // Map 6 as map 2: ModRM.
    [InlineData("0f 78 c1 00 00", 3)] // VMREAD is EXTRQ's opcode for AMD, with two immediate bytes. Intel: ModRM.
    public void FetchComesBeforeUndefined(string code, int intel)
    {
        string[] bytes = [.. code.Split(' '), "c0", "c0"];
        int amd = code.Split(' ').Length;

        Assert.Equal((amd, intel), (Needed(bytes, Amd), Needed(bytes, Intel)));
    }

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
        Event only = Case(code).Run(Amd).Only();

        Assert.Equal((vector, vector == 14 ? End : null), (only.Vector, only.Cr2));
    }

    /// <summary>Without AVX-512, 62 is an opcode of 64-bit mode that means nothing: BOUND's, with ModRM and displacement.</summary>
    [Fact]
    public void BoundIsMeasuredByModRm()
    {
        string[] bytes = ["62", "84", "00", "00", "00", "00", "00", "90"];

        Assert.Equal(7, Needed(bytes, CpuProfile.DefaultAmd));
    }

    /// <summary>The smallest number of bytes with which no fetch faults; every fault of fewer is #PF with error 14 hexadecimal at the page end.</summary>
    private static int Needed(string[] bytes, CpuProfile profile)
    {
        for (int count = 1; count <= bytes.Length; count++)
        {
            Event only = Case(string.Join(' ', bytes[..count])).Run(profile).Only();
            Assert.Equal(End - (ulong)count, only.Registers.Rip);
            if (only.Vector != 14)
            {
                Assert.Equal(6, only.Vector);
                return count;
            }

            Assert.Equal((0x14u, End), (only.ErrorCode, only.Cr2));
        }

        return int.MaxValue;
    }
}
