using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Harness;

/// <summary>Changes a register at the start: by itself, or to what it is in another case.</summary>
internal sealed class RegisterMutation : IMutation
{
    /// <inheritdoc/>
    public int Weight => 14;

    /// <inheritdoc/>
    public TestCase? Apply(TestCase testCase, TestCase donor, ref CounterRandom random, MutationContext context)
    {
        RegisterState now = testCase.Registers;
        Register register = random.Percent(70) ? (Register)random.Below(GprFile.Count) : (Register)((int)Register.Rflags + random.Below(Register.Pkru - Register.Rflags + 1));
        ulong value = register switch
        {
            <= Register.R15 when random.Percent(40) => donor.Registers[register],
            <= Register.R15 => Values.Next(now[register], testCase, ref random),
            Register.Rflags when random.Percent(70) => now.Rflags ^ random.Pick<ulong>(
                [RflagsBits.CF, RflagsBits.PF, RflagsBits.AF, RflagsBits.ZF, RflagsBits.SF, RflagsBits.OF, RflagsBits.TF, RflagsBits.TF, RflagsBits.DF, RflagsBits.NT, RflagsBits.RF, RflagsBits.AC, RflagsBits.ID, RflagsBits.IF]),
            Register.Pkru when donor.Registers.Pkru is null || now.Pkru is null => 0,
            _ => donor.Registers[register],
        };
        if (value == now[register] || (register == Register.Cs && donor.Mode != testCase.Mode))
        {
            return null;
        }

        return testCase with { Registers = now.With(register, testCase.Mode == CpuMode.Compatibility32 && register <= Register.R15 && testCase.Abi == Abi.X86 ? (uint)value : value) };
    }
}
