using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Agents.Tests;

/// <summary>Encoder and decoder, with an agent of a few lines between them.</summary>
public sealed class RecordTests
{
    private const ulong Data = AddressMap.HighBlock + AddressMap.Data;
    private const ulong End = AddressMap.HighBlock + AddressMap.CodeEnd;

    /// <summary>What a case finds in memory is not part of its outcome, unless it changes it.</summary>
    [Fact]
    public void MemoryThatStaysIsNotReported()
    {
        Outcome outcome = new Machine().Run(CaseOf(new MemoryContents(Data, [1, 2, 3])), []);

        Assert.Equal(EndKind.ReachedEnd, outcome.End);
        Assert.Empty(outcome.Memory);
        Assert.Equal(End, outcome.Registers!.Rip);
    }

    /// <summary>A word that becomes zero is one that changed, and so is one beside the contents.</summary>
    [Fact]
    public void WordsThatChangeAreReportedInAddressOrder()
    {
        TestCase testCase = CaseOf(new MemoryContents(Data + 8, [1, 0, 0, 0, 0, 0, 0, 0, 2]));
        Outcome outcome = new Machine().Run(testCase, new Dictionary<ulong, ulong> { [Data + 24] = 7, [Data + 8] = 0, [Data + 16] = 2 });

        Assert.Equal((MemoryWord[])[new MemoryWord(Data + 8, 0), new MemoryWord(Data + 24, 7)], outcome.Memory);
    }

    /// <summary>Contents that meet within a quadword are one run; each keeps its bytes.</summary>
    [Fact]
    public void PiecesOfOneQuadwordDoNotEraseEachOther()
    {
        TestCase testCase = CaseOf(new MemoryContents(Data + 2, [0x11]), new MemoryContents(Data + 5, [0x22]));
        Outcome same = new Machine().Run(testCase, new Dictionary<ulong, ulong> { [Data] = 0x2200_0011_0000 });
        Outcome changed = new Machine().Run(testCase, new Dictionary<ulong, ulong> { [Data] = 0x2200_0000_0000 });

        Assert.Empty(same.Memory);
        Assert.Equal(new MemoryWord(Data, 0x2200_0000_0000), Assert.Single(changed.Memory));
    }

    /// <summary>For any contents and any stores, the outcome has exactly the aligned quadwords that differ from what the case gave.</summary>
    [Fact]
    public void TheOutcomeIsWhatDiffersFromTheContents()
    {
        Random random = new(1);
        Machine machine = new();
        int words = 0;
        for (int i = 0; i < 300; i++)
        {
            SortedDictionary<ulong, ulong> memory = [];
            List<MemoryContents> contents = [];
            for (ulong at = Data + (ulong)random.Next(24); at < Data + 0x1800; at += (ulong)random.Next(1, 0x600))
            {
                byte[] bytes = new byte[random.Next(1, 40)];
                random.NextBytes(bytes);
                contents.Add(new MemoryContents(at, [.. bytes]));
                for (int b = 0; b < bytes.Length; b++, at++)
                {
                    memory[at & ~7UL] = memory.GetValueOrDefault(at & ~7UL) | ((ulong)bytes[b] << (int)(8 * (at & 7)));
                }
            }

            SortedDictionary<ulong, ulong> stores = [];
            foreach (ulong at in memory.Keys.Concat(memory.Keys.Select(k => k + 8)).Where(_ => random.Next(4) == 0))
            {
                stores[at] = (ulong)random.Next(3);
            }

            MemoryWord[] expected = [.. stores.Where(s => memory.GetValueOrDefault(s.Key) != s.Value).Select(s => new MemoryWord(s.Key, s.Value))];
            words += expected.Length;
            Assert.Equal(expected, machine.Run(CaseOf([.. contents]), stores).Memory);
        }

        Assert.True(words > 1000, $"only {words} words changed");
    }

    /// <summary>Every register comes back from a context, and a patch changes that register alone.</summary>
    [Fact]
    public unsafe void AContextHoldsEveryRegister()
    {
        byte* context = stackalloc byte[Machine.Layout.Size];
        RegisterState state = new() { Gpr = default, Rip = 0, Rflags = 0, Cs = 0, Ss = 0 };
        for (Register register = Register.Rax; register <= Register.GsBase; register++)
        {
            state = state.With(register, 0x1234_5600 + (ulong)register);
        }

        // SAFETY: the context is as large as its layout says, and all places lie in it.
        Machine.Layout.Write(state, context);
        Assert.Equal(state, Machine.Layout.Read(context));
        for (Register register = Register.Rax; register <= Register.GsBase; register++)
        {
            (int place, int width) = Machine.Layout.PlaceOf(register);
            Assert.Equal(state[register], width == 2 ? *(ushort*)(context + place) : *(ulong*)(context + place));
            *(ushort*)(context + place) ^= 0xffff;
            Assert.Equal(state.With(register, state[register] ^ 0xffff), Machine.Layout.Read(context));
            *(ushort*)(context + place) ^= 0xffff;
        }
    }

    /// <summary>Pages that a payload can write come first in the pool, so that an agent looks at no others when a case has ended.</summary>
    [Fact]
    public void WritablePagesComeFirst()
    {
        LayoutMap map = LayoutMap.Create(PageLayout.Create(
        [
            new PageRange(0x10000, 2, PageAccess.Read),
            new PageRange(0x20000, 1, PageAccess.Read | PageAccess.Write),
            new PageRange(0x30000, 1, PageAccess.Read | PageAccess.Write | PageAccess.Supervisor),
            new PageRange(0x40000, 1, PageAccess.None),
        ]));

        Assert.Equal(1, map.WritablePages);
        Assert.Equal([0x1000u, 0u, 0x3000u], map.Ranges.ToArray().Select(r => r.PoolOffset));
        Assert.Equal(0x20018UL, map.AddressOf(0x18));
        Assert.Equal(0x11ff8UL, map.AddressOf(0x2ff8));
        Assert.Null(map.Find(0x40000));
        Assert.Null(map.Find(0x21000));
    }

    private static TestCase CaseOf(params ImmutableArray<MemoryContents> contents)
    {
        TestCase testCase = new()
        {
            Code = new CodeBlock(End - 1, [0x90], [1]),
            Registers = new RegisterState { Gpr = default, Rip = End - 1, Rflags = RflagsBits.Fixed1 | RflagsBits.IF },
            Layout = AddressMap.Standard,
            Contents = contents,
        };
        Assert.Null(testCase.Check());
        return testCase;
    }
}
