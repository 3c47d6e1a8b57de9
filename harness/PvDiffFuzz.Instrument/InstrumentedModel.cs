using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Reflection;

namespace PvDiffFuzz.Instrument;

/// <summary>A second copy of a model's assembly, and of those of models that it stands on, with probes that the build has put in. Used by one thread at a time.</summary>
/// <remarks>
/// Everything else that they reference is shared with the rest of the process, so that contracts such as <c>ITarget</c> are the same types. The plain model stays as it was compiled. Each instance is a
/// copy of its own with statics of its own, which is what lets threads count side by side; it is compiled anew and never unloaded, so keep it.
/// </remarks>
public sealed class InstrumentedModel
{
    /// <summary>Folder beside a program in which the build puts instrumented assemblies.</summary>
    public const string Folder = "instrumented";

    private readonly Assembly[] _copies;
    private readonly int[][] _counts;
    private readonly Action _restart;

    private InstrumentedModel(Assembly[] copies, ImmutableArray<ProbedRule> rules, int[][] counts, byte[] edges, Action restart) =>
        (_copies, Rules, _counts, Edges, _restart) = (copies, rules, counts, edges, restart);

    /// <summary>Every rule, in the order of the counters.</summary>
    public ImmutableArray<ProbedRule> Rules { get; }

    /// <summary>The map of <see cref="EdgeTrace"/>: what runs of this copy have counted since somebody cleared it.</summary>
    public byte[] Edges { get; }

    /// <summary>True when there is an instrumented assembly beside the plain one, which <see cref="Load"/> needs. There is none beside a program that was published as a single file.</summary>
    /// <param name="ofAssembly">Any type of the assembly.</param>
    [UnconditionalSuppressMessage("SingleFile", "IL3000", Justification = "The empty location in a single file is what is asked for.")]
    public static bool CanLoad(Type ofAssembly)
    {
        ArgumentNullException.ThrowIfNull(ofAssembly);
        return File.Exists(PathOf(ofAssembly.Assembly));
    }

    /// <summary>Loads the instrumented assemblies of some types beside the plain ones.</summary>
    /// <param name="ofAssembly">Any type of the model's assembly.</param>
    /// <param name="below">Types of assemblies that it references and that are to be instrumented as well. Their rules come after its own.</param>
    /// <exception cref="IOException">There is no instrumented assembly, or it cannot be read.</exception>
    public static InstrumentedModel Load(Type ofAssembly, params ReadOnlySpan<Type> below)
    {
        ArgumentNullException.ThrowIfNull(ofAssembly);
        ProbedContext apart = new($"instrumented {ofAssembly.Assembly.GetName().Name}");
        Assembly[] copies = [apart.Add(PathOf(ofAssembly.Assembly)), .. below.ToArray().Select(type => apart.Add(PathOf(type.Assembly)))];
        (ImmutableArray<ProbedRule> Rules, int[] Counts)[] counters = Array.ConvertAll(copies, ProbedContext.CountersOf);
        return new InstrumentedModel(copies, [.. counters.SelectMany(own => own.Rules)], Array.ConvertAll(counters, own => own.Counts), apart.Edges, apart.Restart);
    }

    /// <summary>Makes an instance of the copy's counterpart of a type.</summary>
    /// <typeparam name="T">A contract that both copies share.</typeparam>
    /// <param name="type">The type in the copy that is not instrumented.</param>
    /// <param name="arguments">For its constructor.</param>
    public T Create<T>(Type type, params object?[] arguments)
        where T : class
    {
        ArgumentNullException.ThrowIfNull(type);
        Assembly copy = Array.Find(_copies, copy => copy.GetName().Name == type.Assembly.GetName().Name) ?? throw new ArgumentException($"{type} is of no assembly that was instrumented", nameof(type));
        return (T)Activator.CreateInstance(copy.GetType(type.FullName!, throwOnError: true)!, arguments)!;
    }

    /// <summary>A run begins: the first edge comes from nowhere, and no rule has been counted. <see cref="Edges"/> stays as it is.</summary>
    public void Restart()
    {
        _restart();
        foreach (int[] own in _counts)
        {
            own.AsSpan().Clear();
        }
    }

    /// <summary>Adds what rules have counted since <see cref="Restart"/>.</summary>
    /// <param name="counts">One counter a rule, in the order of <see cref="Rules"/>.</param>
    public void AddRules(Span<int> counts)
    {
        foreach (int[] own in _counts)
        {
            for (int rule = 0; rule < own.Length; rule++)
            {
                counts[rule] += own[rule];
            }

            counts = counts[own.Length..];
        }
    }

    private static string PathOf(Assembly plain) => Path.Combine(AppContext.BaseDirectory, Folder, plain.GetName().Name + ".dll");
}
