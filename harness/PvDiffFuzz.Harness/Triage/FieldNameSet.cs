using System.Collections;
using System.Collections.Concurrent;
using System.Collections.Immutable;
using System.Runtime.CompilerServices;

namespace PvDiffFuzz.Harness;

/// <summary>The fields that a known entry lists, by name.</summary>
[CollectionBuilder(typeof(FieldNameSet), nameof(Of))]
public sealed class FieldNameSet : IReadOnlyCollection<string>
{
    // There are some thousand fields, events apart, and hundreds of entries ask for each, so names are numbers here.
    private static readonly ConcurrentDictionary<Field, ImmutableArray<int>> Known = new();
    private static readonly ConcurrentDictionary<string, int> Numbers = new(StringComparer.Ordinal);
    private static int _last = -1;

    private readonly ImmutableArray<string> _listed;
    private readonly ulong[] _bits;

    private FieldNameSet(ImmutableArray<string> listed)
    {
        _listed = listed;
        int[] numbers = [.. listed.Select(NumberOf)];
        _bits = new ulong[(numbers.DefaultIfEmpty(-1).Max() >> 6) + 1];
        foreach (int number in numbers)
        {
            _bits[number >> 6] |= 1UL << number;
        }
    }

    /// <inheritdoc/>
    public int Count => _listed.Length;

    /// <summary>Takes names as <see cref="KnownFields.Names"/> has them.</summary>
    public static FieldNameSet Of(ReadOnlySpan<string> names) => new([.. names]);

    /// <summary>True when the field of a difference is listed, by its own name or by that of a group.</summary>
    public bool Covers(FieldDifference difference)
    {
        foreach (int number in difference.Names)
        {
            if (number >> 6 < _bits.Length && ((_bits[number >> 6] >> number) & 1) != 0)
            {
                return true;
            }
        }

        return false;
    }

    /// <inheritdoc/>
    public IEnumerator<string> GetEnumerator() => ((IEnumerable<string>)_listed).GetEnumerator();

    /// <inheritdoc/>
    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    /// <summary>The numbers of a field's own name and of its groups', whichever event it is of.</summary>
    internal static ImmutableArray<int> NumbersOf(Field field) =>
        Known.GetOrAdd(field with { Event = Math.Min(field.Event, 0) }, static any => [NumberOf(any.Unindexed), .. any.Groups.Select(NumberOf)]);

    private static int NumberOf(string name) => Numbers.GetOrAdd(name, static _ => Interlocked.Increment(ref _last));
}
