using System.Buffers.Binary;
using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <summary>How a case ended, from best to worst.</summary>
public enum EndKind
{
    /// <summary>User code ran to its end: the last event is the fetch #PF there. Supervisor code reached the jump stub.</summary>
    ReachedEnd,

    /// <summary>An event came for which the case has no response.</summary>
    Event,

    /// <summary>The guest's supervisor halted and nothing is pending that would wake it. Guest behaviour, so compared.</summary>
    Halt,

    /// <summary>The guest died: triple fault, domain crash. Guest behaviour, so compared.</summary>
    Crash,

    /// <summary>The hypervisor itself died of what the guest did, or the kernel that it is part of. Guest behaviour, so compared; the same as no other end.</summary>
    HypervisorCrash,

    /// <summary>The instruction or time limit was reached. Never compared.</summary>
    BudgetSpent,

    /// <summary>This target cannot run this case. Counted, never compared.</summary>
    Unsupported,

    /// <summary>Our trouble. Counted, never compared.</summary>
    HarnessError,
}

/// <summary>What kind of delivery an event was.</summary>
public enum EventKind
{
    /// <summary>Saved RIP is the instruction's.</summary>
    Fault,

    /// <summary>Saved RIP is after the instruction. #DB counts as a trap whatever caused it.</summary>
    Trap,

    /// <summary>From outside.</summary>
    Interrupt,

    /// <summary>SYSCALL or SYSENTER.</summary>
    SystemCall,

    /// <summary>A call to the hypervisor.</summary>
    Hypercall,

    /// <summary>An event upcall.</summary>
    Upcall,
}

/// <summary>Which door of the supervisor an event came through.</summary>
public enum EntryPoint
{
    /// <summary>An IDT gate.</summary>
    Idt,

    /// <summary>The 64-bit SYSCALL entry: the processor's, or PVM's for SYSCALL in user mode.</summary>
    Lstar,

    /// <summary>PVM's entry for vector events in user mode.</summary>
    PvmUser,

    /// <summary>PVM's entry for vectors below 32 in supervisor mode (every vector, in revisions that do not tell them apart).</summary>
    PvmSupervisor,

    /// <summary>PVM's entry for vectors from 32 in supervisor mode.</summary>
    PvmSupervisorHigh,

    /// <summary>A handler of Xen's trap table.</summary>
    XenTrap,

    /// <summary>Xen's 64-bit system call callback.</summary>
    XenSyscall,

    /// <summary>Xen's 32-bit system call callback.</summary>
    XenSyscall32,

    /// <summary>Xen's SYSENTER callback.</summary>
    XenSysenter,

    /// <summary>Xen's event callback.</summary>
    XenEvent,

    /// <summary>Xen's failsafe callback.</summary>
    XenFailsafe,

    /// <summary>Xen's NMI callback.</summary>
    XenNmi,

    /// <summary>No entry: the return of a hypercall that a response made.</summary>
    HypercallReturn,
}

/// <summary>One delivery to the guest's supervisor.</summary>
/// <param name="Kind">Kind of delivery.</param>
/// <param name="Vector">IDT vector; 0 for a system call.</param>
/// <param name="ErrorCode">Error code, or null where the vector pushes none.</param>
/// <param name="Cr2">Faulting linear address for #PF, else null.</param>
/// <param name="Entry">The door.</param>
/// <param name="Registers">For an IDT's events the interrupted context: what the frame saved for RIP, CS, RFLAGS, RSP and SS, and the other registers at entry.
/// For <see cref="EventKind.SystemCall"/> of <see cref="Abi.X86"/> RIP is the return address (RCX) and RFLAGS is what R11 got. For the events of a paravirtual ABI the registers at entry,
/// with the selectors that instructions show and with RFLAGS.IF as the guest's virtual interrupt flag; the interrupted context is in the frame.</param>
public sealed record Event(EventKind Kind, byte Vector, uint? ErrorCode, ulong? Cr2, EntryPoint Entry, RegisterState Registers)
{
    private readonly ImmutableArray<byte> _frame = [];

    /// <summary>What the delivery stored in memory, little-endian: for an IDT the five quadwords RIP, CS, RFLAGS, RSP, SS; for a paravirtual ABI the bytes that
    /// <see cref="FrameLayout"/> names; empty where nothing is stored.</summary>
    public ImmutableArray<byte> Frame
    {
        get => Entry == EntryPoint.Idt ? IdtFrame() : _frame;
        init => _frame = value;
    }

    /// <inheritdoc/>
    public bool Equals(Event? other) =>
        ReferenceEquals(this, other)
        || (other is not null && Kind == other.Kind && Vector == other.Vector && ErrorCode == other.ErrorCode && Cr2 == other.Cr2 && Entry == other.Entry
            && Registers.Equals(other.Registers) && (Entry == EntryPoint.Idt || _frame.AsSpan().SequenceEqual(other._frame.AsSpan())));

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Kind, Vector, ErrorCode, Entry, Registers.Rip);

    /// <summary>The kind that an IDT vector's delivery has when nothing else is known: traps for #DB, #BP, #OF and software interrupts from 32, else a fault.</summary>
    public static EventKind KindOf(byte vector) => vector is 1 or 3 or 4 or >= 32 ? EventKind.Trap : EventKind.Fault;

    private ImmutableArray<byte> IdtFrame()
    {
        byte[] frame = new byte[40];
        ReadOnlySpan<ulong> words = [Registers.Rip, Registers.Cs, Registers.Rflags, Registers.Gpr[4], Registers.Ss];
        for (int i = 0; i < words.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(frame.AsSpan(i * 8), words[i]);
        }

        return ImmutableArray.Create(frame);
    }
}

/// <summary>An aligned quadword whose final value differs from its initial one.</summary>
/// <param name="Address">Linear address, a multiple of 8.</param>
/// <param name="Value">Final value, little-endian.</param>
public readonly record struct MemoryWord(ulong Address, ulong Value);

/// <summary>All that a guest could see of one run of a case, or why there is nothing to see.</summary>
/// <remarks>Immutable. For <see cref="EndKind.Unsupported"/>, <see cref="EndKind.HarnessError"/> and <see cref="EndKind.BudgetSpent"/> only <see cref="Detail"/> means anything.</remarks>
public sealed record Outcome
{
    /// <summary>How it ended.</summary>
    public required EndKind End { get; init; }

    /// <summary>Deliveries in order; at least one for <see cref="EndKind.ReachedEnd"/> in user code and for <see cref="EndKind.Event"/>.</summary>
    public ImmutableArray<Event> Events { get; init; } = [];

    /// <summary>Registers at the end: those of the last event, or of supervisor code where it ended. Null when not comparable.</summary>
    public RegisterState? Registers { get; init; }

    /// <summary>Changed memory in address order.</summary>
    public ImmutableArray<MemoryWord> Memory { get; init; } = [];

    /// <summary>Where this target could look at memory at the end, in address order and without overlap; empty for everywhere. Two outcomes are compared where both could look.</summary>
    public ImmutableArray<MemoryRange> Seen { get; init; } = [];

    /// <summary>The system side at the end, as far as this target can see it. Two outcomes are compared in what both state. Empty for <see cref="Abi.X86"/>.</summary>
    public SystemState System { get; init; } = SystemState.Empty;

    /// <summary>Other outcomes that the specification allows as well, where it says <em>may</em>. This outcome equals another one when it or any of these does. Only models have them.</summary>
    public ImmutableArray<Outcome> Alternatives { get; init; } = [];

    /// <summary>The reason, for ends that are not comparable and for crashes. One line.</summary>
    public string? Detail { get; init; }

    /// <summary>True when this is guest behaviour, so that it may be compared.</summary>
    public bool Comparable => End <= EndKind.HypervisorCrash;

    /// <summary>An outcome that says why the target cannot run the case.</summary>
    public static Outcome Unsupported(string reason) => new() { End = EndKind.Unsupported, Detail = reason };

    /// <summary>An outcome that reports trouble of ours.</summary>
    public static Outcome HarnessError(string reason) => new() { End = EndKind.HarnessError, Detail = reason };

    /// <summary>An outcome for a run that was cut short.</summary>
    public static Outcome BudgetSpent(string limit) => new() { End = EndKind.BudgetSpent, Detail = limit };

    /// <inheritdoc/>
    public bool Equals(Outcome? other) =>
        ReferenceEquals(this, other)
        || (other is not null && End == other.End && Events.AsSpan().SequenceEqual(other.Events.AsSpan()) && Equals(Registers, other.Registers)
            && Memory.AsSpan().SequenceEqual(other.Memory.AsSpan()) && Seen.AsSpan().SequenceEqual(other.Seen.AsSpan())
            && System.Equals(other.System) && string.Equals(Detail, other.Detail, StringComparison.Ordinal));

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(End, Events.Length, Registers?.Rip, Memory.Length);
}
