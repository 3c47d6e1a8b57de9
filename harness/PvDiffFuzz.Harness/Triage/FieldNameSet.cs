using System.Collections;
using System.Collections.Concurrent;
using System.Collections.Frozen;
using System.Collections.Immutable;
using System.Runtime.CompilerServices;

namespace PvDiffFuzz.Harness;

/// <summary>The fields that a known entry lists, by name.</summary>
[CollectionBuilder(typeof(FieldNameSet), nameof(Of))]
public sealed class FieldNameSet : IReadOnlyCollection<string>
{
    // There are some thousand fields, events apart, and each is asked for by every entry of its ABI.
    private static readonly ConcurrentDictionary<Field, ImmutableArray<string>> Known = new();

    private readonly ImmutableArray<string> _listed;
    private readonly FrozenSet<string> _names;

    private FieldNameSet(ImmutableArray<string> listed) => (_listed, _names) = (listed, listed.ToFrozenSet(StringComparer.Ordinal));

    /// <inheritdoc/>
    public int Count => _listed.Length;

    /// <summary>Takes names as <see cref="KnownFields.Names"/> has them.</summary>
    public static FieldNameSet Of(ReadOnlySpan<string> names) => new([.. names]);

    /// <summary>True when a field is listed, by its own name or by that of a group.</summary>
    public bool Covers(Field field)
    {
        foreach (string name in NamesOf(field))
        {
            if (_names.Contains(name))
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

    private static ImmutableArray<string> NamesOf(Field field) =>
        Known.GetOrAdd(field with { Event = Math.Min(field.Event, 0) }, static any => [any.Unindexed, .. any.Groups]);
}
