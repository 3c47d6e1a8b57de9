using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>Collects executed instructions.</summary>
/// <param name="maximum">Most of them.</param>
internal sealed class Tracer(int maximum)
{
    /// <summary>What was executed so far.</summary>
    public ImmutableArray<TracedInstruction>.Builder Instructions { get; } = ImmutableArray.CreateBuilder<TracedInstruction>();

    /// <summary>Adds the instruction that is about to be executed.</summary>
    public void Add(ref CpuState cpu, in MicroOp op) => Add(ref cpu, op.Length);

    /// <summary>What was fetched of an instruction that did not decode; nothing when not even its first byte was.</summary>
    public void AddUndecoded(ref CpuState cpu)
    {
        if (cpu.Canonical(cpu.Rip))
        {
            Add(ref cpu, longest: 15);
        }
    }

    /// <summary>Notes what the last instruction raised, or that the fetch of the next one raised something, of which not even a byte was there.</summary>
    public void Note(ref CpuState cpu, RaisedException raised)
    {
        if (Instructions.Count > 0)
        {
            TracedInstruction last = Instructions[^1];
            Instructions[^1] = last.Address == cpu.InstructionRip ? last with { Raised = raised } : last with { NextFetchRaised = true };
        }
    }

    /// <summary>Notes the exception that is pending.</summary>
    public void NotePending(ref CpuState cpu)
    {
        if (cpu.Pending is PendingKind.Fault or PendingKind.Trap)
        {
            Note(ref cpu, new RaisedException(cpu.PendingVector, Delivery.PushesError(ref cpu) ? cpu.PendingError : null));
        }
    }

    private void Add(ref CpuState cpu, int longest)
    {
        Span<byte> bytes = stackalloc byte[15];
        int length = Instructions.Count < maximum ? cpu.Memory.Fetch(cpu.Rip, bytes[..longest], out _) : 0;
        if (length > 0)
        {
            Instructions.Add(new TracedInstruction(
                cpu.Rip,
                ImmutableArray.Create<byte>(bytes[..length]),
                cpu.Compatibility ? CpuMode.Compatibility32 : CpuMode.Long64,
                cpu.Read<ulong>(X86.Gpr.Rcx))
            {
                FlagsImage = FlagsImage(ref cpu, bytes[..length]),
            });
        }
    }

    private static uint? FlagsImage(ref CpuState cpu, scoped ReadOnlySpan<byte> bytes)
    {
        const byte iret = 0xcf;
        const byte operandSize = 0x66;
        ulong at = cpu.Read<ulong>(X86.Gpr.Rsp) + (2 * sizeof(uint));
        bool fourBytes = bytes[^1] == iret && !bytes[..^1].Contains(operandSize) && (cpu.Compatibility || bytes is not [.., >= 0x48 and <= 0x4f, iret]);
        return fourBytes && cpu.Memory.TryRead(cpu.Compatibility ? (uint)at : at, out uint flags) ? flags : null;
    }
}
