using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Export;

/// <summary>A file of an exported case.</summary>
/// <param name="Name">Name in the folder that is exported to.</param>
/// <param name="Text">Contents; lines end with a line feed.</param>
internal sealed record ExportedFile(string Name, string Text);

/// <summary>A way to write a case down for another tool.</summary>
/// <param name="Name">As <c>--format</c> takes it.</param>
/// <param name="Description">What comes out, in a few words.</param>
/// <param name="Refuses">Why a case cannot be written so, with a cure; null when it can.</param>
/// <param name="Write">Writes a case that is not refused.</param>
internal sealed record ExportFormat(string Name, string Description, Func<CaseFile, string?> Refuses, Func<CaseFile, ImmutableArray<ExportedFile>> Write)
{
    /// <summary>All formats.</summary>
    public static ImmutableArray<ExportFormat> All { get; } =
    [
        new("c", "a C program without libraries, for gcc", file => Reproducer.Refuses(file.Case), ReproducerC.Write),
        new("asm", "the same in GNU assembler", file => Reproducer.Refuses(file.Case), ReproducerAsm.Write),
        new("xtf", "a test for the Xen Test Framework, of a case of a 64-bit Xen guest", XtfTest.Refuses, XtfTest.Write),
        new("kvm-unit-test", "a test for kvm-unit-tests, of a case of a PVM guest", KvmUnitTest.Refuses, KvmUnitTest.Write),
    ];

    /// <summary>A file that is part of this program.</summary>
    /// <param name="name">Its name in the folder of runtimes.</param>
    public static string Runtime(string name)
    {
        using Stream stream = typeof(ExportFormat).Assembly.GetManifestResourceStream($"PvDiffFuzz.Cli.Export.Runtime.{name}")
            ?? throw new InvalidOperationException($"{name} was not built into this program");
        using StreamReader reader = new(stream);
        return reader.ReadToEnd();
    }
}
