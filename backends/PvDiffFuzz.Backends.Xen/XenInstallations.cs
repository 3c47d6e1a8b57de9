using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Where to look for QEMU and Xen, and what to start.</summary>
public sealed record XenOptions
{
    /// <summary>Folder as <c>ci/install-xen</c> fills it; null for none.</summary>
    public string? Folder { get; init; }

    /// <summary>The program QEMU; null to take the folder's, else the first in <see cref="ProgramFolders"/>.</summary>
    public string? Qemu { get; init; }

    /// <summary>Folders in which programs of this machine lie.</summary>
    public IReadOnlyList<string> ProgramFolders { get; init; } = [];

    /// <summary>Images of Xen, as files named <c>xen-VERSION-...</c> or as <c>VERSION=FILE</c>; empty for all in the folder.</summary>
    public IReadOnlyList<string> Images { get; init; } = [];

    /// <summary>QEMU's name of the processor.</summary>
    public string CpuModel { get; init; } = XenInstallation.DefaultCpuModel;

    /// <summary>QEMU's name of what executes: <c>tcg</c> or <c>kvm</c>.</summary>
    public string Accelerator { get; init; } = "tcg";
}

/// <summary>The Xens that can be targets, by the names of these.</summary>
public sealed class XenInstallations
{
    /// <summary>Name of the target that is the first of the others.</summary>
    public const string Any = "xen";

    private const string Prefix = "xen:";
    private const string Program = "qemu-system-x86_64";

    private readonly XenOptions _options;
    private readonly ImmutableSortedDictionary<string, string> _images;

    /// <summary>Looks for images.</summary>
    /// <param name="options">Where.</param>
    /// <exception cref="FormatException">An image is given without a version, or two have the same one.</exception>
    public XenInstallations(XenOptions options)
    {
        ArgumentNullException.ThrowIfNull(options);
        _options = options;
        ImmutableSortedDictionary<string, string>.Builder images = ImmutableSortedDictionary.CreateBuilder<string, string>(StringComparer.Ordinal);
        foreach (string image in options.Images)
        {
            int equals = image.IndexOf('=', StringComparison.Ordinal);
            string version = equals >= 0 ? image[..equals] : VersionOf(image) ?? throw new FormatException($"{image}: its name does not tell its version; write VERSION={image}");
            if (!images.TryAdd(Prefix + version, image[(equals + 1)..]))
            {
                throw new FormatException($"{image}: there is another image of version {version}");
            }
        }

        if (options.Images.Count == 0 && options.Folder is string folder && Directory.Exists(folder))
        {
            foreach (string image in Directory.EnumerateDirectories(folder).SelectMany(d => Directory.Exists(Path.Combine(d, "boot")) ? Directory.EnumerateFiles(Path.Combine(d, "boot"), "xen-*.gz") : []).Order(StringComparer.Ordinal))
            {
                if (VersionOf(image) is string version && !File.GetAttributes(image).HasFlag(FileAttributes.ReparsePoint))
                {
                    images.TryAdd(Prefix + version, image);
                }
            }
        }

        _images = images.ToImmutable();
    }

    /// <summary>Names of targets: one for each version, such as <c>xen:4.17</c>; <see cref="Any"/> alone when none was found.</summary>
    public IEnumerable<string> Names => _images.IsEmpty ? [Any] : _images.Keys;

    /// <summary>True for a name of these targets, also when nothing was found that it could name.</summary>
    public static bool IsName(string name)
    {
        ArgumentNullException.ThrowIfNull(name);
        return name == Any || name.StartsWith(Prefix, StringComparison.Ordinal);
    }

    /// <summary>True for a name that <see cref="Find"/> knows.</summary>
    public bool Knows(string name) => name == Any || _images.ContainsKey(name);

    /// <summary>What a target is to start.</summary>
    /// <param name="name">A name of <see cref="Names"/>, or <see cref="Any"/>.</param>
    /// <exception cref="TargetUnavailableException">There is no such image, or no QEMU.</exception>
    public XenInstallation Find(string name)
    {
        string? image = name == Any ? _images.Values.FirstOrDefault() : _images.GetValueOrDefault(name);
        if (image is null || !File.Exists(image))
        {
            throw new TargetUnavailableException(image is null ? $"there is no Xen image{(_options.Folder is null ? "" : $" in {_options.Folder}")}" : $"{image}: there is no such Xen image", XenInstallation.Cure);
        }

        if (_options.Qemu is string given)
        {
            return File.Exists(given) ? Of(given, image) : throw new TargetUnavailableException($"{given}: there is no such QEMU", XenInstallation.Cure);
        }

        if (_options.Folder is string folder && File.Exists(Path.Combine(folder, "qemu/usr/bin", Program)))
        {
            string root = Path.Combine(folder, "qemu");
            return Of(Path.Combine(root, "usr/bin", Program), image) with
            {
                QemuDataFolders = [Path.Combine(root, "usr/share/qemu"), Path.Combine(root, "usr/share/seabios")],
                QemuLibraryFolders = [Path.Combine(root, "usr/lib/x86_64-linux-gnu"), Path.Combine(root, "lib/x86_64-linux-gnu")],
            };
        }

        string? found = _options.ProgramFolders.Select(f => Path.Combine(f, Program)).FirstOrDefault(File.Exists);
        return found is not null ? Of(found, image) : throw new TargetUnavailableException("there is no QEMU", XenInstallation.Cure);
    }

    private static string? VersionOf(string image)
    {
        string name = Path.GetFileName(image);
        return name.StartsWith("xen-", StringComparison.Ordinal) && VersionText.Leading(name.AsSpan(4), least: 2) is [int major, int minor, _] ? $"{major}.{minor}" : null;
    }

    private XenInstallation Of(string qemu, string image) => new(qemu, image, _options.CpuModel) { Accelerator = _options.Accelerator };
}
