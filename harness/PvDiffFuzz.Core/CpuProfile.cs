using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <summary>Who made the processor. Differences between the two are architecture, not findings.</summary>
public enum CpuVendor
{
    /// <summary>Intel (SDM).</summary>
    Intel,

    /// <summary>AMD (APM).</summary>
    Amd,
}

/// <summary>A descriptor that a payload's selectors can name.</summary>
/// <param name="Index">Index in the GDT: selector / 8.</param>
/// <param name="Type">The four type bits (SDM vol.3A 3.4.5.1 and 3.5).</param>
/// <param name="System">True for a system descriptor (S = 0).</param>
/// <param name="Dpl">Descriptor privilege level, 0 to 3.</param>
/// <param name="Present">P bit.</param>
/// <param name="Long">L bit: 64-bit code.</param>
/// <param name="Big">D/B bit.</param>
/// <param name="Granular">G bit: the limit counts 4 KiB units.</param>
/// <param name="Available">AVL bit, free for software; LAR shows it.</param>
/// <param name="Base">Base address.</param>
/// <param name="Limit">Limit in bytes, after scaling by G.</param>
public sealed record SegmentDescriptor(
    int Index, byte Type, bool System, byte Dpl, bool Present, bool Long, bool Big, bool Granular, bool Available, uint Base, uint Limit)
{
    /// <summary>True for a code segment.</summary>
    public bool IsCode => !System && (Type & 8) != 0;

    /// <summary>True for a data segment.</summary>
    public bool IsData => !System && (Type & 8) == 0;

    /// <summary>A descriptor with base 0 from what LAR and LSL show of it (SDM vol.2A LAR).</summary>
    /// <param name="index">Its number in the GDT.</param>
    /// <param name="rights">The access rights as LAR loads them: bits 8 to 15 and 20 to 23.</param>
    /// <param name="limit">Limit in bytes, as LSL loads it.</param>
    public static SegmentDescriptor OfRights(int index, uint rights, uint limit) => new(
        index,
        (byte)((rights >> 8) & 15),
        System: (rights & 0x1000) == 0,
        (byte)((rights >> 13) & 3),
        Present: (rights & 0x8000) != 0,
        Long: (rights & 0x20_0000) != 0,
        Big: (rights & 0x40_0000) != 0,
        Granular: (rights & 0x80_0000) != 0,
        Available: (rights & 0x10_0000) != 0,
        Base: 0,
        limit);
}

/// <summary>What the architecture leaves to a processor or its operating system and a payload can see.</summary>
/// <remarks>Taken from the host for live runs and from the case for replays; a model follows it, and so do undefined-bit masks.</remarks>
public sealed record CpuProfile
{
    /// <summary>Maker, which selects SDM or APM behaviour.</summary>
    public required CpuVendor Vendor { get; init; }

    /// <summary>Family number as CPUID shows it, extended family added in.</summary>
    public required int Family { get; init; }

    /// <summary>Bits of a linear address: 48 or 57.</summary>
    public int LinearBits { get; init; } = 48;

    /// <summary>CPUID features in the spelling of Iced's <c>CpuidFeature</c>, such as <c>BMI1</c>, <c>CMPXCHG16B</c> or <c>FSGSBASE</c>, where usable at CPL3.</summary>
    /// <remarks>Also <c>UMIP</c> and <c>AM</c> (CR0.AM is set, so EFLAGS.AC checks alignment), which are not in Iced's list.</remarks>
    public required ImmutableSortedSet<string> Features { get; init; }

    /// <summary>IDT vectors whose gate has DPL 3, so that <c>INT n</c> reaches them.</summary>
    public ImmutableSortedSet<byte> UserGates { get; init; } = [3, 4, 0x80];

    /// <summary>GDT descriptors by index; anything else is outside the limit or empty.</summary>
    public ImmutableArray<SegmentDescriptor> Descriptors { get; init; } = DefaultDescriptors;

    /// <summary>Limit of the GDT in bytes, as in GDTR.</summary>
    public ushort GdtLimit { get; init; } = 0x7f;

    /// <summary>What instructions read that differs from host to host. Empty for live runs: a model does not guess, and answers that it has no such form.</summary>
    public ImmutableSortedDictionary<Reading, ulong> Readings { get; init; } = ImmutableSortedDictionary<Reading, ulong>.Empty;

    /// <summary>Answers of CPUID, sorted by leaf and subleaf. Empty for live runs, as <see cref="Readings"/>.</summary>
    public ImmutableArray<CpuidLeaf> Cpuid { get; init; } = [];

    /// <summary>The five descriptors that every target offers.</summary>
    public static ImmutableArray<SegmentDescriptor> DefaultDescriptors { get; } =
    [
        new SegmentDescriptor(2, 0xb, System: false, 0, Present: true, Long: true, Big: false, Granular: true, Available: false, 0, uint.MaxValue),
        new SegmentDescriptor(3, 0x3, System: false, 0, Present: true, Long: false, Big: true, Granular: true, Available: false, 0, uint.MaxValue),
        new SegmentDescriptor(4, 0xb, System: false, 3, Present: true, Long: false, Big: true, Granular: true, Available: false, 0, uint.MaxValue),
        new SegmentDescriptor(5, 0x3, System: false, 3, Present: true, Long: false, Big: true, Granular: true, Available: false, 0, uint.MaxValue),
        new SegmentDescriptor(6, 0xb, System: false, 3, Present: true, Long: true, Big: false, Granular: true, Available: false, 0, uint.MaxValue),
    ];

    /// <summary>A recent AMD processor under a 64-bit Linux: what the model assumes when neither host nor case says otherwise.</summary>
    public static CpuProfile DefaultAmd { get; } = new()
    {
        Vendor = CpuVendor.Amd,
        Family = 25,
        Features =
        [
            "ADX", "AM", "BMI1", "BMI2", "CLFLUSHOPT", "CLFSH", "CLWB", "CLZERO", "CMOV", "CMPXCHG16B", "CX8", "FSGSBASE", "FXSR", "LZCNT", "MMX", "MOVBE", "MULTIBYTENOP",
            "OSXSAVE", "PAUSE", "POPCNT", "PREFETCHW", "RDPID", "RDRAND", "RDSEED", "RDTSCP", "SSE", "SSE2", "SSE3", "SSE4_2", "SYSCALL", "TSC", "UMIP", "XSAVE",
        ],
    };

    /// <summary>A recent Intel processor under a 64-bit Linux.</summary>
    public static CpuProfile DefaultIntel { get; } = DefaultAmd with
    {
        Vendor = CpuVendor.Intel,
        Family = 6,
        Features = DefaultAmd.Features.Remove("CLZERO").Add("SEP"),
    };

    /// <summary>True when the named feature can be used at CPL3.</summary>
    public bool Has(string feature) => Features.Contains(feature);

    /// <inheritdoc/>
    public bool Equals(CpuProfile? other) =>
        ReferenceEquals(this, other)
        || (other is not null && Vendor == other.Vendor && Family == other.Family && LinearBits == other.LinearBits && GdtLimit == other.GdtLimit
            && Features.SetEquals(other.Features) && UserGates.SetEquals(other.UserGates) && Descriptors.AsSpan().SequenceEqual(other.Descriptors.AsSpan())
            && Readings.SequenceEqual(other.Readings) && Cpuid.AsSpan().SequenceEqual(other.Cpuid.AsSpan()));

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Vendor, Family, LinearBits, Features.Count, UserGates.Count, Descriptors.Length);
}
