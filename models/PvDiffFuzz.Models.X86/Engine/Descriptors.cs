using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>What descriptors say about selectors, and what they allow in compatibility mode. There is no LDT.</summary>
internal static class Descriptors
{
    /// <summary>The descriptor that a selector names; null for a null selector, the LDT, an index above the limit or an empty entry.</summary>
    public static SegmentDescriptor? Find(CpuProfile profile, ushort selector)
    {
        if ((selector & 0xfffc) == 0 || (selector & 4) != 0 || (selector | 7) > profile.GdtLimit)
        {
            return null;
        }

        foreach (SegmentDescriptor descriptor in profile.Descriptors)
        {
            if (descriptor.Index == selector >> 3)
            {
                return descriptor;
            }
        }

        return null;
    }

    /// <summary>Takes a descriptor of eight bytes apart.</summary>
    /// <param name="index">Index in the GDT.</param>
    /// <param name="raw">Its bytes, little-endian.</param>
    [Spec("SDM", "vol.3A 3.4.5 Segment Descriptors")]
    public static SegmentDescriptor Decode(int index, ulong raw)
    {
        bool scaled = (raw >> 55 & 1) != 0;
        uint limit = (uint)(raw & 0xffff) | (uint)(raw >> 32 & 0xf0000);
        return new SegmentDescriptor(
            index,
            (byte)(raw >> 40 & 0xf),
            System: (raw >> 44 & 1) == 0,
            (byte)(raw >> 45 & 3),
            Present: (raw >> 47 & 1) != 0,
            Long: (raw >> 53 & 1) != 0,
            Big: (raw >> 54 & 1) != 0,
            scaled,
            Available: (raw >> 52 & 1) != 0,
            (uint)(raw >> 16 & 0xff_ffff) | (uint)(raw >> 32 & 0xff00_0000),
            scaled ? (limit << 12) | 0xfff : limit);
    }

    /// <summary>True for data and for code that is not execute-only.</summary>
    public static bool IsReadable(SegmentDescriptor descriptor) => descriptor.IsData || (descriptor.IsCode && (descriptor.Type & 2) != 0);

    /// <summary>True for writable data.</summary>
    public static bool IsWritable(SegmentDescriptor descriptor) => descriptor.IsData && (descriptor.Type & 2) != 0;

    /// <summary>True for conforming code.</summary>
    public static bool IsConforming(SegmentDescriptor descriptor) => descriptor.IsCode && (descriptor.Type & 4) != 0;

    /// <summary>True when every access through a selector is allowed in compatibility mode, so that none needs <see cref="Allows"/>.</summary>
    public static bool IsFlat(CpuProfile profile, ushort selector) =>
        Find(profile, selector) is SegmentDescriptor found && IsWritable(found) && !ExpandsDown(found) && found.Limit == uint.MaxValue;

    /// <summary>Tells whether compatibility mode allows an access through a segment.</summary>
    /// <param name="profile">Holds the descriptors.</param>
    /// <param name="selector">Selector that the segment was loaded with; a null one allows nothing.</param>
    /// <param name="offset">Offset of the first byte in the segment.</param>
    /// <param name="bytes">Length of the access.</param>
    /// <param name="write">True for a store.</param>
    /// <remarks>The SDM leaves it to the processor whether an access may run over the end of a segment of 4 GiB; Intel's wrap, the APM knows no exception.</remarks>
    [Spec("SDM", "vol.3A 5.3 Limit Checking; 5.4 Type Checking; 5.4.1 Null Segment Selector Checking")]
    [Spec("APM", "vol.2 4.12 Limit Checks; 4.13 Type Checks")]
    [Spec("x86-readings", "segment-end")]
    public static bool Allows(CpuProfile profile, ushort selector, uint offset, int bytes, bool write)
    {
        if (Find(profile, selector) is not SegmentDescriptor found || !(write ? IsWritable(found) : IsReadable(found)))
        {
            return false;
        }

        ulong last = offset + (ulong)bytes - 1;
        if (ExpandsDown(found))
        {
            return offset > found.Limit && last <= (found.Big ? uint.MaxValue : ushort.MaxValue);
        }

        return last <= found.Limit || (found.Limit == uint.MaxValue && profile.Vendor == CpuVendor.Intel);
    }

    private static bool ExpandsDown(SegmentDescriptor descriptor) => descriptor.IsData && (descriptor.Type & 4) != 0;
}
