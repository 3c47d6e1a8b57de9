using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Output;

/// <summary>An outcome as programs read it: design's <c>run --json</c>.</summary>
internal static class OutcomeView
{
    /// <summary>Shapes one target's outcome.</summary>
    /// <param name="target">Its name.</param>
    /// <param name="outcome">The outcome.</param>
    /// <param name="abi">The ABI of the case, which names the parts of frames.</param>
    public static object Of(string target, Outcome outcome, Abi abi) => new
    {
        target,
        end = outcome.End,
        detail = outcome.Detail,
        events = outcome.Events.Select(e => Shape(e, abi)),
        registers = outcome.Registers is null ? null : Registers(outcome.Registers),
        memory = outcome.Memory.Select(word => new { address = word.Address, value = word.Value }),
        system = StepsView.Values(outcome.System),
    };

    /// <summary>The named parts of an event's frame with their values, in the order of the frame; none for an IDT's, which its registers tell.</summary>
    public static IEnumerable<KeyValuePair<string, string>> FrameParts(Event delivered, Abi abi) => delivered.Entry == EntryPoint.Idt
        ? []
        : FrameLayout.Of(abi, delivered.Entry, delivered.Frame.Length).ToArray().Select(part => KeyValuePair.Create(part.Name, FrameLayout.Read(delivered.Frame, part).ToString("x")));

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

    private static object Shape(Event delivered, Abi abi) => new
    {
        kind = delivered.Kind,
        vector = delivered.Vector,
        error = delivered.ErrorCode is uint error ? error.ToString("x") : null,
        cr2 = delivered.Cr2,
        entry = delivered.Entry.Text(),
        mode = delivered.Registers.Cs == Selectors.UserCode32 ? "compatibility" : "64-bit",
        frame = Convert.ToHexStringLower(delivered.Frame.AsSpan()),
        parts = FrameParts(delivered, abi).ToDictionary(part => part.Key, part => part.Value, StringComparer.Ordinal),
        registers = Registers(delivered.Registers),
    };
}
