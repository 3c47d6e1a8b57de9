using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>What the synthetic CPUID answers.</summary>
internal static class CpuidLeaves
{
    private const uint Signature = 0x4000_0000;
    private const uint VendorFeatures = 0x4000_0002;
    private const uint Last = 0x4000_00ff;
    private const uint Smep = 1 << 7;
    private const uint Smap = 1 << 20;
    private const uint Lass = 1 << 6;
    private const uint Xsaves = 1 << 3;

    /// <summary>The answer for a leaf, or null when it is for the host's processor to say and the profile does not.</summary>
    [Spec("PVM rfc1", "KVM and PVM specific CPUID leafs")]
    public static CpuidLeaf? Answer<TAbi>(CpuProfile profile, uint leaf, uint subleaf)
        where TAbi : struct, IPvmAbi
    {
        if (leaf is >= Signature and <= Last)
        {
            return TAbi.HypervisorLeaf(leaf);
        }

        foreach (CpuidLeaf row in profile.Cpuid)
        {
            if (row.Leaf == leaf && (row.Subleaf ?? subleaf) == subleaf)
            {
                return Disable<TAbi>(row, subleaf);
            }
        }

        return null;
    }

    /// <summary>Highest leaf and signature, then vendor features.</summary>
    [Spec("PVM rfc1", "KVM and PVM specific CPUID leafs")]
    [Spec("pvm-readings", "hypervisor-leaves")]
    public static CpuidLeaf Rfc1(uint leaf)
    {
        const uint pvm = 0x6d_7670;
        return leaf switch
        {
            Signature => KvmSignature(VendorFeatures),
            VendorFeatures => new CpuidLeaf(leaf, null, 0, pvm, 0, 0),
            _ => new CpuidLeaf(leaf, null, 0, 0, 0, 0),
        };
    }

    /// <summary>"KVMKVMKVM" and the highest leaf.</summary>
    public static CpuidLeaf KvmSignature(uint highest) => new(Signature, null, highest, 0x4b4d_564b, 0x564b_4d56, 0x4d);

    /// <summary>SMAP, LASS and XSAVES are not there for a guest, nor is SMEP where CR4.SMEP cannot be set.</summary>
    [Spec("PVM rfc1", "CPUID leaf")]
    private static CpuidLeaf Disable<TAbi>(CpuidLeaf row, uint subleaf)
        where TAbi : struct, IPvmAbi
    {
        return (row.Leaf, subleaf) switch
        {
            (7, 0) => row with { Ebx = row.Ebx & ~(Smap | (TAbi.HasSmep ? 0 : Smep)) },
            (7, 1) => row with { Eax = row.Eax & ~Lass },
            (0xd, 1) => row with { Eax = row.Eax & ~Xsaves },
            _ => row,
        };
    }
}
