using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Interop.LinuxAbi;

namespace PvDiffFuzz.Backends.Pvm.Emulated;

/// <summary>The kernel of an emulated host: system calls go to the server there, through memory that it shares with this process.</summary>
/// <remarks>The one that has booted the host owns it and waits for each call. Its lanes have a page of the server each, and programs of theirs wait for one another there, not here.</remarks>
internal sealed unsafe partial class EmulatedKernel : KernelPort, IDisposable
{
    private const int PageSize = 4096;
    private const int ScratchSize = 0x1_0000;
    private const int MirrorSize = 1024;

    private static readonly TimeSpan LongestBoot = TimeSpan.FromSeconds(120);

    private readonly EmulatedMachine _machine;
    private readonly EmulatedKernel _main;
    private readonly int _index;
    private readonly SafeMapping _pageMapping;
    private readonly byte* _page;
    private readonly List<(nint Mirror, ulong Run)> _runs = [];
    private readonly List<(int Descriptor, ulong Request, int Place, int Operation)> _ahead = [];
    private readonly List<(int Operation, ulong Request, int Expected)> _waiting = [];
    private byte[] _registers = [];
    private GuestMemory? _scratch;
    private int _scratchUsed;
    private int _count;
    private ulong _asked;
    private int _lanes;
    private bool _ticking;

    private EmulatedKernel(EmulatedMachine machine, EmulatedKernel? main, int index, SafeMapping page)
    {
        // SAFETY: the page stays mapped as long as this object lives; all places in it are constants below its size.
        _machine = machine;
        _main = main ?? this;
        _index = index;
        _pageMapping = page;
        _page = page.Start;
    }

    /// <inheritdoc/>
    public override int MostLanes => ServerPage.Pages - 1;

    /// <inheritdoc/>
    public override string Release
    {
        get
        {
            // struct utsname: names of 65 bytes, the release the third.
            const int release = 2 * 65;
            Call(SYS_uname, _scratch!.Address);
            return Marshal.PtrToStringAnsi((nint)_scratch.Start + release)!;
        }
    }

    /// <summary>Boots a host and waits for its server.</summary>
    /// <param name="options">What to boot.</param>
    /// <exception cref="TargetUnavailableException">Something is missing, or the host does not boot.</exception>
    public static EmulatedKernel Boot(EmulatedHostOptions options)
    {
        options.Check();
        EmulatedMachine? machine = null;
        SafeMapping? page = null;
        try
        {
            machine = new EmulatedMachine(options);
            WaitForServer(machine);
            page = SafeMapping.Pages(machine.Ram, [FindPage(machine)]);
            EmulatedKernel kernel = new(machine, null, 0, page);
            kernel.Begin();
            return kernel;
        }
        catch (Exception e) when (e is IOException)
        {
            page?.Dispose();
            machine?.Dispose();
            throw new TargetUnavailableException($"{options.Kernel}: {e.Message}", EmulatedHostOptions.Cure, e);
        }
    }

    /// <inheritdoc/>
    public override int Open(string path) => (int)Call(SYS_open, Text(path), O_RDWR, 0);

    /// <inheritdoc/>
    public override bool Close(int descriptor) => _machine.Ended is null && TryCall(SYS_close, (ulong)descriptor) == 0;

    /// <inheritdoc/>
    public override int Ioctl(int descriptor, ulong request, void* argument)
    {
        int size = KvmArgument.SizeOf(request, (nint)argument);
        if (TryReadAhead(descriptor, request, argument, size, out int known))
        {
            return known;
        }

        _ahead.Clear();
        int place = _scratchUsed;
        int at = AddIoctl(descriptor, request, argument, size);
        if (KvmArgument.CanWait(request))
        {
            int expected = KvmArgument.Expected(request, (nint)argument);
            _waiting.Add((at, request, expected));
            return expected;
        }

        foreach (ulong next in KvmArgument.After(request))
        {
            ReadAhead(descriptor, next);
        }

        Submit();
        if (KvmArgument.IsAnswered(request))
        {
            Buffer.MemoryCopy(_scratch!.Start + place, argument, size, size);
        }

        if (request == KvmAbi.KVM_GET_MSRS && size > _registers.Length)
        {
            _registers = [.. new ReadOnlySpan<byte>(argument, size)];
        }

        return (int)ResultOf(at);
    }

    /// <inheritdoc/>
    public override KernelPort CreateLane()
    {
        int index = ++_lanes;
        SafeMapping page = SafeMapping.Pages(_machine.Ram, PagesOf(ServerPage.Address + ((ulong)index * ServerPage.Size), ServerPage.Size));
        EmulatedKernel lane = new(_machine, this, index, page);
        lane._scratch = lane.Allocate("", ScratchSize);
        return lane;
    }

    /// <inheritdoc/>
    public override int Run(int descriptor, byte* run)
    {
        int at = AddRun(descriptor, run, RunReads.Registers);
        Submit();
        return (int)ResultOf(at);
    }

    /// <inheritdoc/>
    public override ValueTask<int> RunAsync(int descriptor, byte* run, RunReads reads)
    {
        int at = AddRun(descriptor, run, reads);
        return Started(at);
    }

    /// <inheritdoc/>
    public override void Store(GuestMemory memory, int offset, ReadOnlySpan<byte> bytes)
    {
        _ahead.Clear();
        int place = _scratchUsed;
        bytes.CopyTo(new Span<byte>(_scratch!.Start + place, bytes.Length));
        _scratchUsed += (bytes.Length + 15) & ~15;
        Add(ServerPage.Copy, memory.Address + (ulong)offset, _scratch.Address + (ulong)place, (ulong)bytes.Length);
    }

    /// <inheritdoc/>
    public override byte* MapRun(int descriptor, int size)
    {
        // Mirrors lie at the end of the scratch memory, each where no other is.
        int slot = 0;
        while (_runs.Exists(r => r.Mirror == (nint)Mirror(slot)))
        {
            slot++;
        }

        long address = Call(SYS_mmap, 0, (ulong)size, 3, 1, (ulong)descriptor, 0);
        if (address is < 0 and > -PageSize)
        {
            throw new PosixException("mmap(struct kvm_run)", (int)-address);
        }

        _runs.Add(((nint)Mirror(slot), (ulong)address));
        new Span<byte>(Mirror(slot), KvmArgument.RunSize).Clear();
        *(ulong*)(Mirror(slot) + KvmRunLayout.ValidRegs) = KvmRunLayout.AllSync;
        Add(ServerPage.Copy, (ulong)address, _scratch!.Address + (ulong)(Mirror(slot) - _scratch.Start), KvmArgument.RunSize);
        return Mirror(slot);
    }

    /// <inheritdoc/>
    public override void UnmapRun(byte* run, int size)
    {
        int at = _runs.FindIndex(r => r.Mirror == (nint)run);
        if (at >= 0)
        {
            TryCall(SYS_munmap, _runs[at].Run, (ulong)size);
            _runs.RemoveAt(at);
        }
    }

    /// <inheritdoc/>
    public override GuestMemory Allocate(string name, ulong size)
    {
        const ulong flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_LOCKED | MAP_POPULATE;
        long address = Call(SYS_mmap, 0, size, 3, flags, ulong.MaxValue, 0);
        return address is < 0 and > -PageSize
            ? throw new PosixException("mmap in the emulated host", (int)-address)
            : new Region(this, SafeMapping.Pages(_machine.Ram, PagesOf((ulong)address, size)), (ulong)address, size);
    }

    /// <inheritdoc/>
    public override IRunTimer CreateTimer(long interval) => new Timer(this, interval);

    /// <inheritdoc/>
    public override (int Eax, int Ebx, int Ecx, int Edx) CpuId(int leaf, int subleaf)
    {
        int at = Add(ServerPage.CpuId, (uint)leaf, (uint)subleaf);
        Submit();
        return ((int)ArgumentOf(at, 1), (int)ArgumentOf(at, 2), (int)ArgumentOf(at, 3), (int)ArgumentOf(at, 4));
    }

    /// <summary>Rights, as LAR shows them, and limit of a selector for CPL3; null when it has none.</summary>
    public (uint Rights, uint Limit)? Descriptor(ushort selector)
    {
        int at = Add(ServerPage.Selector, selector);
        Submit();
        return ResultOf(at) != 0 ? ((uint)ArgumentOf(at, 1), (uint)ArgumentOf(at, 2)) : null;
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        if (_main == this)
        {
            _machine.Dispose();
        }

        _scratch?.Dispose();
        _pageMapping.Dispose();
    }

    /// <summary>Where the server sees its page.</summary>
    private ulong PageAddress => ServerPage.Address + ((ulong)_index * ServerPage.Size);

    private ulong DataAddress => PageAddress + ServerPage.Data;

    private byte* Mirror(int slot) => _scratch!.Start + ScratchSize - ((slot + 1) * MirrorSize);

    private static void WaitForServer(EmulatedMachine machine)
    {
        Stopwatch time = Stopwatch.StartNew();
        while (!machine.Console().Contains(ServerCode.Greeting, StringComparison.Ordinal))
        {
            if (machine.Ended is string end)
            {
                throw new EmulatedHostException($"QEMU {end} while the host booted; it said: {machine.Console().Trim()}");
            }

            if (time.Elapsed > LongestBoot)
            {
                throw new EmulatedHostException($"the host did not boot in {LongestBoot.TotalSeconds} s; its console ends: {machine.Console().Trim()}");
            }

            LibCMore.usleep(10_000);
        }
    }

    /// <summary>Physical address of the server's page.</summary>
    private static long FindPage(EmulatedMachine machine)
    {
        Span<ulong> words = stackalloc ulong[2];
        for (long at = 0; at < RandomAccess.GetLength(machine.Ram); at += PageSize)
        {
            RandomAccess.Read(machine.Ram, MemoryMarshal.AsBytes(words), at);
            if (words is [ServerPage.First, ServerPage.Second])
            {
                return at;
            }
        }

        throw new EmulatedHostException("the server's page is nowhere in the host's memory");
    }

    /// <summary>Mounts what tells where pages are, and gets memory for arguments.</summary>
    private void Begin()
    {
        byte* data = _page + ServerPage.Data;
        "proc\0/proc\0"u8.CopyTo(new Span<byte>(data, ServerPage.DataSize));
        Call(SYS_mount, DataAddress, DataAddress + 5, DataAddress, 0, 0);
        _scratch = Allocate("", ScratchSize);

        // The signal of the timer comes through while a virtual processor runs, and never otherwise.
        *(ulong*)(_page + ServerPage.Signals) = 1UL << (RunTimer.Signal - 1);
        *(ulong*)_scratch.Start = 1UL << (RunTimer.Signal - 1);
        Call(SYS_rt_sigprocmask, SIG_BLOCK, _scratch.Address, 0, sizeof(ulong));
    }

    /// <summary>Where in the RAM the pages of a range are.</summary>
    private long[] PagesOf(ulong address, ulong size)
    {
        int file = (int)Call(SYS_open, Text("/proc/self/pagemap"), 0, 0);
        long[] pages = new long[size / PageSize];
        byte* room = _scratch is null ? _page + ServerPage.Data : _scratch.Start;
        ulong there = _scratch?.Address ?? DataAddress;
        int bytes = _scratch is null ? ServerPage.DataSize : ScratchSize / 2;
        for (int first = 0; first < pages.Length;)
        {
            int count = Math.Min(bytes / sizeof(ulong), pages.Length - first);
            long read = Call(SYS_pread64, (ulong)file, there, (ulong)(count * sizeof(ulong)), ((address / PageSize) + (ulong)first) * sizeof(ulong));
            if (read != count * sizeof(ulong))
            {
                throw new EmulatedHostException("/proc/self/pagemap of the host cannot be read; its kernel needs CONFIG_PROC_PAGE_MONITOR");
            }

            const ulong frame = (1UL << 55) - 1;
            for (int i = 0; i < count; i++)
            {
                pages[first++] = (long)(((ulong*)room)[i] & frame) * PageSize;
            }
        }

        Call(SYS_close, (ulong)file);
        return pages;
    }

    /// <summary>Puts a string where the server sees it.</summary>
    private ulong Text(string text)
    {
        int length = Encoding.UTF8.GetBytes(text, new Span<byte>(_page + ServerPage.Data, ServerPage.DataSize - 1));
        _page[ServerPage.Data + length] = 0;
        return DataAddress;
    }
}
