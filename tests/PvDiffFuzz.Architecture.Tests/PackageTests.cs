using System.Text.RegularExpressions;
using System.Xml.Linq;

namespace PvDiffFuzz.Architecture.Tests;

/// <summary>Builds are reproducible: every version is fixed and every project has its lock file.</summary>
public sealed partial class PackageTests
{
    [Fact]
    public void EveryPackageVersionIsPinned()
    {
        XElement[] versions = [.. XDocument.Load(Path.Combine(Repository.Root, "Directory.Packages.props")).Descendants("PackageVersion")];

        Repository.AssertNone(
            versions.Where(v => !Exact().IsMatch((string?)v.Attribute("Version") ?? "")).Select(v => $"{(string?)v.Attribute("Include")} {(string?)v.Attribute("Version")} is not one version"),
            versions.Length,
            5);
    }

    [Fact]
    public void NoProjectNamesAVersionOfItsOwn()
    {
        Repository.AssertNone(
            Repository.Projects.Where(p => VersionAttribute().IsMatch(File.ReadAllText(p.Path))).Select(p => $"{p.Name}: versions stand in Directory.Packages.props"), Repository.Projects.Count, 10);
    }

    [Fact]
    public void EveryProjectHasALockFile()
    {
        Repository.AssertNone(
            Repository.Projects.Where(p => !File.Exists(Path.Combine(Path.GetDirectoryName(p.Path)!, "packages.lock.json"))).Select(p => $"{p.Name}: run dotnet restore and commit packages.lock.json"),
            Repository.Projects.Count,
            10);
    }

    /// <summary>The opt-in package stands in the lock files of its property and in no other.</summary>
    [Fact]
    public void TheOptInPackageHasLockFilesOfItsOwn()
    {
        string[] folders = [.. Repository.Projects.Select(p => Path.GetDirectoryName(p.Path)!)];
        bool Locks(string folder, string file) =>
            File.Exists(Path.Combine(folder, file)) && File.ReadAllText(Path.Combine(folder, file)).Contains("\"Tmds.LibC\"", StringComparison.OrdinalIgnoreCase);

        Assert.True(Locks(Path.Combine(Repository.Root, "backends", "PvDiffFuzz.Backends.Interop"), "packages.UseTmdsLibC.lock.json"), "run dotnet restore -p:UseTmdsLibC=true and commit the lock files");
        Repository.AssertNone(folders.Where(f => Locks(f, "packages.lock.json")).Select(f => $"{Repository.Relative(f)}: restored with UseTmdsLibC into the default lock file"), folders.Length, 10);
    }

    [Fact]
    public void EveryProjectIsInTheSolution()
    {
        string solution = File.ReadAllText(Path.Combine(Repository.Root, "PvDiffFuzz.sln")).Replace('\\', '/');

        Repository.AssertNone(
            Repository.Projects.Where(p => !solution.Contains(Repository.Relative(p.Path), StringComparison.Ordinal)).Select(p => $"{p.Name}: add it with dotnet sln add"), Repository.Projects.Count, 10);
    }

    [GeneratedRegex(@"^\d+(\.\d+){1,3}(-[0-9A-Za-z.]+)?$", RegexOptions.ExplicitCapture, 10_000)]
    private static partial Regex Exact();

    [GeneratedRegex(@"<PackageReference[^>]*\bVersion(Override)?\s*=", RegexOptions.ExplicitCapture, 10_000)]
    private static partial Regex VersionAttribute();
}
