using System.Collections.Immutable;
using System.Diagnostics.CodeAnalysis;
using System.Reflection;
using System.Runtime.Loader;

namespace PvDiffFuzz.Instrument;

/// <summary>A second copy of a model's assembly, and of those of models that it stands on, with a probe in every rule. The copy that campaigns run stays as it was compiled.</summary>
/// <remarks>Everything else that they reference is shared with the rest of the process, so that contracts such as <c>ITarget</c> are the same types.</remarks>
public sealed class InstrumentedModel
{
    private readonly Assembly _assembly;

    private InstrumentedModel(Assembly assembly, ImmutableArray<ProbedRule> rules) => (_assembly, Rules) = (assembly, rules);

    /// <summary>Every rule, in the order of the counters of <see cref="RuleHits"/>.</summary>
    public ImmutableArray<ProbedRule> Rules { get; }

    /// <summary>True when the assembly of a type is a file of its own, which <see cref="Load"/> needs. It is none in a program that was published as a single file.</summary>
    /// <param name="ofAssembly">Any type of the assembly.</param>
    [UnconditionalSuppressMessage("SingleFile", "IL3000", Justification = "The empty location in a single file is what is asked for.")]
    public static bool CanLoad(Type ofAssembly)
    {
        ArgumentNullException.ThrowIfNull(ofAssembly);
        return ofAssembly.Assembly.Location.Length > 0;
    }

    /// <summary>Instruments the assemblies of some types and loads the results beside them.</summary>
    /// <param name="ofAssembly">Any type of the model's assembly.</param>
    /// <param name="below">Types of assemblies that it references and that are to have probes as well. Their rules come after its own.</param>
    /// <exception cref="IOException">An assembly is no file, or it cannot be read.</exception>
    public static InstrumentedModel Load(Type ofAssembly, params ReadOnlySpan<Type> below)
    {
        ArgumentNullException.ThrowIfNull(ofAssembly);
        Context apart = new($"instrumented {ofAssembly.Assembly.GetName().Name}");
        ImmutableArray<ProbedRule>.Builder rules = ImmutableArray.CreateBuilder<ProbedRule>();
        Assembly copy = Rewrite(ofAssembly.Assembly, apart, rules);
        foreach (Type type in below)
        {
            Rewrite(type.Assembly, apart, rules);
        }

        return new InstrumentedModel(copy, rules.ToImmutable());
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

    private static Assembly Rewrite(Assembly original, Context into, ImmutableArray<ProbedRule>.Builder rules)
    {
        if (original.Location.Length == 0)
        {
            throw new IOException($"{original.GetName().Name} is not in a file of its own, so that no probes can be put into it; publish without bundling into a single file");
        }

        using MemoryStream rewritten = new();
        rules.AddRange(RuleProbes.Rewrite(original.Location, rewritten, rules.Count));
        rewritten.Position = 0;
        return into.Add(original.GetName().Name!, rewritten);
    }

    /// <summary>Finds the copies first, and leaves everything else to the rest of the process.</summary>
    private sealed class Context(string name) : AssemblyLoadContext(name)
    {
        private readonly Dictionary<string, Assembly> _copies = new(StringComparer.Ordinal);

        /// <summary>Loads a copy.</summary>
        public Assembly Add(string name, Stream image) => _copies[name] = LoadFromStream(image);

        /// <inheritdoc/>
        protected override Assembly? Load(AssemblyName assemblyName) => _copies.GetValueOrDefault(assemblyName.Name ?? "");
    }
}
