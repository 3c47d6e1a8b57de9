using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>Where a number of the ABI is looked for in a case.</summary>
public sealed class CaseNumbersTests
{
    private static readonly TestCase Plain = Cases.Of(GuestMode.Supervisor, 0x90);

    [Fact]
    public void ACaseWithoutTheNumberHasItNowhere() => Assert.False(CaseNumbers.Mentions(Plain, CaseNumbers.VcpuStructMsr));

    /// <summary>An immediate, bytes of memory, the lower half of a register, a patch, and an argument or the number of a hypercall.</summary>
    [Fact]
    public void EveryPlaceIsLookedAt()
    {
        Response back = new([]) { Return = ReturnKind.Eretu };
        TestCase[] cases =
        [
            Cases.Of(GuestMode.Supervisor, 0xb9, 0xf1, 0x4d, 0x56, 0x4b),
            Plain with { Contents = [new MemoryContents(AddressMap.LowBlock + AddressMap.Data + 3, [0, 0xf1, 0x4d, 0x56, 0x4b])] },
            Plain with { Registers = Plain.Registers.With(Register.R9, 0x1_4b56_4df1) },
            Plain with { Responses = [back with { Patches = [new(Register.Rcx, 0x4b56_4df1)] }] },
            Plain with { Responses = [back, back with { Hypercalls = [new Hypercall(0x1708_8208, [0x4b56_4df1, 0])] }] },
            Plain with { Responses = [back with { Hypercalls = [new Hypercall(0x4b56_4df1, [])] }] },
        ];

        Assert.All(cases, c => Assert.True(CaseNumbers.Mentions(c, CaseNumbers.VcpuStructMsr)));
    }

    /// <summary>The agent asks where the structure is only when supervisor code or hypercalls could have moved it.</summary>
    [Fact]
    public void UserCodeCannotMoveTheStructure()
    {
        Assert.True(ContextReader.AsksStructure(Cases.Of(GuestMode.Supervisor, 0xb9, 0xf1, 0x4d, 0x56, 0x4b, 0x0f, 0x30)));
        Assert.False(ContextReader.AsksStructure(Cases.Of(GuestMode.User, 0xb9, 0xf1, 0x4d, 0x56, 0x4b, 0x0f, 0x30)));
    }
}
