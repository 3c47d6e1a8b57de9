using FsCheck;
using FsCheck.Fluent;

namespace PvDiffFuzz.Core.Tests;

/// <summary>Arbitrary recordings, and a small one that several tests share.</summary>
internal static class RecordingGen
{
    /// <summary>Two targets, two cases, stopped before the third.</summary>
    public static Recording Sample { get; } = new()
    {
        Comment = "Two answers, of a host and of a model.",
        Host = CpuProfile.DefaultAmd with { Features = ["ADX", "BMI1"], UserGates = [3, 4, 0x80] },
        Targets = [.. Samples.Adc.Outcomes.Select(o => new RecordedSource(o.Target, o.Kind, o.Lineage, new Fingerprint([o.Fingerprint.Facts[0]])))],
        Cases = [OfSample(Samples.Adc), OfSample(Samples.Adc with { Comment = "Other.", Id = "other", Case = Samples.Adc.Case with { Limits = new CaseLimits(7) } })],
        Planned = 3,
    };

    /// <summary>Recordings that can be stored.</summary>
    public static readonly Gen<Recording> Recordings =
        from files in CaseGen.Files.ListOf()
        from targets in CaseGen.Sources
        from extra in Gen.Choose(0, 3)
        from comment in Gen.Elements("x", "What native answered.\n\n# and more", "é 日")
        let different = files.DistinctBy(f => f.Case, CaseComparer.Instance).Take(6).ToArray()
        from outcomes in Gen.CollectToArray(different.SelectMany(f => targets.Select(_ => CaseGen.Outcomes(f.Case))))
        select new Recording
        {
            Comment = comment,
            Host = files.Select(f => f.Case.Profile).FirstOrDefault(),
            Targets = targets,
            Cases =
            [
                .. different.Select((file, i) => file with
                {
                    Verdict = null,
                    Outcomes = [.. targets.Select((t, j) => new RecordedOutcome(t.Name, t.Kind, t.Lineage, t.Fingerprint, outcomes[(i * targets.Length) + j]))],
                }),
            ],
            Planned = different.Length + extra,
        };

    private static CaseFile OfSample(CaseFile file) => file with
    {
        Verdict = null,
        Outcomes = [.. file.Outcomes.Select(o => o with { Fingerprint = new Fingerprint([o.Fingerprint.Facts[0]]) })],
    };
}
