using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Privileged;

/// <summary>The prefix by which a guest asks Xen to carry an instruction out that the processor would not refuse: UD2, then "xen".</summary>
internal static class ForcedEmulation
{
    private const uint FirstLeaf = 0x4000_0000;

    /// <summary>The prefix and the only instruction that can follow it, CPUID.</summary>
    public static ReadOnlySpan<byte> CpuidBytes => [0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2];

    /// <summary>Carries CPUID out if it follows the prefix. Anything else is #UD at the prefix.</summary>
    [Spec("Xen facts", "Privileged instructions: forced emulation")]
    [Spec("xen-readings", "prefix-at-the-end-of-memory")]
    public static bool TryRun<TGuest>(ref CpuState cpu, Vcpu vcpu)
        where TGuest : struct, IXenGuest
    {
        Span<byte> bytes = stackalloc byte[7];
        if (cpu.Memory.Fetch(cpu.InstructionRip, bytes, out _) != bytes.Length || !bytes.SequenceEqual(CpuidBytes))
        {
            return false;
        }

        if (Answer(vcpu, cpu.Read<uint>(Gpr.Rax)) is not CpuidLeaf leaf)
        {
            vcpu.End(Verdict.Unsupported, "the case does not say what CPUID answers");
            return true;
        }

        cpu.Write(Gpr.Rax, leaf.Eax);
        cpu.Write(Gpr.Rbx, leaf.Ebx);
        cpu.Write(Gpr.Rcx, leaf.Ecx);
        cpu.Write(Gpr.Rdx, leaf.Edx);
        Emulation.Complete<TGuest>(ref cpu, vcpu, (uint)bytes.Length);
        return true;
    }

    /// <summary>Xen's own leaves: signature and highest leaf, release, how to make hypercall pages. Others show the host.</summary>
    [Spec("Xen hypercall ABI", "Creating Hypercall Pages: Xen CPUID leaves")]
    [Spec("Xen facts", "Privileged instructions: forced emulation")]
    [Spec("xen-readings", "cpuid-leaves")]
    private static CpuidLeaf? Answer(Vcpu vcpu, uint leaf) => leaf switch
    {
        FirstLeaf => new CpuidLeaf(leaf, null, FirstLeaf + 5, 0x566e_6558, 0x6558_4d4d, 0x4d4d_566e),
        FirstLeaf + 1 => new CpuidLeaf(leaf, null, ((uint)vcpu.Release.Version.Major << 16) | (uint)vcpu.Release.Version.Minor, 0, 0, 0),
        FirstLeaf + 2 => new CpuidLeaf(leaf, null, 1, FirstLeaf, 1, 0),
        _ => null,
    };
}
