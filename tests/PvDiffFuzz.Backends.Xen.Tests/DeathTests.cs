namespace PvDiffFuzz.Backends.Xen.Tests;

/// <summary>What the console of Xen tells of a death.</summary>
public sealed class DeathTests
{
    [Fact]
    public void ACrashOfTheDomainIsGuestBehaviour()
    {
        Death? death = Death.Of("(XEN) domain_crash called\n(XEN) Domain 0 (vcpu#0) crashed on cpu#0:\n(XEN) Hardware Dom0 crashed: rebooting machine in 5 seconds.\n");

        Assert.Equal(DeathKind.Domain, death?.Kind);
    }

    [Fact]
    public void AShutdownIsNoCrash()
    {
        Death? death = Death.Of("(XEN) Hardware Dom0 halted: halting machine\n");

        Assert.Equal(DeathKind.Domain, death?.Kind);
        Assert.Contains("shut down", death!.Reason, StringComparison.Ordinal);
    }

    /// <summary>A panic of the hypervisor is told apart, with its own words.</summary>
    [Fact]
    public void APanicOfXenIsNamed()
    {
        Death? death = Death.Of("(XEN) ****************************************\n(XEN) Panic on CPU 0:\n(XEN) FATAL TRAP: vector = 6 (invalid opcode)\n(XEN) ****\n");

        Assert.Equal(DeathKind.Hypervisor, death?.Kind);
        Assert.Contains("FATAL TRAP: vector = 6", death!.Reason, StringComparison.Ordinal);
    }

    /// <summary>Where Xen was when it gave up stands in the lines before.</summary>
    [Fact]
    public void APanicOfXenSaysWhere() =>
        Assert.Contains(", RIP:    e008:[<ffff82d0402012a0>] entry+0x10/0x90", Death.Of("(XEN) RIP:    e008:[<ffff82d0402012a0>] entry+0x10/0x90\n(XEN) Panic on CPU 0:\n(XEN) GENERAL PROTECTION FAULT\n")!.Reason, StringComparison.Ordinal);

    [Theory]
    [InlineData("")]
    [InlineData("(XEN) d0v0: unhandled page fault\n")]
    public void AnythingElseIsNoDeath(string console) => Assert.Null(Death.Of(console));

    [Fact]
    public void AQemuThatGivesUpSaysWhyBeforeItListsRegisters() =>
        Assert.Equal("qemu: fatal: Trying to execute code outside RAM or ROM at 0x1", Death.LastLine("(XEN) on\nqemu: fatal: Trying to execute code outside RAM or ROM at 0x1\n\nRAX=0\nXMM15=0\n"));

    [Fact]
    public void TheLastLineIsTheOneThatSaysSomething() => Assert.Equal("cannot allocate memory", Death.LastLine("(XEN) booting\ncannot allocate memory\n\n(XEN) \n"));
}
