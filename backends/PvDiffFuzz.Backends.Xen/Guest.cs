using System.Diagnostics;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Xen.XenAbi;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>What the user root of a guest maps.</summary>
internal enum UserRoot
{
    /// <summary>The same as the kernel's root.</summary>
    Shared,

    /// <summary>Pages of its own.</summary>
    Own,

    /// <summary>None is registered.</summary>
    None,
}

/// <summary>Machine frames of a guest that hypercalls name.</summary>
/// <param name="Gdt">The first of the guest's part of the GDT.</param>
/// <param name="UserRoot">The user root with pages of its own.</param>
/// <param name="SharedRoot">The user root that maps what the kernel's root maps.</param>
internal readonly record struct GuestFrames(ulong Gdt, ulong UserRoot, ulong SharedRoot);

/// <summary>A Xen that has booted with our kernel, ready for cases, and its snapshot of that moment.</summary>
internal sealed unsafe class Guest : IDisposable
{
    private static readonly TimeSpan LongestAnswer = TimeSpan.FromSeconds(20);

    /// <summary>Word of the monitor's status for a machine that has to be reset.</summary>
    private const string MachineShutDown = "shutdown";
    private static readonly TimeSpan LongestFarewell = TimeSpan.FromMilliseconds(500);
    private static readonly TimeSpan LongestBoot = TimeSpan.FromSeconds(60);
    private const int SizeOfMmuUpdate = 16;
    private const int SizeOfMmuextOp = 24;

    private readonly QemuProcess _qemu;
    private readonly AgentCode _agent;
    private readonly List<(int Place, ulong Entry)> _accepted = [];
    private byte* _base;
    private ulong _firstFrame;
    private int _slotOfSnapshot;

    private Guest(QemuProcess qemu, AgentCode agent) => (_qemu, _agent) = (qemu, agent);

    /// <summary>Writes the parts of a record.</summary>
    public delegate void RecordParts(ref RecordWriter writer);

    /// <summary>What Xen said while it booted.</summary>
    public string BootConsole { get; private set; } = string.Empty;

    /// <summary>What RCX holds after the agent's HYPERVISOR_iret.</summary>
    public ulong Returned => _agent.Returned;

    /// <summary>The layout whose tables are in use; null for none.</summary>
    public LayoutMap? Layout { get; private set; }

    /// <summary>Frames that cases need; of the layout in use.</summary>
    public GuestFrames Frames { get; private set; }

    /// <summary>The slot that the agent takes next.</summary>
    public int NextSlot { get; private set; }

    /// <summary>Number of records begun so far.</summary>
    public ulong Sequence => Volatile.Read(ref Word(Mailbox.Sequence));

    /// <summary>Process id of QEMU.</summary>
    public int ProcessId => _qemu.Id;

    /// <summary>Processor time that QEMU has used, in nanoseconds.</summary>
    public long CpuNanoseconds => _qemu.CpuNanoseconds;

    /// <summary>Starts QEMU, waits for the kernel, prepares it, and takes the snapshot.</summary>
    /// <param name="installation">What to start.</param>
    /// <exception cref="QemuException">Something went wrong on the way; the message has the last words of Xen or QEMU.</exception>
    /// <exception cref="IOException">QEMU cannot be executed, an image cannot be read, or this process has not enough memory or descriptors.</exception>
    public static Guest Start(XenInstallation installation)
    {
        AgentCode agent = AgentCode.Assemble(installation.HasSegmentBases);
        Guest guest = new(QemuProcess.Start(installation, KernelImage.Build(agent)), agent);
        try
        {
            guest.Boot();
            return guest;
        }
        catch
        {
            guest.Dispose();
            throw;
        }
    }

    /// <summary>Memory of the kernel in this process.</summary>
    /// <param name="offset">As in <see cref="GuestMap"/>.</param>
    public byte* At(int offset) => _base + offset;

    /// <summary>Machine address of an offset of the kernel.</summary>
    public ulong MachineAddress(int offset) => (_firstFrame << 12) + (ulong)offset;

    /// <summary>Hands records to the agent, in <see cref="NextSlot"/>.</summary>
    /// <param name="end">Bytes of the slot's request buffer that hold records.</param>
    /// <param name="worstResult">Most bytes that a result can take.</param>
    public void Submit(int end, int worstResult)
    {
        int slot = NextSlot;
        ulong first = GuestMap.At(GuestMap.RequestsOf(slot));
        ulong results = GuestMap.At(GuestMap.ResultsOf(slot));
        SlotField(slot, Mailbox.SlotFirst) = first;
        SlotField(slot, Mailbox.SlotEnd) = first + (ulong)end;
        SlotField(slot, Mailbox.SlotResults) = results;
        SlotField(slot, Mailbox.SlotLimit) = results + GuestMap.ResultsSize - (ulong)worstResult;
        SlotField(slot, Mailbox.SlotFinished) = 0;
        Volatile.Write(ref SlotField(slot, Mailbox.SlotState), Mailbox.Ready);
        NextSlot = slot ^ 1;
    }

    /// <summary>Lets the agent go on with a slot whose results were taken.</summary>
    /// <param name="slot">One for which <see cref="IsFull"/> is true.</param>
    /// <param name="first">Where its next record begins in the slot's request buffer.</param>
    public void Resume(int slot, int first)
    {
        SlotField(slot, Mailbox.SlotFirst) = GuestMap.At(GuestMap.RequestsOf(slot)) + (ulong)first;
        SlotField(slot, Mailbox.SlotFinished) = 0;
        Volatile.Write(ref SlotField(slot, Mailbox.SlotState), Mailbox.Ready);
    }

    /// <summary>True when the agent is done with a slot.</summary>
    public bool IsDone(int slot) => Volatile.Read(ref SlotField(slot, Mailbox.SlotState)) == Mailbox.Idle;

    /// <summary>True when the agent waits until the results of a slot are taken.</summary>
    public bool IsFull(int slot) => Volatile.Read(ref SlotField(slot, Mailbox.SlotState)) == Mailbox.Full;

    /// <summary>True when a case has loaded LDTR or TR, so that the agent waits for the snapshot.</summary>
    public bool IsTorn => Word(Mailbox.Torn) != 0;

    /// <summary>Number of records of a slot that were run.</summary>
    public int Finished(int slot) => (int)SlotField(slot, Mailbox.SlotFinished);

    /// <summary>Waits for a millisecond, or less when QEMU has something to tell.</summary>
    public void Pause() => _qemu.Monitor.Pause();

    /// <summary>Tells what has happened to the guest, if something has.</summary>
    /// <returns>Null while nothing is wrong.</returns>
    public Death? Trouble() =>
        _qemu.Ended is string ended ? new Death(DeathKind.Qemu, $"QEMU has ended ({ended}): {Death.LastLine(_qemu.ReadConsole())}")
        : _qemu.ConsoleLength == 0 ? null
        : Death.Of(_qemu.ReadConsole());

    /// <summary>Makes hypercalls and waits for them.</summary>
    /// <param name="room">Most hypercalls.</param>
    /// <param name="parts">Writes them, and data that they need.</param>
    /// <exception cref="QemuException">The guest does not answer, or Xen refuses one.</exception>
    public void Call(int room, RecordParts parts)
    {
        int slot = NextSlot;
        byte* record = At(GuestMap.RequestsOf(slot));
        RecordWriter writer = new(record, GuestMap.At(GuestMap.RequestsOf(slot)), room);
        parts(ref writer);
        byte* end = writer.Finish(RecordFlags.NoPayload);
        long[] numbers = new long[writer.Hypercalls];
        for (int i = 0; i < numbers.Length; i++)
        {
            numbers[i] = RecordWriter.ResultOf(record, i);
        }

        Submit((int)(end - record), 0);
        WaitFor(() => IsDone(slot), LongestAnswer, "our kernel does not answer");
        for (int i = 0; i < numbers.Length; i++)
        {
            if (RecordWriter.ResultOf(record, i) < 0)
            {
                throw new QemuException($"Xen refuses hypercall {numbers[i]} ({i + 1} of {numbers.Length}) with {RecordWriter.ResultOf(record, i)}");
            }
        }
    }

    /// <summary>The first bytes of vcpu_info as Xen has them.</summary>
    public ReadOnlySpan<byte> VcpuInfo => new(_qemu.Memory + StartInfo(StartInfoSharedInfo), sizeof(ulong) * 3);

    /// <summary>True when the guest's processor is halted in the middle of a case: nothing that the guest could run is left.</summary>
    public bool IsHalted() => Word(Mailbox.Busy) != 0 && _qemu.Monitor.Human("info registers", LongestAnswer).Contains("HLT=1", StringComparison.Ordinal);

    /// <summary>True when the machine has stopped for good.</summary>
    public bool IsShutDown() => _qemu.Monitor.Human("info status", LongestAnswer).Contains(MachineShutDown, StringComparison.Ordinal);

    /// <summary>Back to the moment of the snapshot.</summary>
    /// <exception cref="QemuException">The monitor does not answer, or cannot load the snapshot.</exception>
    public void Restore()
    {
        Monitor($"loadvm {QemuCommandLine.SnapshotTag}");
        _qemu.ForgetConsole();
        if (IsShutDown())
        {
            // A machine that a triple fault has shut down does not go on, snapshot or not, before it was reset. A reset shuts it down as long as QEMU is told so.
            _qemu.Monitor.Execute("{\"execute\":\"set-action\",\"arguments\":{\"reboot\":\"reset\"}}", LongestAnswer);
            _qemu.Monitor.Execute("{\"execute\":\"system_reset\"}", LongestAnswer);
            WaitFor(() => !IsShutDown(), LongestAnswer, "the machine cannot be reset");
            _qemu.Monitor.Execute("{\"execute\":\"set-action\",\"arguments\":{\"reboot\":\"shutdown\"}}", LongestAnswer);
            Monitor($"loadvm {QemuCommandLine.SnapshotTag}");
        }

        _qemu.Monitor.Execute("{\"execute\":\"cont\"}", LongestAnswer);
        NextSlot = _slotOfSnapshot;
        Layout = null;
    }

    /// <summary>Puts the page tables of a layout to use, which needs a guest as in the snapshot.</summary>
    /// <param name="map">The layout.</param>
    /// <param name="ports">Entries at other places than the usual one.</param>
    /// <exception cref="QemuException">Xen refuses them.</exception>
    public void Use(LayoutMap map, PortPlan ports)
    {
        List<ulong> extra = [];
        foreach ((ulong address, byte[] contents) in ports.IsEmpty ? [] : Ports.Build(ports, map, _agent))
        {
            // SAFETY: as many pages as PortPlan.Trouble allows are set aside.
            contents.CopyTo(new Span<byte>(At(GuestMap.PortPages + (extra.Count * PageLayout.PageSize)), PageLayout.PageSize));
            extra.Add(address);
        }

        PageTables tables = PageTables.Build(map, extra, _firstFrame);
        for (int i = 0; i < tables.Frames.Count; i++)
        {
            // SAFETY: as many frames as LayoutMap.Trouble allows are set aside.
            tables.Frames[i].CopyTo(new Span<byte>(At(GuestMap.Tables + (i * PageLayout.PageSize)), PageLayout.PageSize));
        }

        ulong userRoot = MachineAddress(GuestMap.Tables + (tables.UserRoot * PageLayout.PageSize)) >> 12;
        ulong sharedRoot = MachineAddress(GuestMap.Tables + (tables.SharedRoot * PageLayout.PageSize)) >> 12;
        Call(2, (ref RecordWriter writer) =>
        {
            ulong root = MachineAddress(OffsetOf(StartInfo(StartInfoPageTable)));
            ulong* update = (ulong*)writer.Data(tables.KernelRoot.Count * SizeOfMmuUpdate, out ulong updates);
            foreach ((int index, ulong value) in tables.KernelRoot)
            {
                *update++ = root + (ulong)(index * sizeof(ulong));
                *update++ = value;
            }

            writer.Hypercall(HYPERVISOR_mmu_update, updates, (ulong)tables.KernelRoot.Count, 0, DOMID_SELF);

            // Both roots are checked now, so that a change from one to the other costs little.
            ulong* pin = (ulong*)writer.Data(2 * SizeOfMmuextOp, out ulong pins);
            foreach (ulong frame in (ReadOnlySpan<ulong>)[userRoot, sharedRoot])
            {
                (pin[0], pin[1], pin[2]) = (MMUEXT_PIN_L4_TABLE, frame, 0);
                pin += SizeOfMmuextOp / sizeof(ulong);
            }

            writer.Hypercall(HYPERVISOR_mmuext_op, pins, 2, 0, DOMID_SELF);
        });
        Frames = new GuestFrames(MachineAddress(GuestMap.Gdt) >> 12, userRoot, sharedRoot);
        _accepted.Clear();
        foreach (int place in tables.Entries)
        {
            _accepted.Add((place, *(ulong*)At(place) & ~(PageTables.Accessed | PageTables.Dirty)));
        }

        byte* item = At(GuestMap.DirtyList);
        foreach ((int first, int second, int offset) in tables.Watched)
        {
            *(ulong*)(item + DirtyEntry.First) = GuestMap.At(first);
            *(ulong*)(item + DirtyEntry.Second) = GuestMap.At(second);
            *(ulong*)(item + DirtyEntry.Offset) = (ulong)offset;
            *(ulong*)(item + DirtyEntry.FirstUpdate) = MachineAddress(first);
            *(ulong*)(item + DirtyEntry.FirstUpdate + sizeof(ulong)) = CleanEntry(first);
            *(ulong*)(item + DirtyEntry.SecondUpdate) = MachineAddress(second);
            *(ulong*)(item + DirtyEntry.SecondUpdate + sizeof(ulong)) = CleanEntry(second);
            item += DirtyEntry.Size;
        }

        Word(Mailbox.DirtyCount) = (ulong)tables.Watched.Count;
        Layout = map;
    }

    /// <summary>True when the page tables are as Xen accepted them, but for the marks of the processor; also when the mailbox has bytes that nobody writes as they were.</summary>
    public bool IsIntact()
    {
        ReadOnlySpan<byte> canary = new(At(GuestMap.MailboxPage) + Mailbox.Canary, Mailbox.StackTop - Mailbox.StackSize - Mailbox.Canary);
        if (canary.ContainsAnyExcept(KernelImage.CanaryByte))
        {
            return false;
        }

        foreach ((int place, ulong entry) in _accepted)
        {
            if ((*(ulong*)At(place) & ~(PageTables.Accessed | PageTables.Dirty)) != entry)
            {
                return false;
            }
        }

        return true;
    }

    /// <inheritdoc/>
    public void Dispose() => _qemu.Dispose();

    /// <summary>An entry of a page table without the mark of a written page.</summary>
    private ulong CleanEntry(int place) => (*(ulong*)At(place) & ~PageTables.Dirty) | PageTables.Accessed;

    private static int OffsetOf(ulong linear) => linear - GuestMap.Base <= int.MaxValue ? (int)(linear - GuestMap.Base) : throw new QemuException($"{linear:x}: Xen has put this far from our kernel");

    private void Boot()
    {
        try
        {
            _qemu.Monitor.Greet(LongestAnswer);
            WaitFor(Find, LongestBoot, "our kernel does not come up");
            BootConsole = _qemu.ReadConsole(QemuProcess.WholeBoot);
            CheckFrames();
            Prepare();
            _slotOfSnapshot = NextSlot;
            Monitor($"savevm {QemuCommandLine.SnapshotTag}");
            _qemu.ForgetConsole();
        }
        catch (QemuException e)
        {
            // A QEMU that gives up closes the monitor first, and says why.
            Stopwatch watch = Stopwatch.StartNew();
            Death? death = Trouble();
            while (death is null && watch.Elapsed < LongestFarewell)
            {
                Pause();
                death = Trouble();
            }

            throw new QemuException(death is null ? $"{e.Message}; the last words are: {Death.LastLine(_qemu.ReadConsole())}" : $"{e.Message}; {death.Reason}");
        }
    }

    /// <summary>Looks for the kernel's mailbox in the machine's memory.</summary>
    private bool Find()
    {
        for (long offset = 0; offset < (long)QemuCommandLine.RamMegabytes << 20; offset += PageLayout.PageSize)
        {
            byte* page = _qemu.Memory + offset;
            if (*(ulong*)(page + Mailbox.Magic) == Mailbox.MagicValue && offset >= GuestMap.MailboxPage)
            {
                _base = _qemu.Memory + offset - GuestMap.MailboxPage;
                _firstFrame = (ulong)(offset - GuestMap.MailboxPage) / PageLayout.PageSize;
                return true;
            }
        }

        return false;
    }

    /// <summary>Makes sure that the kernel is one piece of the machine's memory: Xen's list of frames says so.</summary>
    private void CheckFrames()
    {
        ulong* frames = (ulong*)At(OffsetOf(StartInfo(StartInfoFrameList)));
        for (int i = 0; i < GuestMap.Size / PageLayout.PageSize; i++)
        {
            if (frames[i] != _firstFrame + (ulong)i)
            {
                throw new QemuException("Xen has scattered our kernel over memory");
            }
        }
    }

    /// <summary>
    /// What has to be done once: the shared page becomes visible; frames for page tables and descriptors can be written by Xen alone, which takes no others for these; and what runs there
    /// cannot write the agent's code and entries, whose addresses it has seen.
    /// </summary>
    private void Prepare()
    {
        const ulong readOnly = 0x25;
        const ulong writable = 0x67;
        ulong sharedInfo = StartInfo(StartInfoSharedInfo);
        int[] fixedPages =
        [
            .. Pages(GuestMap.Tables, GuestMap.Tables + ((GuestMap.TableFrames + GuestMap.GdtFrames) * PageLayout.PageSize)),
            .. Pages(GuestMap.Agent, GuestMap.HypercallPage + PageLayout.PageSize),
            .. Pages(GuestMap.CleanState, GuestMap.CleanState + PageLayout.PageSize),
            .. Pages(GuestMap.Entries, GuestMap.End + XenTrap.HandlerSize),
        ];
        Call(fixedPages.Length + 1, (ref RecordWriter writer) =>
        {
            writer.Hypercall(HYPERVISOR_update_va_mapping, GuestMap.At(GuestMap.SharedInfo), sharedInfo | writable, UVMF_INVLPG);
            foreach (int page in fixedPages)
            {
                writer.Hypercall(HYPERVISOR_update_va_mapping, GuestMap.At(page), MachineAddress(page) | readOnly, UVMF_INVLPG);
            }
        });
    }

    private static IEnumerable<int> Pages(int first, int end) =>
        Enumerable.Range(first / PageLayout.PageSize, (end + PageLayout.PageSize - 1) / PageLayout.PageSize - (first / PageLayout.PageSize)).Select(page => page * PageLayout.PageSize);

    private void Monitor(string line)
    {
        string answer = _qemu.Monitor.Human(line, LongestAnswer);
        if (answer.Length > 0)
        {
            throw new QemuException($"QEMU cannot {line}: {answer.ReplaceLineEndings(" ")}");
        }
    }

    private void WaitFor(Func<bool> done, TimeSpan limit, string otherwise)
    {
        Stopwatch watch = Stopwatch.StartNew();
        while (!done())
        {
            if (Trouble() is Death death)
            {
                throw new QemuException(death.Reason);
            }

            if (watch.Elapsed > limit)
            {
                throw new QemuException(otherwise);
            }

            Pause();
        }
    }

    private ulong StartInfo(int field) => *(ulong*)At(OffsetOf(Word(Mailbox.StartInfo)) + field);

    private ref ulong Word(int field)
    {
        // SAFETY: the mailbox page is mapped as long as the guest lives, and fields are aligned.
        return ref *(ulong*)At(GuestMap.MailboxPage + field);
    }

    private ref ulong SlotField(int slot, int field) => ref Word(Mailbox.FirstSlot + (slot * Mailbox.SlotStride) + field);
}
