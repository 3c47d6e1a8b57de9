using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Fewer calls to the hypervisor in responses, and plainer ones.</summary>
public sealed class DropHypercalls : IReduction
{
    /// <inheritdoc/>
    public string Name => "drop-hypercalls";

    /// <inheritdoc/>
    public int Budget => 200;

    /// <inheritdoc/>
    public IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context)
    {
        ImmutableArray<Response> responses = testCase.Responses;
        if (responses.All(response => response.Hypercalls.IsEmpty))
        {
            yield break;
        }

        yield return testCase with { Responses = [.. responses.Select(response => response with { Hypercalls = [] })] };
        for (int i = 0; i < responses.Length; i++)
        {
            ImmutableArray<Hypercall> calls = responses[i].Hypercalls;
            foreach (ImmutableArray<Hypercall> fewer in Reductions.Chunks(calls.Length).Select(c => calls.RemoveRange(c.Start, c.Length)).Concat(Plainer(calls)))
            {
                yield return testCase with { Responses = responses.SetItem(i, responses[i] with { Hypercalls = fewer }) };
            }
        }
    }

    private static IEnumerable<ImmutableArray<Hypercall>> Plainer(ImmutableArray<Hypercall> calls)
    {
        for (int call = 0; call < calls.Length; call++)
        {
            ImmutableArray<ulong> arguments = calls[call].Arguments;
            for (int i = 0; i < arguments.Length; i++)
            {
                foreach (ulong value in SimplifyRegisters.Simpler(arguments[i]).Prepend(0UL).Where(v => v < arguments[i]))
                {
                    yield return calls.SetItem(call, calls[call] with { Arguments = arguments.SetItem(i, value) });
                }
            }
        }
    }
}

/// <summary>Nothing from outside, neither at the start nor at a return.</summary>
public sealed class DropInjections : IReduction
{
    /// <inheritdoc/>
    public string Name => "drop-injections";

    /// <inheritdoc/>
    public int Budget => 64;

    /// <inheritdoc/>
    public IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context)
    {
        ImmutableArray<Response> responses = testCase.Responses;
        if (testCase.Inject is not null)
        {
            yield return testCase with { Inject = null, Responses = [.. responses.Select(response => response with { Inject = null })] };
            yield return testCase with { Inject = null };
        }

        for (int i = responses.Length - 1; i >= 0; i--)
        {
            if (responses[i].Inject is not null)
            {
                yield return testCase with { Responses = responses.SetItem(i, responses[i] with { Inject = null }) };
            }
        }
    }
}

/// <summary>The system side to what generated cases take where nothing is to be shown: constants of <see cref="PvmMap"/>, and nothing else stated.</summary>
public sealed class DefaultSystem : IReduction
{
    /// <inheritdoc/>
    public string Name => "default-system";

    /// <inheritdoc/>
    public int Budget => 400;

    /// <inheritdoc/>
    public IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context)
    {
        if (testCase.Pvm is not PvmState pvm)
        {
            return [];
        }

        IEnumerable<TestCase> surroundings =
        [
            testCase with { Pvm = pvm with { Path = HostPath.Cold } },
            testCase with { Pvm = pvm with { PvcsAddress = PvmMap.PvcsAddress } },
            WithoutInterrupts(testCase),
        ];
        return Systems(testCase.System).Select(system => testCase with { System = system }).Concat(surroundings).Where(proposal => !proposal.Equals(testCase));
    }

    /// <summary>What a register is when it does not matter; null when it is then not stated, so 0.</summary>
    internal static ulong? DefaultOf(SystemRegister register) => register switch
    {
        SystemRegister.Cr3 => PvmMap.SupervisorRoot,
        SystemRegister.Star => PvmMap.Star,
        SystemRegister.Lstar => PvmMap.Lstar,
        SystemRegister.PvmVcpuStruct => PvmMap.VcpuStruct,
        SystemRegister.PvmEventEntry => PvmMap.EventEntry,
        SystemRegister.PvmRetuRip => PvmMap.RetuRip,
        SystemRegister.PvmRetsRip => PvmMap.RetsRip,
        SystemRegister.PvmSwitchCr3 => PvmMap.UserRoot,
        _ => null,
    };

    private static IEnumerable<SystemState> Systems(SystemState system)
    {
        ImmutableArray<KeyValuePair<SystemRegister, ulong>> odd = [.. system.Values.Where(v => DefaultOf(v.Key) != v.Value)];
        foreach ((int start, int length) in Reductions.Chunks(odd.Length))
        {
            SystemState plainer = system;
            foreach ((SystemRegister register, _) in odd.AsSpan(start, length))
            {
                plainer = DefaultOf(register) is ulong value ? plainer.With(register, value) : plainer.Without(register);
            }

            yield return plainer;
        }

        foreach ((SystemRegister register, ulong value) in odd.Where(v => DefaultOf(v.Key) is null))
        {
            foreach (ulong simpler in SimplifyRegisters.Simpler(value))
            {
                yield return system.With(register, simpler);
            }
        }
    }

    /// <summary>The interrupt flag stands in two places, which go together.</summary>
    private static TestCase WithoutInterrupts(TestCase testCase)
    {
        ulong flags = testCase.System[SystemRegister.PvcsEventFlags] & ~RflagsBits.IF;
        return testCase.Start == GuestMode.User || (testCase.Registers.Rflags & RflagsBits.IF) == 0 ? testCase : testCase with
        {
            Registers = testCase.Registers with { Rflags = testCase.Registers.Rflags & ~RflagsBits.IF },
            System = flags == 0 ? testCase.System.Without(SystemRegister.PvcsEventFlags) : testCase.System.With(SystemRegister.PvcsEventFlags, flags),
        };
    }
}
