using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.Harness;

/// <summary>Arms a debug register on an instruction, on what a register points to, or on initial contents; or disarms all.</summary>
internal sealed class BreakpointMutation : IMutation
{
    private const ulong Fixed = 1UL << 10;

    /// <inheritdoc/>
    public int Weight => 2;

    /// <inheritdoc/>
    public TestCase? Apply(TestCase testCase, TestCase donor, ref CounterRandom random, MutationContext context)
    {
        DebugRegisters? before = testCase.Registers.Debug;
        if (before is not null && random.Percent(25))
        {
            return With(testCase, null);
        }

        bool executes = random.Percent(40);
        ulong length = executes ? 0 : (ulong)random.Below(4);
        ulong address = executes ? Values.Instruction(testCase, ref random)
            : testCase.Contents.Length > 0 && random.Percent(50) ? Inside(testCase.Contents[random.Below(testCase.Contents.Length)], ref random)
            : testCase.Registers.Gpr[random.Below(GprFile.Count)];
        ulong kind = executes ? 0UL : random.Pick<ulong>([1, 3]);
        int number = random.Below(4);
        ulong dr7 = (before?.Dr7 ?? Fixed) & ~(0xfUL << (16 + (4 * number)));
        RegisterState armed = testCase.Registers
            .With(Register.Dr0 + number, executes ? address : address & ~length)
            .With(Register.Dr7, dr7 | (1UL << (2 * number)) | ((kind | (length << 2)) << (16 + (4 * number))));
        return With(testCase, armed.Debug);
    }

    private static ulong Inside(MemoryContents run, ref CounterRandom random) => run.Address + (ulong)random.Below(run.Bytes.Length);

    /// <summary>A PVM case states DR7 on its system side as long as nothing is armed.</summary>
    private static TestCase With(TestCase testCase, DebugRegisters? debug) => testCase with
    {
        Registers = testCase.Registers with { Debug = debug },
        System = debug is null ? testCase.System : testCase.System.Without(SystemRegister.Dr7),
    };
}
