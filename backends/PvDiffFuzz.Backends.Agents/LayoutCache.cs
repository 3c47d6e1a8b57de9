using System.Runtime.InteropServices;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Agents;

/// <summary>What is known of the layouts that a target has met. Equal layouts have the same map, so that a target can keep it in use.</summary>
/// <param name="trouble">Tells why the target cannot have a layout; null when it can.</param>
internal sealed class LayoutCache(Func<PageLayout, string?> trouble)
{
    private const int MaximumLayouts = 256;

    private readonly Dictionary<PageLayout, Entry> _entries = [];
    private Entry? _last;

    /// <summary>What is known of a layout.</summary>
    public Entry EntryOf(PageLayout layout)
    {
        if (_last is not null && ReferenceEquals(_last.Layout, layout))
        {
            return _last;
        }

        if (_entries.Count >= MaximumLayouts)
        {
            _entries.Clear();
        }

        ref Entry? entry = ref CollectionsMarshal.GetValueRefOrAddDefault(_entries, layout, out bool known);
        if (!known)
        {
            string? reason = trouble(layout);
            entry = new Entry(layout, reason, reason is null ? LayoutMap.Create(layout) : null);
        }

        _last = ReferenceEquals(entry!.Layout, layout) ? entry : entry with { Layout = layout };
        return _last;
    }

    /// <summary>A layout.</summary>
    /// <param name="Layout">The layout itself, as it was asked for.</param>
    /// <param name="Trouble">Why the target cannot have it; null when it can.</param>
    /// <param name="Map">Where its pages lie; null when the target cannot have it.</param>
    public sealed record Entry(PageLayout Layout, string? Trouble, LayoutMap? Map);
}
