using System.Text;

namespace PvDiffFuzz.Core.Tests;

public sealed class CaseFileWordsTests
{
    /// <summary>A member added to an enumeration without a spelling would make cases that cannot be stored.</summary>
    [Fact]
    public void EveryMemberHasASpelling()
    {
        RecordedOutcome native = Samples.Adc.Outcomes[0];
        List<CaseFile> files =
        [
            .. Enum.GetValues<EndKind>().Select(end => With(native with { Outcome = native.Outcome with { End = end } })),
            .. Enum.GetValues<TargetKind>().Select(kind => With(native with { Kind = kind })),
            .. Enum.GetValues<EventKind>().Select(kind => With(native with { Outcome = native.Outcome with { Events = [native.Outcome.Events[0] with { Kind = kind }] } })),
            .. Enum.GetValues<EntryPoint>().Select(entry => With(native with { Outcome = native.Outcome with { Events = [native.Outcome.Events[0] with { Entry = entry }] } })),
            .. Enum.GetValues<CpuVendor>().Select(v => Samples.Adc with { Case = Samples.Adc.Case with { Profile = CpuProfile.DefaultAmd with { Vendor = v } } }),
            .. Enum.GetValues<Abi>().Select(abi => Samples.Adc with { Case = Samples.Adc.Case with { Abi = abi } }),
            .. Enum.GetValues<Register>().Where(r => r < Register.Pkru)
                .Select(r => Samples.Adc with { Case = Samples.Adc.Case with { Responses = [new Response([new(r, Samples.Adc.Case.Registers[r])])] } }),
        ];

        Assert.All(files, file => Assert.Equal(file, CaseFile.Parse(Encoding.UTF8.GetBytes(file.Write()), "x")));
    }

    private static CaseFile With(RecordedOutcome outcome) => Samples.Adc with { Outcomes = [outcome] };
}
