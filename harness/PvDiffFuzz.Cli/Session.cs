using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Cli;

/// <summary>Joins the parts that must not know each other: the model as tracer, the instruction set's table of undefined bits, the harness.</summary>
internal static class Session
{
    /// <summary>Makes what judges cases of one thread. The tracer is the model of a case's ABI, whichever targets run.</summary>
    /// <param name="host">The processor of cases that name none.</param>
    /// <param name="targets">Names of the targets, of which one may name a release.</param>
    public static CaseAnalyst Analyst(CpuProfile host, params IEnumerable<string> targets) => CaseAnalyst.For(ModelsByAbi.Tracer(host, targets), host);

    /// <summary>Makes targets by name and what runs them.</summary>
    /// <param name="composition">Makes the targets.</param>
    /// <param name="processor">The processor of cases that name none.</param>
    /// <param name="names">Their names.</param>
    /// <param name="recorded">Recordings that answer, too, before them.</param>
    /// <exception cref="TargetUnavailableException">One does not work on this host.</exception>
    public static CaseRunner Runner(Composition composition, CpuProfile processor, IEnumerable<string> names, params IEnumerable<ITarget> recorded) => CaseRunner.Create(
        [.. recorded.Select<ITarget, Func<ITarget>>(target => () => target), .. names.Select<string, Func<ITarget>>(name => () => composition.Create(name, processor))],
        Analyst(processor, names));

    /// <summary>Reads known divergences.</summary>
    /// <param name="folder">A folder, or null for <c>corpus/known</c> of the checkout that the working directory lies in, else of the one that this program was built in.</param>
    public static KnownSet Known(string? folder)
    {
        if (folder is not null)
        {
            return Directory.Exists(folder) ? KnownReader.ReadFolder(folder) : throw new UsageException($"--known {folder}: there is no such folder");
        }

        string? root = Checkout();
        return root is null ? KnownSet.Empty : KnownReader.ReadFolder(Path.Combine(root, "corpus", "known"));
    }

    /// <summary>The folder of the checkout that the working directory lies in, else of the one that this program was built in, or null.</summary>
    public static string? Checkout() => Checkout(Directory.GetCurrentDirectory()) ?? Checkout(AppContext.BaseDirectory);

    private static string? Checkout(string folder)
    {
        for (DirectoryInfo? at = new(folder); at is not null; at = at.Parent)
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
        testCase.Abi.IsXen() ? XenExclusions.MayRunLive(testCase, testCase.Profile ?? host) : PvmExclusions.MayRunLive(testCase, testCase.Profile ?? host);

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

    /// <summary>The rules that one instruction of a case follows: the one at which the case shows what it shows. Those that name the instruction come first.</summary>
    /// <param name="host">The processor of cases that name none.</param>
    /// <param name="testCase">The case.</param>
    /// <param name="at">The instruction.</param>
    /// <param name="outcomes">What the targets answered.</param>
    /// <param name="eventIndex">Index of the event that it leads to, or <see cref="Field.Final"/> for the last.</param>
    public static ImmutableArray<RuleName> RulesOf(CpuProfile host, TestCase testCase, InstructionAt at, ReadOnlySpan<Outcome> outcomes, int eventIndex)
    {
        if (ModelsByAbi.Of(testCase.Abi) is not ModelParts model)
        {
            return [];
        }

        ImmutableArray<RuleName> named = model.Naming(at.Mnemonic);
        if (!ModelsByAbi.CanCount)
        {
            return named;
        }

        using IRuleCounter counter = model.Probed(host, null);
        ImmutableArray<RuleName> executed = new InstructionRules(counter, Analyst(host)).Of(testCase, Answers.Before(outcomes, eventIndex));

        // What no model runs has no rules that it follows; those that name it are the next best thing.
        return executed.IsEmpty ? named : [.. executed.OrderBy(rule => named.Contains(rule) ? 0 : 1)];
    }

    /// <summary>The rules that name one instruction.</summary>
    /// <param name="abi">The ABI whose model is asked.</param>
    /// <param name="instruction">The instruction.</param>
    public static ImmutableArray<RuleName> RulesOf(Abi abi, InstructionAt instruction) => ModelsByAbi.Of(abi)?.Naming(instruction.Mnemonic) ?? [];
}
