using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using System.Xml;

namespace PvDiffFuzz.Harness;

/// <summary>What <c>pvdf replay --json</c> prints, to be serialised with camelCase names.</summary>
/// <param name="Cases">Files.</param>
/// <param name="Agree">Files that agree, as stored.</param>
/// <param name="Known">Files that diverge as a known entry describes, as stored.</param>
/// <param name="Open">Files stored as new that still diverge.</param>
/// <param name="Changed">Files whose verdict or answers are not as stored.</param>
/// <param name="Unsupported">Files with fewer than two comparable outcomes.</param>
/// <param name="Failed">Files that cannot be read, or on which our machinery failed.</param>
/// <param name="Failures">Changed and failed files.</param>
public sealed record ReplayReport(
    int Cases, int Agree, int Known, int Open, int Changed, int Unsupported, int Failed, ImmutableArray<ReplayFailure> Failures)
{
    /// <summary>Matches by id of the known entry; entries that matched nothing are in it with 0.</summary>
    public required ImmutableSortedDictionary<string, int> KnownMatches { get; init; }

    /// <summary>Sums results up.</summary>
    /// <param name="results">One a file.</param>
    /// <param name="known">The known entries that were at hand.</param>
    public static ReplayReport Of(IReadOnlyCollection<ReplayResult> results, KnownSet known)
    {
        ArgumentNullException.ThrowIfNull(results);
        return new ReplayReport(
            results.Count,
            Count(ReplayStatus.Agree),
            Count(ReplayStatus.Known),
            Count(ReplayStatus.Open),
            Count(ReplayStatus.Changed),
            Count(ReplayStatus.Unsupported),
            Count(ReplayStatus.Failed),
            [.. results.Where(r => r.Status is ReplayStatus.Changed or ReplayStatus.Failed).Select(r => new ReplayFailure(r.Path, r.Fields, r.Message))])
        {
            KnownMatches = known.Entries.ToImmutableSortedDictionary(e => e.Id, e => results.Count(r => r.KnownIds.Contains(e.Id, StringComparer.Ordinal)), StringComparer.Ordinal),
        };

        int Count(ReplayStatus status) => results.Count(r => r.Status == status);
    }
}

/// <summary>A file that must be looked at.</summary>
/// <param name="Case">The file.</param>
/// <param name="Fields">Fields that differ.</param>
/// <param name="Message">One line.</param>
public sealed record ReplayFailure(string Case, ImmutableArray<string> Fields, string Message);

/// <summary>Writes replay results as JUnit XML, the form that CI systems read.</summary>
public static class JUnit
{
    /// <summary>Writes one test suite.</summary>
    /// <param name="writer">Receives the text.</param>
    /// <param name="suite">Name of the suite.</param>
    /// <param name="results">One test case each: changed cases are failures, failed ones errors, unsupported ones skipped.</param>
    public static void Write(TextWriter writer, string suite, IReadOnlyCollection<ReplayResult> results)
    {
        ArgumentNullException.ThrowIfNull(results);
        using XmlWriter xml = XmlWriter.Create(writer, new XmlWriterSettings { Indent = true, NewLineChars = "\n" });
        xml.WriteStartElement("testsuite");
        xml.WriteAttributeString("name", Printable(suite));
        Number("tests", results.Count);
        Number("failures", results.Count(r => r.Status == ReplayStatus.Changed));
        Number("errors", results.Count(r => r.Status == ReplayStatus.Failed));
        Number("skipped", results.Count(r => r.Status == ReplayStatus.Unsupported));
        xml.WriteAttributeString("time", Seconds(results.Sum(r => r.Seconds)));
        foreach (ReplayResult result in results)
        {
            xml.WriteStartElement("testcase");
            xml.WriteAttributeString("classname", Printable(Path.GetDirectoryName(result.Path) ?? ""));
            xml.WriteAttributeString("name", Printable(Path.GetFileNameWithoutExtension(result.Path)));
            xml.WriteAttributeString("time", Seconds(result.Seconds));
            string? element = result.Status switch
            {
                ReplayStatus.Changed => "failure",
                ReplayStatus.Failed => "error",
                ReplayStatus.Unsupported => "skipped",
                _ => null,
            };
            if (element is not null)
            {
                xml.WriteStartElement(element);
                xml.WriteAttributeString("message", Printable(result.Message));
                xml.WriteEndElement();
            }

            xml.WriteEndElement();
        }

        xml.WriteEndElement();

        void Number(string name, int value) => xml.WriteAttributeString(name, value.ToString(CultureInfo.InvariantCulture));
    }

    private static string Seconds(double seconds) => seconds.ToString("f3", CultureInfo.InvariantCulture);

    // Names of files may hold characters that XML has no way to write.
    private static string Printable(string text)
    {
        StringBuilder printable = new(text.Length);
        foreach (Rune rune in text.EnumerateRunes())
        {
            bool ok = rune.Value is 0x9 or 0xa or 0xd or (>= 0x20 and <= 0xd7ff) or (>= 0xe000 and <= 0xfffd) or >= 0x10000;
            printable.Append(ok ? rune.ToString() : "?");
        }

        return printable.ToString();
    }
}
