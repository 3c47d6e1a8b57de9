using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Instrument;
using PvDiffFuzz.Models.Pvm;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Cli.Tests;

/// <summary>Probes count, and change nothing else.</summary>
public sealed class InstrumentTests
{
    private const int Cases = 4000;

    /// <summary>Plain and instrumented models give the same outcomes, down to the last byte, and the probes have counted.</summary>
    [Theory]
    [InlineData(Abi.X86)]
    [InlineData(Abi.PvmRfc1)]
    [InlineData(Abi.Pvm612)]
    public void InstrumentedAndPlainModelsGiveTheSameOutcomes(Abi abi)
    {
        InstrumentedModel copy = Load(abi);
        using ITarget plain = abi == Abi.X86 ? new X86Model() : new PvmModel();
        using ITarget probed = copy.Create<ITarget>(plain.GetType(), null, null);
        int comparable = 0;
        GeneratedCases cases = new(GeneratorOptions.DefaultsFor(abi) with { CompatibilityPercent = 20 }, CpuProfile.DefaultAmd, 3);
        for (ulong i = 0; i < Cases; i++)
        {
            TestCase one = cases.Generate(i);
            copy.Restart();
            Outcome right = plain.Run(one);
            Outcome counted = probed.Run(one);

            Assert.True(right.Equals(counted), $"case {i} of {abi}");
            comparable += right.Comparable ? 1 : 0;
        }

        Assert.True(comparable > Cases * 9 / 10, $"only {comparable} of {Cases} were comparable");
        Assert.True(copy.Edges.Count(hits => hits != 0) > 1000, $"only {copy.Edges.Count(hits => hits != 0)} edges");
    }

    /// <summary>A case gives the same map whatever ran before, and another case another one.</summary>
    [Fact]
    public void TheMapBelongsToTheCase()
    {
        InstrumentedModel copy = Load(Abi.X86);
        using ITarget model = copy.Create<ITarget>(typeof(X86Model), null, null);
        GeneratedCases cases = new(GeneratorOptions.DefaultsFor(Abi.X86), CpuProfile.DefaultAmd, 7);
        TestCase[] some = [.. Enumerable.Range(0, 200).Select(i => cases.Generate((ulong)i))];
        byte[][] first = [.. some.Select(one => MapOf(copy, model, one))];
        byte[][] backwards = [.. some.Reverse().Select(one => MapOf(copy, model, one)).Reverse()];
        byte[][] again = [.. some.Reverse().Select(one => MapOf(copy, model, one)).Reverse()];

        Assert.Equal(first.Length, first.Count(map => map.Any(hits => hits != 0)));
        Assert.All(backwards.Zip(again), pair => Assert.Equal(pair.First, pair.Second));
        Assert.True(first.Select(Convert.ToHexString).Distinct(StringComparer.Ordinal).Count() > 150);
    }

    /// <summary>Copies count for themselves, so that threads need nothing of their own.</summary>
    [Fact]
    public void CopiesCountSideBySide()
    {
        InstrumentedModel one = Load(Abi.X86);
        InstrumentedModel two = Load(Abi.X86);
        using ITarget model = one.Create<ITarget>(typeof(X86Model), null, null);
        TestCase testCase = new GeneratedCases(GeneratorOptions.DefaultsFor(Abi.X86), CpuProfile.DefaultAmd, 1).Generate(0);
        int[] rules = new int[one.Rules.Length];
        one.Restart();
        model.Run(testCase);
        one.AddRules(rules);
        int[] others = new int[two.Rules.Length];
        two.AddRules(others);

        Assert.Contains(one.Edges, hits => hits != 0);
        Assert.Contains(rules, hits => hits != 0);
        Assert.All(two.Edges, hits => Assert.Equal(0, hits));
        Assert.All(others, hits => Assert.Equal(0, hits));
    }

    /// <summary>What the build has made is what rewriting makes, byte for byte, however often.</summary>
    [Theory]
    [InlineData(typeof(X86Model))]
    [InlineData(typeof(PvmModel))]
    public void RewritingIsDeterministic(Type model)
    {
        string plain = model.Assembly.Location;
        byte[] built = File.ReadAllBytes(Path.Combine(Path.GetDirectoryName(plain)!, InstrumentedModel.Folder, Path.GetFileName(plain)));

        Assert.Equal(built, Rewrite(plain));
        Assert.Equal(built, Rewrite(plain));
        Assert.NotEqual(built.Length, new FileInfo(plain).Length);
    }

    private static byte[] Rewrite(string assembly)
    {
        using MemoryStream result = new();
        Assert.True(ModelRewriter.Rewrite(assembly, result) > 500);
        return result.ToArray();
    }

    private static InstrumentedModel Load(Abi abi) => abi == Abi.X86 ? InstrumentedModel.Load(typeof(X86Model)) : InstrumentedModel.Load(typeof(PvmModel), typeof(X86Model));

    private static byte[] MapOf(InstrumentedModel copy, ITarget model, TestCase testCase)
    {
        copy.Edges.AsSpan().Clear();
        copy.Restart();
        model.Run(testCase);
        return [.. copy.Edges];
    }
}
