using Mono.Cecil;
using Mono.Cecil.Cil;

namespace PvDiffFuzz.Instrument;

/// <summary>Puts a probe with <see cref="EdgeTrace"/>'s contract into every block of every method: at its entry, where branches go, behind conditional ones, and where handlers begin.</summary>
/// <remarks>
/// Left out are methods of one block that nobody points to, since they run when the block that calls them does; what carries <see cref="System.Diagnostics.CodeAnalysis.ExcludeFromCodeCoverageAttribute"/>, because what it does depends on what ran before; and initialisation, which runs once in a process.
/// Ids follow the order of the assembly, so that an equal assembly gets equal probes.
/// </remarks>
internal sealed class EdgeProbes
{
    private const string ExcludeAttribute = "System.Diagnostics.CodeAnalysis.ExcludeFromCodeCoverageAttribute";

    /// <summary>Odd, so that successive ids spread over the whole map before one comes again.</summary>
    private const int Stride = 0x9e37;

    private readonly HashSet<MethodDefinition> _pointedTo;
    private readonly FieldReference _sharedMem;
    private readonly FieldReference _prevLocation;
    private int _next;

    /// <summary>Prepares probes for a module.</summary>
    /// <param name="module">The module.</param>
    public EdgeProbes(ModuleDefinition module)
    {
        _sharedMem = module.ImportReference(typeof(EdgeTrace).GetField(nameof(EdgeTrace.SharedMem)));
        _prevLocation = module.ImportReference(typeof(EdgeTrace).GetField(nameof(EdgeTrace.PrevLocation)));

        _pointedTo =
        [
            .. module.GetTypes().SelectMany(type => type.Methods).Where(method => method.HasBody).SelectMany(method => method.Body.Instructions)
                .Where(instruction => instruction.OpCode == OpCodes.Ldftn).Select(instruction => ((MethodReference)instruction.Operand).GetElementMethod())
                .Where(method => method.DeclaringType.GetElementType() is TypeDefinition).Select(method => method.Resolve()),
        ];

        // Assemblies that run together begin at different places.
        _next = Start(module.Assembly.Name.Name);
    }

    /// <summary>Number of probes so far.</summary>
    public int Count { get; private set; }

    /// <summary>Puts probes into the methods of a type.</summary>
    public void Visit(TypeDefinition type)
    {
        if (IsExcluded(type))
        {
            return;
        }

        foreach (MethodDefinition method in type.Methods)
        {
            if (method.HasBody && !method.IsConstructor && !HasExclusion(method))
            {
                Probe(method.Body);
            }
        }
    }

    /// <summary>FNV-1a of the name, as far as the map goes.</summary>
    private static int Start(string name) => (int)(name.Aggregate(2166136261u, (hash, c) => (hash ^ c) * 16777619u) % EdgeTrace.MapSize);

    private static bool IsExcluded(TypeDefinition type) => HasExclusion(type) || (type.DeclaringType is TypeDefinition outer && IsExcluded(outer));

    private static bool HasExclusion(ICustomAttributeProvider member) => member.CustomAttributes.Any(attribute => attribute.AttributeType.FullName == ExcludeAttribute);

    private void Probe(MethodBody body)
    {
        Instruction[] blocks = Blocks(body);
        if (blocks.Length == 1 && !_pointedTo.Contains(body.Method))
        {
            // It runs when the block of its caller does.
            return;
        }

        ILProcessor code = body.GetILProcessor();
        Dictionary<Instruction, Instruction> probes = [];
        foreach (Instruction block in blocks)
        {
            probes.Add(block, InsertProbe(code, block));
        }

        // Branches and handlers that meant the block now mean its probe.
        foreach (Instruction instruction in body.Instructions)
        {
            instruction.Operand = instruction.Operand switch
            {
                Instruction target => probes.GetValueOrDefault(target, target),
                Instruction[] targets => Array.ConvertAll(targets, target => probes.GetValueOrDefault(target, target)),
                object other => other,
                null => null,
            };
        }

        foreach (ExceptionHandler handler in body.ExceptionHandlers)
        {
            handler.TryStart = Moved(handler.TryStart);
            handler.TryEnd = Moved(handler.TryEnd);
            handler.HandlerStart = Moved(handler.HandlerStart);
            handler.HandlerEnd = Moved(handler.HandlerEnd);
            handler.FilterStart = Moved(handler.FilterStart);
        }

        Instruction? Moved(Instruction? at) => at is null ? null : probes.GetValueOrDefault(at, at);
    }

    /// <summary>The first instructions of all blocks, in the order of the method.</summary>
    private static Instruction[] Blocks(MethodBody body)
    {
        HashSet<Instruction> starts = [body.Instructions[0]];
        foreach (Instruction instruction in body.Instructions)
        {
            switch (instruction.Operand)
            {
                case Instruction target:
                    starts.Add(target);
                    break;
                case Instruction[] targets:
                    starts.UnionWith(targets);
                    break;
            }

            if (instruction.OpCode.FlowControl == FlowControl.Cond_Branch)
            {
                starts.Add(instruction.Next);
            }
        }

        starts.UnionWith(body.ExceptionHandlers.Select(handler => handler.FilterStart ?? handler.HandlerStart));
        return [.. body.Instructions.Where(starts.Contains)];
    }

    private Instruction InsertProbe(ILProcessor code, Instruction block)
    {
        int id = _next;
        _next = (_next + Stride) % EdgeTrace.MapSize;
        Count++;
        Instruction first = code.Create(OpCodes.Ldsfld, _sharedMem);
        foreach (Instruction instruction in (ReadOnlySpan<Instruction>)[
            first,
            code.Create(OpCodes.Ldc_I4, id),
            code.Create(OpCodes.Ldsfld, _prevLocation),
            code.Create(OpCodes.Xor),
            code.Create(OpCodes.Add),
            code.Create(OpCodes.Dup),
            code.Create(OpCodes.Ldind_U1),
            code.Create(OpCodes.Ldc_I4_1),
            code.Create(OpCodes.Add),
            code.Create(OpCodes.Conv_U1),
            code.Create(OpCodes.Stind_I1),
            code.Create(OpCodes.Ldc_I4, id >> 1),
            code.Create(OpCodes.Stsfld, _prevLocation)])
        {
            code.InsertBefore(block, instruction);
        }

        return first;
    }
}
