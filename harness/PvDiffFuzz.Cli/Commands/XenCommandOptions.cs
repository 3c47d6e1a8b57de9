using System.CommandLine;
using PvDiffFuzz.Backends.Xen;

namespace PvDiffFuzz.Cli.Commands;

/// <summary>Options of every command that say which Xen and which QEMU the targets <c>xen</c> start.</summary>
internal sealed class XenCommandOptions
{
    private readonly Option<string?> _folder = new("--xen-folder") { Description = "Folder with QEMU and Xen as ci/install-xen fills it; default: .cache/packages/xen of the checkout.", Recursive = true };
    private readonly Option<string?> _qemu = new("--xen-qemu") { Description = "The program QEMU, version 8 or newer.", Recursive = true };

    private readonly Option<string[]> _images = new("--xen-image")
    {
        Description = "An image of Xen for the target xen:VERSION, as a file named xen-VERSION-... or as VERSION=FILE; may be given several times.",
        Recursive = true,
    };

    private readonly Option<string> _cpu = new("--xen-cpu")
    {
        Description = "The processor that QEMU emulates, by QEMU's name, such as Skylake-Client for one with SYSENTER.",
        DefaultValueFactory = _ => XenInstallation.DefaultCpuModel,
        Recursive = true,
    };

    private readonly Option<string> _accelerator = new("--xen-accel") { Description = "What executes: tcg or kvm.", DefaultValueFactory = _ => "tcg", Recursive = true };

    /// <summary>Adds the options to the root of all commands.</summary>
    public void AddTo(RootCommand root)
    {
        _accelerator.AcceptOnlyFromAmong("tcg", "kvm");
        foreach (Option option in (ReadOnlySpan<Option>)[_folder, _qemu, _images, _cpu, _accelerator])
        {
            root.Add(option);
        }
    }

    /// <summary>What was given, or the defaults.</summary>
    public XenOptions Read(ParseResult parsed) => Default with
    {
        Folder = parsed.GetValue(_folder) ?? Default.Folder,
        Qemu = parsed.GetValue(_qemu),
        Images = parsed.GetValue(_images) ?? [],
        CpuModel = parsed.GetValue(_cpu)!,
        Accelerator = parsed.GetValue(_accelerator)!,
    };

    /// <summary>What is looked at when nothing is given.</summary>
    public static XenOptions Default => new()
    {
        Folder = Session.Checkout() is string root ? Path.Combine(root, ".cache", "packages", "xen") : null,
        ProgramFolders = (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries),
    };
}
