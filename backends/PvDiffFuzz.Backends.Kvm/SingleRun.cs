using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Kvm.KvmAbi;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>Why a guest ran no further.</summary>
/// <param name="Reason">The exit, in words.</param>
/// <param name="Crash">True when the guest did it to itself (shutdown), false for trouble of the host's.</param>
internal sealed record Death(string Reason, bool Crash);

/// <summary>Runs one case an entry: everything is set by ioctl beforehand, and each event leaves the guest.</summary>
/// <remarks>Slow and plain. What the fast way says is doubted here, and handlers of CPL0 do nothing but leave, so that all registers are read by KVM.</remarks>
internal sealed unsafe class SingleRun(Guest guest, RunTimer timer)
{
    /// <summary>In a context's vector: the size of the frame was seen, so that the error code need not be guessed by the vector.</summary>
    public const uint FrameSizeKnown = 1 << 16;

    /// <summary>In a context's vector: the frame has an error code.</summary>
    public const uint ErrorCodePushed = 1 << 17;

    private const ulong StackTop = GuestMap.Base + GuestMap.Ring0Stack + GuestMap.StackTop;
    private const ulong Landing = GuestMap.Base + GuestMap.SingleLanding;

    /// <summary>True where KVM does not tell the selectors that a payload has loaded, so that code at CPL3 must look.</summary>
    public bool LooksForSelectors { get; set; }

    /// <summary>Runs a case; its layout is in use and the timer runs.</summary>
    /// <param name="map">The layout.</param>
    /// <param name="record">The encoded case.</param>
    /// <param name="result">Where to write the result.</param>
    /// <param name="death">Why there is no result, or null.</param>
    /// <returns>The first byte after the result.</returns>
    public byte* Run(LayoutMap map, byte* record, byte* result, out Death? death)
    {
        // SAFETY: the record is whole, and the result has room for the worst case of the layout.
        *(ulong*)(result + Result.Events) = 0;
        byte* at = result + Result.HeaderSize;
        guest.SetLanding(single: true);
        LoadMemory(record);
        guest.Vcpu.SetXsave(guest.CleanState);
        guest.Vcpu.ClearEvents();
        byte* context = stackalloc byte[Context.Size];
        new Span<byte>(record + Record.Initial, Context.SizeOfInput).CopyTo(new Span<byte>(context, Context.Size));
        uint left = *(uint*)(record + Record.Responses);
        byte* response = record + *(uint*)(record + Record.ResponsesAt(Context.Layout));
        while (true)
        {
            Enter(context);
            death = Wait(out bool stopped);
            if (stopped)
            {
                *(uint*)(result + Result.Status) = Result.Stopped;
                break;
            }

            death ??= Capture(at);
            if (death is not null)
            {
                return result;
            }

            ++*(uint*)(result + Result.Events);
            byte* happened = at;
            at += Context.Size;
            if (*(uint*)(happened + Context.Vector) != GuestMap.SyscallVector && GuestMap.IsAgent(*(ulong*)(happened + Context.Rip)))
            {
                *(uint*)(result + Result.Status) = Result.Refused;
                break;
            }

            if (IsEnd(happened, *(ulong*)(record + Record.End)) || left-- == 0)
            {
                break;
            }

            new Span<byte>(happened, Context.SizeOfInput).CopyTo(new Span<byte>(context, Context.Size));
            response = Apply(response, context);
        }

        at = UnloadMemory(map, record, at);
        *(ulong*)(result + Result.EndAt) = (ulong)at;
        return at;
    }

    private static bool IsEnd(byte* context, ulong end)
    {
        // SAFETY: a whole context is here.
        ulong rip = *(ulong*)(context + Context.Rip);
        return (*(uint*)(context + Context.Vector) & 0xffff) == 14 && (*(uint*)(context + Context.Below) & 0x10) != 0 && rip == end && *(ulong*)(context + Context.Extra) == end;
    }

    private void LoadMemory(byte* record)
    {
        // SAFETY: the runs of the record lie in the pool.
        byte* pool = guest.Memory + GuestMap.Pool;
        byte* run = record + Record.FirstRun(Context.Layout);
        for (uint left = *(uint*)(record + Record.Runs(Context.Layout)); left > 0; left--)
        {
            int bytes = (int)(*(uint*)(run + 4) & ~Record.ReadOnlyRun) * 8;
            new Span<byte>(run + 8, bytes).CopyTo(new Span<byte>(pool + *(uint*)run, bytes));
            run += 8 + bytes;
        }
    }

    /// <summary>Moves what writable pages hold to the result and clears the pool, as the agent does.</summary>
    private byte* UnloadMemory(LayoutMap map, byte* record, byte* at)
    {
        // SAFETY: as in LoadMemory; a result has room for all words of the writable pages.
        byte* pool = guest.Memory + GuestMap.Pool;
        byte* run = record + Record.FirstRun(Context.Layout);
        for (uint left = *(uint*)(record + Record.Runs(Context.Layout)); left > 0; left--)
        {
            int bytes = (int)(*(uint*)(run + 4) & ~Record.ReadOnlyRun) * 8;
            if ((*(uint*)(run + 4) & Record.ReadOnlyRun) != 0)
            {
                new Span<byte>(pool + *(uint*)run, bytes).Clear();
            }

            run += 8 + bytes;
        }

        Span<ulong> words = new(pool, map.WritablePages * (PageLayout.PageSize / 8));
        for (int first = 0; ;)
        {
            int skipped = words[first..].IndexOfAnyExcept(0UL);
            if (skipped < 0)
            {
                return at;
            }

            first += skipped;
            *(ulong*)at = (ulong)first * 8;
            *(ulong*)(at + 8) = words[first];
            words[first] = 0;
            at += 16;
        }
    }

    private static byte* Apply(byte* response, byte* context)
    {
        // SAFETY: a response as CaseEncoder writes it; places lie in the context.
        uint patches = *(uint*)response;
        response += 8;
        for (; patches > 0; patches--, response += Record.PatchSize)
        {
            byte* place = context + *(int*)response;
            ulong value = *(ulong*)(response + 8);
            if (*(int*)(response + 4) == 2)
            {
                *(ushort*)place = (ushort)value;
            }
            else
            {
                *(ulong*)place = value;
            }
        }

        return response;
    }

    /// <summary>Sets all registers, and lets code at CPL3 load those that not every KVM loads.</summary>
    private void Enter(byte* context)
    {
        // SAFETY: a whole context is here; the frame lies in the mailbox's page.
        byte* frame = guest.Memory + GuestMap.MailboxPage + Mailbox.Scratch;
        ulong* gpr = (ulong*)(context + Context.Gpr);
        new Span<byte>(context + Context.Rip, EntryFrame.Selectors).CopyTo(new Span<byte>(frame, EntryFrame.Selectors));
        new Span<byte>(context + Context.Ds, EntryFrame.SegmentsSize).CopyTo(new Span<byte>(frame + EntryFrame.Selectors, EntryFrame.SegmentsSize));
        *(ulong*)(frame + EntryFrame.Rax) = gpr[0];
        guest.Vcpu.SetSregs(guest.Clean);
        KvmRegs regs = new()
        {
            Rcx = gpr[1],
            Rdx = gpr[2],
            Rbx = gpr[3],
            Rbp = gpr[5],
            Rsi = gpr[6],
            Rdi = gpr[7],
            R8 = gpr[8],
            R9 = gpr[9],
            R10 = gpr[10],
            R11 = gpr[11],
            R12 = gpr[12],
            R13 = gpr[13],
            R14 = gpr[14],
            R15 = gpr[15],
            Rsp = GuestMap.Base + GuestMap.MailboxPage + Mailbox.Scratch,
            Rip = GuestMap.Base + GuestMap.SingleEntry,
            Rflags = RflagsBits.Fixed1 | RflagsBits.IF,
        };
        guest.Vcpu.SetRegs(in regs);
    }

    /// <summary>Runs until the guest leaves through a port, or for too long.</summary>
    private Death? Wait(out bool stopped)
    {
        stopped = !RunUntilExit(RunTimer.LongestRun);
        return stopped || guest.Vcpu.ExitReason == KVM_EXIT_IO ? null : new Death(guest.Vcpu.DescribeExit(), guest.Vcpu.ExitReason == KVM_EXIT_SHUTDOWN);
    }

    /// <summary>Runs until the guest leaves, whatever the reason.</summary>
    /// <param name="limit">Processor time in nanoseconds.</param>
    /// <returns>False when it was stopped after that time.</returns>
    private bool RunUntilExit(long limit)
    {
        long begin = 0;
        while (!guest.Vcpu.Run())
        {
            timer.Consume();
            long now = RunTimer.ThreadNanoseconds();
            begin = begin == 0 ? now : begin;
            if (now - begin >= limit)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>Writes the event that left the guest.</summary>
    private Death? Capture(byte* context)
    {
        // SAFETY: room for a context is here; the stack of CPL0 lies in the guest's memory.
        uint vector = guest.Vcpu.IoPort;
        guest.Vcpu.GetRegs(out KvmRegs regs);
        guest.Vcpu.GetSregs(out KvmSregs sregs);
        ulong* gpr = (ulong*)(context + Context.Gpr);
        ReadOnlySpan<ulong> values =
        [
            regs.Rax, regs.Rcx, regs.Rdx, regs.Rbx, 0, regs.Rbp, regs.Rsi, regs.Rdi, regs.R8, regs.R9, regs.R10, regs.R11, regs.R12, regs.R13, regs.R14, regs.R15,
        ];
        values.CopyTo(new Span<ulong>(gpr, values.Length));
        *(ushort*)(context + Context.Ds) = sregs.Ds.Selector;
        *(ushort*)(context + Context.Es) = sregs.Es.Selector;
        *(ushort*)(context + Context.Fs) = sregs.Fs.Selector;
        *(ushort*)(context + Context.Gs) = sregs.Gs.Selector;
        *(ulong*)(context + Context.FsBase) = sregs.Fs.Base;
        *(ulong*)(context + Context.GsBase) = sregs.Gs.Base;
        if (LooksForSelectors && LookForSelectors(context) is Death death)
        {
            return death;
        }

        if (regs.Rip - Landing < PageLayout.PageSize)
        {
            WriteLanding(context, regs.Rsp, sregs.Cs.Selector);
            return null;
        }

        byte* top = guest.Memory + GuestMap.Ring0Stack + GuestMap.StackTop;
        ulong pushed = StackTop - regs.Rsp;
        if (pushed is not (40 or 48))
        {
            return new Death($"vector {vector} came with a frame of {pushed} bytes", Crash: false);
        }

        new Span<byte>(top - 40, 40).CopyTo(new Span<byte>(context + Context.Rip, 40));
        *(ulong*)(context + Context.Below) = *(ulong*)(top - 48);
        *(ulong*)(context + Context.Extra) = sregs.Cr2;
        *(ulong*)(context + Context.Vector) = vector | FrameSizeKnown | (pushed == 48 ? ErrorCodePushed : 0);
        ulong rip = *(ulong*)(context + Context.Rip);
        if (vector == 13 && rip == Landing)
        {
            // SYSCALL came here without CPL0, so that the way out faulted.
            WriteLanding(context, *(ulong*)(context + Context.Rsp), *(ushort*)(context + Context.Cs));
        }

        return null;
    }

    /// <summary>Lets the guest go on to code that stores the selectors; what KVM knows of the event has been read before.</summary>
    private Death? LookForSelectors(byte* context)
    {
        bool left = RunUntilExit(RunTimer.LongestWork);
        if (!left || guest.Vcpu.ExitReason != KVM_EXIT_MMIO)
        {
            return new Death($"{(left ? guest.Vcpu.DescribeExit() : "no exit")} while looking at selectors", Crash: false);
        }

        // SAFETY: four selectors stand in the mailbox's page.
        new Span<byte>(guest.Memory + GuestMap.MailboxPage + Mailbox.Selectors, 8).CopyTo(new Span<byte>(context + Context.Ds, 8));
        return null;
    }

    /// <summary>Makes an event of a landing: what a return would take from RCX and R11 stands for the frame.</summary>
    private static void WriteLanding(byte* context, ulong rsp, ushort cs)
    {
        // SAFETY: a whole context is here.
        ulong* gpr = (ulong*)(context + Context.Gpr);
        *(ulong*)(context + Context.Rip) = gpr[1];
        *(ulong*)(context + Context.Cs) = Selectors.UserCode64;
        *(ulong*)(context + Context.Rflags) = gpr[11];
        *(ulong*)(context + Context.Rsp) = rsp;
        *(ulong*)(context + Context.Ss) = Selectors.UserData;
        *(ulong*)(context + Context.Below) = cs;
        *(ulong*)(context + Context.Extra) = 0;
        *(ulong*)(context + Context.Vector) = GuestMap.SyscallVector;
    }
}
