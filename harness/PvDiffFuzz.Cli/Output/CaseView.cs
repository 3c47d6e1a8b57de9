using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using Spectre.Console;
using Rule = PvDiffFuzz.Models.X86.Rule;

namespace PvDiffFuzz.Cli.Output;

/// <summary>A case and its outcomes for a reader: disassembly, what each target showed side by side, differences marked, rules involved.</summary>
internal static class CaseView
{
    /// <summary>Prints everything.</summary>
    /// <param name="file">The case with its comment.</param>
    /// <param name="names">One name a column.</param>
    /// <param name="examined">Outcomes in the order of the names.</param>
    /// <param name="at">The instruction that the result is about.</param>
    /// <param name="rules">The rules that this instruction follows.</param>
    public static void Print(CaseFile file, ImmutableArray<string> names, Examination examined, InstructionAt at, ImmutableArray<Rule> rules)
    {
        AnsiConsole.MarkupLineInterpolated($"[bold]{file.Id}[/]  {file.Case.Abi}, {(file.Case.Mode == CpuMode.Long64 ? "64-bit" : "compatibility")} mode");
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
        PrintOutcomes(names, examined);
        PrintComparison(names, examined.Comparison);
        if (at.Length > 0)
        {
            Console.WriteLine($"at      {at.Address:x}  {at.Form}");
        }

        foreach (Rule rule in rules)
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

        if (!testCase.Responses.IsEmpty)
        {
            Console.WriteLine($"responses {testCase.Responses.Length}");
        }

        Console.WriteLine();
    }

    private static void PrintOutcomes(ImmutableArray<string> names, Examination examined)
    {
        Table table = new Table().Border(TableBorder.Simple).AddColumn(string.Empty);
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

        AnsiConsole.Write(table);
    }

    private static void AddRow(Table table, string name, Examination examined, Func<Outcome, string> value)
    {
        List<string> values = [.. examined.Outcomes.Select(value)];
        bool differ = values.Distinct(StringComparer.Ordinal).Skip(1).Any();
        List<Text> cells = [new Text(differ ? $"{name} *" : name)];
        cells.AddRange(values.Select(text => new Text(text, differ ? new Style(Color.Red, decoration: Decoration.Bold) : Style.Plain)));
        table.AddRow(cells);
    }

    private static string Describe(Event delivered)
    {
        string error = delivered.ErrorCode is uint code ? $" error {code:x}" : string.Empty;
        string cr2 = delivered.Cr2 is ulong address ? $" cr2 {address:x}" : string.Empty;
        return delivered.Entry == EntryPoint.Lstar ? "system call" : $"{VectorName(delivered.Vector)}{error}{cr2}";
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
