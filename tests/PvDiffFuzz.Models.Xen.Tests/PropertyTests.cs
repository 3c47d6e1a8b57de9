using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Tests;

/// <summary>What holds for any case.</summary>
public sealed class PropertyTests
{
    /// <summary>Ten thousand cases of each kind of guest: no exception, the same outcome on a used model again, and most of them comparable.</summary>
    [Theory]
    [InlineData(Abi.XenPv64)]
    [InlineData(Abi.XenPv64Fred)]
    [InlineData(Abi.XenPv32)]
    public void AnyCaseIsAnswered(Abi abi)
    {
        using XenModel model = new(CpuProfile.DefaultAmd);
        using XenModel other = new(CpuProfile.DefaultAmd);
        int comparable = 0;
        int crashes = 0;
        foreach (TestCase testCase in RandomCases.Draw(abi, seed: 1, count: 10_000))
        {
            Outcome first = model.Run(testCase);
            Assert.Equal(first, other.Run(testCase));
            comparable += first.Comparable ? 1 : 0;
            crashes += first.End == EndKind.Crash ? 1 : 0;
        }

        Assert.InRange(comparable, 6_000, 10_000);
        Assert.InRange(crashes, 100, 6_000);
    }

    /// <summary>Every frame of a 64-bit guest: RSP is 8 modulo 16 without an error code and 0 with one, IF is the inverse of the mask, the interrupted state's upper half of CS is clear.</summary>
    [Theory]
    [InlineData(Abi.XenPv64)]
    [InlineData(Abi.XenPv64Fred)]
    public void FramesAreWellFormed(Abi abi)
    {
        using XenModel model = new(CpuProfile.DefaultAmd);
        int frames = 0;
        foreach (TestCase testCase in RandomCases.Draw(abi, seed: 2, count: 4_000))
        {
            foreach (Event e in model.Run(testCase).Events.Where(e => e.Kind != EventKind.Hypercall))
            {
                frames++;
                Assert.Equal(e.ErrorCode is null ? (56, 8UL) : (64, 0UL), (e.Frame.Length, e.Registers.Gpr[4] % 16));
                Assert.Equal(e.Field("mask") == 0, (e.Field("rflags") & RflagsBits.IF) != 0);
                Assert.Equal((0UL, 0UL), (e.Field("cs.upper"), e.Field("ss.upper")));
                Assert.Equal((XenMap.FlatCode64, XenMap.FlatData), (e.Registers.Cs, e.Registers.Ss));
                Assert.Equal(0UL, e.Registers.Rflags & (RflagsBits.TF | RflagsBits.NT | RflagsBits.RF | RflagsBits.AC | RflagsBits.IOPL | RflagsBits.VM));
                Assert.NotEqual(0UL, e.Registers.Rflags & RflagsBits.IF);
            }
        }

        Assert.InRange(frames, 2_000, 20_000);
    }

    /// <summary>What a case states of the system side comes back when nothing changes it, and the trace has the payload in order.</summary>
    [Theory]
    [InlineData(Abi.XenPv64)]
    [InlineData(Abi.XenPv64Fred)]
    [InlineData(Abi.XenPv32)]
    public void OutcomesStateTheSystemSide(Abi abi)
    {
        using XenModel model = new(CpuProfile.DefaultAmd);
        TestCase testCase = Payload.Make(abi, GuestMode.Supervisor, "90 90");
        Outcome outcome = testCase.RunToEnd();

        Assert.All(outcome.System.Values, pair => Assert.Null(TestCase.CheckSystemValue(abi, pair.Key, pair.Value)));
        Assert.All(testCase.System.Values, pair => Assert.Equal(pair.Value, outcome.System[pair.Key]));
        Assert.Equal([testCase.Code.Address, testCase.Code.Address + 1], model.Trace(testCase, 10).Select(i => i.Address));
    }

    /// <summary>
    /// What each instruction raised: nothing where Xen emulates it (MOV from CR0), #GP where it refuses to (HLT), #UD; also where an upcall comes before the handler, or the frame finds no stack and the
    /// guest dies.
    /// </summary>
    [Theory]
    [InlineData("90 0F 20 C0 F4", true, new[] { -1, -1, 13 })]
    [InlineData("90 0F 0B", true, new[] { -1, 6 })]
    [InlineData("90 0F 0B", false, new[] { -1, 6 })]
    public void TheTraceTellsWhatWasRaised(string code, bool stack, int[] vectors)
    {
        using XenModel model = new(CpuProfile.DefaultAmd);
        TestCase testCase = Payload.Kernel(code, (Register.Rsp, stack ? Payload.Stack : 0x10));

        Assert.Equal(stack ? EndKind.Event : EndKind.Crash, testCase.Run().End);
        Assert.Equal(vectors, model.Trace(testCase, 10).Select(i => i.Raised is RaisedException raised ? raised.Vector : -1));
    }

    /// <summary>The agent's range, the page of an entry above all, is no memory of a case: the kernel neither reads it nor jumps there, and user code does not see it.</summary>
    [Theory]
    [InlineData(XenMap.Handlers)]
    [InlineData(AddressMap.AgentFirst)]
    [InlineData(AddressMap.AgentLast)]
    public void TheAgentsRangeIsTheAgents(ulong address)
    {
        string load = $"A0 {BounceFrameTests.Little(address)}";

        Assert.Equal(EndKind.Unsupported, Payload.Kernel(load).RunAny().End);
        Assert.Equal(EndKind.Unsupported, Payload.Kernel("FF E0", (Register.Rax, address & ~0xfffUL)).RunAny().End);
        Assert.Equal(EndKind.Event, Payload.Kernel($"A0 {BounceFrameTests.Little(AddressMap.AgentLast + 1)}").RunAny().End);
        Assert.Equal(4U, Payload.User(load).RunToEvent().ErrorCode);
    }
}
