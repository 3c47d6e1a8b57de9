using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Tests;

/// <summary>INT3, INTO, INT1 and INT n, as observed on a real Xen 4.17 and as the texts have them for FRED.</summary>
public sealed class SoftwareInterruptTests
{
    /// <summary>Vectors 3 and 4 are as exceptions: no virtual DPL closes them.</summary>
    [Theory]
    [InlineData("CC", 3, 1)]
    [InlineData("CD 03", 3, 2)]
    [InlineData("CD 04", 4, 2)]
    [InlineData("66 CD 03", 3, 3)]
    public void BreakpointAndOverflowIgnoreTheVirtualDpl(string code, byte vector, ulong length)
    {
        foreach (TestCase testCase in Everywhere(code))
        {
            Event e = testCase.Trap(vector, 0).RunToEvent();

            Assert.Equal((vector, testCase.Code.Address + length), (e.Vector, e.Field(testCase.Abi == Abi.XenPv32 ? "eip" : "rip", testCase.Abi)));
        }
    }

    /// <summary>INT 80h needs a handler; by IDT its DPL does not matter, by FRED it does.</summary>
    [Theory]
    [InlineData(Abi.XenPv64, 0, 0x80)]
    [InlineData(Abi.XenPv64, 3, 0x80)]
    [InlineData(Abi.XenPv64Fred, 0, 13)]
    [InlineData(Abi.XenPv64Fred, 1, 13)]
    [InlineData(Abi.XenPv64Fred, 3, 0x80)]
    public void SystemCallGate(Abi abi, byte dpl, byte vector)
    {
        Event e = Payload.User("CD 80").Under(abi).Trap(0x80, dpl).RunToEvent();

        Assert.Equal(vector, e.Vector);
        Assert.Equal(vector == 13 ? 0x402U : null, e.ErrorCode);
        Assert.Equal(0x202UL, e.Field("rflags"));
    }

    /// <summary>Without a handler it is a fault: RIP goes back by two bytes, or under FRED to the instruction. RF is clear.</summary>
    [Theory]
    [InlineData(Abi.XenPv64, "CD 80", 0)]
    [InlineData(Abi.XenPv64, "66 CD 80", 1)]
    [InlineData(Abi.XenPv64Fred, "CD 80", 0)]
    [InlineData(Abi.XenPv64Fred, "66 CD 80", 0)]
    public void UnregisteredSystemCallGateIsAFault(Abi abi, string code, ulong offset)
    {
        foreach (TestCase start in (TestCase[])[Payload.User(code), Payload.Kernel(code)])
        {
            Event e = start.Under(abi).Without(0x80).RunToEvent();

            Assert.Equal((13, 0x402U, start.Code.Address + offset), (e.Vector, e.Error(), e.Field("rip")));
            Assert.Equal(0UL, e.Field("rflags") & RflagsBits.RF);
        }
    }

    /// <summary>Other vectors: the kernel needs a virtual DPL of 1, user code of 3. A trap by IDT has RF of the #GP in its frame.</summary>
    [Theory]
    [InlineData(0x40, 0, false, false)]
    [InlineData(0x40, 1, true, false)]
    [InlineData(0x40, 2, true, false)]
    [InlineData(0x40, 3, true, true)]
    [InlineData(0x82, 3, true, true)]
    [InlineData(1, 3, true, true)]
    [InlineData(14, 3, true, true)]
    public void OthersObeyTheVirtualDpl(byte vector, byte dpl, bool kernel, bool user)
    {
        string code = $"CD {vector:x2}";
        foreach ((TestCase start, bool allowed) in ((TestCase, bool)[])[(Payload.Kernel(code), kernel), (Payload.User(code), user)])
        {
            foreach (Abi abi in (Abi[])[Abi.XenPv64, Abi.XenPv64Fred])
            {
                Event e = start.Under(abi).Trap(vector, dpl).RunToEvent();

                Assert.Equal(abi == Abi.XenPv64 ? RflagsBits.RF : 0, e.Field("rflags") & RflagsBits.RF);
                if (allowed)
                {
                    Assert.Equal((vector, null, start.Code.End, 56), (e.Vector, e.ErrorCode, e.Field("rip"), e.Frame.Length));
                    Assert.Equal(EventKind.Trap, e.Kind);
                }
                else
                {
                    Assert.Equal((13, ((uint)vector << 3) | 2, start.Code.Address), (e.Vector, e.Error(), e.Field("rip")));
                }
            }
        }
    }

    /// <summary>A hole in the table is refused, whatever vector.</summary>
    [Fact]
    public void AHoleIsRefused() => Assert.Equal(0x202U, Payload.User("CD 40").Without(0x40).RunToEvent().ErrorCode);

    /// <summary>Releases without the length of an emulated INT n resume two bytes on, inside a prefixed one.</summary>
    [Theory]
    [InlineData("4.17.7", Abi.XenPv64, 2)]
    [InlineData("4.20.2", Abi.XenPv64, 2)]
    [InlineData("4.20.3", Abi.XenPv64, 3)]
    [InlineData("4.22.0", Abi.XenPv64, 3)]
    [InlineData("4.22.0", Abi.XenPv64Fred, 3)]
    public void AnEmulatedIntMayResumeInside(string version, Abi abi, ulong length)
    {
        TestCase start = Payload.Kernel("66 CD 40").Under(abi).Of(version).Trap(0x40, 3);

        Assert.Equal(start.Code.Address + length, start.RunToEvent().Field("rip"));
    }

    /// <summary>INT1 checks nothing and adds nothing to DR6; a single step adds BS.</summary>
    [Fact]
    public void Int1IsADebugTrap()
    {
        Outcome icebp = Payload.User("F1").Trap(1, 0).Run();
        Outcome step = Payload.User("90", (Register.Rflags, 0x302)).Run();

        Assert.Equal((1, Payload.User("F1").Code.End, 0xffff_0ff0UL), (icebp.Events[0].Vector, icebp.Events[0].Field("rip"), icebp.System[SystemRegister.Dr6]));
        Assert.Equal((1, 0x302UL, 0xffff_4ff0UL), (step.Events[0].Vector, step.Events[0].Field("rflags"), step.System[SystemRegister.Dr6]));
    }

    /// <summary>A breakpoint is told in DR6: it takes the place of one that was met before, or is added by older releases. Right after INT1 it is no INT1.</summary>
    [Theory]
    [InlineData("4.18.3", 0xffff_0ff3)]
    [InlineData("4.22.0", 0xffff_0ff2)]
    public void BreakpointsAreTold(string version, ulong dr6)
    {
        TestCase start = Payload.User("F1 90 90").Of(version).With((SystemRegister.Dr6, 0xffff_0ff1)).Answer(Payload.Back());
        start = start with { Registers = start.Registers with { Debug = new DebugRegisters(0, start.Code.Address + 1, 0, 0, 0x404) } };
        Outcome outcome = start.Run();

        Assert.Equal((2, start.Code.Address + 1, dr6), (outcome.Events.Length, outcome.Events[1].Field("rip"), outcome.System[SystemRegister.Dr6]));
    }

    /// <summary>INTO traps on overflow in 32-bit code and does not exist in 64-bit code.</summary>
    [Fact]
    public void IntoIsForCompatibilityMode()
    {
        Event e = Payload.User("CE", (Register.Cs, XenMap.FlatCode32), (Register.Rflags, 0xa02)).RunToEvent();

        Assert.Equal((4, Payload.User("CE").Code.End, (ulong)XenMap.FlatCode32), (e.Vector, e.Field("rip"), e.Field("cs")));
        Assert.Equal(6, Payload.User("CE").RunToEvent().Vector);
    }

    private static IEnumerable<TestCase> Everywhere(string code) =>
    [
        Payload.Kernel(code), Payload.User(code), Payload.Kernel(code).Under(Abi.XenPv64Fred), Payload.User(code).Under(Abi.XenPv64Fred),
        Payload.Make(Abi.XenPv32, GuestMode.Supervisor, code), Payload.Make(Abi.XenPv32, GuestMode.User, code),
    ];
}
