using System.Collections.Immutable;
using PvDiffFuzz.Cli;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.EndToEnd.Tests;

/// <summary>Campaigns as <c>pvdf fuzz</c> runs them, with a target whose rules are broken, in a folder of its own.</summary>
internal sealed class Laboratory : IDisposable
{
    /// <summary>Cases of a campaign: each plant is found far earlier.</summary>
    public const int Cases = 24_576;

    private const ulong Seed = 0x5eed;

    private readonly Composition _composition = new();

    /// <summary>Where findings go.</summary>
    public DirectoryInfo Folder { get; } = Directory.CreateTempSubdirectory("pvdf-e2e-");

    /// <inheritdoc/>
    public void Dispose() => Folder.Delete(recursive: true);

    /// <summary>Runs the default mix of cases on a planted model and another target.</summary>
    /// <param name="other">Name of the other target.</param>
    /// <param name="jobs">Threads.</param>
    /// <param name="plants">Broken rules; none for a control.</param>
    public CampaignSummary Run(string other, int jobs, params ImmutableArray<Plant> plants)
    {
        CampaignOptions options = new() { Seed = Seed, Count = Cases, Jobs = jobs };
        CampaignParts parts = new()
        {
            Targets = Targets(other, plants),
            Source = () => new GeneratedCases(new GeneratorOptions(), _composition.Host, Seed),
            Analyst = () => Session.Analyst(_composition.Host),
            Known = Session.Known(null),
            Store = new FolderStore(Folder.FullName, finding => FindingText.Of(finding, _composition.Host)),
            Allowed = testCase => Session.MayRunLive(testCase, _composition.Host),
        };
        return new Campaign(options, parts).Run(CancellationToken.None);
    }

    /// <summary>True when a finding has the fields of a plant and an instruction that the plant is about.</summary>
    public static bool Shows(Plant plant, TriagedSignature found) =>
        found.Finding is Finding finding
        && found.Signature.Fields == plant.Fields
        && plant.Concerns(CodeEdit.DecodeOne(InstructionOf(finding), finding.Divergence.Instruction.Address, finding.Divergence.Case.Mode, CpuVendor.Amd));

    /// <summary>What is wrong with a finding of a plant, its file included.</summary>
    public IEnumerable<string> Judge(TriagedSignature found, string other, Plant plant)
    {
        if (found.Signature.Camps != $"{PlantedFault.Name}/{other}")
        {
            yield return "wrong camps";
        }

        // At another event the case has responses, under TF one for each instruction, and so needs more instructions to get there.
        if (found.Finding!.Instructions > 2 && found.Signature.Event == plant.Event)
        {
            yield return $"{found.Finding.Instructions} instructions: {string.Join("; ", Session.Disassemble(found.Finding.Divergence.Case).Select(i => i.Text))}; rflags {found.Finding.Divergence.Case.Registers.Rflags:x}";
        }

        if (found.Path is null || !found.Path.StartsWith(Folder.FullName, StringComparison.Ordinal))
        {
            yield return $"saved at {found.Path ?? "no place"}";
            yield break;
        }

        CaseFile file = CaseFile.Read(found.Path);
        if (file.Write() != File.ReadAllText(found.Path))
        {
            yield return "the file is not written as it was read";
        }

        if (file.Outcomes.Length != 2 || file.Outcomes.Any(o => !o.Outcome.Comparable) || file.Verdict != "new")
        {
            yield return "the file lacks an outcome or its verdict";
        }

        // Fresh targets, and the case as the file has it.
        using CaseRunner runner = CaseRunner.Create(Targets(other, [plant]), Session.Analyst(_composition.Host));
        Examination again = runner.Examine(file.Case);
        if (again.Outcomes.Count(o => o.Comparable) != 2 || !again.Diverges)
        {
            yield return $"it does not come back from its file: {again.Comparison.Result}";
            yield break;
        }

        if (Divergence.Of(again, runner).Signature != found.Signature)
        {
            yield return $"from its file it is {Divergence.Of(again, runner).Signature}";
        }

        ReplayResult replayed = new Replay(runner, KnownSet.Empty).Run(found.Path, file);
        if (replayed.Status != ReplayStatus.Open)
        {
            yield return $"replay says {replayed.Status}: {replayed.Message}";
        }
    }

    private ImmutableArray<Func<ITarget>> Targets(string other, ImmutableArray<Plant> plants) =>
        [() => new PlantedFault(new X86Model(_composition.Host), _composition.Host, plants), () => _composition.Create(other)];

    private static ReadOnlySpan<byte> InstructionOf(Finding finding)
    {
        CodeBlock code = finding.Divergence.Case.Code;
        ulong at = finding.Divergence.Instruction.Address - code.Address;
        return at < (ulong)code.Bytes.Length ? code.Bytes.AsSpan()[(int)at..] : [];
    }
}
