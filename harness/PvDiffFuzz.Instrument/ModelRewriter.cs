using System.Collections.Immutable;
using System.Text;
using Mono.Cecil;
using Mono.Cecil.Cil;
using Mono.Cecil.Rocks;

namespace PvDiffFuzz.Instrument;

/// <summary>Makes an instrumented assembly of a model's: a probe in every block and one in every rule. An equal assembly gives an equal result, byte for byte.</summary>
public static class ModelRewriter
{
    /// <summary>Name of the resource in an instrumented assembly that lists its rules.</summary>
    internal const string RulesResource = "rules";

    private const char Separator = '\t';

    /// <summary>Rewrites an assembly.</summary>
    /// <param name="assembly">Path of the assembly; it stays as it is.</param>
    /// <param name="result">Receives the rewritten one.</param>
    /// <returns>Number of edge probes.</returns>
    /// <exception cref="IOException">The assembly cannot be read.</exception>
    /// <exception cref="BadImageFormatException">The file is no assembly.</exception>
    public static int Rewrite(string assembly, Stream result)
    {
        ArgumentNullException.ThrowIfNull(assembly);
        using DefaultAssemblyResolver beside = new();
        beside.AddSearchDirectory(Path.GetDirectoryName(Path.GetFullPath(assembly)));
        using ModuleDefinition module = ModuleDefinition.ReadModule(assembly, new ReaderParameters { AssemblyResolver = beside });
        TypeDefinition[] types = [.. module.GetTypes()];
        MethodBody[] bodies = [.. types.SelectMany(type => type.Methods).Where(method => method.HasBody).Select(method => method.Body)];
        EdgeProbes edges = new(module);
        RuleProbes rules = new(module);

        // Short branches may have to become long ones.
        Array.ForEach(bodies, body => body.SimplifyMacros());
        Array.ForEach(types, edges.Visit);
        Array.ForEach(types, rules.Visit);
        Array.ForEach(bodies, body => body.OptimizeMacros());
        module.Resources.Add(new EmbeddedResource(RulesResource, ManifestResourceAttributes.Public, Encoding.UTF8.GetBytes(Text(rules.Rules))));
        module.Write(result, new WriterParameters { DeterministicMvid = true });
        return edges.Count;
    }

    /// <summary>Reads the rules of an instrumented assembly.</summary>
    /// <param name="list">Its resource.</param>
    internal static ImmutableArray<ProbedRule> ReadRules(Stream list)
    {
        using StreamReader reader = new(list, Encoding.UTF8);
        ImmutableArray<ProbedRule>.Builder rules = ImmutableArray.CreateBuilder<ProbedRule>();
        while (reader.ReadLine() is string line)
        {
            string[] parts = line.Split(Separator);
            rules.Add(new ProbedRule(parts[0], parts[1], parts[2]));
        }

        return rules.ToImmutable();
    }

    private static string Text(IEnumerable<ProbedRule> rules) =>
        string.Concat(rules.Select(rule => $"{rule.Document}{Separator}{rule.Section}{Separator}{rule.Implementation}\n"));
}
