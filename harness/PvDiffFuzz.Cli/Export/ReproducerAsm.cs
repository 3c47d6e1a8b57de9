using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Export;

/// <summary>A case as an assembly program: its data, then the runtime that is the same in every reproducer.</summary>
internal static class ReproducerAsm
{
    /// <summary>Writes one file.</summary>
    public static ImmutableArray<ExportedFile> Write(CaseFile file)
    {
        StringBuilder text = new();
        Reproducer.Append(text, "#", Reproducer.Head(file, $"gcc -nostdlib -static -no-pie -Wl,-Ttext-segment=0x{Reproducer.Image:x} {file.Id}.s -o {file.Id}"));
        text.Append("#\n# What targets answered:\n");
        foreach (RecordedOutcome answer in Reproducer.Answers(file))
        {
            text.Append($"# {answer.Target}\n");
            Reproducer.Append(text, "#   ", OutcomeText.Of(answer.Outcome).Split('\n', StringSplitOptions.RemoveEmptyEntries));
        }

        text.Append("\n        .intel_syntax noprefix\n        .section .note.GNU-stack, \"\", @progbits\n        .data\n        .balign 8\n");
        Data(text, file);
        text.Append(ExportFormat.Runtime("reproducer.s"));
        return [new ExportedFile($"{file.Id}.s", text.ToString())];
    }

    private static void Data(StringBuilder text, CaseFile file)
    {
        TestCase testCase = file.Case;
        text.Append("pages:                                  # address, bytes, protection\n");
        foreach (PageRange page in testCase.Layout.Ranges.Where(p => p.Access != PageAccess.None))
        {
            Quads(text, page.Address, (ulong)page.Pages * PageLayout.PageSize, (ulong)Reproducer.ProtectionOf(page.Access));
        }

        Quads(text, 0, 0, 0);
        ImmutableArray<MemoryContents> contents = Reproducer.ContentsOf(testCase);
        text.Append("contents:                               # address, bytes, where they are\n");
        for (int i = 0; i < contents.Length; i++)
        {
            text.Append($"        .quad   0x{contents[i].Address:x}, 0x{contents[i].Bytes.Length:x}, bytes{i}\n");
        }

        Quads(text, 0, 0, 0);
        text.Append("registers:                              # in encoding order, then RIP, RFLAGS, CS, SS, DS, ES, FS, GS, bases, saved vector state\n");
        for (Register register = Register.Rax; register <= Register.GsBase; register += 2)
        {
            Quads(text, testCase.Registers[register], testCase.Registers[register + 1]);
        }

        text.Append($"        .quad   0\ncode_end:\n        .quad   0x{testCase.Code.End:x}\nresponses:\n        .long   {testCase.Responses.Length.ToString(CultureInfo.InvariantCulture)}, 0\n");
        text.Append("patches:                                # number of the response, register, value\n");
        for (int i = 0; i < testCase.Responses.Length; i++)
        {
            foreach ((Register register, ulong value) in testCase.Responses[i].Patches)
            {
                Quads(text, (ulong)i, (ulong)register, value);
            }
        }

        Quads(text, ulong.MaxValue);
        for (int i = 0; i < contents.Length; i++)
        {
            text.Append($"bytes{i}:\n");
            if (contents[i].Address == testCase.Code.Address)
            {
                foreach ((_, ImmutableArray<byte> bytes, string instruction) in Session.Disassemble(testCase))
                {
                    text.Append($"        .byte   {string.Join(", ", bytes.Select(b => $"0x{b:x2}"))} # {instruction}\n");
                }
            }
            else
            {
                text.Append(string.Concat(Reproducer.ByteLines(contents[i].Bytes).Select(line => $"        .byte   {line}\n")));
            }
        }
    }

    private static void Quads(StringBuilder text, params ReadOnlySpan<ulong> values)
    {
        text.Append("        .quad   ");
        for (int i = 0; i < values.Length; i++)
        {
            text.Append(i == 0 ? "" : ", ").Append($"0x{values[i]:x}");
        }

        text.Append('\n');
    }
}
