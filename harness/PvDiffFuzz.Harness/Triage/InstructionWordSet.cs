using System.Collections;
using System.Collections.Frozen;
using System.Collections.Immutable;
using System.Runtime.CompilerServices;

namespace PvDiffFuzz.Harness;

/// <summary>Words of a known entry that name instructions, read once: form names with or without what stands behind a plus sign, and what an encoding has. docs/known-format.md is the reference.</summary>
[CollectionBuilder(typeof(InstructionWordSet), nameof(Of))]
public sealed class InstructionWordSet : IReadOnlyCollection<string>
{
    private const char AnyDigit = '?';

    private readonly ImmutableArray<string> _words;
    private readonly FrozenSet<string> _forms;
    private readonly ImmutableArray<string> _patterns;
    private readonly ImmutableArray<Qualified> _qualified;
    private readonly Encodings _encodings;

    private InstructionWordSet(ImmutableArray<string> words)
    {
        _words = words;
        List<string> forms = [];
        ImmutableArray<Qualified>.Builder qualified = ImmutableArray.CreateBuilder<Qualified>();
        foreach (string word in words)
        {
            if (word.Split('+') is [string form, string with])
            {
                bool encoded = KnownReader.EncodingWords.TryGetValue(with, out Encodings encoding);
                byte? vector = null;
                bool raised = !encoded && KnownReader.TryVector(with, out vector);
                qualified.Add(new Qualified(form, encoding, raised, vector));
            }
            else if (KnownReader.EncodingWords.TryGetValue(word, out Encodings alone))
            {
                _encodings |= alone;
            }
            else
            {
                forms.Add(word);
            }
        }

        _forms = forms.Where(form => !form.Contains(AnyDigit)).ToFrozenSet(StringComparer.Ordinal);
        _patterns = [.. forms.Where(form => form.Contains(AnyDigit))];
        _qualified = qualified.ToImmutable();
    }

    /// <summary>No words: any instruction will do, which whoever asks knows.</summary>
    public static InstructionWordSet None { get; } = new([]);

    /// <summary>True when there are no words.</summary>
    public bool IsEmpty => _words.IsEmpty;

    /// <inheritdoc/>
    public int Count => _words.Length;

    /// <summary>Reads words.</summary>
    /// <param name="words">As they stand in a file; what is no word of the format names nothing.</param>
    public static InstructionWordSet Of(ReadOnlySpan<string> words) => words.IsEmpty ? None : new([.. words]);

    /// <summary>True when a word is this form or mnemonic. A question mark stands for any one digit of an encoding without a form.</summary>
    /// <param name="form">A form name, or a mnemonic.</param>
    public bool Has(string form)
    {
        if (_forms.Contains(form))
        {
            return true;
        }

        foreach (string pattern in _patterns)
        {
            if (Fits(pattern, form))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>True when a word names an instruction that ran. What an encoding has stands alone for any form.</summary>
    public bool Names(Executed ran)
    {
        if ((ran.Encoding & _encodings) != 0 || Has(ran.Form))
        {
            return true;
        }

        foreach (Qualified word in _qualified)
        {
            if ((word.Raised ? ran.Raised == word.Vector : word.Encoding != 0 && (ran.Encoding & word.Encoding) == word.Encoding) && Fits(word.Form, ran.Form))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>True when a word names one of some instructions that ran.</summary>
    /// <param name="ran">The instructions; default when nobody knows, and then none is named.</param>
    public bool NamesAny(ImmutableArray<Executed> ran)
    {
        if (ran.IsDefault)
        {
            return false;
        }

        foreach (Executed one in ran)
        {
            if (Names(one))
            {
                return true;
            }
        }

        return false;
    }

    /// <inheritdoc/>
    public IEnumerator<string> GetEnumerator() => ((IEnumerable<string>)_words).GetEnumerator();

    /// <inheritdoc/>
    IEnumerator IEnumerable.GetEnumerator() => GetEnumerator();

    private static bool Fits(string pattern, string form)
    {
        if (pattern.Length != form.Length)
        {
            return false;
        }

        for (int i = 0; i < pattern.Length; i++)
        {
            if (pattern[i] != form[i] && pattern[i] != AnyDigit)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>A form with what stands behind its plus sign: what its encoding has, or what it raised.</summary>
    private readonly record struct Qualified(string Form, Encodings Encoding, bool Raised, byte? Vector);
}
