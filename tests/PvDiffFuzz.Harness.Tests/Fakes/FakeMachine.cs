using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;
using Register = PvDiffFuzz.Core.Register;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>An interpreter of a handful of instructions, with a place to plant a bug.</summary>
/// <param name="bug">Called after each instruction with its mnemonic; may spoil the state.</param>
internal sealed class FakeMachine(Action<Mnemonic, FakeMachine.State>? bug = null) : ITracer
{
    /// <summary>Every instruction that the machine knows, one encoding each.</summary>
    public static readonly string[] Repertoire = ["90", "48ffc0", "48ffc3", "4801d8", "4811d8", "4801c3", "f8", "f9", "49ffc4", "48c7c105000000"];

    public Outcome Run(TestCase testCase) => Execute(testCase, []);

    public ImmutableArray<TracedInstruction> Trace(TestCase testCase, int maximum)
    {
        List<TracedInstruction> trace = [];
        Execute(testCase, trace);
        return [.. trace.Take(maximum)];
    }

    private Outcome Execute(TestCase testCase, List<TracedInstruction> trace)
    {
        State state = new() { Registers = testCase.Registers };
        CodeBlock code = testCase.Code;
        for (int executed = 0; executed < testCase.Limits.Instructions; executed++)
        {
            ulong rip = state.Registers.Rip;
            if (rip < code.Address || rip >= code.End)
            {
                return End(state, 14, 0x14, rip, rip == code.End ? EndKind.ReachedEnd : EndKind.Event);
            }

            ReadOnlySpan<byte> bytes = code.Bytes.AsSpan()[(int)(rip - code.Address)..];
            Instruction instruction = CodeEdit.DecodeOne(bytes, rip, testCase.Mode, CpuVendor.Intel);

            // There is no stack: its IRETD finds the flags in RAX.
            uint? flags = instruction.Code == Code.Iretd ? (uint)state.Registers.Gpr[0] : null;
            trace.Add(new TracedInstruction(rip, [.. bytes[..instruction.Length].ToArray()], testCase.Mode, state.Registers.Gpr[1]) { FlagsImage = flags });
            if (!Step(state, instruction))
            {
                trace[^1] = trace[^1] with { Raised = new RaisedException(state.Vector, state.Error) };
                bug?.Invoke(instruction.Mnemonic, state);
                return End(state, state.Vector, state.Error, null, EndKind.Event);
            }

            state.Registers = state.Registers with { Rip = instruction.Mnemonic == Mnemonic.Jmp ? instruction.NearBranchTarget : instruction.NextIP };
            bug?.Invoke(instruction.Mnemonic, state);
            if (instruction.Mnemonic == Mnemonic.Int1)
            {
                trace[^1] = trace[^1] with { Raised = new RaisedException(1, null) };
                return End(state, 1, null, null, EndKind.Event);
            }
        }

        return Outcome.BudgetSpent("instructions");
    }

    private static bool Step(State state, in Instruction instruction)
    {
        RegisterState r = state.Registers;
        switch (instruction.Mnemonic)
        {
            case not (Mnemonic.Nop or Mnemonic.Int1 or Mnemonic.Jmp) when IsStrange(instruction, 0) || IsStrange(instruction, 1):
                state.Vector = 6;
                return false;
            // Shifts and rotations move nothing here.
            case Mnemonic.Nop or Mnemonic.Int1 or Mnemonic.Jmp or Mnemonic.Shl or Mnemonic.Shld or Mnemonic.Shr or Mnemonic.Rcl or Mnemonic.Rcr:
                break;
            case Mnemonic.Clc:
                state.Registers = r with { Rflags = r.Rflags & ~1UL };
                break;
            case Mnemonic.Stc:
                state.Registers = r with { Rflags = r.Rflags | 1 };
                break;
            case Mnemonic.Inc when instruction.Op0Kind == OpKind.Register:
                state.Registers = r.With(Gpr(instruction.Op0Register), r[Gpr(instruction.Op0Register)] + 1);
                break;
            case Mnemonic.Mov when instruction.Op0Kind == OpKind.Register && instruction.Op1Kind != OpKind.Memory:
                ulong source = instruction.Op1Kind == OpKind.Register ? r[Gpr(instruction.Op1Register)] : instruction.GetImmediate(1);
                state.Registers = r.With(Gpr(instruction.Op0Register), source);
                break;
            case Mnemonic.And when instruction.Op0Kind == OpKind.Register && instruction.Op1Kind == OpKind.Register:
                state.Registers = r.With(Gpr(instruction.Op0Register), r[Gpr(instruction.Op0Register)] & r[Gpr(instruction.Op1Register)]);
                break;
            case Mnemonic.Lea:
                state.Registers = r.With(Gpr(instruction.Op0Register), instruction.IsIPRelativeMemoryOperand ? instruction.IPRelativeMemoryAddress : 0);
                break;
            case Mnemonic.Add or Mnemonic.Adc when instruction.Op0Kind == OpKind.Register && instruction.Op1Kind == OpKind.Register:
                UInt128 sum = (UInt128)r[Gpr(instruction.Op0Register)] + r[Gpr(instruction.Op1Register)] + (instruction.Mnemonic == Mnemonic.Adc ? r.Rflags & 1 : 0);
                state.Registers = r.With(Gpr(instruction.Op0Register), (ulong)sum) with { Rflags = (r.Rflags & ~1UL) | (ulong)(sum >> 64) };
                break;
            default:
                state.Vector = 6;
                return false;
        }

        return true;
    }

    /// <summary>True when an operand is a register of another kind than the machine has.</summary>
    private static bool IsStrange(in Instruction instruction, int operand) =>
        operand < instruction.OpCount && instruction.GetOpKind(operand) == OpKind.Register && !instruction.GetOpRegister(operand).IsGPR();

    private static Register Gpr(Iced.Intel.Register register) => (Register)(register.GetFullRegister() - Iced.Intel.Register.RAX);

    private static Outcome End(State state, byte vector, uint? error, ulong? cr2, EndKind end) => new()
    {
        End = end,
        Events = [new Event(Event.KindOf(vector), vector, error, cr2, EntryPoint.Idt, state.Registers)],
        Registers = state.Registers,
    };

    internal sealed class State
    {
        public required RegisterState Registers { get; set; }

        public byte Vector { get; set; }

        public uint? Error { get; set; }

        /// <summary>Sets RFLAGS bits.</summary>
        public void Set(ulong bits) => Registers = Registers with { Rflags = Registers.Rflags | bits };

        /// <summary>Flips RFLAGS bits.</summary>
        public void Flip(ulong bits) => Registers = Registers with { Rflags = Registers.Rflags ^ bits };
    }
}
