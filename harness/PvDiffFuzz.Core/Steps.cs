using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <summary>The instruction or call by which the guest's supervisor goes back after an event.</summary>
public enum ReturnKind
{
    /// <summary>IRETQ to the interrupted context.</summary>
    Iretq,

    /// <summary>PVM's EVENT_RETURN_USER.</summary>
    Eretu,

    /// <summary>PVM's EVENT_RETURN_SUPERVISOR.</summary>
    Erets,

    /// <summary>Xen's <c>HYPERVISOR_iret</c>.</summary>
    XenIret,
}

/// <summary>What comes from outside.</summary>
public enum InjectionKind
{
    /// <summary>A maskable interrupt.</summary>
    Interrupt,

    /// <summary>A non-maskable interrupt.</summary>
    Nmi,

    /// <summary>A pending event of a Xen guest.</summary>
    Upcall,
}

/// <summary>Something from outside that is pending when the guest goes on.</summary>
/// <param name="Kind">What.</param>
/// <param name="Vector">Vector of an interrupt; 2 for an NMI, 0 for an event upcall.</param>
public readonly record struct Injection(InjectionKind Kind, byte Vector)
{
    /// <summary>The vector of every NMI.</summary>
    public const byte NmiVector = 2;

    /// <summary>The lowest vector of an interrupt: a local APIC refuses those below (SDM vol.3A, Valid Interrupt Vectors), though it takes those of exceptions from here.</summary>
    public const byte LowestInterrupt = 16;
}

/// <summary>A call to the hypervisor that the supervisor makes before it returns from an event.</summary>
/// <param name="Number">Request number, all 64 bits.</param>
/// <param name="Arguments">Arguments in the order of the ABI: PVM takes RBX, R10 and RDX, Xen RDI, RSI, RDX, R10, R8 (EBX, ECX, EDX, ESI, EDI). At most six.</param>
public sealed record Hypercall(ulong Number, ImmutableArray<ulong> Arguments)
{
    /// <summary>Most arguments that any ABI passes.</summary>
    public const int MaximumArguments = 6;

    /// <inheritdoc/>
    public bool Equals(Hypercall? other) => ReferenceEquals(this, other) || (other is not null && Number == other.Number && Arguments.AsSpan().SequenceEqual(other.Arguments.AsSpan()));

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Number, Arguments.Length);
}

/// <summary>What the supervisor does after an event: hypercalls, then a return to the interrupted context with patches, with something from outside pending perhaps.</summary>
/// <param name="Patches">Registers to change in the saved context before the return, in register order, each at most once.</param>
/// <remarks>
/// A patch changes the register where the return takes it from: PVM's structure for <see cref="ReturnKind.Eretu"/> (RIP, RFLAGS, RSP, RCX, R11, CS, SS, GS base, PKRU), the
/// frame on the stack for <see cref="ReturnKind.Erets"/>, <see cref="ReturnKind.Iretq"/> and <see cref="ReturnKind.XenIret"/>; everything else is changed in place.
/// </remarks>
public sealed record Response(ImmutableArray<KeyValuePair<Register, ulong>> Patches)
{
    /// <summary>Most hypercalls that one response makes.</summary>
    public const int MaximumHypercalls = 16;

    /// <summary>The way back. For <see cref="Abi.X86"/> always IRETQ.</summary>
    public ReturnKind Return { get; init; }

    /// <summary>Calls before the return, in order. Each is recorded as an event of kind <see cref="EventKind.Hypercall"/>, which no response answers.</summary>
    public ImmutableArray<Hypercall> Hypercalls { get; init; } = [];

    /// <summary>Flags word of <see cref="ReturnKind.XenIret"/>'s frame; 0 for other returns.</summary>
    public ulong Flags { get; init; }

    /// <summary>What is pending at the return; null for nothing.</summary>
    public Injection? Inject { get; init; }

    /// <inheritdoc/>
    public bool Equals(Response? other) =>
        ReferenceEquals(this, other)
        || (other is not null && Return == other.Return && Flags == other.Flags && Inject == other.Inject && Patches.AsSpan().SequenceEqual(other.Patches.AsSpan())
            && Hypercalls.AsSpan().SequenceEqual(other.Hypercalls.AsSpan()));

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Patches.Length, Return, Hypercalls.Length);
}
