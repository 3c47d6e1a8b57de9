using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen.Tests;

/// <summary>Finding QEMU and Xen, and what is said when they are not there or not usable.</summary>
public sealed class InstallationTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pvdf-xen-tests").FullName;

    /// <inheritdoc/>
    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)", 10, 0, 2)]
    [InlineData("QEMU emulator version 8.2.0\nCopyright", 8, 2, 0)]
    public void AVersionOfQemuIsRead(string text, int major, int minor, int patch) => Assert.Equal(new QemuVersion(major, minor, patch), QemuVersion.Parse(text));

    [Theory]
    [InlineData("")]
    [InlineData("bash, version 5.2")]
    [InlineData("QEMU emulator version ten")]
    [InlineData("QEMU emulator version 10.0")]
    public void WhatIsNoVersionOfQemuIsNull(string text) => Assert.Null(QemuVersion.Parse(text));

    /// <summary>QEMU 7.2 is Debian 12's own, and the reason is what a person needs to know.</summary>
    [Fact]
    public void AnOldQemuIsRefusedWithTheReason()
    {
        Assert.Null(new QemuVersion(8, 0, 0).Trouble);

        string trouble = new QemuVersion(7, 2, 18).Trouble!;

        Assert.Contains("7.2.18 is older than 8", trouble, StringComparison.Ordinal);
        Assert.Contains("error codes of INT n", trouble, StringComparison.Ordinal);
    }

    [Theory]
    [InlineData("(XEN) Xen version 4.17.7 (Debian 4.17.7+13-g2445b30a44-0+deb12u1) (pkg) (gcc 12) debug=n Mon", "4.17.7", "4.17.7")]
    [InlineData("x\n(XEN) Xen version 4.20.5-pre (Debian 4.20.4+63) (pkg) (gcc) debug=n\ny", "4.20.5", "4.20.5-pre")]
    [InlineData("Xen version 4.21-rc (me) (gcc) debug=y", "4.21.0+debug", "4.21-rc")]
    public void AVersionOfXenIsFoundOnItsConsole(string console, string version, string text)
    {
        XenBanner? banner = XenBanner.Find(console);

        Assert.Equal(version, banner?.Version.ToString());
        Assert.Equal(text, banner?.Text);
    }

    [Theory]
    [InlineData("")]
    [InlineData("Linux version 6.12")]
    [InlineData("Xen version four")]
    public void AConsoleWithoutAVersionOfXenIsNull(string console) => Assert.Null(XenBanner.Find(console));

    /// <summary>Each image that ci/install-xen has unpacked is a target, and `xen` is the first of them.</summary>
    [Fact]
    public void ImagesOfAFolderAreTargetsByVersion()
    {
        Touch("4.20/boot/xen-4.20-amd64.gz");
        Touch("4.17/boot/xen-4.17-amd64.gz");
        Touch("4.17/boot/xen-4.17-amd64.config");
        string qemu = Touch("qemu/usr/bin/qemu-system-x86_64");
        XenInstallations installations = new(new XenOptions { Folder = _folder });

        Assert.Equal(["xen:4.17", "xen:4.20"], installations.Names);
        XenInstallation any = installations.Find("xen");
        Assert.Equal(Path.Combine(_folder, "4.17/boot/xen-4.17-amd64.gz"), any.Image);
        Assert.Equal(qemu, any.Qemu);
        Assert.Contains(Path.Combine(_folder, "qemu/usr/share/seabios"), any.QemuDataFolders);
        Assert.True(installations.Knows("xen:4.20"));
        Assert.False(installations.Knows("xen:4.19"));
    }

    /// <summary>What is given by path is used instead; the version is the file's name or stands before it.</summary>
    [Fact]
    public void ImagesGivenByPathAreUsedInstead()
    {
        Touch("4.17/boot/xen-4.17-amd64.gz");
        string mine = Touch("mine");
        string other = Touch("xen-4.21.1-custom");
        string qemu = Touch("bin/qemu-system-x86_64");
        XenInstallations installations = new(new XenOptions { Folder = _folder, Images = [$"4.19-debug={mine}", other], ProgramFolders = [Path.Combine(_folder, "bin")], CpuModel = "Skylake-Client" });

        Assert.Equal(["xen:4.19-debug", "xen:4.21"], installations.Names);
        Assert.Equal(new XenInstallation(qemu, mine, "Skylake-Client"), installations.Find("xen:4.19-debug") with { QemuDataFolders = [], QemuLibraryFolders = [] }, InstallationComparer);
    }

    [Fact]
    public void AnImageWithoutAVersionIsRefused()
    {
        FormatException trouble = Assert.Throws<FormatException>(() => new XenInstallations(new XenOptions { Images = ["/boot/hypervisor"] }));

        Assert.Contains("VERSION=/boot/hypervisor", trouble.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void WhatIsMissingIsNamedWithTheCure()
    {
        TargetUnavailableException noImage = Assert.Throws<TargetUnavailableException>(() => new XenInstallations(new XenOptions { Folder = _folder }).Find("xen"));
        Assert.Contains($"no Xen image in {_folder}", noImage.Message, StringComparison.Ordinal);
        Assert.Contains("ci/install-xen", noImage.Cure, StringComparison.Ordinal);

        Touch("4.17/boot/xen-4.17-amd64.gz");
        TargetUnavailableException noQemu = Assert.Throws<TargetUnavailableException>(() => new XenInstallations(new XenOptions { Folder = _folder }).Find("xen"));
        Assert.Contains("no QEMU", noQemu.Message, StringComparison.Ordinal);
    }

    /// <summary>A file that is no program, and a program that is no QEMU.</summary>
    [Theory]
    [InlineData("/etc/passwd", "cannot be executed")]
    [InlineData("/bin/true", "is no QEMU")]
    public void AProgramThatIsNoQemuIsRefused(string program, string reason)
    {
        TargetUnavailableException trouble = Assert.Throws<TargetUnavailableException>(() => QemuVersion.Ask(new XenInstallation(program, "xen", "qemu64")));

        Assert.Contains(reason, trouble.Message, StringComparison.Ordinal);
    }

    /// <summary>What must stand on the command line: the shared RAM, a machine that stays when it resets, Xen and its first module, and no disk file with a name.</summary>
    [Fact]
    public void TheCommandLineNamesNoFileButThoseOfTheInstallation()
    {
        XenInstallation installation = new("/q/qemu", "/x/xen.gz", "qemu64,+fsgsbase") { QemuDataFolders = ["/q/share"] };

        IReadOnlyList<string> arguments = QemuCommandLine.Of(installation);

        Assert.Equal("/q/qemu", arguments[0]);
        Assert.Equal(["/q/share"], arguments.Zip(arguments.Skip(1)).Where(p => p.First == "-L").Select(p => p.Second));
        Assert.Contains("memory-backend-file,id=ram,size=192M,mem-path=/dev/fd/5,share=on", arguments);
        Assert.Contains("reboot=shutdown,shutdown=pause", arguments);
        Assert.Contains("qemu64,+fsgsbase", arguments);
        Assert.DoesNotContain(arguments, a => a.Contains("/tmp", StringComparison.Ordinal) || a.Contains("/x/", StringComparison.Ordinal));
        Assert.DoesNotContain("noreboot", QemuCommandLine.XenArguments, StringComparison.Ordinal);
        Assert.DoesNotContain("sync_console", QemuCommandLine.XenArguments, StringComparison.Ordinal);
    }

    private static IEqualityComparer<XenInstallation> InstallationComparer { get; } =
        EqualityComparer<XenInstallation>.Create((a, b) => a!.Qemu == b!.Qemu && a.Image == b.Image && a.CpuModel == b.CpuModel);

    private string Touch(string name)
    {
        string path = Path.Combine(_folder, name);
        Directory.CreateDirectory(Path.GetDirectoryName(path)!);
        File.WriteAllText(path, string.Empty);
        return path;
    }
}
