using System.Numerics;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Features of runs: an edge with a class of how often it was taken, a sequence of up to four events, a rule, a rule confirmed by a target. Each is a number; this is a set of them.</summary>
public sealed class SeenFeatures
{
    /// <summary>Counters in a map of edges.</summary>
    public const int MapSize = 1 << 16;

    private const int Classes = 8;
    private const int FirstPath = MapSize * Classes;
    private const int PathBits = 18;
    private const int FirstRule = FirstPath + (1 << PathBits);

    /// <summary>Classes of AFL by how often an edge was taken: once, twice, three times, from 4, 8, 16, 32 and 128 times.</summary>
    private static readonly byte[] ClassOf = [.. Enumerable.Range(0, 256).Select(times => (byte)(times < 4 ? Math.Max(0, times - 1) : times < 128 ? Math.Min(6, BitOperations.Log2((uint)times) + 1) : 7))];

    private readonly int _rules;
    private readonly byte[] _bits;
    private readonly ulong[] _taken = new ulong[MapSize / 64];
    private readonly ushort[] _where = new ushort[MapSize / 64];

    /// <summary>Makes an empty set.</summary>
    /// <param name="rules">Number of rules.</param>
    /// <param name="targets">Number of targets that may confirm them.</param>
    public SeenFeatures(int rules, int targets) => (_rules, _bits) = (rules, new byte[((FirstRule + (rules * (1 + targets))) / 8) + 1]);

    /// <summary>Edges taken at all.</summary>
    public int EdgeCount => MapSize - _bits.AsSpan(0, MapSize).Count((byte)0);

    /// <summary>Rules executed.</summary>
    public int RuleCount => Enumerable.Range(FirstRule, _rules).Count(Contains);

    /// <summary>True for a feature in the set.</summary>
    public bool Contains(int feature) => (_bits[feature >> 3] & (1 << (feature & 7))) != 0;

    /// <summary>Adds a feature.</summary>
    /// <returns>True when it was not there.</returns>
    public bool Add(int feature)
    {
        ref byte bits = ref _bits[feature >> 3];
        byte bit = (byte)(1 << (feature & 7));
        bool isNew = (bits & bit) == 0;
        bits |= bit;
        return isNew;
    }

    /// <summary>Makes this set equal to another one of the same size.</summary>
    public void CopyFrom(SeenFeatures other) => other._bits.CopyTo(_bits, 0);

    /// <summary>The feature of a rule that was executed.</summary>
    public static int OfRule(int rule) => FirstRule + rule;

    /// <summary>The feature of a rule that a target confirmed.</summary>
    public int OfConfirmation(int rule, int target) => FirstRule + (_rules * (1 + target)) + rule;

    /// <summary>How much a feature is worth as a reason to go on from its case: few are rules, and many are edges.</summary>
    public int ValueOf(int feature) => feature < FirstRule ? 1 : feature < FirstRule + _rules ? 32 : 4;

    /// <summary>Lists edges of a map that are not in the set, and clears the map.</summary>
    /// <remarks>The map is much and little of it is taken, at places that nothing predicts. So the blocks with something in them are listed first, without a branch.</remarks>
    /// <param name="map">Counters of one run; all 0 afterwards.</param>
    /// <param name="found">Receives their features.</param>
    public void TakeNewEdges(Span<byte> map, List<int> found)
    {
        Span<Vector512<byte>> blocks = MemoryMarshal.Cast<byte, Vector512<byte>>(map);
        int count = 0;
        for (int block = 0; block < blocks.Length; block++)
        {
            ulong own = ~Vector512.Equals(blocks[block], Vector512<byte>.Zero).ExtractMostSignificantBits();
            (_taken[count], _where[count]) = (own, (ushort)block);
            count += (int)((own | (0 - own)) >> 63);
        }

        for (int i = 0; i < count; i++)
        {
            int first = _where[i] * Vector512<byte>.Count;
            for (ulong own = _taken[i]; own != 0; own &= own - 1)
            {
                int edge = first + BitOperations.TrailingZeroCount(own);
                int often = ClassOf[map[edge]];
                if ((_bits[edge] & (1 << often)) == 0)
                {
                    found.Add((edge * Classes) + often);
                }
            }

            blocks[_where[i]] = Vector512<byte>.Zero;
        }
    }

    /// <summary>Lists sequences of events that are not in the set: each event with up to three before it.</summary>
    public void NewPaths(Outcome outcome, List<int> found)
    {
        // Four events of 16 bits each; a number is never 0, so that a sequence at the beginning is another one than later on.
        ulong path = 0;
        int first = found.Count;
        foreach (Event e in outcome.Events)
        {
            path = (path << 16) | (ushort)(1 + Raiser.WhatOf(e));
            int feature = FirstPath + (int)((path * 0x9e37_79b9_7f4a_7c15) >> (64 - PathBits));
            if (!Contains(feature) && !CollectionsMarshal.AsSpan(found)[first..].Contains(feature))
            {
                found.Add(feature);
            }
        }
    }
}
