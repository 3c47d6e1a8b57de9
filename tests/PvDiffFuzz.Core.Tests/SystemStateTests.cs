using System.Collections.Immutable;
using FsCheck;
using FsCheck.Fluent;

namespace PvDiffFuzz.Core.Tests;

public sealed class SystemStateTests
{
    private static readonly Gen<ImmutableArray<KeyValuePair<SystemRegister, ulong>>> Values =
        from registers in Gen.SubListOf(Enum.GetValues<SystemRegister>())
        from values in CaseGen.Word.ArrayOf(registers.Count)
        from shuffled in Gen.Shuffle(registers.ToArray())
        select ImmutableArray.CreateRange(shuffled.Select((r, i) => KeyValuePair.Create(r, values[i])));

    [Fact]
    public void WhatIsNotStatedReadsAs0AndIsNotThere()
    {
        SystemState state = SystemState.Of(new(SystemRegister.PvcsPkru, 4), new(SystemRegister.Cr3, 0));

        Assert.Equal<KeyValuePair<SystemRegister, ulong>>([new(SystemRegister.Cr3, 0), new(SystemRegister.PvcsPkru, 4)], [.. state.Values]);
        Assert.Equal(4UL, state[SystemRegister.PvcsPkru]);
        Assert.Equal(0UL, state[SystemRegister.Dr6]);
        Assert.True(state.TryGet(SystemRegister.Cr3, out ulong zero));
        Assert.Equal(0UL, zero);
        Assert.False(state.TryGet(SystemRegister.Dr6, out _));
    }

    [Fact]
    public void ARegisterStatedTwiceIsRefused() =>
        Assert.Contains("Cr3 is stated twice", Assert.Throws<ArgumentException>(() => SystemState.Of(new(SystemRegister.Cr3, 1), new(SystemRegister.Cr3, 1))).Message, StringComparison.Ordinal);

    /// <summary>A stated 0 is not the same as nothing: at the end of a case only the first is compared.</summary>
    [Fact]
    public void AStated0IsNotNothing() => Assert.NotEqual(SystemState.Empty, SystemState.Empty.With(SystemRegister.Cr3, 0));

    /// <summary>In whatever order values are stated and changed, the state is the same as a sorted dictionary.</summary>
    [Fact]
    public void AStateIsADictionaryInRegisterOrder() => Prop.ForAll(Values.Two().Select(v => (v.Item1, v.Item2)).ToArbitrary(), pair =>
    {
        SortedDictionary<SystemRegister, ulong> expected = [];
        SystemState state = SystemState.Of(pair.Item1);
        foreach ((SystemRegister register, ulong value) in pair.Item1)
        {
            expected[register] = value;
        }

        foreach ((SystemRegister register, ulong value) in pair.Item2)
        {
            bool remove = value % 3 == 0;
            state = remove ? state.Without(register) : state.With(register, value);
            _ = remove ? expected.Remove(register) : (expected[register] = value) == value;
        }

        Assert.Equal(expected, state.Values);
        Assert.Equal(state, SystemState.Of(expected.Reverse()));
        Assert.Equal(state.GetHashCode(), SystemState.Of(expected.Reverse()).GetHashCode());
        Assert.All(Enum.GetValues<SystemRegister>(), r => Assert.Equal(expected.GetValueOrDefault(r), state[r]));
    }).Check(Config.QuickThrowOnFailure.WithMaxTest(300));
}
