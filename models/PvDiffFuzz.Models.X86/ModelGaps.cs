using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>Forms that <c>model.x86</c> leaves out on purpose, and why.</summary>
/// <param name="Id">Stable name for reports.</param>
/// <param name="Forms">Iced's names of the forms.</param>
/// <param name="Reason">Why, in one sentence.</param>
/// <param name="Mode">Only in this mode, or null for both.</param>
/// <param name="Vendor">Only on this vendor's processors, or null for all.</param>
public sealed record ModelGap(string Id, ImmutableArray<string> Forms, string Reason, CpuMode? Mode = null, CpuVendor? Vendor = null)
{
    /// <summary>True when the row is about this form in this mode, on some vendor's processors.</summary>
    public bool Covers(string form, CpuMode mode) => (Mode is null || Mode == mode) && Forms.Contains(form, StringComparer.Ordinal);
}

/// <summary>The list of gaps. A form in it ends a case as unsupported when the profile has its feature; without the feature it is #UD and modelled.</summary>
public static class ModelGaps
{
    private const string NoExtendedState = "Saves or loads x87, vector or MXCSR state, which a case does not carry.";

    /// <summary>All rows.</summary>
    public static ImmutableArray<ModelGap> Rows { get; } =
    [
        new("fxsave", FormsOf(Mnemonic.Fxsave, Mnemonic.Fxsave64, Mnemonic.Fxrstor, Mnemonic.Fxrstor64), NoExtendedState),
        new("mxcsr", FormsOf(Mnemonic.Ldmxcsr, Mnemonic.Stmxcsr, Mnemonic.Vldmxcsr, Mnemonic.Vstmxcsr), NoExtendedState),
        new(
            "xsave",
            FormsOf(Mnemonic.Xsave, Mnemonic.Xsave64, Mnemonic.Xsavec, Mnemonic.Xsavec64, Mnemonic.Xsaveopt, Mnemonic.Xsaveopt64, Mnemonic.Xrstor, Mnemonic.Xrstor64),
            NoExtendedState + " Which components are in use depends on what ran before."),
        new(
            "lightweight-profiling",
            FormsOf(Mnemonic.Llwpcb, Mnemonic.Slwpcb, Mnemonic.Lwpins, Mnemonic.Lwpval),
            "Profiling of AMD families 15h only, which writes records to memory as other instructions retire."),
        new("enclaves", FormsOf(Mnemonic.Enclu), "Enters enclaves, whose memory a case cannot describe."),
        new(
            "syscall-compatibility",
            FormsOf(Mnemonic.Syscall),
            "Enters at CSTAR, an entry that no target shows and no event names.",
            CpuMode.Compatibility32,
            CpuVendor.Amd),
        new("sysenter", FormsOf(Mnemonic.Sysenter), "Enters at SYSENTER_EIP without saving RIP, an entry that no target shows and no event names.", Vendor: CpuVendor.Intel),
    ];

    /// <summary>The row about a form in a mode, or null.</summary>
    /// <param name="form">Iced's name.</param>
    /// <param name="mode">The mode.</param>
    public static ModelGap? Find(string form, CpuMode mode)
    {
        foreach (ModelGap row in Rows)
        {
            if (row.Covers(form, mode))
            {
                return row;
            }
        }

        return null;
    }

    private static ImmutableArray<string> FormsOf(params ReadOnlySpan<Mnemonic> mnemonics)
    {
        HashSet<Mnemonic> wanted = [.. mnemonics];
        return [.. Enum.GetValues<Code>().Where(code => wanted.Contains(code.Mnemonic())).Select(code => code.ToString())];
    }
}
