using System.Diagnostics;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Waits for the guest, and tells a slow one from a dead one.</summary>
internal static class GuestWatch
{
    /// <summary>Processor time of QEMU after which one case has taken too long: a case takes well under a millisecond.</summary>
    public static readonly TimeSpan LongestCase = TimeSpan.FromMilliseconds(60);

    /// <summary>Time after which a guest is given up that neither works nor says anything: QEMU itself hangs.</summary>
    private static readonly TimeSpan LongestSilence = TimeSpan.FromSeconds(10);

    /// <summary>Time after which a guest that has not used the processor is asked whether it halts.</summary>
    private static readonly TimeSpan LongestRest = TimeSpan.FromMilliseconds(40);

    private const int Spins = 2000;

    /// <summary>Waits until the agent is done with a slot, or needs its results taken.</summary>
    /// <param name="guest">The guest.</param>
    /// <param name="slot">The slot that it works on, or comes to next.</param>
    /// <returns>Null, or what has happened to the guest instead.</returns>
    public static Death? Wait(Guest guest, int slot)
    {
        for (int i = 0; i < Spins; i++)
        {
            if (guest.IsDone(slot) || guest.IsFull(slot))
            {
                return null;
            }

            Thread.SpinWait(20);
        }

        ulong sequence = guest.Sequence;
        long begin = guest.CpuNanoseconds;
        Stopwatch watch = Stopwatch.StartNew();
        TimeSpan nextLook = LongestRest;
        while (!guest.IsDone(slot) && !guest.IsFull(slot))
        {
            guest.Pause();
            if (guest.Sequence != sequence)
            {
                sequence = guest.Sequence;
                begin = guest.CpuNanoseconds;
                watch.Restart();
                nextLook = LongestRest;
            }
            else if (guest.Trouble() is Death death)
            {
                return death;
            }
            else if (watch.Elapsed > nextLook && guest.CpuNanoseconds - begin < nextLook.TotalNanoseconds / 4)
            {
                if (guest.IsHalted() && guest.Sequence == sequence)
                {
                    return new Death(DeathKind.Halt, "the guest waits for an event");
                }

                nextLook += LongestRest;
            }
            else if (guest.CpuNanoseconds - begin > (long)LongestCase.TotalNanoseconds || watch.Elapsed > LongestSilence)
            {
                return new Death(DeathKind.Silence, $"{LongestCase.TotalMilliseconds:0} ms of processor time");
            }
        }

        return null;
    }
}
