using System.Text.RegularExpressions;

namespace PvDiffFuzz.Architecture.Tests;

/// <summary>The documents are part of the product: what they point to exists.</summary>
public sealed partial class DocumentTests
{
    [Fact]
    public void EveryRelativeLinkResolves()
    {
        string[] documents = [.. Repository.Files("*.md").Where(f => Repository.Relative(f) == "README.md" || Repository.Relative(f).StartsWith("docs/", StringComparison.Ordinal))];
        List<string> findings = [];
        int links = 0;
        foreach (string document in documents)
        {
            foreach (Match match in Link().Matches(File.ReadAllText(document)))
            {
                string target = match.Groups["target"].Value;
                if (target.Contains("://", StringComparison.Ordinal) || target.StartsWith("mailto:", StringComparison.Ordinal))
                {
                    continue;
                }

                links++;
                string path = Path.Combine(Path.GetDirectoryName(document)!, Uri.UnescapeDataString(target.Split('#')[0]));
                if (target[0] != '#' && !File.Exists(path) && !Directory.Exists(path))
                {
                    findings.Add($"{Repository.Relative(document)}: {target} does not exist");
                }
            }
        }

        Repository.AssertNone(findings, links, 10);
    }

    /// <summary>The product stands alone: nothing points to a place that a clone does not have.</summary>
    [Fact]
    public void NoDocumentPointsOutOfTheRepository()
    {
        string[] documents = [.. Repository.Files("*.md")];

        Repository.AssertNone(
            documents.SelectMany(d => Link().Matches(File.ReadAllText(d)).Select(m => (Document: d, Target: m.Groups["target"].Value)))
                .Where(l => !l.Target.Contains("://", StringComparison.Ordinal) && Path.GetRelativePath(Repository.Root, Path.Combine(Path.GetDirectoryName(l.Document)!, l.Target)).StartsWith("..", StringComparison.Ordinal))
                .Select(l => $"{Repository.Relative(l.Document)}: {l.Target} lies outside"),
            documents.Length,
            3);
    }

    [GeneratedRegex(@"\]\((?<target>[^)\s]+)\)", RegexOptions.ExplicitCapture, 10_000)]
    private static partial Regex Link();
}
