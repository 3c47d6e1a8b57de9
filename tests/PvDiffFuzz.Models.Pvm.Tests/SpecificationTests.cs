namespace PvDiffFuzz.Models.Pvm.Tests;

/// <summary>The rules cover the document: each of its sections is cited, or is here with the reason why it states nothing.</summary>
public sealed class SpecificationTests
{
    /// <summary>The sections of the specification, in its order.</summary>
    private static readonly string[] Sections =
    [
        "Underlying states",
        "PVM modes and states",
        "States or registers on PVM modes",
        "MSR_PVM_VCPU_CTRL_STRUCT",
        "PVCS::event_flags",
        "PVCS::event_vector, PVCS::event_errcode",
        "PVCS::cr2",
        "PVCS::user_cs, PVCS::user_ss, PVCS::user_gsbase, PVCS::pkru, PVCS::rsp, PVCS::eflags, PVCS::rip, PVCS::rcx, PVCS::r11",
        "X86 MSR",
        "MSR_GS_BASE/MSR_KERNEL_GS_BASE",
        "MSR_SYSCALL_MASK",
        "MSR_STAR",
        "MSR_CSTAR, MSR_IA32_SYSENTER_CS/EIP/ESP",
        "MSR_IA32_PKRS",
        "MSR_PVM_SWITCH_CR3",
        "MSR_PVM_EVENT_ENTRY",
        "MSR_PVM_SUPERVISOR_RSP",
        "MSR_PVM_SUPERVISOR_REDZONE",
        "MSR_PVM_LINEAR_ADDRESS_RANGE",
        "MSR_PVM_RETU_RIP, MSR_PVM_RETS_RIP",
        "PVM_SYNTHETIC_CPUID: invlpg 0xffffffffff4d5650;cpuid",
        "EVENT_RETURN_SUPERVISOR: SYSCALL instruction starting at MSR_PVM_RETS_RIP",
        "EVENT_RETURN_USER: SYSCALL instruction starting at MSR_PVM_RETU_RIP",
        "CPUID",
        "SGDT/SIDT/SLDT/STR/SMSW",
        "LAR/LSL/VERR/VERW",
        "STAC/CLAC, SWAPGS, SYSEXIT, SYSRET",
        "SYSENTER",
        "INT n",
        "RDPKRU/WRPKRU",
        "CPUID leaf",
        "KVM and PVM specific CPUID leafs",
        "Paging",
        "TLB",
        "Exclusive address ranges",
        "Protection Keys",
        "SMAP",
        "No DoubleFault",
        "Discarded #DB",
        "Vector events in user mode",
        "Vector events in supervisor mode",
        "User SYSCALL event",
        "Synthetic Instruction: EVENT_RETURN_USER",
        "Synthetic Instruction: EVENT_RETURN_SUPERVISOR",
        "Hypercall event in supervisor mode",
        "HYPERCALL be issued in supervisor software",
        "PVM_HC_LOAD_PGTBL",
        "PVM_HC_IRQ_WIN",
        "PVM_HC_IRQ_HLT",
        "PVM_HC_TLB_FLUSH",
        "PVM_HC_TLB_FLUSH_CURRENT",
        "PVM_HC_TLB_INVLPG",
        "PVM_HC_LOAD_GS",
        "PVM_HC_RDMSR",
        "PVM_HC_WRMSR",
        "PVM_HC_LOAD_TLS",
    ];

    /// <summary>Sections that hold other sections and no statement of their own, or none that a hypervisor has to follow.</summary>
    private static readonly (string Section, string Reason)[] WithoutRules =
    [
        ("TSC MSRs", "the section says that it is not settled"),
        ("PVM MSRs", "holds sections"),
        ("PVM Synthetic Instructions", "holds sections"),
        ("X86 Instructions with changed behavior", "holds sections"),
        ("PVM booting sequence", "tells software how to find PVM; what it relies on is stated elsewhere"),
        ("Events and Mode Changing", "holds sections"),
        ("Special Events", "holds sections"),
    ];

    [Fact]
    public void EverySectionHasARule() => Assert.Equal([], Sections.Except(Cited("PVM rfc1"), StringComparer.Ordinal));

    [Fact]
    public void EveryCitationIsASection() => Assert.Equal([], Cited("PVM rfc1").Except(Sections, StringComparer.Ordinal).Except(WithoutRules.Select(s => s.Section), StringComparer.Ordinal));

    [Fact]
    public void SectionsWithoutRulesHaveAReason()
    {
        Assert.All(WithoutRules, row => Assert.False(string.IsNullOrWhiteSpace(row.Reason)));
        Assert.Empty(WithoutRules.Select(s => s.Section).Intersect(Cited("PVM rfc1"), StringComparer.Ordinal));
    }

    /// <summary>Rules beside the specification cite the page of 612, readings, or the manual of the processor.</summary>
    [Fact]
    public void RulesCiteKnownDocuments()
    {
        Assert.Equal(["PVM 612", "PVM rfc1", "SDM", "pvm-readings"], PvmRules.All.Select(rule => rule.Document).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal));
        Assert.InRange(PvmRules.All.Length, 150, 400);
    }

    private static IEnumerable<string> Cited(string document) => PvmRules.All.Where(rule => rule.Document == document).Select(rule => rule.Section).Distinct(StringComparer.Ordinal);
}
