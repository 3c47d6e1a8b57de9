using System.Collections.Immutable;
using System.Globalization;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>What <c>pvdf run --json</c> prints, to be serialised with camelCase names. 64-bit numbers are hexadecimal strings.</summary>
/// <param name="Outcomes">One a target.</param>
/// <param name="Camps">Names of targets by camp.</param>
/// <param name="Fields">Fields on which camps differ, with the value in each camp.</param>
/// <param name="Comparable">Number of comparable outcomes; fewer than two are never agreement.</param>
public sealed record RunReport(
    ImmutableArray<OutcomeReport> Outcomes, ImmutableArray<ImmutableArray<string>> Camps, ImmutableArray<FieldReport> Fields, int Comparable)
{
    /// <summary>The report of an examined case.</summary>
    /// <param name="examination">The case and its outcomes.</param>
    /// <param name="targets">The targets, in the order of the outcomes.</param>
    public static RunReport Of(Examination examination, ImmutableArray<TargetInfo> targets)
    {
        ArgumentNullException.ThrowIfNull(examination);
        return new RunReport(
            [.. examination.Outcomes.Select((o, i) => OutcomeReport.Of(targets[i], o))],
            [.. examination.Comparison.Camps.Select(c => c.Members.Select(m => targets[m].Name).ToImmutableArray())],
            [.. examination.Comparison.Differences.Select(d => new FieldReport(d.Field.ToString(), d.Values))],
            examination.Comparison.Comparable);
    }
}

/// <summary>A differing field.</summary>
/// <param name="Name">Such as <c>event[0].rip</c>.</param>
/// <param name="Values">Its value in each camp.</param>
public sealed record FieldReport(string Name, ImmutableArray<string> Values);

/// <summary>What a target answered.</summary>
/// <param name="Target">Its name.</param>
/// <param name="End">How the case ended.</param>
/// <param name="Detail">Why there is nothing to compare, or null.</param>
/// <param name="Events">Deliveries in order.</param>
/// <param name="Registers">Final registers by name, or null.</param>
/// <param name="Memory">Changed quadwords by address.</param>
public sealed record OutcomeReport(
    string Target,
    string End,
    string? Detail,
    ImmutableArray<EventReport> Events,
    ImmutableSortedDictionary<string, string>? Registers,
    ImmutableSortedDictionary<string, string> Memory)
{
    /// <summary>The report of one outcome.</summary>
    public static OutcomeReport Of(TargetInfo target, Outcome outcome)
    {
        ArgumentNullException.ThrowIfNull(target);
        ArgumentNullException.ThrowIfNull(outcome);
        return new OutcomeReport(
            target.Name,
            Camel(outcome.End.ToString()),
            outcome.Detail,
            [.. outcome.Events.Select(EventReport.Of)],
            outcome.Registers is null ? null : RegistersOf(outcome.Registers),
            outcome.Memory.ToImmutableSortedDictionary(w => w.Address.ToString("x16", CultureInfo.InvariantCulture), w => Hex(w.Value), StringComparer.Ordinal));
    }

    /// <summary>Registers by lower-case name.</summary>
    internal static ImmutableSortedDictionary<string, string> RegistersOf(RegisterState registers)
    {
        ImmutableSortedDictionary<string, string>.Builder values = ImmutableSortedDictionary.CreateBuilder<string, string>(StringComparer.Ordinal);
        for (Register register = Register.Rax; register <= Register.Pkru; register++)
        {
            if (register != Register.Pkru || registers.Pkru is not null)
            {
                values.Add(register.ToString().ToLowerInvariant(), Hex(registers[register]));
            }
        }

        return values.ToImmutable();
    }

    /// <summary>A number as in case files.</summary>
    internal static string Hex(ulong value) => value.ToString("x", CultureInfo.InvariantCulture);

    /// <summary>A name with a small first letter.</summary>
    internal static string Camel(string name) => char.ToLowerInvariant(name[0]) + name[1..];
}

/// <summary>A delivery.</summary>
/// <param name="Kind">Kind of delivery.</param>
/// <param name="Vector">IDT vector.</param>
/// <param name="Error">Error code, or null.</param>
/// <param name="Cr2">Faulting address, or null.</param>
/// <param name="Entry">The door.</param>
/// <param name="Mode">Mode of the interrupted code: <c>long64</c> or <c>compatibility32</c>.</param>
/// <param name="Frame">The frame's bytes in hexadecimal.</param>
/// <param name="Registers">The interrupted context.</param>
public sealed record EventReport(
    string Kind, int Vector, string? Error, string? Cr2, string Entry, string Mode, string Frame, ImmutableSortedDictionary<string, string> Registers)
{
    /// <summary>The report of one event.</summary>
    public static EventReport Of(Event e)
    {
        ArgumentNullException.ThrowIfNull(e);
        return new EventReport(
            OutcomeReport.Camel(e.Kind.ToString()),
            e.Vector,
            e.ErrorCode is uint error ? OutcomeReport.Hex(error) : null,
            e.Cr2 is ulong cr2 ? OutcomeReport.Hex(cr2) : null,
            OutcomeReport.Camel(e.Entry.ToString()),
            e.Registers.Cs == Selectors.UserCode32 ? "compatibility32" : "long64",
            Convert.ToHexStringLower(e.Frame.AsSpan()),
            OutcomeReport.RegistersOf(e.Registers));
    }
}
