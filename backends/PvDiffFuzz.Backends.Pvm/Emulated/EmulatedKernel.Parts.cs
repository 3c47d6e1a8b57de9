using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Backends.Kvm;
using static PvDiffFuzz.Backends.Interop.LinuxAbi;

namespace PvDiffFuzz.Backends.Pvm.Emulated;

/// <content>What callers get from it.</content>
// SAFETY: pointers go into the scratch memory, at places that are constants below its size.
internal sealed unsafe partial class EmulatedKernel
{
    /// <summary>Memory of the host that this process has mapped.</summary>
    private sealed class Region(EmulatedKernel kernel, SafeMapping mapping, ulong address, ulong size) : GuestMemory((nint)mapping.Start, address)
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

    /// <summary>The timer of the host, one for all lanes. It goes on from its first start on; between runs its signal waits.</summary>
    private sealed class Timer(EmulatedKernel kernel, long interval) : IRunTimer
    {
        // The host's own clock of the thread does not count what a guest uses.
        public long Nanoseconds => kernel._machine.CpuNanoseconds;

        public void Start()
        {
            if (kernel._main._ticking)
            {
                return;
            }

            kernel._main._ticking = true;
            kernel.FreeScratch();

            // struct sigevent: value, signal, kind (0: a signal). Then the number of the timer, and an itimerspec of four words.
            byte* at = kernel._scratch!.Start;
            new Span<byte>(at, 128).Clear();
            *(int*)(at + 8) = RunTimer.Signal;
            kernel.Call(SYS_timer_create, CLOCK_MONOTONIC, kernel._scratch.Address, kernel._scratch.Address + SizeOfSignalEvent);
            int timer = *(int*)(at + SizeOfSignalEvent);
            long* value = (long*)at;
            (value[0], value[1], value[2], value[3]) = (0, interval, 0, interval);
            kernel.Call(SYS_timer_settime, (ulong)timer, 0, kernel._scratch.Address, 0);
        }

        public void Stop()
        {
        }

        // The server takes a signal that has ended a run; this is for one that comes before it.
        public void Consume() => kernel.Add(SYS_rt_sigtimedwait, ServerPage.Address + ServerPage.Signals, 0, ServerPage.Address + ServerPage.AtOnce, sizeof(ulong));

        public void Dispose()
        {
        }
    }
}
