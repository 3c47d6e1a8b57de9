using System.Buffers.Binary;
using System.Diagnostics;
using System.Security.Cryptography;
using Microsoft.Win32.SafeHandles;
using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Core;
using Tmds.Linux;

namespace PvDiffFuzz.Backends.Native;

/// <summary>One child with its agent and the memory shared with it.</summary>
/// <remarks>The child ends when its pipes close, so also when this process dies however it dies: the leash pipe has no other use.</remarks>
internal sealed unsafe class AgentProcess : IDisposable
{
    /// <summary>How often the harness looks whether a case goes on for long; a usual batch is done by then.</summary>
    private const int SliceMilliseconds = 2;

    /// <summary>Processor time within a slice that counts as running.</summary>
    private const long RunningNanoseconds = 1_000_000;

    /// <summary>Slices of running after which a case is stopped.</summary>
    private const int LongestRun = 3;

    private const int StartMilliseconds = 10_000;
    private const int StuckSeconds = 30;
    private const int Strikes = 3;

    private readonly SafeFileHandle _commands;
    private readonly SafeFileHandle _replies;
    private readonly SafeFileHandle _leash;
    private readonly SafeMapping _memory;
    private readonly ulong _childShared;

    private AgentProcess(ChildProcess child, SafeFileHandle commands, SafeFileHandle replies, SafeFileHandle leash, SafeMapping memory, ulong childShared)
    {
        Child = child;
        _commands = commands;
        _replies = replies;
        _leash = leash;
        _memory = memory;
        _childShared = childShared;
    }

    /// <summary>The process.</summary>
    public ChildProcess Child { get; }

    /// <summary>The shared memory as this process sees it.</summary>
    public byte* Memory => _memory.Start;

    /// <summary>The layout that the child has mapped, or null.</summary>
    public LayoutMap? Layout { get; private set; }

    /// <summary>Where the child had its vDSO before it was unmapped, or 0.</summary>
    public ulong Vdso => Word(Mailbox.Vdso);

    /// <summary>Number of the case that runs, or ran last.</summary>
    public ulong Sequence => Volatile.Read(ref Word(Mailbox.Sequence));

    /// <summary>Starts a child.</summary>
    /// <param name="segmentBases">True when RDFSBASE and its relatives can be used.</param>
    /// <exception cref="PosixException">A call failed, here or in the child.</exception>
    public static AgentProcess Start(bool segmentBases)
    {
        // Somewhere in the agent's range, so that a payload cannot know where.
        ulong room = (AddressMap.AgentLast - AddressMap.AgentFirst - Shared.Size - Shared.DistanceFromCode) / PageLayout.PageSize;
        ulong imageAddress = AddressMap.AgentFirst + ((ulong)RandomNumberGenerator.GetInt32((int)room) * PageLayout.PageSize);
        AgentCode code = AgentCode.Assemble(imageAddress, segmentBases);

        using SafeFileHandle image = Memfd.CreateSealed("pvdf-agent", code.Image);
        using SafeFileHandle file = Memfd.Create("pvdf-shared", executable: false);
        Memfd.Resize(file, Shared.Size);
        (SafeFileHandle childCommands, SafeFileHandle commands) = Fd.Pipe();
        (SafeFileHandle replies, SafeFileHandle childReplies) = Fd.Pipe();
        (SafeFileHandle childLeash, SafeFileHandle leash) = Fd.Pipe();
        SafeMapping? memory = null;
        ChildProcess? child = null;
        try
        {
            memory = SafeMapping.Shared(file, Shared.Size);
            IReadOnlyList<StartupCall> calls = StartupCalls.Write(new Span<byte>(memory.Start, Shared.RequestAt), code, imageAddress);
            child = ChildProcess.Spawn(image, childCommands, childReplies, childLeash, file);
            Fd.SignalWhenClosed(childLeash, child.Id);

            // Only the child has these now, so that its end shows on the pipes.
            childCommands.Dispose();
            childReplies.Dispose();
            AgentProcess process = new(child, commands, replies, leash, memory, imageAddress + Shared.DistanceFromCode);
            process.FinishStart(calls);
            return process;
        }
        catch
        {
            child?.Dispose();
            memory?.Dispose();
            commands.Dispose();
            replies.Dispose();
            leash.Dispose();
            throw;
        }
        finally
        {
            childCommands.Dispose();
            childReplies.Dispose();
            childLeash.Dispose();
        }
    }

    /// <summary>Prepares a change of layout; it happens before the first case of the next <see cref="Run"/>.</summary>
    public void Use(LayoutMap layout)
    {
        if (ReferenceEquals(Layout, layout))
        {
            return;
        }

        Span<byte> list = new(Memory + Shared.CallsAt, Shared.CallsSize);
        int count = 0;
        foreach (LayoutMap.Range range in Layout is null ? [] : Layout.Ranges)
        {
            WriteCall(list, count++, LinuxAbi.SYS_munmap, range.First, range.Last - range.First + 1);
        }

        foreach (LayoutMap.Range range in layout.Ranges)
        {
            // Populated, so that a refused access shows error code bit 0 as it does for a present page.
            WriteCall(
                list,
                count++,
                LinuxAbi.SYS_mmap,
                range.First,
                range.Last - range.First + 1,
                (ulong)(range.Access & (PageAccess.Read | PageAccess.Write | PageAccess.Execute)),
                SeccompFilter.MapFlags,
                SeccompFilter.MemoryFd,
                Shared.PoolAt + range.PoolOffset);
        }

        Word(Mailbox.Calls) = (ulong)count;
        Word(Mailbox.Batch.ScanEnd) = _childShared + Shared.PoolAt + ((ulong)layout.WritablePages * PageLayout.PageSize);
        Word(Mailbox.Batch.ResultLimit) = _childShared + Shared.ResultAt + Shared.ResultSize - (ulong)Result.Bound(layout, Context.Layout);
        Layout = layout;
    }

    /// <summary>Sets what the next <see cref="Run"/> takes: records in the request buffer.</summary>
    /// <param name="first">Offset of the first record in the request buffer.</param>
    /// <param name="end">Offset of the end of the last one.</param>
    public void SetRequest(int first, int end)
    {
        Word(Mailbox.Batch.Record) = _childShared + Shared.RequestAt + (ulong)first;
        Word(Mailbox.Batch.RequestEnd) = _childShared + Shared.RequestAt + (ulong)end;
        Word(Mailbox.Batch.Result) = _childShared + Shared.ResultAt;
    }

    /// <summary>Where the agent will read next, as an offset in the request buffer.</summary>
    public int NextRecord => (int)(Word(Mailbox.Batch.Record) - _childShared - Shared.RequestAt);

    /// <summary>The end of a result that starts at <paramref name="result"/>.</summary>
    public byte* EndOf(byte* result) => Memory + (*(ulong*)(result + Result.EndAt) - _childShared);

    /// <summary>Runs the requested cases; it can stop earlier when the results are full.</summary>
    /// <returns>Null when the child answered, else how it ended.</returns>
    public string? Run()
    {
        if (Fd.WriteWord(_commands, 1) != 0)
        {
            return Child.Ended(wait: true);
        }

        ulong sequence = 0;
        long processorTime = 0;
        long since = 0;
        int slices = 0;
        while (!Fd.WaitReadable(_replies, SliceMilliseconds))
        {
            // Processor time, not the clock on the wall: a child that waits for a busy processor is not hung.
            long now = Child.CpuNanoseconds();
            if (Sequence != sequence || since == 0)
            {
                sequence = Sequence;
                since = Stopwatch.GetTimestamp();
                slices = 0;
            }
            else if (now - processorTime >= RunningNanoseconds)
            {
                slices++;
                if (slices > LongestRun * Strikes)
                {
                    return Kill("ended because it did not react to being stopped");
                }

                if (slices % LongestRun == 0)
                {
                    Volatile.Write(ref Word(Mailbox.Victim), sequence);
                    Child.Signal(LibC.SIGALRM);
                }
            }
            else if (Stopwatch.GetElapsedTime(since).TotalSeconds > StuckSeconds)
            {
                return Kill($"ended because it made no progress for {StuckSeconds} s");
            }

            processorTime = now;
        }

        return Fd.ReadWord(_replies) is null ? Child.Ended(wait: true) : null;
    }

    /// <summary>The error of a change of layout.</summary>
    /// <returns>0 when there was none.</returns>
    public int CallError => -(int)(long)Word(Mailbox.CallError);

    /// <inheritdoc/>
    public void Dispose()
    {
        Child.Dispose();
        _commands.Dispose();
        _replies.Dispose();
        _leash.Dispose();
        _memory.Dispose();
    }

    /// <summary>Writes one entry of the list of system calls.</summary>
    internal static void WriteCall(Span<byte> list, int index, int number, params ReadOnlySpan<ulong> arguments)
    {
        Span<byte> entry = list.Slice(index * StartupCalls.EntrySize, StartupCalls.EntrySize);
        entry.Clear();
        BinaryPrimitives.WriteUInt64LittleEndian(entry, (ulong)number);
        for (int i = 0; i < arguments.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(entry[((i + 1) * 8)..], arguments[i]);
        }
    }

    private void FinishStart(IReadOnlyList<StartupCall> calls)
    {
        if (!Fd.WaitReadable(_replies, StartMilliseconds) || Fd.ReadWord(_replies) is null)
        {
            throw new PosixException($"the agent did not start ({Child.Ended(wait: false) ?? "it hangs"})", 0);
        }

        if (CallError != 0)
        {
            throw new PosixException(calls[calls.Count - (int)Word(Mailbox.Calls)].Name, CallError);
        }
    }

    private string Kill(string reason)
    {
        Child.Signal(LibC.SIGKILL);
        _ = Child.Ended(wait: true);
        return reason;
    }

    private ref ulong Word(int field)
    {
        // SAFETY: the mailbox page is mapped as long as this object lives, and fields are aligned.
        return ref *(ulong*)(Memory + Shared.MailboxAt + field);
    }
}
