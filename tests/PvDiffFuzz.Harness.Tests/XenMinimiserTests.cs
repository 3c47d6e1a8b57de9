using System.Text;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>Reductions of Xen cases, and what of their outcomes has a name.</summary>
public sealed class XenMinimiserTests
{
    /// <summary>A case full of things of which the divergence needs one: the rest goes, or becomes what generated cases have.</summary>
    [Theory]
    [InlineData("trap")]
    [InlineData("callback")]
    [InlineData("gdt")]
    [InlineData("flags")]
    [InlineData("answer")]
    [InlineData("register")]
    [InlineData("nothing")]
    public void WhatADivergenceDoesNotNeedGoes(string needed)
    {
        bool Needed(TestCase c) => needed switch
        {
            "trap" => c.Xen!.Traps[0x40].Dpl == 3,
            "callback" => c.Xen!.CallbackOf(XenCallbackKind.Syscall) is not null,
            "gdt" => c.Xen!.Gdt.Any(d => d.Key == 0x18),
            "flags" => (c.Xen!.IretFlags & 0x100) != 0,
            "answer" => c.Responses.Any(r => (r.Flags & 4) != 0),
            "register" => c.System[SystemRegister.XenIopl] == 3,
            _ => true,
        };
        using CaseRunner runner = Fakes.Runner(
            new FakeTarget("a", c => XenCases.Ends(XenCases.Trap(c))),
            new FakeTarget("b", c => XenCases.Ends(XenCases.Trap(c, rflags: Needed(c) ? 0x203UL : 0x202))));
        TestCase big = Full();
        Assert.Null(big.Check());

        TestCase smallest = new Minimiser(Reductions.All, new MinimiserLimits()).Minimise(Fakes.Divergence(runner, big), runner, CancellationToken.None).Divergence.Case;

        Assert.Null(smallest.Check());
        Assert.True(Needed(smallest));
        Assert.Equal(XenMap.KernelLayout(Abi.XenPv64), smallest.Layout);
        XenState plain = XenCases.User("90").Xen!;
        Assert.Equal(
            needed switch
            {
                "trap" => plain with { Traps = plain.Traps.With(plain.Traps[0x40] with { Flags = 3 }) },
                "callback" => plain with { Callbacks = [new XenCallback(XenCallbackKind.Syscall, MaskEvents: false, XenMap.FlatCode64, XenMap.CallbackAddress(Abi.XenPv64, XenCallbackKind.Syscall))] },
                "gdt" => plain with { Gdt = [new(0x18, 0x00cf_f300_0000_ffff)] },
                "flags" => plain with { IretFlags = 0x100 },
                _ => plain,
            },
            smallest.Xen);
        Assert.Equal(needed == "register" ? XenCases.System.With(SystemRegister.XenIopl, 3) : XenCases.System, smallest.System);
        Assert.Equal((0x202UL, XenMap.FlatCode64, XenMap.FlatData), (smallest.Registers.Rflags, smallest.Registers.Cs, smallest.Registers.Ss));
        Assert.Equal(needed == "answer" ? [4UL] : [], smallest.Responses.Select(r => r.Flags));
    }

    /// <summary>A kernel that was entered by a return is simply there when the return does not matter.</summary>
    [Fact]
    public void AKernelNeedsNoReturnToBeThere()
    {
        using CaseRunner runner = Fakes.Runner(
            new FakeTarget("a", c => XenCases.Ends(XenCases.Trap(c))), new FakeTarget("b", c => XenCases.Ends(XenCases.Trap(c, rflags: 0x203))));
        TestCase kernel = XenCases.Kernel("90", "f9");
        TestCase entered = kernel with { Xen = kernel.Xen! with { IretFlags = 0x100 }, Registers = kernel.Registers with { Cs = 0xe030, Rflags = 2 } };
        Assert.Null(entered.Check());

        TestCase smallest = new Minimiser(Reductions.All, new MinimiserLimits()).Minimise(Fakes.Divergence(runner, entered), runner, CancellationToken.None).Divergence.Case;

        Assert.Null(smallest.Check());
        Assert.Null(smallest.Xen!.IretFlags);
        Assert.Equal(XenMap.FlatCode64, smallest.Registers.Cs);
    }

    /// <summary>Parts of Xen's frame are fields of known entries, of the ABIs that have them; so is what Xen keeps for a virtual CPU.</summary>
    [Fact]
    public void KnownEntriesNamePartsOfXensFrame()
    {
        const string text =
            """
            # RF is not what a processor would push.
            id       xen-rf
            kind     host
            clause   Xen facts Event and exception delivery
            reason   RF in the frame
            targets  xen*
            abi      xen-pv64
            entries  xen.trap
            forms    any
            vectors  3
            fields   event.frame.rflags.RF event.frame.mask sys.upcall-mask
            where    this.event.frame.rflags & 0x10000 = 0x10000
            """;
        TestCase user = XenCases.User("cc");
        using CaseRunner runner = Fakes.Runner(
            new FakeTarget("model.xen", c => XenCases.Ends(XenCases.Trap(c))), new FakeTarget("xen:4.17", c => XenCases.Ends(XenCases.Trap(c, rflags: 0x10202))));
        KnownEntry entry = KnownReader.Parse(Encoding.UTF8.GetBytes(text + "\n"), "x");

        Assert.True(entry.Matches(Fakes.Divergence(runner, user)));
        Assert.False(entry.Matches(Fakes.Divergence(runner, user with { Abi = Abi.XenPv64Fred })));
        Assert.Throws<KnownFileException>(() => KnownReader.Parse(Encoding.UTF8.GetBytes(text.Replace("frame.mask", "frame.errcodes", StringComparison.Ordinal) + "\n"), "x"));
        Assert.Throws<KnownFileException>(() => KnownReader.Parse(Encoding.UTF8.GetBytes(text.Replace("sys.upcall-mask", "sys.cr3", StringComparison.Ordinal) + "\n"), "x"));
    }

    /// <summary>Which mode an event interrupted is in its frame.</summary>
    [Fact]
    public void TheFrameTellsTheInterruptedMode()
    {
        TestCase user = XenCases.User("cc");

        Assert.False(Interrupted.InCompatibilityMode(Abi.XenPv64, XenCases.Trap(user)));
        Assert.True(Interrupted.InCompatibilityMode(Abi.XenPv64, XenCases.Trap(user, cs: XenMap.FlatCode32)));
        Assert.True(Interrupted.IsOnStack(Abi.XenPv64, XenCases.Trap(user)));
    }

    /// <summary>User code with one of everything that a guest can have registered.</summary>
    internal static TestCase Full()
    {
        TestCase testCase = XenCases.User("48ffc0", "90");
        XenTrapTable traps = testCase.Xen!.Traps.With(testCase.Xen.Traps[0x40] with { Flags = 7, Cs = 0x10 }).Without(0x80).With(testCase.Xen.Traps[14] with { Flags = 4 });
        XenCallback[] callbacks = [.. Enum.GetValues<XenCallbackKind>().Select(kind => new XenCallback(kind, MaskEvents: true, 0xe030, 0x1000))];
        PageLayout more = PageLayout.Create([.. XenMap.UserLayout(Abi.XenPv64)!.Ranges, new PageRange(0x60_0000, 1, PageAccess.Read)]);
        return testCase with
        {
            Registers = testCase.Registers with { Rflags = 0x203, Ss = 0xe028, Ds = XenMap.FlatData, FsBase = 0x1000 },
            Xen = new XenState(traps, [.. callbacks])
            {
                Version = new XenVersion(4, 17, 7),
                IretFlags = 0x104,
                UserLayout = more,
                Gdt = [new(0x10, 0x00af_fb00_0000_ffff), new(0x18, 0x00cf_f300_0000_ffff)],
            },
            System = testCase.System.With(SystemRegister.XenIopl, 3).With(SystemRegister.XenUpcallPending, 0xff).With(SystemRegister.XenKernelSp, 0x1234),
            Responses = [new Response([new(Register.Rax, 5)]) { Return = ReturnKind.XenIret, Flags = 0x104, Inject = new Injection(InjectionKind.Upcall, 0), Hypercalls = [new Hypercall(17, [0, 1])] }],
        };
    }
}
