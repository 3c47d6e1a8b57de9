using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>Which layouts a guest can have.</summary>
internal static class LayoutRules
{
    /// <summary>Tells why a guest cannot have a layout.</summary>
    /// <param name="layout">Any layout.</param>
    /// <param name="upperHalf">True when the guest's CPL3 can have pages in the upper half of the address space.</param>
    /// <returns>Null when it can.</returns>
    public static string? Trouble(PageLayout layout, bool upperHalf)
    {
        int pages = 0;
        foreach (PageRange range in layout.Ranges)
        {
            if (range.Access == PageAccess.None)
            {
                continue;
            }

            pages += range.Pages;
            if (range.Address <= AddressMap.AgentLast && range.Last >= AddressMap.AgentFirst)
            {
                return $"page {range.Address:x}: this range belongs to the target's agent";
            }

            if (!upperHalf && (long)range.Address < 0)
            {
                return $"page {range.Address:x}: this host's own kernel has the upper half of the address space";
            }
        }

        return pages > TestCase.MaximumPages ? $"{pages} pages; at most {TestCase.MaximumPages}"
            : PageTables.Needed(layout) > PageTables.Available ? $"the pages lie so far apart that they need more than {PageTables.Available} page tables"
            : null;
    }
}
