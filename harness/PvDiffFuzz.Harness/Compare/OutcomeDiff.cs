using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Compares two outcomes field by field. Only called for outcomes that are not equal outright.</summary>
/// <param name="testCase">The case; its contents tell what unchanged memory holds.</param>
/// <param name="rows">Mask rows of both targets.</param>
/// <param name="undefined">What is undefined at an event, by index; asked only when a register differs there.</param>
/// <param name="hidden">Receives what masks hid.</param>
internal sealed partial class OutcomeDiff(TestCase testCase, ImmutableArray<TargetMask> rows, Func<int, CaseMask> undefined, Hidden hidden)
{
    private readonly SortedSet<Field> _fields = new(Field.Order);
    private readonly CopiedFlags _copied = new(testCase, undefined, hidden);

    /// <summary>Every field that differs, masked bits aside.</summary>
    public IReadOnlyCollection<Field> Fields => _fields;

    /// <summary>True when two comparable outcomes are the same to the last bit. Allocates nothing.</summary>
    /// <remarks>
    /// <see cref="Outcome.Detail"/> is a remark for people and not compared. The system side is compared in what both state. Where the specification allows an outcome more
    /// than one shape, one that is the same is enough.
    /// </remarks>
    public static bool SameExactly(Outcome a, Outcome b) =>
        ReferenceEquals(a, b) || SameAlone(a, b) || ((a.Alternatives.Length | b.Alternatives.Length) != 0 && SameAlternative(a, b));

    /// <summary>Collects all differences.</summary>
    public void Collect(Outcome a, Outcome b)
    {
        if (a.End != b.End)
        {
            _fields.Add(new Field(FieldKind.End));
            if (a.End == EndKind.HypervisorCrash || b.End == EndKind.HypervisorCrash)
            {
                _fields.Add(new Field(FieldKind.HypervisorCrash));
            }
        }

        if (a.Events.Length != b.Events.Length)
        {
            _fields.Add(new Field(FieldKind.Events));
        }

        int common = Math.Min(a.Events.Length, b.Events.Length);

        // Usually the final registers are those of the last event on both sides; they are named once then.
        bool lastIsFinal = common > 0 && a.Events.Length == b.Events.Length && FinalIsLast(a) && FinalIsLast(b);
        for (int i = 0; i < common; i++)
        {
            _copied.Note(i, a.Events[i], b.Events[i]);
            CompareEvents(i, a.Events[i], b.Events[i], final: lastIsFinal && i == common - 1);
        }

        if (!lastIsFinal && !OneHaltsUnseen(a, b))
        {
            CompareRegisters(a.Registers, b.Registers, AtEnd(a), AtEnd(b), _ => Field.Final, int.MaxValue);
        }

        if (!a.Memory.AsSpan().SequenceEqual(b.Memory.AsSpan()))
        {
            CompareMemory(a, b);
        }

        CompareSystem(a, b);
    }

    private static bool SameAlone(Outcome a, Outcome b) =>
        a.End == b.End && a.Events.AsSpan().SequenceEqual(b.Events.AsSpan()) && a.Memory.AsSpan().SequenceEqual(b.Memory.AsSpan()) && SameFinal(a, b) && SameStated(a.System, b.System);

    private static bool FinalIsLast(Outcome outcome) => ReferenceEquals(outcome.Registers, outcome.Events[^1].Registers) || Equals(outcome.Registers, outcome.Events[^1].Registers);

    /// <summary>What rows of a mask are asked about at the end: the last event; where the guest went on behind it, the one that was answered last, with the registers at the end.</summary>
    private static Event? AtEnd(Outcome outcome) =>
        outcome.Events.IsEmpty ? null
        : outcome.Registers is null || FinalIsLast(outcome) ? outcome.Events[^1]
        : Answers.DeliveryOf(outcome.Events.AsSpan(), outcome.Events.Length - 1) with { Registers = outcome.Registers };

    /// <summary>True when both guests halt and one target does not state registers: what a hypervisor keeps for a guest that waits, a target may have no way to see.</summary>
    private static bool OneHaltsUnseen(Outcome a, Outcome b) => a.End == EndKind.Halt && b.End == EndKind.Halt && (a.Registers is null || b.Registers is null);

    private static bool SameFinal(Outcome a, Outcome b)
    {
        if (a.Registers is null || b.Registers is null)
        {
            return (a.Registers is null && b.Registers is null) || OneHaltsUnseen(a, b);
        }

        // The events were found equal just now; registers shared with the last event need no second look.
        return (a.Events.Length > 0 && ReferenceEquals(a.Registers, a.Events[^1].Registers) && ReferenceEquals(b.Registers, b.Events[^1].Registers))
            || a.Registers.Equals(b.Registers);
    }

    private void CompareEvents(int index, Event a, Event b, bool final)
    {
        AddIf(a.Kind != b.Kind, FieldKind.Kind, index);
        AddIf(a.Vector != b.Vector, FieldKind.Vector, index);
        AddIf(a.Cr2 != b.Cr2, FieldKind.Cr2, index);
        AddIf(a.Entry != b.Entry, FieldKind.Entry, index);
        if (a.ErrorCode is uint left && b.ErrorCode is uint right)
        {
            AddIf(_copied.Rest(Remaining(left ^ right, null, a, b)) != 0, FieldKind.Error, index);
        }
        else
        {
            AddIf(a.ErrorCode is null != b.ErrorCode is null, FieldKind.Error, index);
        }

        if (!ReferenceEquals(a.Registers, b.Registers))
        {
            // Of the last event, the frame is the event's and all else is the final state.
            CompareRegisters(a.Registers, b.Registers, a, b, r => final && !InFrame(r) ? Field.Final : index, index);
        }

        if (a.Entry != EntryPoint.Idt && b.Entry != EntryPoint.Idt && !a.Frame.AsSpan().SequenceEqual(b.Frame.AsSpan()))
        {
            CompareFrames(index, a, b);
        }
    }

    private void CompareMemory(Outcome a, Outcome b)
    {
        List<ulong> bytes = MemoryDiff.Bytes(testCase, a, b);
        if (bytes.Count == 0)
        {
            return;
        }

        _copied.Take(bytes, a, b);
        if (bytes.Count == 0)
        {
            return;
        }

        CaseMask mask = undefined(int.MaxValue);
        _copied.TakeSaved(bytes, mask, a, b);
        if (bytes.Count == 0)
        {
            return;
        }

        if (mask.Memory)
        {
            hidden.Add(mask.Rows);
        }
        else if (!UndefinedMemory.Covers(mask.Parts, testCase.Abi, bytes, a, b, hidden))
        {
            _fields.Add(new Field(FieldKind.Memory));
        }
    }

    private static bool InFrame(Register register) => register is Register.Rip or Register.Rflags or Register.Cs or Register.Ss;

    private void CompareRegisters(RegisterState? a, RegisterState? b, Event? eventA, Event? eventB, Func<Register, int> place, int maskAt)
    {
        if (a is null || b is null)
        {
            AddIf(a is null != b is null, FieldKind.End, Field.Final);
            return;
        }

        for (Register register = Register.Rax; register <= Register.Pkru; register++)
        {
            ulong differing = a[register] ^ b[register];
            if (register == Register.Pkru && a.Pkru is null != b.Pkru is null)
            {
                // Only a row that hides all of PKRU hides that one side has none.
                differing = uint.MaxValue;
            }

            if (differing == 0)
            {
                continue;
            }

            differing = Remaining(differing, register, eventA, eventB);
            if (register == Register.R11 && differing != 0 && maskAt != int.MaxValue && Interrupted.ShowsFlagsInR11(testCase.Abi, eventA!) && Interrupted.ShowsFlagsInR11(testCase.Abi, eventB!))
            {
                differing = Undefined(differing, Register.Rflags, maskAt);
            }

            if (!(maskAt != int.MaxValue && Interrupted.IsReplaced(testCase.Abi, register)))
            {
                differing = Defined(differing, register, maskAt);
            }

            AddRegister(register, place(register), _copied.Rest(differing));
        }
    }

    /// <summary>What of some differing bits is not undefined.</summary>
    private ulong Defined(ulong differing, Register register, int maskAt) =>
        differing == 0 || !(register == Register.Rflags || register <= Register.R15) ? differing : Undefined(differing, register, maskAt);

    /// <summary>What of some differing bits is not undefined in a register of the mask.</summary>
    private ulong Undefined(ulong differing, Register register, int maskAt)
    {
        CaseMask mask = undefined(maskAt);
        ulong bits = register == Register.Rflags ? mask.Rflags : mask.Gpr[(int)register];
        if ((differing & bits) != 0)
        {
            hidden.Add(mask, register, differing & bits);
        }

        return differing & ~bits;
    }

    private void AddRegister(Register register, int index, ulong differing)
    {
        if (register != Register.Rflags)
        {
            if (differing != 0)
            {
                _fields.Add(new Field(FieldKind.Register, index, register));
            }

            return;
        }

        for (; differing != 0; differing &= differing - 1)
        {
            _fields.Add(new Field(FieldKind.Flag, index, default, (byte)ulong.TrailingZeroCount(differing)));
        }
    }

    private ulong Remaining(ulong differing, Register? field, Event? a, Event? b)
    {
        ulong masked = 0;
        foreach (TargetMask row in rows)
        {
            if (row.Field == field && (differing & row.Bits) != 0 && ((a is not null && row.Applies(a)) || (b is not null && row.Applies(b))))
            {
                masked |= row.Bits;
                hidden.Add(row);
            }
        }

        return differing & ~masked;
    }

    private void AddIf(bool differs, FieldKind kind, int index)
    {
        if (differs)
        {
            _fields.Add(new Field(kind, index));
        }
    }
}
