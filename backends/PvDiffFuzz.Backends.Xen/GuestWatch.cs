using System.Diagnostics;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Waits for the guest, and tells a slow one from a dead one.</summary>
internal static class GuestWatch
{
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
        CaseClock clock = new(guest.CpuNanoseconds);
        Stopwatch watch = Stopwatch.StartNew();
        while (!guest.IsDone(slot) && !guest.IsFull(slot))
        {
            guest.Pause();
            if (guest.Sequence != sequence)
            {
                sequence = guest.Sequence;
                clock = new CaseClock(guest.CpuNanoseconds);
                watch.Restart();
                continue;
            }

            if (guest.Trouble() is Death death)
            {
                return death;
            }

            switch (clock.Look(watch.Elapsed, guest.CpuNanoseconds))
            {
                case CaseState.Rests when guest.IsShutDown():
                    return new Death(DeathKind.Hypervisor, "Xen itself has crashed: the machine has shut down, as after a triple fault");
                case CaseState.Rests when guest.IsHalted() && guest.Sequence == sequence:
                    return new Death(DeathKind.Halt, "the guest waits for an event");
                case CaseState.Spent:
                    return new Death(DeathKind.Silence, $"{CaseClock.LongestCase.TotalMilliseconds:0} ms of processor time");
            }
        }

        return null;
    }
}
