using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Conformance.Tests;

/// <summary>Outcomes that differ from a recorded one in a single field.</summary>
internal static class Flips
{
    private static readonly int[] Flags = [0, 2, 4, 6, 7, 8, 9, 10, 11, 14, 16, 18, 21, 40];

    /// <summary>One outcome for each field of a recorded one, with the field's name as known entries have it.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="outcome">What was recorded.</param>
    public static IEnumerable<(string Field, Outcome Changed)> Of(TestCase testCase, Outcome outcome)
    {
        yield return ("end", outcome with { End = outcome.End == EndKind.Halt ? EndKind.Crash : EndKind.Halt });
        foreach ((string field, Outcome changed) in OfEvents(testCase.Abi, outcome).Concat(OfFinal(outcome)).Concat(OfSystem(outcome)).Concat(OfMemory(testCase, outcome)))
        {
            yield return (field, changed);
        }
    }

    private static IEnumerable<(string Field, Outcome Changed)> OfEvents(Abi abi, Outcome outcome)
    {
        if (outcome.Events.IsEmpty)
        {
            yield break;
        }

        int last = outcome.Events.Length - 1;
        Event e = outcome.Events[last];
        Outcome With(Event changed) => outcome with { Events = outcome.Events.SetItem(last, changed) };
        yield return ("events", outcome with { Events = outcome.Events.Add(e) });
        yield return ("event.kind", With(e with { Kind = e.Kind == EventKind.Upcall ? EventKind.Fault : EventKind.Upcall }));
        yield return ("event.vector", With(e with { Vector = (byte)(e.Vector ^ 0x40) }));
        yield return ("event.error", With(e with { ErrorCode = e.ErrorCode is uint error ? error ^ 0x100 : 0 }));
        yield return ("event.cr2", With(e with { Cr2 = e.Cr2 is ulong address ? address ^ 8 : 0 }));
        yield return ("event.entry", With(e with { Entry = e.Entry == EntryPoint.PvmUser ? EntryPoint.Lstar : EntryPoint.PvmUser }));
        foreach ((string name, RegisterState registers) in OfRegisters(e.Registers, "event."))
        {
            yield return (name, With(e with { Registers = registers }) with { Registers = registers });
        }

        foreach (FrameField part in FrameLayout.Of(abi, e.Entry, e.Frame.Length).ToArray())
        {
            foreach (int bit in part.Saves == Register.Rflags ? Flags.Where(f => f < 8 * part.Width) : [3])
            {
                int at = part.Offset + (bit / 8);
                string name = $"event.frame.{part.Name}" + (part.Saves == Register.Rflags ? $".{Harness.Field.Flags[bit]}" : "");
                yield return (name, With(e with { Frame = e.Frame.SetItem(at, (byte)(e.Frame[at] ^ (1 << (bit % 8)))) }));
            }
        }
    }

    private static IEnumerable<(string Field, Outcome Changed)> OfFinal(Outcome outcome)
    {
        if (outcome.Registers is not RegisterState final)
        {
            return [];
        }

        return OfRegisters(final, "").Select(r => (r.Name, outcome with { Registers = r.Changed }));
    }

    private static IEnumerable<(string Name, RegisterState Changed)> OfRegisters(RegisterState registers, string prefix)
    {
        for (Register register = Register.Rax; register <= Register.Pkru; register++)
        {
            string name = prefix + (register <= Register.R15 ? "gpr." : "") + register.ToString().ToLowerInvariant();
            if (register == Register.Rflags)
            {
                foreach (int bit in Flags)
                {
                    yield return ($"{name}.{Harness.Field.Flags[bit]}", registers.With(register, registers.Rflags ^ (1UL << bit)));
                }
            }
            else
            {
                yield return (name, registers.With(register, registers[register] ^ 0x100));
            }
        }
    }

    private static IEnumerable<(string Field, Outcome Changed)> OfSystem(Outcome outcome)
    {
        foreach ((SystemRegister register, ulong value) in outcome.System.Values)
        {
            yield return ($"sys.{register.Text()}", outcome with { System = outcome.System.With(register, value ^ (register >= SystemRegister.PvmUserMode ? 1UL : 0x100)) });
        }
    }

    private static IEnumerable<(string Field, Outcome Changed)> OfMemory(TestCase testCase, Outcome outcome)
    {
        foreach (MemoryRange range in outcome.Seen)
        {
            for (ulong address = range.Address; address - range.Address < (ulong)range.Length; address += 7)
            {
                ulong at = address & ~7UL;
                ulong before = outcome.Memory.Where(w => w.Address == at).Select(w => (ulong?)w.Value).FirstOrDefault() ?? testCase.InitialWord(at);
                MemoryWord changed = new(at, before ^ (1UL << (int)(8 * (address & 7))));
                ImmutableArray<MemoryWord> others = [.. outcome.Memory.Where(w => w.Address != at)];
                yield return ("memory", outcome with { Memory = [.. others.Append(changed).Where(w => w.Value != testCase.InitialWord(w.Address)).OrderBy(w => w.Address)] });
            }
        }
    }
}
