using System.Globalization;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Descriptors that a QEMU of ours is started with.</summary>
internal static class QemuDescriptors
{
    /// <summary>Standard output and error: the console of Xen and what QEMU says.</summary>
    public const int Console = 1;

    /// <summary>Read end of the pipe whose closing kills QEMU.</summary>
    public const int Lifeline = 3;

    /// <summary>The monitor.</summary>
    public const int Monitor = 4;

    /// <summary>The guest's RAM.</summary>
    public const int Ram = 5;

    /// <summary>The disk image with the snapshot.</summary>
    public const int Snapshot = 6;

    /// <summary>Xen, uncompressed.</summary>
    public const int Xen = 7;

    /// <summary>Our kernel.</summary>
    public const int Kernel = 8;

    /// <summary>A descriptor as the name of a file.</summary>
    public static string Path(int descriptor) => string.Create(CultureInfo.InvariantCulture, $"/dev/fd/{descriptor}");
}

/// <summary>The command line by which QEMU boots Xen with a kernel of ours as its dom0.</summary>
internal static class QemuCommandLine
{
    /// <summary>Megabytes of the machine.</summary>
    public const int RamMegabytes = 192;

    /// <summary>Megabytes of dom0.</summary>
    public const int DomainMegabytes = 128;

    /// <summary>Name of the snapshot.</summary>
    public const string SnapshotTag = "ready";

    /// <summary>
    /// What Xen is told. Without <c>noreboot</c>, so that a crash of dom0 shows, and without <c>sync_console</c>, which is slow. Dom0 is granted no port, like any other domain: what is behind a port is no part
    /// of a case, and a payload that writes to one could reset the machine.
    /// </summary>
    public static readonly string XenArguments = string.Create(
        CultureInfo.InvariantCulture,
        $"console=com1 com1=115200,8n1 loglvl=all guest_loglvl=all dom0_mem={DomainMegabytes}M dom0_max_vcpus=1 dom0_ioports_disable=0-ffff cpufreq=none");

    /// <summary>The arguments, argument 0 first.</summary>
    /// <param name="installation">What is started.</param>
    public static IReadOnlyList<string> Of(XenInstallation installation)
    {
        List<string> arguments = [installation.Qemu];
        foreach (string folder in installation.QemuDataFolders)
        {
            arguments.AddRange(["-L", folder]);
        }

        arguments.AddRange(
        [
            "-nodefaults",
            "-no-user-config",
            "-machine", "q35,memory-backend=ram,vmport=off",
            "-accel", installation.Accelerator,
            "-cpu", installation.CpuModel,
            "-m", $"{RamMegabytes}M",
            "-object", $"memory-backend-file,id=ram,size={RamMegabytes}M,mem-path={QemuDescriptors.Path(QemuDescriptors.Ram)},share=on",
            "-drive", $"if=none,id=snapshots,format=qcow2,file={QemuDescriptors.Path(QemuDescriptors.Snapshot)}",
            "-chardev", $"socket,id=monitor,fd={QemuDescriptors.Monitor}",
            "-mon", "chardev=monitor,mode=control",
            "-display", "none",
            "-serial", "stdio",

            // A machine that resets stays as it is until its snapshot is loaded.
            "-action", "reboot=shutdown,shutdown=pause",
            "-kernel", QemuDescriptors.Path(QemuDescriptors.Xen),
            "-initrd", QemuDescriptors.Path(QemuDescriptors.Kernel),
            "-append", XenArguments,
        ]);
        return arguments;
    }
}
