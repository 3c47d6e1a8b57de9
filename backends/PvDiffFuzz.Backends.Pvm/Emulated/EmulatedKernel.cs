using System.Diagnostics;
using System.Runtime.InteropServices;
using System.Text;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Interop.LinuxAbi;

namespace PvDiffFuzz.Backends.Pvm.Emulated;

/// <summary>The kernel of an emulated host: system calls go to the server there, through memory that it shares with this process.</summary>
internal sealed unsafe class EmulatedKernel : KernelPort, IDisposable
{
    private const int PageSize = 4096;
    private const int ScratchSize = 0x1_0000;

    /// <summary>How long the server may be silent. A program takes milliseconds, more where the machine is busy.</summary>
    private static readonly TimeSpan LongestSilence = TimeSpan.FromSeconds(20);

    private static readonly TimeSpan LongestBoot = TimeSpan.FromSeconds(120);

    private readonly EmulatedMachine _machine;
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

    private EmulatedKernel(EmulatedMachine machine, SafeMapping page)
    {
        // SAFETY: the page stays mapped as long as this object lives; all places in it are constants below its size.
        _machine = machine;
        _pageMapping = page;
        _page = page.Start;
    }

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
            EmulatedKernel kernel = new(machine, page);
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
        int size = KvmArgument.SizeOf(request, argument);
        if (TryReadAhead(descriptor, request, argument, size, out int known))
        {
            return known;
        }

        _ahead.Clear();
        int place = _scratchUsed;
        int at = AddIoctl(descriptor, request, argument, size);
        if (KvmArgument.CanWait(request))
        {
            int expected = KvmArgument.Expected(request, argument);
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

        if (request == KvmAbi.KVM_GET_MSRS)
        {
            _registers = [.. new ReadOnlySpan<byte>(argument, size)];
        }

        return (int)ResultOf(at);
    }

    /// <inheritdoc/>
    public override void Settle()
    {
        if (_count > 0)
        {
            Submit();
        }
    }

    /// <inheritdoc/>
    public override int Run(int descriptor, byte* run)
    {
        ulong there = _runs.Find(r => r.Mirror == (nint)run).Run;
        ulong mirror = _scratch!.Address + (ulong)(run - _scratch.Start);
        _ahead.Clear();
        Add(ServerPage.Copy, there, mirror, KvmArgument.RunInput);
        int at = Add(SYS_ioctl, (ulong)descriptor, KvmAbi.KVM_RUN, 0);
        Add(ServerPage.Copy, mirror, there, KvmArgument.RunSize);
        foreach (ulong next in KvmArgument.After(KvmAbi.KVM_RUN))
        {
            ReadAhead(descriptor, next);
        }

        Submit();
        return (int)ResultOf(at);
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
        _machine.Dispose();
        _scratch?.Dispose();
        _pageMapping.Dispose();
    }

    /// <summary>Adds an ioctl whose structure lies in the scratch memory.</summary>
    private int AddIoctl(int descriptor, ulong request, void* argument, int size)
    {
        if (size == 0)
        {
            return Add(SYS_ioctl, (ulong)descriptor, request, (ulong)argument);
        }

        int place = _scratchUsed;
        Buffer.MemoryCopy(argument, _scratch!.Start + place, ScratchSize - place, size);
        _scratchUsed += (size + 15) & ~15;
        return Add(SYS_ioctl, (ulong)descriptor, request, _scratch.Address + (ulong)place);
    }

    /// <summary>Has the server write what is there already, which the emulator sees.</summary>
    private void Touch(ulong address, int length)
    {
        if (_count >= ServerPage.MostOperations - 8)
        {
            Submit();
        }

        Add(ServerPage.Copy, address, address, (ulong)length);
    }

    /// <summary>Asks along for what will be asked for next.</summary>
    private void ReadAhead(int descriptor, ulong request)
    {
        int size = request == KvmAbi.KVM_GET_MSRS ? _registers.Length : KvmArgument.SizeOf(request, null);
        if (size == 0)
        {
            return;
        }

        int place = _scratchUsed;
        if (request == KvmAbi.KVM_GET_MSRS)
        {
            _registers.CopyTo(new Span<byte>(_scratch!.Start + place, size));
        }

        _scratchUsed += (size + 15) & ~15;
        _ahead.Add((descriptor, request, place, Add(SYS_ioctl, (ulong)descriptor, request, _scratch!.Address + (ulong)place)));
    }

    /// <summary>True when a list of model-specific registers names the same ones as one that was read.</summary>
    private bool SameRegisters(void* wanted, int place, int size)
    {
        if (size != _registers.Length)
        {
            return false;
        }

        // A list is its length in 8 bytes and its entries.
        KvmMsrEntry* entries = (KvmMsrEntry*)((byte*)wanted + sizeof(ulong));
        KvmMsrEntry* others = (KvmMsrEntry*)(_scratch!.Start + place + sizeof(ulong));
        for (int i = 0; i < *(int*)wanted; i++)
        {
            if (entries[i].Index != others[i].Index)
            {
                return false;
            }
        }

        return true;
    }

    private bool TryReadAhead(int descriptor, ulong request, void* argument, int size, out int result)
    {
        foreach ((int of, ulong what, int place, int at) in _ahead)
        {
            if (of == descriptor && what == request && (request != KvmAbi.KVM_GET_MSRS || SameRegisters(argument, place, size)))
            {
                Buffer.MemoryCopy(_scratch!.Start + place, argument, size, size);
                result = (int)ResultOf(at);
                return true;
            }
        }

        result = 0;
        return false;
    }

    private byte* Mirror(int slot) => _scratch!.Start + ScratchSize - ((slot + 1) * KvmArgument.RunSize);

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

            Thread.Sleep(10);
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
        const ulong there = ServerPage.Address + ServerPage.Data;
        Call(SYS_mount, there, there + 5, there, 0, 0);
        _scratch = Allocate("", ScratchSize);

        // The signal of the timer comes through while a virtual processor runs, and never otherwise.
        *(ulong*)_scratch.Start = 1UL << (RunTimer.Signal - 1);
        Call(SYS_rt_sigprocmask, SIG_BLOCK, _scratch.Address, 0, sizeof(ulong));
    }

    /// <summary>Where in the RAM the pages of a range are.</summary>
    private long[] PagesOf(ulong address, ulong size)
    {
        int file = (int)Call(SYS_open, Text("/proc/self/pagemap"), 0, 0);
        long[] pages = new long[size / PageSize];
        byte* room = _scratch is null ? _page + ServerPage.Data : _scratch.Start;
        ulong there = _scratch is null ? ServerPage.Address + ServerPage.Data : _scratch.Address;
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
        return ServerPage.Address + ServerPage.Data;
    }

    private long Call(long number, params ReadOnlySpan<ulong> arguments)
    {
        int at = Add(number, arguments);
        Submit();
        return ResultOf(at);
    }

    /// <summary>For clean-up: a host that is gone has nothing to clean up.</summary>
    private long TryCall(long number, params ReadOnlySpan<ulong> arguments)
    {
        try
        {
            return Call(number, arguments);
        }
        catch (EmulatedHostException)
        {
            return -1;
        }
    }

    private int Add(long number, params ReadOnlySpan<ulong> arguments)
    {
        ulong* operation = (ulong*)(_page + ServerPage.Operations + (_count * ServerPage.OperationSize));
        operation[0] = (ulong)number;
        for (int i = 0; i < 6; i++)
        {
            operation[i + 1] = i < arguments.Length ? arguments[i] : 0;
        }

        return _count++;
    }

    private long ResultOf(int operation) => *(long*)(_page + ServerPage.Operations + (operation * ServerPage.OperationSize) + ServerPage.Result);

    private ulong ArgumentOf(int operation, int argument) => *(ulong*)(_page + ServerPage.Operations + (operation * ServerPage.OperationSize) + (argument * sizeof(ulong)));

    /// <summary>Has the server carry out what was added, and waits for it.</summary>
    private void Submit()
    {
        *(ulong*)(_page + ServerPage.Count) = (ulong)_count;
        _count = 0;
        _scratchUsed = 0;
        Volatile.Write(ref *(ulong*)(_page + ServerPage.Asked), ++_asked);
        ref ulong done = ref *(ulong*)(_page + ServerPage.Done);
        for (int spins = 0; Volatile.Read(ref done) != _asked; spins++)
        {
            if (spins > 100)
            {
                WaitLong(ref done);
                break;
            }

            Thread.SpinWait(20);
        }

        foreach ((int operation, ulong request, int expected) in _waiting)
        {
            long result = ResultOf(operation);
            if (result != expected)
            {
                _waiting.Clear();
                throw new KvmException(KvmArgument.NameOf(request), result < 0 ? (int)-result : EINVAL);
            }
        }

        _waiting.Clear();
    }

    private void WaitLong(ref ulong done)
    {
        long begin = Stopwatch.GetTimestamp();
        for (int waits = 1; Volatile.Read(ref done) != _asked; waits++)
        {
            if ((waits & 0xff) == 0)
            {
                if (_machine.Ended is string end)
                {
                    throw new EmulatedHostException($"the emulated host is gone, QEMU {end}; its console ends: {_machine.Console().Trim()}");
                }

                if (Stopwatch.GetElapsedTime(begin) > LongestSilence)
                {
                    throw new EmulatedHostException($"the emulated host did not answer for {LongestSilence.TotalSeconds} s; its console ends: {_machine.Console().Trim()}");
                }
            }

            LibCMore.usleep(20);
        }
    }

    /// <summary>Memory of the host that this process has mapped.</summary>
    private sealed class Region(EmulatedKernel kernel, SafeMapping mapping, ulong address, ulong size) : GuestMemory(mapping.Start, address)
    {
        public override bool WantsToBeTold => true;

        public override void Written(int offset, int length) => kernel.Touch(Address + (ulong)offset, length);

        public override void Dispose()
        {
            mapping.Dispose();
            if (!ReferenceEquals(kernel._scratch, this))
            {
                kernel.TryCall(SYS_munmap, Address, size);
            }
        }
    }

    /// <summary>A timer of the host. It goes on from its first start on; between runs its signal waits.</summary>
    private sealed class Timer(EmulatedKernel kernel, long interval) : IRunTimer
    {
        private bool _started;

        // The host's own clock of the thread does not count what a guest uses.
        public long Nanoseconds => kernel._machine.CpuNanoseconds;

        public void Start()
        {
            if (_started)
            {
                return;
            }

            // struct sigevent: value, signal, kind (0: a signal). Then the number of the timer, and an itimerspec of four words.
            byte* at = kernel._scratch!.Start;
            new Span<byte>(at, 128).Clear();
            *(int*)(at + 8) = RunTimer.Signal;
            kernel.Call(SYS_timer_create, CLOCK_MONOTONIC, kernel._scratch.Address, kernel._scratch.Address + SizeOfSignalEvent);
            int timer = *(int*)(at + SizeOfSignalEvent);
            long* value = (long*)at;
            (value[0], value[1], value[2], value[3]) = (0, interval, 0, interval);
            kernel.Call(SYS_timer_settime, (ulong)timer, 0, kernel._scratch.Address, 0);
            _started = true;
        }

        public void Stop()
        {
        }

        public void Consume()
        {
            ulong* at = (ulong*)kernel._scratch!.Start;
            (at[0], at[1], at[2]) = (1UL << (RunTimer.Signal - 1), 0, 0);
            kernel.Call(SYS_rt_sigtimedwait, kernel._scratch.Address, 0, kernel._scratch.Address + sizeof(ulong), sizeof(ulong));
        }

        public void Dispose()
        {
        }
    }
}
