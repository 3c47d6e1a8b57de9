using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Native;

/// <summary>What this host can do, as the target needs it.</summary>
internal sealed record HostFacts
{
    /// <summary>True when RDFSBASE and its relatives can be used.</summary>
    public required bool SegmentBases { get; init; }

    /// <summary>The lowest address that a process can map.</summary>
    public required ulong LowestAddress { get; init; }

    /// <summary>What the target says of itself.</summary>
    public required TargetInfo Info { get; init; }

    /// <summary>The facts of the host that this process runs on.</summary>
    /// <exception cref="TargetUnavailableException">It cannot run the target.</exception>
    public static HostFacts OfThisHost()
    {
        NativeTarget.RequirePlatform();
        return new HostFacts
        {
            SegmentBases = (LibCMore.getauxval(LinuxAbi.AT_HWCAP2) & LinuxAbi.HWCAP2_FSGSBASE) != 0,
            LowestAddress = 0x10000,
            Info = new TargetInfo("native", TargetKind.Hardware, "hardware", Capabilities.CompatibilityMode, Fingerprint.Empty),
        };
    }

    /// <summary>Tells why this host cannot run a case.</summary>
    /// <returns>Null when it can.</returns>
    public string? Trouble(TestCase testCase) => null;

    /// <summary>Looks at an outcome before it goes out.</summary>
    public Outcome Review(TestCase testCase, Outcome outcome, ulong vdso) => outcome;
}
