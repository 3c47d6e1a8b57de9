using System.Collections.Immutable;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Native.Tests.Payload;

namespace PvDiffFuzz.Backends.Native.Tests;

/// <summary>What an outcome says about memory.</summary>
public sealed class MemoryTests : NativeTests
{
    /// <summary>PUSH RAX changes one quadword.</summary>
    [NativeFact]
    public void AChangedQuadwordIsReported()
    {
        Outcome outcome = Run(Case("50", (Register.Rax, 0x1122_3344_5566_7788)));

        AssertMemory(outcome, new MemoryWord(Stack - 8, 0x1122_3344_5566_7788));
    }

    /// <summary>A store over two quadwords changes both; a store of what was there changes nothing; a store of zero is a change too.</summary>
    [NativeFact]
    public void OnlyDifferencesFromTheInitialContentsAreReported()
    {
        ImmutableArray<MemoryContents> contents =
        [
            new MemoryContents(Data + 0x10, [1, 2, 3, 4, 5, 6, 7, 8, 9]),
            new MemoryContents(Data + 0x19, [0xaa]),
            new MemoryContents(Data + 0x100, [0xff]),
        ];

        // MOV DWORD [RDI+6],0x11111111: the last two bytes of one quadword and the first two of the next.
        Outcome split = Run(Case("c7 47 06 11 11 11 11", (Register.Rdi, Data + 0x10)) with { Contents = contents });
        AssertMemory(split, new MemoryWord(Data + 0x10, 0x1111_0605_0403_0201), new MemoryWord(Data + 0x18, 0x1111));

        // MOV BYTE [RDI],0xff stores what is there.
        Assert.Empty(Run(Case("c6 07 ff", (Register.Rdi, Data + 0x100)) with { Contents = contents }).Memory);

        // MOV BYTE [RDI],0 clears the only byte that was not zero.
        AssertMemory(Run(Case("c6 07 00", (Register.Rdi, Data + 0x100)) with { Contents = contents }), new MemoryWord(Data + 0x100, 0));
    }

    /// <summary>Contents reach every kind of page, and the payload can read them: REP MOVSB from a read-only page next to a writable one.</summary>
    [NativeFact]
    public void ContentsMayCrossFromOneKindOfPageToAnother()
    {
        ulong edge = AddressMap.HighBlock + AddressMap.WritableThenReadOnly + 0x1000;
        ImmutableArray<byte> bytes = [.. Enumerable.Range(1, 11).Select(i => (byte)i)];
        TestCase testCase = Case("f3 a4", (Register.Rsi, edge - 3), (Register.Rdi, Data + 5), (Register.Rcx, 11)) with
        {
            Contents = [new MemoryContents(edge - 3, bytes)],
        };

        Outcome outcome = Run(testCase);
        AssertMemory(outcome, new MemoryWord(Data, 0x0302_0100_0000_0000), new MemoryWord(Data + 8, 0x0b0a_0908_0706_0504));
        Assert.Equal(outcome, Run(testCase));
    }

    /// <summary>All slots of the map hold what is written to them, in address order.</summary>
    [NativeFact]
    public void EveryWritableSlotIsReported()
    {
        ulong[] places = [.. AddressMap.Standard.Ranges.Where(r => (r.Access & PageAccess.Write) != 0).Select(r => r.Last - 7)];
        foreach (ulong place in places)
        {
            Outcome outcome = Run(Case("48 89 07", (Register.Rdi, place), (Register.Rax, place)));
            AssertMemory(outcome, new MemoryWord(place, place));
        }

        Assert.True(places.Length >= 12);
    }

    /// <summary>A case finds nothing of the one before: neither memory, nor code, nor vector registers.</summary>
    [NativeFact]
    public void NothingIsLeftForTheNextCase()
    {
        TestCase dirty = Case("f3 aa 66 0f 6e c0", (Register.Rax, 0x55), (Register.Rdi, AddressMap.LowBlock + AddressMap.WritableCode), (Register.Rcx, 0x2000));
        Assert.Equal(0x2000 / 8, Run(dirty).Memory.Length);

        // REPE SCASB with AL = 0 stops early if a byte is not zero.
        foreach (ulong page in (ReadOnlySpan<ulong>)[AddressMap.LowBlock + AddressMap.WritableCode, AddressMap.HighBlock + AddressMap.Code, Data])
        {
            TestCase scan = At(LowEnd, "f3 ae", (Register.Rdi, page), (Register.Rcx, 0x2000));
            Assert.Equal(0UL, Run(scan).Registers!.Gpr[1]);
        }

        // MOVQ RAX,XMM0
        Assert.Equal(0UL, Run(Case("66 48 0f 7e c0", (Register.Rax, 1))).Registers!.Gpr[0]);
    }

    /// <summary>Code that was written by the payload is executed: MOV WORD [RDI],0x0b0f; JMP RDI.</summary>
    [NativeFact]
    public void WrittenCodeIsExecuted()
    {
        const ulong place = AddressMap.HighBlock + AddressMap.WritableCode;
        Event e = Only(Case("66 c7 07 0f 0b ff e7", (Register.Rdi, place)), "written code");

        Assert.Equal((6, place), (e.Vector, e.Registers.Rip));
    }

    /// <summary>Results larger than the result area are fetched in several rounds.</summary>
    [NativeFact]
    public void LargeResultsDoNotLimitABatch()
    {
        const int pages = 1000;
        PageLayout layout = PageLayout.Create(
        [
            new PageRange(AddressMap.HighBlock + AddressMap.Code, 2, PageAccess.Read | PageAccess.Execute),
            new PageRange(0x1000_0000_0000, pages, PageAccess.Read | PageAccess.Write),
        ]);
        TestCase[] cases = [.. Enumerable.Range(1, 9).Select(i =>
            Case("f3 48 ab", (Register.Rax, (ulong)i), (Register.Rdi, 0x1000_0000_0000), (Register.Rcx, pages * 512)) with { Layout = layout })];
        Outcome[] outcomes = new Outcome[cases.Length];

        Target.Run(cases, outcomes);

        for (int i = 0; i < cases.Length; i++)
        {
            Assert.Equal(pages * 512, outcomes[i].Memory.Length);
            Assert.Equal(new MemoryWord(0x1000_0000_0000 + (pages * 4096) - 8, (ulong)i + 1), outcomes[i].Memory[^1]);
        }
    }

    /// <summary>Layouts alternate in one batch; what was mapped for one case is gone for the next.</summary>
    [NativeFact]
    public void LayoutsMayChangeFromCaseToCase()
    {
        PageLayout other = PageLayout.Create(
        [
            new PageRange(AddressMap.HighBlock + AddressMap.Code, 2, PageAccess.Read | PageAccess.Execute),
            new PageRange(0x20_0000, 1, PageAccess.Read | PageAccess.Write),
            new PageRange(0x20_1000, 1, PageAccess.None),
        ]);
        TestCase standard = Case("48 89 07", (Register.Rdi, 0x20_0000), (Register.Rax, 5));
        TestCase moved = standard with { Layout = other };
        TestCase dataGone = Case("48 89 07", (Register.Rdi, Data)) with { Layout = other };
        TestCase explicitHole = Case("48 89 07", (Register.Rdi, 0x20_1000)) with { Layout = other };
        TestCase[] cases = [standard, moved, dataGone, explicitHole, standard, moved];
        Outcome[] outcomes = new Outcome[cases.Length];

        Target.Run(cases, outcomes);

        Assert.Equal((0x20_0000UL, 6u), (outcomes[0].Events[0].Cr2!.Value, outcomes[0].Events[0].ErrorCode!.Value));
        AssertMemory(outcomes[1], new MemoryWord(0x20_0000, 5));
        Assert.Equal((Data, 6u), (outcomes[2].Events[0].Cr2!.Value, outcomes[2].Events[0].ErrorCode!.Value));
        Assert.Equal((0x20_1000UL, 6u), (outcomes[3].Events[0].Cr2!.Value, outcomes[3].Events[0].ErrorCode!.Value));
        Assert.Equal(outcomes[0], outcomes[4]);
        Assert.Equal(outcomes[1], outcomes[5]);
    }

    /// <summary>Pages that a process cannot have make a case unsupported, not wrong.</summary>
    [NativeTheory]
    [InlineData(0UL, PageAccess.Read)]
    [InlineData(0x7fff_ffff_f000UL, PageAccess.Read)]
    [InlineData(0xffff_8000_0000_0000UL, PageAccess.Read)]
    [InlineData(AddressMap.AgentFirst, PageAccess.Read)]
    [InlineData(0x20_0000UL, PageAccess.Read | PageAccess.Supervisor)]
    public void PagesThatAProcessCannotHaveAreUnsupported(ulong address, PageAccess access)
    {
        PageLayout layout = PageLayout.Create([.. AddressMap.Standard.Ranges, new PageRange(address, 1, access)]);

        Outcome outcome = Target.Run(Case("90") with { Layout = layout });

        Assert.Equal(EndKind.Unsupported, outcome.End);
        Assert.Contains($"page {address:x}", outcome.Detail, StringComparison.Ordinal);
        Assert.Equal(EndKind.ReachedEnd, Run(Case("90")).End);
    }
}
