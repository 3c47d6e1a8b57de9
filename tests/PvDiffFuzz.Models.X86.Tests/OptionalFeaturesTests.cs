using System.Globalization;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Instructions that exist by feature bit: what they do with it, and #UD or nothing without it.</summary>
public sealed class OptionalFeaturesTests
{
    private const byte None = 255;

    /// <summary>Code, feature, vector with it and vector without it; <see cref="None"/> where the code runs to its end.</summary>
    [Fact]
    public void FeaturesDecide()
    {
        (string Code, string Feature, byte With, byte Without)[] rows =
        [
            ("0f 01 e8", "SERIALIZE", None, 6), ("f3 0f ae e0", "PTWRITE", None, 6), ("f3 0f ae 23", "PTWRITE", None, 6), ("f3 0f ae 26", "PTWRITE", 14, 6),
            ("f3 0f ae f3", "WAITPKG", None, 6), ("f3 0f ae f6", "WAITPKG", 14, 6), ("f2 0f ae f0", "WAITPKG", None, 6), ("66 0f ae f0", "WAITPKG", None, 6),
            ("f2 0f ae f3", "WAITPKG", 13, 6), ("66 0f ae f3", "WAITPKG", 13, 6), ("0f 01 fa", "MONITORX", 14, 6), ("0f 01 fb", "MONITORX", None, 6),
            ("0f 01 d6", "RTM", None, 6), ("0f 01 d5", "RTM", 13, 6), ("c6 f8 11", "RTM", None, 6), ("c7 f8 00 00 00 00", "RTM", None, 6),
            ("f2 0f 01 e8", "TSXLDTRK", 13, 6), ("f2 0f 01 e9", "TSXLDTRK", 13, 6), ("f3 0f 01 ee", "UINTR", 6, 6), ("f3 0f 01 ec", "UINTR", 6, 6),
            ("f3 0f c7 f0", "UINTR", 6, 6), ("f2 0f 38 f8 03", "ENQCMD", 13, 6), ("f3 0f 38 f8 03", "ENQCMD", 13, 6), ("f3 0f 3a f0 c0 00", "HRESET", 13, 6),
            ("0f 01 c5", "PCONFIG", 13, 6), ("f3 0f 01 fa", "MCOMMIT", 6, 6), ("0f 01 fe", "INVLPGB", 13, 6), ("0f 01 ff", "INVLPGB", 13, 6),
            ("f3 0f 01 fe", "SNP", 6, 6), ("f2 0f 01 ff", "SNP", 6, 6), ("0f 1c 03", "CLDEMOTE", None, None), ("0f 1c 06", "CLDEMOTE", None, None),
            ("f3 0f 1e fa", "CET_IBT", None, None), ("f3 48 0f 1e c8", "CET_SS", None, None), ("f3 48 0f ae e8", "CET_SS", 6, 6), ("f3 0f 01 ea", "CET_SS", 6, 6),
            ("48 0f 38 f6 03", "CET_SS", 6, 6), ("0f 1a 03", "MPX", None, None), ("66 0f 1b c0", "MPX", None, None), ("0f 38 f9 03", "MOVDIRI", None, 6),
            ("0f 38 f9 06", "MOVDIRI", 14, 6), ("66 0f 38 f8 07", "MOVDIR64B", 14, 6), ("0f 38 fc 03", "RAO_INT", None, 6), ("0f 38 fc 43 01", "RAO_INT", 13, 6),
            ("c4 e2 71 e2 03", "CMPCCXADD", None, 6), ("c4 e2 71 e2 43 02", "CMPCCXADD", 13, 6), ("0f 01 ca", "SMAP", 6, 6), ("0f 01 c8", "MONITOR", 6, 6),
            ("66 0f 38 82 03", "INVPCID", 13, 6), ("f3 0f 09", "WBNOINVD", 13, 13), ("0f 01 c6", "WRMSRNS", 13, 6), ("f3 0f a7 c0", "PADLOCK_ACE", 6, 6),
            ("f3 0f a6 c8", "PADLOCK_PHE", 6, 6), ("0f a7 c0", "PADLOCK_RNG", 6, 6), ("66 0f 01 cc", "TDX", 6, 6), ("66 0f 01 cf", "SEAM", 6, 6),
            ("f2 0f 01 ca", "FRED", 6, 6), ("0f 01 d8", "SVM", 6, 6), ("0f 01 de", "SKINIT", 6, 6), ("0f 01 c2", "VMX", 6, 6), ("0f 37", "SMX", 6, 6),
        ];
        List<string> wrong = [];
        foreach ((string code, string feature, byte with, byte without) in rows)
        {
            foreach (CpuProfile vendor in (ReadOnlySpan<CpuProfile>)[CpuProfile.DefaultAmd, CpuProfile.DefaultIntel])
            {
                foreach (bool present in (ReadOnlySpan<bool>)[true, false])
                {
                    CpuProfile profile = vendor with { Features = present ? Enable(vendor, feature) : vendor.Features };
                    Event only = Case(code, 0, (Register.Rbx, Data), (Register.Rdi, 0x41)).Run(profile).Only();
                    byte found = only.Registers.Rip == End ? None : only.Vector;
                    byte wanted = present ? with : without;
                    if (found != wanted)
                    {
                        wrong.Add(string.Create(CultureInfo.InvariantCulture, $"{code} on {vendor.Vendor} {(present ? "with" : "without")} {feature}: {found}, not {wanted}"));
                    }
                }
            }
        }

        Probe.AssertNone(wrong, rows.Length * 4);
    }

    /// <summary>TPAUSE and UMWAIT clear all six flags; XTEST sets ZF only; XBEGIN goes to its fallback with EAX 0; XABORT does nothing.</summary>
    [Fact]
    public void WaitsAndTransactionsHaveTheirResults()
    {
        CpuProfile profile = CpuProfile.DefaultIntel with { Features = CpuProfile.DefaultIntel.Features.Add("WAITPKG").Add("RTM") };
        Assert.Equal(0UL, Case("66 0f ae f1", Status, (Register.Rcx, 0xffff_fffe_0000_0001)).RunToEnd(profile).Status());
        Assert.Equal(0UL, Case("f2 0f ae f1", Status).RunToEnd(profile).Status());
        Assert.Equal(ZF, Case("0f 01 d6", Status).RunToEnd(profile).Status());
        Assert.Equal(Status, Case("c6 f8 ff", Status).RunToEnd(profile).Status());
        RegisterState aborted = Case("c7 f8 02 00 00 00 0f 0b", 0, (Register.Rax, ulong.MaxValue)).RunToEnd(profile);
        Assert.Equal(0UL, aborted[Register.Rax]);
    }

    /// <summary>CMPZXADD with 5 in memory and 5 in ECX adds ESI; with 6 in ECX it stores 5 back, sets CF, and loads ECX with 5.</summary>
    [Fact]
    public void CompareAndAddFollowsTheCondition()
    {
        CpuProfile profile = CpuProfile.DefaultIntel with { Features = CpuProfile.DefaultIntel.Features.Add("CMPCCXADD") };
        const string equal = "c4 e2 49 e4 0b";
        Outcome met = Case(equal, 0, (Register.Rbx, Data), (Register.Rcx, 5), (Register.Rsi, 7)).With(Data, 5).Run(profile);
        Assert.Equal((12UL, 5UL, PF | ZF), (met.Memory[0].Value, met.Registers![Register.Rcx], met.Registers.Status()));

        Outcome missed = Case(equal, 0, (Register.Rbx, Data), (Register.Rcx, 6), (Register.Rsi, 7)).With(Data, 5).Run(profile);
        Assert.Empty(missed.Memory);
        Assert.Equal((5UL, CF | PF | AF | SF), (missed.Registers![Register.Rcx], missed.Registers.Status()));
        Event readOnly = Case(equal, 0, (Register.Rbx, AddressMap.LowBlock + AddressMap.ReadOnlyThenWritable), (Register.Rcx, 6)).Run(profile).Only();
        Assert.Equal((uint?)7, readOnly.ErrorCode);
    }

    /// <summary>Four operations on 6 with 3, with flags untouched: 9, 2, 7 and 5.</summary>
    [Fact]
    public void RemoteAtomicsUpdateMemoryOnly()
    {
        CpuProfile profile = CpuProfile.DefaultIntel with { Features = CpuProfile.DefaultIntel.Features.Add("RAO_INT") };
        (string Code, ulong Result)[] rows = [("0f 38 fc 0b", 9), ("66 0f 38 fc 0b", 2), ("f2 0f 38 fc 0b", 7), ("f3 48 0f 38 fc 0b", 5)];
        foreach ((string code, ulong result) in rows)
        {
            Outcome outcome = Case(code, Status, (Register.Rbx, Data), (Register.Rcx, 3)).With(Data, 6).Run(profile);
            Assert.Equal((code, result, Status), (code, outcome.Memory[0].Value, outcome.Registers!.Status()));
        }
    }

    /// <summary>Every gap names forms that exist, is unsupported with its feature, and is #UD without.</summary>
    [Fact]
    public void GapsAreUnsupportedOnlyWithTheirFeature()
    {
        (string Code, string[] Features)[] rows =
        [
            ("0f ae 03", ["FXSR"]), ("0f ae 0b", ["FXSR"]), ("0f ae 13", ["SSE"]), ("0f ae 1b", ["SSE"]), ("c5 f8 ae 13", ["AVX"]), ("0f ae 23", ["XSAVE"]),
            ("0f ae 2b", ["XSAVE"]), ("0f c7 23", ["XSAVE", "XSAVEC"]), ("0f ae 33", ["XSAVE", "XSAVEOPT"]), ("8f e9 78 12 c0", ["LWP"]), ("0f 01 d7", ["SGX1"]),
        ];
        foreach ((string code, string[] features) in rows)
        {
            CpuProfile with = CpuProfile.DefaultAmd with { Features = CpuProfile.DefaultAmd.Features.Union(features) };
            CpuProfile without = CpuProfile.DefaultAmd with { Features = CpuProfile.DefaultAmd.Features.Except(features) };
            using X86Model model = new(with);
            Assert.Equal((code, EndKind.Unsupported), (code, model.Run(Case(code, 0, (Register.Rbx, Data))).End));
            Assert.Equal((code, (byte)6), (code, Case(code, 0, (Register.Rbx, Data)).Run(without).Only().Vector));
        }

        Assert.All(ModelGaps.Rows, row => Assert.NotEmpty(row.Forms));
        Assert.Equal(ModelGaps.Rows.Length, ModelGaps.Rows.Select(row => row.Id).Distinct().Count());
    }

    private static System.Collections.Immutable.ImmutableSortedSet<string> Enable(CpuProfile profile, string feature) => feature switch
    {
        "SNP" => profile.Features.Add("SEV_SNP").Add("SEV_ES"),
        "TDX" => profile.Features.Add("TDX"),
        "SEAM" => profile.Features.Add("TDX").Add("SEAM"),
        _ => profile.Features.Add(feature),
    };
}
