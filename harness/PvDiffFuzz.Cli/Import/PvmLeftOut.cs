using System.Collections.Frozen;

namespace PvDiffFuzz.Cli.Import;

/// <summary>Records that lack part of their initial state, and so are no cases.</summary>
/// <remarks>Found by reading all of them: where the same input under another name ended otherwise, or where the outcome holds what the input does not explain.</remarks>
internal static class PvmLeftOut
{
    private const string Injected = "an interrupt or NMI from outside that only the name tells of";
    private const string FrameMissing = "the frame that EVENT_RETURN_SUPERVISOR takes from the stack is not in the record";
    private const string PortRead = "the answer of an I/O port, which came from the monitor";
    private const string NameOnly = "a set-up that only the name tells of: ";

    private static readonly FrozenDictionary<string, string> Reasons = new Dictionary<string, string>(StringComparer.Ordinal)
    {
        ["s_int_inj_if0"] = Injected,
        ["s_int_inj_if1"] = Injected,
        ["s_int_inj_vec30_if1"] = Injected,
        ["s_irqwin_flow"] = Injected,
        ["s_irqwin_hlt"] = Injected,
        ["s_irqwin_sti"] = Injected,
        ["s_nmi_then_nmi"] = Injected,
        ["u_int_inj"] = Injected,
        ["u_nmi_inj"] = Injected,
        ["s_erets_badcs"] = FrameMissing,
        ["s_erets_flags_all"] = FrameMissing,
        ["s_erets_iopl_vm_nt"] = FrameMissing,
        ["s_erets_ip_set"] = FrameMissing,
        ["s_erets_plain"] = FrameMissing,
        ["s_erets_rf_ac_id"] = FrameMissing,
        ["s_erets_rsp_noncanon"] = FrameMissing,
        ["s_erets_unaligned"] = FrameMissing,
        ["s_in"] = PortRead,
        ["s_insb"] = PortRead,
        ["s_eretu_rexprefix"] = NameOnly + "the prefix before RETU_RIP",
        ["s_range_r"] = NameOnly + "RBX, and a mapping in the upper half",
        ["s_redzone_odd_int3"] = NameOnly + "MSR_PVM_SUPERVISOR_REDZONE",
        ["u_int3_retu_srsp"] = NameOnly + "MSR_PVM_SUPERVISOR_RSP",
        ["u_syscall_at_retu"] = NameOnly + "MSR_PVM_RETU_RIP",
        ["u_syscall_noDS"] = NameOnly + "how the direct switch was kept off",
        ["s_lidt"] = "memory that the record does not show",
        ["s_rsvd_r"] = "a page-table entry with reserved bits, which a case cannot state",
    }.ToFrozenDictionary(StringComparer.Ordinal);

    /// <summary>Why a record is left out, or null when it is a case.</summary>
    public static string? ReasonFor(PvmObservation record) => Reasons.GetValueOrDefault(record.Id);
}
