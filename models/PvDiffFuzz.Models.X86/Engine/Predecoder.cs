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

        int fetched = cpu.Memory.Fetch(rip, _reader.Buffer.AsSpan(0, Reach(in cpu)), out uint error);
        _reader.Start(fetched);
        Decoder decoder = cpu.Compatibility ? _compatibility32 : _long64;
        decoder.IP = rip;
        decoder.Decode(out Instruction instruction);
        if (instruction.IsInvalid || (instruction.Mnemonic == Mnemonic.Vmread && cpu.Profile.Vendor == CpuVendor.Amd))
        {
            RaiseInvalid(ref cpu, _reader.Buffer.AsSpan(0, fetched), error);
            return false;
        }

        bool memory = Fill(ref op, in instruction, cpu.Compatibility);
        if (instruction.Code == Code.Pause && !cpu.Compatibility && (_reader.Buffer[op.Length - 2] & 0xf1) == 0x41)
        {
            ExchangeWithR8(ref op, _reader.Buffer.AsSpan(0, op.Length));
        }

        if (instruction.Code == Code.Call_m1632 && !cpu.Compatibility && HasRexW(_reader.Buffer))
        {
            op.Size = sizeof(ulong);
        }

        op.Execute = _table.Find(op.Form, memory);
        if (op.Execute == null)
        {
            cpu.PendingError = (uint)instruction.Code;
            cpu.Stop(PendingKind.Unsupported);
            return false;
        }

        return true;
    }

    /// <summary>Bytes of the instruction decoded last.</summary>
    public ReadOnlySpan<byte> LastBytes(int length) => _reader.Buffer.AsSpan(0, length);

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

    /// <summary>Tells whether a far CALL has REX.W: no prefix is FF, so that the first FF is its opcode.</summary>
    private static bool HasRexW(ReadOnlySpan<byte> bytes)
    {
        int opcode = bytes.IndexOf((byte)0xff);
        return opcode > 0 && (bytes[opcode - 1] & 0xf8) == 0x48;
    }

    /// <summary>F3 90 with REX.B is no PAUSE: REX.B makes opcode 90 the exchange of rAX with R8.</summary>
    [Spec("APM", "vol.3 A.1.1 Primary Opcode Map: XCHG rAX,r8 NOP, PAUSE; PAUSE")]
    private static void ExchangeWithR8(ref MicroOp op, ReadOnlySpan<byte> bytes)
    {
        bool wide = (bytes[^2] & 8) != 0;
        op.Code = (ushort)(wide ? Code.Xchg_r64_RAX : bytes.Contains((byte)0x66) ? Code.Xchg_r16_AX : Code.Xchg_r32_EAX);
        op.Destination = 8 * 8;
        op.Source = Gpr.Rax;
    }

    private static bool Fill(ref MicroOp op, in Instruction instruction, bool compatibility)
    {
        op = default;
        op.Code = (ushort)instruction.Code;
        op.Length = (byte)instruction.Length;
        op.Base = RegisterFile.ZeroOffset;
        op.Index = RegisterFile.ZeroOffset;
        op.AddressMask = compatibility ? uint.MaxValue : ulong.MaxValue;
        op.Segment = EffectiveSegment(instruction.SegmentPrefix, Register.None, compatibility);
        if (instruction.HasRepPrefix)
        {
            op.Flags |= OpFlags.Rep;
        }

        if (instruction.HasRepnePrefix)
        {
            op.Flags |= OpFlags.Repne;
        }

        if (instruction.HasLockPrefix)
        {
            op.Flags |= OpFlags.Lock;
        }

        bool memory = false;
        for (int i = 0; i < instruction.OpCount; i++)
        {
            OpKind kind = instruction.GetOpKind(i);
            switch (kind)
            {
                case OpKind.Register:
                    SetRegister(ref op, i, RegisterOffsets[(int)instruction.GetOpRegister(i)]);
                    break;
                case OpKind.NearBranch16 or OpKind.NearBranch32 or OpKind.NearBranch64:
                    op.Immediate = instruction.NearBranchTarget;
                    op.Size = (byte)(kind == OpKind.NearBranch16 ? 2 : kind == OpKind.NearBranch32 ? 4 : 8);
                    break;
                case OpKind.FarBranch16 or OpKind.FarBranch32:
                    op.Immediate = instruction.FarBranchSelector | ((ulong)(kind == OpKind.FarBranch16 ? instruction.FarBranch16 : instruction.FarBranch32) << 32);
                    break;
                case OpKind.Immediate8_2nd:
                    op.Immediate |= (ulong)instruction.Immediate8_2nd << 32;
                    break;
                case OpKind.Memory:
                    memory = true;
                    SetMemory(ref op, in instruction, compatibility);
                    break;
                case >= OpKind.MemorySegSI and <= OpKind.MemoryESRDI:
                    SetStringOperand(ref op, kind, in instruction, compatibility);
                    break;
                default:
                    op.Immediate = instruction.GetImmediate(i);
                    break;
            }
        }

        if (memory)
        {
            op.Flags |= OpFlags.Memory;
        }

        return memory;
    }

    private static void SetRegister(ref MicroOp op, int operand, byte offset)
    {
        switch (operand)
        {
            case 0:
                op.Destination = offset;
                break;
            case 1:
                op.Source = offset;
                break;
            default:
                op.Third = offset;
                break;
        }
    }

    private static void SetMemory(ref MicroOp op, in Instruction instruction, bool compatibility)
    {
        Register baseRegister = instruction.MemoryBase;
        op.Displacement = instruction.MemoryDisplacement64;
        op.Segment = EffectiveSegment(instruction.SegmentPrefix, baseRegister, compatibility);
        int size = AddressSize(in instruction, compatibility);
        op.AddressMask = size == 8 ? ulong.MaxValue : size == 4 ? uint.MaxValue : ushort.MaxValue;
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

    private static int AddressSize(in Instruction instruction, bool compatibility)
    {
        Register register = instruction.MemoryBase != Register.None ? instruction.MemoryBase : instruction.MemoryIndex;
        if (register != Register.None)
        {
            return register == Register.RIP ? 8 : register == Register.EIP ? 4 : register.GetSize();
        }

        // No register: the displacement's size is the address size, except that a 32-bit one is sign-extended in 64-bit addressing.
        return instruction.MemoryDisplSize switch
        {
            8 => 8,
            2 => 2,
            _ => compatibility ? 4 : instruction.MemoryDisplSize == 4 ? 4 : 8,
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
        public byte[] Buffer { get; } = new byte[MaximumLength];

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
