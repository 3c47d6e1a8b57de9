namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Lets lanes go on as their runs end, all on this thread: while the kernel runs the guest of one, the others' outcomes are read and their next cases written.</summary>
internal static class LanePump
{
    /// <summary>Waits until all lanes have done their work.</summary>
    /// <param name="lanes">Lanes and what they have begun.</param>
    /// <exception cref="IOException">The kernel is gone; no lane is under way any more.</exception>
    public static void Run(IReadOnlyCollection<(Lane Lane, Task Work)> lanes)
    {
        // Where a thread has a context of its own, as those of test runners have, what goes on behind a run would go on beside this loop, on other threads.
        SynchronizationContext? context = SynchronizationContext.Current;
        SynchronizationContext.SetSynchronizationContext(null);
        try
        {
            for (int waits = 0; lanes.Any(l => !l.Work.IsCompleted);)
            {
                bool advanced = false;
                foreach ((Lane lane, _) in lanes)
                {
                    advanced |= lane.Kernel.Advance();
                }

                if (lanes.FirstOrDefault(l => l.Work.IsFaulted).Work is Task failed)
                {
                    failed.GetAwaiter().GetResult();
                }

                waits = advanced ? 0 : waits + 1;
                if (!advanced)
                {
                    lanes.First().Lane.Kernel.Rest(waits - 1);
                }
            }

            foreach ((_, Task work) in lanes)
            {
                work.GetAwaiter().GetResult();
            }
        }
        catch (IOException e)
        {
            foreach ((Lane lane, _) in lanes)
            {
                lane.Kernel.Abandon(e);
            }

            throw;
        }
        finally
        {
            SynchronizationContext.SetSynchronizationContext(context);
        }
    }
}
