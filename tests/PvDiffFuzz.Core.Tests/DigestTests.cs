using FsCheck;
using FsCheck.Fluent;

namespace PvDiffFuzz.Core.Tests;

public sealed class DigestTests
{
    /// <summary>Fixed values: a digest that changes with a version or a machine would lose every stored name and campaign digest.</summary>
    [Fact]
    public void DigestsOfTheSampleNeverChange()
    {
        Assert.Equal("9a7f31879e593c87", $"{Digest64.Of(Samples.Adc.Case):x}");
        Assert.Equal("b52dd031519d3179", $"{Digest64.Of(Samples.Adc.Outcomes[0].Outcome):x}");
        Assert.Equal("b8297e4cc58a929bc7aab195b024de2d", $"{CaseDigest.Of(Samples.Adc.Case):x32}");
        Assert.Equal(CaseDigest.Of(Samples.Adc.Case).ToString("x32")[..12], CaseDigest.NameOf(Samples.Adc.Case));
    }

    /// <summary>The same for a case with a system side. Its two maps are constants that case files name.</summary>
    [Fact]
    public void DigestsOfThePvmSampleNeverChange()
    {
        Assert.Equal("9d97807dc8aa2877", $"{Digest64.Of(Samples.Pvm.Case):x}");
        Assert.Equal("e8d40fd519c4d442", $"{Digest64.Of(Samples.Pvm.Outcomes[0].Outcome):x}");
        Assert.Equal("514d238979415cb6e8b69c48e53e922d", $"{CaseDigest.Of(Samples.Pvm.Case):x32}");
    }

    /// <summary>Case files name these constants, so another value would silently change stored cases: it needs another format version.</summary>
    [Fact]
    public void ConstantsThatCaseFilesNameNeverChange()
    {
        CpuProfile profile = new() { Vendor = CpuVendor.Amd, Family = 25, Features = [], UserGates = [], Descriptors = CpuProfile.DefaultDescriptors, GdtLimit = 0 };

        Assert.Equal(1, CaseFile.FormatVersion);
        Assert.Equal("4836557e991394da", $"{Digest64.Of(Samples.Adc.Case with { Profile = profile, Layout = AddressMap.Standard }):x}");
    }

    [Fact]
    public void EqualCasesHaveEqualDigestsAndDifferentOnesDiffer()
    {
        Gen<(TestCase, TestCase)> pairs = CaseGen.Cases.Two().Select(p => (p.Item1, p.Item2));
        Prop.ForAll(pairs.ToArbitrary(), pair =>
        {
            (TestCase left, TestCase right) = pair;
            TestCase copy = left with { Code = left.Code with { Bytes = [.. left.Code.Bytes] }, Layout = PageLayout.Create(left.Layout.Ranges) };
            Assert.Equal(left, copy);
            Assert.Equal(Digest64.Of(left), Digest64.Of(copy));
            Assert.Equal(CaseDigest.Of(left), CaseDigest.Of(copy));
            Assert.Equal(left.Equals(right), Digest64.Of(left) == Digest64.Of(right));
            Assert.Equal(left.Equals(right), CaseDigest.Of(left) == CaseDigest.Of(right));
        }).Check(Config.QuickThrowOnFailure.WithMaxTest(300));
    }

    /// <summary>Every field of a case counts: each change of the sample gives a digest of its own.</summary>
    [Fact]
    public void EveryFieldOfACaseChangesItsDigest()
    {
        TestCase c = Samples.Adc.Case;
        TestCase[] variants =
        [
            c,
            c with { Code = c.Code with { Address = 1 } },
            c with { Code = c.Code with { Bytes = c.Code.Bytes.SetItem(5, 1) } },
            c with { Code = c.Code with { Lengths = [2, 4] } },
            c with { Registers = c.Registers with { Pkru = 0 } },
            c with { Registers = c.Registers with { Debug = new DebugRegisters(0, 0, 0, 0, 0) } },
            .. Enumerable.Range(0, (int)Register.Pkru).Select(r => c with { Registers = c.Registers.With((Register)r, 0x77) }),
            c with { Layout = PageLayout.Create([new PageRange(0x1000, 1, PageAccess.Read)]) },
            c with { Layout = PageLayout.Create([new PageRange(0x1000, 1, PageAccess.None)]) },
            c with { Layout = PageLayout.Create([new PageRange(0x1000, 2, PageAccess.None)]) },
            c with { Contents = [] },
            c with { Contents = [new MemoryContents(0x41_0000, [1]), new MemoryContents(0x41_0001, [2])] },
            c with { Contents = [new MemoryContents(0x41_0000, [1, 2])] },
            c with { Contents = [new MemoryContents(0x41_0000, [1, 2, 0])] },
            c with { Responses = [new Response([])] },
            c with { Responses = [new Response([]), new Response([])] },
            c with { Responses = [new Response([new(Register.Rax, 0)])] },
            c with { Limits = new CaseLimits(7) },
            c with { Profile = CpuProfile.DefaultAmd },
            c with { Profile = CpuProfile.DefaultIntel },
            c with { Profile = CpuProfile.DefaultAmd with { GdtLimit = 1 } },
            c with { Profile = CpuProfile.DefaultAmd with { UserGates = [3] } },
            c with { Profile = CpuProfile.DefaultAmd with { Descriptors = [] } },
            c with { Profile = CpuProfile.DefaultAmd with { LinearBits = 57 } },
        ];

        Assert.Equal(variants.Length, variants.Select(Digest64.Of).Distinct().Count());
        Assert.Equal(variants.Length, variants.Select(CaseDigest.Of).Distinct().Count());
    }

    /// <summary>The same for the system side.</summary>
    [Fact]
    public void EveryFieldOfTheSystemSideChangesTheDigest()
    {
        TestCase c = Samples.Pvm.Case;
        Response r = c.Responses[0];
        TestCase[] variants =
        [
            c,
            c with { Abi = Abi.Pvm612 },
            c with { Start = GuestMode.Supervisor },
            c with { Pvm = c.Pvm! with { PvcsAddress = 0x1000 } },
            c with { Pvm = c.Pvm! with { Path = HostPath.Cold } },
            c with { Pvm = c.Pvm! with { UserLayout = null } },
            c with { Pvm = c.Pvm! with { UserLayout = AddressMap.Standard } },
            c with { Pvm = c.Pvm! with { UserLayout = PageLayout.Create([]) } },
            c with { Inject = new Injection(InjectionKind.Nmi, 2) },
            c with { Inject = new Injection(InjectionKind.Interrupt, 2) },
            c with { Inject = new Injection(InjectionKind.Interrupt, 0) },
            .. Enum.GetValues<SystemRegister>().Select(register => c with { System = c.System.With(register, 0x77) }),
            c with { System = c.System.With(SystemRegister.Dr6, 0) },
            c with { Responses = [r with { Return = ReturnKind.Erets }, c.Responses[1]] },
            c with { Responses = [r with { Inject = null }, c.Responses[1]] },
            c with { Responses = [r with { Inject = new Injection(InjectionKind.Nmi, 2) }, c.Responses[1]] },
            c with { Responses = [r with { Hypercalls = [] }, c.Responses[1]] },
            c with { Responses = [r with { Hypercalls = [new Hypercall(0x1708_8205, [])] }, c.Responses[1]] },
            c with { Responses = [r with { Hypercalls = [new Hypercall(0x1708_8205, [0x41_0000, 0])] }, c.Responses[1]] },
            c with { Responses = [r with { Hypercalls = [new Hypercall(0x1708_8205, []), new Hypercall(0x41_0000, [])] }, c.Responses[1]] },
            c with { Responses = [r with { Hypercalls = [] }, c.Responses[1] with { Hypercalls = r.Hypercalls }] },
        ];

        Assert.Equal(variants.Length, variants.Select(Digest64.Of).Distinct().Count());
        Assert.Equal(variants.Length, variants.Select(CaseDigest.Of).Distinct().Count());
        Assert.Equal(variants.Length, variants.Distinct().Count());
    }

    /// <summary>Frames and the final system side count in an answer; alternatives do not, since they are not part of what was seen.</summary>
    [Fact]
    public void EveryFieldOfAnAnswerOfTheSystemSideChangesItsDigest()
    {
        Outcome o = Samples.Pvm.Outcomes[0].Outcome;
        Event e = o.Events[0];
        Outcome[] variants =
        [
            o,
            o with { System = SystemState.Empty },
            o with { System = o.System.With(SystemRegister.Dr6, 0) },
            o with { Events = o.Events.SetItem(0, e with { Frame = [] }) },
            o with { Events = o.Events.SetItem(0, e with { Frame = e.Frame.SetItem(127, 1) }) },
            o with { Events = o.Events.SetItem(0, e with { Entry = EntryPoint.Lstar }) },
        ];

        Assert.Equal(variants.Length, variants.Select(Digest64.Of).Distinct().Count());
        Assert.Equal(variants.Length, variants.Distinct().Count());
        Assert.Equal(Digest64.Of(o), Digest64.Of(o with { Alternatives = [Outcome.Unsupported("x")] }));
    }

    [Fact]
    public void DifferentOutcomesHaveDifferentDigests()
    {
        Gen<(Outcome, Outcome)> pairs = CaseGen.Cases.SelectMany(CaseGen.Outcomes).Two().Select(p => (p.Item1, p.Item2));
        Prop.ForAll(pairs.ToArbitrary(), pair => Assert.Equal(pair.Item1.Equals(pair.Item2), Digest64.Of(pair.Item1) == Digest64.Of(pair.Item2)))
            .Check(Config.QuickThrowOnFailure.WithMaxTest(500));
    }

    /// <summary>Campaigns digest every case and outcome, so it must not feed the garbage collector.</summary>
    [Fact]
    public void DigestingAllocatesNothing()
    {
        TestCase testCase = Samples.Adc.Case;
        Outcome outcome = Samples.Adc.Outcomes[0].Outcome;
        TestCase pvm = Samples.Pvm.Case;
        Outcome answer = Samples.Pvm.Outcomes[0].Outcome;
        ulong sum = Digest64.Of(testCase) ^ Digest64.Of(outcome) ^ Digest64.Of(pvm) ^ Digest64.Of(answer);
        long before = GC.GetAllocatedBytesForCurrentThread();
        for (int i = 0; i < 1000; i++)
        {
            sum += Digest64.Of(testCase) ^ Digest64.Of(outcome) ^ Digest64.Of(pvm) ^ Digest64.Of(answer);
        }

        Assert.Equal(before, GC.GetAllocatedBytesForCurrentThread());
        Assert.NotEqual(0UL, sum);
    }
}
