using System.Collections.Frozen;
using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Isa;

/// <summary>Something that cases of PVM never do on purpose because its result is not the guest ABI's to say, and why.</summary>
/// <param name="Id">Stable name for messages and documents.</param>
/// <param name="What">What is not generated.</param>
/// <param name="Reason">Why, in one sentence.</param>
public sealed record PvmExclusion(string Id, string What, string Reason);

/// <summary>What PVM cases leave out besides <see cref="Exclusions"/>, and the places where they leave out less.</summary>
public static class PvmExclusions
{
    /// <summary>Bytes of PVM's synthetic CPUID: INVLPG of a magic address, then CPUID.</summary>
    public static ReadOnlySpan<byte> SyntheticCpuid => [0x0f, 0x01, 0x3c, 0x25, 0x50, 0x56, 0x4d, 0xff, 0x0f, 0xa2];

    /// <summary>Bytes of the only SYSCALL of compatibility mode that is allowed: an INT 80h follows it at once.</summary>
    public static ReadOnlySpan<byte> CompatibilitySyscall => [0x0f, 0x05, 0xcd, 0x80];

    /// <summary>SGDT, SIDT and SMSW; SLDT and STR are of the other group.</summary>
    private static ReadOnlySpan<byte> GroupOf0F01 => [0x0f, 0x01];

    private const int MagicLength = 8;

    private static readonly FrozenSet<Mnemonic> PortInstructions = new[]
    {
        Mnemonic.In, Mnemonic.Out, Mnemonic.Insb, Mnemonic.Insw, Mnemonic.Insd, Mnemonic.Outsb, Mnemonic.Outsw, Mnemonic.Outsd,
    }.ToFrozenSet();

    /// <summary>All rows.</summary>
    public static ImmutableArray<PvmExclusion> Rows { get; } =
    [
        new("port-io", "IN, OUT, INS and OUTS in supervisor mode", "Leave to the virtual machine monitor, which answers as it likes. In user mode they are #GP and generated."),
        new("bare-cpuid", "CPUID outside the synthetic instruction, also behind a prefixed or misplaced INVLPG", "Shows the host's processor."),
        new("cpuid-leaves", "The synthetic CPUID with leaves other than 40000000 and 40000002", "Answers what the monitor loaded; the text fixes these two leaves only."),
        new("host-tables", "SLDT, STR and LSL, and SGDT, SIDT and SMSW where the processor has no UMIP", "Show the host's tables, its CR0, or the number of the processor."),
        new("host-calls", "VMCALL, VMMCALL and other calls to a hypervisor below", "Are answered or patched by whichever hypervisor is below the host."),
        new("clocks", "RDTSC, RDTSCP, RDPMC, RDPRU and the time-stamp MSRs", "Never show the same value twice; the text says that its ABI for the time-stamp counter is not settled."),
        new("host-msrs", "RDMSR and WRMSR of valid MSRs that the document does not name, but for FS_BASE", "Show or change what the monitor emulates of the host's processor."),
        new("host-controls", "Changes of CR4.UMIP, PKE, OSXSAVE, OSXMMEXCPT and OSFXSR, and of EFER.NXE", "Are the host's by the text."),
        new("unstated-roots", "CR3, SWITCH_CR3 and arguments of LOAD_PGTBL other than the two roots, but for values past any physical address", "Would walk memory that the case does not state."),
        new("unstated-structure", "VCPU_CTRL_STRUCT other than the case's page, 0, or misaligned", "Would put the structure on memory that the case does not state."),
        new("kvm-calls", "KVM hypercalls 5 (KICK_CPU), 9 (CLOCK_PAIRING), 10 (SEND_IPI), 11 (SCHED_YIELD) and 12 (MAP_GPA_RANGE)", "Depend on other processors, the clock or the monitor."),
        new("syscall-32", "SYSCALL in compatibility mode without INT 80h behind it", "A host that answers it by itself, against the text, goes on after it; with INT 80h there the two are told apart."),
        new("pkru-instructions", "RDPKRU and WRPKRU where the processor has them", "Could take the agent's own pages away; PKRU is switched through the structure instead."),
    ];

    /// <summary>True for forms that supervisor code must not execute.</summary>
    public static bool IsPortAccess(FormTemplate template) => PortInstructions.Contains(template.Code.Mnemonic());

    /// <summary>As <see cref="Exclusions.FindAnywhere"/>, for PVM: allowed are the synthetic CPUID, SYSENTER and SYSCALL, which the text defines for every processor, and what UMIP lets the hypervisor answer.</summary>
    /// <param name="code">Machine code.</param>
    /// <param name="mode">Mode to decode in.</param>
    /// <param name="profile">The processor that is to execute it.</param>
    /// <param name="offset">Where the opcode of the excluded instruction begins, or -1.</param>
    /// <returns>The row, or null when the code may be executed.</returns>
    public static Exclusion? FindAnywhere(ReadOnlySpan<byte> code, CpuMode mode, CpuProfile profile, out int offset)
    {
        int from = 0;
        while (Exclusions.FindAnywhere(code[from..], mode, profile, out int found) is { } row)
        {
            offset = from + found;
            if (!IsAllowed(row, code[offset..], code[..offset], profile))
            {
                return row;
            }

            // Neither opcode ends in a byte that could be a prefix of what follows.
            from = offset + 2;
        }

        offset = -1;
        return null;
    }

    /// <summary>True when the code may run on a live host under the ABI.</summary>
    public static bool MayRunLive(TestCase testCase, CpuProfile profile) =>
        (testCase.Abi.IsPvm()
            ? FindAnywhere(testCase.Code.Bytes.AsSpan(), testCase.Mode, profile, out _)
            : Exclusions.FindAnywhere(testCase.Code.Bytes.AsSpan(), testCase.Mode, profile, out _)) is null;

    private static bool IsAllowed(Exclusion row, ReadOnlySpan<byte> code, ReadOnlySpan<byte> before, CpuProfile profile) =>
        row.Mnemonics.Contains(Mnemonic.Sysenter)
        || (row.Mnemonics.Contains(Mnemonic.Cpuid) && before.EndsWith(SyntheticCpuid[..MagicLength]) && code.StartsWith(SyntheticCpuid[MagicLength..]))
        || (row.Mnemonics.Contains(Mnemonic.Syscall) && code.StartsWith(CompatibilitySyscall))
        || ((row.Mnemonics.Contains(Mnemonic.Sgdt) || row.Mnemonics.Contains(Mnemonic.Smsw)) && profile.Has("UMIP") && code.StartsWith(GroupOf0F01));
}
