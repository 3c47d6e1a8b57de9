using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Harness;

/// <summary>An instruction of a case that raised an event.</summary>
/// <param name="What">Which event, as <see cref="WhatOf"/> numbers them.</param>
/// <param name="Piece">Index of the instruction in the code.</param>
public readonly record struct Raiser(ushort What, ushort Piece)
{
    private const int Kinds = 8;
    private const int FirstInterrupt = 32;

    /// <summary>A number for what an event is: its kind, its vector and its door. Interrupts from 32 up are one, since nothing but their number tells them apart.</summary>
    public static ushort WhatOf(Event e)
    {
        ArgumentNullException.ThrowIfNull(e);
        return (ushort)((int)e.Kind + (Kinds * (Math.Min((int)e.Vector, FirstInterrupt) + ((FirstInterrupt + 1) * (int)e.Entry))));
    }

    /// <summary>Finds the instructions of a case that raised its events: for each kind of event the first.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="outcome">What the model answered. Events of instructions that are not in the code are left out.</param>
    public static ImmutableArray<Raiser> Of(TestCase testCase, Outcome outcome)
    {
        ArgumentNullException.ThrowIfNull(testCase);
        ArgumentNullException.ThrowIfNull(outcome);
        ImmutableArray<Raiser>.Builder raisers = ImmutableArray.CreateBuilder<Raiser>();
        foreach (Event e in outcome.Events)
        {
            ushort what = WhatOf(e);
            if (e.Kind is EventKind.Fault or EventKind.Trap or EventKind.SystemCall && !raisers.Any(known => known.What == what)
                && PieceAt(testCase.Code, Interrupted.Value(testCase.Abi, e, Register.Rip), e.Kind == EventKind.Fault) is >= 0 and int piece)
            {
                raisers.Add(new Raiser(what, (ushort)piece));
            }
        }

        return raisers.DrainToImmutable();
    }

    /// <summary>Index of the instruction that begins at an address, or ends there; -1 for none.</summary>
    private static int PieceAt(CodeBlock code, ulong address, bool begins)
    {
        ulong at = code.Address;
        for (int i = 0; i < code.Lengths.Length; i++)
        {
            ulong end = at + code.Lengths[i];
            if ((begins ? at : end) == address)
            {
                return i;
            }

            at = end;
        }

        return -1;
    }
}

/// <summary>Instructions of a corpus that raise events, by event, so that a rare one is as easy to come by as a frequent one.</summary>
internal sealed class RaiserPool
{
    private const int Sides = 4;

    private readonly List<List<(TestCase Case, int Piece)>>[] _bySide = [.. Enumerable.Range(0, Sides).Select(_ => new List<List<(TestCase Case, int Piece)>>())];
    private readonly Dictionary<(int Side, ushort What), List<(TestCase Case, int Piece)>> _lists = [];

    /// <summary>Forgets all.</summary>
    public void Clear()
    {
        Array.ForEach(_bySide, lists => lists.Clear());
        _lists.Clear();
    }

    /// <summary>Adds the instructions of a case.</summary>
    public void Add(CorpusEntry entry)
    {
        int side = SideOf(entry.Case);
        foreach (Raiser raiser in entry.Raised)
        {
            if (!_lists.TryGetValue((side, raiser.What), out List<(TestCase Case, int Piece)>? list))
            {
                _lists.Add((side, raiser.What), list = []);
                _bySide[side].Add(list);
            }

            list.Add((entry.Case, raiser.Piece));
        }
    }

    /// <summary>Draws an event and an instruction that raised it in code of the same kind; null when there is none.</summary>
    /// <param name="testCase">The case for which it is meant.</param>
    /// <param name="random">Where choices come from.</param>
    public (TestCase Case, int Piece)? Draw(TestCase testCase, ref CounterRandom random)
    {
        List<List<(TestCase Case, int Piece)>> lists = _bySide[SideOf(testCase)];
        if (lists.Count == 0)
        {
            return null;
        }

        List<(TestCase Case, int Piece)> list = lists[random.Below(lists.Count)];
        return list[random.Below(list.Count)];
    }

    private static int SideOf(TestCase testCase) => (testCase.Mode == CpuMode.Long64 ? 0 : 1) + (testCase.Start == GuestMode.User ? 0 : 2);
}
