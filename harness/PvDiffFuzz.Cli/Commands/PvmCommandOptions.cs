using System.CommandLine;
using PvDiffFuzz.Backends.Pvm.Emulated;

namespace PvDiffFuzz.Cli.Commands;

/// <summary>Options of every command that name PVM hosts which are booted under QEMU, each a target of its own.</summary>
internal sealed class PvmCommandOptions
{
    private const string Prefix = "pvm:";

    private readonly Option<string[]> _images = new("--pvm-image")
    {
        Description = "Kernel of a PVM host for the target pvm:NAME, as NAME=FILE; it is booted under QEMU. May be given several times.",
        Recursive = true,
    };

    private readonly Option<string?> _qemu = new("--pvm-qemu") { Description = "The program QEMU for --pvm-image; default: that of ci/install-xen, else the one on the path.", Recursive = true };

    private readonly Option<string> _cpu = new("--pvm-cpu")
    {
        Description = "The processor that QEMU emulates for PVM hosts, by QEMU's name.",
        DefaultValueFactory = _ => EmulatedHostOptions.DefaultCpuModel,
        Recursive = true,
    };

    private readonly Option<string> _accelerator = new("--pvm-accel") { Description = "What executes PVM hosts: tcg or kvm.", DefaultValueFactory = _ => "tcg", Recursive = true };

    /// <summary>Adds the options to the root of all commands.</summary>
    public void AddTo(RootCommand root)
    {
        _accelerator.AcceptOnlyFromAmong("tcg", "kvm");
        foreach (Option option in (ReadOnlySpan<Option>)[_images, _qemu, _cpu, _accelerator])
        {
            root.Add(option);
        }
    }

    /// <summary>The hosts that were named.</summary>
    /// <exception cref="UsageException">One has no name, or two have the same.</exception>
    public IReadOnlyList<EmulatedHostOptions> Read(ParseResult parsed)
    {
        List<EmulatedHostOptions> hosts = [];
        foreach (string image in parsed.GetValue(_images) ?? [])
        {
            int equals = image.IndexOf('=', StringComparison.Ordinal);
            string name = equals > 0 ? Prefix + image[..equals] : throw new UsageException($"--pvm-image {image}: write NAME=FILE, such as rfc1={image}");
            if (hosts.Exists(h => h.Name == name))
            {
                throw new UsageException($"--pvm-image {image}: there is another host of that name");
            }

            hosts.Add(WithQemu(name, image[(equals + 1)..], parsed.GetValue(_qemu)) with { CpuModel = parsed.GetValue(_cpu)!, Accelerator = parsed.GetValue(_accelerator)! });
        }

        return hosts;
    }

    /// <summary>The QEMU that was given, that of the checkout's packages, or the first on the path.</summary>
    private static EmulatedHostOptions WithQemu(string name, string kernel, string? given)
    {
        if (given is not null)
        {
            return new EmulatedHostOptions(name, kernel, given);
        }

        string? packages = Session.Checkout() is string checkout ? Path.Combine(checkout, ".cache", "packages", "xen", "qemu") : null;
        return EmulatedHostOptions.With(name, kernel, packages, (Environment.GetEnvironmentVariable("PATH") ?? "").Split(':', StringSplitOptions.RemoveEmptyEntries));
    }
}
