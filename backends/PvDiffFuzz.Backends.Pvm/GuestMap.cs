using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Where things lie in the guest's physical memory, which is the start of the memory that harness and guest share, and where the agent is seen.</summary>
internal static class GuestMap
{
    /// <summary>Below here the case has a say: its roots and the per-VCPU structure lie where it states them.</summary>
    public const int CasesEnd = 0x10_0000;

    /// <summary>Page tables below the roots.</summary>
    public const int Tables = CasesEnd;

    /// <summary>End of the room for page tables.</summary>
    public const int TablesEnd = 0x40_0000;

    /// <summary>Pages in which deliveries land, at most <see cref="MaximumEntryPages"/>.</summary>
    public const int EntryPages = TablesEnd;

    /// <summary>Three entries by three offsets and LSTAR can lie in as many pages.</summary>
    public const int MaximumEntryPages = 4;

    /// <summary>The agent's code.</summary>
    public const int Agent = EntryPages + (MaximumEntryPages * PageLayout.PageSize);

    /// <summary>The agent's frames for returns.</summary>
    public const int AgentData = Agent + PageLayout.PageSize;

    /// <summary>The pages of the case.</summary>
    public const int Pool = 0x50_0000;

    /// <summary>All memory.</summary>
    public const int Size = Pool + (TestCase.MaximumPages * PageLayout.PageSize);

    /// <summary>Linear address of the agent's code. Supervisor mode alone sees it.</summary>
    public const ulong AgentAddress = AddressMap.AgentFirst + 0x20_0000;

    /// <summary>Linear address of the agent's frames.</summary>
    public const ulong AgentDataAddress = AgentAddress + PageLayout.PageSize;

    /// <summary>Where the per-VCPU structure lies for cases that have none: nobody reads it there.</summary>
    public const int DefaultVcpuStruct = (int)PvmMap.VcpuStruct;
}
