using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Output;

/// <summary>An outcome as programs read it: design's <c>run --json</c>.</summary>
internal static class OutcomeView
{
    /// <summary>Shapes one target's outcome.</summary>
    public static object Of(string target, Outcome outcome) => new
    {
        target,
        end = outcome.End,
        detail = outcome.Detail,
        events = outcome.Events.Select(Event),
        registers = outcome.Registers is null ? null : Registers(outcome.Registers),
        memory = outcome.Memory.Select(word => new { address = word.Address, value = word.Value }),
    };

    /// <summary>Registers by lower-case name, those that are not present left out.</summary>
    public static Dictionary<string, string> Registers(RegisterState state)
    {
        Dictionary<string, string> values = new(StringComparer.Ordinal);
        for (Register register = Register.Rax; register <= Register.Dr7; register++)
        {
            bool present = register < Register.Pkru || (register == Register.Pkru ? state.Pkru is not null : state.Debug is not null);
            if (present)
            {
                values[Name(register)] = state[register].ToString("x");
            }
        }

        return values;
    }

    /// <summary>Lower-case name of a register, as in case files.</summary>
    public static string Name(Register register) => register.ToString().ToLowerInvariant();

    private static object Event(Event delivered) => new
    {
        kind = delivered.Kind,
        vector = delivered.Vector,
        error = delivered.ErrorCode is uint error ? error.ToString("x") : null,
        cr2 = delivered.Cr2,
        entry = delivered.Entry,
        mode = delivered.Registers.Cs == Selectors.UserCode32 ? "compatibility" : "64-bit",
        frame = Convert.ToHexStringLower(delivered.Frame.AsSpan()),
        registers = Registers(delivered.Registers),
    };
}
