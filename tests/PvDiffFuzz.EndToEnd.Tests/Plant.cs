using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using Flag = PvDiffFuzz.Core.RflagsBits;
using IcedRegister = Iced.Intel.Register;
using Register = PvDiffFuzz.Core.Register;

namespace PvDiffFuzz.EndToEnd.Tests;

/// <summary>One rule of the processor, broken.</summary>
internal abstract class Plant
{
    /// <summary>All of them.</summary>
    public static ImmutableArray<Plant> All { get; } =
    [
        new AdcLosesCarry(), new SubInvertsOverflow(), new PageFaultGivesThePage(), new IntLosesTheIdtBit(), new DivideErrorLosesRf(), new CmovKeepsTheUpperHalf(), new RepCountsFromZero(),
        new ShlLosesCarry(), new BreakpointSavesItsOwnAddress(), new StackFaultNamesTheSelector(), new SystemCallLosesTheDirection(),
    ];

    /// <summary>Name of the test's row.</summary>
    public string Name => GetType().Name;

    /// <summary>The event at which it shows, as in a signature.</summary>
    public abstract string Event { get; }

    /// <summary>The fields that differ, as in a signature.</summary>
    public abstract string Fields { get; }

    /// <summary>True for instructions whose rule is broken.</summary>
    public abstract bool Concerns(Instruction instruction);

    /// <summary>What a guest sees of an event when the rule is broken.</summary>
    /// <param name="history">What ran before the event.</param>
    /// <param name="right">The event as it should be.</param>
    /// <param name="model">For what the history does not tell; it follows the rule.</param>
    public abstract Event Spoil(History history, Event right, ITarget model);

    private static Event With(Event right, Register register, ulong value) => right with { Registers = right.Registers.With(register, value) };

    private sealed class AdcLosesCarry : Plant
    {
        public override string Event => "end";

        public override string Fields => "event.rflags.CF";

        public override bool Concerns(Instruction instruction) => instruction.Mnemonic == Mnemonic.Adc;

        public override Event Spoil(History history, Event right, ITarget model) =>
            history.LastWriterOf(Flag.CF) is Step step && Concerns(step.Instruction) ? With(right, Register.Rflags, right.Registers.Rflags & ~Flag.CF) : right;
    }

    private sealed class SubInvertsOverflow : Plant
    {
        public override string Event => "end";

        public override string Fields => "event.rflags.OF";

        public override bool Concerns(Instruction instruction) => instruction.Mnemonic == Mnemonic.Sub;

        public override Event Spoil(History history, Event right, ITarget model) =>
            history.LastWriterOf(Flag.OF) is Step step && Concerns(step.Instruction) ? With(right, Register.Rflags, right.Registers.Rflags ^ Flag.OF) : right;
    }

    /// <summary>CR2 names the page in place of the byte, when MOV faults.</summary>
    private sealed class PageFaultGivesThePage : Plant
    {
        public override string Event => "#14";

        public override string Fields => "event.cr2";

        public override bool Concerns(Instruction instruction) => instruction.Mnemonic == Mnemonic.Mov;

        public override Event Spoil(History history, Event right, ITarget model) =>
            right.Vector == 14 && history.Faulted is Step step && Concerns(step.Instruction) ? right with { Cr2 = right.Cr2 & ~0xffful } : right;
    }

    /// <summary>The #GP of INT n through a gate of DPL 0 has the IDT bit (bit 1) in its error code.</summary>
    private sealed class IntLosesTheIdtBit : Plant
    {
        public override string Event => "#13";

        public override string Fields => "event.error";

        public override bool Concerns(Instruction instruction) => instruction.Code == Code.Int_imm8;

        public override Event Spoil(History history, Event right, ITarget model) =>
            right.Vector == 13 && history.Faulted is Step step && Concerns(step.Instruction) ? right with { ErrorCode = right.ErrorCode & ~2u } : right;
    }

    private sealed class DivideErrorLosesRf : Plant
    {
        public override string Event => "#0";

        public override string Fields => "event.rflags.RF";

        public override bool Concerns(Instruction instruction) => instruction.Mnemonic is Mnemonic.Div or Mnemonic.Idiv;

        public override Event Spoil(History history, Event right, ITarget model) =>
            right.Vector == 0 && history.Faulted is Step step && Concerns(step.Instruction) ? With(right, Register.Rflags, right.Registers.Rflags & ~Flag.RF) : right;
    }

    /// <summary>A 32-bit CMOV clears the upper half of its destination even when it does not move.</summary>
    private sealed class CmovKeepsTheUpperHalf : Plant
    {
        private const ulong UpperHalf = 0xffff_ffff_0000_0000;

        public override string Event => "end";

        public override string Fields => "gpr";

        public override bool Concerns(Instruction instruction) =>
            instruction.Mnemonic is >= Mnemonic.Cmova and <= Mnemonic.Cmovs && instruction.Op0Kind == OpKind.Register && instruction.Op0Register.IsGPR32();

        public override Event Spoil(History history, Event right, ITarget model)
        {
            if (history.Completed.LastOrDefault(step => Concerns(step.Instruction)) is not { Instruction.Length: > 0 } step
                || history.LastWriterOf(step.Instruction.Op0Register.GetFullRegister())?.Traced.Address != step.Traced.Address
                || !history.IsStraightTo(step))
            {
                return right;
            }

            Register destination = Register.Rax + step.Instruction.Op0Register.GetNumber();
            RegisterState? before = StateBefore(history.Case, step.Traced.Address, model);
            return before is null || Holds(step.Instruction.ConditionCode, before.Rflags)
                ? right
                : With(right, destination, (uint)right.Registers[destination] | (before[destination] & UpperHalf));
        }

        /// <summary>Registers when execution reaches an instruction for the first time: those at the end when NOPs stand from there on.</summary>
        private static RegisterState? StateBefore(TestCase testCase, ulong address, ITarget model)
        {
            ulong[] starts = new ulong[testCase.Code.Lengths.Length];
            ulong at = testCase.Code.Address;
            for (int i = 0; i < starts.Length; at += testCase.Code.Lengths[i++])
            {
                starts[i] = at;
            }

            Outcome outcome = model.Run(CodeEdit.WithNops(testCase, i => starts[i] >= address));
            return outcome.End == EndKind.ReachedEnd ? outcome.Registers : null;
        }

        private static bool Holds(ConditionCode condition, ulong rflags)
        {
            bool carry = (rflags & Flag.CF) != 0;
            bool parity = (rflags & Flag.PF) != 0;
            bool zero = (rflags & Flag.ZF) != 0;
            bool sign = (rflags & Flag.SF) != 0;
            bool overflow = (rflags & Flag.OF) != 0;
            return condition switch
            {
                ConditionCode.o => overflow,
                ConditionCode.no => !overflow,
                ConditionCode.b => carry,
                ConditionCode.ae => !carry,
                ConditionCode.e => zero,
                ConditionCode.ne => !zero,
                ConditionCode.be => carry || zero,
                ConditionCode.a => !carry && !zero,
                ConditionCode.s => sign,
                ConditionCode.ns => !sign,
                ConditionCode.p => parity,
                ConditionCode.np => !parity,
                ConditionCode.l => sign != overflow,
                ConditionCode.ge => sign == overflow,
                ConditionCode.le => zero || sign != overflow,
                ConditionCode.g => !zero && sign == overflow,
                _ => throw new ArgumentOutOfRangeException(nameof(condition), condition, "CMOV has a condition"),
            };
        }
    }

    /// <summary>A repeated string instruction with RCX = 0 counts down before it looks.</summary>
    private sealed class RepCountsFromZero : Plant
    {
        public override string Event => "end";

        public override string Fields => "gpr";

        public override bool Concerns(Instruction instruction) =>
            instruction.IsStringInstruction
            && (instruction.HasRepPrefix || instruction.HasRepnePrefix)
            && (Addresses64(instruction.Op0Kind) || Addresses64(instruction.Op1Kind));

        public override Event Spoil(History history, Event right, ITarget model)
        {
            bool counted = history.LastWriterOf(IcedRegister.RCX) is Step step
                && Concerns(step.Instruction)
                && step.Traced.Rcx == 0
                && history.Completed.Count(s => s.Traced.Address == step.Traced.Address) == 1;
            return counted ? With(right, Register.Rcx, ulong.MaxValue) : right;
        }

        private static bool Addresses64(OpKind kind) => kind is OpKind.MemoryESRDI or OpKind.MemorySegRSI;
    }

    private sealed class ShlLosesCarry : Plant
    {
        public override string Event => "end";

        public override string Fields => "event.rflags.CF";

        public override bool Concerns(Instruction instruction) => instruction.Mnemonic == Mnemonic.Shl;

        public override Event Spoil(History history, Event right, ITarget model) =>
            history.LastWriterOf(Flag.CF) is Step step && Concerns(step.Instruction) ? With(right, Register.Rflags, right.Registers.Rflags & ~Flag.CF) : right;
    }

    /// <summary>The frame of INT3 has the RIP of a fault.</summary>
    private sealed class BreakpointSavesItsOwnAddress : Plant
    {
        public override string Event => "#3";

        public override string Fields => "event.rip";

        public override bool Concerns(Instruction instruction) => instruction.Mnemonic == Mnemonic.Int3;

        public override Event Spoil(History history, Event right, ITarget model) =>
            right.Vector == 3 && history.Completed is [.., Step step] && Concerns(step.Instruction) ? With(right, Register.Rip, step.Traced.Address) : right;
    }

    /// <summary>The #SS of a PUSH to a non-canonical address has a selector in its error code.</summary>
    private sealed class StackFaultNamesTheSelector : Plant
    {
        public override string Event => "#12";

        public override string Fields => "event.error";

        public override bool Concerns(Instruction instruction) => instruction.Mnemonic == Mnemonic.Push;

        public override Event Spoil(History history, Event right, ITarget model) =>
            right.Vector == 12 && history.Faulted is Step step && Concerns(step.Instruction) ? right with { ErrorCode = Selectors.UserData & ~3u } : right;
    }

    /// <summary>R11 does not have DF after SYSCALL.</summary>
    private sealed class SystemCallLosesTheDirection : Plant
    {
        public override string Event => "syscall";

        public override string Fields => "gpr";

        public override bool Concerns(Instruction instruction) => instruction.Code == Code.Syscall;

        public override Event Spoil(History history, Event right, ITarget model) =>
            right.Kind == EventKind.SystemCall ? With(right, Register.R11, right.Registers.Gpr[11] & ~Flag.DF) : right;
    }
}
