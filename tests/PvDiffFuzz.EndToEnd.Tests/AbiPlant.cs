using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.EndToEnd.Tests;

/// <summary>One rule of a paravirtual ABI, broken: a part of what is delivered is wrong.</summary>
/// <param name="Name">Name of the test's row.</param>
/// <param name="Abi">The ABI.</param>
/// <param name="Fields">The fields that differ, as in a signature.</param>
/// <param name="Spoil">What a guest sees of an event when the rule is broken; the same event where it is not concerned.</param>
internal sealed record AbiPlant(string Name, Abi Abi, string Fields, Func<Event, Event> Spoil)
{
    private const byte DivideError = 0, Breakpoint = 3, ProtectionFault = 13, PageFault = 14;
    private const ulong Present = 1, IdtBit = 2, Fetch = 0x10;

    /// <summary>All of them.</summary>
    public static ImmutableArray<AbiPlant> All { get; } =
    [
        .. ((ReadOnlySpan<Abi>)[Abi.PvmRfc1, Abi.Pvm612]).ToArray().SelectMany(OfPvm),
        InFrame("the frame of INT3 in supervisor mode has RSP below the area that it leaves alone", Abi.PvmRfc1, "rsp", e => e.Entry == EntryPoint.PvmSupervisor && e.Vector == Breakpoint, value => value - 128),
        InFrame("the error code of INT n in supervisor mode is lost", Abi.PvmRfc1, "errcode", e => e.Entry == EntryPoint.PvmSupervisor && e.Vector == ProtectionFault && (e.ErrorCode & IdtBit) != 0, _ => 0),
        .. ((ReadOnlySpan<Abi>)[Abi.XenPv64, Abi.XenPv64Fred]).ToArray().SelectMany(OfXen),
        InFrame("INT3 saves the upcall mask after it was set", Abi.XenPv32, "mask", e => e.Entry == EntryPoint.XenTrap && e.Vector == Breakpoint, value => value ^ 1),
    ];

    /// <inheritdoc/>
    public override string ToString() => $"{Abi.Text()}: {Name}";

    private static IEnumerable<AbiPlant> OfPvm(Abi abi) =>
    [
        InFrame("INT3 of user code saves its own address", abi, "rip", e => e.Entry == EntryPoint.PvmUser && e.Vector == Breakpoint, value => value - 1),
        InFrame("a user SYSCALL loses the direction flag", abi, "eflags", e => e.Entry == EntryPoint.Lstar, value => value & ~RflagsBits.DF),
        InFrame("a fetch from a page without execution is no fetch", abi, "event-errcode", e => e.Entry == EntryPoint.PvmUser && e.Vector == PageFault && (e.ErrorCode & Present) != 0, value => value & ~Fetch),
        InFrame("a divide error of user code saves R11 inverted", abi, "r11", e => e.Entry == EntryPoint.PvmUser && e.Vector == DivideError, value => ~value),
    ];

    private static IEnumerable<AbiPlant> OfXen(Abi abi) =>
    [
        InFrame("INT3 saves the upcall mask after it was set", abi, "mask", e => e.Entry == EntryPoint.XenTrap && e.Vector == Breakpoint, value => value ^ 1),
        InFrame("the error code of INT n names a gate of the external source", abi, "errcode", e => e.Entry == EntryPoint.XenTrap && e.Vector == ProtectionFault && (e.ErrorCode & IdtBit) != 0, value => value | 1),
        InFrame("INT3 saves its own address", abi, "rip", e => e.Entry == EntryPoint.XenTrap && e.Vector == Breakpoint, value => value - 1),
        new AbiPlant("the handler of divide errors is entered with R12 inverted", abi, "gpr", e => e.Entry == EntryPoint.XenTrap && e.Vector == DivideError ? e with { Registers = e.Registers.With(Register.R12, ~e.Registers.Gpr[12]) } : e),
    ];

    private static AbiPlant InFrame(string name, Abi abi, string part, Func<Event, bool> concerns, Func<ulong, ulong> wrong) => new(
        name,
        abi,
        part is "eflags" ? "event.frame.eflags.DF" : $"event.frame.{part}",
        e => concerns(e) ? e with { Frame = With(abi, e, part, wrong) } : e);

    /// <summary>The frame with another value in one of its parts.</summary>
    private static ImmutableArray<byte> With(Abi abi, Event e, string part, Func<ulong, ulong> wrong)
    {
        byte[] frame = [.. e.Frame];
        foreach (FrameField field in FrameLayout.Of(abi, e.Entry, e.Frame.Length))
        {
            if (field.Name == part)
            {
                ulong value = wrong(FrameLayout.Read(e.Frame, field));
                for (int i = 0; i < field.Width; i++)
                {
                    frame[field.Offset + i] = (byte)(value >> (8 * i));
                }
            }
        }

        return [.. frame];
    }
}

/// <summary>A model of which one rule is broken: it runs a case rightly and then spoils what the broken rule made.</summary>
/// <param name="model">Owned from now on.</param>
/// <param name="plant">The broken rule; null for a model that is right.</param>
internal sealed class PlantedAbiFault(ITarget model, AbiPlant? plant) : ITarget
{
    /// <inheritdoc/>
    public TargetInfo Info { get; } = model.Info with { Name = PlantedFault.Name };

    /// <inheritdoc/>
    public Outcome Run(TestCase testCase)
    {
        Outcome outcome = model.Run(testCase);
        return outcome.Comparable && plant is not null ? Spoilt(outcome, plant) : outcome;
    }

    /// <inheritdoc/>
    public void Dispose() => model.Dispose();

    private static Outcome Spoilt(Outcome outcome, AbiPlant plant)
    {
        ImmutableArray<Event> events = [.. outcome.Events.Select(plant.Spoil)];
        bool ended = !outcome.Events.IsEmpty && ReferenceEquals(outcome.Registers, outcome.Events[^1].Registers);
        return outcome with
        {
            Events = events,
            Registers = ended ? events[^1].Registers : outcome.Registers,
            Alternatives = [.. outcome.Alternatives.Select(other => Spoilt(other, plant))],
        };
    }
}
