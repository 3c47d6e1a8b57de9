using System.Collections.Frozen;
using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Isa;

/// <summary>Forms that are never generated for live targets, and why.</summary>
/// <param name="Id">Stable name for messages and counters.</param>
/// <param name="Mnemonics">All forms of these mnemonics.</param>
/// <param name="Reason">Why, in one sentence.</param>
/// <param name="Mode">Only in this mode, or null for both.</param>
/// <param name="Vendor">Only on this vendor's processors, or null for all.</param>
/// <param name="Feature">Only where the profile has this feature, or null for all.</param>
/// <param name="AnyPrefix">True when processors may execute it although the prefixes make it invalid by the manual, so that the bytes alone condemn it.</param>
public sealed record Exclusion(
    string Id, ImmutableArray<Mnemonic> Mnemonics, string Reason, CpuMode? Mode = null, CpuVendor? Vendor = null, string? Feature = null, bool AnyPrefix = false)
{
    /// <summary>True when the row applies in this mode on this processor.</summary>
    public bool AppliesTo(CpuMode mode, CpuProfile profile) =>
        (Mode is null || Mode == mode) && (Vendor is null || Vendor == profile.Vendor) && (Feature is null || profile.Has(Feature));
}

/// <summary>The list of excluded forms, and searches for them in machine code.</summary>
public static class Exclusions
{
    /// <summary>All rows.</summary>
    public static ImmutableArray<Exclusion> Rows { get; } =
    [
        new("time", [Mnemonic.Rdtsc, Mnemonic.Rdtscp], "Reads the time-stamp counter, which never shows the same value twice."),
        new("counters", [Mnemonic.Rdpmc, Mnemonic.Rdpru], "Reads performance or frequency counters of the host."),
        new("processor-number", [Mnemonic.Rdpid], "Shows on which processor the thread happens to run."),
        new("segment-limit", [Mnemonic.Lsl], "Systems keep the processor's number in the limit of a descriptor that CPL3 can read, and a selector in a register is not known beforehand."),
        new("identity", [Mnemonic.Cpuid], "Shows the host's processor and its hypervisor."),
        new("random", [Mnemonic.Rdrand, Mnemonic.Rdseed], "Random numbers."),
        new("state-in-use", [Mnemonic.Xgetbv], "ECX = 0 shows the host's set-up and ECX = 1 the state components in use, which change behind the payload's back."),
        new(
            "extended-state",
            [
                Mnemonic.Xsave, Mnemonic.Xsave64, Mnemonic.Xsavec, Mnemonic.Xsavec64, Mnemonic.Xsaveopt, Mnemonic.Xsaveopt64, Mnemonic.Xrstor, Mnemonic.Xrstor64,
                Mnemonic.Fxsave, Mnemonic.Fxsave64, Mnemonic.Fxrstor, Mnemonic.Fxrstor64, Mnemonic.Ldmxcsr, Mnemonic.Stmxcsr, Mnemonic.Vldmxcsr, Mnemonic.Vstmxcsr,
            ],
            "Saves or loads x87 and vector state, which a case does not carry; which components are saved depends on what was in use before."),
        new("descriptor-tables", [Mnemonic.Sgdt, Mnemonic.Sidt, Mnemonic.Sldt, Mnemonic.Str], "Shows addresses and selectors of the host's system, or what the system makes up for them under UMIP."),
        new("machine-status", [Mnemonic.Smsw], "Shows the host's CR0, or what the system makes up for it under UMIP."),
        new("waits", [Mnemonic.Monitorx, Mnemonic.Mwaitx, Mnemonic.Umonitor, Mnemonic.Umwait, Mnemonic.Tpause], "Waits until a time or a store by another processor; flags and duration vary."),
        new(
            "hypercalls",
            [Mnemonic.Vmcall, Mnemonic.Vmmcall, Mnemonic.Vmgexit, Mnemonic.Vmfunc, Mnemonic.Tdcall],
            "Leaves to the hypervisor below the host, which may act on it, answer it or patch the instruction.",
            AnyPrefix: true),
        new(
            "vmx",
            [
                Mnemonic.Vmlaunch, Mnemonic.Vmresume, Mnemonic.Vmxon, Mnemonic.Vmxoff, Mnemonic.Vmread, Mnemonic.Vmwrite, Mnemonic.Vmptrld, Mnemonic.Vmptrst, Mnemonic.Vmclear,
                Mnemonic.Invept, Mnemonic.Invvpid, Mnemonic.Getsec, Mnemonic.Getsecq,
            ],
            "#UD or #GP or an exit to a hypervisor, depending on whether the host is in VMX operation."),
        new("seam", [Mnemonic.Seamcall, Mnemonic.Seamops, Mnemonic.Seamret], "Depends on whether the host is in SEAM operation.", AnyPrefix: true),
        new(
            "svm",
            [Mnemonic.Vmrun, Mnemonic.Vmload, Mnemonic.Vmsave, Mnemonic.Stgi, Mnemonic.Clgi, Mnemonic.Skinit, Mnemonic.Invlpga],
            "#UD or #GP, depending on whether the host has EFER.SVME set."),
        new("enclaves", [Mnemonic.Encls, Mnemonic.Enclu, Mnemonic.Enclv], "Depends on the host's enclave support and enters enclaves."),
        new(
            "nested-paging-table",
            [Mnemonic.Rmpadjust, Mnemonic.Rmpupdate, Mnemonic.Rmpquery, Mnemonic.Psmash, Mnemonic.Pvalidate],
            "#UD or #GP, depending on whether the host runs with SEV-SNP."),
        new("transactions", [Mnemonic.Xbegin], "Whether and why a transaction aborts varies from run to run."),
        new(
            "shadow-stack",
            [
                Mnemonic.Incsspd, Mnemonic.Incsspq, Mnemonic.Rstorssp, Mnemonic.Saveprevssp, Mnemonic.Setssbsy, Mnemonic.Clrssbsy, Mnemonic.Wrssd, Mnemonic.Wrssq, Mnemonic.Wrussd,
                Mnemonic.Wrussq, Mnemonic.Rdsspd, Mnemonic.Rdsspq,
            ],
            "Depends on whether the host's system has control-flow enforcement switched on."),
        new("protection-keys", [Mnemonic.Rdpkru, Mnemonic.Wrpkru], "Shows the host's rights, and could take the agent's own pages away.", Feature: "PKU"),
        new(
            "padlock",
            [
                Mnemonic.Xstore, Mnemonic.Xstore_alt, Mnemonic.Xcryptecb, Mnemonic.Xcryptcbc, Mnemonic.Xcryptctr, Mnemonic.Xcryptcfb, Mnemonic.Xcryptofb, Mnemonic.Montmul, Mnemonic.Xsha1,
                Mnemonic.Xsha256, Mnemonic.Xsha512, Mnemonic.Xsha512_alt, Mnemonic.Ccs_hash, Mnemonic.Ccs_encrypt,
            ],
            "Random numbers and engines of processors that are neither Intel's nor AMD's."),
        new(
            "syscall-compatibility",
            [Mnemonic.Syscall],
            "Enters the system's 32-bit entry, and under Linux comes back at an address that varies.",
            Mode: CpuMode.Compatibility32),
        new("sysenter-intel", [Mnemonic.Sysenter], "Enters the system's 32-bit entry, and under Linux comes back in the vDSO.", Vendor: CpuVendor.Intel),
    ];

    private static readonly FrozenDictionary<Mnemonic, Exclusion> ByMnemonic =
        Rows.SelectMany(r => r.Mnemonics.Select(m => KeyValuePair.Create(m, r))).ToFrozenDictionary();

    private static readonly OpcodePatterns Patterns = new(ByMnemonic);

    /// <summary>Finds the row that excludes a form.</summary>
    /// <returns>Null when the form may be generated.</returns>
    public static Exclusion? Find(Code code, CpuMode mode, CpuProfile profile) =>
        ByMnemonic.TryGetValue(code.Mnemonic(), out Exclusion? row) && row.AppliesTo(mode, profile) ? row : null;

    /// <summary>Finds an excluded instruction that begins at any byte of some code, since a jump can land anywhere.</summary>
    /// <param name="code">Machine code.</param>
    /// <param name="mode">Mode to decode in.</param>
    /// <param name="profile">The processor that is to execute it.</param>
    /// <param name="offset">Where the opcode of the excluded instruction begins, or -1.</param>
    /// <returns>The row, or null when the code may be executed.</returns>
    /// <remarks>A scan for the few bytes that begin excluded opcodes; only at a hit is anything decoded.</remarks>
    public static Exclusion? FindAnywhere(ReadOnlySpan<byte> code, CpuMode mode, CpuProfile profile, out int offset)
    {
        int from = 0;
        while (true)
        {
            int next = code[from..].IndexOfAny(OpcodePatterns.FirstBytes);
            if (next < 0)
            {
                offset = -1;
                return null;
            }

            offset = from + next;
            if (Patterns.MayBegin(code[offset..]) && Confirm(code, offset, mode, profile) is { } row)
            {
                return row;
            }

            from = offset + 1;
        }
    }

    /// <summary>Decodes at the opcode and at every prefix before it.</summary>
    private static Exclusion? Confirm(ReadOnlySpan<byte> code, int offset, CpuMode mode, CpuProfile profile)
    {
        if (Patterns.AnyPrefix(code[offset..]) is { } hard && hard.AppliesTo(mode, profile))
        {
            return hard;
        }

        for (int start = offset; start >= 0 && offset - start < CodeSplitter.MaximumInstructionLength; start--)
        {
            if (start < offset && !IsPrefix(code[start]))
            {
                break;
            }

            byte[] bytes = code.Slice(start, Math.Min(CodeSplitter.MaximumInstructionLength, code.Length - start)).ToArray();
            Decoder.Create(mode == CpuMode.Long64 ? 64 : 32, new ByteArrayCodeReader(bytes)).Decode(out Instruction instruction);
            if (!instruction.IsInvalid && Find(instruction.Code, mode, profile) is { } row)
            {
                return row;
            }
        }

        return null;
    }

    private static bool IsPrefix(byte value) => value is 0x26 or 0x2e or 0x36 or 0x3e or (>= 0x40 and <= 0x4f) or (>= 0x64 and <= 0x67) or 0xf0 or 0xf2 or 0xf3;
}
