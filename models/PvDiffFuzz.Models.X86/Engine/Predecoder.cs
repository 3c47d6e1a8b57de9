using System.Runtime.CompilerServices;
using Iced.Intel;
using PvDiffFuzz.Core;
using Register = Iced.Intel.Register;

namespace PvDiffFuzz.Models.X86;

/// <summary>Turns code bytes into <see cref="MicroOp"/>s, with the faults that fetching and decoding raise.</summary>
// SAFETY: the pointer taken from OpTable is stored and compared with null, never followed here.
internal sealed unsafe class Predecoder
{
    /// <summary>Longest instruction; one byte more is #GP(0).</summary>
    private const int MaximumLength = 15;

    private static readonly byte[] RegisterOffsets = MakeRegisterOffsets();

    private readonly FetchReader _reader = new();
    private readonly Decoder _long64;
    private readonly Decoder _compatibility32;
    private readonly OpTable _table;
    private readonly bool _evex;

    /// <summary>Makes a predecoder for a profile: AMD and Intel decode a few encodings differently.</summary>
    public Predecoder(OpTable table, CpuProfile profile)
    {
        DecoderOptions options = profile.Vendor == CpuVendor.Amd ? DecoderOptions.AMD : DecoderOptions.None;
        _table = table;
        _evex = profile.Has("AVX512F");
        _long64 = Decoder.Create(64, _reader, options);
        _compatibility32 = Decoder.Create(32, _reader, options);
    }

    /// <summary>Fetches and decodes the instruction at <c>cpu.Rip</c>.</summary>
    /// <param name="cpu">State; gets the fault when there is one.</param>
    /// <param name="op">Receives the operation.</param>
    /// <returns>False after raising a fault or meeting a form that no family serves.</returns>
    public bool Decode(ref CpuState cpu, ref MicroOp op)
    {
        ulong rip = cpu.Rip;
        if (!cpu.Canonical(rip))
        {
            cpu.Raise(13);
            return false;
        }

        int reach = Reach(in cpu);
        int fetched = reach == MaximumLength ? Math.Min(cpu.Memory.TryFetch(rip, _reader.Buffer), reach) : 0;
        Decoder decoder = cpu.Compatibility ? _compatibility32 : _long64;
        uint error = 0;
        Code code = Decode(decoder, rip, fetched, out Instruction instruction);
        if (code == Code.INVALID && fetched < reach)
        {
            // It may run into the next page.
            fetched = cpu.Memory.Fetch(rip, _reader.Buffer.AsSpan(0, reach), out error);
            code = Decode(decoder, rip, fetched, out instruction);
        }

        if (code == Code.INVALID || (code is Code.Vmread_rm64_r64 or Code.Vmread_rm32_r32 && cpu.Profile.Vendor == CpuVendor.Amd))
        {
            RaiseInvalid(ref cpu, _reader.Buffer.AsSpan(0, fetched), error);
            return false;
        }

        ref readonly OpTable.Form form = ref _table.Find(code);
        Fill(ref op, in instruction, form.Operands, cpu.Compatibility);
        op.Execute = (op.Flags & OpFlags.Memory) != 0 ? form.Memory : form.Register;
        if (op.Execute == null)
        {
            cpu.PendingError = (uint)code;
            cpu.Stop(PendingKind.Unsupported);
            return false;
        }

        if (code is Code.Pause or Code.Call_m1632 && !cpu.Compatibility)
        {
            ApplyRex(ref op, code);
        }

        return true;
    }

    private Code Decode(Decoder decoder, ulong rip, int length, out Instruction instruction)
    {
        _reader.Start(length);
        decoder.IP = rip;
        decoder.Decode(out instruction);
        return instruction.Code;
    }

    /// <summary>A byte that cannot be fetched is #PF, more than fifteen bytes #GP(0), everything else #UD.</summary>
    [Spec("SDM", "vol.3A 6.15 Interrupt 6 (#UD), Interrupt 13 (instruction longer than 15 bytes), Interrupt 14 (fetch)")]
    private void RaiseInvalid(ref CpuState cpu, ReadOnlySpan<byte> bytes, uint error)
    {
        int length = LengthDecoder.Measure(bytes, !cpu.Compatibility, cpu.Profile.Vendor == CpuVendor.Amd, _evex, cpu.Profile.Has("XOP"));
        if (length <= bytes.Length)
        {
            cpu.Raise(6);
            return;
        }

        ulong refused = (cpu.Rip + (uint)bytes.Length) & cpu.LinearMask;
        if (bytes.Length == Reach(in cpu) || !cpu.Canonical(refused))
        {
            cpu.Raise(13);
        }
        else
        {
            cpu.Raise(14, error, refused);
        }
    }

    /// <summary>Most bytes that the instruction at RIP may have: fifteen, and on AMD only those up to the end of a code segment of 4 GiB.</summary>
    [Spec("SDM", "vol.3A 5.3 Limit Checking (accesses that straddle a limit of FFFFFFFF)")]
    private static int Reach(in CpuState cpu) =>
        cpu.Compatibility && cpu.Profile.Vendor == CpuVendor.Amd ? (int)Math.Min(MaximumLength, uint.MaxValue + 1UL - cpu.Rip) : MaximumLength;

    /// <summary>What REX changes and Iced does not tell.</summary>
    private void ApplyRex(ref MicroOp op, Code code)
    {
        if (code == Code.Call_m1632)
        {
            op.Size = HasRexW(_reader.Buffer) ? (byte)sizeof(ulong) : op.Size;
        }
        else if ((_reader.Buffer[op.Length - 2] & 0xf1) == 0x41)
        {
            ExchangeWithR8(ref op, _reader.Buffer.AsSpan(0, op.Length));
        }
    }

    /// <summary>Tells whether a far CALL has REX.W: no prefix is FF, so that the first FF is its opcode.</summary>
    private static bool HasRexW(ReadOnlySpan<byte> bytes)
    {
        int opcode = bytes.IndexOf((byte)0xff);
        return opcode > 0 && (bytes[opcode - 1] & 0xf8) == 0x48;
    }

    /// <summary>F3 90 with REX.B is no PAUSE: REX.B makes opcode 90 the exchange of rAX with R8.</summary>
    [Spec("APM", "vol.3 A.1.1 Primary Opcode Map: XCHG rAX,r8 NOP, PAUSE; PAUSE")]
    private void ExchangeWithR8(ref MicroOp op, ReadOnlySpan<byte> bytes)
    {
        bool wide = (bytes[^2] & 8) != 0;
        Code code = wide ? Code.Xchg_r64_RAX : bytes.Contains((byte)0x66) ? Code.Xchg_r16_AX : Code.Xchg_r32_EAX;
        op.Code = (ushort)code;
        op.Execute = _table.Find(code).Register;
        op.Destination = 8 * 8;
        op.Source = Gpr.Rax;
    }

    private static void Fill(ref MicroOp op, in Instruction instruction, int operands, bool compatibility)
    {
        op = default;
        op.Code = (ushort)instruction.Code;
        op.Length = (byte)instruction.Length;
        op.Base = RegisterFile.ZeroOffset;
        op.Index = RegisterFile.ZeroOffset;
        op.AddressMask = compatibility ? uint.MaxValue : ulong.MaxValue;
        op.Segment = EffectiveSegment(instruction.SegmentPrefix, Register.None, compatibility);
        op.Flags = (instruction.HasRepPrefix ? OpFlags.Rep : OpFlags.None)
            | (instruction.HasRepnePrefix ? OpFlags.Repne : OpFlags.None)
            | (instruction.HasLockPrefix ? OpFlags.Lock : OpFlags.None);

        // Operands are taken one by one because Iced looks a form's operand count up whenever it is asked for an operand by number.
        if (operands > 0)
        {
            SetOperand(ref op, ref op.Destination, in instruction, instruction.Op0Kind, instruction.Op0Register, compatibility);
        }

        if (operands > 1)
        {
            SetOperand(ref op, ref op.Source, in instruction, instruction.Op1Kind, instruction.Op1Register, compatibility);
        }

        if (operands > 2)
        {
            SetOperand(ref op, ref op.Third, in instruction, instruction.Op2Kind, instruction.Op2Register, compatibility);
        }

        if (operands > 3)
        {
            SetOperand(ref op, ref op.Third, in instruction, instruction.Op3Kind, instruction.Op3Register, compatibility);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void SetOperand(ref MicroOp op, ref byte offset, in Instruction instruction, OpKind kind, Register register, bool compatibility)
    {
        if (kind == OpKind.Register)
        {
            offset = RegisterOffsets[(int)register];
        }
        else if (kind == OpKind.Memory)
        {
            SetMemory(ref op, in instruction, compatibility);
        }
        else
        {
            SetOther(ref op, kind, in instruction, compatibility);
        }
    }

    private static void SetOther(ref MicroOp op, OpKind kind, in Instruction instruction, bool compatibility)
    {
        switch (kind)
        {
            case OpKind.Immediate8:
                op.Immediate = instruction.Immediate8;
                break;
            case OpKind.Immediate8_2nd:
                op.Immediate |= (ulong)instruction.Immediate8_2nd << 32;
                break;
            case OpKind.Immediate16:
                op.Immediate = instruction.Immediate16;
                break;
            case OpKind.Immediate32:
                op.Immediate = instruction.Immediate32;
                break;
            case OpKind.Immediate64:
                op.Immediate = instruction.Immediate64;
                break;
            case OpKind.Immediate8to16 or OpKind.Immediate8to32 or OpKind.Immediate8to64:
                op.Immediate = (ulong)instruction.Immediate8to64;
                break;
            case OpKind.Immediate32to64:
                op.Immediate = (ulong)instruction.Immediate32to64;
                break;
            case OpKind.NearBranch16 or OpKind.NearBranch32 or OpKind.NearBranch64:
                op.Immediate = instruction.NearBranchTarget;
                op.Size = (byte)(kind == OpKind.NearBranch16 ? 2 : kind == OpKind.NearBranch32 ? 4 : 8);
                break;
            case OpKind.FarBranch16 or OpKind.FarBranch32:
                op.Immediate = instruction.FarBranchSelector | ((ulong)(kind == OpKind.FarBranch16 ? instruction.FarBranch16 : instruction.FarBranch32) << 32);
                break;
            default:
                SetStringOperand(ref op, kind, in instruction, compatibility);
                break;
        }
    }

    private static void SetMemory(ref MicroOp op, in Instruction instruction, bool compatibility)
    {
        Register baseRegister = instruction.MemoryBase;
        op.Flags |= OpFlags.Memory;
        op.Displacement = instruction.MemoryDisplacement64;
        op.Segment = EffectiveSegment(instruction.SegmentPrefix, baseRegister, compatibility);
        op.AddressMask = AddressMask(in instruction, compatibility);
        if (baseRegister is Register.RIP or Register.EIP)
        {
            // Iced has added the next instruction's address already.
            return;
        }

        if (baseRegister != Register.None)
        {
            op.Base = RegisterOffsets[(int)baseRegister];
        }

        if (instruction.MemoryIndex != Register.None)
        {
            op.Index = RegisterOffsets[(int)instruction.MemoryIndex];
            op.Scale = (byte)System.Numerics.BitOperations.Log2((uint)instruction.MemoryIndexScale);
        }
    }

    /// <summary>RSP and RBP bases use SS. In 64-bit mode ES, CS, SS and DS overrides are null prefixes.</summary>
    [Spec("SDM", "vol.1 3.4.2.1 Segment Registers in 64-Bit Mode; 3.7.4.1 Segmentation in 64-Bit Mode")]
    private static byte EffectiveSegment(Register prefix, Register baseRegister, bool compatibility)
    {
        if (prefix is Register.FS or Register.GS || (compatibility && prefix != Register.None))
        {
            return (byte)(prefix - Register.ES);
        }

        return baseRegister is Register.RSP or Register.RBP or Register.ESP or Register.EBP or Register.BP ? Seg.Ss : Seg.Ds;
    }

    private static ulong AddressMask(in Instruction instruction, bool compatibility)
    {
        Register register = instruction.MemoryBase != Register.None ? instruction.MemoryBase : instruction.MemoryIndex;
        return register switch
        {
            (>= Register.RAX and <= Register.R15) or Register.RIP => ulong.MaxValue,
            (>= Register.EAX and <= Register.R15D) or Register.EIP => uint.MaxValue,
            >= Register.AX and <= Register.R15W => ushort.MaxValue,

            // No register: the displacement's size is the address size, except that a 32-bit one is sign-extended in 64-bit addressing.
            _ => instruction.MemoryDisplSize switch
            {
                8 => ulong.MaxValue,
                2 => ushort.MaxValue,
                _ => compatibility || instruction.MemoryDisplSize == 4 ? uint.MaxValue : ulong.MaxValue,
            },
        };
    }

    private static void SetStringOperand(ref MicroOp op, OpKind kind, in Instruction instruction, bool compatibility)
    {
        op.AddressMask = kind switch
        {
            OpKind.MemorySegSI or OpKind.MemorySegDI or OpKind.MemoryESDI => ushort.MaxValue,
            OpKind.MemorySegESI or OpKind.MemorySegEDI or OpKind.MemoryESEDI => uint.MaxValue,
            _ => ulong.MaxValue,
        };
        if (kind is not (OpKind.MemoryESDI or OpKind.MemoryESEDI or OpKind.MemoryESRDI))
        {
            op.Segment = EffectiveSegment(instruction.SegmentPrefix, Register.None, compatibility);
        }
    }

    private static byte[] MakeRegisterOffsets()
    {
        byte[] offsets = new byte[Enum.GetValues<Register>().Length];
        foreach (Register register in Enum.GetValues<Register>())
        {
            int index = register.IsGPR() ? register.GetFullRegister() - Register.RAX : 0;
            offsets[(int)register] = register switch
            {
                >= Register.AH and <= Register.BH => (byte)(((register - Register.AH) * 8) + 1),
                >= Register.ES and <= Register.GS => (byte)(register - Register.ES),
                >= Register.CR0 and <= Register.CR15 => (byte)(register - Register.CR0),
                >= Register.DR0 and <= Register.DR15 => (byte)(register - Register.DR0),
                _ => (byte)(index * 8),
            };
        }

        return offsets;
    }

    /// <summary>Feeds Iced from the fetched bytes.</summary>
    private sealed class FetchReader : CodeReader
    {
        private int _next;
        private int _end;

        /// <summary>The fetched bytes.</summary>
        public byte[] Buffer { get; } = new byte[MaximumLength + 1];

        /// <summary>Starts over with so many bytes.</summary>
        public void Start(int length)
        {
            _next = 0;
            _end = length;
        }

        /// <inheritdoc/>
        public override int ReadByte() => _next < _end ? Buffer[_next++] : -1;
    }
}
