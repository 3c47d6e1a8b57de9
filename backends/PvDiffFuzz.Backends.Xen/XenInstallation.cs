using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Files and choices by which a Xen is started.</summary>
/// <param name="Qemu">The program QEMU.</param>
/// <param name="Image">Xen, as the distribution ships it (compressed by gzip) or uncompressed.</param>
/// <param name="CpuModel">QEMU's name of the processor.</param>
public sealed record XenInstallation(string Qemu, string Image, string CpuModel)
{
    /// <summary>An AMD processor, the one that records were taken with, and the instructions for segment bases.</summary>
    public const string DefaultCpuModel = "qemu64,+fsgsbase";

    /// <summary>Folders with the firmware that QEMU needs; empty when it finds them itself.</summary>
    public IReadOnlyList<string> QemuDataFolders { get; init; } = [];

    /// <summary>Folders with the libraries that QEMU needs; empty when it finds them itself.</summary>
    public IReadOnlyList<string> QemuLibraryFolders { get; init; } = [];

    /// <summary>What executes the guest's instructions.</summary>
    public string Accelerator { get; init; } = "tcg";

    /// <summary>Most bytes of the snapshot, for tests of what happens when there is no room for it; null for as many as it takes.</summary>
    internal long? SnapshotLimit { get; init; }

    /// <summary>True when the processor has the instructions for segment bases, as far as its name tells.</summary>
    internal bool HasSegmentBases => CpuModel.Contains("+fsgsbase", StringComparison.Ordinal) || !CpuModel.StartsWith("qemu64", StringComparison.Ordinal);

    /// <summary>What executed: see <see cref="TargetInfo.Lineage"/>.</summary>
    internal string Lineage => Accelerator == Emulation ? Emulation : "hardware";

    /// <summary>The accelerator that emulates, and its lineage.</summary>
    private const string Emulation = "tcg";

    /// <summary>What a person can do when it does not work.</summary>
    public const string Cure = "run ci/install-xen, or give a QEMU of version 8 or newer and a Xen image by path, see docs/xen.md";
}
