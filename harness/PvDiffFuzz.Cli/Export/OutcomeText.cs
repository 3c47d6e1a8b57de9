using System.Text;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Export;

/// <summary>The lines that a reproducer prints: each event with all registers, then memory that changed.</summary>
internal static class OutcomeText
{
    /// <summary>What a reproducer of a case would print where an outcome is what happened.</summary>
    /// <param name="outcome">An outcome of an x86 case with events.</param>
    public static string Of(Outcome outcome)
    {
        StringBuilder text = new();
        foreach (Event e in outcome.Events)
        {
            text.Append("event ").Append(e.Kind == EventKind.SystemCall ? "system-call" : e.Vector.ToString("x2"));
            if (e.ErrorCode is uint error)
            {
                text.Append($" error={error:x16}");
            }

            if (e.Cr2 is ulong address)
            {
                text.Append($" cr2={address:x16}");
            }

            text.Append('\n');
            for (Register register = Register.Rax; register <= Register.GsBase; register++)
            {
                text.Append($" {register.ToString().ToLowerInvariant()}={e.Registers[register]:x16}");
            }

            text.Append('\n');
        }

        foreach (MemoryWord word in outcome.Memory)
        {
            text.Append($"memory {word.Address:x16}={word.Value:x16}\n");
        }

        return text.ToString();
    }
}
