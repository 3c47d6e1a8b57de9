using System.IO.Compression;
using System.Text;
using Microsoft.Win32.SafeHandles;
using PvDiffFuzz.Backends.Interop;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>A QEMU of ours with all that belongs to it. Nothing of it has a name in a file system, so nothing can be left behind.</summary>
/// <remarks>
/// RAM, snapshot, console, Xen and kernel are anonymous files in memory. QEMU holds the read end of a pipe whose closing kills it; the write end closes with this process, however it ends.
/// </remarks>
internal sealed unsafe class QemuProcess : IDisposable
{
    /// <summary>Bytes that a console has at most while Xen boots.</summary>
    public const int WholeBoot = 1 << 16;

    private const int LastLines = 4000;

    private readonly List<IDisposable> _owned = [];
    private readonly SafeFileHandle _console;
    private readonly ChildProcess _child;

    private QemuProcess(XenInstallation installation, ReadOnlySpan<byte> kernel)
    {
        try
        {
            SafeFileHandle xen = Own(Memfd.CreateSealed("pvdf-xen", ReadImage(installation.Image)));
            SafeFileHandle elf = Own(Memfd.CreateSealed("pvdf-xen-kernel", kernel));
            SafeFileHandle ram = Own(Memfd.Create("pvdf-xen-ram", executable: false));
            Memfd.Resize(ram, (long)QemuCommandLine.RamMegabytes << 20);
            SafeFileHandle snapshot = Own(Memfd.Create("pvdf-xen-snapshot", executable: false));
            RandomAccess.Write(snapshot, Qcow2Image.Empty(), 0);
            if (installation.SnapshotLimit is long limit)
            {
                Memfd.SealSize(snapshot, limit);
            }

            _console = Own(Memfd.Create("pvdf-xen-console", executable: false));
            SafeFileHandle nothing = Own(File.OpenHandle("/dev/null", FileMode.Open, FileAccess.ReadWrite));
            (SafeFileHandle lifeline, SafeFileHandle held) = Fd.Pipe();
            Own(lifeline);
            Own(held);
            (SafeFileHandle monitor, SafeFileHandle theirs) = Fd.SocketPair();
            Monitor = Own(new QmpMonitor(monitor));

            // SAFETY: the mapping is released with this object, and nobody keeps the pointer beyond it.
            Memory = Own(SafeMapping.Shared(ram, (ulong)QemuCommandLine.RamMegabytes << 20)).Start;
            using (theirs)
            {
                _child = Own(Start(installation, nothing, _console, _console, lifeline, theirs, ram, snapshot, xen, elf));
            }

            Fd.KillWhenClosed(lifeline, _child.Id);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The machine's RAM: the byte at an offset is the byte at that machine address.</summary>
    public byte* Memory { get; }

    /// <summary>The monitor.</summary>
    public QmpMonitor Monitor { get; }

    /// <summary>Process id of QEMU.</summary>
    public int Id => _child.Id;

    /// <summary>How QEMU ended; null while it runs.</summary>
    public string? Ended => _child.Ended(wait: false);

    /// <summary>Processor time that QEMU has used, in nanoseconds.</summary>
    public long CpuNanoseconds => _child.CpuNanoseconds();

    /// <summary>Bytes that the console has had so far; 0 after <see cref="ForgetConsole"/>, until there are more.</summary>
    public long ConsoleLength => RandomAccess.GetLength(_console);

    /// <summary>Starts QEMU.</summary>
    /// <param name="installation">What to start.</param>
    /// <param name="kernel">The kernel, an ELF file.</param>
    /// <exception cref="PosixException">A call failed: QEMU cannot be executed, or this process has not enough memory or descriptors.</exception>
    /// <exception cref="IOException">The image of Xen cannot be read.</exception>
    public static QemuProcess Start(XenInstallation installation, ReadOnlySpan<byte> kernel) => new(installation, kernel);

    /// <summary>The last of what Xen and QEMU have said.</summary>
    /// <param name="longest">Most bytes.</param>
    public string ReadConsole(int longest = LastLines)
    {
        long length = ConsoleLength;
        byte[] last = new byte[Math.Min(length, longest)];
        int count = RandomAccess.Read(_console, last, length - last.Length);
        return Encoding.ASCII.GetString(last, 0, count).Replace("\0", string.Empty, StringComparison.Ordinal);
    }

    /// <summary>Forgets what was said, so that a long run does not fill memory. QEMU goes on writing where it was.</summary>
    public void ForgetConsole() => Memfd.Resize(_console, 0);

    /// <inheritdoc/>
    public void Dispose()
    {
        for (int i = _owned.Count - 1; i >= 0; i--)
        {
            _owned[i].Dispose();
        }

        _owned.Clear();
    }

    private static ChildProcess Start(XenInstallation installation, params ReadOnlySpan<SafeFileHandle> descriptors)
    {
        IReadOnlyCollection<string> environment = installation.QemuLibraryFolders.Count == 0 ? [] : [$"LD_LIBRARY_PATH={string.Join(':', installation.QemuLibraryFolders)}"];
        return ChildProcess.Spawn(installation.Qemu, QemuCommandLine.Of(installation), environment, descriptors);
    }

    /// <summary>Reads Xen, uncompressed: QEMU's loader takes an ELF file only.</summary>
    private static byte[] ReadImage(string path)
    {
        byte[] bytes = File.ReadAllBytes(path);
        if (bytes is not [0x1f, 0x8b, ..])
        {
            return bytes;
        }

        using MemoryStream plain = new();
        using (GZipStream zip = new(new MemoryStream(bytes), CompressionMode.Decompress))
        {
            zip.CopyTo(plain);
        }

        return plain.ToArray();
    }

    private T Own<T>(T resource)
        where T : IDisposable
    {
        _owned.Add(resource);
        return resource;
    }
}
