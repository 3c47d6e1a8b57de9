using System.Collections.Immutable;
using System.Reflection;
using System.Runtime.Loader;

namespace PvDiffFuzz.Instrument;

/// <summary>A second copy of a model's assembly, with a probe in every rule. The copy that campaigns run stays as it was compiled.</summary>
/// <remarks>Everything that the assembly references is shared with the rest of the process, so that contracts such as <c>ITarget</c> are the same types.</remarks>
public sealed class InstrumentedModel
{
    private readonly Assembly _assembly;

    private InstrumentedModel(Assembly assembly, ImmutableArray<ProbedRule> rules) => (_assembly, Rules) = (assembly, rules);

    /// <summary>Every rule, in the order of the counters of <see cref="RuleHits"/>.</summary>
    public ImmutableArray<ProbedRule> Rules { get; }

    /// <summary>True when the assembly of a type is a file of its own, which <see cref="Load"/> needs. It is none in a program that was published as a single file.</summary>
    /// <param name="ofAssembly">Any type of the assembly.</param>
    public static bool CanLoad(Type ofAssembly)
    {
        ArgumentNullException.ThrowIfNull(ofAssembly);
        return ofAssembly.Assembly.Location.Length > 0;
    }

    /// <summary>Instruments the assembly of a type and loads the result beside it.</summary>
    /// <param name="ofAssembly">Any type of the assembly.</param>
    /// <exception cref="IOException">The assembly is no file, or it cannot be read.</exception>
    public static InstrumentedModel Load(Type ofAssembly)
    {
        ArgumentNullException.ThrowIfNull(ofAssembly);
        string path = ofAssembly.Assembly.Location;
        if (path.Length == 0)
        {
            throw new IOException($"{ofAssembly.Assembly.GetName().Name} is not in a file of its own, so that no probes can be put into it; publish without bundling into a single file");
        }

        using MemoryStream rewritten = new();
        ImmutableArray<ProbedRule> rules = RuleProbes.Rewrite(path, rewritten);
        rewritten.Position = 0;
        AssemblyLoadContext apart = new($"instrumented {ofAssembly.Assembly.GetName().Name}");
        return new InstrumentedModel(apart.LoadFromStream(rewritten), rules);
    }

    /// <summary>Makes an instance of the copy's counterpart of a type.</summary>
    /// <typeparam name="T">A contract that both copies share.</typeparam>
    /// <param name="type">The type in the copy that is not instrumented.</param>
    /// <param name="arguments">For its constructor.</param>
    public T Create<T>(Type type, params object?[] arguments)
        where T : class
    {
        ArgumentNullException.ThrowIfNull(type);
        return (T)Activator.CreateInstance(_assembly.GetType(type.FullName!, throwOnError: true)!, arguments)!;
    }
}
