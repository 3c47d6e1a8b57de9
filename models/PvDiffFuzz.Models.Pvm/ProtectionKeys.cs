using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>PKRU over the switches between the modes. There is one underlying PKRU for both; whether it refuses accesses is for CR4.PKE to say in user mode and for CR4.PKS in supervisor mode.</summary>
internal static class ProtectionKeys
{
    private const ulong Cr4Pke = 1UL << 22;
    private const ulong Cr4Pks = 1UL << 24;

    /// <summary>To supervisor mode: saves PKRU, then loads a default: MSR_IA32_PKRS if CR4.PKS is set, else 0.</summary>
    /// <remarks>Only when the host has CR4.PKE set, whatever the guest's CR4 says.</remarks>
    [Spec("PVM rfc1", "Protection Keys")]
    [Spec("pvm-readings", "pkru-without-pke")]
    public static void ToSupervisor<TAbi>(ref CpuState cpu, Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        if (cpu.Profile.Has("PKU"))
        {
            Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
            pvcs[SystemRegister.PvcsPkru] = cpu.Pkru ?? 0;
            cpu.Pkru = Default(vcpu);
            Enable(ref cpu, vcpu, user: false);
        }
    }

    /// <summary>To user mode: loads PKRU from the structure.</summary>
    [Spec("PVM rfc1", "Protection Keys")]
    public static void ToUser<TAbi>(ref CpuState cpu, Vcpu vcpu)
        where TAbi : struct, IPvmAbi
    {
        if (cpu.Profile.Has("PKU"))
        {
            cpu.Pkru = (uint)vcpu.Pvcs<TAbi>()[SystemRegister.PvcsPkru];
            Enable(ref cpu, vcpu, user: true);
        }
    }

    /// <summary>Has the keys refuse accesses, or not, from the next time that the mode is set: PKRU is switched whatever the guest's CR4 says, and protects what CR4 enables it for.</summary>
    [Spec("PVM rfc1", "Protection Keys")]
    [Spec("pvm-readings", "keys-without-cr4")]
    public static void Enable(ref CpuState cpu, Vcpu vcpu, bool user) => cpu.KeysOff = (vcpu[SystemRegister.Cr4] & (user ? Cr4Pke : Cr4Pks)) == 0;

    /// <summary>What supervisor mode starts with.</summary>
    public static uint Default(Vcpu vcpu) => (vcpu[SystemRegister.Cr4] & Cr4Pks) != 0 ? (uint)vcpu[SystemRegister.Pkrs] : 0;
}
