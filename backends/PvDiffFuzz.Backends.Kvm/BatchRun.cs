using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Kvm.KvmAbi;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>Runs many cases an entry: the agent in the guest takes them from shared memory and rings when it is done.</summary>
internal sealed unsafe class BatchRun
{
    private readonly Guest _guest;
    private readonly RunTimer _timer;
    private bool _entered;

    /// <summary>Prepares batches on a guest.</summary>
    public BatchRun(Guest guest, RunTimer timer) => (_guest, _timer) = (guest, timer);

    /// <summary>Number of the case that runs, or ran last.</summary>
    public ulong Sequence => Word(Mailbox.Sequence);

    /// <summary>Says that something else has used the processor.</summary>
    public void Leave() => _entered = false;

    /// <summary>Runs encoded cases; it can stop earlier when the results are full. Their layout is in use and the timer runs.</summary>
    /// <param name="map">The layout.</param>
    /// <param name="first">Offset of the first record in the request buffer.</param>
    /// <param name="end">Offset of the end of the last one.</param>
    /// <returns>Null when the agent is done, else why not.</returns>
    public Death? Run(LayoutMap map, int first, int end)
    {
        const ulong request = GuestMap.Base + GuestMap.Request;
        const ulong results = GuestMap.Base + GuestMap.Results;
        Word(Mailbox.Batch.Record) = request + (ulong)first;
        Word(Mailbox.Batch.RequestEnd) = request + (ulong)end;
        Word(Mailbox.Batch.Result) = results;
        Word(Mailbox.Batch.ResultLimit) = results + GuestMap.ResultsSize - (ulong)Result.Bound(map, Context.Layout);
        Word(Mailbox.Batch.ScanEnd) = GuestMap.Base + GuestMap.Pool + ((ulong)map.WritablePages * PageLayout.PageSize);
        if (!_entered)
        {
            _guest.SetLanding(single: false);
            _guest.Vcpu.ClearEvents();
            Place(_guest.Agent.Start);
            _entered = true;
        }

        Death? death = Wait();
        _entered = death is null;
        return death;
    }

    /// <summary>True when the bytes that nobody writes are as they were.</summary>
    public bool CanaryLives()
    {
        // SAFETY: the mailbox page is mapped as long as the guest lives.
        byte* mailbox = _guest.Memory + GuestMap.MailboxPage;
        return !new ReadOnlySpan<byte>(mailbox + Mailbox.Canary, Mailbox.StackTop - Mailbox.StackSize - Mailbox.Canary).ContainsAnyExcept((byte)0xa5);
    }

    /// <summary>True when nothing but the agent has written to the agent's memory, as far as can be told.</summary>
    /// <param name="map">The layout.</param>
    /// <param name="end">End of the records of the batch, as an offset in the request buffer.</param>
    public bool IsIntact(LayoutMap map, int end) =>
        Word(Mailbox.Batch.RequestEnd) == GuestMap.Base + GuestMap.Request + (ulong)end
        && Word(Mailbox.Batch.ResultLimit) == GuestMap.Base + GuestMap.Results + GuestMap.ResultsSize - (ulong)Result.Bound(map, Context.Layout)
        && Word(Mailbox.Batch.ScanEnd) == GuestMap.Base + GuestMap.Pool + ((ulong)map.WritablePages * PageLayout.PageSize)
        && CanaryLives();

    private Death? Wait()
    {
        ulong sequence = 0;
        long begin = 0;
        while (!_guest.Vcpu.Run())
        {
            _timer.Consume();
            long now = RunTimer.ThreadNanoseconds();
            if (Sequence != sequence || begin == 0)
            {
                sequence = Sequence;
                begin = now;
            }
            else if (now - begin >= RunTimer.LongestRun && StopCase())
            {
                begin = 0;
            }
            else if (now - begin >= RunTimer.LongestWork)
            {
                return new Death("the agent does not come back", Crash: false);
            }
        }

        bool rang = _guest.Vcpu.ExitReason == KVM_EXIT_MMIO && _guest.Vcpu.MmioAddress == GuestMap.DoorbellPhysical;
        return rang ? null : new Death(_guest.Vcpu.DescribeExit(), _guest.Vcpu.ExitReason == KVM_EXIT_SHUTDOWN);
    }

    /// <summary>Takes the processor away from a payload.</summary>
    /// <returns>False when the agent has it anyway.</returns>
    private bool StopCase()
    {
        _guest.Vcpu.GetSregs(out KvmSregs sregs);
        _guest.Vcpu.GetRegs(out KvmRegs regs);
        if ((sregs.Cs.Selector & 3) == 0 || GuestMap.IsAgent(regs.Rip))
        {
            return false;
        }

        _guest.Vcpu.ClearEvents();
        Place(_guest.Agent.Stop);
        return true;
    }

    private void Place(ulong rip)
    {
        KvmSregs sregs = _guest.Clean;
        sregs.Idt.Base = GuestMap.Base + GuestMap.BatchIdt;
        _guest.Vcpu.SetSregs(in sregs);
        KvmRegs regs = new() { Rip = rip, Rflags = RflagsBits.Fixed1 | RflagsBits.IF, Rsp = GuestMap.Base + GuestMap.MailboxPage + Mailbox.StackTop };
        _guest.Vcpu.SetRegs(in regs);
    }

    private ref ulong Word(int field)
    {
        // SAFETY: the mailbox page is mapped as long as the guest lives, and fields are aligned.
        return ref *(ulong*)(_guest.Memory + GuestMap.MailboxPage + field);
    }
}
