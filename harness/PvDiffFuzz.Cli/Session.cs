using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Isa;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Cli;

/// <summary>Joins the parts that must not know each other: the model as tracer, the instruction set's table of undefined bits, the harness.</summary>
internal static class Session
{
    /// <summary>Makes what judges cases of one thread. The tracer is the model, whichever targets run.</summary>
    public static CaseAnalyst Analyst(Composition composition) => CaseAnalyst.For(new X86Model(composition.Host), composition.Host.Vendor);

    /// <summary>Makes targets by name and what runs them.</summary>
    /// <exception cref="TargetUnavailableException">One does not work on this host.</exception>
    public static CaseRunner Runner(Composition composition, IEnumerable<string> names) =>
        CaseRunner.Create([.. names.Select<string, Func<ITarget>>(name => () => composition.Create(name))], Analyst(composition));

    /// <summary>Reads known divergences.</summary>
    /// <param name="folder">A folder, or null for <c>corpus/known</c> of the checkout that the working directory lies in, if it does.</param>
    public static KnownSet Known(string? folder)
    {
        if (folder is not null)
        {
            return Directory.Exists(folder) ? KnownReader.ReadFolder(folder) : throw new UsageException($"--known {folder}: there is no such folder");
        }

        string? root = Checkout();
        return root is null ? KnownSet.Empty : KnownReader.ReadFolder(Path.Combine(root, "corpus", "known"));
    }

    /// <summary>The folder of the checkout that the working directory lies in, or null.</summary>
    public static string? Checkout()
    {
        for (DirectoryInfo? at = new(Directory.GetCurrentDirectory()); at is not null; at = at.Parent)
        {
            if (File.Exists(Path.Combine(at.FullName, "PvDiffFuzz.sln")))
            {
                return at.FullName;
            }
        }

        return null;
    }

    /// <summary>What live targets may run: nothing that is not deterministic or that Linux answers itself.</summary>
    public static bool MayRunLive(TestCase testCase, CpuProfile host) =>
        Exclusions.FindAnywhere(testCase.Code.Bytes.AsSpan(), testCase.Mode, testCase.Profile ?? host, out _) is null;

    /// <summary>The instructions of a case with their addresses and texts.</summary>
    public static IEnumerable<(ulong Address, ImmutableArray<byte> Bytes, string Text)> Disassemble(TestCase testCase)
    {
        int at = 0;
        foreach (byte length in testCase.Code.Lengths)
        {
            ImmutableArray<byte> bytes = testCase.Code.Bytes.Slice(at, length);
            ulong address = testCase.Code.Address + (uint)at;
            yield return (address, bytes, Disassembler.Text(bytes.AsSpan(), address, testCase.Mode));
            at += length;
        }
    }

    /// <summary>The rules that the instructions of a case follow.</summary>
    public static ImmutableArray<Rule> RulesOf(TestCase testCase) =>
    [
        .. Disassemble(testCase)
            .Select(instruction => Mnemonic(instruction.Text))
            .Distinct(StringComparer.Ordinal)
            .SelectMany(word => X86Rules.For(word))
            .Distinct(),
    ];

    /// <summary>The rules that one instruction follows.</summary>
    public static ImmutableArray<Rule> RulesOf(InstructionAt instruction) => X86Rules.For(instruction.Mnemonic.ToLowerInvariant());

    /// <summary>The mnemonic of a disassembled instruction: the first word that is no prefix.</summary>
    private static string Mnemonic(string text) =>
        text.Split(' ').FirstOrDefault(word => word is not ("lock" or "rep" or "repe" or "repne" or "o16" or "o32" or "o64" or "a16" or "a32" or "fs" or "gs" or "es" or "cs" or "ss" or "ds"), text);
}
