using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Native;

/// <summary>Which layouts a process of this host can have.</summary>
internal static class LayoutRules
{
    /// <summary>The first address that a process cannot map (TASK_SIZE_MAX with four levels of page tables).</summary>
    public const ulong UserEnd = 0x7fff_ffff_f000;

    /// <summary>Tells why a process of this host cannot have a layout.</summary>
    /// <param name="layout">Any layout.</param>
    /// <param name="lowest">The lowest address that the host lets a process map.</param>
    /// <returns>Null when it can.</returns>
    public static string? Trouble(PageLayout layout, ulong lowest)
    {
        int pages = 0;
        foreach (PageRange range in layout.Ranges)
        {
            if ((range.Access & PageAccess.Supervisor) != 0)
            {
                return $"page {range.Address:x}: a Linux process has no supervisor pages";
            }

            if (range.Access == PageAccess.None)
            {
                continue;
            }

            pages += range.Pages;
            if (range.Address < lowest)
            {
                return $"page {range.Address:x}: this host lets a process map pages from {lowest:x} (vm.mmap_min_addr)";
            }

            if (range.Last >= UserEnd)
            {
                return $"page {range.Address:x}: Linux lets a process map pages below {UserEnd:x}";
            }

            if (range.Address <= AddressMap.AgentLast && range.Last >= AddressMap.AgentFirst)
            {
                return $"page {range.Address:x}: this range belongs to the target's agent";
            }
        }

        return pages <= TestCase.MaximumPages ? null : $"{pages} pages; at most {TestCase.MaximumPages}";
    }
}
