using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Import;

/// <summary>How an observed run left the guest.</summary>
internal enum ObservedExit
{
    /// <summary>OUT of a landing pad or of the terminator: a port.</summary>
    Port,

    /// <summary>The virtual CPU halted.</summary>
    Halted,

    /// <summary>Triple fault.</summary>
    Shutdown,

    /// <summary>The hypervisor gave up: its emulator met something that it cannot do.</summary>
    InternalError,
}

/// <summary>In what way a record's code was entered.</summary>
internal enum ObservedMode
{
    /// <summary>Supervisor code from its first instruction.</summary>
    Supervisor,

    /// <summary>User code in 64-bit mode, by EVENT_RETURN_USER.</summary>
    User,

    /// <summary>User code in compatibility mode, by EVENT_RETURN_USER.</summary>
    Compatibility,

    /// <summary>Supervisor code by EVENT_RETURN_SUPERVISOR.</summary>
    ReturnToSupervisor,
}

/// <summary>One record of what a PVM host did with a few instructions, as read; docs/pvm-recordings.md has every field.</summary>
internal sealed record PvmObservation
{
    /// <summary>The file and the line it was read from, for messages.</summary>
    public required (string File, int Line) Place { get; init; }

    /// <summary>Name of the record without the mark of the path, such as <c>u_int4</c>.</summary>
    public required string Id { get; init; }

    /// <summary>The host's ABI.</summary>
    public required Abi Abi { get; init; }

    /// <summary>The hypervisor: <c>rfc-port</c> or <c>pvm-612</c>.</summary>
    public required string Implementation { get; init; }

    /// <summary>The emulated processor: <c>tcg-amd</c> or <c>tcg-intel</c>.</summary>
    public required string Cpu { get; init; }

    /// <summary>The way between the modes.</summary>
    public required HostPath Path { get; init; }

    /// <summary>How the code was entered.</summary>
    public required ObservedMode Mode { get; init; }

    /// <summary>Machine code without its terminator.</summary>
    public required ImmutableArray<byte> Code { get; init; }

    /// <summary>Where the code lies.</summary>
    public required ulong CodeAddress { get; init; }

    /// <summary>RSP and RFLAGS of the supervisor at the start.</summary>
    public required (ulong Rsp, ulong Rflags) Start { get; init; }

    /// <summary>The per-VCPU structure at the start.</summary>
    public required ImmutableDictionary<SystemRegister, ulong> Pvcs { get; init; }

    /// <summary>How it ended, with the port of an OUT.</summary>
    public required (ObservedExit Kind, ulong Port) Exit { get; init; }

    /// <summary>What is untrustworthy about the record, or null.</summary>
    public string? Caution { get; init; }

    /// <summary>General registers, RIP as the record has it (after the OUT), RFLAGS, segment selectors that the record shows, and the GS base.</summary>
    public required ImmutableDictionary<Register, ulong> Registers { get; init; }

    /// <summary>Control registers, MSRs, debug registers, the structure's fields and the like at the end.</summary>
    public required ImmutableDictionary<SystemRegister, ulong> System { get; init; }

    /// <summary>Bytes of guest memory at the end that the record shows, by address.</summary>
    public required ImmutableSortedDictionary<ulong, byte> Memory { get; init; }

    /// <summary>Name of the case that is made of it, such as <c>pvm-rfc1-amd-u-int4-warm</c>.</summary>
    public string CaseId =>
        $"{Abi.Text()}-{Cpu["tcg-".Length..]}-{Id.Replace('_', '-').ToLowerInvariant()}{(Path == HostPath.Warm ? "-warm" : "")}";

    /// <summary>A complaint about this record.</summary>
    public CaseFileException Bad(string problem) => new(Place.File, Place.Line, $"{Id}: {problem}");
}
