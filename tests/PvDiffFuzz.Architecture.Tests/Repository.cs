using System.Xml.Linq;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Architecture.Tests;

/// <summary>The repository on disk, found by walking up from the test assembly to the solution.</summary>
internal static class Repository
{
    private static readonly string[] NotOurs = ["bin", "obj", ".git", "findings", "TestResults", "BenchmarkDotNet.Artifacts"];

    /// <summary>The folder of <c>PvDiffFuzz.sln</c>.</summary>
    public static string Root => Checkout.Root;

    /// <summary>All project files, sorted.</summary>
    public static IReadOnlyList<Project> Projects { get; } = [.. Files("*.csproj").Select(path => new Project(path))];

    /// <summary>Project files outside <c>tests/</c>.</summary>
    public static IEnumerable<Project> Production => Projects.Where(p => !Relative(p.Path).StartsWith("tests/", StringComparison.Ordinal));

    /// <summary>Source files outside <c>tests/</c>.</summary>
    public static IEnumerable<string> ProductionSources => Files("*.cs").Where(f => !Relative(f).StartsWith("tests/", StringComparison.Ordinal));

    /// <summary>Files of ours, sorted; build output is left out.</summary>
    public static IEnumerable<string> Files(string pattern) =>
        Walk(Root).SelectMany(folder => Directory.EnumerateFiles(folder, pattern)).Order(StringComparer.Ordinal);

    /// <summary>A path as people write it: from the root, with slashes.</summary>
    public static string Relative(string path) => Path.GetRelativePath(Root, path).Replace('\\', '/');

    /// <summary>Fails with all findings in one message.</summary>
    /// <param name="findings">What is wrong, one line each.</param>
    /// <param name="looked">How many things were looked at.</param>
    /// <param name="fewest">A lower bound for it: a search that finds nothing proves nothing.</param>
    public static void AssertNone(IEnumerable<string> findings, int looked, int fewest)
    {
        string[] all = [.. findings];
        Assert.True(all.Length == 0, $"{all.Length} findings:\n{string.Join('\n', all)}");
        Assert.True(looked >= fewest, $"only {looked} looked at, at least {fewest} expected: the search is broken");
    }

    private static IEnumerable<string> Walk(string folder) =>
        Directory.EnumerateDirectories(folder).Where(d => !NotOurs.Contains(Path.GetFileName(d), StringComparer.Ordinal)).SelectMany(Walk).Prepend(folder);
}

/// <summary>A project file as far as its references go.</summary>
internal sealed class Project
{
    private readonly XDocument _document;

    public Project(string path)
    {
        Path = path;
        _document = XDocument.Load(path);
        Name = System.IO.Path.GetFileNameWithoutExtension(path)["PvDiffFuzz.".Length..];
        Projects = [.. Includes("ProjectReference").Select(i => System.IO.Path.GetFileNameWithoutExtension(i.Replace('\\', '/'))["PvDiffFuzz.".Length..])];
        Packages = [.. Includes("PackageReference")];
    }

    /// <summary>Full path.</summary>
    public string Path { get; }

    /// <summary>Name without <c>PvDiffFuzz.</c>.</summary>
    public string Name { get; }

    /// <summary>Names of referenced projects without <c>PvDiffFuzz.</c>.</summary>
    public IReadOnlyList<string> Projects { get; }

    /// <summary>Names of referenced packages.</summary>
    public IReadOnlyList<string> Packages { get; }

    /// <summary>True when the compiler accepts <c>unsafe</c>.</summary>
    public bool AllowsUnsafe => _document.Descendants("AllowUnsafeBlocks").Any(e => bool.Parse(e.Value));

    /// <summary>Name of the assembly that it makes.</summary>
    public string Assembly => _document.Descendants("AssemblyName").FirstOrDefault()?.Value ?? "PvDiffFuzz." + Name;

    private IEnumerable<string> Includes(string element) => _document.Descendants(element).Select(e => (string?)e.Attribute("Include")).OfType<string>();
}
