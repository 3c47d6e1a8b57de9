using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm.Emulated;

/// <summary>A PVM host that QEMU boots.</summary>
/// <param name="Name">The target's name, such as <c>pvm:rfc1</c>.</param>
/// <param name="Kernel">File of its kernel, in the form that a boot loader takes.</param>
/// <param name="Qemu">The program QEMU.</param>
public sealed record EmulatedHostOptions(string Name, string Kernel, string Qemu)
{
    /// <summary>QEMU's name of the processor when nothing else is asked for. PVM hosts with SMAP would need a kernel that handles it in the switcher.</summary>
    public const string DefaultCpuModel = "max,-smap";

    /// <summary>What a person can do when something is missing.</summary>
    internal const string Cure = "give a kernel whose KVM implements the PVM guest ABI with --pvm-image and QEMU with --pvm-qemu, or run ci/install-xen for QEMU; docs/pvm-host.md tells what kernel that is";

    /// <summary>QEMU's name of the processor.</summary>
    public string CpuModel { get; init; } = DefaultCpuModel;

    /// <summary>QEMU's name of what executes: <c>tcg</c> or <c>kvm</c>.</summary>
    public string Accelerator { get; init; } = "tcg";

    /// <summary>Folders with QEMU's firmware, in which it looks besides its own.</summary>
    public IReadOnlyList<string> DataFolders { get; init; } = [];

    /// <summary>Folders with QEMU's libraries, in which the loader looks before the system's.</summary>
    public IReadOnlyList<string> LibraryFolders { get; init; } = [];

    private const string Program = "qemu-system-x86_64";

    /// <summary>A host with the QEMU that is at hand.</summary>
    /// <param name="name">The target's name.</param>
    /// <param name="kernel">File of its kernel.</param>
    /// <param name="folder">Folder with unpacked packages of QEMU; null for none.</param>
    /// <param name="programFolders">Folders in which programs of this machine lie, for when there is none in the other.</param>
    public static EmulatedHostOptions With(string name, string kernel, string? folder, IEnumerable<string> programFolders)
    {
        if (folder is not null && File.Exists(Path.Combine(folder, "usr/bin", Program)))
        {
            return new EmulatedHostOptions(name, kernel, Path.Combine(folder, "usr/bin", Program))
            {
                DataFolders = [Path.Combine(folder, "usr/share/qemu"), Path.Combine(folder, "usr/share/seabios")],
                LibraryFolders = [Path.Combine(folder, "usr/lib/x86_64-linux-gnu"), Path.Combine(folder, "lib/x86_64-linux-gnu")],
            };
        }

        return new EmulatedHostOptions(name, kernel, programFolders.Select(f => Path.Combine(f, Program)).FirstOrDefault(File.Exists) ?? Program);
    }

    /// <summary>Throws when a file is missing.</summary>
    /// <exception cref="TargetUnavailableException">There is no such kernel, or no such program.</exception>
    internal void Check()
    {
        foreach ((string what, string file) in (ReadOnlySpan<(string, string)>)[("kernel", Kernel), ("QEMU", Qemu)])
        {
            if (!File.Exists(file))
            {
                throw new TargetUnavailableException($"{file}: there is no such {what}", Cure);
            }
        }
    }
}
