using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Export;

/// <summary>Pieces of C that several formats write.</summary>
internal static class CSource
{
    /// <summary>A number in decimal digits.</summary>
    public static string Decimal(int number) => number.ToString(CultureInfo.InvariantCulture);

    /// <summary>Lines in a comment of their own.</summary>
    /// <param name="text">Receives it.</param>
    /// <param name="start">How it starts: <c>/*</c> or <c>/**</c>.</param>
    /// <param name="lines">What it says.</param>
    public static void Comment(StringBuilder text, string start, IEnumerable<string> lines)
    {
        text.Append(start).Append('\n');

        // A comment must not end early.
        Reproducer.Append(text, " *", lines.Select(line => line.Replace("*/", "* /", StringComparison.Ordinal)));
        text.Append(" */\n");
    }

    /// <summary>Initial contents and code as arrays <c>bytes0</c>, <c>bytes1</c>, ..., the code an instruction a line, and a list of them.</summary>
    /// <param name="text">Receives them.</param>
    /// <param name="testCase">The case.</param>
    /// <param name="unit">C's name of a byte.</param>
    /// <param name="list">Declaration of the list, whose elements have an address, a number of bytes and a pointer to them.</param>
    public static void Contents(StringBuilder text, TestCase testCase, string unit, string list)
    {
        ImmutableArray<MemoryContents> contents = Reproducer.ContentsOf(testCase);
        for (int i = 0; i < contents.Length; i++)
        {
            bool code = contents[i].Address == testCase.Code.Address;
            text.Append($"static const {unit} bytes{Decimal(i)}[] = {{{(code ? " /* the payload */" : "")}\n");
            text.Append(string.Concat((code ? Code(testCase) : Reproducer.ByteLines(contents[i].Bytes).Select(line => $"{line},")).Select(line => $"    {line}\n")));
            text.Append("};\n\n");
        }

        text.Append($"{list} = {{\n");
        for (int i = 0; i < contents.Length; i++)
        {
            text.Append($"    {{ 0x{contents[i].Address:x}, sizeof(bytes{Decimal(i)}), bytes{Decimal(i)} }},\n");
        }

        text.Append("};\n\n");
    }

    /// <summary>Sixteen general registers in encoding order, as the inside of an initialiser.</summary>
    public static string Registers(RegisterState r) => string.Join(", ", Enumerable.Range(0, GprFile.Count).Select(i => $"0x{r.Gpr[i]:x}"));

    private static IEnumerable<string> Code(TestCase testCase) =>
        Session.Disassemble(testCase).Select(i => $"{string.Join(", ", i.Bytes.Select(b => $"0x{b:x2}"))}, /* {i.Text} */");
}
