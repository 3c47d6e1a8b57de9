using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Keeps what was found out about the layouts of cases.</summary>
internal sealed class LayoutCache
{
    private const int MaximumLayouts = 256;

    private readonly Dictionary<(PageLayout Kernel, PageLayout? User), Entry> _entries = [];
    private (PageLayout Kernel, PageLayout? User, Entry Entry)? _last;

    /// <summary>The layout of a case.</summary>
    public Entry EntryOf(TestCase testCase)
    {
        PageLayout kernel = testCase.Layout;
        PageLayout? user = testCase.Xen?.UserLayout;
        if (_last is { } last && ReferenceEquals(last.Kernel, kernel) && ReferenceEquals(last.User, user))
        {
            return last.Entry;
        }

        if (!_entries.TryGetValue((kernel, user), out Entry? entry))
        {
            if (_entries.Count >= MaximumLayouts)
            {
                _entries.Clear();
            }

            entry = Make(kernel, user);
            _entries.Add((kernel, user), entry);
        }

        _last = (kernel, user, entry);
        return entry;
    }

    private static Entry Make(PageLayout kernel, PageLayout? user)
    {
        UserRoot root = user is null ? UserRoot.Shared : user.Ranges.IsEmpty ? UserRoot.None : UserRoot.Own;
        string? trouble = LayoutMap.Trouble(kernel, user ?? kernel);
        return new Entry(trouble, trouble is null ? LayoutMap.Create(kernel, user ?? kernel) : null, root);
    }

    /// <summary>A layout.</summary>
    /// <param name="Trouble">Why a guest cannot have it; null when it can.</param>
    /// <param name="Map">Where its pages lie; null when a guest cannot have it.</param>
    /// <param name="Root">What becomes of the user root.</param>
    public sealed record Entry(string? Trouble, LayoutMap? Map, UserRoot Root)
    {
        /// <summary>No layout.</summary>
        public static Entry None { get; } = new("there is no case", null, UserRoot.None);
    }
}
