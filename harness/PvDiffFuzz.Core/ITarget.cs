using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <summary>Anything that can run a <see cref="TestCase"/>: a model, real hardware, a hypervisor, or a recording.</summary>
/// <remarks>An instance is used by one thread at a time and may own that thread's kernel objects.</remarks>
public interface ITarget : IDisposable
{
    /// <summary>What this target is.</summary>
    TargetInfo Info { get; }

    /// <summary>Runs a case from a clean machine.</summary>
    /// <param name="testCase">A case for which <see cref="TestCase.Check"/> finds nothing.</param>
    /// <returns>Always an outcome; guest faults, skips and host failures are all values.</returns>
    Outcome Run(TestCase testCase);

    /// <summary>Runs a batch, each case from a clean machine.</summary>
    /// <param name="cases">Well-formed cases.</param>
    /// <param name="outcomes">Receives one outcome a case; as long as <paramref name="cases"/>.</param>
    void Run(ReadOnlySpan<TestCase> cases, Span<Outcome> outcomes)
    {
        for (int i = 0; i < cases.Length; i++)
        {
            outcomes[i] = Run(cases[i]);
        }
    }
}

/// <summary>A target that can also tell which instructions a case executes. The harness uses it to learn which bits are undefined.</summary>
public interface ITracer
{
    /// <summary>Runs a case and lists the instructions in execution order, the one that ended the case included if it was fetched.</summary>
    /// <param name="testCase">A well-formed case.</param>
    /// <param name="maximum">Stop listing after so many.</param>
    ImmutableArray<TracedInstruction> Trace(TestCase testCase, int maximum);
}

/// <summary>An instruction that was executed.</summary>
/// <param name="Address">Its linear address.</param>
/// <param name="Bytes">Its bytes as fetched, 1 to 15.</param>
/// <param name="Mode">Mode in which it was decoded.</param>
/// <param name="Rcx">RCX before it, for shift counts and REP.</param>
public readonly record struct TracedInstruction(ulong Address, ImmutableArray<byte> Bytes, CpuMode Mode, ulong Rcx)
{
    /// <summary>What it raised; null when it completed, a hypervisor that carried it out included.</summary>
    public RaisedException? Raised { get; init; }

    /// <summary>True when it completed, not a byte of what follows it could be fetched, and the guest was told so: what was executed next is the handler's.</summary>
    public bool NextFetchRaised { get; init; }

    /// <summary>The flags on the stack that an IRET of four bytes an item is about to load; null for anything else, and where they cannot be read.</summary>
    public uint? FlagsImage { get; init; }
}

/// <summary>An exception or software interrupt that an instruction raised, as the guest is told of it, whatever becomes of its delivery.</summary>
/// <param name="Vector">Its vector. That of #DB also where only what follows the instruction raised it: a single step, or a breakpoint on the next one.</param>
/// <param name="Error">Its error code; null for none.</param>
public readonly record struct RaisedException(byte Vector, uint? Error);

/// <summary>What executes a case.</summary>
public enum TargetKind
{
    /// <summary>A managed reference model.</summary>
    Model,

    /// <summary>The processor under an operating system or a plain virtual machine.</summary>
    Hardware,

    /// <summary>A hypervisor's paravirtual ABI.</summary>
    Hypervisor,

    /// <summary>Stored outcomes.</summary>
    Recording,
}

/// <summary>What only some targets can do. A case that needs more than a target has is <see cref="EndKind.Unsupported"/> there.</summary>
[Flags]
public enum Capabilities
{
    /// <summary>Plain 64-bit user code.</summary>
    None = 0,

    /// <summary>32-bit user code.</summary>
    CompatibilityMode = 1 << 0,

    /// <summary>Debug registers can be armed.</summary>
    DebugRegisters = 1 << 1,

    /// <summary>FS and GS base can be loaded and recorded.</summary>
    SegmentBases = 1 << 2,

    /// <summary>Responses to events.</summary>
    Responses = 1 << 3,

    /// <summary>Supervisor pages.</summary>
    SupervisorPages = 1 << 4,

    /// <summary>Protection keys.</summary>
    ProtectionKeys = 1 << 5,
}

/// <summary>What a target says of itself.</summary>
/// <param name="Name">Stable name used in case files, such as <c>model.x86</c> or <c>native</c>.</param>
/// <param name="Kind">What executes.</param>
/// <param name="Lineage"><c>model</c>, <c>hardware</c> or <c>tcg</c>: targets that share an implementation count as one vote.</param>
/// <param name="Capabilities">What it can do beyond plain user code.</param>
/// <param name="Fingerprint">Facts that identify what ran, in a fixed order.</param>
public sealed record TargetInfo(string Name, TargetKind Kind, string Lineage, Capabilities Capabilities, Fingerprint Fingerprint)
{
    /// <summary>What of an outcome this target cannot show as the processor did, each with its reason.</summary>
    public ImmutableArray<TargetMask> Masks { get; init; } = [];

    /// <summary>The ABIs that it runs. Cases of others are <see cref="EndKind.Unsupported"/>.</summary>
    public ImmutableArray<Abi> Abis { get; init; } = [Abi.X86];

    /// <summary>The processor that cases meet here, where the target brings its own, as an emulator does. Null for one that has the host's, or follows the case.</summary>
    public CpuProfile? Processor { get; init; }
}

/// <summary>Facts that identify what ran: commit of a model; CPU, microcode, kernel and hypervisor of a host.</summary>
/// <param name="Facts">Names and values; neither holds a line break, a bracket or a semicolon.</param>
public sealed record Fingerprint(ImmutableArray<KeyValuePair<string, string>> Facts)
{
    /// <summary>No facts.</summary>
    public static Fingerprint Empty { get; } = new([]);

    /// <inheritdoc/>
    public bool Equals(Fingerprint? other) => ReferenceEquals(this, other) || (other is not null && Facts.AsSpan().SequenceEqual(other.Facts.AsSpan()));

    /// <inheritdoc/>
    public override int GetHashCode() => Facts.Length;

    /// <summary>One line: <c>name=value; name=value</c>.</summary>
    public override string ToString() => string.Join("; ", Facts.Select(f => $"{f.Key}={f.Value}"));
}

/// <summary>A field of an outcome that a target cannot show as the processor delivered it, because of what lies between.</summary>
/// <param name="Id">Stable name for counters and reports, such as <c>native.pf-present-kernel-half</c>.</param>
/// <param name="Reason">Why, with the source of the fact.</param>
/// <param name="Applies">True when the row concerns this event. Called only for outcomes that differ.</param>
/// <param name="Field">The register whose bits are masked; null for the error code.</param>
/// <param name="Bits">The bits that are not compared.</param>
public sealed record TargetMask(string Id, string Reason, Func<Event, bool> Applies, Register? Field, ulong Bits);

/// <summary>A target cannot work on this host. Thrown by constructors and factories only.</summary>
public sealed class TargetUnavailableException : Exception
{
    /// <summary>Makes the exception.</summary>
    /// <param name="reason">What is missing.</param>
    /// <param name="cure">What a person can do about it.</param>
    /// <param name="inner">What the system said.</param>
    public TargetUnavailableException(string reason, string cure, Exception? inner = null)
        : base(reason, inner) => Cure = cure;

    /// <summary>What a person can do about it.</summary>
    public string Cure { get; }
}
