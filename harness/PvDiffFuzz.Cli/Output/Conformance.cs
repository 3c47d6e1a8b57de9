using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Output;

/// <summary>A host that was observed: a hypervisor on a processor.</summary>
/// <param name="Abi">The ABI that it speaks.</param>
/// <param name="Name">Target and the facts that tell it from others, such as <c>rfc-port, tcg-amd</c>.</param>
internal sealed record ObservedHost(Abi Abi, string Name);

/// <summary>A statement of a specification.</summary>
/// <param name="Document">The document, such as <c>PVM rfc1</c>.</param>
/// <param name="Section">The section.</param>
internal sealed record SpecClause(string Document, string Section);

/// <summary>What recordings of one host show of one clause.</summary>
internal sealed class ClauseEvidence
{
    /// <summary>Cases that executed a rule of the clause, and in which the host did as the clause says.</summary>
    public int Agree { get; set; }

    /// <summary>Cases by the known entry that describes how the host departs from the clause.</summary>
    public SortedDictionary<string, int> Departures { get; } = new(StringComparer.Ordinal);
}

/// <summary>What recordings show of a specification, clause by clause and host by host.</summary>
internal sealed class Conformance
{
    private const string PvmDocuments = "PVM ";
    private const string XenDocuments = "Xen ";

    private readonly Dictionary<(ObservedHost, SpecClause), ClauseEvidence> _clauses = [];

    /// <summary>The hosts, in the order in which their recordings came.</summary>
    public List<ObservedHost> Hosts { get; } = [];

    /// <summary>Number of recordings of each host by what replaying them showed.</summary>
    public Dictionary<(ObservedHost Host, ReplayStatus Status), int> Cases { get; } = [];

    /// <summary>Recordings that could not be compared, by the model's reason.</summary>
    public SortedDictionary<string, List<string>> NotComparable { get; } = new(StringComparer.Ordinal);

    /// <summary>Recordings in which nothing describes what differs: their files and messages.</summary>
    public List<string> Unmatched { get; } = [];

    /// <summary>Known entries that described something, with the number of cases of each host.</summary>
    public SortedDictionary<string, Dictionary<ObservedHost, int>> Departures { get; } = new(StringComparer.Ordinal);

    /// <summary>Evidence of one host for one clause; null when there is none.</summary>
    public ClauseEvidence? Of(ObservedHost host, SpecClause clause) => _clauses.GetValueOrDefault((host, clause));

    /// <summary>Replays recordings and notes what they show.</summary>
    /// <param name="files">Case files with recorded outcomes.</param>
    /// <param name="runner">The models.</param>
    /// <param name="known">Described departures.</param>
    /// <param name="host">The processor for cases that name none.</param>
    public static Conformance Of(IEnumerable<string> files, CaseRunner runner, KnownSet known, CpuProfile host)
    {
        Conformance conformance = new();
        Replay replay = new(runner, known, TargetMasks.Of);
        Dictionary<Abi, IRuleCounter> counters = [];
        foreach (string path in files)
        {
            CaseFile file = CaseFile.Read(path);
            if (ModelsByAbi.Of(file.Case.Abi) is not ModelParts model || file.Outcomes.IsEmpty)
            {
                continue;
            }

            if (!counters.TryGetValue(file.Case.Abi, out IRuleCounter? counter))
            {
                counters[file.Case.Abi] = counter = model.Probed(host, null);
            }

            conformance.Note(file, replay.Run(path, file), runner, counter, known);
        }

        foreach (IRuleCounter counter in counters.Values)
        {
            counter.Dispose();
        }

        return conformance;
    }

    /// <summary>The clauses that a known entry names: documents and sections, separated by semicolons.</summary>
    /// <param name="clause">The entry's clause.</param>
    /// <param name="documents">Names of documents; what begins with none of them is not listed.</param>
    public static IEnumerable<SpecClause> ClausesOf(string clause, IReadOnlyCollection<string> documents) =>
        from part in clause.Split("; ")
        from document in documents
        where part.StartsWith(document + " ", StringComparison.Ordinal)
        select new SpecClause(document, part[(document.Length + 1)..]);

    /// <summary>Documents of an ABI whose clauses the page lists, without readings and processor manuals.</summary>
    public static ImmutableArray<string> DocumentsOf(Abi abi) =>
    [
        .. ClausesOf(abi).Select(clause => clause.Document).Distinct(StringComparer.Ordinal),
    ];

    /// <summary>Every clause that a rule of an ABI's model cites, by document and section. What belongs to another revision, delivery or kind of guest alone is not among them.</summary>
    public static ImmutableArray<SpecClause> ClausesOf(Abi abi) =>
    [
        .. (ModelsByAbi.Of(abi)?.Rules ?? [])
            .Select(rule => new SpecClause(rule.Document, rule.Section))
            .Where(clause => clause.Document.StartsWith(abi.IsXen() ? XenDocuments : PvmDocuments, StringComparison.Ordinal) && IsAbout(abi, clause))
            .Distinct()
            .OrderBy(clause => clause.Document, StringComparer.Ordinal).ThenBy(clause => clause.Section, StringComparer.Ordinal),
    ];

    private static bool IsAbout(Abi abi, SpecClause clause) => abi switch
    {
        Abi.PvmRfc1 => clause.Document != "PVM 612",
        Abi.XenPv64 => clause.Document != "Xen FRED" && !clause.Section.Contains("FRED", StringComparison.Ordinal) && !IsNarrow(clause),
        Abi.XenPv64Fred => !IsNarrow(clause),
        _ => true,
    };

    private static bool IsNarrow(SpecClause clause) => clause.Section.StartsWith("PV32", StringComparison.Ordinal) || clause.Section.StartsWith("32-bit guest", StringComparison.Ordinal);

    private void Note(CaseFile file, ReplayResult result, CaseRunner runner, IRuleCounter counter, KnownSet known)
    {
        ObservedHost host = HostOf(file);
        Cases[(host, result.Status)] = Cases.GetValueOrDefault((host, result.Status)) + 1;
        if (result.Status == ReplayStatus.Unsupported)
        {
            NoteNotComparable(file, runner);
            return;
        }

        if (result.Status is not (ReplayStatus.Agree or ReplayStatus.Known))
        {
            Unmatched.Add($"{file.Id}: {result.Message}");
            return;
        }

        HashSet<SpecClause> departed = [];
        foreach (KnownEntry entry in known.Entries.Where(entry => result.KnownIds.Contains(entry.Id, StringComparer.Ordinal)))
        {
            Departures.TryAdd(entry.Id, []);
            Departures[entry.Id][host] = Departures[entry.Id].GetValueOrDefault(host) + 1;
            foreach (SpecClause clause in ClausesOf(entry.Clause, DocumentsOf(file.Case.Abi)))
            {
                departed.Add(clause);
                SortedDictionary<string, int> departures = EvidenceOf(host, clause).Departures;
                departures[entry.Id] = departures.GetValueOrDefault(entry.Id) + 1;
            }
        }

        HashSet<string> mnemonics = MnemonicsOf(file.Case, runner);
        foreach (SpecClause clause in Executed(file.Case, counter).Where(clause => !departed.Contains(clause) && Concerns(clause, mnemonics)))
        {
            EvidenceOf(host, clause).Agree++;
        }
    }

    private void NoteNotComparable(CaseFile file, CaseRunner runner)
    {
        string reason = runner.Only(file.Case.Abi).Examine(file.Case).Outcomes.FirstOrDefault(o => !o.Comparable)?.Detail ?? "no model runs it";
        NotComparable.TryAdd(reason, []);
        NotComparable[reason].Add(file.Id);
    }

    private ObservedHost HostOf(CaseFile file)
    {
        RecordedOutcome recorded = file.Outcomes[0];
        string[] facts = [.. recorded.Fingerprint.Facts.Where(fact => fact.Key is "impl" or "cpu").Select(fact => fact.Value)];
        ObservedHost host = new(file.Case.Abi, facts.Length > 0 ? string.Join(", ", facts) : recorded.Target);
        if (!Hosts.Contains(host))
        {
            Hosts.Add(host);
        }

        return host;
    }

    private ClauseEvidence EvidenceOf(ObservedHost host, SpecClause clause)
    {
        if (!_clauses.TryGetValue((host, clause), out ClauseEvidence? evidence))
        {
            _clauses[(host, clause)] = evidence = new ClauseEvidence();
        }

        return evidence;
    }

    /// <summary>Mnemonics of the instructions that a case executes, in capitals.</summary>
    private static HashSet<string> MnemonicsOf(TestCase testCase, CaseRunner runner)
    {
        CpuVendor vendor = runner.Analyst.VendorOf(testCase);
        return
        [
            .. runner.Analyst.TraceAfter(testCase, Answers.All).Select(i => InstructionAt.Decode(i.Bytes.AsSpan(), i.Address, i.Mode, vendor).Mnemonic.ToUpperInvariant()),
        ];
    }

    /// <summary>
    /// False for a clause that is about certain instructions alone, none of which a case executes. The model has such clauses where it lets the processor run, so that every case would count.
    /// </summary>
    private static bool Concerns(SpecClause clause, HashSet<string> mnemonics)
    {
        string[] words = clause.Section.Split([' ', '/', ','], StringSplitOptions.RemoveEmptyEntries);
        string[] named = [.. words.Where(word => word != "n")];
        return !named.All(Instructions.Contains) || named.Any(name => mnemonics.Contains(name) || (name == "INT" && mnemonics.Overlaps(["INT1", "INT3", "INTO"])));
    }

    private static readonly HashSet<string> Instructions = [.. InstructionAt.Mnemonics.Select(name => name.ToUpperInvariant()), "SYSEXIT", "SYSRET"];

    private static IEnumerable<SpecClause> Executed(TestCase testCase, IRuleCounter counter)
    {
        int[] counts = new int[counter.Rules.Length];
        counter.Count(testCase, counts);
        return counter.Rules.Where((_, i) => counts[i] > 0).Select(rule => new SpecClause(rule.Document, rule.Section)).Distinct();
    }
}
