using System.Collections.Immutable;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Runtime.Loader;

namespace PvDiffFuzz.Instrument;

/// <summary>Where copies of assemblies live, with a map and counters of their own. Finds the copies first, and leaves everything else to the rest of the process.</summary>
internal sealed class ProbedContext : AssemblyLoadContext
{
    private readonly Dictionary<string, Assembly> _copies = new(StringComparer.Ordinal);
    private readonly Func<string, string?> _find;

    /// <summary>Makes a context.</summary>
    /// <param name="name">For diagnostics.</param>
    /// <param name="find">Path of a further assembly that is to be a copy; null for one that is shared.</param>
    public ProbedContext(string name, Func<string, string?>? find = null)
        : base(name)
    {
        _find = find ?? (_ => null);
        Edges = GC.AllocateArray<byte>(EdgeTrace.MapSize, pinned: true);

        // This assembly once more, for statics of the copies' own.
        Type trace = Add(typeof(EdgeTrace).Assembly.Location).GetType(typeof(EdgeTrace).FullName!, throwOnError: true)!;
        trace.GetMethod(nameof(EdgeTrace.UseMap))!.Invoke(null, [Marshal.UnsafeAddrOfPinnedArrayElement(Edges, 0)]);
        Restart = trace.GetMethod(nameof(EdgeTrace.Restart))!.CreateDelegate<Action>();
    }

    /// <summary>The map of edges.</summary>
    public byte[] Edges { get; }

    /// <summary>A run begins.</summary>
    public Action Restart { get; }

    /// <summary>Loads a copy, with counters if it is instrumented.</summary>
    public Assembly Add(string path)
    {
        Assembly copy = _copies[Path.GetFileNameWithoutExtension(path)] = LoadFromAssemblyPath(path);
        if (copy.GetManifestResourceStream(ModelRewriter.RulesResource) is Stream list)
        {
            copy.GetType(RuleProbes.CountersType, throwOnError: true)!.GetField(RuleProbes.CountersField)!.SetValue(null, new int[ModelRewriter.ReadRules(list).Length]);
        }

        return copy;
    }

    /// <summary>The rules of an instrumented copy and their counters.</summary>
    public static (ImmutableArray<ProbedRule> Rules, int[] Counts) CountersOf(Assembly copy) =>
        (ModelRewriter.ReadRules(copy.GetManifestResourceStream(ModelRewriter.RulesResource)!),
            (int[])copy.GetType(RuleProbes.CountersType, throwOnError: true)!.GetField(RuleProbes.CountersField)!.GetValue(null)!);

    /// <inheritdoc/>
    protected override Assembly? Load(AssemblyName assemblyName)
    {
        string name = assemblyName.Name ?? "";
        return _copies.TryGetValue(name, out Assembly? copy) ? copy : _find(name) is string path ? Add(path) : null;
    }
}
