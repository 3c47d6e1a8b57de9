using Mono.Cecil;
using Mono.Cecil.Cil;

namespace PvDiffFuzz.Instrument;

/// <summary>Puts a probe at the beginning of every method that belongs to a rule: it adds one to the rule's counter in an array that the assembly gets for that purpose.</summary>
internal sealed class RuleProbes
{
    /// <summary>Name of the type that holds the counters of an instrumented assembly.</summary>
    public const string CountersType = "<RuleCounters>";

    /// <summary>Name of its field, an array of <see cref="int"/>: one counter a rule.</summary>
    public const string CountersField = "Counts";

    private const string SpecAttribute = "PvDiffFuzz.Core.SpecAttribute";

    private readonly List<ProbedRule> _rules = [];
    private readonly Dictionary<ProbedRule, int> _indices = [];
    private readonly FieldDefinition _counters;

    /// <summary>Adds the counters to a module.</summary>
    public RuleProbes(ModuleDefinition module)
    {
        const TypeAttributes holder = TypeAttributes.Public | TypeAttributes.Abstract | TypeAttributes.Sealed | TypeAttributes.BeforeFieldInit;
        TypeDefinition type = new("", CountersType, holder, module.TypeSystem.Object);
        _counters = new FieldDefinition(CountersField, FieldAttributes.Public | FieldAttributes.Static, new ArrayType(module.TypeSystem.Int32));
        type.Fields.Add(_counters);
        module.Types.Add(type);
    }

    /// <summary>The rules in the order of their counters.</summary>
    public IReadOnlyList<ProbedRule> Rules => _rules;

    /// <summary>Puts the probes of a type's rules into it.</summary>
    public void Visit(TypeDefinition type)
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
            index = _rules.Count;
            _rules.Add(rule);
            _indices.Add(rule, index);
        }

        if (!method.HasBody)
        {
            return;
        }

        ILProcessor code = method.Body.GetILProcessor();
        Instruction first = method.Body.Instructions[0];
        foreach (Instruction instruction in (ReadOnlySpan<Instruction>)[
            code.Create(OpCodes.Ldsfld, _counters),
            code.Create(OpCodes.Ldc_I4, index),
            code.Create(OpCodes.Ldelema, method.Module.TypeSystem.Int32),
            code.Create(OpCodes.Dup),
            code.Create(OpCodes.Ldind_I4),
            code.Create(OpCodes.Ldc_I4_1),
            code.Create(OpCodes.Add),
            code.Create(OpCodes.Stind_I4)])
        {
            code.InsertBefore(first, instruction);
        }
    }
}
