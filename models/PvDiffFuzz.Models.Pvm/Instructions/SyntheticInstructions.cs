using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm.Instructions;

/// <summary>Instructions that PVM adds: known sequences of bytes, or SYSCALL at known places.</summary>
internal static class SyntheticInstructions
{
    /// <summary>Bytes of PVM_SYNTHETIC_CPUID: INVLPG of the byte at ffffffffff4d5650, then CPUID.</summary>
    public static ReadOnlySpan<byte> CpuidBytes => [0x0f, 0x01, 0x3c, 0x25, 0x50, 0x56, 0x4d, 0xff, 0x0f, 0xa2];

    /// <summary>SYSCALL in supervisor mode: a return when it is the bare instruction at one of two addresses, else a hypercall.</summary>
    /// <returns>True when it was a hypercall, so that execution goes on after it.</returns>
    [Spec("PVM rfc1", "MSR_PVM_RETU_RIP, MSR_PVM_RETS_RIP")]
    [Spec("PVM rfc1", "EVENT_RETURN_USER: SYSCALL instruction starting at MSR_PVM_RETU_RIP")]
    [Spec("PVM rfc1", "EVENT_RETURN_SUPERVISOR: SYSCALL instruction starting at MSR_PVM_RETS_RIP")]
    [Spec("pvm-readings", "both-returns-at-one-address")]
    public static bool Syscall<TAbi>(ref CpuState cpu, Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        ulong start = cpu.InstructionRip;
        ulong next = cpu.Read<ulong>(Gpr.Rcx);
        if (TAbi.IsSyntheticReturn(start, next, vcpu[SystemRegister.PvmRetuRip]))
        {
            TAbi.ReturnUser(ref cpu, vcpu);
            return false;
        }

        if (TAbi.SwitchesRoots && TAbi.IsSyntheticReturn(start, next, vcpu[SystemRegister.PvmRetsRip]))
        {
            TAbi.ReturnSupervisor(ref cpu, vcpu);
            return false;
        }

        Hypercalls.Execute<TAbi>(ref cpu, vcpu);
        return true;
    }

    /// <summary>Only a SYSCALL without prefixes counts, by where it starts.</summary>
    [Spec("PVM rfc1", "MSR_PVM_RETU_RIP, MSR_PVM_RETS_RIP")]
    public static bool IsBareSyscallAt(ulong start, ulong next, ulong address) => start == address && next - start == 2;

    /// <summary>Tells whether an INVLPG that was refused is the first half of the synthetic CPUID. In user mode it is an INVLPG like any other.</summary>
    [Spec("PVM rfc1", "PVM_SYNTHETIC_CPUID: invlpg 0xffffffffff4d5650;cpuid")]
    [Spec("pvm-readings", "synthetic-cpuid-in-user-mode")]
    public static bool IsCpuid(ref CpuState cpu)
    {
        Span<byte> bytes = stackalloc byte[10];
        return cpu.Memory.Fetch(cpu.InstructionRip, bytes, out _) == bytes.Length && bytes.SequenceEqual(CpuidBytes);
    }

    /// <summary>Answers for the guest's virtual CPU.</summary>
    [Spec("PVM rfc1", "PVM_SYNTHETIC_CPUID: invlpg 0xffffffffff4d5650;cpuid")]
    public static void Cpuid<TAbi>(ref CpuState cpu, Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        if (CpuidLeaves.Answer<TAbi>(cpu.Profile, cpu.Read<uint>(Gpr.Rax), cpu.Read<uint>(Gpr.Rcx)) is not CpuidLeaf leaf)
        {
            vcpu.End(Verdict.Unsupported, "the case does not say what CPUID answers");
            return;
        }

        cpu.Write(Gpr.Rax, leaf.Eax);
        cpu.Write(Gpr.Rbx, leaf.Ebx);
        cpu.Write(Gpr.Rcx, leaf.Ecx);
        cpu.Write(Gpr.Rdx, leaf.Edx);
    }
}
