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

    /// <summary>The target's own instructions; see <see cref="AgentCode"/>.</summary>
    public const int Agent = EntryPages + (MaximumEntryPages * PageLayout.PageSize);

    /// <summary>The agent's frames for returns.</summary>
    public const int AgentData = Agent + PageLayout.PageSize;

    /// <summary>The pages of the case.</summary>
    public const int Pool = 0x50_0000;

    /// <summary>The mailbox and the stack of the agent, one page; see <see cref="Mailbox"/>.</summary>
    public const int MailboxPage = Pool + (TestCase.MaximumPages * PageLayout.PageSize);

    /// <summary>The code of the agent, <see cref="GuestAgent"/>.</summary>
    public const int AgentProgram = MailboxPage + PageLayout.PageSize;

    /// <summary>Room for the code.</summary>
    public const int AgentProgramSize = 2 * PageLayout.PageSize;

    /// <summary>Where entries lead, at the end of that room: <see cref="LandingSize"/> bytes for each <see cref="AgentPort"/>, in their order.</summary>
    public const int Landings = AgentProgram + AgentProgramSize - (8 * LandingSize);

    /// <summary>Room for a landing.</summary>
    public const int LandingSize = 32;

    /// <summary>Encoded cases.</summary>
    public const int Request = AgentProgram + AgentProgramSize;

    /// <summary>Room for encoded cases: more than the largest single one.</summary>
    public const int RequestSize = 0x10_0000;

    /// <summary>Results.</summary>
    public const int Results = Request + RequestSize;

    /// <summary>Room for results: more than the largest single one of a case that is batched.</summary>
    public const int ResultsSize = 0x20_0000;

    /// <summary>All memory.</summary>
    public const int Size = Results + ResultsSize;

    /// <summary>Linear address of the agent's code. Supervisor mode alone sees it.</summary>
    public const ulong AgentAddress = AddressMap.AgentFirst + 0x20_0000;

    /// <summary>Linear address of the agent's frames.</summary>
    public const ulong AgentDataAddress = AgentAddress + PageLayout.PageSize;

    /// <summary>Linear address of <see cref="MailboxPage"/> and what follows it. Supervisor mode alone sees it.</summary>
    public const ulong BatchAddress = AddressMap.AgentFirst + 0x40_0000;

    /// <summary>Linear address of the agent's own view of the pool. Supervisor mode alone sees it.</summary>
    public const ulong PoolAddress = AddressMap.AgentFirst + 0x100_0000;

    /// <summary>Linear address of a place from <see cref="MailboxPage"/> on.</summary>
    public static ulong BatchLinear(int offset) => BatchAddress + (ulong)(offset - MailboxPage);

    /// <summary>Where the per-VCPU structure lies for cases that have none: nobody reads it there.</summary>
    public const int DefaultVcpuStruct = (int)PvmMap.VcpuStruct;
}
