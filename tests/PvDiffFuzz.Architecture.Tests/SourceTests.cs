using System.Text.RegularExpressions;

namespace PvDiffFuzz.Architecture.Tests;

/// <summary>House rules that are visible in the text of a source file.</summary>
public sealed partial class SourceTests
{
    private const int LongestFile = 500;
    private const int FewestSources = 30;

    [Fact]
    public void NoSourceFileIsLongerThanFiveHundredLines()
    {
        string[] files = [.. Repository.Files("*.cs")];

        Repository.AssertNone(
            files.Select(f => (File: f, Lines: File.ReadLines(f).Count())).Where(f => f.Lines > LongestFile).Select(f => $"{Repository.Relative(f.File)} has {f.Lines} lines"),
            files.Length,
            FewestSources);
    }

    [Fact]
    public void UnsafeCodeIsAllowedOnlyWhereDesignAllowsIt()
    {
        Project[] projects = [.. Repository.Projects];

        Repository.AssertNone(
            projects.Where(p => p.AllowsUnsafe && p.Name is not ("Models.X86" or "Instrument") && !p.Name.StartsWith("Backends.", StringComparison.Ordinal)).Select(p => $"{p.Name} allows unsafe code"),
            projects.Count(p => p.AllowsUnsafe),
            1);
    }

    /// <summary>Where a file may do what the compiler cannot check, it says why that is right.</summary>
    [Fact]
    public void EveryFileWithUnsafeCodeSaysWhyItIsSafe()
    {
        string[] files = [.. Repository.Files("*.cs").Where(f => File.ReadLines(f).Any(line => Unsafe().IsMatch(Code(line))))];

        Repository.AssertNone(
            files.Where(f => !File.ReadAllText(f).Contains("// SAFETY: ", StringComparison.Ordinal)).Select(f => $"{Repository.Relative(f)} uses unsafe without a // SAFETY: comment"),
            files.Length,
            1);
    }

    /// <summary>An unsafe block or method carries its own reason, within the eight lines before it or the first four of it.</summary>
    [Fact]
    public void EveryUnsafeBlockAndMethodHasItsReasonBesideIt()
    {
        List<string> findings = [];
        int looked = 0;
        foreach (string file in Repository.ProductionSources)
        {
            string[] lines = File.ReadAllLines(file);
            for (int i = 0; i < lines.Length; i++)
            {
                looked++;
                bool block = Unsafe().IsMatch(Code(lines[i])) && !UnsafeType().IsMatch(Code(lines[i]));
                if (block && !lines[Math.Max(0, i - 8)..Math.Min(lines.Length, i + 5)].Any(line => line.Contains("// SAFETY: ", StringComparison.Ordinal)))
                {
                    findings.Add($"{Repository.Relative(file)}:{i + 1}: unsafe without a // SAFETY: comment beside it");
                }
            }
        }

        Repository.AssertNone(findings, looked, 1000);
    }

    /// <summary>Each word, where it may stand none the less, and what to use.</summary>
    [Theory]
    [InlineData(@"\bGetEnvironmentVariables?\b", "harness/PvDiffFuzz.Cli/", "nothing is read from the environment below the command line; pass an option")]
    [InlineData(@"\bNotImplementedException\b", null, "what is missing is Unsupported, or is not there")]
    [InlineData(@"\bThread\.Sleep\b", null, "wait for the event itself")]
    [InlineData(@"\bDllImport\b", null, "use LibraryImport in Backends.Interop")]
    [InlineData(@"\bLibraryImport\b", "backends/PvDiffFuzz.Backends.Interop/", "native functions are declared once, in Backends.Interop")]
    [InlineData(@"catch\s*\(\s*Exception\s*\)\s*\{\s*\}", null, "say what was caught and what follows")]
    [InlineData(@"\bTODO\b|\bFIXME\b", null, "do it, or open an issue")]
    public void NoProductionFileUsesWhatTheHouseRulesForbid(string pattern, string? except, string instead)
    {
        Regex word = new(pattern, RegexOptions.None, TimeSpan.FromSeconds(10));
        string[] files = [.. Repository.ProductionSources.Where(f => except is null || !Repository.Relative(f).StartsWith(except, StringComparison.Ordinal))];

        Repository.AssertNone(files.Where(f => word.IsMatch(File.ReadAllText(f))).Select(f => $"{Repository.Relative(f)}: {instead}"), files.Length, FewestSources);
    }

    /// <summary>A test that is switched off in its source is deleted or switched on; skipping with a reason found at run time is something else.</summary>
    [Fact]
    public void NoTestIsSwitchedOffInItsSource()
    {
        string[] files = [.. Repository.Files("*.cs").Where(f => Repository.Relative(f).StartsWith("tests/", StringComparison.Ordinal))];

        Repository.AssertNone(files.Where(f => SkippedInSource().IsMatch(File.ReadAllText(f))).Select(Repository.Relative), files.Length, 10);
    }

    /// <summary>A line without its comment; strings do not hold the words that are looked for.</summary>
    private static string Code(string line)
    {
        int comment = line.IndexOf("//", StringComparison.Ordinal);
        string code = comment < 0 ? line : line[..comment];
        return code.Contains('"', StringComparison.Ordinal) ? "" : code;
    }

    [GeneratedRegex(@"\bunsafe\b", RegexOptions.ExplicitCapture, 10_000)]
    private static partial Regex Unsafe();

    [GeneratedRegex(@"\bunsafe\b.*\b(class|struct|interface|delegate)\b", RegexOptions.ExplicitCapture, 10_000)]
    private static partial Regex UnsafeType();

    [GeneratedRegex("\\[(Fact|Theory)\\([^)]*Skip\\s*=\\s*\"", RegexOptions.ExplicitCapture, 10_000)]
    private static partial Regex SkippedInSource();
}
