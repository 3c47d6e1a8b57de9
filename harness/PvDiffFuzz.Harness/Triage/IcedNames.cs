using System.Collections.Immutable;
using Iced.Intel;

namespace PvDiffFuzz.Harness;

/// <summary>Iced's names of forms and mnemonics. The runtime looks a name up among some thousand each time it is asked.</summary>
internal static class IcedNames
{
    private static readonly ImmutableArray<string> Forms = NamesOf<Code>(code => (int)code);
    private static readonly ImmutableArray<string> Mnemonics = NamesOf<Mnemonic>(mnemonic => (int)mnemonic);

    /// <summary>The name of a form.</summary>
    public static string Of(Code code) => Forms[(int)code];

    /// <summary>The name of a mnemonic.</summary>
    public static string Of(Mnemonic mnemonic) => Mnemonics[(int)mnemonic];

    private static ImmutableArray<string> NamesOf<T>(Func<T, int> number)
        where T : struct, Enum
    {
        T[] values = Enum.GetValues<T>();
        string[] names = new string[number(values[^1]) + 1];
        foreach (T value in values)
        {
            names[number(value)] = value.ToString();
        }

        return [.. names];
    }
}
