using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Cli;

/// <summary>The cases that a recording is made of: files, other recordings and generated ones.</summary>
/// <param name="Files">Different inputs without outcomes.</param>
/// <param name="Generated">How many generated cases follow them.</param>
/// <param name="Source">Makes the generated ones.</param>
/// <param name="Seed">Seed of the generated ones.</param>
internal sealed record RecordedCases(IReadOnlyList<CaseFile> Files, int Generated, ICaseSource Source, ulong Seed)
{
    /// <summary>Number of all cases.</summary>
    public int Count => Files.Count + Generated;

    /// <summary>All cases in order, made when they are asked for.</summary>
    public IEnumerable<CaseFile> All() => Files.Concat(Enumerable.Range(0, Generated).Select(Generate));

    /// <summary>Reads case files and recordings; of these, the cases.</summary>
    /// <param name="paths">Case files, recordings by their ending, folders of case files.</param>
    /// <exception cref="CaseFileException">A file is bad.</exception>
    /// <exception cref="UsageException">A path does not exist.</exception>
    public static IReadOnlyList<CaseFile> Read(IEnumerable<string> paths) =>
        HostTriage.Union(CorpusFiles.Find(paths).SelectMany(CasesOf).Select(file => file with { Outcomes = [], Verdict = null }));

    private static IEnumerable<CaseFile> CasesOf(string path) =>
        path.EndsWith(Recording.Extension, StringComparison.Ordinal) ? Recording.Read(path).Cases : [CaseFile.Read(path)];

    private CaseFile Generate(int index)
    {
        TestCase testCase = Source.Generate((ulong)index);
        return new CaseFile
        {
            Comment = "Generated.",
            Id = $"seed-{Seed:x}-{index}",
            Found = $"generator {Generator.Version} seed {Seed:x}:{index}",
            Case = testCase,
            CodeComments = [.. Session.Disassemble(testCase).Select(instruction => instruction.Text)],
        };
    }
}
