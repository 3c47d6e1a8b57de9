using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli;

/// <summary>A corpus on disk: one case file each, named by its content.</summary>
/// <param name="path">The folder; made when something is saved.</param>
internal sealed class CorpusFolder(string path)
{
    /// <summary>Ending of the folder of a campaign.</summary>
    public const string Extension = ".corpus";

    /// <summary>The folder.</summary>
    public string Path => path;

    /// <summary>Reads the cases of an ABI that may run on live targets, in the order of their names.</summary>
    /// <param name="from">A file or a folder.</param>
    /// <param name="abi">Cases of others are left out.</param>
    /// <param name="allowed">False for cases that are left out as well.</param>
    /// <exception cref="UsageException">There is none.</exception>
    /// <exception cref="CaseFileException">A file is bad.</exception>
    public static ImmutableArray<TestCase> Read(string from, Abi abi, Func<TestCase, bool> allowed)
    {
        ImmutableArray<TestCase> cases = [.. CorpusFiles.Find([from]).Select(file => CaseFile.Read(file, lenient: true).Case).Where(testCase => testCase.Abi == abi && allowed(testCase))];
        return cases.IsEmpty ? throw new UsageException($"{from}: there is no case of {abi.Text()} in it that a campaign may run") : cases;
    }

    /// <summary>Saves cases; one that is there already stays as it is.</summary>
    /// <param name="cases">The cases.</param>
    /// <param name="seed">Seed of the campaign that kept them.</param>
    /// <exception cref="IOException">One could not be written.</exception>
    public void Save(IEnumerable<TestCase> cases, ulong seed)
    {
        foreach (TestCase testCase in cases)
        {
            Save(testCase, "Kept by a guided campaign: it showed what no case before it did.", $"guided seed {seed:x}");
        }
    }

    /// <summary>Saves a case unless it is there.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="comment">Why it exists.</param>
    /// <param name="found">Where it comes from; null when nobody knows.</param>
    /// <exception cref="IOException">It could not be written.</exception>
    public void Save(TestCase testCase, string comment, string? found)
    {
        string name = CaseDigest.NameOf(testCase, 16);
        string file = System.IO.Path.Combine(path, name + ".case");
        if (!File.Exists(file))
        {
            // Thousands of small files: whole ones, but not each on the disk before the next. What a crash of the host loses can be found again.
            Directory.CreateDirectory(path);
            File.WriteAllText(file + ".new", new CaseFile { Comment = comment, Id = name, Found = found, Case = testCase }.Write());
            File.Move(file + ".new", file, overwrite: true);
        }
    }
}
