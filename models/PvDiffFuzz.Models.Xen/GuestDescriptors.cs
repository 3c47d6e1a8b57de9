using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen;

/// <summary>The GDT of a guest: its own entries below e000, audited, and Xen's above.</summary>
internal static class GuestDescriptors
{
    /// <summary>Entries that a guest may have: 14 pages.</summary>
    public const int MaximumEntries = 7168;

    /// <summary>Limit of the GDT: Xen's part is one page more.</summary>
    public const ushort Limit = 0xefff;

    private const ulong Present = 1UL << 47;
    private const ulong NotSystem = 1UL << 44;
    private const ulong DplMask = 3UL << 45;
    private const ulong LongMode = 1UL << 53;
    private const ulong Code = 1UL << 43;

    private static readonly ImmutableArray<SegmentDescriptor> Reserved64 = Decode(
        (0xe008, 0x00af_9b00_0000_ffff), (0xe010, 0x00cf_9300_0000_ffff), (0xe020, 0x00cf_fb00_0000_ffff), (0xe028, 0x00cf_f300_0000_ffff), (0xe030, 0x00af_fb00_0000_ffff));

    private static readonly ImmutableArray<SegmentDescriptor> Reserved32 = Decode(
        (0xe008, 0x00af_9b00_0000_ffff), (0xe010, 0x00cf_9300_0000_ffff), (0xe018, 0x00cf_bb00_0000_ffff), (0xe020, 0x00cf_b300_0000_ffff), (0xe028, 0x00cf_fb00_0000_ffff),
        (0xe030, 0x00cf_f300_0000_ffff));

    /// <summary>Vectors whose gate in Xen's IDT user code reaches: #BP, #OF and the fast path of system calls.</summary>
    public static ImmutableSortedSet<byte> UserGates { get; } = [3, 4, 0x80];

    /// <summary>Xen's part for a 64-bit guest, whose kernel and user code both run in ring 3.</summary>
    [Spec("Xen PV segments", "64-bit guest")]
    [Spec("xen-readings", "descriptor-values")]
    public static ImmutableArray<SegmentDescriptor> Of64() => Reserved64;

    /// <summary>Xen's part for a 32-bit guest, whose kernel runs in ring 1.</summary>
    [Spec("Xen PV segments", "32-bit guest")]
    [Spec("xen-readings", "descriptor-values")]
    public static ImmutableArray<SegmentDescriptor> Of32() => Reserved32;

    /// <summary>What Xen makes of a descriptor that a guest wants to have.</summary>
    /// <param name="raw">The descriptor.</param>
    /// <param name="kernelRing">Ring of the guest's kernel: 3, or 1 for a 32-bit guest.</param>
    /// <param name="stored">What is stored.</param>
    /// <returns>False when Xen refuses it.</returns>
    [Spec("Xen PV traps", "PV Guest's configuration: descriptors audited by Xen")]
    [Spec("Xen facts", "Hypercall ABI: update_descriptor")]
    public static bool TryAudit(ulong raw, int kernelRing, out ulong stored)
    {
        stored = raw;
        if ((raw & Present) == 0)
        {
            return true;
        }

        if ((raw & NotSystem) == 0)
        {
            return TryAuditSystem(raw, kernelRing, out stored);
        }

        ulong dpl = Math.Max(raw >> 45 & 3, (ulong)kernelRing);
        stored = (raw & ~DplMask) | (dpl << 45);
        return kernelRing == 3 || (raw & (LongMode | Code)) != (LongMode | Code);
    }

    /// <summary>Call gates only. Their DPL becomes 0, so that using one faults, and the one that the guest meant is kept in the RPL of the selector.</summary>
    [Spec("Xen PV traps", "Xen's configuration: call gates")]
    [Spec("Xen facts", "Hypercall ABI: update_descriptor")]
    private static bool TryAuditSystem(ulong raw, int kernelRing, out ulong stored)
    {
        const ulong callGate = 0xc;
        ulong dpl = Math.Max(raw >> 45 & 3, (ulong)kernelRing);
        stored = (raw & ~DplMask & ~(3UL << 16)) | (dpl << 16);
        return (raw >> 40 & 0xf) == callGate;
    }

    private static ImmutableArray<SegmentDescriptor> Decode(params ReadOnlySpan<(int Selector, long Raw)> gdt)
    {
        ImmutableArray<SegmentDescriptor>.Builder descriptors = ImmutableArray.CreateBuilder<SegmentDescriptor>(gdt.Length);
        foreach ((int selector, long raw) in gdt)
        {
            descriptors.Add(Descriptors.Decode(selector >> 3, (ulong)raw));
        }

        return descriptors.MoveToImmutable();
    }
}
