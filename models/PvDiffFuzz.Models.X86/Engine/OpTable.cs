using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>Which operation serves which form, for register and for memory operands.</summary>
/// <remarks>Made once per profile: a form whose feature the profile lacks is redirected to #UD or to what the encoding means without it.</remarks>
// SAFETY: the pointers are those of managed static methods of one signature; they are only stored and compared with null here.
internal sealed unsafe class OpTable
{
    /// <summary>Features that every processor in long mode has, so that no profile lists them.</summary>
    private static readonly HashSet<string> Baseline = new(StringComparer.Ordinal)
    {
        nameof(CpuidFeature.INTEL8086), nameof(CpuidFeature.INTEL186), nameof(CpuidFeature.INTEL286), nameof(CpuidFeature.INTEL386), nameof(CpuidFeature.INTEL486),
        nameof(CpuidFeature.X64), nameof(CpuidFeature.CPUID), nameof(CpuidFeature.TSC), nameof(CpuidFeature.MSR), nameof(CpuidFeature.CX8), nameof(CpuidFeature.CMOV),
        nameof(CpuidFeature.SYSCALL), nameof(CpuidFeature.FPU), nameof(CpuidFeature.FPU287), nameof(CpuidFeature.FPU387), nameof(CpuidFeature.MULTIBYTENOP), nameof(CpuidFeature.PAUSE), nameof(CpuidFeature.RDPMC),
    };

    private static readonly ILookup<Mnemonic, Code> Forms = Enum.GetValues<Code>()
        .Where(code => code.ToOpCode() is { IsInstruction: true, Encoding: EncodingKind.Legacy, DecoderOption: DecoderOptions.None })
        .ToLookup(code => code.Mnemonic());

    private readonly Form[] _forms = new Form[Enum.GetValues<Code>().Length];

    private OpTable()
    {
    }

    /// <summary>The forms that some family serves, on a processor that has every feature.</summary>
    public static IReadOnlyList<Code> Modelled { get; } = [.. Enum.GetValues<Code>().Where(
        Create(CpuProfile.DefaultAmd with { Features = CpuProfile.DefaultAmd.Features.Union(Enum.GetNames<CpuidFeature>()) }).IsKnown)];

    /// <summary>Builds the table for a profile.</summary>
    /// <exception cref="InvalidOperationException">Two families serve one form.</exception>
    public static OpTable Create(CpuProfile profile)
    {
        OpTable table = new();
        Families.Register(table, profile);
        foreach (Code code in Enum.GetValues<Code>())
        {
            if (code != Code.INVALID && !HasFeatures(code, profile))
            {
                // Without its feature a form is undefined whether or not a family would serve it.
                ref Form form = ref table._forms[(int)code];
                form.Register = &Undefined;
                form.Memory = &Undefined;
            }
        }

        return table;
    }

    /// <summary>Adds a form without a memory operand, or one whose operation does not care.</summary>
    public void Add(Code code, delegate*<ref CpuState, in MicroOp, void> operation) => Add(code, operation, operation);

    /// <summary>Every legacy form of a mnemonic that the decoder can give.</summary>
    public static IEnumerable<Code> FormsOf(Mnemonic mnemonic) => Forms[mnemonic];

    /// <summary>Adds every form of a mnemonic.</summary>
    /// <exception cref="InvalidOperationException">A form is served already.</exception>
    public void AddAll(Mnemonic mnemonic, delegate*<ref CpuState, in MicroOp, void> operation)
    {
        foreach (Code code in Forms[mnemonic])
        {
            Add(code, operation);
        }
    }

    /// <summary>Adds a form whose r/m operand may be a register or memory.</summary>
    /// <exception cref="InvalidOperationException">The form is served already.</exception>
    public void Add(Code code, delegate*<ref CpuState, in MicroOp, void> register, delegate*<ref CpuState, in MicroOp, void> memory)
    {
        ref Form form = ref _forms[(int)code];
        if (form.Register != null)
        {
            throw new InvalidOperationException($"{code} is served by two families");
        }

        form.Register = register;
        form.Memory = memory;
    }

    /// <summary>True when some family serves the form.</summary>
    public bool IsKnown(Code code) => _forms[(int)code].Register != null;

    /// <summary>How a form is executed.</summary>
    public ref readonly Form Find(Code code) => ref _forms[(int)code];

    /// <summary>#UD.</summary>
    public static void Undefined(ref CpuState cpu, in MicroOp op) => cpu.Raise(6);

    /// <summary>#GP(0).</summary>
    public static void Privileged(ref CpuState cpu, in MicroOp op) => cpu.Raise(13);

    /// <summary>A form whose result belongs to the system or to the host: the case ends as unsupported.</summary>
    public static void NotModelled(ref CpuState cpu, in MicroOp op)
    {
        cpu.PendingError = op.Code;
        cpu.Stop(PendingKind.Unsupported);
    }

    private static bool HasFeatures(Code code, CpuProfile profile)
    {
        foreach (CpuidFeature feature in code.CpuidFeatures())
        {
            if (!Array.Exists(feature.ToString().Split("_or_"), name => Baseline.Contains(name) || profile.Has(name)))
            {
                return Families.IsHint(code);
            }
        }

        return true;
    }

    /// <summary>What decoding needs to know of a form, in one place, so that a cold lookup costs one miss.</summary>
    internal struct Form
    {
        /// <summary>The operation without a memory operand; null when no family serves the form.</summary>
        public delegate*<ref CpuState, in MicroOp, void> Register;

        /// <summary>The operation with a memory operand; null when no family serves the form.</summary>
        public delegate*<ref CpuState, in MicroOp, void> Memory;
    }
}
