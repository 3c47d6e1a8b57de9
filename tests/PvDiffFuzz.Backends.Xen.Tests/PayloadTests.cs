using PvDiffFuzz.Core;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Backends.Xen.Tests;

/// <summary>What a payload may leave behind, read off its bytes.</summary>
public sealed class PayloadTests
{
    [Fact]
    public void PlainKernelCodeLeavesNothing() => Assert.Equal(Effects.None, Payload.Of(XenPayloads.Case("48 01 d8 c3", GuestMode.Supervisor)));

    [Fact]
    public void PlainUserCodeRunsInUserModeOnly() => Assert.Equal(Effects.UserMode, Payload.Of(XenPayloads.Case("48 01 d8", GuestMode.User)));

    /// <summary>mov eax, 3; syscall: stack_switch, whose number is known, so nothing else is forgotten.</summary>
    [Fact]
    public void ACallWhoseNumberIsKnownChangesWhatThatCallChanges() =>
        Assert.Equal(Effects.Calls | Effects.Syscalls | Effects.ChangesStack, Payload.Of(XenPayloads.Case("b8 03 00 00 00 0f 05", GuestMode.Supervisor)));

    /// <summary>nop; syscall with any RAX.</summary>
    [Fact]
    public void ACallWhoseNumberIsNotKnownMayChangeEverything()
    {
        Effects effects = Payload.Of(XenPayloads.Case("90 0f 05", GuestMode.Supervisor));

        Assert.True(effects.HasFlag(Effects.ChangesEverything | Effects.ChangesStack | Effects.ChangesIopl | Effects.ChangesDebug));
        Assert.False(effects.HasFlag(Effects.Lasting));
    }

    /// <summary>mov eax, 1; syscall: mmu_update, which only the snapshot undoes.</summary>
    [Fact]
    public void ACallThatChangesPageTablesIsLasting() => Assert.True(Payload.Of(XenPayloads.Case("b8 01 00 00 00 0f 05", GuestMode.Supervisor)).HasFlag(Effects.Lasting));

    /// <summary>mov edi, 3; xor esi, esi; mov eax, 24; syscall: whether a virtual CPU is up. Any other command of vcpu_op acts on it.</summary>
    [Theory]
    [InlineData("bf 03 00 00 00 31 f6 b8 18 00 00 00 0f 05", false)]
    [InlineData("bf 02 00 00 00 31 f6 b8 18 00 00 00 0f 05", true)]
    public void AskingForAVirtualCpuIsNotLasting(string code, bool lasting) =>
        Assert.Equal(lasting, Payload.Of(XenPayloads.Case(code, GuestMode.Supervisor)).HasFlag(Effects.Lasting));

    /// <summary>What lies in pages that cannot be executed is no code.</summary>
    [Fact]
    public void DataIsNoCode()
    {
        TestCase testCase = XenPayloads.Case("90", GuestMode.Supervisor);
        MemoryContents call = new(AddressMap.LowBlock + XenMap.Data, [0x0f, 0x05]);

        Assert.Equal(Effects.None, Payload.Of(testCase with { Contents = [call] }));
    }

    /// <summary>MOV to SS; to CS; with REX.R to a segment register that there is not, which the emulator takes from what lies behind them; with REX.B; to number 7, which is the task register there; to number 6, LDTR, which the agent notices.</summary>
    [Theory]
    [InlineData("8e d0", false)]
    [InlineData("44 8e d0", true)]
    [InlineData("90 4c 66 8e d0", true)]
    [InlineData("41 8e d0", false)]
    [InlineData("8e f8", true)]
    [InlineData("8e f0", false)]
    [InlineData("8e c9", true)]
    public void LoadsOfWhatIsNoSegmentRegisterAreSeen(string code, bool beyond) =>
        Assert.Equal(beyond, Payload.LoadsNoSegment(XenPayloads.Case(code, GuestMode.User)));

    /// <summary>MOV to number 7 behind the code, in a page that can be executed, and in one that cannot.</summary>
    [Theory]
    [InlineData(XenMap.CodeEnd - 0x800, true)]
    [InlineData(XenMap.Data, false)]
    public void LoadsInContentsAreSeenWhereTheyAreCode(ulong place, bool beyond)
    {
        MemoryContents load = new(AddressMap.LowBlock + place, [0x8e, 0xf8]);

        Assert.Equal(beyond, Payload.LoadsNoSegment(XenPayloads.Case("90", GuestMode.User) with { Contents = [load] }));
    }

    [Fact]
    public void SyscallOfUserCodeIsNoCall() => Assert.Equal(Effects.UserMode | Effects.Syscalls, Payload.Of(XenPayloads.Case("0f 05", GuestMode.User)));

    [Fact]
    public void AResponseThatReturnsToTheKernelMakesSyscallACall()
    {
        TestCase testCase = XenPayloads.Case("0f 05", GuestMode.User) with { Responses = [new Response([new(Register.Cs, 0xe030)]) { Return = ReturnKind.XenIret }] };

        Assert.True(Payload.Of(testCase).HasFlag(Effects.Calls));
    }

    [Theory]
    [InlineData("0f 20 e0", (int)Effects.SeesCr4)]
    [InlineData("0f 20 d0", (int)Effects.ReadsCr2)]
    [InlineData("0f 22 c0", (int)Effects.ChangesTaskSwitched)]
    [InlineData("0f 21 f0", (int)Effects.ReadsDebug)]
    [InlineData("0f 23 f8", (int)Effects.ChangesDebug)]
    [InlineData("8e e8", (int)Effects.LoadsGs)]
    [InlineData("f3 48 0f ae d8", (int)(Effects.SeesCr4 | Effects.LoadsGs | Effects.SeesUserGsBase))]
    public void PrivilegedInstructionsOfTheKernelHaveTheirEffects(string code, int effects) => Assert.Equal((Effects)effects, Payload.Of(XenPayloads.Case(code, GuestMode.Supervisor)));

    /// <summary>int 40h: its vector besides the exceptions, 80h and 82h.</summary>
    [Fact]
    public void VectorsAreThoseOfTheBytes()
    {
        Span<ulong> vectors = stackalloc ulong[4];

        Payload.VectorsOf(XenPayloads.Case("cd 40", GuestMode.User), vectors);

        Assert.Equal([uint.MaxValue, 1UL << 0, (1UL << 0) | (1UL << 2), 0], vectors.ToArray());
    }
}
