using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;
using IcedRegister = Iced.Intel.Register;

namespace PvDiffFuzz.Harness;

/// <summary>Rewrites operands: immediates to 0 or 1, memory operands to fewer parts or to a register, registers to lower-numbered ones.</summary>
public sealed class SimplifyOperands : IReduction
{
    private delegate bool Edit(ref Instruction instruction);

    /// <inheritdoc/>
    public string Name => "simplify-operands";

    /// <inheritdoc/>
    public int Budget => 600;

    /// <inheritdoc/>
    public IEnumerable<TestCase> Propose(TestCase testCase, ReductionContext context)
    {
        ImmutableArray<ImmutableArray<byte>> pieces = CodeEdit.Pieces(testCase.Code);
        ulong address = testCase.Code.Address;
        for (int i = 0; i < pieces.Length; i++)
        {
            Instruction original = CodeEdit.DecodeOne(pieces[i].AsSpan(), address, testCase.Mode, context.Vendor);
            ulong end = address + (ulong)pieces[i].Length;
            address = end;
            if (original.IsInvalid || original.Length != pieces[i].Length)
            {
                continue;
            }

            foreach (Edit edit in Edits(original))
            {
                Instruction changed = original;
                if (!edit(ref changed) || Encode(changed, end, testCase.Mode) is not ImmutableArray<byte> bytes || bytes.Length > pieces[i].Length || bytes.AsSpan().SequenceEqual(pieces[i].AsSpan()))
                {
                    continue;
                }

                ImmutableArray<byte>[] replaced = new ImmutableArray<byte>[pieces.Length];
                replaced[i] = bytes;
                if (CodeEdit.Replace(testCase, replaced, context.Vendor) is TestCase simpler)
                {
                    yield return simpler;
                }
            }
        }
    }

    private static IEnumerable<Edit> Edits(Instruction original)
    {
        for (int operand = 0; operand < original.OpCount; operand++)
        {
            int index = operand;
            switch (original.GetOpKind(index))
            {
                case OpKind.Register:
                    foreach (IcedRegister lower in Lower(original.GetOpRegister(index)))
                    {
                        yield return (ref Instruction i) =>
                        {
                            i.SetOpRegister(index, lower);
                            return true;
                        };
                    }

                    break;
                case OpKind.Memory:
                    foreach (Edit edit in MemoryEdits(original, index))
                    {
                        yield return edit;
                    }

                    break;
                case >= OpKind.Immediate8 and <= OpKind.Immediate32to64:
                    for (ulong small = 0; small <= 1 && small < original.GetImmediate(index); small++)
                    {
                        ulong value = small;
                        yield return (ref Instruction i) => SetImmediate(ref i, index, value);
                    }

                    break;
                default:
                    break;
            }
        }
    }

    private static IEnumerable<Edit> MemoryEdits(Instruction original, int operand)
    {
        if (RegisterForm(original, operand) is IcedRegister register)
        {
            yield return (ref Instruction i) =>
            {
                i.SetOpKind(operand, OpKind.Register);
                i.SetOpRegister(operand, register);
                i.SegmentPrefix = IcedRegister.None;
                i.MemoryBase = IcedRegister.None;
                i.MemoryIndex = IcedRegister.None;
                i.MemoryDisplSize = 0;
                i.MemoryDisplacement64 = 0;
                return true;
            };
        }

        yield return (ref Instruction i) => Use(ref i, i.MemoryIndex != IcedRegister.None, IcedRegister.None, i.MemoryDisplacement64);
        yield return (ref Instruction i) => Use(ref i, i.MemoryDisplacement64 != 0 && !i.IsIPRelativeMemoryOperand && i.MemoryBase != IcedRegister.None, i.MemoryIndex, 0);
        yield return (ref Instruction i) =>
        {
            bool scaled = i.MemoryIndexScale > 1;
            i.MemoryIndexScale = 1;
            return scaled;
        };
        yield return (ref Instruction i) =>
        {
            bool prefixed = i.SegmentPrefix != IcedRegister.None;
            i.SegmentPrefix = IcedRegister.None;
            return prefixed;
        };
        foreach (IcedRegister lower in Lower(original.MemoryBase))
        {
            yield return (ref Instruction i) =>
            {
                i.MemoryBase = lower;
                return true;
            };
        }
    }

    private static bool Use(ref Instruction instruction, bool simpler, IcedRegister index, ulong displacement)
    {
        if (!simpler)
        {
            return false;
        }

        instruction.MemoryIndex = index;
        instruction.MemoryIndexScale = index == IcedRegister.None ? 1 : instruction.MemoryIndexScale;
        instruction.MemoryDisplacement64 = displacement;
        instruction.MemoryDisplSize = displacement == 0 && instruction.MemoryBase != IcedRegister.None ? 0 : instruction.MemoryDisplSize;
        return true;
    }

    private static bool SetImmediate(ref Instruction instruction, int operand, ulong value)
    {
        instruction.SetImmediate(operand, value);
        return true;
    }

    /// <summary>The first register that an operand may name instead of memory; null when the form has no register variant.</summary>
    private static IcedRegister? RegisterForm(in Instruction instruction, int operand) => instruction.OpCode.GetOpKind(operand) switch
    {
        OpCodeOperandKind.r8_or_mem => IcedRegister.CL,
        OpCodeOperandKind.r16_or_mem => IcedRegister.CX,
        OpCodeOperandKind.r32_or_mem => IcedRegister.ECX,
        OpCodeOperandKind.r64_or_mem => IcedRegister.RCX,
        _ => null,
    };

    /// <summary>Registers of the same class with lower numbers, the lowest first, at most four.</summary>
    private static IEnumerable<IcedRegister> Lower(IcedRegister register)
    {
        IcedRegister first = register switch
        {
            >= IcedRegister.AL and <= IcedRegister.R15L => IcedRegister.AL,
            >= IcedRegister.AX and <= IcedRegister.R15W => IcedRegister.AX,
            >= IcedRegister.EAX and <= IcedRegister.R15D => IcedRegister.EAX,
            >= IcedRegister.RAX and <= IcedRegister.R15 => IcedRegister.RAX,
            _ => register,
        };
        for (IcedRegister lower = first; lower < register && lower < first + 4; lower++)
        {
            yield return lower;
        }
    }

    private static ImmutableArray<byte>? Encode(in Instruction instruction, ulong end, CpuMode mode)
    {
        // What is relative to the end keeps the end, so the length must be known first.
        Recorder first = new();
        if (!Encoder.Create(mode == CpuMode.Long64 ? 64 : 32, first).TryEncode(instruction, end, out uint length, out _))
        {
            return null;
        }

        Recorder second = new();
        return Encoder.Create(mode == CpuMode.Long64 ? 64 : 32, second).TryEncode(instruction, end - length, out uint again, out _) && again == length
            ? [.. second.Bytes]
            : null;
    }

    private sealed class Recorder : CodeWriter
    {
        public List<byte> Bytes { get; } = [];

        public override void WriteByte(byte value) => Bytes.Add(value);
    }
}
