using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Keeps what was found out about the layouts of cases.</summary>
internal sealed class LayoutCache
{
    private const int MaximumLayouts = 256;

    private readonly Dictionary<(PageLayout Kernel, PageLayout? User, PortPlan Ports), Entry> _entries = [];
    private (PageLayout Kernel, PageLayout? User, PortPlan Ports, Entry Entry)? _last;

    /// <summary>The layout of a case.</summary>
    public Entry EntryOf(TestCase testCase)
    {
        PageLayout kernel = testCase.Layout;
        PageLayout? user = testCase.Xen?.UserLayout;
        PortPlan ports = testCase.Xen is null ? PortPlan.None : PortPlan.Of(testCase.Xen);
        if (_last is { } last && ReferenceEquals(last.Kernel, kernel) && ReferenceEquals(last.User, user) && last.Ports.Equals(ports))
        {
            return last.Entry;
        }

        if (!_entries.TryGetValue((kernel, user, ports), out Entry? entry))
        {
            if (_entries.Count >= MaximumLayouts)
            {
                _entries.Clear();
            }

            entry = Make(kernel, user, ports);
            _entries.Add((kernel, user, ports), entry);
        }

        _last = (kernel, user, ports, entry);
        return entry;
    }

    private Entry Make(PageLayout kernel, PageLayout? user, PortPlan ports)
    {
        UserRoot root = user is null ? UserRoot.Shared : user.Ranges.IsEmpty ? UserRoot.None : UserRoot.Own;
        if (root != UserRoot.Own)
        {
            // Tables that have a user root of their own serve these as well.
            Entry? other = _entries.FirstOrDefault(e => e.Key.Kernel.Equals(kernel) && e.Key.Ports.Equals(ports) && e.Value is { Root: UserRoot.Own, Map: not null }).Value;
            if (other is not null)
            {
                return other with { Root = root };
            }
        }
        else
        {
            foreach ((PageLayout, PageLayout?, PortPlan) key in _entries.Where(e => e.Key.Kernel.Equals(kernel) && e.Key.Ports.Equals(ports) && e.Value.Root != UserRoot.Own).Select(e => e.Key).ToArray())
            {
                _entries.Remove(key);
            }
        }

        PageLayout second = root == UserRoot.Own ? user! : kernel;
        string? trouble = LayoutMap.Trouble(kernel, second, ports);
        return new Entry(trouble, trouble is null ? LayoutMap.Create(kernel, second) : null, root, ports);
    }

    /// <summary>A layout.</summary>
    /// <param name="Trouble">Why a guest cannot have it; null when it can.</param>
    /// <param name="Map">Where its pages lie; null when a guest cannot have it.</param>
    /// <param name="Root">What becomes of the user root.</param>
    /// <param name="Ports">Entries at other places than the usual one.</param>
    public sealed record Entry(string? Trouble, LayoutMap? Map, UserRoot Root, PortPlan Ports)
    {
        /// <summary>No layout.</summary>
        public static Entry None { get; } = new("there is no case", null, UserRoot.None, PortPlan.None);
    }
}
