using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm.Tests;

/// <summary>Two roots, supervisor pages and address ranges.</summary>
public sealed class PagingTests
{
    private const ulong UserOnly = AddressMap.LowBlock + PvmMap.UserOnly;
    private const ulong Both = AddressMap.LowBlock + PvmMap.SupervisorInBoth;
    private const ulong Narrowed = AddressMap.LowBlock + PvmMap.WritableForSupervisor;

    /// <summary>Supervisor code uses supervisor pages and user pages alike.</summary>
    [Theory]
    [InlineData(Payload.Data)]
    [InlineData(AddressMap.LowBlock + AddressMap.Data)]
    [InlineData(Both)]
    public void SupervisorCodeUsesEveryPageOfItsRoot(ulong address)
    {
        Outcome outcome = Payload.Supervisor("48 89 1B", (Register.Rbx, address)).RunToEnd();

        Assert.Equal(new MemoryWord(address, address), Assert.Single(outcome.Memory));
    }

    /// <summary>A page that one root alone has is there in its mode only. Error codes: 2 in supervisor mode, 6 in user mode.</summary>
    [Fact]
    public void PagesBelongToRoots()
    {
        Event supervisor = Payload.Supervisor("48 89 1B", (Register.Rbx, UserOnly)).Run().Only();
        Event user = Payload.User("48 89 1B", (Register.Rbx, Payload.Data)).Run().Only();

        Assert.Equal((14, (uint?)2, (ulong?)UserOnly), (supervisor.Vector, supervisor.ErrorCode, supervisor.Cr2));
        Assert.Equal((14, (uint?)6, (ulong?)Payload.Data), (user.Vector, user.ErrorCode, user.Cr2));
        Assert.Equal(new MemoryWord(UserOnly, UserOnly), Assert.Single(Payload.User("48 89 1B", (Register.Rbx, UserOnly)).RunToEnd().Memory));
    }

    /// <summary>A page of both roots is one page of memory, with the rights of each root: supervisor code stores, user code reads that and cannot store.</summary>
    [Fact]
    public void OnePageMayHaveDifferentRights()
    {
        // mov [rbx],rbx; jmp to the SYSCALL at RETU_RIP; user code: mov rax,[rbx]; mov [rbx],rax
        TestCase testCase = Payload.Supervisor("48 89 1B 48 B8 10 00 4D 00 00 00 00 00 FF E0", (Register.Rbx, Narrowed))
            .With(AddressMap.LowBlock + AddressMap.Code, 0x48, 0x8b, 0x03, 0x48, 0x89, 0x03)
            .With((SystemRegister.PvcsRip, AddressMap.LowBlock + AddressMap.Code), (SystemRegister.PvcsUserCs, 0x33), (SystemRegister.PvcsUserSs, 0x2b), (SystemRegister.PvcsEflags, 0x202));

        Outcome outcome = testCase.Run();

        Assert.Equal((14, (uint?)7, Narrowed), (outcome.Only().Vector, outcome.Only().ErrorCode, outcome.Only().Registers.Gpr[0]));
        Assert.Equal(new MemoryWord(Narrowed, Narrowed), Assert.Single(outcome.Memory));
    }

    /// <summary>A line that both modes store to is listed once, and put back for the next case.</summary>
    [Fact]
    public void StoresOfBothModesAreOneChange()
    {
        const ulong shared = AddressMap.LowBlock + AddressMap.Data;
        TestCase testCase = Payload.Supervisor("48 89 1B 48 B8 10 00 4D 00 00 00 00 00 FF E0", (Register.Rbx, shared))
            .With(AddressMap.LowBlock + AddressMap.Code, 0x48, 0x89, 0x23, 0x48, 0x89, 0x63, 0x08, 0xcc)
            .With(
                (SystemRegister.PvcsRip, AddressMap.LowBlock + AddressMap.Code), (SystemRegister.PvcsUserCs, 0x33), (SystemRegister.PvcsUserSs, 0x2b), (SystemRegister.PvcsEflags, 0x202),
                (SystemRegister.PvcsRsp, 0x99));
        using PvmModel model = new();

        Outcome first = model.Run(testCase);
        Outcome second = model.Run(testCase);
        RegisterState fresh = model.Run(Payload.Supervisor("48 8B 03", (Register.Rbx, shared))).Registers!;

        Assert.Equal([new MemoryWord(shared, 0x99), new MemoryWord(shared + 8, 0x99)], first.Memory.ToArray());
        Assert.Equal(first, second);
        Assert.Equal(0UL, fresh.Gpr[0]);
    }

    /// <summary>User code may or may not use a supervisor page of its root: #PF with error code 7, or a store.</summary>
    [Fact]
    public void UserCodeMayUseASupervisorPage()
    {
        Outcome outcome = Payload.User("48 89 1B", (Register.Rbx, Both)).Run();

        Assert.Equal((EndKind.Event, (uint?)7), (outcome.End, outcome.Only().ErrorCode));
        Outcome other = Assert.Single(outcome.Alternatives);
        Assert.Equal(EndKind.ReachedEnd, other.End);
        Assert.Equal(new MemoryWord(Both, Both), Assert.Single(other.Memory));
    }

    /// <summary>The structure's page belongs to supervisor code alone.</summary>
    [Fact]
    public void UserCodeDoesNotSeeTheStructure() => Assert.Equal((uint?)4, Payload.User("48 8B 03", (Register.Rbx, PvmMap.PvcsAddress)).Run().Only().ErrorCode);

    /// <summary>Where both modes have one root, the structure's page is a supervisor page of it: #PF with error code 5, or a load of what is there.</summary>
    [Fact]
    public void UnderOneRootTheStructureIsASupervisorPage()
    {
        TestCase testCase = Payload.User("48 8B 03", (Register.Rbx, PvmMap.PvcsAddress)).With((SystemRegister.PvmSwitchCr3, PvmMap.SupervisorRoot), (SystemRegister.PvcsEventFlags, 0x200));

        Outcome outcome = (testCase with { Pvm = new PvmState(PvmMap.PvcsAddress, null) }).Run();

        Assert.Equal((uint?)5, outcome.Only().ErrorCode);
        Assert.Equal((EndKind.ReachedEnd, 0x200UL), (Assert.Single(outcome.Alternatives).End, outcome.Alternatives[0].Events[0].Registers.Gpr[0]));
    }

    /// <summary>The lower half and the ranges of the MSR: PML4 slots 193 to 1b2 for the value of one host.</summary>
    [Theory]
    [InlineData(0x0UL, true)]
    [InlineData(0x7fff_ffff_ffffUL, true)]
    [InlineData(0xffff_c97f_ffff_ffffUL, false)]
    [InlineData(0xffff_c980_0000_0000UL, true)]
    [InlineData(0xffff_d97f_ffff_ffffUL, true)]
    [InlineData(0xffff_d980_0000_0000UL, false)]
    [InlineData(0xffff_ffff_8000_0000UL, false)]
    public void LegitimateAddresses(ulong address, bool legitimate) => Assert.Equal(legitimate, Paging.IsLegitimate(0xffff_ffff_ffb3_ff93, address));

    /// <summary>A page outside the ranges is as if it was not there; one inside is.</summary>
    [Fact]
    public void PagesOutsideTheRangesAreNotThere()
    {
        const ulong inside = 0xffff_c980_0000_0000;
        const ulong outside = 0xffff_8000_0000_0000;
        TestCase testCase = Payload.Supervisor("48 89 1B", (Register.Rbx, inside)) with
        {
            Layout = PageLayout.Create([.. PvmMap.SupervisorLayout.Ranges, new PageRange(inside, 1, PageAccess.Read | PageAccess.Write), new PageRange(outside, 1, PageAccess.Read | PageAccess.Write)]),
        };
        TestCase ranged = testCase.With((SystemRegister.PvmLinearAddressRange, 0xffff_ffff_ffb3_ff93));

        Assert.Equal(EndKind.ReachedEnd, ranged.Run().End);
        Event what = (ranged with { Registers = ranged.Registers.With(Register.Rbx, outside) }).Run().Only();
        Assert.Equal((14, (uint?)2), (what.Vector, what.ErrorCode));
    }

    /// <summary>Code that changes under one root is decoded anew: a store by supervisor code to a page that user code executes.</summary>
    [Fact]
    public void CodeStoredBySupervisorCodeRunsInUserMode()
    {
        const ulong code = AddressMap.LowBlock + AddressMap.WritableCode;
        TestCase testCase = Payload.Supervisor("C6 03 CC 48 B8 10 00 4D 00 00 00 00 00 FF E0", (Register.Rbx, code))
            .With((SystemRegister.PvcsRip, code), (SystemRegister.PvcsUserCs, 0x33), (SystemRegister.PvcsUserSs, 0x2b), (SystemRegister.PvcsEflags, 0x202));

        Assert.Equal(3, testCase.Run().Only().Vector);
    }
}
