using System.Diagnostics;
using System.Globalization;
using System.Text;
using Microsoft.Win32.SafeHandles;
using PvDiffFuzz.Backends.Interop;

namespace PvDiffFuzz.Backends.Pvm.Emulated;

/// <summary>QEMU with a PVM host in it. Nothing of it has a name in a file system; it is killed when this process ends, however it ends.</summary>
internal sealed class EmulatedMachine : IDisposable
{
    /// <summary>Megabytes of the host: for seven lanes with some machines each.</summary>
    private const int RamMegabytes = 1024;

    private const int ConsoleDescriptor = 1;
    private const int RamDescriptor = 4;
    private const int InitramfsDescriptor = 5;
    private const int LastLines = 1200;
    private const int WholeConsole = 256 << 10;
    private const int MostSpins = 1;

    /// <summary>Microseconds of the first sleep, to which the kernel adds some fifty. Each is twice as long as the one before until it is as long as what lanes keep a host busy with.</summary>
    private const int ShortestNap = 40;

    private const int MostDoublings = 4;

    /// <summary>How long a host may be silent. A program takes milliseconds, more where the machine is busy.</summary>
    private static readonly TimeSpan LongestSilence = TimeSpan.FromSeconds(20);

    private readonly List<IDisposable> _owned = [];
    private readonly SafeFileHandle _console;
    private readonly ChildProcess _child;
    private long _silentSince;
    private EmulatedHostException? _lost;

    /// <summary>Starts QEMU.</summary>
    /// <param name="options">What to start.</param>
    /// <exception cref="PosixException">QEMU cannot be executed, or this process has not enough memory or descriptors.</exception>
    public EmulatedMachine(EmulatedHostOptions options)
    {
        try
        {
            SafeFileHandle initramfs = Own(Memfd.CreateSealed("pvdf-pvm-initramfs", Initramfs.Write(ServerCode.Image())));
            Ram = Own(Memfd.Create("pvdf-pvm-ram", executable: false));
            Memfd.Resize(Ram, (long)RamMegabytes << 20);
            _console = Own(Memfd.Create("pvdf-pvm-console", executable: false));
            SafeFileHandle nothing = Own(File.OpenHandle("/dev/null", FileMode.Open, FileAccess.ReadWrite));
            (SafeFileHandle lifeline, SafeFileHandle held) = Fd.Pipe();
            Own(lifeline);
            Own(held);
            string[] environment = options.LibraryFolders.Count == 0 ? [] : [$"LD_LIBRARY_PATH={string.Join(':', options.LibraryFolders)}"];
            _child = Own(ChildProcess.Spawn(options.Qemu, Arguments(options), environment, nothing, _console, _console, lifeline, Ram, initramfs));
            Fd.KillWhenClosed(lifeline, _child.Id);
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>The RAM: the byte at an offset is the byte at that physical address of the host.</summary>
    public SafeFileHandle Ram { get; }

    /// <summary>How QEMU ended; null while it runs.</summary>
    public string? Ended => _child.Ended(wait: false);

    /// <summary>Processor time that QEMU has used, in nanoseconds.</summary>
    public long CpuNanoseconds => _child.CpuNanoseconds();

    /// <summary>The last of what the host and QEMU have said.</summary>
    public string Console() => Console(LastLines);

    private string Console(int most)
    {
        long length = RandomAccess.GetLength(_console);
        byte[] last = new byte[Math.Min(length, most)];
        int count = RandomAccess.Read(_console, last, length - last.Length);
        return Encoding.ASCII.GetString(last, 0, count).Replace("\0", string.Empty, StringComparison.Ordinal);
    }

    /// <summary>Waits for a moment: awake at first, then asleep, as the processor may be wanted by the very host.</summary>
    /// <param name="waits">How many waits there were since the host did something.</param>
    /// <exception cref="EmulatedHostException">The host is gone, or has been silent for too long.</exception>
    public void Rest(int waits)
    {
        if (_lost is not null)
        {
            throw _lost;
        }

        if (waits < MostSpins)
        {
            Thread.SpinWait(20);
            return;
        }

        if (waits == MostSpins)
        {
            _silentSince = Stopwatch.GetTimestamp();
        }

        if ((waits & 0xff) == 0xff)
        {
            string? lost = Ended is string end ? $"the emulated host is gone, QEMU {end}; its console ends: {Console().Trim()}"
                : Stopwatch.GetElapsedTime(_silentSince) > LongestSilence ? $"the emulated host did not answer for {LongestSilence.TotalSeconds} s; its console ends: {Console().Trim()}"
                : null;
            _lost = lost is null ? null : new EmulatedHostException(lost) { Panic = HostPanic.Of(Console(WholeConsole)) };
        }

        LibCMore.usleep((uint)(ShortestNap << Math.Min(waits - MostSpins, MostDoublings)));
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _lost ??= new EmulatedHostException("the emulated host was ended");
        for (int i = _owned.Count - 1; i >= 0; i--)
        {
            _owned[i].Dispose();
        }

        _owned.Clear();
    }

    private static List<string> Arguments(EmulatedHostOptions options)
    {
        List<string> arguments = [options.Qemu];
        foreach (string folder in options.DataFolders)
        {
            arguments.AddRange(["-L", folder]);
        }

        arguments.AddRange(
        [
            "-nodefaults",
            "-no-user-config",
            "-machine", "pc,memory-backend=ram",
            "-accel", options.Accelerator,
            "-cpu", options.CpuModel,
            "-m", $"{RamMegabytes}M",
            "-object", $"memory-backend-file,id=ram,size={RamMegabytes}M,mem-path=/dev/fd/{RamDescriptor},share=on",
            "-display", "none",
            "-serial", $"file:/dev/fd/{ConsoleDescriptor}",
            "-no-reboot",
            "-kernel", options.Kernel,
            "-initrd", $"/dev/fd/{InitramfsDescriptor}",
            "-append", CommandLine(),
        ]);
        return arguments;
    }

    /// <summary>What the kernel is told. The calibration of an emulated time-stamp counter fails on a busy machine, so its rate, that of this machine's, is given.</summary>
    private static string CommandLine()
    {
        const string fixedPart = "console=ttyS0 quiet loglevel=4 panic=-1 nokaslr pti=off mitigations=off no_timer_check tsc=reliable";
        foreach (string line in File.ReadLines("/proc/cpuinfo"))
        {
            if (line.StartsWith("cpu MHz", StringComparison.Ordinal)
                && double.TryParse(line.AsSpan(line.IndexOf(':', StringComparison.Ordinal) + 1), CultureInfo.InvariantCulture, out double megahertz))
            {
                return string.Create(CultureInfo.InvariantCulture, $"{fixedPart} tsc_early_khz={megahertz * 1000:f0}");
            }
        }

        return fixedPart;
    }

    private T Own<T>(T resource)
        where T : IDisposable
    {
        _owned.Add(resource);
        return resource;
    }
}

/// <summary>An emulated host does not answer: it is gone, or hangs.</summary>
internal sealed class EmulatedHostException : IOException
{
    /// <summary>Makes the exception.</summary>
    /// <param name="message">What happened, as a sentence without its end.</param>
    public EmulatedHostException(string message)
        : base(message)
    {
    }

    /// <summary>Why the host's kernel gave up, in its words; null when it did not say that it did.</summary>
    public string? Panic { get; init; }

    /// <summary>Place of the case behind which the host is another one; null when it is gone.</summary>
    public int? SpoiltBy { get; init; }
}
