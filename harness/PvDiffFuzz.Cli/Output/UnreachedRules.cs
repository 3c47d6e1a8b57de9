using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Output;

/// <summary>A rule of a paravirtual ABI that no generated case executes, and why.</summary>
/// <param name="Abi">An ABI whose model has it.</param>
/// <param name="Implementation">The member that implements it. All statements that it carries are meant.</param>
/// <param name="Reason">Why, in one sentence.</param>
internal sealed record UnreachedRule(Abi Abi, string Implementation, string Reason);

/// <summary>Rules that are executed by recordings and tests only. What <c>pvdf coverage</c> shows as not executed is a gap of the generator unless it is listed here.</summary>
internal static class UnreachedRules
{
    /// <summary>All rows, by ABI and implementation.</summary>
    public static ImmutableArray<UnreachedRule> Rows { get; } =
    [
        new(Abi.PvmRfc1, "ChangedInstructions.AccessRights", "RDPKRU and WRPKRU could take the agent's own pages away where the processor has them (pkru-instructions)."),
        new(Abi.PvmRfc1, "ChangedInstructions.ShowIdentity", "CPUID shows the host's processor, which no other target has to agree with (bare-cpuid)."),
        new(Abi.PvmRfc1, "ChangedInstructions.ShowTables", "SGDT, SIDT, SLDT, STR and SMSW without UMIP show the host's tables, which no other target has to agree with (host-tables)."),
        new(Abi.PvmRfc1, "CpuidLeaves.Disable", "What leaves of the processor answer is what the monitor loaded; the text fixes the hypervisor's two leaves only (cpuid-leaves)."),
        new(Abi.XenPv64, "ControlRegisters.NameFrame", "CR3 holds a machine address, which no case states (machine-root)."),
        new(Abi.XenPv64, "Emulation.TrySetExtendedControl", "XCR0 is the host's; a guest kernel that writes it changes what later cases find."),
        new(Abi.XenPv64, "Exceptions.ClearTaskSwitched", "The processor's model has no x87 and no vector registers, so that nothing meets CR0.TS."),
        new(Abi.XenPv64, "Fred.TellsSysenter", "SYSENTER enters Xen on Intel's processors only; campaigns reach it where the host is one."),
        new(Abi.XenPv64, "HypercallPage.Create", "What a hypercall page holds is data; no case executes it, and tests hold it byte by byte."),
        new(Abi.XenPv64, "HypercallPage.ReturnStub", "What a hypercall page holds is data; no case executes it, and tests hold it byte by byte."),
        new(Abi.XenPv64, "HypercallPage.Stub", "What a hypercall page holds is data; no case executes it, and tests hold it byte by byte."),
        new(Abi.XenPv64, "InitialState.Of", "How a virtual CPU starts is no part of a case, which has a start of its own; tests hold it."),
        new(Abi.XenPv64, "InitialState.Of32", "How a virtual CPU starts is no part of a case, which has a start of its own; tests hold it."),
        new(Abi.XenPv64, "InitialState.Of64", "How a virtual CPU starts is no part of a case, which has a start of its own; tests hold it."),
        new(Abi.XenPv64, "SystemCalls32.Sysenter", "SYSENTER enters Xen on Intel's processors only; campaigns reach it where the host is one."),
        new(Abi.XenPv64, "SystemCalls64.Sysenter", "SYSENTER enters Xen on Intel's processors only; campaigns reach it where the host is one."),
    ];

    /// <summary>The row of a rule, or null when nothing keeps the generator from it.</summary>
    public static UnreachedRule? Find(RuleName rule) => Rows.FirstOrDefault(row => row.Implementation == rule.Implementation);
}
