using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using PvDiffFuzz.Backends.Kvm;

namespace PvDiffFuzz.Backends.Pvm.Emulated;

/// <summary>What an ioctl of KVM takes, so that it can be carried elsewhere (asm-generic/ioctl.h: bits 16 to 29 of a request are the size of its structure, 30 and 31 the direction).</summary>
internal static class KvmArgument
{
    /// <summary>Bytes of <c>struct kvm_run</c> that we write for each run.</summary>
    public const int RunInput = 32;

    /// <summary>Bytes of it that we look at: up to the registers that KVM puts there at each exit (KVM_CAP_SYNC_REGS).</summary>
    public const int RunSize = KvmRunLayout.SyncEvents + KvmAbi.SizeOfEvents;

    private const ulong Answered = 1UL << 31;

    private const int CpuidEntry = 40;

    /// <summary>Bytes of the structure; 0 when the argument is a number.</summary>
    /// <param name="request">The request.</param>
    /// <param name="argument">Address of the structure, of which lists have their length at the beginning; others are not looked at.</param>
    public static int SizeOf(ulong request, nint argument)
    {
        int header = (int)(request >> 16) & 0x3fff;
        return request switch
        {
            KvmAbi.KVM_GET_MSRS or KvmAbi.KVM_SET_MSRS => header + (Marshal.ReadInt32(argument) * Unsafe.SizeOf<KvmMsrEntry>()),
            KvmAbi.KVM_GET_SUPPORTED_CPUID or KvmAbi.KVM_SET_CPUID2 => header + (Marshal.ReadInt32(argument) * CpuidEntry),
            KvmAbi.KVM_SET_SIGNAL_MASK => header + Marshal.ReadInt32(argument),
            _ => header,
        };
    }

    /// <summary>True for what can be asked for together with what comes next.</summary>
    public static bool CanWait(ulong request) => request is KvmAbi.KVM_SET_REGS or KvmAbi.KVM_SET_SREGS or KvmAbi.KVM_SET_MSRS or KvmAbi.KVM_SET_DEBUGREGS or KvmAbi.KVM_SET_VCPU_EVENTS
        or KvmAbi.KVM_NMI or KvmAbi.KVM_INTERRUPT;

    /// <summary>What the kernel answers to such a request when it does all of it.</summary>
    public static int Expected(ulong request, nint argument) => request == KvmAbi.KVM_SET_MSRS ? Marshal.ReadInt32(argument) : 0;

    /// <summary>The name of such a request in the headers.</summary>
    public static string NameOf(ulong request) => request switch
    {
        KvmAbi.KVM_SET_REGS => nameof(KvmAbi.KVM_SET_REGS),
        KvmAbi.KVM_SET_SREGS => nameof(KvmAbi.KVM_SET_SREGS),
        KvmAbi.KVM_SET_MSRS => nameof(KvmAbi.KVM_SET_MSRS),
        KvmAbi.KVM_SET_DEBUGREGS => nameof(KvmAbi.KVM_SET_DEBUGREGS),
        KvmAbi.KVM_SET_VCPU_EVENTS => nameof(KvmAbi.KVM_SET_VCPU_EVENTS),
        KvmAbi.KVM_NMI => nameof(KvmAbi.KVM_NMI),
        _ => nameof(KvmAbi.KVM_INTERRUPT),
    };

    /// <summary>What is always asked for after a request, so that it can be asked for together with it.</summary>
    public static ReadOnlySpan<ulong> After(ulong request) => request switch
    {
        KvmAbi.KVM_GET_DEBUGREGS => [KvmAbi.KVM_GET_VCPU_EVENTS, KvmAbi.KVM_GET_MSRS],
        _ => [],
    };

    /// <summary>True when the kernel writes into the structure.</summary>
    public static bool IsAnswered(ulong request) => (request & Answered) != 0;
}
