using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;
using CoreRegister = PvDiffFuzz.Core.Register;
using Flags = PvDiffFuzz.Core.RflagsBits;
using Register = Iced.Intel.Register;

namespace PvDiffFuzz.Isa;

/// <summary>What of a final state the manuals leave undefined after a certain execution.</summary>
public sealed record UndefinedMask
{
    /// <summary>Nothing is undefined.</summary>
    public static UndefinedMask None { get; } = new();

    /// <summary>RFLAGS bits that may have any value.</summary>
    public ulong Rflags { get; init; }

    /// <summary>RFLAGS bits that an event may have saved with any value, when the case has responses. Where its handler is code of the payload, that is memory and nothing else.</summary>
    public ulong Saved { get; init; }

    /// <summary>Bits of the general registers that may have any value.</summary>
    public GprFile Gpr { get; init; }

    /// <summary>Some memory that the case wrote may have any value; <see cref="Parts"/> says how much.</summary>
    public bool Memory { get; init; }

    /// <summary>Something undefined was read, so that nothing after it can be compared.</summary>
    public bool Consumed { get; init; }

    /// <summary>Rows of <see cref="UndefinedTable"/> involved, and when <see cref="Consumed"/> the instruction that read.</summary>
    public ImmutableArray<string> Rows { get; init; } = [];

    /// <summary>Which instruction and row left what undefined. When <see cref="Consumed"/>, only a row that leaves everything undefined.</summary>
    public ImmutableArray<UndefinedPart> Parts { get; init; } = [];

    /// <inheritdoc/>
    public bool Equals(UndefinedMask? other) =>
        ReferenceEquals(this, other)
        || (other is not null && Rflags == other.Rflags && Saved == other.Saved && Gpr == other.Gpr && Memory == other.Memory && Consumed == other.Consumed && Rows.AsSpan().SequenceEqual(other.Rows.AsSpan()));

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Rflags, Memory, Consumed, Rows.Length);
}

/// <summary>Finds what is undefined after a traced execution.</summary>
public static class UndefinedBits
{
    /// <summary>Follows undefined flags and registers through a trace.</summary>
    /// <param name="trace">Executed instructions in order. The frame of an event whose handler is among them reads flags as PUSHF does.</param>
    /// <param name="vendor">Whose manual counts.</param>
    /// <param name="lastCompleted">False when the last traced instruction raised a fault: faults are precise, so it changed nothing.</param>
    /// <param name="resumes">
    /// True when the case has responses. Then instructions in the middle may have faulted and events in the middle are compared too, so nothing is taken as defined again.
    /// </param>
    /// <param name="profile">The processor, which may lack TZCNT or LZCNT, so that their bytes are BSF and BSR with a prefix that means nothing; null for one that has both.</param>
    /// <param name="flagsInR11">True when the case has returns that load R11 with RFLAGS, so that what is undefined there may be undefined in R11 as well.</param>
    /// <param name="framesOnOwnStack">True when events of the case's code store their frames on the stack that it uses, so that it may read RFLAGS, RCX and R11 there.</param>
    public static UndefinedMask After(
        ImmutableArray<TracedInstruction> trace, CpuVendor vendor, bool lastCompleted, bool resumes = false, CpuProfile? profile = null, bool flagsInR11 = false, bool framesOnOwnStack = false)
    {
        Walk walk = new(OptionsOf(vendor, profile), vendor, resumes, flagsInR11);
        for (int i = 0; i < trace.Length && !walk.Consumed; i++)
        {
            bool last = i == trace.Length - 1;
            bool delivered = !last && !resumes && walk.IsDelivery(trace[i], trace[i + 1]);
            walk.Step(trace[i], completed: (!delivered || trace[i].NextFetchRaised) && (lastCompleted || !last));
            if (delivered)
            {
                walk.Save();
            }

            if (trace[i].Raised is not null || trace[i].NextFetchRaised)
            {
                walk.NoteSaved(framesOnOwnStack);
            }
        }

        return walk.Result();
    }

    private static DecoderOptions OptionsOf(CpuVendor vendor, CpuProfile? profile) =>
        (vendor == CpuVendor.Amd ? DecoderOptions.AMD : DecoderOptions.None)
        | (profile?.Has("BMI1") == false ? DecoderOptions.NoMPFX_0FBC : DecoderOptions.None)
        | (profile?.Has("LZCNT") == false ? DecoderOptions.NoMPFX_0FBD : DecoderOptions.None);

    private sealed class Walk(DecoderOptions options, CpuVendor vendor, bool resumes, bool flagsInR11)
    {
        private readonly InstructionInfoFactory _factory = new();
        private readonly SortedSet<string> _rows = new(StringComparer.Ordinal);
        private readonly UndefinedParts _parts = new(resumes);
        private GprFile _gpr;
        private ulong _flags;
        private ulong _saved;
        private bool _memory;
        private bool _stack;

        public bool Consumed { get; private set; }

        public UndefinedMask Result() => _rows.Count == 0
            ? UndefinedMask.None
            : new UndefinedMask { Rflags = _flags, Saved = resumes ? _saved : 0, Gpr = _gpr, Memory = _memory, Consumed = Consumed, Rows = [.. _rows], Parts = _parts.ToImmutable() };

        /// <summary>
        /// Tells whether an event came between two instructions: the first raised one, or the fetch behind it did, or what follows is another place and the first is no branch. Its handler is code of the payload, or it
        /// would have ended the trace. An undefined opcode that raised nothing is the first half of a forced emulation, and execution goes on behind the other.
        /// </summary>
        public bool IsDelivery(TracedInstruction traced, TracedInstruction next) => traced.Raised is not null || traced.NextFetchRaised
            || (next.Address != traced.Address + (ulong)traced.Bytes.Length && next.Address != traced.Address
            && Decode(traced, options).FlowControl is FlowControl.Next or FlowControl.Interrupt);

        /// <summary>The frame of an event that the payload handles holds RFLAGS, RCX and R11, where nobody masks what is undefined.</summary>
        public void Save()
        {
            if (!Consumed && (_flags | _gpr[1] | _gpr[11]) != 0)
            {
                Consumed = true;
                _parts.Clear();
                _rows.Add("read by delivery");
            }
        }

        /// <summary>An event saves what it interrupts.</summary>
        /// <param name="onOwnStack">True when the frame lies on the stack of the code that was interrupted, which may read it later.</param>
        public void NoteSaved(bool onOwnStack)
        {
            _saved |= _flags;
            _stack |= onOwnStack && (_flags | _gpr[1] | _gpr[11]) != 0;
        }

        public void Step(TracedInstruction traced, bool completed)
        {
            Instruction instruction = Decode(traced, options);
            if (instruction.IsInvalid)
            {
                return;
            }

            InstructionInfo info = _factory.GetInfo(in instruction);
            FlagEffect effect = FlagEffects.Of(instruction.Code, Count(in instruction, traced.Rcx));
            if (Reads(in instruction, in info, effect.Read))
            {
                Consumed = true;
                _parts.Clear();
                _rows.Add($"read by {Disassembler.Text(traced.Bytes.AsSpan(), traced.Address, traced.Mode)}");
                return;
            }

            if (ReservedPrefix(in instruction))
            {
                return;
            }

            if (!completed || resumes)
            {
                Faulted(in instruction);
            }

            // A hypervisor may turn it back into a fault after it has loaded them.
            if (instruction.Code == Code.Syscall)
            {
                // RFLAGS goes to R11, undefined bits and all (SDM vol.2 SYSCALL; APM vol.3 SYSCALL).
                _gpr[11] = _flags;
                _gpr[1] = 0;
                _parts.CopyFlagsTo(CoreRegister.R11);
                _parts.Define(CoreRegister.Rcx, ulong.MaxValue);
                return;
            }

            if (!completed)
            {
                return;
            }

            if (!resumes)
            {
                Define(in instruction, in info, effect, traced.Rcx);
            }

            Undefine(in instruction, effect, traced.Rcx);
            if (flagsInR11)
            {
                _gpr[11] |= _flags;
            }
        }

        private static Instruction Decode(TracedInstruction traced, DecoderOptions options)
        {
            Decoder decoder = Decoder.Create(
                traced.Mode == CpuMode.Long64 ? 64 : 32,
                new ByteArrayCodeReader([.. traced.Bytes]),
                options);
            decoder.IP = traced.Address;
            return decoder.Decode();
        }

        /// <summary>The count of a shift as encoded, or CL; null for other instructions.</summary>
        private static byte? Count(in Instruction instruction, ulong rcx)
        {
            if (!FlagEffects.HasCount(instruction.Code))
            {
                return null;
            }

            int last = instruction.OpCount - 1;
            return instruction.GetOpKind(last) == OpKind.Register ? (byte)rcx : instruction.GetOpKind(last) == OpKind.Immediate8 ? instruction.Immediate8 : (byte)1;
        }

        private bool Reads(in Instruction instruction, in InstructionInfo info, ulong flagsRead)
        {
            if ((flagsRead & _flags) != 0 && instruction.Code != Code.Syscall)
            {
                return true;
            }

            foreach (UsedRegister used in info.GetUsedRegisters())
            {
                (int index, ulong mask) = Place(used.Register);
                if (index >= 0 && (_gpr[index] & mask) != 0 && used.Access is not (OpAccess.Write or OpAccess.CondWrite or OpAccess.NoMemAccess or OpAccess.None))
                {
                    return true;
                }
            }

            if (_memory || _stack)
            {
                foreach (UsedMemory used in info.GetUsedMemory())
                {
                    if ((_memory || used.Base is Register.RSP or Register.ESP) && used.Access is not (OpAccess.Write or OpAccess.CondWrite or OpAccess.NoMemAccess or OpAccess.None))
                    {
                        return true;
                    }
                }
            }

            return false;
        }

        private bool ReservedPrefix(in Instruction instruction)
        {
            if (!instruction.HasRepPrefix && !instruction.HasRepnePrefix)
            {
                return false;
            }

            foreach (UndefinedRow row in FlagEffects.RowsOf(instruction.Code))
            {
                if (row.Condition == UndefinedCondition.RepeatPrefix)
                {
                    Consumed = true;
                    _parts.UndefineEverything(row, instruction.Code);
                    _rows.Add(row.Id);
                    return true;
                }
            }

            return false;
        }

        private void Faulted(in Instruction instruction)
        {
            Code code = instruction.Code;
            foreach (UndefinedRow row in FlagEffects.RowsOf(code))
            {
                // A near CALL writes one item only.
                if (row.Condition == UndefinedCondition.Faulted && !code.IsCallNear() && !code.IsCallNearIndirect())
                {
                    _memory = true;
                    _parts.UndefineMemory(row, code, StackBytes(in instruction), belowStack: true);
                    _rows.Add(row.Id);
                }
            }
        }

        /// <summary>Bytes that an instruction of several pushes stores below the stack pointer; what ENTER reserves is not stored to.</summary>
        private static int StackBytes(in Instruction instruction) => instruction.Code switch
        {
            Code.Enterw_imm16_imm8 => 2 * (1 + (instruction.Immediate8_2nd & 31)),
            Code.Enterd_imm16_imm8 => 4 * (1 + (instruction.Immediate8_2nd & 31)),
            Code.Enterq_imm16_imm8 => 8 * (1 + (instruction.Immediate8_2nd & 31)),
            _ => -instruction.StackPointerIncrement,
        };

        /// <summary>True for a repeated string instruction whose count is 0: RCX, ECX or CX by the address size.</summary>
        private static bool RepeatsNothing(in Instruction instruction, ulong rcx)
        {
            if (!instruction.IsStringInstruction || !(instruction.HasRepPrefix || instruction.HasRepnePrefix))
            {
                return false;
            }

            ulong count = rcx;
            for (int i = 0; i < instruction.OpCount; i++)
            {
                count &= instruction.GetOpKind(i) switch
                {
                    OpKind.MemorySegSI or OpKind.MemoryESDI => ushort.MaxValue,
                    OpKind.MemorySegESI or OpKind.MemoryESEDI => uint.MaxValue,
                    _ => ulong.MaxValue,
                };
            }

            return count == 0;
        }

        private void Define(in Instruction instruction, in InstructionInfo info, FlagEffect effect, ulong rcx)
        {
            if (RepeatsNothing(in instruction, rcx))
            {
                return;
            }

            _flags &= ~effect.Defined;
            _parts.Define(CoreRegister.Rflags, effect.Defined);
            foreach (UsedRegister used in info.GetUsedRegisters())
            {
                (int index, ulong mask) = Place(used.Register);
                if (index >= 0 && used.Access is OpAccess.Write or OpAccess.ReadWrite)
                {
                    // 32-bit results clear the upper half, so they define all of the register.
                    ulong defined = used.Register.GetSize() >= 4 ? ulong.MaxValue : mask;
                    _gpr[index] &= ~defined;
                    _parts.Define((CoreRegister)index, defined);
                }
            }
        }

        private void Undefine(in Instruction instruction, FlagEffect effect, ulong rcx)
        {
            _flags |= effect.Undefined & Flags.Status;
            int? count = FlagEffects.Masked(instruction.Code, Count(in instruction, rcx));
            bool none = FlagEffects.HasCount(instruction.Code) && count == 0;
            foreach (UndefinedRow row in FlagEffects.RowsOf(instruction.Code))
            {
                if (none || !FlagEffects.Holds(row.Condition, count, FlagEffects.OperandBits(instruction.Code)) || (row.Vendor is { } only && only != vendor))
                {
                    continue;
                }

                _rows.Add(row.Id);
                if (row.Flags != 0)
                {
                    _parts.Undefine(row, instruction.Code, CoreRegister.Rflags, row.Flags);
                }

                if (row.Target == UndefinedTarget.Destination)
                {
                    UndefineDestination(row, in instruction);
                }
            }
        }

        private void UndefineDestination(UndefinedRow row, in Instruction instruction)
        {
            if (instruction.Op0Kind != OpKind.Register)
            {
                _memory = true;
                _parts.UndefineMemory(row, instruction.Code, instruction.MemorySize.GetSize(), belowStack: false);
                return;
            }

            (int index, ulong mask) = Place(instruction.Op0Register);
            if (index >= 0)
            {
                // Whether a 32-bit result that is not written still clears the upper half differs, too.
                ulong undefined = mask > ushort.MaxValue ? ulong.MaxValue : mask;
                _gpr[index] |= undefined;
                _parts.Undefine(row, instruction.Code, (CoreRegister)index, undefined);
            }
        }

        private static (int Index, ulong Mask) Place(Register register)
        {
            Register full = register.GetFullRegister();
            if (full is < Register.RAX or > Register.R15)
            {
                return (-1, 0);
            }

            ulong mask = register switch
            {
                Register.AH or Register.CH or Register.DH or Register.BH => 0xff00,
                _ => register.GetSize() switch { 1 => 0xff, 2 => 0xffff, 4 => uint.MaxValue, _ => ulong.MaxValue },
            };
            return (full - Register.RAX, mask);
        }
    }
}
