using System.Text;

namespace PvDiffFuzz.Core.Tests;

/// <summary>Files of Xen cases: read back as written, and each kind of bad one refused at its line.</summary>
public sealed class CaseFileXenTests
{
    [Fact]
    public void ASampleIsReadBackAsItWasWritten()
    {
        string text = Samples.Xen.Write();

        Assert.Equal(Samples.Xen, CaseFile.Parse(Encoding.UTF8.GetBytes(text), "x"));
        Assert.Contains("xen      version=4.17.7 iret=0\ntraps    at=7e0000200000 cs=e033\ntrap     40 dpl=3 mask=0 cs=e033 at=7e0000200400\ntrap     41 none\n", text, StringComparison.Ordinal);
        Assert.Contains("response xen-iret flags=100 inject=upcall\n", text, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("version=4.17.7", "version=4.17", 8, "`4.17` is no version of Xen; write `any`, or a release")]
    [InlineData("version=4.17.7", "version=04.17.7", 8, "`04.17.7` is no version of Xen")]
    [InlineData(" iret=0", " iret=none", 8, "user code is entered by HYPERVISOR_iret")]
    [InlineData("xen      version=4.17.7 iret=0\n", "", 13, "pages of a user root without `pvm` or `xen`")]
    [InlineData("traps    at=7e0000200000 cs=e033\n", "", 9, "`trap` without `traps`")]
    [InlineData("at=7e0000200000", "at=7ffffffffff0", 9, "7ffffffffff0: all 256 handlers lie at addresses")]
    [InlineData("trap     41 none", "trap     40 none", 11, "vector 40 is stated twice")]
    [InlineData("trap     41 none", "trap     41 dpl=4 mask=0 cs=e033 at=1000", 11, "dpl `4` is")]
    [InlineData("trap     41 none", "trap     41 dpl=3 mask=0 cs=e033 at=800000000000", 10, "vector 41: flags have three bits")]
    [InlineData("callback syscall", "callback page-fault", 12, "callback `page-fault` is not known")]
    [InlineData("map      xen", "page     2aaaaaa00000 2 r-xu\npage     ffff800000000000 1 rw-u", 13, "ffff800000000000: the range from ffff800000000000 is Xen's own")]
    [InlineData("map      xen", "page     2aaaaaa00000 2 r-xu\npage     2aaaaaa10000 1 rw--", 13, "2aaaaaa10000: a supervisor page")]
    [InlineData("kernel-sp=", "cr3=1000 kernel-sp=", 21, "cr3: a guest of xen-pv64 has none of its own")]
    [InlineData("kernel-ss=e02b", "kernel-ss=e02b upcall-mask=1", 21, "upcall-mask: the return that enters")]
    [InlineData("kernel-ss=e02b", "kernel-ss=e02b iopl=4", 21, "iopl = 4: it has bits of 3")]
    [InlineData("response xen-iret flags=100", "response eretu flags=100", 22, "flags of an iret frame; only xen-iret has them")]
    [InlineData("response xen-iret flags=100", "response erets", 22, "the kernel of a guest of xen-pv64 goes back by xen-iret")]
    [InlineData("inject=upcall", "inject=nmi", 22, "what is pending at a return to a Xen guest is an event upcall")]
    [InlineData("cs=e033 ss=", "cs=e030 ss=", 20, "cs=e030: HYPERVISOR_iret returns to user mode for RPL 3")]
    public void EachKindOfTroubleIsNamed(string piece, string replacement, int line, string message)
    {
        CaseFileException refused = Assert.Throws<CaseFileException>(() => CaseFile.Parse(Samples.XenWith(piece, replacement), "x", lenient: true));

        Assert.StartsWith($"x:{line}: {message}", refused.Message, StringComparison.Ordinal);
    }

    /// <summary>Everything that a Xen case states tells two of them apart, in equality and in both digests.</summary>
    [Fact]
    public void NothingThatACaseStatesIsLostInADigest()
    {
        TestCase first = Samples.Xen.Case;
        XenState xen = first.Xen!;
        XenState[] others =
        [
            xen with { Version = null }, xen with { Version = new XenVersion(4, 17, 7, Debug: true) }, xen with { Version = new XenVersion(4, 20, 7) },
            xen with { IretFlags = 0x100 }, xen with { IretFlags = null }, xen with { UserLayout = null }, xen with { UserLayout = AddressMap.Standard },
            xen with { Traps = XenTrapTable.Empty }, xen with { Traps = xen.Traps.Without(3) }, xen with { Traps = xen.Traps.With(new XenTrap(0x40, 7, 0xe033, 0x1000)) },
            xen with { Callbacks = [] }, xen with { Callbacks = [xen.Callbacks[0] with { MaskEvents = false }] }, xen with { Callbacks = [xen.Callbacks[0] with { Address = 0x1000 }] },
            xen with { Gdt = [new(0x18, 1)] }, xen with { Gdt = [new(0x18, 2)] },
        ];
        TestCase[] cases = [first, .. others.Select(x => first with { Xen = x }), first with { Responses = [first.Responses[0] with { Flags = 0 }] }];

        Assert.Equal(cases.Length, cases.Distinct().Count());
        Assert.Equal(cases.Length, cases.Select(CaseDigest.Of).Distinct().Count());
        Assert.Equal(cases.Length, cases.Select(Digest64.Of).Distinct().Count());
    }

    /// <summary>A table is what its entries are: setting one to what it was changes nothing, and a hole has neither flags nor selector.</summary>
    [Fact]
    public void ATrapTableStatesOnlyWhatDiffers()
    {
        XenTrapTable table = XenMap.Traps;

        Assert.Equal(new XenTrap(3, 3, 0xe033, XenMap.Handlers + 0x30), table[3]);
        Assert.Equal(new XenTrap(5, 0, 0xe033, XenMap.Handlers + 0x50), table[5]);
        Assert.Equal(table, table.Without(5).With(table[5]));
        Assert.Equal(new XenTrap(5, 0, 0, 0), table.With(new XenTrap(5, 7, 0xe033, 0))[5]);
        Assert.Equal([2, 5, 9], table.Without(9).Without(2).Without(5).Overrides.Select(t => (int)t.Vector));
        Assert.Equal(XenTrapTable.Empty, XenTrapTable.Empty.With(table[7]).Without(7));
    }

    [Theory]
    [InlineData("4.17.5", true)]
    [InlineData("4.17.4", false)]
    [InlineData("4.18.0", true)]
    [InlineData("4.16.9", false)]
    [InlineData("5.0.0", true)]
    public void ReleasesAreOrderedByBranch(string version, bool later) => Assert.Equal(later, XenVersion.Parse(version)!.IsFrom(17, 5));
}
