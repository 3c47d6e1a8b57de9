using System.Runtime.Intrinsics.X86;
using Microsoft.Win32.SafeHandles;
using PvDiffFuzz.Backends.Interop;
using static Tmds.Linux.LibC;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>The kernel whose KVM is used: the one that this process runs on, or that of a machine elsewhere.</summary>
internal abstract unsafe class KernelPort
{
    /// <summary>The kernel that this process runs on.</summary>
    public static KernelPort Local { get; } = new LocalKernel();

    /// <summary>True where its processor is emulated.</summary>
    public bool IsEmulated => HostKind.HypervisorOf(CpuId) == HostKind.TinyCodeGenerator;

    /// <summary>Release of the kernel, as uname(2) tells it.</summary>
    public abstract string Release { get; }

    /// <summary>Opens a file for reading and writing.</summary>
    /// <returns>The descriptor, or a negative error number.</returns>
    public abstract int Open(string path);

    /// <summary>Makes an ioctl of KVM.</summary>
    /// <param name="descriptor">The descriptor.</param>
    /// <param name="request">The request.</param>
    /// <param name="argument">A number, or the address in this process of the structure that the request takes.</param>
    /// <returns>0 or more, or a negative error number.</returns>
    public abstract int Ioctl(int descriptor, ulong request, void* argument);

    /// <summary>Writes into the memory of a guest behind all that was asked for.</summary>
    /// <param name="memory">The memory.</param>
    /// <param name="offset">Where.</param>
    /// <param name="bytes">What.</param>
    public virtual void Store(GuestMemory memory, int offset, ReadOnlySpan<byte> bytes) => bytes.CopyTo(new Span<byte>(memory.Start + offset, bytes.Length));

    /// <summary>Runs a virtual processor until it leaves the guest.</summary>
    /// <param name="descriptor">The processor.</param>
    /// <param name="run">Its <c>struct kvm_run</c>, from <see cref="MapRun"/>.</param>
    /// <returns>0, or a negative error number.</returns>
    public abstract int Run(int descriptor, byte* run);

    /// <summary>Lets a virtual processor run until it leaves the guest. Where that takes place elsewhere, this thread is free meanwhile: see <see cref="Advance"/>.</summary>
    /// <param name="descriptor">The processor.</param>
    /// <param name="run">Its <c>struct kvm_run</c>, from <see cref="MapRun"/>.</param>
    /// <param name="reads">What will be read afterwards, which can be fetched together with the end of the run.</param>
    /// <returns>0, or a negative error number.</returns>
    public virtual ValueTask<int> RunAsync(int descriptor, byte* run, RunReads reads) => new(Run(descriptor, run));

    /// <summary>How many lanes can run side by side.</summary>
    public virtual int MostLanes => 1;

    /// <summary>True from the begin of a run that takes place elsewhere until <see cref="Advance"/> has seen its end.</summary>
    public virtual bool IsRunning => false;

    /// <summary>True while what was asked for through this lane is being carried out.</summary>
    public virtual bool IsBusy => IsRunning;

    /// <summary>The same kernel by a way of its own, so that processors of several lanes can be asked for at the same time.</summary>
    public virtual KernelPort CreateLane() => this;

    /// <summary>Goes on behind a run that has ended, on this thread.</summary>
    /// <returns>False when there is none.</returns>
    public virtual bool Advance() => false;

    /// <summary>Ends the wait for a run that will not end.</summary>
    /// <param name="reason">What whoever waits for it gets.</param>
    public virtual void Abandon(IOException reason)
    {
    }

    /// <summary>Waits for a moment, as no run has ended.</summary>
    /// <param name="waits">How often that was so since the last one ended.</param>
    /// <exception cref="IOException">None will.</exception>
    public virtual void Rest(int waits)
    {
    }

    /// <summary>Closes a descriptor.</summary>
    /// <returns>True when it was open.</returns>
    public abstract bool Close(int descriptor);

    /// <summary>Makes the <c>struct kvm_run</c> of a virtual processor visible in this process.</summary>
    /// <exception cref="PosixException">It cannot be mapped.</exception>
    public abstract byte* MapRun(int descriptor, int size);

    /// <summary>Takes back what <see cref="MapRun"/> has made.</summary>
    public abstract void UnmapRun(byte* run, int size);

    /// <summary>Memory for a virtual machine, all zero, that this process and the kernel share.</summary>
    /// <param name="name">Name for /proc, at most 249 characters.</param>
    /// <param name="size">Bytes, whole pages.</param>
    /// <exception cref="PosixException">There is none.</exception>
    public abstract GuestMemory Allocate(string name, ulong size);

    /// <summary>A timer that interrupts runs of virtual processors.</summary>
    /// <param name="interval">Nanoseconds between interruptions; 0 for the usual ones.</param>
    public abstract IRunTimer CreateTimer(long interval);

    /// <summary>What CPUID shows to programs there.</summary>
    public abstract (int Eax, int Ebx, int Ecx, int Edx) CpuId(int leaf, int subleaf);

    private sealed class LocalKernel : KernelPort
    {
        public override string Release => File.ReadAllText("/proc/sys/kernel/osrelease").Trim();

        public override int Open(string path)
        {
            int descriptor = LibCMore.open(path, LinuxAbi.O_RDWR | O_CLOEXEC);
            return descriptor >= 0 ? descriptor : -errno;
        }

        public override int Ioctl(int descriptor, ulong request, void* argument)
        {
            // SAFETY: the caller passes what the request takes; the kernel does not keep the pointer.
            int result = LibCMore.ioctl(descriptor, request, argument);
            return result >= 0 ? result : -errno;
        }

        public override int Run(int descriptor, byte* run) => Ioctl(descriptor, KvmAbi.KVM_RUN, null);

        public override bool Close(int descriptor) => LibCMore.close(descriptor) == 0;

        public override byte* MapRun(int descriptor, int size)
        {
            // SAFETY: the kernel chooses a free place, so nothing existing is replaced.
            void* run = mmap(null, size, PROT_READ | PROT_WRITE, MAP_SHARED, descriptor, 0);
            return run == MAP_FAILED ? throw new PosixException("mmap(struct kvm_run)", errno) : (byte*)run;
        }

        public override void UnmapRun(byte* run, int size)
        {
            // SAFETY: mapped by MapRun with this length; released once.
            _ = munmap(run, size);
        }

        public override GuestMemory Allocate(string name, ulong size)
        {
            using SafeFileHandle file = Memfd.Create(name, executable: false);
            Memfd.Resize(file, (long)size);
            return new LocalMemory(SafeMapping.Shared(file, size));
        }

        public override IRunTimer CreateTimer(long interval) => new RunTimer(interval);

        public override (int Eax, int Ebx, int Ecx, int Edx) CpuId(int leaf, int subleaf) => X86Base.CpuId(leaf, subleaf);
    }

    private sealed class LocalMemory(SafeMapping mapping) : GuestMemory((nint)mapping.Start, (ulong)mapping.Start)
    {
        public override void Dispose() => mapping.Dispose();
    }
}

/// <summary>What is read after a run, besides the general and the system registers.</summary>
internal enum RunReads
{
    /// <summary>Nothing.</summary>
    Registers,

    /// <summary>Model-specific and debug registers.</summary>
    All,
}

/// <summary>Memory of a virtual machine.</summary>
/// <param name="start">First byte in this process.</param>
/// <param name="address">The address of that byte as the kernel of the KVM is to be told.</param>
internal abstract unsafe class GuestMemory(nint start, ulong address) : IDisposable
{
    /// <summary>First byte in this process.</summary>
    public byte* Start { get; } = (byte*)start;

    /// <summary>The address of that byte as the kernel of the KVM is to be told.</summary>
    public ulong Address { get; } = address;

    /// <summary>True when the kernel's machine does not see what this process writes as code, and is to be told by <see cref="Written"/>.</summary>
    public virtual bool WantsToBeTold => false;

    /// <summary>Says that bytes which may be executed have changed. An emulator goes on with its translation of the old ones otherwise.</summary>
    /// <param name="offset">The first of them.</param>
    /// <param name="length">How many.</param>
    public virtual void Written(int offset, int length)
    {
    }

    /// <inheritdoc/>
    public abstract void Dispose();
}

/// <summary>Makes runs of virtual processors return every few milliseconds, so that a runaway payload can be seen.</summary>
internal interface IRunTimer : IDisposable
{
    /// <summary>Processor time of the guest's thread in nanoseconds.</summary>
    long Nanoseconds { get; }

    /// <summary>Begins to interrupt runs.</summary>
    /// <exception cref="PosixException">The kernel has no timer for us.</exception>
    void Start();

    /// <summary>Ends the interruptions.</summary>
    void Stop();

    /// <summary>Takes the signal that ended a run, so that the next one can begin.</summary>
    void Consume();
}
