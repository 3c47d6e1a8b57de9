using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Cli.Tests;

/// <summary>What a case executes is asked of the release whose answer is judged.</summary>
public sealed class TracerTests
{
    /// <summary>A SYSCALL of user code without a callback crashes the domain before release 4.15 and is a #UD since, whose answer executes it again.</summary>
    [Theory]
    [InlineData("4.14.0", "syscall")]
    [InlineData("4.17.7", "syscall syscall")]
    public void ATraceFollowsTheReleaseOfTheTargets(string release, string executed)
    {
        TestCase testCase = XenPayloads.Case("0f05 90", GuestMode.User);
        TestCase answered = testCase with
        {
            Xen = testCase.Xen! with { Callbacks = [] },
            Responses = [new Response([]) { Return = ReturnKind.XenIret }],
        };

        ImmutableArray<TracedInstruction> trace = Session.Analyst(CpuProfile.DefaultAmd, [$"model.xen:{release}"]).TraceAfter(answered, Answers.All);

        Assert.Equal(executed, string.Join(' ', trace.Select(ran => ran.Bytes[0] == 0x90 ? "nop" : "syscall")));
    }
}
