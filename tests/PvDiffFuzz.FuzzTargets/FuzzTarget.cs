using PvDiffFuzz.Core;
using PvDiffFuzz.FuzzTargets.Targets;

namespace PvDiffFuzz.FuzzTargets;

/// <summary>Something that any bytes may be given to. It throws when, and only when, a promise of ours is broken.</summary>
public abstract class FuzzTarget : IDisposable
{
    /// <summary>All targets by name. A further one is one line here.</summary>
    public static SortedDictionary<string, Func<FuzzTarget>> All { get; } = new(StringComparer.Ordinal)
    {
        ["case-reader"] = () => new CaseReaderTarget(),
        ["comparer"] = () => new ComparerTarget(),
        ["native"] = () => new NativeAgreementTarget(),
        ["order"] = () => new OrderTarget(),
        ["predecoder"] = () => new PredecoderTarget(),
    };

    /// <summary>Makes a target and gives it as a delegate, so that a caller of another load context can use it.</summary>
    /// <param name="name">One of <see cref="All"/>.</param>
    public static Action<byte[]> Bind(string name) => All[name]().Run;

    /// <summary>Takes an input.</summary>
    /// <exception cref="BrokenPromiseException">A promise is broken.</exception>
    public abstract void Run(byte[] input);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(disposing: true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Releases what the target owns.</summary>
    /// <param name="disposing">Always true.</param>
    protected virtual void Dispose(bool disposing)
    {
    }

    /// <summary>The well-formed case that an input is the text of, or null.</summary>
    protected static TestCase? CaseOf(ReadOnlySpan<byte> input)
    {
        try
        {
            return CaseFile.Parse(input, "input", lenient: true).Case;
        }
        catch (CaseFileException)
        {
            return null;
        }
    }
}

/// <summary>One of our promises is broken.</summary>
/// <param name="message">Which, and how.</param>
public sealed class BrokenPromiseException(string message) : Exception(message);
