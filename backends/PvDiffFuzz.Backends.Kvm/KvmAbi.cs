using System.Runtime.InteropServices;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>Numbers of <c>linux/kvm.h</c> under their own names (x86-64).</summary>
internal static class KvmAbi
{
#pragma warning disable CS1591 // Each member is the constant of that name.
    public const int KVM_API_VERSION = 12;

    public const ulong KVM_GET_API_VERSION = 0xae00;
    public const ulong KVM_CREATE_VM = 0xae01;
    public const ulong KVM_CHECK_EXTENSION = 0xae03;
    public const ulong KVM_GET_VCPU_MMAP_SIZE = 0xae04;
    public const ulong KVM_GET_SUPPORTED_CPUID = 0xc008_ae05;
    public const ulong KVM_CREATE_VCPU = 0xae41;
    public const ulong KVM_SET_USER_MEMORY_REGION = 0x4020_ae46;
    public const ulong KVM_SET_TSS_ADDR = 0xae47;
    public const ulong KVM_RUN = 0xae80;
    public const ulong KVM_GET_REGS = 0x8090_ae81;
    public const ulong KVM_SET_REGS = 0x4090_ae82;
    public const ulong KVM_GET_SREGS = 0x8138_ae83;
    public const ulong KVM_SET_SREGS = 0x4138_ae84;
    public const ulong KVM_INTERRUPT = 0x4004_ae86;
    public const ulong KVM_GET_MSRS = 0xc008_ae88;
    public const ulong KVM_SET_MSRS = 0x4008_ae89;
    public const ulong KVM_SET_SIGNAL_MASK = 0x4004_ae8b;
    public const ulong KVM_SET_CPUID2 = 0x4008_ae90;
    public const ulong KVM_NMI = 0xae9a;
    public const ulong KVM_SET_GUEST_DEBUG = 0x4048_ae9b;
    public const ulong KVM_GET_VCPU_EVENTS = 0x8040_ae9f;
    public const ulong KVM_SET_VCPU_EVENTS = 0x4040_aea0;
    public const ulong KVM_GET_DEBUGREGS = 0x8080_aea1;
    public const ulong KVM_SET_DEBUGREGS = 0x4080_aea2;
    public const ulong KVM_GET_XSAVE = 0x9000_aea4;
    public const ulong KVM_SET_XSAVE = 0x5000_aea5;
    public const ulong KVM_ENABLE_CAP = 0x4068_aea3;
    public const ulong KVM_SET_XCRS = 0x4188_aea7;

    public const int KVM_CAP_USER_MEMORY = 3;
    public const int KVM_CAP_SET_TSS_ADDR = 4;
    public const int KVM_CAP_IMMEDIATE_EXIT = 136;
    public const int KVM_CAP_X86_TRIPLE_FAULT_EVENT = 218;

    public const uint KVM_EXIT_UNKNOWN = 0;
    public const uint KVM_EXIT_IO = 2;
    public const uint KVM_EXIT_DEBUG = 4;
    public const uint KVM_EXIT_HLT = 5;
    public const uint KVM_EXIT_MMIO = 6;
    public const uint KVM_EXIT_IRQ_WINDOW_OPEN = 7;
    public const uint KVM_EXIT_SHUTDOWN = 8;
    public const uint KVM_EXIT_FAIL_ENTRY = 9;
    public const uint KVM_EXIT_INTR = 10;
    public const uint KVM_EXIT_INTERNAL_ERROR = 17;

    public const uint KVM_GUESTDBG_ENABLE = 1;
    public const uint KVM_GUESTDBG_USE_SW_BP = 0x1_0000;

    public const uint KVM_VCPUEVENT_VALID_NMI_PENDING = 1;
    public const uint KVM_VCPUEVENT_VALID_SHADOW = 4;
    public const uint KVM_VCPUEVENT_VALID_TRIPLE_FAULT = 0x20;

    /// <summary><c>sizeof(struct kvm_xsave)</c> without its flexible end.</summary>
    public const int SizeOfXsave = 4096;

    /// <summary><c>sizeof(struct kvm_enable_cap)</c>.</summary>
    public const int SizeOfEnableCap = 104;

    /// <summary><c>offsetof(struct kvm_enable_cap, args)</c>.</summary>
    public const int OffsetOfEnableArguments = 8;

    /// <summary><c>sizeof(struct kvm_xcrs)</c>.</summary>
    public const int SizeOfXcrs = 392;

    /// <summary><c>sizeof(struct kvm_vcpu_events)</c>.</summary>
    public const int SizeOfEvents = 64;

    /// <summary><c>offsetof(struct kvm_vcpu_events, flags)</c>.</summary>
    public const int OffsetOfEventFlags = 20;

    /// <summary><c>offsetof(struct kvm_vcpu_events, triple_fault.pending)</c>.</summary>
    public const int OffsetOfTripleFault = 28;

    /// <summary><c>offsetof(struct kvm_vcpu_events, nmi.masked)</c>.</summary>
    public const int OffsetOfNmiMasked = 14;
#pragma warning restore CS1591

    /// <summary>Name of an exit reason, for messages.</summary>
    public static string NameOfExit(uint reason) => reason switch
    {
        KVM_EXIT_UNKNOWN => "KVM_EXIT_UNKNOWN",
        KVM_EXIT_IO => "KVM_EXIT_IO",
        KVM_EXIT_DEBUG => "KVM_EXIT_DEBUG",
        KVM_EXIT_HLT => "KVM_EXIT_HLT",
        KVM_EXIT_MMIO => "KVM_EXIT_MMIO",
        KVM_EXIT_IRQ_WINDOW_OPEN => "KVM_EXIT_IRQ_WINDOW_OPEN",
        KVM_EXIT_SHUTDOWN => "KVM_EXIT_SHUTDOWN",
        KVM_EXIT_FAIL_ENTRY => "KVM_EXIT_FAIL_ENTRY",
        KVM_EXIT_INTR => "KVM_EXIT_INTR",
        KVM_EXIT_INTERNAL_ERROR => "KVM_EXIT_INTERNAL_ERROR",
        _ => $"exit reason {reason}",
    };
}

/// <summary>Places in <c>struct kvm_run</c>, which kernel and program share.</summary>
internal static class KvmRunLayout
{
    /// <summary><c>request_interrupt_window</c>, one byte.</summary>
    public const int RequestInterruptWindow = 0;

    /// <summary><c>immediate_exit</c>, one byte.</summary>
    public const int ImmediateExit = 1;

    /// <summary><c>exit_reason</c>, 32 bits.</summary>
    public const int ExitReason = 8;

    /// <summary><c>cr8</c>, 64 bits: what the guest has at the next run where KVM does not emulate the APIC.</summary>
    public const int Cr8 = 16;

    /// <summary><c>io.port</c>, 16 bits.</summary>
    public const int IoPort = 34;

    /// <summary><c>mmio.phys_addr</c>, 64 bits.</summary>
    public const int MmioAddress = 32;

    /// <summary><c>internal.suberror</c>, 32 bits.</summary>
    public const int InternalSuberror = 32;

    /// <summary><c>fail_entry.hardware_entry_failure_reason</c>, 64 bits.</summary>
    public const int FailEntryReason = 32;

    /// <summary><c>kvm_valid_regs</c>, 64 bits: what KVM stores at each exit, where it has KVM_CAP_SYNC_REGS.</summary>
    public const int ValidRegs = 288;

    /// <summary><c>s.regs.regs</c>, a <see cref="KvmRegs"/>.</summary>
    public const int SyncRegs = 304;

    /// <summary><c>s.regs.sregs</c>, a <see cref="KvmSregs"/>.</summary>
    public const int SyncSregs = 448;

    /// <summary><c>s.regs.events</c>, a <c>struct kvm_vcpu_events</c>.</summary>
    public const int SyncEvents = 760;

    /// <summary>KVM_SYNC_X86_REGS, KVM_SYNC_X86_SREGS and KVM_SYNC_X86_EVENTS: all of these.</summary>
    public const ulong AllSync = 7;
}

/// <summary><c>struct kvm_regs</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmRegs
{
    public ulong Rax, Rbx, Rcx, Rdx, Rsi, Rdi, Rsp, Rbp, R8, R9, R10, R11, R12, R13, R14, R15, Rip, Rflags;
}

/// <summary><c>struct kvm_segment</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmSegment
{
    public ulong Base;
    public uint Limit;
    public ushort Selector;
    public byte Type, Present, Dpl, Db, S, L, G, Avl, Unusable, Padding;
}

/// <summary><c>struct kvm_dtable</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmDtable
{
    public ulong Base;
    public ushort Limit, Padding0, Padding1, Padding2;
}

/// <summary><c>struct kvm_sregs</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmSregs
{
    public KvmSegment Cs, Ds, Es, Fs, Gs, Ss, Tr, Ldt;
    public KvmDtable Gdt, Idt;
    public ulong Cr0, Cr2, Cr3, Cr4, Cr8, Efer, ApicBase;

    // SAFETY: four words inside the struct, written by the kernel only.
    public fixed ulong InterruptBitmap[4];
}

/// <summary><c>struct kvm_userspace_memory_region</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmUserspaceMemoryRegion
{
    public uint Slot, Flags;
    public ulong GuestPhysAddr, MemorySize, UserspaceAddr;
}

/// <summary><c>struct kvm_msr_entry</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal struct KvmMsrEntry
{
    public uint Index, Reserved;
    public ulong Data;
}

/// <summary><c>struct kvm_guest_debug</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmGuestDebug
{
    public uint Control, Pad;

    // SAFETY: eight words inside the struct; all zero here.
    public fixed ulong DebugRegisters[8];
}

/// <summary><c>struct kvm_debugregs</c>.</summary>
[StructLayout(LayoutKind.Sequential)]
internal unsafe struct KvmDebugregs
{
    public ulong Db0, Db1, Db2, Db3, Dr6, Dr7, Flags;

    // SAFETY: reserved words inside the struct; all zero.
    public fixed ulong Reserved[9];
}
