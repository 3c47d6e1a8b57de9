namespace PvDiffFuzz.Backends.Xen.Tests;

/// <summary>When a guest is asked whether it halts, and when a case has taken too long.</summary>
public sealed class CaseClockTests
{
    private const long Millisecond = 1_000_000;
    private const long Begin = 5_000 * Millisecond;

    private CaseClock _clock = new(Begin);

    [Fact]
    public void AGuestThatRestsFromTheStartIsAskedAtTheFirstLook()
    {
        Assert.Equal(CaseState.Runs, Look(elapsed: 40, used: 1));
        Assert.Equal(CaseState.Rests, Look(elapsed: 41, used: 1));
    }

    /// <summary>A guest that has worked for 12 ms before it halts is not asked at the look that saw the work, but at the next.</summary>
    [Fact]
    public void AGuestThatHasWorkedBeforeItRestsIsAskedAtTheNextLook()
    {
        Assert.Equal(CaseState.Runs, Look(elapsed: 41, used: 12));
        Assert.Equal(CaseState.Runs, Look(elapsed: 81, used: 12));
        Assert.Equal(CaseState.Rests, Look(elapsed: 82, used: 12));
    }

    /// <summary>One that was asked and did not halt is asked again.</summary>
    [Fact]
    public void AGuestThatStillRestsIsAskedAgain()
    {
        Assert.Equal(CaseState.Rests, Look(elapsed: 41, used: 0));
        Assert.Equal(CaseState.Runs, Look(elapsed: 42, used: 0));
        Assert.Equal(CaseState.Rests, Look(elapsed: 82, used: 0));
    }

    [Fact]
    public void AGuestThatWorksIsNotAskedAndStoppedInTheEnd()
    {
        Assert.Equal(CaseState.Runs, Look(elapsed: 41, used: 41));
        Assert.Equal(CaseState.Runs, Look(elapsed: 50, used: 60));
        Assert.Equal(CaseState.Spent, Look(elapsed: 62, used: 61));
    }

    [Fact]
    public void SilenceEnds() => Assert.Equal(CaseState.Spent, Look(elapsed: 10_001, used: 1));

    private CaseState Look(int elapsed, long used) => _clock.Look(TimeSpan.FromMilliseconds(elapsed), Begin + (used * Millisecond));
}
