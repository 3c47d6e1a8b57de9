using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Hypercalls;

/// <summary>HYPERVISOR_multicall: several calls from a list in memory.</summary>
internal static class Multicall
{
    private const int Arguments = 6;

    /// <summary>Makes the calls in order and stores each result in its entry. Entries are a number, a result and six arguments, each as wide as a pointer.</summary>
    [Spec("Xen facts", "Structures: multicall_entry")]
    [Spec("Xen facts", "Hypercall ABI: multicall")]
    [Spec("xen-readings", "calls-in-a-multicall")]
    public static long Execute<TGuest>(ref CpuState cpu, Vcpu vcpu, ulong list, ulong count)
        where TGuest : struct, IXenGuest
    {
        ulong width = (ulong)TGuest.PointerSize;
        ulong size = width * (2 + Arguments);
        Span<ulong> arguments = stackalloc ulong[Arguments];
        for (uint i = 0; i < (uint)count; i++)
        {
            ulong at = list + (i * size);
            if (!GuestCopy.CanRead<TGuest>(vcpu, at, (int)size))
            {
                return Errno.EFAULT;
            }

            GuestCopy.TryReadLong<TGuest>(vcpu, at, out ulong number);
            for (int j = 0; j < Arguments; j++)
            {
                GuestCopy.TryReadLong<TGuest>(vcpu, at + ((ulong)(2 + j) * width), out arguments[j]);
            }

            long result = CallOne<TGuest>(ref cpu, vcpu, number, arguments);
            if (vcpu.Verdict is not (Verdict.Running or Verdict.Halt))
            {
                return 0;
            }

            if (!GuestCopy.TryWriteLong<TGuest>(vcpu, at + width, (ulong)result))
            {
                return Errno.EFAULT;
            }

            // A guest that blocks does so after the call that told it to.
            if (vcpu.Verdict == Verdict.Halt)
            {
                return 0;
            }
        }

        return 0;
    }

    /// <summary>A list in a list is refused, and a return from one is not told of.</summary>
    [Spec("xen-readings", "calls-in-a-multicall")]
    private static long CallOne<TGuest>(ref CpuState cpu, Vcpu vcpu, ulong number, scoped ReadOnlySpan<ulong> arguments)
        where TGuest : struct, IXenGuest => number switch
        {
            HypercallNumbers.Multicall => Errno.EINVAL,
            HypercallNumbers.Iret => Dispatcher.NotModelled(vcpu, "HYPERVISOR_iret in a list of calls"),
            _ => Dispatcher.Call<TGuest>(ref cpu, vcpu, number, arguments),
        };
}
