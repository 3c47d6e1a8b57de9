using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using Spectre.Console;

namespace PvDiffFuzz.Cli.Output;

/// <summary>A case and its outcomes for a reader: disassembly, what each target showed side by side, differences marked, rules involved.</summary>
internal static class CaseView
{
    private const string NotStated = "not stated";

    /// <summary>Prints everything.</summary>
    /// <param name="file">The case with its comment.</param>
    /// <param name="names">One name a column.</param>
    /// <param name="examined">Outcomes in the order of the names.</param>
    /// <param name="at">The instruction that the result is about.</param>
    /// <param name="rules">The rules that this instruction follows.</param>
    public static void Print(CaseFile file, ImmutableArray<string> names, Examination examined, InstructionAt at, ImmutableArray<RuleName> rules)
    {
        AnsiConsole.MarkupLineInterpolated($"[bold]{file.Id}[/]  {file.Case.Abi.Text()}, {(file.Case.Mode == CpuMode.Long64 ? "64-bit" : "compatibility")} mode");
        AnsiConsole.MarkupLineInterpolated($"[dim]{file.Comment}[/]");
        if (file.Found is not null)
        {
            AnsiConsole.MarkupLineInterpolated($"found   {file.Found}");
        }

        if (file.Verdict is not null)
        {
            AnsiConsole.MarkupLineInterpolated($"verdict {file.Verdict}");
        }

        Console.WriteLine();
        foreach ((ulong address, ImmutableArray<byte> bytes, string text) in Session.Disassemble(file.Case))
        {
            string mark = address == file.Case.Registers.Rip ? "->" : "  ";
            Console.WriteLine($"  {mark} {address:x12}  {Convert.ToHexStringLower(bytes.AsSpan()),-30}  {text}");
        }

        Console.WriteLine();
        PrintEntry(file.Case);
        if (!names.IsEmpty)
        {
            PrintOutcomes(names, examined);
        }

        PrintComparison(names, examined.Comparison);
        if (at.Length > 0)
        {
            Console.WriteLine($"at      {at.Address:x}  {at.Form}");
        }

        foreach (RuleName rule in rules)
        {
            Console.WriteLine($"rule    {rule.Document} {rule.Section}  ({rule.Implementation})");
        }
    }

    private static void PrintEntry(TestCase testCase)
    {
        IEnumerable<string> values = OutcomeView.Registers(testCase.Registers).Where(pair => pair.Value != "0").Select(pair => $"{pair.Key}={pair.Value}");
        Console.WriteLine($"entry   {string.Join(' ', values)}");
        foreach (MemoryContents run in testCase.Contents)
        {
            Console.WriteLine($"bytes   {run.Address:x} {Convert.ToHexStringLower(run.Bytes.AsSpan())}");
        }

        StepsView.Print(testCase);
        Console.WriteLine();
    }

    private static void PrintOutcomes(ImmutableArray<string> names, Examination examined)
    {
        Table table = new Table().Border(TableBorder.Simple).AddColumn(new TableColumn(string.Empty).NoWrap());
        foreach (string name in names)
        {
            table.AddColumn(new TableColumn(new Text(name)).NoWrap());
        }

        AddRow(table, "end", examined, outcome => outcome.Detail is null ? outcome.End.ToString() : $"{outcome.End}: {outcome.Detail}");
        int events = examined.Outcomes.Max(outcome => outcome.Events.Length);
        for (int i = 0; i < events; i++)
        {
            int at = i;
            AddRow(table, $"event {at}", examined, outcome => at < outcome.Events.Length ? Describe(outcome.Events[at]) : "-");
            if (examined.Case.Abi != Abi.X86)
            {
                AddRow(table, "  entry", examined, outcome => at < outcome.Events.Length ? outcome.Events[at].Entry.Text() : "-");
            }

            AddFrames(table, at, examined);
            for (Register register = Register.Rax; register <= Register.GsBase; register++)
            {
                Register shown = register;
                Func<Outcome, string> value = outcome => at < outcome.Events.Length ? outcome.Events[at].Registers[shown].ToString("x") : "-";
                bool changed = examined.Outcomes.Any(outcome => at < outcome.Events.Length && outcome.Events[at].Registers[shown] != examined.Case.Registers[shown]);
                if (changed)
                {
                    AddRow(table, $"  {OutcomeView.Name(shown)}", examined, value);
                }
            }
        }

        foreach (ulong address in examined.Outcomes.SelectMany(outcome => outcome.Memory.Select(word => word.Address)).Distinct().Order().Take(32))
        {
            AddRow(table, $"[{address:x}]", examined, outcome => outcome.Memory.FirstOrDefault(word => word.Address == address) is { Address: > 0 } word ? word.Value.ToString("x") : "unchanged");
        }

        foreach (SystemRegister register in examined.Outcomes.SelectMany(outcome => outcome.System.Values.Select(v => v.Key)).Distinct().Order())
        {
            bool changed = examined.Outcomes.Any(outcome => outcome.System.TryGet(register, out ulong value) && value != examined.Case.System[register]);
            if (changed)
            {
                AddRow(table, $"sys.{register.Text()}", examined, outcome => outcome.System.TryGet(register, out ulong value) ? value.ToString("x") : NotStated);
            }
        }

        AnsiConsole.Write(table);
    }

    /// <summary>A row for each named part of a frame that some target found set, and one for frames whose bytes have no names.</summary>
    private static void AddFrames(Table table, int at, Examination examined)
    {
        Dictionary<string, string>[] frames =
        [
            .. examined.Outcomes.Select(outcome => at < outcome.Events.Length ? OutcomeView.FrameParts(outcome.Events[at], examined.Case.Abi).ToDictionary(StringComparer.Ordinal) : []),
        ];
        foreach (string part in frames.SelectMany(frame => frame.Where(p => p.Value != "0").Select(p => p.Key)).Distinct(StringComparer.Ordinal))
        {
            AddRow(table, $"  frame.{part}", [.. frames.Select(frame => frame.GetValueOrDefault(part, "-"))]);
        }

        if (examined.Outcomes.Any(outcome => IsNameless(outcome, at, examined.Case.Abi)))
        {
            AddRow(table, "  frame", examined, outcome => at < outcome.Events.Length ? Convert.ToHexStringLower(outcome.Events[at].Frame.AsSpan()) : "-");
        }
    }

    private static bool IsNameless(Outcome outcome, int at, Abi abi) =>
        at < outcome.Events.Length && outcome.Events[at].Entry != EntryPoint.Idt && !outcome.Events[at].Frame.IsEmpty && !OutcomeView.FrameParts(outcome.Events[at], abi).Any();

    private static void AddRow(Table table, string name, Examination examined, Func<Outcome, string> value) => AddRow(table, name, [.. examined.Outcomes.Select(value)]);

    private static void AddRow(Table table, string name, ImmutableArray<string> values)
    {
        // What a target does not state is no difference.
        bool differ = values.Where(value => value != NotStated).Distinct(StringComparer.Ordinal).Skip(1).Any();
        List<Text> cells = [new Text(differ ? $"{name} *" : name)];
        cells.AddRange(values.Select(text => new Text(text, differ ? new Style(Color.Red, decoration: Decoration.Bold) : Style.Plain)));
        table.AddRow(cells);
    }

    private static string Describe(Event delivered)
    {
        string error = delivered.ErrorCode is uint code ? $" error {code:x}" : string.Empty;
        string cr2 = delivered.Cr2 is ulong address ? $" cr2 {address:x}" : string.Empty;
        return delivered switch
        {
            { Kind: EventKind.SystemCall } => "system call",
            { Kind: EventKind.Upcall } => "event upcall",
            { Kind: EventKind.Hypercall } => "hypercall returned",
            _ => $"{VectorName(delivered.Vector)}{error}{cr2}",
        };
    }

    private static string VectorName(byte vector) => vector switch
    {
        0 => "#DE",
        1 => "#DB",
        3 => "#BP",
        4 => "#OF",
        5 => "#BR",
        6 => "#UD",
        7 => "#NM",
        11 => "#NP",
        12 => "#SS",
        13 => "#GP",
        14 => "#PF",
        16 => "#MF",
        17 => "#AC",
        _ => $"vector {vector:x}",
    };

    private static void PrintComparison(ImmutableArray<string> names, Comparison comparison)
    {
        string Members(Camp camp) => string.Join(" = ", camp.Members.Select(member => names[member]));
        Console.WriteLine(comparison.Result switch
        {
            ComparisonResult.NotComparable => $"not comparable: {comparison.Comparable} comparable outcome(s)",
            ComparisonResult.Agreement => $"agreement of {comparison.Comparable} targets",
            _ => $"camps   {string.Join(" | ", comparison.Camps.Select(Members))}",
        });
        if (!comparison.Differences.IsEmpty)
        {
            Console.WriteLine($"differ  {string.Join(' ', comparison.Differences.Select(difference => difference.Field.ToString()))}");
        }

        if (!comparison.HidingRows.IsEmpty)
        {
            Console.WriteLine($"masked  {string.Join(' ', comparison.HidingRows)}");
        }
    }
}
