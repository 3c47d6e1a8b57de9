using System.Text.Json;
using System.Xml.Linq;
using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Cli.Tests;

/// <summary>What the commands print for programs and for people, and what they return.</summary>
[Collection(TerminalCollection.Name)]
public sealed class CommandTests : IDisposable
{
    private const string Quiet = """
        # Describes something that no test shows.
        id       quiet
        kind     host
        clause   SDM vol.2A NOP
        reason   none
        targets  native
        forms    Nop
        vectors  1
        fields   event.rip

        """;

    private readonly Terminal _terminal = new();

    /// <inheritdoc/>
    public void Dispose() => _terminal.Dispose();

    [Fact]
    public void DoctorTellsOfEveryTarget()
    {
        _terminal.Composition.Register("broken", _ => throw new TargetUnavailableException("no such device", "plug it in"));
        Printed printed = _terminal.Run("doctor", "--json");
        Dictionary<string, JsonElement> targets = printed.Json.GetProperty("targets").EnumerateArray().ToDictionary(t => t.GetProperty("name").GetString()!);

        Assert.Equal(["broken", "kvm", Terminal.Planted, "model.pvm", Terminal.Twin, "model.x86", "model.xen", "model.xen-fred", "native", "pvm"], targets.Keys.Where(name => !name.StartsWith("xen", StringComparison.Ordinal)).Order(StringComparer.Ordinal));
        Assert.Contains(targets.Keys, name => name == "xen" || name.StartsWith("xen:", StringComparison.Ordinal));
        Assert.True(targets["model.x86"].GetProperty("ok").GetBoolean());
        Assert.False(targets["broken"].GetProperty("ok").GetBoolean());
        Assert.Equal("no such device", targets["broken"].GetProperty("reason").GetString());
        Assert.Equal("plug it in", targets["broken"].GetProperty("cure").GetString());
        Assert.Equal((int)ExitCode.Failed, printed.Exit);
        Assert.Equal((int)ExitCode.Ok, _terminal.Run("doctor", "--require", "model.x86").Exit);
    }

    [Fact]
    public void RunGivesEveryOutcomeAndTheCamps()
    {
        Printed agreed = _terminal.Run("run", _terminal.WriteCase(), "--json", "--targets", $"model.x86,{Terminal.Twin}");
        JsonElement[] outcomes = [.. agreed.Json.GetProperty("outcomes").EnumerateArray()];

        Assert.Equal((int)ExitCode.Ok, agreed.Exit);
        Assert.Equal(["model.x86", Terminal.Twin], outcomes.Select(o => o.GetProperty("target").GetString()));
        Assert.All(outcomes, outcome =>
        {
            JsonElement only = Assert.Single(outcome.GetProperty("events").EnumerateArray());
            Assert.Equal("event", outcome.GetProperty("end").GetString());
            Assert.Equal(13, only.GetProperty("vector").GetInt32());
            Assert.Equal("102", only.GetProperty("error").GetString());
            Assert.Equal("idt", only.GetProperty("entry").GetString());
            Assert.Equal("64-bit", only.GetProperty("mode").GetString());
            Assert.Equal(80, only.GetProperty("frame").GetString()!.Length);
            Assert.Equal("1", only.GetProperty("registers").GetProperty("rax").GetString());
            Assert.Equal("123456789abcdef1", outcome.GetProperty("registers").GetProperty("rbx").GetString());
            Assert.Empty(outcome.GetProperty("memory").EnumerateArray());
        });
        Assert.Single(agreed.Json.GetProperty("camps").EnumerateArray());

        Printed differed = _terminal.Run("run", _terminal.WriteCase(), "--json", "--targets", $"model.x86,{Terminal.Planted}");
        Assert.Equal((int)ExitCode.Diverged, differed.Exit);
        Assert.Equal(["model.x86", Terminal.Planted], differed.Json.GetProperty("camps").EnumerateArray().Select(c => Assert.Single(c.EnumerateArray()).GetString()));
        Assert.Equal(["event[0].error"], differed.Json.GetProperty("differences").EnumerateArray().Select(d => d.GetString()));
    }

    [Fact]
    public void ShowPrintsTheCaseAndMarksWhatDiffers()
    {
        Printed printed = _terminal.Run("show", _terminal.WriteCase(), "--targets", $"model.x86,{Terminal.Planted}");

        Assert.Equal((int)ExitCode.Ok, printed.Exit);
        Assert.All(
            ["INT n through a gate of DPL 0.", "inc rax", "inc rbx", "int 0x20", "cd20", "rbx=123456789abcdef0", "model.x86", Terminal.Planted, "event[0].error"],
            text => Assert.Contains(text, printed.Out, StringComparison.Ordinal));

        JsonElement json = _terminal.Run("show", _terminal.WriteCase(), "--json").Json;
        Assert.Equal(["inc rax", "inc rbx", "int 0x20"], json.GetProperty("code").EnumerateArray().Select(i => i.GetProperty("text").GetString()));
        Assert.Equal("int", json.GetProperty("id").GetString());

        // The rules are those of INT n alone, the last instruction: not those of INC.
        string[] rules = [.. json.GetProperty("rules").EnumerateArray().Select(r => r.GetProperty("implementation").GetString()!)];
        Assert.Equal("Int_imm8", json.GetProperty("instruction").GetProperty("form").GetString());
        Assert.Equal("Entry.Interrupt", rules[0]);
        Assert.DoesNotContain("Arithmetic.Increment", rules, StringComparer.Ordinal);
    }

    /// <summary>A program that reads the output need not ask whether a key is there.</summary>
    [Fact]
    public void KeysWithoutAValueAreNull()
    {
        string undefined = _terminal.Write("ud.case", File.ReadAllText(_terminal.WriteCase()).Replace("cd 20", "0f 0b", StringComparison.Ordinal));
        JsonElement outcome = _terminal.Run("run", undefined, "--json", "--targets", "model.x86").Json.GetProperty("outcomes")[0];
        JsonElement ud = Assert.Single(outcome.GetProperty("events").EnumerateArray());

        Assert.Equal(6, ud.GetProperty("vector").GetInt32());
        Assert.All([ud.GetProperty("error"), ud.GetProperty("cr2"), outcome.GetProperty("detail")], value => Assert.Equal(JsonValueKind.Null, value.ValueKind));
    }

    /// <summary>A campaign goes on from its journal alone; the journal of other cases, and what is none, is refused.</summary>
    [Fact]
    public void FuzzGoesOnFromItsJournal()
    {
        string folder = _terminal.Path("out");
        string[] targets = ["--targets", $"model.x86,{Terminal.Twin}"];
        Assert.Equal((int)ExitCode.Ok, _terminal.Run(["fuzz", "--seed", "5eed", "--count", "8192", "--jobs", "1", "--out", folder, .. targets]).Exit);
        string journal = Assert.Single(Directory.GetFiles(folder, "*.journal"));
        JsonElement rest = _terminal.Run("fuzz", "--resume", journal, "--count", "20000", "--jobs", "1", "--json").Json;

        Assert.Equal(("5eed", 20000 - 8192), (rest.GetProperty("seed").GetString(), rest.GetProperty("cases").GetInt32()));
        Assert.Equal(["model.x86", Terminal.Twin], rest.GetProperty("targets").EnumerateArray().Select(t => t.GetProperty("name").GetString()));
        Assert.Equal(20000, _terminal.Run("coverage", folder, "--json").Json.GetProperty("cases").GetInt32());
        foreach ((string[] args, string said) in (IEnumerable<(string[], string)>)[
            (["--resume", journal, "--count", "20000", "--raw-percent", "50"], "raw=5 "),
            (["--resume", journal, "--count", "20000", "--seed", "1"], "seed 5eed"),
            (["--resume", _terminal.Path("absent"), "--count", "1"], "absent:1: "),
            (["--resume", _terminal.WriteCase(), "--count", "1"], "is no journal line"),
            (["--skip-suspects", "--count", "1"], "--resume")])
        {
            Printed refused = _terminal.Run(["fuzz", "--out", folder, .. args]);
            Assert.Equal((int)ExitCode.Usage, refused.Exit);
            Assert.Contains(said, refused.Error, StringComparison.Ordinal);
        }
    }

    /// <summary>What compared nothing does not look like a success.</summary>
    [Fact]
    public void FuzzThatComparedNothingFails()
    {
        _terminal.Composition.Register("none", profile => new Wrapped("none", new Models.X86.X86Model(profile), _ => Outcome.Unsupported("nothing works")));
        string[] args = ["fuzz", "--count", "512", "--seed", "1", "--jobs", "1", "--out", _terminal.Path("out"), "--targets"];
        Printed printed = _terminal.Run([.. args, "model.x86,none"]);

        Assert.Equal((int)ExitCode.Failed, printed.Exit);
        Assert.Contains("nothing was compared", printed.Error, StringComparison.Ordinal);
        Assert.Equal((int)ExitCode.Ok, _terminal.Run([.. args, "model.x86"]).Exit);
    }

    /// <summary>A sweep ends after one pass: from its 653,824th case on there are 512. It is no guided campaign, and its journal says what it is.</summary>
    [Fact]
    public void ASweepEndsAfterOnePass()
    {
        string folder = _terminal.Path("out");
        string[] args = ["fuzz", "--sweep", "--seed", "1", "--start", "653824", "--jobs", "1", "--targets", $"model.x86,{Terminal.Twin}", "--out", folder];
        JsonElement json = _terminal.Run([.. args, "--json"]).Json;
        Printed refused = _terminal.Run([.. args, "--guide", "rules"]);

        Assert.Equal(512, json.GetProperty("cases").GetInt32());
        Assert.Contains("\nsource sweep 1 generator ", File.ReadAllText(Path.Combine(folder, "1-0.journal")), StringComparison.Ordinal);
        Assert.Equal((int)ExitCode.Usage, refused.Exit);
        Assert.Contains("--guide rules", refused.Error, StringComparison.Ordinal);
    }

    /// <summary>A case written by hand replays before anybody made it canonical; a folder without any case is a mistake.</summary>
    [Fact]
    public void ReplayTakesCasesWrittenByHandAndNeedsAtLeastOne()
    {
        string byHand = _terminal.Write("hand.case", File.ReadAllText(_terminal.WriteCase()).Replace("id       int", "id int", StringComparison.Ordinal));
        Assert.Throws<CaseFileException>(() => CaseFile.Read(byHand));
        JsonElement json = _terminal.Run("replay", byHand, "--json", "--targets", $"model.x86,{Terminal.Twin}").Json;
        Printed empty = _terminal.Run("replay", Directory.CreateDirectory(_terminal.Path("empty")).FullName);

        Assert.Equal((1, 1), (json.GetProperty("cases").GetInt32(), json.GetProperty("agree").GetInt32()));
        Assert.Equal((int)ExitCode.Usage, empty.Exit);
        Assert.Contains("no *.case", empty.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void CoverageCountsFormsAndRules()
    {
        Printed printed = _terminal.Run("coverage", "--json", "--missing");
        JsonElement forms = printed.Json.GetProperty("forms");
        JsonElement rules = printed.Json.GetProperty("rules");
        JsonElement[] rows = [.. forms.GetProperty("byFamily").EnumerateArray()];
        (int valid, int modelled) = (forms.GetProperty("valid").GetInt32(), forms.GetProperty("modelled").GetInt32());

        Assert.Equal((int)ExitCode.Ok, printed.Exit);
        Assert.InRange(modelled, 500, valid);
        Assert.Equal(valid, rows.Sum(r => r.GetProperty("valid").GetInt32()));
        Assert.Equal(modelled, rows.Sum(r => r.GetProperty("modelled").GetInt32()));
        Assert.Equal(["compatibility32", "long64"], rows.Select(r => r.GetProperty("mode").GetString()).Distinct().Order(StringComparer.Ordinal));
        Assert.Equal(valid - modelled, forms.GetProperty("missing").GetArrayLength());
        Assert.InRange(rules.GetProperty("total").GetInt32(), 20, int.MaxValue);
    }

    /// <summary>A campaign's folder tells which rules it executed. Targets of the model's own lineage confirm none.</summary>
    [Fact]
    public void CoverageShowsWhatACampaignExecuted()
    {
        string folder = _terminal.Path("out");
        _terminal.Run("fuzz", "--count", "8192", "--seed", "5eed", "--jobs", "2", "--targets", $"model.x86,{Terminal.Twin}", "--out", folder);
        JsonElement json = _terminal.Run("coverage", folder, "--json").Json;
        JsonElement rules = json.GetProperty("rules");
        JsonElement[] list = [.. rules.GetProperty("list").EnumerateArray()];
        string text = _terminal.Run("coverage", folder).Out;

        Assert.Equal((1, 8192, 256), (json.GetProperty("campaigns").GetInt32(), json.GetProperty("cases").GetInt32(), json.GetProperty("sampled").GetInt32()));
        Assert.Equal(ModelsByAbi.AllRules.Length, list.Length);
        Assert.Equal(list.Length, rules.GetProperty("total").GetInt32());
        Assert.InRange(rules.GetProperty("executed").GetInt32(), 50, list.Length - 1);
        Assert.Equal(list.Count(r => r.GetProperty("executed").GetInt64() > 0), rules.GetProperty("executed").GetInt32());
        Assert.Equal(0, rules.GetProperty("confirmed").GetInt32());
        Assert.Equal(list.Length - rules.GetProperty("executed").GetInt32(), text.Split('\n').Count(l => l.StartsWith("not executed", StringComparison.Ordinal)));
        Assert.Contains("mask logic-af", text, StringComparison.Ordinal);
    }

    [Fact]
    public void CoverageWithoutACampaignClaimsNothing()
    {
        JsonElement rules = _terminal.Run("coverage", "--json").Json.GetProperty("rules");

        Assert.Equal((0, 0, 0), (rules.GetProperty("executed").GetInt32(), rules.GetProperty("confirmed").GetInt32(), rules.GetProperty("contradicted").GetInt32()));
        Assert.DoesNotContain("not executed", _terminal.Run("coverage").Out, StringComparison.Ordinal);
        Assert.Equal((int)ExitCode.Usage, _terminal.Run("coverage", _terminal.Path("nowhere")).Exit);
    }

    /// <summary>The instrumented copy has exactly the rules of the model, and answers like it.</summary>
    [Fact]
    public void TheInstrumentedModelIsTheModel()
    {
        using IRuleCounter counter = ModelsByAbi.Of(Abi.X86)!.Probed(_terminal.Composition.Host, null);
        int[] counts = new int[counter.Rules.Length];
        counter.Count(CaseFile.Read(_terminal.WriteCase(), lenient: true).Case, counts);
        string[] used = [.. counter.Rules.Where((_, i) => counts[i] > 0).Select(r => r.Implementation)];

        Assert.Equal(
            Models.X86.X86Rules.All.Select(r => $"{r.Document} {r.Section} ({r.Implementation})").Order(StringComparer.Ordinal),
            counter.Rules.Select(r => r.ToString()).Order(StringComparer.Ordinal));
        Assert.Contains("Arithmetic.Increment", used, StringComparer.Ordinal);
        Assert.Contains("Delivery.SavedRflags", used, StringComparer.Ordinal);
        Assert.DoesNotContain("Arithmetic.Decrement", used, StringComparer.Ordinal);
    }

    /// <summary>The copy of the PVM model stands on the instrumented copy of the processor's, so that one run counts the rules of both.</summary>
    [Fact]
    public void TheInstrumentedModelOfPvmCountsTheProcessorsRulesToo()
    {
        using IRuleCounter counter = ModelsByAbi.Of(Abi.PvmRfc1)!.Probed(CpuProfile.DefaultAmd, null);
        int[] counts = new int[counter.Rules.Length];
        TestCase testCase = new GeneratedCases(GeneratorOptions.DefaultsFor(Abi.PvmRfc1), CpuProfile.DefaultAmd, 1).Generate(0);
        counter.Count(testCase, counts);
        string[] used = [.. counter.Rules.Where((_, i) => counts[i] > 0).Select(r => r.Implementation)];

        Assert.Equal(
            Models.Pvm.PvmRules.All.Concat(Models.X86.X86Rules.All).Select(r => $"{r.Document} {r.Section} ({r.Implementation})").Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal),
            counter.Rules.Select(r => r.ToString()).Order(StringComparer.Ordinal));
        Assert.Contains("UnderlyingStates.Standardize", used, StringComparer.Ordinal);
        Assert.Contains("Delivery.SetMode", used, StringComparer.Ordinal);
    }

    /// <summary>Rules that are listed as out of the generator's reach are rules, and it does not reach them. What was once out of reach is in it.</summary>
    [Fact]
    public void TheGeneratorReachesWhatIsNotListed()
    {
        using IRuleCounter counter = ModelsByAbi.Of(Abi.PvmRfc1)!.Probed(CpuProfile.DefaultAmd, null);
        int[] counts = new int[counter.Rules.Length];
        GeneratedCases cases = new(GeneratorOptions.DefaultsFor(Abi.PvmRfc1), CpuProfile.DefaultAmd, 1);
        for (ulong i = 0; i < 3000; i++)
        {
            counter.Count(cases.Generate(i), counts);
        }

        string[] used = [.. counter.Rules.Where((_, i) => counts[i] > 0).Select(r => r.Implementation).Distinct()];
        string[] listed = [.. UnreachedRules.Rows.Where(r => r.Abi.IsPvm()).Select(r => r.Implementation)];

        Assert.Equal([], listed.Except(counter.Rules.Select(r => r.Implementation), StringComparer.Ordinal));
        Assert.Equal([], listed.Intersect(used, StringComparer.Ordinal));
        Assert.Equal(
            [],
            new[] { "UserSyscall.FromCompatibility", "Privileged.StoreTable", "Privileged.StoreMachineStatus", "ChangedInstructions.Forbidden", "ChangedInstructions.ShowDescriptors" }
                .Except(used, StringComparer.Ordinal));
    }

    /// <summary>The same for Xen, over its three ABIs.</summary>
    [Fact]
    public void TheGeneratorReachesWhatIsNotListedOfXen()
    {
        using IRuleCounter counter = ModelsByAbi.Of(Abi.XenPv64)!.Probed(CpuProfile.DefaultAmd, null);
        int[] counts = new int[counter.Rules.Length];
        foreach (Abi abi in (Abi[])[Abi.XenPv64, Abi.XenPv64Fred, Abi.XenPv32])
        {
            GeneratedCases cases = new(GeneratorOptions.DefaultsFor(abi), CpuProfile.DefaultAmd, 1);
            for (ulong i = 0; i < 2000; i++)
            {
                counter.Count(cases.Generate(i), counts);
            }
        }

        string[] used = [.. counter.Rules.Where((_, i) => counts[i] > 0).Select(r => r.Implementation).Distinct()];
        string[] listed = [.. UnreachedRules.Rows.Where(r => r.Abi.IsXen()).Select(r => r.Implementation)];

        Assert.Equal([], listed.Except(counter.Rules.Select(r => r.Implementation), StringComparer.Ordinal));
        Assert.Equal([], listed.Intersect(used, StringComparer.Ordinal));
        Assert.Equal([], new[] { "SoftwareInterrupts.SystemCall", "SoftwareInterrupts.Emulate", "BounceFrame64.Enter", "ForcedEmulation.TryRun", "Multicall.Execute" }.Except(used, StringComparer.Ordinal));
    }

    /// <summary>A known entry that matched nothing shows in the text, too.</summary>
    [Fact]
    public void AKnownEntryThatMatchesNothingIsSaid()
    {
        string known = Path.GetDirectoryName(_terminal.Write("quiet.known", Quiet))!;
        string[] targets = ["--targets", $"model.x86,{Terminal.Twin}", "--known", known];
        const string said = "known  quiet: 0, matched nothing here";

        Assert.Contains(said, _terminal.Run(["fuzz", "--count", "64", "--seed", "1", "--jobs", "1", "--out", _terminal.Path("out"), .. targets]).Out, StringComparison.Ordinal);
        Assert.Contains(said, _terminal.Run(["replay", _terminal.WriteCase(), .. targets]).Out, StringComparison.Ordinal);
        Assert.Equal(0, _terminal.Run(["replay", _terminal.WriteCase(), "--json", .. targets]).Json.GetProperty("knownMatches").GetProperty("quiet").GetInt32());
    }

    [Fact]
    public void FuzzWithTargetsThatAgreeReportsNothing()
    {
        string folder = _terminal.Path("out");
        Printed printed = _terminal.Run("fuzz", "--count", "20000", "--seed", "5eed", "--jobs", "2", "--targets", $"model.x86,{Terminal.Twin}", "--json", "--out", folder);
        JsonElement json = printed.Json;

        Assert.Equal((int)ExitCode.Ok, printed.Exit);
        Assert.Equal(20000, json.GetProperty("cases").GetInt32());
        Assert.InRange(json.GetProperty("comparable").GetInt32(), 18000, 20000);
        Assert.Equal(0, json.GetProperty("harnessErrors").GetInt32());
        Assert.InRange(json.GetProperty("unsupported").GetInt32(), 0, 2000);
        Assert.All(["new", "known", "explained"], kind => Assert.Equal(0, json.GetProperty("divergences").GetProperty(kind).GetInt32()));
        Assert.Empty(json.GetProperty("findings").EnumerateArray());
        Assert.True(json.GetProperty("casesPerSecond").GetDouble() > 0);
        Assert.True(json.GetProperty("seconds").GetDouble() > 0);
        Assert.Equal("5eed", json.GetProperty("seed").GetString());
        Assert.Equal("0/1", json.GetProperty("shard").GetString());
        JsonElement[] targets = [.. json.GetProperty("targets").EnumerateArray()];
        Assert.Equal(["model.x86", Terminal.Twin], targets.Select(t => t.GetProperty("name").GetString()));
        Assert.All(targets, t => Assert.Equal(("model", "model"), (t.GetProperty("kind").GetString(), t.GetProperty("lineage").GetString())));
        Assert.All(targets, t => Assert.Contains("version=", t.GetProperty("fingerprint").GetString(), StringComparison.Ordinal));
        Assert.Empty(Directory.GetFiles(folder, "*.case"));
    }

    [Fact]
    public void FuzzWithAPlantedFaultSavesItAndSaysSo()
    {
        string folder = _terminal.Path("out");
        string[] args = ["fuzz", "--count", "8192", "--seed", "5eed", "--jobs", "1", "--targets", $"model.x86,{Terminal.Planted}", "--out", folder];
        Printed printed = _terminal.Run([.. args, "--json"]);
        JsonElement finding = Assert.Single(printed.Json.GetProperty("findings").EnumerateArray(), f => f.GetProperty("signature").GetString()!.Contains(" #13 event.error ", StringComparison.Ordinal) && f.GetProperty("signature").GetString()!.Contains(" Int_imm8 ", StringComparison.Ordinal));

        Assert.Equal((int)ExitCode.Diverged, printed.Exit);
        Assert.Equal($"x86 Int_imm8 #13 event.error {Terminal.Planted}/model.x86", finding.GetProperty("signature").GetString());
        Assert.Equal(1, finding.GetProperty("instructions").GetInt32());
        Assert.InRange(finding.GetProperty("count").GetInt32(), 1, printed.Json.GetProperty("divergences").GetProperty("new").GetInt32());
        string path = finding.GetProperty("case").GetString()!;
        Assert.Equal(folder, Path.GetDirectoryName(path));
        Assert.Equal("new", CaseFile.Read(path).Verdict);
        Assert.Equal((int)ExitCode.Diverged, _terminal.Run("run", path, "--targets", $"model.x86,{Terminal.Planted}").Exit);
        Assert.Equal((int)ExitCode.Ok, _terminal.Run("run", path, "--targets", $"model.x86,{Terminal.Twin}").Exit);

        Printed plain = _terminal.Run(args);
        Assert.Equal((int)ExitCode.Diverged, plain.Exit);
        Assert.Contains($"new    x86 Int_imm8 #13 event.error {Terminal.Planted}/model.x86: ", plain.Out, StringComparison.Ordinal);
    }

    [Fact]
    public void MinimisePrintsASmallerCase()
    {
        string path = _terminal.WriteCase();
        Printed printed = _terminal.Run("minimise", path, "--targets", $"model.x86,{Terminal.Planted}");
        CaseFile small = CaseFile.Parse(System.Text.Encoding.UTF8.GetBytes(printed.Out), "stdout");

        Assert.Equal((int)ExitCode.Diverged, printed.Exit);
        Assert.Equal(2, Assert.Single(small.Case.Code.Lengths));
        Assert.Equal(0UL, small.Case.Registers[Register.Rbx]);
        Assert.Equal([2u, 0u], small.Outcomes.Select(o => Assert.Single(o.Outcome.Events).ErrorCode!.Value));
        Assert.Contains("3 -> 1 instruction(s)", printed.Error, StringComparison.Ordinal);

        string saved = _terminal.Path("small.case");
        Assert.Equal((int)ExitCode.Diverged, _terminal.Run("minimise", path, "--targets", $"model.x86,{Terminal.Planted}", "--save", saved).Exit);
        Assert.Equal(printed.Out, File.ReadAllText(saved));
    }

    [Fact]
    public void MinimiseRefusesACaseThatDoesNotDiverge()
    {
        Printed printed = _terminal.Run("minimise", _terminal.WriteCase(), "--targets", $"model.x86,{Terminal.Twin}");

        Assert.Equal((int)ExitCode.Ok, printed.Exit);
        Assert.Empty(printed.Out);
        Assert.Contains("do not differ", printed.Error, StringComparison.Ordinal);
    }

    [Fact]
    public void ReplayTellsWhatStandsFromWhatChanged()
    {
        string path = _terminal.Path("small.case");
        string junit = _terminal.Path("junit.xml");
        string[] targets = ["--targets", $"model.x86,{Terminal.Planted}"];
        Assert.Equal((int)ExitCode.Diverged, _terminal.Run(["minimise", _terminal.WriteCase(), "--save", path, .. targets]).Exit);

        Printed stands = _terminal.Run(["replay", path, "--json", .. targets]);
        Assert.Equal((int)ExitCode.Ok, stands.Exit);
        Assert.Equal((1, 1, 0), Counts(stands));

        // The planted target gets repaired: its answer is no longer the stored one.
        _terminal.Composition.Register(Terminal.Planted, profile => new Wrapped(Terminal.Planted, new Models.X86.X86Model(profile), outcome => outcome));
        Printed changed = _terminal.Run(["replay", path, "--json", "--junit", junit, .. targets]);
        Assert.Equal((int)ExitCode.Diverged, changed.Exit);
        Assert.Equal((1, 0, 1), Counts(changed));
        Assert.All(["agree", "known", "unsupported"], key => Assert.Equal(0, changed.Json.GetProperty(key).GetInt32()));
        JsonElement failure = Assert.Single(changed.Json.GetProperty("failures").EnumerateArray());
        Assert.Equal(path, failure.GetProperty("case").GetString());
        Assert.NotEmpty(failure.GetProperty("fields").EnumerateArray());
        XElement suite = XDocument.Load(junit).Root!;
        Assert.Equal("1", suite.Attribute("failures")?.Value);
        Assert.Single(Assert.Single(suite.Elements("testcase")).Elements("failure"));

        static (int, int, int) Counts(Printed printed) =>
            (printed.Json.GetProperty("cases").GetInt32(), printed.Json.GetProperty("open").GetInt32(), printed.Json.GetProperty("changed").GetInt32());
    }
}
