using System.Collections.Immutable;
using System.Text;

namespace PvDiffFuzz.Core.Tests;

/// <summary>Small files that several tests share.</summary>
internal static partial class Samples
{
    /// <summary>Two instructions, contents, two outcomes: the example of docs/case-format.md.</summary>
    public static CaseFile Adc { get; } = Make();

    /// <summary>The canonical text of <see cref="Adc"/> with one piece replaced.</summary>
    /// <exception cref="InvalidOperationException">The piece is not in the text, so the replacement would show nothing.</exception>
    public static byte[] AdcWith(string piece, string replacement) => With(Adc, piece, replacement);

    private static byte[] With(CaseFile file, string piece, string replacement)
    {
        string text = file.Write();
        return text.Contains(piece, StringComparison.Ordinal)
            ? Encoding.UTF8.GetBytes(text.Replace(piece, replacement, StringComparison.Ordinal))
            : throw new InvalidOperationException($"the sample has no `{piece}`:\n{text}");
    }

    private static CaseFile Make()
    {
        GprFile gpr = default;
        gpr[0] = ulong.MaxValue;
        gpr[3] = 0x41_0000;
        gpr[4] = 0x45_1000;
        RegisterState start = new() { Gpr = gpr, Rip = 0x40_1ffa, Rflags = 0x203 };
        RegisterState native = start.With(Register.Rip, 0x40_2000).With(Register.Rax, 0).With(Register.Rflags, 0x1_0257);
        RegisterState model = native.With(Register.Rflags, 0x1_0256);
        ImmutableArray<MemoryContents> contents = [new MemoryContents(0x41_0000, [0xde, 0xad, .. Enumerable.Repeat((byte)0xff, 14)])];
        return new CaseFile
        {
            Comment = "ADC drops the carry-out when b + CF wraps to 0.\n\nSeen on the model only; kept because the sum with carry has two ways to wrap.",
            Id = "adc-carry-wrap",
            Spec = ["SDM vol.2A ADC", "APM vol.3 ADC"],
            Found = "generator 1 seed 5eed index 1042",
            Case = new TestCase
            {
                Code = new CodeBlock(0x40_1ffa, [0x48, 0x83, 0xd0, 0x00, 0x88, 0x03], [4, 2]),
                Registers = start,
                Layout = AddressMap.Standard,
                Contents = contents,
            },
            CodeComments = ["adc rax,0", "mov [rbx],al"],
            Outcomes =
            [
                Answer("native", TargetKind.Hardware, "hardware", [new("cpu", "AuthenticAMD 25.1.1"), new("kernel", "6.18.5")], native),
                Answer("model.x86", TargetKind.Model, "model", [new("commit", "3f2c9e1")], model),
            ],
            Verdict = "new",
        };
    }

    private static RecordedOutcome Answer(string target, TargetKind kind, string lineage, ImmutableArray<KeyValuePair<string, string>> facts, RegisterState end) =>
        new(target, kind, lineage, new Fingerprint(facts), new Outcome
        {
            End = EndKind.ReachedEnd,
            Events = [new Event(EventKind.Fault, 14, 0x14, 0x40_2000, EntryPoint.Idt, end)],
            Registers = end,
            Memory = [new MemoryWord(0x41_0000, 0xffff_ffff_ffff_ad00)],
        });
}
