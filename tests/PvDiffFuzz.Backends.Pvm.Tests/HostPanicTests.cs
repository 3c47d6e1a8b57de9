using PvDiffFuzz.Backends.Pvm.Emulated;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>What a host's console tells of its end.</summary>
public sealed class HostPanicTests
{
    /// <summary>The first cause and the first place count: what follows is the way down.</summary>
    [Fact]
    public void APanicIsToldWithItsCauseAndPlace() => Assert.Equal(
        "BUG: ENTRY_TRAMPOLINE stack guard page was hit at 0000000072, RIP: 0010:asm_exc_page_fault+0x8/0x50",
        HostPanic.Of("pvdf-server\n[    1.3] BUG: ENTRY_TRAMPOLINE stack guard page was hit at 0000000072\n[    1.4] Oops: stack guard page: 0000 [#1] SMP\n[    1.4] RIP: 0010:asm_exc_page_fault+0x8/0x50\n"
            + "[    1.5] RIP: 0010:other+0x1/0x2\n[    1.6] Kernel panic - not syncing: Fatal exception in interrupt\n"));

    [Fact]
    public void APanicWithoutCauseIsTold() =>
        Assert.Equal("Kernel panic - not syncing: Attempted to kill init!", HostPanic.Of("[    2.0] Kernel panic - not syncing: Attempted to kill init!\r\n"));

    /// <summary>A warning and a kernel that goes on are no end.</summary>
    [Theory]
    [InlineData("")]
    [InlineData("[    1.3] BUG: soft lockup\n[    1.4] RIP: 0010:here+0x1/0x2\n")]
    public void WithoutAPanicThereIsNoEnd(string console) => Assert.Null(HostPanic.Of(console));
}
