using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm.Tests;

/// <summary>Privileged, changed and synthetic instructions.</summary>
public sealed class InstructionTests
{
    /// <summary>CLI and STI change the structure's flag; PUSHF shows IF set always, POPF does not change the flag.</summary>
    [Fact]
    public void TheInterruptFlagIsInTheStructure()
    {
        Assert.Equal(0UL, Payload.Supervisor("FA").InterruptsOn().RunToEnd().System[SystemRegister.PvcsEventFlags]);
        Assert.Equal(0x200UL, Payload.Supervisor("FB").RunToEnd().System[SystemRegister.PvcsEventFlags]);
        Assert.Equal(0x202UL, Payload.Supervisor("9C 58").RunToEnd().Registers!.Gpr[0]);
        Outcome popped = Payload.Supervisor("6A 02 9D").InterruptsOn().RunToEnd();
        Assert.Equal((0x200UL, 0x202UL), (popped.System[SystemRegister.PvcsEventFlags], popped.Registers!.Rflags));
    }

    /// <summary>Behind supervisor code is a target's jump stub. An instruction that would take bytes of it is no payload, whatever the case has there; one that ends before it is.</summary>
    [Theory]
    [InlineData("00", EndKind.Unsupported)]
    [InlineData("90 28 99 3B", EndKind.Unsupported)]
    [InlineData("90 0F F7", EndKind.Unsupported)]
    [InlineData("90 06", EndKind.Event)]
    [InlineData("00 C0", EndKind.ReachedEnd)]
    public void InstructionsDoNotReachIntoTheStub(string code, EndKind end) => Assert.Equal(end, Payload.Supervisor(code).RunAny().End);

    /// <summary>A store to the structure takes effect: the flag set by an OR is the flag of the next frame.</summary>
    [Fact]
    public void StoresToTheStructureTakeEffect()
    {
        Outcome outcome = Payload.Supervisor("81 0C 25 00 00 49 00 00 02 00 00 CC").Run();

        Assert.Equal(0x200UL, outcome.Only().Frame("rflags") & 0x200);
        Assert.DoesNotContain(outcome.Memory, word => word.Address / 4096 == PvmMap.PvcsAddress / 4096);
    }

    /// <summary>What was stored elsewhere in the structure's page is gone in the next case.</summary>
    [Fact]
    public void TheStructuresPageIsCleanInEveryCase()
    {
        using PvmModel model = new();
        TestCase store = Payload.Supervisor("48 C7 04 25 00 08 49 00 77 00 00 00 48 C7 04 25 18 00 49 00 77 00 00 00");
        TestCase load = Payload.Supervisor("48 8B 04 25 00 08 49 00 48 8B 1C 25 18 00 49 00");

        Assert.Equal(EndKind.ReachedEnd, model.Run(store).End);
        RegisterState registers = model.Run(load).Registers!;

        Assert.Equal((0UL, 0UL), (registers.Gpr[0], registers.Gpr[3]));
    }

    /// <summary>INT 3 and INT 80h are allowed; others are #GP with the number of their gate.</summary>
    [Theory]
    [InlineData("CD 03", 3, null)]
    [InlineData("CD 80", 0x80, null)]
    [InlineData("CD 04", 13, 0x22u)]
    [InlineData("CD 02", 13, 0x12u)]
    [InlineData("CD 20", 13, 0x102u)]
    [InlineData("CD 0E", 13, 0x72u)]
    public void OnlyTwoIntsAreAllowed(string code, byte vector, uint? error)
    {
        Event supervisor = Payload.Supervisor(code).Run().Only();
        Event user = Payload.User(code).Run().Only();

        Assert.Equal((vector, error), (supervisor.Vector, supervisor.ErrorCode));
        Assert.Equal((vector, error), (user.Vector, user.ErrorCode));
    }

    /// <summary>INT 80h works whatever gates the profile has.</summary>
    [Fact]
    public void GatesAreThoseOfTheDocument()
    {
        CpuProfile profile = CpuProfile.DefaultAmd with { UserGates = [4] };

        Assert.Equal(0x80, Payload.User("CD 80").Run(profile).Only().Vector);
        Assert.Equal(3, Payload.User("CD 03").Run(profile).Only().Vector);
    }

    /// <summary>SYSENTER is #GP(0) for both vendors and in every mode.</summary>
    [Fact]
    public void SysenterIsRefused()
    {
        (Register, ulong)[] compatibility = [(Register.Cs, Selectors.UserCode32), (Register.Ds, Selectors.UserData), (Register.Es, Selectors.UserData)];
        foreach (CpuProfile profile in (CpuProfile[])[CpuProfile.DefaultAmd, CpuProfile.DefaultIntel])
        {
            foreach (TestCase testCase in (TestCase[])[Payload.User("0F 34"), Payload.Supervisor("0F 34"), Payload.User("0F 34", compatibility)])
            {
                Event what = testCase.Run(profile).Only();

                Assert.Equal((13, (uint?)0), (what.Vector, what.ErrorCode));
            }
        }
    }

    /// <summary>Instructions that supervisor software must not use raise what the processor raises: SWAPGS, SYSRETQ #GP(0), STAC #UD.</summary>
    [Theory]
    [InlineData("0F 01 F8", 13)]
    [InlineData("48 0F 07", 13)]
    [InlineData("0F 01 CB", 6)]
    [InlineData("0F 01 C1", 6)]
    public void ForbiddenInstructionsAreRefused(string code, byte vector) => Assert.Equal(vector, Payload.Supervisor(code).Run().Only().Vector);

    /// <summary>The synthetic CPUID: leaf 40000000 has KVM's signature, 40000002 EBX "pvm"; the upper halves are cleared and RIP is after all ten bytes.</summary>
    [Fact]
    public void TheSyntheticCpuidAnswersForPvm()
    {
        const string cpuid = "0F 01 3C 25 50 56 4D FF 0F A2";
        RegisterState signature = Payload.Supervisor(cpuid, (Register.Rax, 0xffff_ffff_4000_0000)).RunToEnd().Registers!;
        RegisterState vendor = Payload.Supervisor(cpuid, (Register.Rax, 0x4000_0002), (Register.Rcx, ulong.MaxValue)).RunToEnd().Registers!;

        Payload.Same([0x4000_0002, 0x4b4d_564b, 0x564b_4d56, 0x4d], [signature.Gpr[0], signature.Gpr[3], signature.Gpr[1], signature.Gpr[2]]);
        Payload.Same([0, 0x6d_7670, 0, 0], [vendor.Gpr[0], vendor.Gpr[3], vendor.Gpr[1], vendor.Gpr[2]]);
        Assert.Equal(EndKind.Unsupported, Payload.Supervisor(cpuid, (Register.Rax, 1)).RunAny().End);
    }

    /// <summary>Other leaves are the host's without SMEP (EBX bit 7) and SMAP (bit 20); the bare CPUID shows them.</summary>
    [Fact]
    public void TheSyntheticCpuidHidesWhatGuestsDoNotHave()
    {
        CpuProfile profile = CpuProfile.DefaultAmd with { Cpuid = [new CpuidLeaf(7, 0, 1, uint.MaxValue, 3, 4)] };
        (Register, ulong)[] leaf = [(Register.Rax, 7)];

        Assert.Equal(0xffef_ff7fUL, Payload.Supervisor("0F 01 3C 25 50 56 4D FF 0F A2", leaf).RunToEnd(profile).Registers!.Gpr[3]);
        Assert.Equal(0xffff_ffffUL, Payload.Supervisor("0F A2", leaf).RunToEnd(profile).Registers!.Gpr[3]);
    }

    /// <summary>With other bytes it is an INVLPG, which does nothing, and what follows.</summary>
    [Theory]
    [InlineData("0F 01 3C 25 50 56 4D FF 90")]
    [InlineData("0F 01 38")]
    [InlineData("0F 09")]
    [InlineData("0F 08")]
    public void InvalidationsDoNothing(string code) => Assert.Equal(0UL, Payload.Supervisor(code).RunToEnd().Registers!.Gpr[0]);

    /// <summary>GDTR keeps what was written: LGDT [data], then SGDT [data+40] under UMIP.</summary>
    [Fact]
    public void DescriptorTableRegistersKeepTheirValue()
    {
        TestCase testCase = Payload.Supervisor("0F 01 14 25 00 00 48 00 0F 01 04 25 40 00 48 00").With(Payload.Data, 0x34, 0x12, 0x00, 0x10, 0, 0, 0, 0, 0, 0);

        Outcome outcome = testCase.RunToEnd();

        Assert.Equal(new MemoryWord(Payload.Data + 0x40, 0x1000_1234), Assert.Single(outcome.Memory));
        Assert.Equal(EndKind.Unsupported, Payload.Supervisor("0F 01 04 25 40 00 48 00").RunAny().End);
    }

    /// <summary>LLDT with a null selector does nothing, LTR with one is #GP(0).</summary>
    [Fact]
    public void NullSystemSelectors()
    {
        Assert.Equal(EndKind.ReachedEnd, Payload.Supervisor("0F 00 D0").Run().End);
        Assert.Equal(13, Payload.Supervisor("0F 00 D8").Run().Only().Vector);
    }

    /// <summary>Selectors show as the underlying ones; the supervisor's own cannot be loaded.</summary>
    [Fact]
    public void SelectorsAreTheUnderlyingOnes()
    {
        RegisterState registers = Payload.Supervisor("8C C8 8C D3").RunToEnd().Registers!;
        Event what = Payload.Supervisor("B8 18 00 00 00 8E D8").Run().Only();

        Assert.Equal((0x33UL, 0x2bUL), (registers.Gpr[0], registers.Gpr[3]));
        Assert.Equal((13, (uint?)0x18), (what.Vector, what.ErrorCode));
    }

    /// <summary>IRETQ among user selectors runs natively in supervisor mode, and does not change the interrupt flag.</summary>
    [Fact]
    public void IretqRunsNatively()
    {
        // mov rax,rsp; push 2b; push rax; push 2; push 33; lea rdx,[rip+3]; push rdx; iretq; nop
        Outcome outcome = Payload.Supervisor("48 89 E0 6A 2B 50 6A 02 6A 33 48 8D 15 03 00 00 00 52 48 CF 90").InterruptsOn().RunToEnd();

        Assert.Equal((0x202UL, Payload.Stack), (outcome.Registers!.Rflags, outcome.Registers.Gpr[4]));
    }

    /// <summary>A port belongs to who runs the guest.</summary>
    [Theory]
    [InlineData("E4 40")]
    [InlineData("E6 40")]
    [InlineData("6C")]
    public void PortsAreUnsupported(string code) => Assert.Equal(EndKind.Unsupported, Payload.Supervisor(code).RunAny().End);
}
