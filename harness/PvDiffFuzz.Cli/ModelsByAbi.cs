using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Instrument;
using PvDiffFuzz.Models.Pvm;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Models.Xen;

namespace PvDiffFuzz.Cli;

/// <summary>What a model gives besides outcomes: traces of cases, its rules, and which of them a case executes.</summary>
/// <param name="Name">Name of the target that it is.</param>
/// <param name="Tracer">Makes a tracer for one thread; the processor is for cases that name none, and the names of targets may name a release.</param>
/// <param name="Probed">Makes the instrumented model for one thread; the processor is for cases that name none, and the forms that it executes are noted.</param>
/// <param name="Rules">Every rule, by document, section and implementation.</param>
/// <param name="Naming">The rules that name a mnemonic.</param>
internal sealed record ModelParts(string Name, Func<CpuProfile, IEnumerable<string>, ITracer> Tracer, Func<CpuProfile, FormUsage?, IProbedModel> Probed, ImmutableArray<RuleName> Rules, Func<string, ImmutableArray<RuleName>> Naming);

/// <summary>The models by the ABI whose specification they are: one line for each.</summary>
internal static class ModelsByAbi
{
    private static readonly ModelParts PvmParts = Pvm();
    private static readonly ModelParts XenParts = Xen();

    private static readonly Dictionary<Abi, ModelParts> ByAbi = new()
    {
        [Abi.X86] = X86(),
        [Abi.PvmRfc1] = PvmParts,
        [Abi.Pvm612] = PvmParts,
        [Abi.PvmAbi1] = PvmParts,
        [Abi.XenPv64] = XenParts,
        [Abi.XenPv64Fred] = XenParts,
        [Abi.XenPv32] = XenParts,
    };

    /// <summary>The rules of all models, each once.</summary>
    public static ImmutableArray<RuleName> AllRules { get; } = [.. ByAbi.OrderBy(model => model.Key).SelectMany(model => model.Value.Rules).Distinct()];

    /// <summary>True when executed rules can be counted. They cannot in a program that was published as a single file.</summary>
    public static bool CanCount { get; } = InstrumentedModel.CanLoad(typeof(X86Model));

    /// <summary>The model of an ABI, or null when there is none yet.</summary>
    public static ModelParts? Of(Abi abi) => ByAbi.GetValueOrDefault(abi);

    /// <summary>A tracer for cases of any ABI that has a model.</summary>
    /// <param name="host">The processor for cases that name none.</param>
    /// <param name="targets">Names of the targets whose answers are judged: what a case executes can depend on the release that they are about.</param>
    public static ITracer Tracer(CpuProfile host, params IEnumerable<string> targets) => new TracerByAbi(abi => Of(abi)?.Tracer(host, targets));

    private static ModelParts X86()
    {
        CopyPool copies = new(() => InstrumentedModel.Load(typeof(X86Model)));
        return new ModelParts(
            "model.x86",
            (host, _) => new X86Model(host),
            (host, usage) => new ProbedModel(copies, typeof(X86Model), host, usage),
            [.. X86Rules.All.Select(Named)],
            mnemonic => [.. X86Rules.For(mnemonic).Select(Named)]);
    }

    /// <summary>The model of PVM with the processor's below it, so that a case counts the rules of both.</summary>
    private static ModelParts Pvm()
    {
        CopyPool copies = new(() => InstrumentedModel.Load(typeof(PvmModel), typeof(X86Model)));
        return new ModelParts(
            "model.pvm",
            (host, _) => new PvmModel(host),
            (host, usage) => new ProbedModel(copies, typeof(PvmModel), host, usage),
            [.. PvmRules.All.Concat(X86Rules.All).Select(Named).Distinct()],
            mnemonic => [.. X86Rules.For(mnemonic).Select(Named)]);
    }

    /// <summary>The model of Xen with the processor's below it.</summary>
    private static ModelParts Xen()
    {
        CopyPool copies = new(() => InstrumentedModel.Load(typeof(XenModel), typeof(X86Model)));
        return new ModelParts(
            "model.xen",
            (host, targets) => new XenModel(host, version: targets.Select(Composition.ReleaseOf).FirstOrDefault(release => release is not null)),
            (host, usage) => new ProbedModel(copies, typeof(XenModel), host, usage, [null]),
            [.. XenRules.All.Concat(X86Rules.All).Select(Named).Distinct()],
            mnemonic => [.. X86Rules.For(mnemonic).Select(Named)]);
    }

    private static RuleName Named(Rule rule) => new(rule.Document, rule.Section, rule.Implementation);
}

/// <summary>Traces each case with the model of its ABI. A case of an ABI without one has no trace, so that nothing in it counts as undefined.</summary>
/// <param name="create">Makes the tracer of an ABI, or null; asked once for each.</param>
internal sealed class TracerByAbi(Func<Abi, ITracer?> create) : ITracer
{
    private readonly Dictionary<Abi, ITracer?> _made = [];

    /// <inheritdoc/>
    public ImmutableArray<TracedInstruction> Trace(TestCase testCase, int maximum)
    {
        ArgumentNullException.ThrowIfNull(testCase);
        if (!_made.TryGetValue(testCase.Abi, out ITracer? tracer))
        {
            _made[testCase.Abi] = tracer = create(testCase.Abi);
        }

        return tracer?.Trace(testCase, maximum) ?? [];
    }
}
