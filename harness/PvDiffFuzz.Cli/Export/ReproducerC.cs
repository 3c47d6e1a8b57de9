using System.Collections.Immutable;
using System.Globalization;
using System.Text;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Export;

/// <summary>A case as a C program: its data, then the runtime that is the same in every reproducer.</summary>
internal static class ReproducerC
{
    /// <summary>Writes one file.</summary>
    public static ImmutableArray<ExportedFile> Write(CaseFile file)
    {
        StringBuilder text = new();
        string build = $"gcc -O2 -ffreestanding -fno-stack-protector -fno-builtin -mgeneral-regs-only -mfsgsbase -nostdlib -static -no-pie -fno-pie -mcmodel=large -Wl,-Ttext-segment=0x{Reproducer.Image:x} {file.Id}.c -o {file.Id}";
        CSource.Comment(text, "/*", Reproducer.Head(file, build));
        text.Append('\n');
        text.Append(ExportFormat.Runtime("types.c")).Append("\n/* The case. */\n\n");
        Data(text, file);
        text.Append("\n/* What follows is the same in every reproducer. It uses no library: the payload may overwrite whatever one would need. */\n\n");
        text.Append(ExportFormat.Runtime("reproducer.c"));
        return [new ExportedFile($"{file.Id}.c", text.ToString())];
    }

    private static void Data(StringBuilder text, CaseFile file)
    {
        TestCase testCase = file.Case;
        text.Append("static const struct range pages[] = {\n");
        foreach (PageRange page in testCase.Layout.Ranges.Where(p => p.Access != PageAccess.None))
        {
            text.Append($"    {{ 0x{page.Address:x}, 0x{page.Pages * PageLayout.PageSize:x}, {Reproducer.ProtectionOf(page.Access)} }},\n");
        }

        text.Append("};\n\n");
        CSource.Contents(text, testCase, "u8", "static const struct contents contents[]");
        text.Append("static const u64 code_end = 0x").Append($"{testCase.Code.End:x};\n\n");
        Registers(text, testCase.Registers);
        text.Append($"static const u32 responses = {testCase.Responses.Length.ToString(CultureInfo.InvariantCulture)};\nstatic const struct patch patches[] = {{\n");
        for (int i = 0; i < testCase.Responses.Length; i++)
        {
            foreach ((Register register, ulong value) in testCase.Responses[i].Patches)
            {
                text.Append($"    {{ {i}, {(int)register}, 0x{value:x} }}, /* {register} */\n");
            }
        }

        text.Append("    { -1, 0, 0 },\n};\n\n/* What targets answered. */\nstatic const struct answer answers[] = {\n");
        foreach (RecordedOutcome answer in Reproducer.Answers(file))
        {
            text.Append($"    {{ \"{answer.Target}\",\n");
            foreach (string line in OutcomeText.Of(answer.Outcome).Split('\n', StringSplitOptions.RemoveEmptyEntries))
            {
                text.Append($"      \"{line}\\n\"\n");
            }

            text.Append("    },\n");
        }

        text.Append("    { 0, 0 },\n};\n");
    }

    private static void Registers(StringBuilder text, RegisterState r)
    {
        text.Append("static const struct registers initial = {\n    .gpr = { ");
        text.Append(CSource.Registers(r)).Append(" },\n");
        for (Register register = Register.Rip; register <= Register.GsBase; register++)
        {
            text.Append($"    .{register.ToString().ToLowerInvariant()} = 0x{r[register]:x},\n");
        }

        text.Append("};\n\n");
    }
}
