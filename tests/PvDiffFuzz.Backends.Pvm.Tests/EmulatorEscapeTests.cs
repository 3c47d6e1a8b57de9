using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>What an emulated host must not be given.</summary>
public sealed class EmulatorEscapeTests
{
    /// <summary>MOV to segment registers: /2 is SS, /1 CS, /6 and /7 none. REX.R makes a tenth register of SS for the emulator, with another prefix behind it as well; REX.B does not, nor does a REX prefix of an instruction before.</summary>
    [Theory]
    [InlineData("8ed0", false)]
    [InlineData("8ec8", true)]
    [InlineData("8ef0", true)]
    [InlineData("8e3f", true)]
    [InlineData("448ed0", true)]
    [InlineData("4466668e544ec9", true)]
    [InlineData("418ed0", false)]
    [InlineData("44898ed0", false)]
    [InlineData("8e", false)]
    public void MovToSegment(string code, bool escapes) => Assert.Equal(escapes, Trouble(Cases.Of(GuestMode.User, Convert.FromHexString(code))));

    /// <summary>VIF that a case does not state shows that the host has it; VIF that it states, or that an answer does, is its own.</summary>
    [Fact]
    public void FlagsThatNoCaseHasAreTheHosts()
    {
        TestCase testCase = Cases.Of(GuestMode.User, 0xcc);
        RegisterState registers = testCase.Registers;
        Outcome clean = new() { End = EndKind.ReachedEnd, Registers = registers };
        Outcome spoilt = clean with { Registers = registers.With(Register.Rflags, 2 | RflagsBits.VIF) };
        Response answer = new([KeyValuePair.Create(Register.Rflags, 2 | RflagsBits.VIP)]) { Return = ReturnKind.Eretu };

        Assert.False(EmulatorEscapes.HasSpoilt(testCase, clean));
        Assert.True(EmulatorEscapes.HasSpoilt(testCase, spoilt));
        Assert.False(EmulatorEscapes.HasSpoilt(testCase with { Registers = spoilt.Registers! }, spoilt));
        Assert.False(EmulatorEscapes.HasSpoilt(testCase with { Responses = [answer] }, spoilt));
    }

    /// <summary>SYSENTER enters the host's kernel on an AMD processor, wherever a jump finds it.</summary>
    [Fact]
    public void Sysenter()
    {
        Assert.True(Trouble(Cases.Of(GuestMode.User, 0xb8, 0x0f, 0x34, 0, 0)));
        Assert.Null(EmulatorEscapes.Trouble(Cases.Of(GuestMode.User, 0x0f, 0x34), CpuVendor.Intel));
    }

    /// <summary>MOV to DR5 or DR7 arms a breakpoint at 0, which a return to an address with a lower half of 0 meets in compatibility mode.</summary>
    [Theory]
    [InlineData("0f23ee", 0x8000_0000_0000UL, true)]
    [InlineData("0f23f8", 0x1_0000_0000UL, true)]
    [InlineData("0f23ee", 0UL, false)]
    [InlineData("0f23ee", 0x8000_0000_1000UL, false)]
    [InlineData("0f23c6", 0x8000_0000_0000UL, false)]
    public void BreakpointsBelowRip(string code, ulong rip, bool escapes)
    {
        TestCase testCase = Cases.Of(GuestMode.Supervisor, Convert.FromHexString(code));
        Response answer = new([KeyValuePair.Create(Register.Rip, rip)]) { Return = ReturnKind.Eretu };

        Assert.Equal(escapes, Trouble(testCase with { Responses = [answer] }));
        Assert.Equal(escapes, Trouble(testCase with { System = testCase.System.With(SystemRegister.PvcsRip, rip) }));
    }

    private static bool Trouble(TestCase testCase) => EmulatorEscapes.Trouble(testCase, CpuVendor.Amd) is not null;
}
