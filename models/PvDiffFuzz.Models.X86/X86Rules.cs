using System.Collections.Immutable;
using System.Reflection;
using System.Text.RegularExpressions;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>A rule of the model and where it comes from.</summary>
/// <param name="Document">Document name.</param>
/// <param name="Section">Section in it.</param>
/// <param name="Implementation">The type or member that implements it, such as <c>Arithmetic.Adc</c>.</param>
public sealed record Rule(string Document, string Section, string Implementation);

/// <summary>All rules of <c>model.x86</c>, read from their <see cref="SpecAttribute"/>s.</summary>
public static partial class X86Rules
{
    private const BindingFlags Everything = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Static | BindingFlags.Instance | BindingFlags.DeclaredOnly;

    /// <summary>Every rule, by document, section and implementation.</summary>
    public static ImmutableArray<Rule> All { get; } = In(typeof(X86Rules).Assembly);

    /// <summary>The rules of an assembly, by document, section and implementation.</summary>
    internal static ImmutableArray<Rule> In(Assembly assembly) =>
    [
        .. assembly.GetTypes()
            .SelectMany(type => type.GetMembers(Everything).Where(member => member is not Type).Append(type))
            .SelectMany(member => member.GetCustomAttributes<SpecAttribute>().Select(spec => new Rule(spec.Document, spec.Section, Name(member))))
            .Distinct()
            .OrderBy(rule => rule.Document, StringComparer.Ordinal).ThenBy(rule => rule.Section, StringComparer.Ordinal).ThenBy(rule => rule.Implementation, StringComparer.Ordinal),
    ];

    /// <summary>The rules whose section names a mnemonic as a word.</summary>
    /// <param name="mnemonic">Such as <c>ADC</c>; case does not matter.</param>
    public static ImmutableArray<Rule> For(string mnemonic) =>
        [.. All.Where(rule => Words().Matches(rule.Section).Any(word => string.Equals(word.Value, mnemonic, StringComparison.OrdinalIgnoreCase)))];

    private static string Name(MemberInfo member) => member.DeclaringType is Type owner ? $"{owner.Name}.{member.Name}" : member.Name;

    [GeneratedRegex("[A-Za-z0-9]+", RegexOptions.None, matchTimeoutMilliseconds: 1000)]
    private static partial Regex Words();
}
