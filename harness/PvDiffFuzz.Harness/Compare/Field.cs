using System.Globalization;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>What part of an outcome a <see cref="Field"/> is.</summary>
public enum FieldKind
{
    /// <summary>How the case ended.</summary>
    End,

    /// <summary>Whether the hypervisor itself died. Nothing that describes other ends describes this one.</summary>
    HypervisorCrash,

    /// <summary>Number of events.</summary>
    Events,

    /// <summary>Kind of delivery of an event.</summary>
    Kind,

    /// <summary>Vector of an event.</summary>
    Vector,

    /// <summary>Error code of an event.</summary>
    Error,

    /// <summary>Faulting address of an event.</summary>
    Cr2,

    /// <summary>Entry point of an event.</summary>
    Entry,

    /// <summary>A register other than RFLAGS.</summary>
    Register,

    /// <summary>One bit of RFLAGS.</summary>
    Flag,

    /// <summary>Changed memory.</summary>
    Memory,

    /// <summary>The frame of an event as a whole, where its bytes have no names.</summary>
    Frame,

    /// <summary>A named part of an event's frame.</summary>
    FramePart,

    /// <summary>One bit of a part of a frame that holds RFLAGS.</summary>
    FrameFlag,

    /// <summary>A register of the system side at the end.</summary>
    System,

    /// <summary>One bit of a register of the system side that holds RFLAGS.</summary>
    SystemFlag,
}

/// <summary>The name of something in an outcome that can differ.</summary>
/// <param name="Kind">Part of the outcome.</param>
/// <param name="Event">Index of the event, or <see cref="Final"/> for the state at the end.</param>
/// <param name="Register">The register, for <see cref="FieldKind.Register"/>.</param>
/// <param name="Bit">Bit number, for the kinds that are one bit of RFLAGS.</param>
public readonly record struct Field(FieldKind Kind, int Event = Field.Final, Register Register = default, byte Bit = 0)
{
    /// <summary>In place of an event's index: the state at the end of the case.</summary>
    public const int Final = -1;

    private static readonly string[] FlagNames = MakeFlagNames();

    /// <summary>Name of the part of a frame, as in <see cref="FrameField"/>; null for kinds that are no part of a frame.</summary>
    public string? Part { get; init; }

    /// <summary>Offset of the part in its frame, for the order of reports.</summary>
    public int Offset { get; init; }

    /// <summary>The register of the system side, for <see cref="FieldKind.System"/> and <see cref="FieldKind.SystemFlag"/>.</summary>
    public SystemRegister System { get; init; }

    /// <summary>Order of reports: by event, the final state last, then by kind and register.</summary>
    public static IComparer<Field> Order { get; } = Comparer<Field>.Create((a, b) =>
    {
        int order = ((uint)a.Event, a.Kind, a.Register, a.System, a.Offset, a.Bit).CompareTo(((uint)b.Event, b.Kind, b.Register, b.System, b.Offset, b.Bit));
        return order != 0 ? order : string.CompareOrdinal(a.Part, b.Part);
    });

    /// <summary>Names of the RFLAGS bits by number; <c>bit37</c> for those without a name.</summary>
    public static IReadOnlyList<string> Flags => FlagNames;

    /// <summary>The name without the event's index and with one name for all general registers, such as <c>event.rflags.CF</c> or <c>gpr</c>: what signatures are made of.</summary>
    public string Class => Kind == FieldKind.Register && Register <= Register.R15 ? Prefix("event.") + "gpr" : Name("event.");

    /// <summary>The name without the event's index, such as <c>event.rip</c> or <c>gpr.rax</c>.</summary>
    public string Unindexed => Name("event.");

    /// <summary>The full name, such as <c>event[0].rflags.CF</c>, <c>gpr.rax</c> or <c>memory</c>.</summary>
    public override string ToString() => Name(Event == Final ? "" : string.Create(CultureInfo.InvariantCulture, $"event[{Event}]."));

    /// <summary>The names that stand for this field and others in known entries: <c>gpr</c>, <c>event.rflags</c>, <c>event.frame</c>, <c>sys.pvcs</c> and so on.</summary>
    public IEnumerable<string> Groups => Kind switch
    {
        FieldKind.Register when Register <= Register.R15 => [Prefix("event.") + "gpr"],
        FieldKind.Flag => [Prefix("event.") + "rflags"],
        FieldKind.FramePart => ["event.frame"],
        FieldKind.FrameFlag => ["event.frame", $"event.frame.{Part}"],
        FieldKind.System when IsPvcs => ["sys", "sys.pvcs"],
        FieldKind.System => ["sys"],
        FieldKind.SystemFlag => ["sys", "sys.pvcs", $"sys.{System.Text()}"],
        _ => [],
    };

    /// <summary>True for fields that only paravirtual ABIs have.</summary>
    public bool IsParavirtual => Kind >= FieldKind.Frame;

    private bool IsPvcs => System is >= SystemRegister.PvcsEventFlags and <= SystemRegister.PvcsR11;

    /// <summary>The value of this field as text: hexadecimal, <c>-</c> when the outcome has no such thing.</summary>
    /// <param name="outcome">Where to look.</param>
    /// <param name="abi">The ABI of the case, which names the parts of frames.</param>
    public string ValueIn(Outcome outcome, Abi abi)
    {
        Event? e = EventIn(outcome);
        switch (Kind)
        {
            case FieldKind.End:
                return outcome.End.ToString();
            case FieldKind.Events:
                return outcome.Events.Length.ToString(CultureInfo.InvariantCulture);
            case FieldKind.Kind:
                return e?.Kind.ToString() ?? "-";
            case FieldKind.Entry:
                return e?.Entry.ToString() ?? "-";
            case FieldKind.Memory:
                return MemoryText(outcome);
            case FieldKind.Frame:
                return e is null || e.Frame.IsEmpty ? "-" : Convert.ToHexStringLower(e.Frame.AsSpan());
            default:
                return TryRead(outcome, abi, out ulong value) ? value.ToString("x", CultureInfo.InvariantCulture) : "-";
        }
    }

    /// <summary>The value of this field as a number.</summary>
    /// <param name="outcome">Where to look.</param>
    /// <param name="abi">The ABI of the case, which names the parts of frames.</param>
    /// <param name="value">The value; enumerations give their number, a flag 0 or 1.</param>
    /// <returns>False when the outcome has no such thing, or for <see cref="FieldKind.Memory"/> and <see cref="FieldKind.Frame"/>.</returns>
    public bool TryRead(Outcome outcome, Abi abi, out ulong value)
    {
        Event? e = EventIn(outcome);
        RegisterState? registers = Event == Final ? outcome.Registers : e?.Registers;
        ulong? read = Kind switch
        {
            FieldKind.End => (ulong)outcome.End,
            FieldKind.HypervisorCrash => outcome.End == EndKind.HypervisorCrash ? 1UL : 0,
            FieldKind.Events => (ulong)outcome.Events.Length,
            FieldKind.Kind => (ulong?)e?.Kind,
            FieldKind.Vector => e?.Vector,
            FieldKind.Error => e?.ErrorCode,
            FieldKind.Cr2 => e?.Cr2,
            FieldKind.Entry => (ulong?)e?.Entry,
            FieldKind.Register when Register == Register.Pkru => registers?.Pkru,
            FieldKind.Register => registers?[Register],
            FieldKind.Flag => (registers?.Rflags >> Bit) & 1,
            FieldKind.FramePart => PartOf(e, abi),
            FieldKind.FrameFlag => (PartOf(e, abi) >> Bit) & 1,
            FieldKind.System => SystemIn(outcome),
            FieldKind.SystemFlag => (SystemIn(outcome) >> Bit) & 1,
            _ => null,
        };
        value = read ?? 0;
        return read is not null;
    }

    private ulong? PartOf(Event? e, Abi abi)
    {
        foreach (FrameField field in e is null ? [] : Interrupted.Layout(abi, e))
        {
            if (field.Name == Part)
            {
                return FrameLayout.Read(e!.Frame, field);
            }
        }

        return null;
    }

    private ulong? SystemIn(Outcome outcome) => outcome.System.TryGet(System, out ulong value) ? value : null;

    private static string MemoryText(Outcome outcome)
    {
        const int shown = 8;
        string text = string.Join(' ', outcome.Memory.Take(shown).Select(w => $"{w.Address:x}={w.Value:x}"));
        return outcome.Memory.Length == 0 ? "-" : outcome.Memory.Length > shown ? $"{text} and {outcome.Memory.Length - shown} more" : text;
    }

    private static string[] MakeFlagNames()
    {
        string[] names = [.. Enumerable.Range(0, 64).Select(i => $"bit{i}")];
        foreach ((int bit, string name) in new (int, string)[]
        {
            (0, "CF"), (2, "PF"), (4, "AF"), (6, "ZF"), (7, "SF"), (8, "TF"), (9, "IF"), (10, "DF"), (11, "OF"),
            (14, "NT"), (16, "RF"), (17, "VM"), (18, "AC"), (19, "VIF"), (20, "VIP"), (21, "ID"),
        })
        {
            names[bit] = name;
        }

        return names;
    }

    private Event? EventIn(Outcome outcome) => Event >= 0 && Event < outcome.Events.Length ? outcome.Events[Event] : null;

    private string Prefix(string ofEvent) => Event == Final ? "" : ofEvent;

    private string Name(string ofEvent)
    {
        string prefix = Prefix(ofEvent);
        return Kind switch
        {
            FieldKind.HypervisorCrash => "hypervisor-crash",
            FieldKind.Register when Register <= Register.R15 => $"{prefix}gpr.{NameOf(Register)}",
            FieldKind.Register => prefix + NameOf(Register),
            FieldKind.Flag => $"{prefix}rflags.{FlagNames[Bit]}",
            FieldKind.FramePart => $"{prefix}frame.{Part}",
            FieldKind.FrameFlag => $"{prefix}frame.{Part}.{FlagNames[Bit]}",
            FieldKind.System => $"sys.{System.Text()}",
            FieldKind.SystemFlag => $"sys.{System.Text()}.{FlagNames[Bit]}",
            _ => prefix + Kind.ToString().ToLowerInvariant(),
        };
    }

    private static string NameOf(Register register) => register.ToString().ToLowerInvariant();
}
