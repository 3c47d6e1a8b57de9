using System.Collections.Immutable;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm.Emulated;

/// <summary>Finds out what processor an emulated host has, by what its server may execute.</summary>
internal static class EmulatedProcessor
{
    /// <summary>Linux keeps the number of the processor in the limit of this descriptor, so it varies.</summary>
    private const int ProcessorNumber = 15;

    /// <summary>Asks. PVM needs four levels of page tables. An emulated processor checks no alignment, so <c>AM</c> is left out; Linux since 5.9 gives FSGSBASE to programs.</summary>
    /// <param name="kernel">The host's kernel.</param>
    public static CpuProfile Ask(EmulatedKernel kernel)
    {
        const int structured = 7;
        ImmutableSortedSet<string> features = CpuFeatures.Read(kernel.CpuId);
        if ((kernel.CpuId(structured, 0).Ebx & 1) != 0)
        {
            features = features.Add("FSGSBASE");
        }

        string[] model = HostKind.ModelOf(kernel.CpuId).Split('.');
        return new CpuProfile
        {
            Vendor = HostKind.VendorOf(kernel.CpuId) is "AuthenticAMD" or "HygonGenuine" ? CpuVendor.Amd : CpuVendor.Intel,
            Family = int.Parse(model[0]),
            LinearBits = 48,
            Features = features,
            Descriptors = Descriptors(kernel),
        };
    }

    /// <summary>Descriptors of DPL 3 as LAR and LSL show them; what Linux keeps below is known.</summary>
    private static ImmutableArray<SegmentDescriptor> Descriptors(EmulatedKernel kernel)
    {
        List<SegmentDescriptor> found = [.. CpuProfile.DefaultDescriptors.Where(d => d.Dpl < 3)];
        for (int index = 0; index < 16; index++)
        {
            if (kernel.Descriptor((ushort)((index << 3) | 3)) is (uint rights, uint limit))
            {
                found.Add(SegmentDescriptor.OfRights(index, rights, index == ProcessorNumber ? 0 : limit));
            }
        }

        return [.. found.OrderBy(d => d.Index)];
    }
}
