using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>What a machine is built for: everything of a case that its page tables and the agent's places depend on. Cases with equal plans share a machine.</summary>
/// <param name="Revision">The revision.</param>
/// <param name="Supervisor">Pages of the supervisor root.</param>
/// <param name="User">Pages of the user root; null when there is one root for both modes.</param>
/// <param name="SupervisorRoot">Guest-physical address of the supervisor's top table.</param>
/// <param name="UserRoot">Guest-physical address of the user's top table; 0 when there is one root.</param>
/// <param name="VcpuStruct">Guest-physical address of the per-VCPU structure.</param>
/// <param name="VcpuStructAddress">Linear address at which the supervisor sees it.</param>
/// <param name="EventEntry">MSR_PVM_EVENT_ENTRY at the start; null when the case states none, so that no delivery lands there.</param>
/// <param name="Lstar">MSR_LSTAR at the start; null likewise.</param>
internal sealed record GuestPlan(
    Abi Revision, PageLayout Supervisor, PageLayout? User, int SupervisorRoot, int UserRoot, int VcpuStruct, ulong VcpuStructAddress, ulong? EventEntry, ulong? Lstar)
{
    private const ulong PageMask = 0x000f_ffff_ffff_f000;

    /// <summary>Pages of the user root, whichever it is.</summary>
    public PageLayout UserPages => User ?? Supervisor;

    /// <summary>The places where deliveries land.</summary>
    public IEnumerable<(AgentPort Port, ulong Address)> Pads()
    {
        if (EventEntry is ulong entry)
        {
            yield return (AgentPort.UserEntry, entry);
            if (Revision == Abi.PvmRfc1)
            {
                yield return (AgentPort.SupervisorEntry, entry + 256);
            }

            yield return (AgentPort.HighEntry, entry + 512);
        }

        if (Lstar is ulong lstar)
        {
            yield return (AgentPort.Lstar, lstar);
        }
    }

    /// <summary>The pages in which these places lie, and where each is in the guest's physical memory.</summary>
    public IEnumerable<(ulong Page, int Physical)> EntryPages() =>
        Pads().SelectMany(pad => (ulong[])[pad.Address & ~0xfffUL, (pad.Address + AgentCode.JumpLength - 1) & ~0xfffUL]).Distinct()
            .Select((page, i) => (page, GuestMap.EntryPages + (i * PageLayout.PageSize)));

    /// <summary>The plan for a case.</summary>
    /// <param name="testCase">A well-formed PVM case.</param>
    /// <param name="trouble">Why no machine can be built, or null.</param>
    /// <param name="known">Plans that were found to be good; looking at one takes longer than running a case.</param>
    public static GuestPlan? Of(TestCase testCase, out string? trouble, params ReadOnlySpan<GuestPlan> known)
    {
        SystemState system = testCase.System;
        ulong first = system[SystemRegister.Cr3] & PageMask;
        ulong second = testCase.Abi == Abi.PvmRfc1 ? system[SystemRegister.PvmSwitchCr3] & PageMask : 0;
        ulong structure = system[SystemRegister.PvmVcpuStruct];
        bool one = second == first || testCase.Abi != Abi.PvmRfc1;
        PageLayout? user = testCase.Pvm!.UserLayout;
        if (one && user is not null && !user.Equals(testCase.Layout))
        {
            trouble = "the case has two layouts and one root";
            return null;
        }

        GuestPlan plan = new(
            testCase.Abi,
            testCase.Layout,
            one ? null : user ?? testCase.Layout,
            (int)Math.Min(first, int.MaxValue),
            one ? 0 : (int)Math.Min(second, int.MaxValue),
            structure == 0 ? GuestMap.DefaultVcpuStruct : (int)Math.Min(structure, int.MaxValue),
            testCase.Pvm.PvcsAddress,
            system.TryGet(SystemRegister.PvmEventEntry, out ulong entry) ? entry : null,
            system.TryGet(SystemRegister.Lstar, out ulong lstar) ? lstar : null);
        foreach (GuestPlan good in known)
        {
            if (good.Equals(plan))
            {
                trouble = null;
                return good;
            }
        }

        trouble = plan.Trouble();
        return trouble is null ? plan : null;
    }

    private string? Trouble()
    {
        if (SupervisorRoot is 0 or >= GuestMap.CasesEnd || UserRoot >= GuestMap.CasesEnd || (User is not null && UserRoot == 0))
        {
            return $"page-table roots {SupervisorRoot:x} and {UserRoot:x}: they lie from 1000 to {GuestMap.CasesEnd - PageLayout.PageSize:x} here";
        }

        if (VcpuStruct >= GuestMap.CasesEnd || VcpuStruct == SupervisorRoot || VcpuStruct == UserRoot)
        {
            return $"the per-VCPU structure at {VcpuStruct:x}: it lies below {GuestMap.CasesEnd:x} here, and apart from the roots";
        }

        HashSet<ulong> bytes = [];
        HashSet<ulong> entryPages = [];
        foreach ((_, ulong address) in Pads())
        {
            for (ulong at = address; at < address + AgentCode.JumpLength; at++)
            {
                if (!bytes.Add(at))
                {
                    return "two entries lie in one place";
                }

                entryPages.Add(at & ~0xfffUL);
                if (Supervisor.AccessAt(at) != PageAccess.None || (at & ~0xfffUL) == VcpuStructAddress)
                {
                    return $"an entry at {address:x} lies in a page of the case, where the agent cannot be";
                }
            }
        }

        return entryPages.Count > GuestMap.MaximumEntryPages || entryPages.Contains(GuestMap.AgentAddress) || entryPages.Contains(GuestMap.AgentDataAddress)
            ? "the entries lie in places that the agent cannot have"
            : PageTables.Needed(Supervisor, UserPages) > PageTables.Available ? $"the pages lie so far apart that they need more than {PageTables.Available} page tables"
            : null;
    }
}
