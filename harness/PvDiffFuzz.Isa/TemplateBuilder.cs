using Iced.Intel;
using PvDiffFuzz.Core;
using Register = Iced.Intel.Register;

namespace PvDiffFuzz.Isa;

/// <summary>Builds templates from Iced's tables and checks each by decoding what it encodes.</summary>
internal static class TemplateBuilder
{
    /// <summary>Two registers that no form implies together; what both encodings touch is implied.</summary>
    private const byte FirstProbe = 3;
    private const byte SecondProbe = 6;

    /// <summary>Makes the template of a form.</summary>
    /// <returns>Null when the encoding does not decode to the form in this mode with default options.</returns>
    public static FormTemplate? Build(OpCodeInfo info, CpuMode mode)
    {
        FormTemplate template = Layout(info, mode);
        byte[] buffer = new byte[TemplateEncoder.MaximumLength];
        if (!Probe(template, FirstProbe, memory: template.RmField == RmField.Memory, buffer, out Instruction first)
            || !Probe(template, SecondProbe, memory: template.RmField == RmField.Memory, buffer, out Instruction second))
        {
            return null;
        }

        Describe(template, info, in first, in second);
        if (template.RmField == RmField.Either)
        {
            if (!Probe(template, FirstProbe, memory: true, buffer, out Instruction withMemory))
            {
                return null;
            }

            template.MemoryBytes = Math.Max(1, withMemory.MemorySize.GetSize());
            template.MemoryAccess = RmOf(info, in withMemory);
        }

        template.SafePrefix = FindSafePrefixes(template, buffer);
        return template;
    }

    private static bool Probe(FormTemplate template, byte register, bool memory, byte[] buffer, out Instruction instruction)
    {
        OperandChoice choice = new()
        {
            Reg = template.RegField == RegField.Segment ? (byte)3 : template.RegField is RegField.Control ? (byte)0 : register,
            Rm = register,
            OpcodeReg = register,
            Vvvv = register,
            IsMemory = memory,
            Memory = new MemoryOperand((sbyte)register, MemoryOperand.None, 0, 0),
            Immediate = 0x11,
        };
        int length = TemplateEncoder.Encode(template, in choice, buffer, out _);
        instruction = Decode(buffer.AsSpan(0, length).ToArray(), template.Mode);
        return instruction.Code == template.Code && instruction.Length == length;
    }

    private static Instruction Decode(byte[] bytes, CpuMode mode) =>
        Decoder.Create(mode == CpuMode.Long64 ? 64 : 32, new ByteArrayCodeReader(bytes)).Decode();

    private static FormTemplate Layout(OpCodeInfo info, CpuMode mode)
    {
        bool legacy = info.Encoding == EncodingKind.Legacy;
        (uint opcode, int length) = Opcode(info, legacy);
        RegField regField = info.IsGroup ? RegField.Digit : RegField.None;
        RmField rmField = info.IsGroup ? RmField.Either : RmField.None;
        byte regBits = 0;
        byte rmBits = 0;
        byte opcodeRegBits = 0;
        byte vvvvBits = 0;
        byte immediate = 0;
        byte second = 0;
        byte branch = 0;
        bool absolute = false;
        for (int i = 0; i < info.OpCount; i++)
        {
            OpCodeOperandKind kind = info.GetOpKind(i);
            switch (kind)
            {
                case OpCodeOperandKind.mem:
                    rmField = RmField.Memory;
                    break;
                case OpCodeOperandKind.r8_or_mem or OpCodeOperandKind.r16_or_mem or OpCodeOperandKind.r32_or_mem or OpCodeOperandKind.r64_or_mem:
                    (rmField, rmBits) = (RmField.Either, Bits(kind));
                    break;
                case OpCodeOperandKind.r16_rm or OpCodeOperandKind.r32_rm or OpCodeOperandKind.r64_rm:
                    (rmField, rmBits) = (RmField.Register, Bits(kind));
                    break;
                case OpCodeOperandKind.r8_reg or OpCodeOperandKind.r16_reg or OpCodeOperandKind.r32_reg or OpCodeOperandKind.r64_reg
                    or OpCodeOperandKind.r16_reg_mem or OpCodeOperandKind.r32_reg_mem or OpCodeOperandKind.r64_reg_mem:
                    (regField, regBits) = (RegField.General, Bits(kind));
                    break;
                case OpCodeOperandKind.seg_reg:
                    regField = RegField.Segment;
                    break;
                case OpCodeOperandKind.cr_reg:
                    regField = RegField.Control;
                    break;
                case OpCodeOperandKind.dr_reg:
                    regField = RegField.Debug;
                    break;
                case OpCodeOperandKind.r8_opcode or OpCodeOperandKind.r16_opcode or OpCodeOperandKind.r32_opcode or OpCodeOperandKind.r64_opcode:
                    opcodeRegBits = Bits(kind);
                    break;
                case OpCodeOperandKind.r32_vvvv or OpCodeOperandKind.r64_vvvv:
                    vvvvBits = Bits(kind);
                    break;
                case OpCodeOperandKind.mem_offs:
                    absolute = true;
                    break;
                case OpCodeOperandKind.imm8 or OpCodeOperandKind.imm8sex16 or OpCodeOperandKind.imm8sex32 or OpCodeOperandKind.imm8sex64:
                    if (immediate == 0)
                    {
                        immediate = 1;
                    }
                    else
                    {
                        second = 1;
                    }

                    break;
                case OpCodeOperandKind.imm16:
                    immediate = 2;
                    break;
                case OpCodeOperandKind.imm32 or OpCodeOperandKind.imm32sex64:
                    immediate = 4;
                    break;
                case OpCodeOperandKind.imm64:
                    immediate = 8;
                    break;
                case OpCodeOperandKind.br16_1 or OpCodeOperandKind.br32_1 or OpCodeOperandKind.br64_1:
                    branch = 1;
                    break;
                case OpCodeOperandKind.br16_2 or OpCodeOperandKind.xbegin_2 or OpCodeOperandKind.brdisp_2:
                    branch = 2;
                    break;
                case OpCodeOperandKind.br32_4 or OpCodeOperandKind.br64_4 or OpCodeOperandKind.xbegin_4 or OpCodeOperandKind.brdisp_4:
                    branch = 4;
                    break;
                case OpCodeOperandKind.farbr2_2:
                    (immediate, second) = (2, 2);
                    break;
                case OpCodeOperandKind.farbr4_2:
                    (immediate, second) = (4, 2);
                    break;
            }
        }

        if (info.IsRmGroup && rmField == RmField.None)
        {
            rmField = RmField.Register;
        }

        bool long64 = mode == CpuMode.Long64;
        return new FormTemplate
        {
            Code = info.Code,
            Mode = mode,
            Family = Families.Of(info),
            Space = legacy ? OpcodeSpace.Legacy : info.Encoding == EncodingKind.VEX ? OpcodeSpace.Vex : OpcodeSpace.Xop,
            MandatoryPrefix = info.MandatoryPrefix switch
            {
                MandatoryPrefix.P66 => 0x66,
                MandatoryPrefix.PF2 => 0xf2,
                MandatoryPrefix.PF3 => 0xf3,
                _ => 0,
            },
            Opcode = opcode,
            OpcodeLength = length,
            Map = Map(info.Table),
            OperandSizePrefix = legacy && info.OperandSize == 16,
            AddressSizePrefix = info.AddressSize != 0 && info.AddressSize != (long64 ? 64 : 32),
            Wide = legacy ? long64 && info.OperandSize == 64 && !info.DefaultOpSize64 && !info.ForceOpSize64 : info.W == 1,
            RegField = regField,
            Digit = info.IsGroup ? (byte)info.GroupIndex : (byte)0,
            RegBits = regBits,
            RmField = rmField,
            RmBits = rmBits,
            OpcodeRegBits = opcodeRegBits,
            VvvvBits = vvvvBits,
            ImmediateBytes = immediate,
            SecondBytes = second,
            BranchBytes = branch,
            AbsoluteAddress = absolute,
            CanLock = info.CanUseLockPrefix,
            IsString = info.Code.IsStringInstruction(),
            CanRepeat = info.CanUseRepPrefix || info.CanUseRepnePrefix,
            Flow = info.Code.FlowControl(),
            Features = [.. info.Code.CpuidFeatures().Select(f => f.ToString())],
        };
    }

    private static (uint Opcode, int Length) Opcode(OpCodeInfo info, bool legacy)
    {
        uint opcode = 0;
        int length = 0;
        if (legacy)
        {
            ReadOnlySpan<byte> escape = info.Table switch
            {
                OpCodeTableKind.T0F => [0x0f],
                OpCodeTableKind.T0F38 => [0x0f, 0x38],
                OpCodeTableKind.T0F3A => [0x0f, 0x3a],
                _ => [],
            };
            foreach (byte b in escape)
            {
                opcode |= (uint)b << (8 * length++);
            }
        }

        for (int i = info.OpCodeLength - 1; i >= 0; i--)
        {
            opcode |= ((info.OpCode >> (i * 8)) & 0xff) << (8 * length++);
        }

        return (opcode, length);
    }

    private static byte Map(OpCodeTableKind table) => table switch
    {
        OpCodeTableKind.T0F => 1,
        OpCodeTableKind.T0F38 => 2,
        OpCodeTableKind.T0F3A => 3,
        OpCodeTableKind.MAP8 => 8,
        OpCodeTableKind.MAP9 => 9,
        OpCodeTableKind.MAP10 => 10,
        _ => 0,
    };

    private static byte Bits(OpCodeOperandKind kind)
    {
        string name = kind.ToString();
        return byte.Parse(name.AsSpan(1, name.IndexOf('_', StringComparison.Ordinal) - 1));
    }

    private static void Describe(FormTemplate template, OpCodeInfo info, in Instruction first, in Instruction second)
    {
        InstructionInfoFactory factory = new();
        InstructionInfo facts = factory.GetInfo(in first);
        for (int i = 0; i < info.OpCount; i++)
        {
            Access access = AccessOf(facts.GetOpAccess(i));
            switch (info.GetOpKind(i))
            {
                case OpCodeOperandKind.mem:
                    template.MemoryAccess = access;
                    template.MemoryBytes = Math.Max(1, first.MemorySize.GetSize());
                    break;
                case OpCodeOperandKind.r8_or_mem or OpCodeOperandKind.r16_or_mem or OpCodeOperandKind.r32_or_mem or OpCodeOperandKind.r64_or_mem
                    or OpCodeOperandKind.r16_rm or OpCodeOperandKind.r32_rm or OpCodeOperandKind.r64_rm:
                    template.RmAccess = access;
                    break;
                case OpCodeOperandKind.r8_opcode or OpCodeOperandKind.r16_opcode or OpCodeOperandKind.r32_opcode or OpCodeOperandKind.r64_opcode:
                    template.OpcodeRegAccess = access;
                    break;
                case OpCodeOperandKind.r32_vvvv or OpCodeOperandKind.r64_vvvv:
                    template.VvvvAccess = access;
                    break;
                case OpCodeOperandKind.mem_offs:
                    template.MemoryAccess = access;
                    template.MemoryBytes = Math.Max(1, first.MemorySize.GetSize());
                    break;
                case OpCodeOperandKind.r8_reg or OpCodeOperandKind.r16_reg or OpCodeOperandKind.r32_reg or OpCodeOperandKind.r64_reg
                    or OpCodeOperandKind.r16_reg_mem or OpCodeOperandKind.r32_reg_mem or OpCodeOperandKind.r64_reg_mem:
                    template.RegAccess = access;
                    break;
            }
        }

        if (template.IsString)
        {
            template.MemoryBytes = Math.Max(1, first.MemorySize.GetSize());
        }

        (ushort read, ushort written) = Touched(factory, in first);
        (ushort alsoRead, ushort alsoWritten) = Touched(factory, in second);
        template.ImplicitRead = (ushort)(read & alsoRead);
        template.ImplicitWrite = (ushort)(written & alsoWritten);
        template.StackDelta = first.StackPointerIncrement;
        template.FlagsRead = IcedFlags.ToRflags(first.RflagsRead);
        template.FlagsUndefined = IcedFlags.ToRflags(first.RflagsUndefined);
        template.FlagsDefined = IcedFlags.ToRflags(first.RflagsWritten | first.RflagsCleared | first.RflagsSet);
    }

    private static Access RmOf(OpCodeInfo info, in Instruction instruction)
    {
        InstructionInfo facts = new InstructionInfoFactory().GetInfo(in instruction);
        for (int i = 0; i < info.OpCount; i++)
        {
            if (instruction.GetOpKind(i) == OpKind.Memory)
            {
                return AccessOf(facts.GetOpAccess(i));
            }
        }

        return Access.None;
    }

    private static (ushort Read, ushort Written) Touched(InstructionInfoFactory factory, in Instruction instruction)
    {
        int read = 0;
        int written = 0;
        foreach (UsedRegister used in factory.GetInfo(in instruction).GetUsedRegisters())
        {
            Register full = used.Register.GetFullRegister();
            if (full is < Register.RAX or > Register.R15)
            {
                continue;
            }

            Access access = AccessOf(used.Access);
            read |= (access & Access.Read) != 0 ? 1 << (full - Register.RAX) : 0;
            written |= (access & Access.Write) != 0 ? 1 << (full - Register.RAX) : 0;
        }

        return ((ushort)read, (ushort)written);
    }

    private static Access AccessOf(OpAccess access) => access switch
    {
        OpAccess.Read or OpAccess.CondRead => Access.Read,
        OpAccess.Write or OpAccess.CondWrite => Access.Write,
        OpAccess.ReadWrite or OpAccess.ReadCondWrite => Access.Read | Access.Write,
        _ => Access.None,
    };

    private static SafePrefixes FindSafePrefixes(FormTemplate template, byte[] buffer)
    {
        SafePrefixes safe = SafePrefixes.None;
        OperandChoice choice = new() { Reg = 3, Rm = 3, OpcodeReg = 3, Vvvv = 3, Immediate = 0x11, IsMemory = template.RmField == RmField.Memory, Memory = new MemoryOperand(3, -1, 0, 0) };
        if (template.RegField == RegField.Control)
        {
            choice.Reg = 0;
        }

        int length = TemplateEncoder.Encode(template, in choice, buffer, out _);
        ReadOnlySpan<(SafePrefixes Kind, byte Prefix)> candidates =
        [
            (SafePrefixes.OperandSize, 0x66), (SafePrefixes.AddressSize, 0x67), (SafePrefixes.Repne, 0xf2), (SafePrefixes.Rep, 0xf3), (SafePrefixes.Segment, 0x3e),
        ];
        foreach ((SafePrefixes kind, byte prefix) in candidates)
        {
            Instruction decoded = Decode([prefix, .. buffer.AsSpan(0, length)], template.Mode);
            if (decoded.Code == template.Code && decoded.Length == length + 1)
            {
                safe |= kind;
            }
        }

        if (template.Mode == CpuMode.Long64 && template.Space == OpcodeSpace.Legacy && template.RegBits != 8 && template.RmBits != 8 && template.OpcodeRegBits != 8)
        {
            choice.Rex = 0x40;
            int withRex = TemplateEncoder.Encode(template, in choice, buffer, out _);
            if (Decode(buffer.AsSpan(0, withRex).ToArray(), template.Mode).Code == template.Code)
            {
                safe |= SafePrefixes.Rex;
            }
        }

        return safe;
    }
}
