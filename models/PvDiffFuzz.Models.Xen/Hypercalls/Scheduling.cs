using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Hypercalls;

/// <summary>HYPERVISOR_sched_op, its older form, and HYPERVISOR_vcpu_op as far as it is about the calling CPU.</summary>
internal static class Scheduling
{
    private const ulong Yield = 0;
    private const ulong Block = 1;
    private const ulong Shutdown = 2;
    private const ulong Highest = 7;

    /// <summary>Yields, blocks or shuts down. Commands about events, time and other domains are no part of a case.</summary>
    [Spec("Xen facts", "Structures: SCHEDOP commands")]
    public static long Execute<TGuest>(ref CpuState cpu, Vcpu vcpu, ulong command, ulong at)
        where TGuest : struct, IXenGuest
    {
        switch ((uint)command)
        {
            case (uint)Yield:
                return 0;
            case (uint)Block:
                return BlockUntilUpcall(vcpu);
            case (uint)Shutdown:
                return GuestCopy.TryRead<TGuest, uint>(vcpu, at, out uint reason) ? ShutDown(vcpu, reason) : Errno.EFAULT;
            default:
                return (uint)command > Highest ? Errno.ENOSYS : Dispatcher.NotModelled(vcpu, "a command of HYPERVISOR_sched_op about events, time or other domains");
        }
    }

    /// <summary>The older form has the reason of a shutdown as its argument.</summary>
    [Spec("Xen facts", "Hypercall numbers: sched_op_compat")]
    public static long ExecuteCompat(Vcpu vcpu, ulong command, ulong argument) => (uint)command switch
    {
        (uint)Yield => 0,
        (uint)Block => BlockUntilUpcall(vcpu),
        (uint)Shutdown => ShutDown(vcpu, (uint)argument),
        _ => Errno.ENOSYS,
    };

    /// <summary>Whether the calling CPU is up.</summary>
    [Spec("Xen facts", "Hypercall numbers: vcpu_op")]
    public static long ExecuteVcpuOp(Vcpu vcpu, ulong command, ulong cpu)
    {
        const uint isUp = 3;
        return (uint)command == isUp && (uint)cpu == 0 ? 1 : Dispatcher.NotModelled(vcpu, "a command of HYPERVISOR_vcpu_op about other CPUs, time or shared memory");
    }

    /// <summary>Upcalls are unmasked; without one the guest halts.</summary>
    [Spec("Xen facts", "Hypercall ABI: SCHEDOP_block")]
    private static long BlockUntilUpcall(Vcpu vcpu)
    {
        vcpu.UpcallMask = 0;
        if (!vcpu.UpcallDue)
        {
            vcpu.End(Verdict.Halt, "blocked");
        }

        return 0;
    }

    [Spec("Xen facts", "Structures: shutdown reasons")]
    [Spec("xen-readings", "shutdown")]
    private static long ShutDown(Vcpu vcpu, uint reason)
    {
        const uint crash = 3;
        if (reason == crash)
        {
            vcpu.End(Verdict.Crash, "domain crash: the guest reports one of its own");
            return 0;
        }

        return Dispatcher.NotModelled(vcpu, "the guest shuts down, which is no end of a case");
    }
}
