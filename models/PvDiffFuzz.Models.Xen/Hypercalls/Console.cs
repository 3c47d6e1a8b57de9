using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Hypercalls;

/// <summary>HYPERVISOR_console_io.</summary>
internal static class Console
{
    /// <summary>Writing succeeds when the buffer can be read. What a console has to read is no part of a case.</summary>
    [Spec("Xen facts", "Structures: CONSOLEIO commands")]
    [Spec("xen-readings", "console")]
    public static long Execute<TGuest>(ref CpuState cpu, Vcpu vcpu, ulong command, ulong count, ulong buffer)
        where TGuest : struct, IXenGuest
    {
        const int write = 0;
        const int read = 1;
        switch ((int)command)
        {
            case write:
                return CanRead<TGuest>(vcpu, buffer, (uint)count) ? 0 : Errno.EFAULT;
            case read:
                return Dispatcher.NotModelled(vcpu, "the guest reads from the console, and what is there is no part of a case");
            default:
                return Errno.ENOSYS;
        }
    }

    private static bool CanRead<TGuest>(Vcpu vcpu, ulong buffer, uint count)
        where TGuest : struct, IXenGuest
    {
        for (uint done = 0; done < count;)
        {
            int part = (int)Math.Min(count - done, PageLayout.PageSize);
            if (!GuestCopy.CanRead<TGuest>(vcpu, buffer + done, part))
            {
                return false;
            }

            done += (uint)part;
        }

        return true;
    }
}
