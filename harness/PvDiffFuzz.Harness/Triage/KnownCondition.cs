using System.Collections.Immutable;
using System.Globalization;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>A condition on values: <c>sum = sum</c> or <c>sum != sum</c>, where a sum is terms joined by <c>+</c>, <c>-</c> or <c>&amp;</c>, worked from left to right in 64 bits.</summary>
/// <param name="Text">The condition as written.</param>
/// <param name="Left">Terms on the left.</param>
/// <param name="Equal">True for <c>=</c>, false for <c>!=</c>.</param>
/// <param name="Right">Terms on the right.</param>
public sealed record KnownCondition(string Text, ImmutableArray<KnownTerm> Left, bool Equal, ImmutableArray<KnownTerm> Right)
{
    /// <summary>Tests the condition between two camps.</summary>
    /// <param name="divergence">The divergence.</param>
    /// <param name="side">The described camp.</param>
    /// <param name="other">Another camp, or null when there is none.</param>
    /// <returns>False also when a value does not exist, such as the error code of a vector without one.</returns>
    public bool Holds(Divergence divergence, Camp side, Camp? other) =>
        Value(Left, divergence, side, other) is ulong left && Value(Right, divergence, side, other) is ulong right && left == right == Equal;

    /// <summary>Reads a condition.</summary>
    /// <param name="text">Such as <c>this.event.rip = other.event.rip - length</c>.</param>
    /// <param name="problem">What is wrong, when it cannot be read.</param>
    /// <returns>Null when it cannot be read.</returns>
    public static KnownCondition? Parse(string text, out string problem)
    {
        string[] words = text.Split(' ', StringSplitOptions.RemoveEmptyEntries);
        int sign = Array.FindIndex(words, w => w is "=" or "!=");
        if (sign < 0 || Array.FindIndex(words, sign + 1, w => w is "=" or "!=") >= 0)
        {
            problem = "a condition has one '=' or '!=' with spaces around it";
            return null;
        }

        return Sum(words.AsSpan(0, sign), out problem) is ImmutableArray<KnownTerm> left && Sum(words.AsSpan(sign + 1), out problem) is ImmutableArray<KnownTerm> right
            ? new KnownCondition(text, left, words[sign] == "=", right)
            : null;
    }

    private static ImmutableArray<KnownTerm>? Sum(ReadOnlySpan<string> words, out string problem)
    {
        if (words.Length % 2 == 0)
        {
            problem = "a side of a condition is a term, or terms joined by '+', '-' or '&' with spaces around them";
            return null;
        }

        ImmutableArray<KnownTerm>.Builder terms = ImmutableArray.CreateBuilder<KnownTerm>();
        for (int i = 0; i < words.Length; i += 2)
        {
            string sign = i == 0 ? "+" : words[i - 1];
            if (sign is not ("+" or "-" or "&"))
            {
                problem = $"'{sign}' is no operator; there are '+', '-' and '&'";
                return null;
            }

            if (KnownTerm.Parse(sign[0], words[i]) is not KnownTerm term)
            {
                problem = $"'{words[i]}' is no term; a term is a number (decimal or 0x...), 'length', 'address', 'rcx', 'raised.error', 'memory', or 'this.' or 'other.' and a field such as 'event.rip', or 'start.' and a register or system state such as 'gpr.rax'";
                return null;
            }

            terms.Add(term);
        }

        problem = "";
        return terms.ToImmutable();
    }

    private static ulong? Value(ImmutableArray<KnownTerm> terms, Divergence divergence, Camp side, Camp? other)
    {
        ulong value = 0;
        foreach (KnownTerm term in terms)
        {
            if (term.Value(divergence, side, other) is not ulong next)
            {
                return null;
            }

            value = term.Sign switch
            {
                '+' => unchecked(value + next),
                '-' => unchecked(value - next),
                _ => value & next,
            };
        }

        return value;
    }
}

/// <summary>Where a term of a condition takes its value from.</summary>
public enum TermSource
{
    /// <summary>A constant.</summary>
    Number,

    /// <summary>Length of the diverging instruction in bytes.</summary>
    Length,

    /// <summary>Linear address of the diverging instruction.</summary>
    Address,

    /// <summary>RCX before the diverging instruction.</summary>
    Rcx,

    /// <summary>Error code that the model of the case's ABI raised at the diverging instruction.</summary>
    RaisedError,

    /// <summary>All bits in which final memory differs between the two camps, of all differing words together.</summary>
    Memory,

    /// <summary>A field of the described camp.</summary>
    This,

    /// <summary>A field of the other camp.</summary>
    Other,

    /// <summary>A register of the case, or system state that it states, before it runs.</summary>
    Start,
}

/// <summary>A term of a condition.</summary>
/// <param name="Sign">How it joins what stands left of it: <c>+</c>, <c>-</c> or <c>&amp;</c>.</param>
/// <param name="Source">Where its value comes from.</param>
/// <param name="Number">The constant.</param>
/// <param name="Field">The field; its event index is filled in from the divergence.</param>
public readonly record struct KnownTerm(char Sign, TermSource Source, ulong Number, Field Field)
{
    private static readonly Dictionary<string, TermSource> Words = new(StringComparer.Ordinal)
    {
        ["length"] = TermSource.Length,
        ["address"] = TermSource.Address,
        ["rcx"] = TermSource.Rcx,
        ["raised.error"] = TermSource.RaisedError,
        ["memory"] = TermSource.Memory,
    };

    /// <summary>The value, or null when there is none.</summary>
    public ulong? Value(Divergence divergence, Camp side, Camp? other)
    {
        switch (Source)
        {
            case TermSource.Number:
                return Number;
            case TermSource.Length:
                return (ulong)divergence.Instruction.Length;
            case TermSource.Address:
                return divergence.Instruction.Address;
            case TermSource.Rcx:
                return divergence.Instruction.Rcx;
            case TermSource.RaisedError:
                return divergence.Instruction.Raised?.Error;
            case TermSource.Memory:
                return other is null ? null : MemoryDiff.Bits(divergence.Case, divergence.Outcomes[side.Members[0]], divergence.Outcomes[other.Members[0]]);
            case TermSource.Start:
                return Field.TryRead(Before(divergence.Case), divergence.Case.Abi, out ulong start) ? start : null;
            default:
                Camp? camp = Source == TermSource.This ? side : other;
                Field at = Field.Event == Field.Final ? Field : Field with { Event = divergence.EventIndex };
                return camp is not null && at.TryRead(divergence.Outcomes[camp.Members[0]], divergence.Case.Abi, out ulong value) ? value : null;
        }
    }

    /// <summary>Reads a term; null when it is none.</summary>
    internal static KnownTerm? Parse(char sign, string word)
    {
        if (Words.TryGetValue(word, out TermSource whole))
        {
            return new KnownTerm(sign, whole, 0, default);
        }

        if (char.IsAsciiDigit(word[0]))
        {
            bool hex = word.StartsWith("0x", StringComparison.Ordinal);
            return ulong.TryParse(hex ? word.AsSpan(2) : word, hex ? NumberStyles.AllowHexSpecifier : NumberStyles.None, CultureInfo.InvariantCulture, out ulong number)
                ? new KnownTerm(sign, TermSource.Number, number, default)
                : null;
        }

        string[] parts = word.Split('.', 2);
        if (parts.Length != 2 || !KnownFields.Numbers.TryGetValue(parts[1], out Field field))
        {
            return null;
        }

        TermSource? source = parts[0] switch
        {
            "this" => TermSource.This,
            "other" => TermSource.Other,
            "start" when field.Event == Field.Final && field.Kind is not (FieldKind.End or FieldKind.Events) => TermSource.Start,
            _ => null,
        };
        return source is TermSource known ? new KnownTerm(sign, known, 0, field) : null;
    }

    /// <summary>What the case says of the state in which it begins, in the form of an outcome.</summary>
    private static Outcome Before(TestCase testCase) => new() { End = EndKind.ReachedEnd, Registers = testCase.Registers, System = testCase.System };
}
