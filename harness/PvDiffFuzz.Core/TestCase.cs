using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <summary>Execution mode of user code.</summary>
public enum CpuMode
{
    /// <summary>64-bit mode.</summary>
    Long64,

    /// <summary>32-bit code in long mode.</summary>
    Compatibility32,
}

/// <summary>The payload: bytes at an address, and where its instructions begin, so that the minimiser can drop one.</summary>
/// <param name="Address">Linear address of the first byte.</param>
/// <param name="Bytes">Machine code, 1 to <see cref="MaximumLength"/> bytes.</param>
/// <param name="Lengths">Lengths of the instructions in order; they sum to the number of bytes. Bytes that do not decode form an entry of their own.</param>
public sealed record CodeBlock(ulong Address, ImmutableArray<byte> Bytes, ImmutableArray<byte> Lengths)
{
    /// <summary>Two pages.</summary>
    public const int MaximumLength = 2 * PageLayout.PageSize;

    /// <summary>The address right after the code, where nothing is mapped.</summary>
    public ulong End => Address + (ulong)Bytes.Length;

    /// <inheritdoc/>
    public bool Equals(CodeBlock? other) =>
        ReferenceEquals(this, other)
        || (other is not null && Address == other.Address && Bytes.AsSpan().SequenceEqual(other.Bytes.AsSpan()) && Lengths.AsSpan().SequenceEqual(other.Lengths.AsSpan()));

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Address, Bytes.Length, Bytes.Length > 0 ? Bytes[0] : 0);
}

/// <summary>Initial contents somewhere in the pages of a case. Bytes not covered by any are zero.</summary>
/// <param name="Address">Linear address of the first byte.</param>
/// <param name="Bytes">The bytes, at least one; all lie in present pages.</param>
public readonly record struct MemoryContents(ulong Address, ImmutableArray<byte> Bytes)
{
    /// <inheritdoc/>
    public bool Equals(MemoryContents other) => Address == other.Address && Bytes.AsSpan().SequenceEqual(other.Bytes.AsSpan());

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Address, Bytes.Length);
}

/// <summary>Bounds of a run. Only models count instructions; a real target has a time limit of its own.</summary>
/// <param name="Instructions">Instructions (REP iterations count one each) before a model answers <see cref="EndKind.BudgetSpent"/>.</param>
public sealed record CaseLimits(int Instructions)
{
    /// <summary>Enough for the longest straight-line case and a page-sized REP.</summary>
    public static CaseLimits Default { get; } = new(20_000);
}

/// <summary>An immutable input. Equal cases give equal outcomes on a given target.</summary>
/// <remarks>
/// The run begins at <see cref="RegisterState.Rip"/> in the mode that <see cref="Start"/> says. Event <c>n</c> is answered by response <c>n</c>; when none is left the case ends with that event.
/// In user code the fetch #PF at <see cref="CodeBlock.End"/> is an event like any other and always the last. In supervisor code a target's jump stub stands there; reaching it
/// ends the case and is no event.
/// </remarks>
public sealed partial record TestCase
{
    /// <summary>The ABI.</summary>
    public Abi Abi { get; init; }

    /// <summary>The payload.</summary>
    public required CodeBlock Code { get; init; }

    /// <summary>Registers at entry.</summary>
    public required RegisterState Registers { get; init; }

    /// <summary>All pages that exist.</summary>
    public required PageLayout Layout { get; init; }

    /// <summary>Initial contents in address order, without overlap with each other or with the code.</summary>
    public ImmutableArray<MemoryContents> Contents { get; init; } = [];

    /// <summary>Answers to the first events, in order.</summary>
    public ImmutableArray<Response> Responses { get; init; } = [];

    /// <summary>Bounds.</summary>
    public CaseLimits Limits { get; init; } = CaseLimits.Default;

    /// <summary>The processor that the case is about, or null for the host's or the default.</summary>
    public CpuProfile? Profile { get; init; }

    /// <summary>Where execution starts. For <see cref="Abi.X86"/> always user code.</summary>
    public GuestMode Start { get; init; }

    /// <summary>The system side at the start: control registers, MSRs, what the ABI keeps. Empty for <see cref="Abi.X86"/>.</summary>
    public SystemState System { get; init; } = SystemState.Empty;

    /// <summary>What only PVM cases have; null for others.</summary>
    public PvmState? Pvm { get; init; }

    /// <summary>What only Xen cases have; null for others.</summary>
    public XenState? Xen { get; init; }

    /// <summary>What is pending from outside when the first instruction would run; null for nothing.</summary>
    public Injection? Inject { get; init; }

    /// <summary>Mode in which the payload starts, by its CS.</summary>
    public CpuMode Mode => Abi switch
    {
        Abi.XenPv32 => CpuMode.Compatibility32,
        Abi.XenPv64 or Abi.XenPv64Fred => (Registers.Cs | 3) == XenMap.FlatCode32 ? CpuMode.Compatibility32 : CpuMode.Long64,
        _ => Registers.Cs == Selectors.UserCode32 ? CpuMode.Compatibility32 : CpuMode.Long64,
    };

    /// <inheritdoc/>
    public bool Equals(TestCase? other) =>
        ReferenceEquals(this, other)
        || (other is not null && Abi == other.Abi && Code.Equals(other.Code) && Registers.Equals(other.Registers) && Layout.Equals(other.Layout)
            && Contents.AsSpan().SequenceEqual(other.Contents.AsSpan()) && Responses.AsSpan().SequenceEqual(other.Responses.AsSpan())
            && Limits.Equals(other.Limits) && Equals(Profile, other.Profile)
            && Start == other.Start && System.Equals(other.System) && Equals(Pvm, other.Pvm) && Equals(Xen, other.Xen) && Inject == other.Inject);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Code, Registers.Rip, Contents.Length, Responses.Length);
}
