using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>The pages of a case under both roots, and where in the pool of shared memory each lies: those that the guest can write first, each kind in address order.</summary>
internal sealed class CasePages
{
    private readonly ulong[] _addresses;
    private readonly ulong[] _sorted;
    private readonly int[] _indices;

    private readonly HashSet<ulong> _executable;

    private CasePages(ulong[] addresses, int writable, HashSet<ulong> executable)
    {
        _addresses = addresses;
        _executable = executable;
        Writable = writable;
        _sorted = [.. addresses];
        _indices = [.. Enumerable.Range(0, addresses.Length)];
        Array.Sort(_sorted, _indices);
    }

    /// <summary>Number of pages.</summary>
    public int Count => _addresses.Length;

    /// <summary>Number of pages, at the start of the pool, that one of the two roots lets the guest write.</summary>
    public int Writable { get; }

    /// <summary>Finds places.</summary>
    /// <param name="supervisor">Pages of the supervisor root.</param>
    /// <param name="user">Pages of the user root.</param>
    public static CasePages Create(PageLayout supervisor, PageLayout user)
    {
        SortedDictionary<ulong, bool> pages = [];
        HashSet<ulong> executable = [];
        foreach (PageRange range in supervisor.Ranges.AddRange(user.Ranges))
        {
            for (int i = 0; i < range.Pages && range.Access != PageAccess.None; i++)
            {
                ulong address = range.Address + ((ulong)i * PageLayout.PageSize);
                if ((range.Access & PageAccess.Execute) != 0)
                {
                    executable.Add(address);
                }

                pages[address] = pages.GetValueOrDefault(address) || (range.Access & PageAccess.Write) != 0;
            }
        }

        ulong[] addresses = [.. pages.Where(p => p.Value).Select(p => p.Key), .. pages.Where(p => !p.Value).Select(p => p.Key)];
        return new CasePages(addresses, pages.Count(p => p.Value), executable);
    }

    /// <summary>Linear address of a page.</summary>
    /// <param name="index">Its number in the pool.</param>
    public ulong AddressOf(int index) => _addresses[index];

    /// <summary>True when one of the two roots lets the guest execute the page that holds an address.</summary>
    public bool IsExecutable(ulong address) => _executable.Contains(address & ~0xfffUL);

    /// <summary>Number in the pool of the page that holds an address, or -1.</summary>
    public int IndexOf(ulong address)
    {
        int at = Array.BinarySearch(_sorted, address & ~0xfffUL);
        return at >= 0 ? _indices[at] : -1;
    }
}
