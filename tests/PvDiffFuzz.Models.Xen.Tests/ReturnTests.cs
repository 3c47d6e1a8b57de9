using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Tests;

/// <summary>HYPERVISOR_iret of a 64-bit guest: as the entry of a case, as an answer, and as a call of guest code.</summary>
public sealed class ReturnTests
{
    /// <summary>IF becomes the inverse of the mask; underneath it is set.</summary>
    [Theory]
    [InlineData(0x202, 0)]
    [InlineData(2, 1)]
    public void TheInterruptFlagIsTheMask(ulong rflags, ulong mask)
    {
        Outcome outcome = Payload.User("9C 58 CC", (Register.Rflags, rflags)).Run();

        Assert.Equal((0x202UL, mask, rflags), (outcome.Registers!.Gpr[0], outcome.System[SystemRegister.XenUpcallMask], outcome.Events[0].Field("rflags")));
    }

    /// <summary>IOPL and VM are dropped; with the architectural IOPL the former becomes the virtual one.</summary>
    [Theory]
    [InlineData(0, 0)]
    [InlineData(0x10, 3)]
    public void IoplIsVirtual(ulong assists, ulong iopl)
    {
        Outcome outcome = Payload.User("9C 58 CC", (Register.Rflags, 0x2_3202)).With((SystemRegister.XenVmAssist, assists)).Run();

        Assert.Equal((0x202UL, iopl), (outcome.Registers!.Gpr[0], outcome.System[SystemRegister.XenIopl]));
    }

    /// <summary>With the system call flag RCX is RIP and R11 RFLAGS, and the selectors are flat; without, both come from the frame.</summary>
    [Theory]
    [InlineData(0, 0x11, 0xbb)]
    [InlineData(0x100, 0, 0x202)]
    public void ReturningFromASystemCallLosesRcx(ulong flags, ulong rcx, ulong r11)
    {
        TestCase start = Payload.User("CC", (Register.Rcx, 0x11), (Register.R11, 0xbb)).ByIret(flags);
        Event e = start.RunToEvent();

        Assert.Equal((flags == 0 ? rcx : start.Code.Address, r11), (e.Field("rcx"), e.Field("r11")));
    }

    /// <summary>With that flag a selector of the guest's own gives way to the flat one; without, it is loaded.</summary>
    [Theory]
    [InlineData(0, 0x13)]
    [InlineData(0x100, 0xe033)]
    public void OwnSelectorsNeedAnInterruptReturn(ulong flags, ulong cs)
    {
        TestCase start = Payload.User("CC").ByIret(flags, cs: 0x13);
        start = start with { Xen = start.Xen! with { Gdt = [new(0x10, 0x00af_fb00_0000_ffff)] } };

        Assert.Equal(cs, start.RunToEvent().Field("cs"));
    }

    /// <summary>A selector that cannot be loaded is the guest's fault at the place where it was to go on, with RF as it was.</summary>
    [Theory]
    [InlineData(0xe02b, 0xe02b, 13, 0xe028)]
    [InlineData(0x1003, 0xe02b, 13, 0x1000)]
    [InlineData(3, 0xe02b, 13, 0)]
    [InlineData(0xe00b, 0xe02b, 13, 0xe008)]
    [InlineData(0xe033, 0xe033, 13, 0xe030)]
    [InlineData(0xe033, 0, 13, 0)]
    [InlineData(0xe033, 0x1000, 13, 0x1000)]
    [InlineData(0x13, 0xe02b, 11, 0x10)]
    [InlineData(0xe033, 0x18, 12, 0x18)]
    public void BadSelectorsFaultAtTheTarget(ushort cs, ushort ss, byte vector, uint error)
    {
        TestCase start = Payload.User("CC", (Register.Ss, ss)).ByIret(cs: cs);
        start = start with { Xen = start.Xen! with { Gdt = [new(0x10, 0x00af_7b00_0000_ffff), new(0x18, 0x00cf_7300_0000_ffff)] } };
        Event e = start.RunToEvent();

        Assert.Equal((vector, error, start.Code.Address, 0x202UL), (e.Vector, e.Error(), e.Field("rip"), e.Field("rflags")));
        Assert.Equal(((ulong)cs, (ulong)(ss | 3), Payload.KernelStack - 64), (e.Field("cs"), e.Field("ss"), e.Registers.Gpr[4]));
    }

    /// <summary>A RIP that is not canonical is #GP(0) there.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(0x100)]
    public void ABadRipFaultsAtTheTarget(ulong flags)
    {
        Event e = Payload.User("CC", (Register.Rip, 0x8000_0000_0000)).ByIret(flags).RunToEvent();

        Assert.Equal((13, 0U, 0x8000_0000_0000UL), (e.Vector, e.Error(), e.Field("rip")));
    }

    [Fact]
    public void UserModeNeedsARoot()
    {
        TestCase start = Payload.Kernel("0F 05", (Register.Rax, 23), (Register.Rsp, Payload.Data));
        start = start with { Xen = start.Xen! with { UserLayout = PageLayout.Create([]) } };

        Assert.Equal("domain crash: HYPERVISOR_iret to user mode without page tables for it", start.WithWords(Payload.Data, 0, 0, 0, 0, 0, 0xe033, 0x202, 0, 0xe02b).RunToCrash());
    }

    /// <summary>RPL 1 and 2 stay in the kernel as 0 does: the stack is the current one, and CS shows RPL 0.</summary>
    [Theory]
    [InlineData(0xe030)]
    [InlineData(0xe031)]
    [InlineData(0xe032)]
    public void OtherRplsStayInTheKernel(ushort cs)
    {
        Event e = Payload.Kernel("CC").ByIret(cs: cs).RunToEvent();

        Assert.Equal((0xe030UL, Payload.Stack - 56), (e.Field("cs"), e.Registers.Gpr[4]));
    }

    /// <summary>Guest code calls it with nine words on the stack: RAX, R11, RCX, flags, RIP, CS, RFLAGS, RSP, SS.</summary>
    [Fact]
    public void GuestCodeReturnsByItsStack()
    {
        const ulong user = AddressMap.LowBlock + AddressMap.Code;
        TestCase start = Payload.Kernel(Payload.Hypercall(23), (Register.Rsp, Payload.Data)).With(user, 0xcc)
            .WithWords(Payload.Data, 0xaa, 0xbb, 0xcc, 0, user, 0xe033, 0x202, 0x1234, 0xe02b);
        Event e = start.RunToEvent();

        Assert.Equal((0xaaUL, 0xbbUL, 0xccUL, 0x1234UL, user + 1), (e.Registers.Gpr[0], e.Field("r11"), e.Field("rcx"), e.Field("rsp"), e.Field("rip")));
        Assert.Equal("domain crash: the frame of HYPERVISOR_iret cannot be read", (start with { Registers = start.Registers.With(Register.Rsp, 0x7000_0000) }).RunToCrash());
    }

    /// <summary>A single step: by IRET after the next instruction, by SYSRET before it.</summary>
    [Theory]
    [InlineData(0, 1)]
    [InlineData(0x100, 0)]
    public void ASingleStepTrapsAtOnceAfterSysret(ulong flags, ulong offset)
    {
        TestCase start = Payload.User("90 90", (Register.Rflags, 0x302)).ByIret(flags);

        Assert.Equal((1, start.Code.Address + offset), (start.RunToEvent().Vector, start.RunToEvent().Field("rip")));
    }

    /// <summary>What nobody knows of RFLAGS is dropped by newer releases; an upcall before the first instruction shows it.</summary>
    [Theory]
    [InlineData("4.20.4", 0x8000_0208)]
    [InlineData("4.21.0", 0x8000_0208)]
    [InlineData("4.21.1", 0x202)]
    [InlineData("4.22.0", 0x202)]
    public void FlagsAreClamped(string version, ulong shown) =>
        Assert.Equal(shown, Payload.User("90", (Register.Rflags, 0x8000_0208)).With((SystemRegister.XenUpcallPending, 1)).Of(version).RunToEvent().Field("rflags"));

    /// <summary>An answer returns by the frame of its event, and everything else is kept.</summary>
    [Fact]
    public void AnswersReturnByTheFrame()
    {
        TestCase start = Payload.User("CC 48 FF C0", (Register.Rcx, 0x11), (Register.R11, 0xbb), (Register.Rax, 5), (Register.Rbx, 7)).Answer(Payload.Back((Register.Rbx, 9)));
        Outcome outcome = start.RunToEnd();

        Assert.Equal((2, 6UL, 9UL), (outcome.Events.Length, outcome.Registers!.Gpr[0], outcome.Registers.Gpr[3]));
        Assert.Equal((0x11UL, 0xbbUL, Payload.UserStack), (outcome.Events[1].Field("rcx"), outcome.Events[1].Field("r11"), outcome.Events[1].Field("rsp")));
    }

    /// <summary>Patches of RIP, RFLAGS, RSP, RCX and RAX are made in the frame that returns.</summary>
    [Fact]
    public void PatchesGoIntoTheReturn()
    {
        TestCase start = Payload.User("CC 90 CC").Answer(Payload.Back((Register.Rax, 1), (Register.Rcx, 2), (Register.Rsp, 3), (Register.Rip, Payload.User("CC").Code.Address), (Register.Rflags, 3)));
        Event e = start.Run().Events[1];

        Assert.Equal((1UL, 2UL, 3UL, 3UL, 1UL), (e.Registers.Gpr[0], e.Field("rcx"), e.Field("rsp"), e.Field("rflags"), e.Field("mask")));
    }
}
