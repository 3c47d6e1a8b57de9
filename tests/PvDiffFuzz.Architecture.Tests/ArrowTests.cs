using System.Reflection;

namespace PvDiffFuzz.Architecture.Tests;

/// <summary>The arrows of docs/architecture.md: what each production project may know.</summary>
public sealed class ArrowTests
{
    private const int FewestProjects = 8;

    /// <summary>What each project or family of projects may reference. A project that no row names is an error: give it a row on purpose.</summary>
    private static readonly (string Name, string[] Projects, string[] Packages)[] Rows =
    [
        ("Core", [], []),
        ("Isa", ["Core"], ["Iced"]),
        ("Harness", ["Core", "Isa"], ["Iced", "Microsoft.Extensions.Logging.Abstractions"]), // Iced: its names appear in Isa's public types.
        ("Instrument", [], ["Mono.Cecil", "Mono.Cecil.Rocks"]), // Rocks comes with the package Mono.Cecil.
        ("Models.*", ["Core", "Models.X86"], ["Iced"]),
        ("Backends.Interop", [], ["Tmds.LibC"]),
        ("Backends.*", ["Core", "Backends.*"], ["Iced"]),
    ];

    [Fact]
    public void ProjectFilesReferenceOnlyWhatTheyMay()
    {
        List<string> findings = [];
        int looked = 0;
        foreach (Project project in Repository.Production.Where(p => p.Name != "Cli"))
        {
            looked++;
            (_, string[] projects, string[] packages) = RowOf(project.Name);
            findings.AddRange(project.Projects.Where(r => !projects.Any(p => Matches(p, r))).Select(r => $"{project.Name} must not reference {r}"));
            findings.AddRange(project.Packages.Where(r => !packages.Contains(r, StringComparer.Ordinal)).Select(r => $"{project.Name} must not use package {r}"));
        }

        Repository.AssertNone(findings, looked, FewestProjects - 1);
    }

    /// <summary>The compiled truth, which also sees what came in through a package or a shared file.</summary>
    [Fact]
    public void CompiledAssembliesReferenceOnlyWhatTheyMay()
    {
        string framework = Path.GetDirectoryName(typeof(object).Assembly.Location)!;
        List<string> findings = [];
        int looked = 0;
        foreach (Project project in Repository.Production.Where(p => p.Name != "Cli"))
        {
            looked++;
            (_, string[] projects, string[] packages) = RowOf(project.Name);
            foreach (AssemblyName reference in Load(project).GetReferencedAssemblies())
            {
                string name = reference.Name!;
                bool allowed = name.StartsWith("PvDiffFuzz.", StringComparison.Ordinal)
                    ? projects.Any(p => Matches(p, name["PvDiffFuzz.".Length..]))
                    : packages.Contains(name, StringComparer.Ordinal) || File.Exists(Path.Combine(framework, name + ".dll"));
                if (!allowed)
                {
                    findings.Add($"{project.Name} was compiled against {name}");
                }
            }
        }

        Repository.AssertNone(findings, looked, FewestProjects - 1);
    }

    /// <summary>Only the command line and tests may see both models and backends.</summary>
    [Fact]
    public void OnlyTheCommandLineNamesEveryTarget()
    {
        Project cli = Assert.Single(Repository.Production, p => p.Name == "Cli");

        Assert.Contains("Models.X86", cli.Projects, StringComparer.Ordinal);
        Assert.Contains("Backends.Native", cli.Projects, StringComparer.Ordinal);
        Assert.DoesNotContain(Repository.Production, p => p.Name != "Cli" && p.Projects.Contains("Cli", StringComparer.Ordinal));
    }

    /// <summary>Loads an assembly of ours; all lie beside the tests because the command line references them.</summary>
    internal static Assembly Load(Project project) => Assembly.LoadFrom(Path.Combine(AppContext.BaseDirectory, project.Assembly + ".dll"));

    private static (string Name, string[] Projects, string[] Packages) RowOf(string name) => Assert.Single(Rows.Where(row => Matches(row.Name, name)).Take(1));

    private static bool Matches(string pattern, string name) =>
        pattern.EndsWith('*') ? name.StartsWith(pattern[..^1], StringComparison.Ordinal) : string.Equals(pattern, name, StringComparison.Ordinal);
}
