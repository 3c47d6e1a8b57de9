using System.Numerics;
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

    private static readonly RegisterFacts[] Registers = MakeRegisters();

    private readonly FetchReader _reader = new();
    private readonly Decoder _long64;
    private readonly Decoder _compatibility32;
    private readonly OpTable _table;
    private readonly bool _amd;
    private readonly bool _evex;

    /// <summary>Makes a predecoder for a profile: AMD and Intel decode a few encodings differently.</summary>
    public Predecoder(OpTable table, CpuProfile profile)
    {
        _amd = profile.Vendor == CpuVendor.Amd;
        DecoderOptions options = _amd ? DecoderOptions.AMD : DecoderOptions.None;
        _table = table;
        _evex = profile.Has("AVX512F");
        _long64 = Decoder.Create(64, _reader, options);
        _compatibility32 = Decoder.Create(32, _reader, options);
    }

    /// <summary>Bytes of the last instruction that was undefined or too long to be fetched, as far as its encoding tells; 0 when the last one decoded or not a byte of it was there.</summary>
    public int Refused { get; private set; }

    /// <summary>Fetches and decodes the instruction at <c>cpu.Rip</c>.</summary>
    /// <param name="cpu">State; gets the fault when there is one.</param>
    /// <param name="op">Receives the operation.</param>
    /// <returns>False after raising a fault or meeting a form that no family serves.</returns>
    public bool Decode(ref CpuState cpu, ref MicroOp op)
    {
        Refused = 0;
        ulong rip = cpu.Rip;
        if (!cpu.Canonical(rip))
        {
            cpu.Raise(13);
            return false;
        }

        int reach = Reach(in cpu);
        int fetched = reach == MaximumLength ? Math.Min(cpu.Memory.TryFetch(rip, _reader.Buffer), reach) : 0;
        uint error = 0;
        bool whole = fetched == 0;
        if (whole)
        {
            fetched = cpu.Memory.Fetch(rip, _reader.Buffer.AsSpan(0, reach), out error);
            if (fetched == 0)
            {
                cpu.Raise(14, error, rip);
                return false;
            }
        }

        Decoder decoder = cpu.Compatibility ? _compatibility32 : _long64;
        Code code = Decode(decoder, rip, fetched, out Instruction instruction);
        if (code == Code.INVALID && !whole && fetched < reach)
        {
            // It may run into the next page.
            fetched = cpu.Memory.Fetch(rip, _reader.Buffer.AsSpan(0, reach), out error);
            code = Decode(decoder, rip, fetched, out instruction);
        }

        if (code == Code.INVALID)
        {
            RaiseInvalid(ref cpu, _reader.Buffer.AsSpan(0, fetched), error);
            return false;
        }

        ref readonly OpTable.Form form = ref _table.Find(code);
        Fill(ref op, in instruction, cpu.Compatibility);
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
        Code code = instruction.Code;
        return code is Code.Vmread_rm64_r64 or Code.Vmread_rm32_r32 && _amd ? Code.INVALID : code;
    }

    /// <summary>A byte that cannot be fetched is #PF, more than fifteen bytes #GP(0), everything else #UD.</summary>
    [Spec("SDM", "vol.3A 6.15 Exception and Interrupt Reference: Interrupt 6 (#UD), Interrupt 13 (instruction longer than 15 bytes), Interrupt 14 (fetch)")]
    private void RaiseInvalid(ref CpuState cpu, ReadOnlySpan<byte> bytes, uint error)
    {
        int length = LengthDecoder.Measure(bytes, !cpu.Compatibility, _amd, _evex, cpu.Profile.Has("XOP"));
        Refused = length;
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
    [Spec("SDM", "vol.3A 5.3 Limit Checking (a limit of FFFFFFFFH: implementation-specific)")]
    [Spec("APM", "vol.2 4.12.1 Determining Limit Violations (any part of an instruction)")]
    [Spec("x86-readings", "segment-end")]
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
    [Spec("APM", "vol.3 XCHG (opcode 90 with REX.B); app. A Table A-1 Primary Opcode Map")]
    [Spec("x86-readings", "pause-rex-b")]
    private void ExchangeWithR8(ref MicroOp op, ReadOnlySpan<byte> bytes)
    {
        bool wide = (bytes[^2] & 8) != 0;
        Code code = wide ? Code.Xchg_r64_RAX : bytes.Contains((byte)0x66) ? Code.Xchg_r16_AX : Code.Xchg_r32_EAX;
        op.Code = (ushort)code;
        op.Execute = _table.Find(code).Register;
        op.Destination = 8 * 8;
        op.Source = Gpr.Rax;
    }

    private static void Fill(ref MicroOp op, in Instruction instruction, bool compatibility)
    {
        op = default;
        op.Code = (ushort)instruction.Code;
        op.Length = (byte)instruction.Length;
        op.Base = RegisterFile.ZeroOffset;
        op.Index = RegisterFile.ZeroOffset;
        op.AddressMask = compatibility ? uint.MaxValue : ulong.MaxValue;
        op.Segment = EffectiveSegment(instruction.SegmentPrefix, Seg.Ds, compatibility);
        op.Flags = (instruction.HasRepPrefix ? OpFlags.Rep : OpFlags.None)
            | (instruction.HasRepnePrefix ? OpFlags.Repne : OpFlags.None)
            | (instruction.HasLockPrefix ? OpFlags.Lock : OpFlags.None);

        // A random stream defeats branch prediction, so registers are taken without asking which operands there are: Iced gives None for the others.
        op.Destination = Registers[(int)instruction.Op0Register].Offset;
        op.Source = Registers[(int)instruction.Op1Register].Offset;
        op.Third = Registers[(int)instruction.Op2Register].Offset;
        uint kinds = (uint)instruction.Op0Kind | ((uint)instruction.Op1Kind << 8) | ((uint)instruction.Op2Kind << 16) | ((uint)instruction.Op3Kind << 24);
        for (; kinds != 0; kinds >>= 8)
        {
            OpKind kind = (OpKind)(kinds & 0xff);
            if (kind == OpKind.Memory)
            {
                SetMemory(ref op, in instruction, compatibility);
            }
            else if (kind != OpKind.Register)
            {
                SetOther(ref op, kind, in instruction, compatibility);
            }
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
        // Iced has added the next instruction's address to a displacement from RIP already; RIP has the offset of the register that is zero.
        RegisterFacts from = Registers[(int)instruction.MemoryBase];
        RegisterFacts index = Registers[(int)instruction.MemoryIndex];
        op.Flags |= OpFlags.Memory;
        op.Displacement = instruction.MemoryDisplacement64;
        op.Segment = EffectiveSegment(instruction.SegmentPrefix, from.Segment, compatibility);
        op.Base = from.InAddress;
        op.Index = index.InAddress;
        op.Scale = (byte)BitOperations.Log2((uint)instruction.MemoryIndexScale);
        op.AddressMask = from.AddressMask | index.AddressMask;
        if (op.AddressMask == 0)
        {
            op.AddressMask = DisplacementMask(instruction.MemoryDisplSize, compatibility);
        }
    }

    /// <summary>RSP and RBP bases use SS. In 64-bit mode ES, CS, SS and DS overrides are null prefixes.</summary>
    [Spec("SDM", "vol.1 3.4.2.1 Segment Registers in 64-Bit Mode; 3.7.4.1 Segmentation in 64-Bit Mode")]
    private static byte EffectiveSegment(Register prefix, byte byDefault, bool compatibility) =>
        prefix is Register.FS or Register.GS || (compatibility && prefix != Register.None) ? (byte)(prefix - Register.ES) : byDefault;

    /// <summary>Without a register the displacement's size is the address size, except that a 32-bit one is sign-extended in 64-bit addressing.</summary>
    private static ulong DisplacementMask(int displacementSize, bool compatibility) => displacementSize switch
    {
        8 => ulong.MaxValue,
        2 => ushort.MaxValue,
        _ => compatibility || displacementSize == 4 ? uint.MaxValue : ulong.MaxValue,
    };

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
            op.Segment = EffectiveSegment(instruction.SegmentPrefix, Seg.Ds, compatibility);
        }
    }

    private static RegisterFacts[] MakeRegisters()
    {
        RegisterFacts[] facts = new RegisterFacts[Enum.GetValues<Register>().Length];
        foreach (Register register in Enum.GetValues<Register>())
        {
            byte offset = (byte)(register.IsGPR() ? (register.GetFullRegister() - Register.RAX) * 8 : 0);
            facts[(int)register] = new RegisterFacts
            {
                Offset = register switch
                {
                    >= Register.AH and <= Register.BH => (byte)(((register - Register.AH) * 8) + 1),
                    >= Register.ES and <= Register.GS => (byte)(register - Register.ES),
                    >= Register.CR0 and <= Register.CR15 => (byte)(register - Register.CR0),
                    >= Register.DR0 and <= Register.DR15 => (byte)(register - Register.DR0),
                    _ => offset,
                },
                InAddress = register.IsGPR() ? offset : RegisterFile.ZeroOffset,
                Segment = register is Register.RSP or Register.RBP or Register.ESP or Register.EBP or Register.BP ? Seg.Ss : Seg.Ds,
                AddressMask = register switch
                {
                    (>= Register.RAX and <= Register.R15) or Register.RIP => ulong.MaxValue,
                    (>= Register.EAX and <= Register.R15D) or Register.EIP => uint.MaxValue,
                    >= Register.AX and <= Register.R15W => ushort.MaxValue,
                    _ => 0,
                },
            };
        }

        return facts;
    }

    /// <summary>What a register is as an operand and in an address.</summary>
    private struct RegisterFacts
    {
        /// <summary>Mask of an effective address made with it; 0 when it makes none.</summary>
        public ulong AddressMask;

        /// <summary>As an operand: byte offset in <see cref="RegisterFile"/>, or the number of a segment, control or debug register.</summary>
        public byte Offset;

        /// <summary>As a base or index: byte offset in <see cref="RegisterFile"/>.</summary>
        public byte InAddress;

        /// <summary>As a base: the segment that it uses by default.</summary>
        public byte Segment;
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
