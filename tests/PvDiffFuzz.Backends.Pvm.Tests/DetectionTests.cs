using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>The revision by the MSRs that exist, with hosts that are made up.</summary>
public sealed class DetectionTests
{
    private const ulong Range = 0xffff_ffff_ffb3_ff93;

    [Fact]
    public void AllEightMsrsAreTheFirstRevision() =>
        Assert.Equal(new PvmHost(Abi.PvmRfc1, Range), PvmHost.Detect(With(0, 1, 2, 3, 4, 5, 6, 7)));

    [Fact]
    public void FourMsrsAreTheNewestBranch() => Assert.Equal(new PvmHost(Abi.Pvm612, Range), PvmHost.Detect(With(0, 1, 4, 5)));

    [Fact]
    public void WithoutAnyTheReasonNamesThem()
    {
        TargetUnavailableException e = Assert.Throws<TargetUnavailableException>(() => PvmHost.Detect(With()));

        Assert.Contains("4b564df0", e.Message, StringComparison.Ordinal);
        Assert.Contains("docs/pvm-host.md", e.Cure, StringComparison.Ordinal);
    }

    /// <summary>The generation between the two has no redzone.</summary>
    [Fact]
    public void AnotherSetIsNotGuessedAt()
    {
        TargetUnavailableException e = Assert.Throws<TargetUnavailableException>(() => PvmHost.Detect(With(0, 1, 2, 3, 4, 5, 6)));

        Assert.Contains("not known", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void AHostThatAnswersForEverythingTellsNothing()
    {
        TargetUnavailableException e = Assert.Throws<TargetUnavailableException>(() => PvmHost.Detect(_ => 0));

        Assert.Contains("ignore_msrs", e.Cure, StringComparison.Ordinal);
    }

    /// <summary>PML4 entries 193 to 1b2: from ffffc98000000000 to ffffd97fffffffff.</summary>
    [Theory]
    [InlineData(0UL, true)]
    [InlineData(0x7fff_ffff_ffff, true)]
    [InlineData(0xffff_c97f_ffff_ffff, false)]
    [InlineData(0xffff_c980_0000_0000, true)]
    [InlineData(0xffff_d97f_ffff_ffff, true)]
    [InlineData(0xffff_d980_0000_0000, false)]
    public void TheRangeNamesTheGuestsAddresses(ulong address, bool guests) => Assert.Equal(guests, new PvmHost(Abi.PvmRfc1, Range).IsGuests(address));

    private static Func<uint, ulong?> With(params uint[] present) =>
        index => index - 0x4b56_4df0 is uint number && present.Contains(number) ? number == 0 ? Range : 0UL : null;
}
