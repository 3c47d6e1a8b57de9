using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen;

/// <summary>The processor as a PV guest has it: the host's, with Xen's descriptors and the guest's own, and without what Xen keeps from PV guests.</summary>
internal sealed class GuestProcessor
{
    private const ulong Fsgsbase = 1UL << 16;

    private const int Most = 16;

    private readonly List<Made> _made = [];
    private readonly List<(CpuProfile Host, bool Bases, CpuProfile Restricted)> _restricted = [];

    /// <summary>Finds or makes the processor of a guest.</summary>
    /// <param name="host">The host's.</param>
    /// <param name="gdt">Xen's descriptors for the kind of guest.</param>
    /// <param name="kernelRing">Ring of the guest's kernel.</param>
    /// <param name="guest">The guest's descriptors, as it wants to have them.</param>
    /// <param name="cr4">The guest's CR4.</param>
    /// <returns>Null when Xen refuses a descriptor.</returns>
    [ExcludeFromCodeCoverage(Justification = "What it does depends on the guests of earlier cases.")]
    public CpuProfile? Of(CpuProfile host, ImmutableArray<SegmentDescriptor> gdt, int kernelRing, ImmutableArray<KeyValuePair<ushort, ulong>> guest, ulong cr4)
    {
        bool bases = (cr4 & Fsgsbase) != 0;
        foreach (Made made in _made)
        {
            if (ReferenceEquals(made.Host, host) && made.Gdt == gdt && made.Guest == guest && made.Bases == bases)
            {
                return made.Profile;
            }
        }

        if (_made.Count == Most)
        {
            _made.RemoveAt(0);
        }

        if (Merge(gdt, kernelRing, guest) is not ImmutableArray<SegmentDescriptor> descriptors)
        {
            return null;
        }

        CpuProfile profile = RestrictedOf(host, bases) with { Descriptors = descriptors, GdtLimit = GuestDescriptors.Limit };
        _made.Add(new Made(host, gdt, guest, bases, profile));
        return profile;
    }

    /// <summary>One instance of the features for all guests of a host, so that they are known to be equal at a glance.</summary>
    [ExcludeFromCodeCoverage(Justification = "What it does depends on the guests of earlier cases.")]
    private CpuProfile RestrictedOf(CpuProfile host, bool bases)
    {
        foreach ((CpuProfile of, bool enabled, CpuProfile made) in _restricted)
        {
            if (ReferenceEquals(of, host) && enabled == bases)
            {
                return made;
            }
        }

        if (_restricted.Count == Most)
        {
            _restricted.RemoveAt(0);
        }

        CpuProfile restricted = Restrict(host, bases);
        _restricted.Add((host, bases, restricted));
        return restricted;
    }

    /// <summary>UMIP and protection keys are not offered, linear addresses have 48 bits, and the instructions of FSGSBASE are the guest's to enable in its CR4.</summary>
    [Spec("Xen facts", "Privileged instructions: CR4; UMIP")]
    [Spec("xen-readings", "processor-of-a-guest")]
    private static CpuProfile Restrict(CpuProfile host, bool bases)
    {
        ImmutableSortedSet<string> features = host.Features.Remove("UMIP").Remove("PKU");
        return host with { Features = bases ? features : features.Remove("FSGSBASE"), LinearBits = 48, UserGates = GuestDescriptors.UserGates };
    }

    private static ImmutableArray<SegmentDescriptor>? Merge(ImmutableArray<SegmentDescriptor> gdt, int kernelRing, ImmutableArray<KeyValuePair<ushort, ulong>> guest)
    {
        if (guest.IsDefaultOrEmpty)
        {
            return gdt;
        }

        ImmutableArray<SegmentDescriptor>.Builder merged = ImmutableArray.CreateBuilder<SegmentDescriptor>(guest.Length + gdt.Length);
        foreach ((ushort selector, ulong raw) in guest)
        {
            if (!GuestDescriptors.TryAudit(raw, kernelRing, out ulong stored))
            {
                return null;
            }

            merged.Add(Descriptors.Decode(selector >> 3, stored));
        }

        merged.AddRange(gdt);
        return merged.DrainToImmutable();
    }

    private sealed record Made(
        CpuProfile Host, ImmutableArray<SegmentDescriptor> Gdt, ImmutableArray<KeyValuePair<ushort, ulong>> Guest, bool Bases, CpuProfile Profile);
}
