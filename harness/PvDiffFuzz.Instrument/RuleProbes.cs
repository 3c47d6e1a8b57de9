using System.Collections.Immutable;
using Mono.Cecil;
using Mono.Cecil.Cil;

namespace PvDiffFuzz.Instrument;

/// <summary>A rule as its attribute states it.</summary>
/// <param name="Document">Document name.</param>
/// <param name="Section">Section in it.</param>
/// <param name="Implementation">The type or member that implements it, such as <c>Arithmetic.Adc</c>.</param>
public sealed record ProbedRule(string Document, string Section, string Implementation);

/// <summary>Puts a probe at the beginning of every method that belongs to a rule.</summary>
internal sealed class RuleProbes
{
    private const string SpecAttribute = "PvDiffFuzz.Core.SpecAttribute";

    private readonly List<ProbedRule> _rules = [];
    private readonly Dictionary<ProbedRule, int> _indices = [];
    private readonly MethodReference _hit;
    private readonly int _first;

    private RuleProbes(ModuleDefinition module, int first)
    {
        _hit = module.ImportReference(typeof(RuleHits).GetMethod(nameof(RuleHits.Hit), [typeof(int)]));
        _first = first;
    }

    /// <summary>Rewrites an assembly.</summary>
    /// <param name="assembly">Path of the assembly; it stays as it is.</param>
    /// <param name="result">Receives the rewritten one.</param>
    /// <param name="first">Number of the first probe.</param>
    /// <returns>The rules in the order of their probes' numbers.</returns>
    public static ImmutableArray<ProbedRule> Rewrite(string assembly, Stream result, int first)
    {
        using ModuleDefinition module = ModuleDefinition.ReadModule(assembly);
        RuleProbes probes = new(module, first);
        foreach (TypeDefinition type in module.GetTypes())
        {
            probes.Visit(type);
        }

        module.Write(result);
        return [.. probes._rules];
    }

    private void Visit(TypeDefinition type)
    {
        // A rule stated for a type is followed when any of its methods runs.
        foreach (ProbedRule rule in RulesOf(type, NameOf(type, type.DeclaringType)))
        {
            foreach (MethodDefinition method in type.Methods)
            {
                Probe(method, rule);
            }
        }

        foreach (MethodDefinition method in type.Methods)
        {
            foreach (ProbedRule rule in RulesOf(method, NameOf(method, type)))
            {
                Probe(method, rule);
            }
        }
    }

    private static IEnumerable<ProbedRule> RulesOf(ICustomAttributeProvider member, string implementation) =>
        member.CustomAttributes
            .Where(attribute => attribute.AttributeType.FullName == SpecAttribute)
            .Select(attribute => new ProbedRule((string)attribute.ConstructorArguments[0].Value, (string)attribute.ConstructorArguments[1].Value, implementation));

    private static string NameOf(MemberReference member, TypeReference? owner) => owner is null ? member.Name : $"{owner.Name}.{member.Name}";

    private void Probe(MethodDefinition method, ProbedRule rule)
    {
        if (!_indices.TryGetValue(rule, out int index))
        {
            index = _first + _rules.Count;
            _rules.Add(rule);
            _indices.Add(rule, index);
        }

        if (!method.HasBody)
        {
            return;
        }

        ILProcessor code = method.Body.GetILProcessor();
        Instruction first = method.Body.Instructions[0];
        code.InsertBefore(first, code.Create(OpCodes.Ldc_I4, index));
        code.InsertBefore(first, code.Create(OpCodes.Call, _hit));
    }
}
