using PvDiffFuzz.Backends.Interop;
using static PvDiffFuzz.Backends.Kvm.KvmAbi;
using static Tmds.Linux.LibC;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>A virtual processor. Used by one thread at a time.</summary>
internal sealed unsafe class KvmVcpu : KvmDescriptor
{
    private readonly int _mappingSize;
    private readonly byte* _run;

    /// <summary>Takes over the descriptor of a new processor and maps what it shares with the kernel.</summary>
    /// <exception cref="PosixException">mmap(2) failed; the descriptor is closed.</exception>
    public KvmVcpu(int fd, int mappingSize, KernelPort kernel)
        : base(fd, kernel)
    {
        try
        {
            _run = kernel.MapRun(fd, mappingSize);
            _mappingSize = mappingSize;
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Why the last run ended.</summary>
    public uint ExitReason => *(uint*)(_run + KvmRunLayout.ExitReason);

    /// <summary>The port of an I/O exit.</summary>
    public ushort IoPort => *(ushort*)(_run + KvmRunLayout.IoPort);

    /// <summary>The guest physical address of an MMIO exit.</summary>
    public ulong MmioAddress => *(ulong*)(_run + KvmRunLayout.MmioAddress);

    /// <summary>True to have the run end when the guest can take an interrupt.</summary>
    public bool WantsInterruptWindow
    {
        get => _run[KvmRunLayout.RequestInterruptWindow] != 0;
        set => _run[KvmRunLayout.RequestInterruptWindow] = value ? (byte)1 : (byte)0;
    }

    /// <summary>True to have the next run end before the guest runs, once KVM has completed what the last exit was for.</summary>
    public bool ImmediateExit
    {
        get => _run[KvmRunLayout.ImmediateExit] != 0;
        set => _run[KvmRunLayout.ImmediateExit] = value ? (byte)1 : (byte)0;
    }

    /// <summary>CR8, which KVM takes from here at each run of a machine without an APIC, whatever KVM_SET_SREGS said.</summary>
    public ulong Cr8
    {
        get => *(ulong*)(_run + KvmRunLayout.Cr8);
        set => *(ulong*)(_run + KvmRunLayout.Cr8) = value;
    }

    /// <summary>True where events include a pending shutdown: see <see cref="KvmVm.TryEnableTripleFaultEvent"/>.</summary>
    public bool HasTripleFaultEvent { get; init; }

    /// <summary>Describes an exit that nobody wanted.</summary>
    public string DescribeExit() => ExitReason switch
    {
        KVM_EXIT_INTERNAL_ERROR => $"KVM_EXIT_INTERNAL_ERROR, suberror {*(uint*)(_run + KvmRunLayout.InternalSuberror)}",
        KVM_EXIT_FAIL_ENTRY => $"KVM_EXIT_FAIL_ENTRY, reason {*(ulong*)(_run + KvmRunLayout.FailEntryReason):x}",
        KVM_EXIT_IO => $"KVM_EXIT_IO, port {IoPort:x}",
        KVM_EXIT_MMIO => $"KVM_EXIT_MMIO, address {MmioAddress:x}",
        uint reason => NameOfExit(reason),
    };

    /// <summary>Runs the guest until it needs us or a signal comes.</summary>
    /// <returns>False when a signal ended the run; the exit reason means nothing then.</returns>
    /// <exception cref="KvmException">The kernel refused.</exception>
    public bool Run()
    {
        ObjectDisposedException.ThrowIf(IsClosed, this);
        return Left(Kernel.Run(Number, _run));
    }

    /// <summary>Lets the guest run until it needs us or a signal comes.</summary>
    /// <param name="reads">What will be read then.</param>
    /// <returns>The result, for <see cref="Left"/>.</returns>
    public ValueTask<int> RunAsync(RunReads reads)
    {
        ObjectDisposedException.ThrowIf(IsClosed, this);
        return Kernel.RunAsync(Number, _run, reads);
    }

    /// <summary>Tells from the result of a run whether the guest has left.</summary>
    /// <returns>False when a signal ended the run; the exit reason means nothing then.</returns>
    /// <exception cref="KvmException">The kernel refused.</exception>
    public static bool Left(int result) =>
        result >= 0 || (result == -EINTR || result == -LinuxAbi.EAGAIN ? false : throw new KvmException(nameof(KVM_RUN), -result));

    /// <summary>Reads the general registers.</summary>
    public void GetRegs(out KvmRegs regs)
    {
        // SAFETY: the kernel writes one structure.
        fixed (KvmRegs* at = &regs)
        {
            Call(KVM_GET_REGS, at, nameof(KVM_GET_REGS));
        }
    }

    /// <summary>Loads the general registers.</summary>
    public void SetRegs(in KvmRegs regs)
    {
        // SAFETY: the kernel reads one structure.
        fixed (KvmRegs* at = &regs)
        {
            Call(KVM_SET_REGS, at, nameof(KVM_SET_REGS));
        }
    }

    /// <summary>Reads segments, tables and control registers.</summary>
    public void GetSregs(out KvmSregs sregs)
    {
        // SAFETY: the kernel writes one structure.
        fixed (KvmSregs* at = &sregs)
        {
            Call(KVM_GET_SREGS, at, nameof(KVM_GET_SREGS));
        }
    }

    /// <summary>Loads segments, tables and control registers.</summary>
    public void SetSregs(in KvmSregs sregs)
    {
        // SAFETY: the kernel reads one structure.
        fixed (KvmSregs* at = &sregs)
        {
            Call(KVM_SET_SREGS, at, nameof(KVM_SET_SREGS));
        }
    }

    /// <summary>Loads model-specific registers.</summary>
    /// <exception cref="KvmException">The kernel refused one.</exception>
    public void SetMsrs(params ReadOnlySpan<KvmMsrEntry> entries)
    {
        const int header = 8;
        byte* list = stackalloc byte[header + (entries.Length * sizeof(KvmMsrEntry))];
        *(uint*)list = (uint)entries.Length;
        entries.CopyTo(new Span<KvmMsrEntry>(list + header, entries.Length));

        // SAFETY: the list has as many entries as its header says.
        int done = Call(KVM_SET_MSRS, list, nameof(KVM_SET_MSRS));
        if (done < entries.Length)
        {
            throw new KvmException($"KVM_SET_MSRS, register {entries[done].Index:x}", LinuxAbi.EINVAL);
        }
    }

    /// <summary>Reads model-specific registers into the data of the entries, up to the first that does not exist.</summary>
    /// <param name="entries">Indices; the values are stored beside them.</param>
    /// <returns>How many were read.</returns>
    public int GetMsrs(Span<KvmMsrEntry> entries)
    {
        const int header = 8;
        byte* list = stackalloc byte[header + (entries.Length * sizeof(KvmMsrEntry))];
        *(ulong*)list = (uint)entries.Length;
        Span<KvmMsrEntry> inside = new(list + header, entries.Length);
        entries.CopyTo(inside);

        // SAFETY: the list has as many entries as its header says.
        int done = Call(KVM_GET_MSRS, list, nameof(KVM_GET_MSRS));
        inside.CopyTo(entries);
        return done;
    }

    /// <summary>Sets what CPUID shows.</summary>
    public void SetCpuid(byte[] table)
    {
        // SAFETY: a kvm_cpuid2 with as many entries as its header says.
        fixed (byte* at = table)
        {
            Call(KVM_SET_CPUID2, at, nameof(KVM_SET_CPUID2));
        }
    }

    /// <summary>Sets XCR0.</summary>
    /// <exception cref="KvmException">The kernel refused.</exception>
    public void SetXcr0(ulong value)
    {
        // struct kvm_xcrs: number of entries, flags, then index, padding and value of each.
        byte* xcrs = stackalloc byte[SizeOfXcrs];
        new Span<byte>(xcrs, SizeOfXcrs).Clear();
        *(uint*)xcrs = 1;
        *(ulong*)(xcrs + 16) = value;

        // SAFETY: the kernel reads one structure.
        Call(KVM_SET_XCRS, xcrs, nameof(KVM_SET_XCRS));
    }

    /// <summary>Reads x87 and vector state.</summary>
    public byte[] GetXsave()
    {
        byte[] area = new byte[SizeOfXsave];

        // SAFETY: the kernel writes one structure of this size.
        fixed (byte* at = area)
        {
            Call(KVM_GET_XSAVE, at, nameof(KVM_GET_XSAVE));
        }

        return area;
    }

    /// <summary>Loads x87 and vector state.</summary>
    public void SetXsave(byte[] area)
    {
        // SAFETY: the kernel reads one structure of this size.
        fixed (byte* at = area)
        {
            Call(KVM_SET_XSAVE, at, nameof(KVM_SET_XSAVE));
        }
    }

    /// <summary>Forgets pending events and the shadow of MOV SS.</summary>
    public void ClearEvents()
    {
        byte* events = stackalloc byte[SizeOfEvents];
        new Span<byte>(events, SizeOfEvents).Clear();

        *(uint*)(events + KvmAbi.OffsetOfEventFlags) = KVM_VCPUEVENT_VALID_SHADOW;

        // SAFETY: the kernel reads one structure.
        Call(KVM_SET_VCPU_EVENTS, events, nameof(KVM_SET_VCPU_EVENTS));
    }

    /// <summary>Forgets pending events, a shutdown too where KVM lets us, and sets whether NMIs are masked.</summary>
    public void SetNmiMask(bool masked)
    {
        byte* events = stackalloc byte[SizeOfEvents];
        new Span<byte>(events, SizeOfEvents).Clear();
        events[OffsetOfNmiMasked] = masked ? (byte)1 : (byte)0;
        *(uint*)(events + OffsetOfEventFlags) =
            KVM_VCPUEVENT_VALID_SHADOW | KVM_VCPUEVENT_VALID_NMI_PENDING | (HasTripleFaultEvent ? KVM_VCPUEVENT_VALID_TRIPLE_FAULT : 0);

        // SAFETY: the kernel reads one structure.
        Call(KVM_SET_VCPU_EVENTS, events, nameof(KVM_SET_VCPU_EVENTS));
    }

    /// <summary>Tells whether NMIs are masked.</summary>
    public bool GetNmiMask()
    {
        byte* events = stackalloc byte[SizeOfEvents];

        // SAFETY: the kernel writes one structure.
        Call(KVM_GET_VCPU_EVENTS, events, nameof(KVM_GET_VCPU_EVENTS));
        return events[OffsetOfNmiMasked] != 0;
    }

    /// <summary>True when a shutdown is pending; false too where KVM does not tell.</summary>
    public bool IsShutdownPending
    {
        get
        {
            if (!HasTripleFaultEvent)
            {
                return false;
            }

            byte* events = stackalloc byte[SizeOfEvents];

            // SAFETY: the kernel writes one structure.
            Call(KVM_GET_VCPU_EVENTS, events, nameof(KVM_GET_VCPU_EVENTS));
            return events[OffsetOfTripleFault] != 0;
        }
    }

    /// <summary>Makes an NMI pending.</summary>
    public void Nmi() => Call(KVM_NMI, null, nameof(KVM_NMI));

    /// <summary>Delivers an interrupt at the next entry, whatever the guest's flags say.</summary>
    /// <param name="vector">Its vector.</param>
    public void Interrupt(byte vector)
    {
        uint number = vector;

        // SAFETY: the kernel reads one word.
        Call(KVM_INTERRUPT, &number, nameof(KVM_INTERRUPT));
    }

    /// <summary>Reads debug registers.</summary>
    public void GetDebugRegisters(out KvmDebugregs registers)
    {
        // SAFETY: the kernel writes one structure.
        fixed (KvmDebugregs* at = &registers)
        {
            Call(KVM_GET_DEBUGREGS, at, nameof(KVM_GET_DEBUGREGS));
        }
    }

    /// <summary>Loads debug registers.</summary>
    /// <returns>0 or an error number.</returns>
    public int TrySetDebugRegisters(in KvmDebugregs registers)
    {
        // SAFETY: the kernel reads one structure.
        fixed (KvmDebugregs* at = &registers)
        {
            return -Math.Min(0, TryCall(KVM_SET_DEBUGREGS, at));
        }
    }

    /// <summary>Asks that breakpoint instructions leave the guest.</summary>
    /// <returns>False when the kernel refused.</returns>
    public bool TrySetGuestDebug(uint control)
    {
        KvmGuestDebug debug = new() { Control = control };

        // SAFETY: the kernel reads one structure.
        return TryCall(KVM_SET_GUEST_DEBUG, &debug) >= 0;
    }

    /// <summary>Sets which signals are blocked while the guest runs.</summary>
    /// <param name="blocked">Bit n - 1 for signal n.</param>
    public void SetSignalMask(ulong blocked)
    {
        byte* mask = stackalloc byte[12];
        *(uint*)mask = sizeof(ulong);
        *(ulong*)(mask + 4) = blocked;

        // SAFETY: the kernel reads a length and as many bytes.
        Call(KVM_SET_SIGNAL_MASK, mask, nameof(KVM_SET_SIGNAL_MASK));
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle()
    {
        if (_run is not null)
        {
            Kernel.UnmapRun(_run, _mappingSize);
        }

        return base.ReleaseHandle();
    }
}
