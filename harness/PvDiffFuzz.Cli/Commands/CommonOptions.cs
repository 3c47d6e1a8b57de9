using System.CommandLine;
using System.Globalization;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Cli.Commands;

/// <summary>Options that several commands share, so that they read alike.</summary>
internal static class CommonOptions
{
    /// <summary><c>--json</c>.</summary>
    public static Option<bool> Json() => new("--json") { Description = "Print one JSON object on stdout for programs to read." };

    /// <summary><c>--targets</c>.</summary>
    public static Option<string> Targets(Composition composition) => new("--targets")
    {
        Description = $"Comma-separated targets: {string.Join(", ", composition.Names)}.",
        DefaultValueFactory = _ => Composition.Default,
    };

    /// <summary><c>--targets</c> of commands that choose by the ABI of their case.</summary>
    public static Option<string?> TargetsByAbi(Composition composition) => new("--targets")
    {
        Description = $"Comma-separated targets: {string.Join(", ", composition.Names)}; default: {Composition.Default} for x86, for another ABI those that run it here.",
    };

    /// <summary><c>--known</c>.</summary>
    public static Option<string?> Known() => new("--known")
    {
        Description = "Folder of known divergences; default: corpus/known of the checkout, if there is one.",
    };

    /// <summary>An option whose number must lie in a range.</summary>
    public static Option<long> Number(string name, string description, long value, long least, long most) => new(name)
    {
        Description = $"{description} ({least} to {most})",
        DefaultValueFactory = _ => value,
        CustomParser = result =>
        {
            string text = result.Tokens.Count > 0 ? result.Tokens[0].Value : string.Empty;
            if (!long.TryParse(text, NumberStyles.AllowLeadingSign, CultureInfo.InvariantCulture, out long given) || given < least || given > most)
            {
                result.AddError($"{name} {text}: valid values are {least} to {most}");
            }

            return given;
        },
    };

    /// <summary><c>--abi</c> for what the generator makes.</summary>
    public static Option<string> GeneratedAbi() => new("--abi") { Description = $"ABI of the generated cases: {string.Join(", ", GeneratorOptions.Abis.Select(abi => abi.Text()))}.", DefaultValueFactory = _ => Abi.X86.Text() };

    /// <summary>Reads the value of <see cref="GeneratedAbi"/>.</summary>
    /// <exception cref="UsageException">No cases are generated for it.</exception>
    public static Abi ParseAbi(string text)
    {
        foreach (Abi abi in GeneratorOptions.Abis)
        {
            if (string.Equals(text, abi.Text(), StringComparison.OrdinalIgnoreCase))
            {
                return abi;
            }
        }

        throw new UsageException($"--abi {text}: cases are generated for {string.Join(", ", GeneratorOptions.Abis.Select(abi => abi.Text()))}");
    }
}
