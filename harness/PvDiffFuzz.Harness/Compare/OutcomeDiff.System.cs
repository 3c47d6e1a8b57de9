using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <content>The system side: frames by their parts, control registers, MSRs and structures by their names, and outcomes of more than one allowed shape.</content>
internal sealed partial class OutcomeDiff
{
    /// <summary>True when no register that both states hold differs. Allocates nothing.</summary>
    public static bool SameStated(SystemState a, SystemState b)
    {
        if (ReferenceEquals(a, b))
        {
            return true;
        }

        ReadOnlySpan<KeyValuePair<SystemRegister, ulong>> left = a.Values.AsSpan();
        ReadOnlySpan<KeyValuePair<SystemRegister, ulong>> right = b.Values.AsSpan();
        for (int i = 0, j = 0; i < left.Length && j < right.Length;)
        {
            int order = (int)left[i].Key - (int)right[j].Key;
            if (order == 0 && left[i].Value != right[j].Value)
            {
                return false;
            }

            i += order <= 0 ? 1 : 0;
            j += order >= 0 ? 1 : 0;
        }

        return true;
    }

    /// <summary>An outcome and the others that the specification allows in its place, one by one.</summary>
    public static IEnumerable<Outcome> Shapes(Outcome outcome) => outcome.Alternatives.Prepend(outcome);

    private static bool SameAlternative(Outcome a, Outcome b)
    {
        for (int i = -1; i < a.Alternatives.Length; i++)
        {
            Outcome one = i < 0 ? a : a.Alternatives[i];
            for (int j = -1; j < b.Alternatives.Length; j++)
            {
                if (SameAlone(one, j < 0 ? b : b.Alternatives[j]))
                {
                    return true;
                }
            }
        }

        return false;
    }

    private void CompareFrames(int index, Event a, Event b)
    {
        ReadOnlySpan<FrameField> layout = Interrupted.Layout(testCase.Abi, a);
        if (layout.IsEmpty || a.Frame.Length != b.Frame.Length || layout != Interrupted.Layout(testCase.Abi, b))
        {
            _fields.Add(new Field(FieldKind.Frame, index));
            return;
        }

        Span<bool> named = new bool[a.Frame.Length];
        foreach (FrameField field in layout)
        {
            named.Slice(field.Offset, field.Width).Fill(true);
            ulong differing = FrameLayout.Read(a.Frame, field) ^ FrameLayout.Read(b.Frame, field);
            AddPart(index, field, _copied.Rest(field.Saves is Register saved ? Defined(differing, saved, index) : differing));
        }

        for (int i = 0; i < named.Length; i++)
        {
            if (!named[i] && a.Frame[i] != b.Frame[i])
            {
                _fields.Add(new Field(FieldKind.Frame, index));
            }
        }
    }

    private void AddPart(int index, FrameField field, ulong differing)
    {
        if (field.Saves != Register.Rflags)
        {
            if (differing != 0)
            {
                _fields.Add(new Field(FieldKind.FramePart, index) { Part = field.Name, Offset = field.Offset });
            }

            return;
        }

        for (; differing != 0; differing &= differing - 1)
        {
            _fields.Add(new Field(FieldKind.FrameFlag, index, default, (byte)ulong.TrailingZeroCount(differing)) { Part = field.Name, Offset = field.Offset });
        }
    }

    private void CompareSystem(Outcome a, Outcome b)
    {
        if (SameStated(a.System, b.System))
        {
            return;
        }

        int frame = LastPvcs(a, b);
        foreach ((SystemRegister register, ulong left) in a.System.Values)
        {
            if (!b.System.TryGet(register, out ulong right) || left == right)
            {
                continue;
            }

            Field? part = frame < 0 ? null : PartOf(register, frame);
            if (part is Field named && named.TryRead(a, testCase.Abi, out ulong before) && before == left && named.TryRead(b, testCase.Abi, out ulong other) && other == right)
            {
                // Both still hold what their last frame held, so the difference has a name already, or was masked there.
                continue;
            }

            AddSystem(register, PvcsLayout.Saves(register) is Register saved ? Defined(left ^ right, saved, int.MaxValue) : left ^ right);
        }
    }

    private void AddSystem(SystemRegister register, ulong differing)
    {
        if (PvcsLayout.Saves(register) != Register.Rflags)
        {
            if (differing != 0)
            {
                _fields.Add(new Field(FieldKind.System) { System = register });
            }

            return;
        }

        for (; differing != 0; differing &= differing - 1)
        {
            _fields.Add(new Field(FieldKind.SystemFlag, Field.Final, default, (byte)ulong.TrailingZeroCount(differing)) { System = register });
        }
    }

    /// <summary>Index of the last event whose frame is PVM's structure, when that is the same one on both sides; else -1.</summary>
    private int LastPvcs(Outcome a, Outcome b)
    {
        int last = LastPvcs(a.Events);
        return last == LastPvcs(b.Events) ? last : -1;
    }

    private int LastPvcs(ImmutableArray<Event> events)
    {
        int last = events.Length - 1;
        while (last >= 0 && !Interrupted.IsPvcs(testCase.Abi, events[last]))
        {
            last--;
        }

        return last;
    }

    private static Field? PartOf(SystemRegister register, int index)
    {
        string name = register.Text();
        const string prefix = "pvcs.";
        return name.StartsWith(prefix, StringComparison.Ordinal) ? new Field(FieldKind.FramePart, index) { Part = name[prefix.Length..] } : null;
    }
}
