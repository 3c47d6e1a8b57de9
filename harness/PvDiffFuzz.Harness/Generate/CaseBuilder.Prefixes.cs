using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Generate;

/// <content>Prefixes that an instruction does not need.</content>
internal partial class CaseBuilder
{
    private const byte Lock = 0xf0;

    /// <summary>Puts prefixes in front.</summary>
    /// <returns>Bytes written to <paramref name="destination"/>, at most 20.</returns>
    private int AddPrefixes(FormTemplate template, in OperandChoice choice, Span<byte> destination)
    {
        int kind = _random.Below(100);
        switch (kind)
        {
            case < 30:
                return SafePrefixRun(template, in choice, destination, 1);
            case < 42:
                return SafePrefixRun(template, in choice, destination, 2 + _random.Below(3));
            case < 60:
                if (template.CanLock && choice.IsMemory && Aligned(template, in choice))
                {
                    destination[0] = Lock;
                    return 1;
                }

                return SafePrefixRun(template, in choice, destination, 1);
            case < 62:
                destination[0] = Lock;
                return template.CanLock && choice.IsMemory ? 0 : 1;
            case < 78:
                return IgnoredRex(template, in choice, destination);
            case < 90:
                return RepeatPrefix(template, destination);
            case < 93:
                destination[0] = 0x66;
                return template.BranchBytes != 0 ? 1 : 0;
            default:
                return Pad(template, in choice, destination, kind < 98 ? CodeSplitter.MaximumInstructionLength : CodeSplitter.MaximumInstructionLength + 1 + _random.Below(2));
        }
    }

    /// <summary>True when a locked access stays within a cache line as far as can be told.</summary>
    private bool Aligned(FormTemplate template, in OperandChoice choice)
    {
        int at = choice.Memory.Base;
        if (choice.Memory.Index != MemoryOperand.None || choice.Memory.Base == MemoryOperand.Rip || at < 0 || !IsKnown(at))
        {
            return choice.Memory.Base == MemoryOperand.Rip && (_ripTarget & (ulong)(template.MemoryBytes - 1)) == 0;
        }

        return ((_value[at] + (ulong)choice.Memory.Displacement) & (ulong)(template.MemoryBytes - 1)) == 0;
    }

    private int SafePrefixRun(FormTemplate template, in OperandChoice choice, Span<byte> destination, int count)
    {
        int at = 0;
        for (int i = 0; i < count; i++)
        {
            byte prefix = SafePrefix(template, in choice);
            if (prefix != 0)
            {
                destination[at++] = prefix;
            }
        }

        return at;
    }

    /// <summary>A prefix that changes nothing, or 0.</summary>
    private byte SafePrefix(FormTemplate template, in OperandChoice choice)
    {
        ulong bits = _random.Next();
        SafePrefixes safe = template.SafePrefix;
        bool memory = choice.IsMemory || template.IsString || template.AbsoluteAddress;
        switch (bits & 3)
        {
            case 0 when (safe & SafePrefixes.OperandSize) != 0:
                return 0x66;
            case 1 when (safe & SafePrefixes.AddressSize) != 0 && !memory:
                return 0x67;
            default:
                // CS, DS, ES and SS overrides are ignored in 64-bit mode; in 32-bit mode all but CS stores go to the same flat segment.
                if ((safe & SafePrefixes.Segment) == 0 || choice.SegmentPrefix != 0)
                {
                    return 0;
                }

                return ((bits >> 8) & 7) switch
                {
                    0 => 0x26,
                    1 => 0x36,
                    2 => Long64 || !memory ? (byte)0x2e : (byte)0x3e,
                    3 => memory ? (byte)0x3e : FsPrefix,
                    4 => memory ? (byte)0x3e : GsPrefix,
                    _ => 0x3e,
                };
        }
    }

    /// <summary>A REX byte that another prefix follows, so that it means nothing.</summary>
    private int IgnoredRex(FormTemplate template, in OperandChoice choice, Span<byte> destination)
    {
        if (!Long64 || template.Space != OpcodeSpace.Legacy)
        {
            return 0;
        }

        byte prefix = SafePrefix(template, in choice);
        if (prefix == 0)
        {
            return 0;
        }

        destination[0] = (byte)(0x40 | (_random.Next() & 15));
        destination[1] = prefix;
        return 2;
    }

    /// <summary>REP or REPNE in front of something that does not repeat.</summary>
    private int RepeatPrefix(FormTemplate template, Span<byte> destination)
    {
        bool rep = (_random.Next() & 1) == 0;
        if ((template.SafePrefix & (rep ? SafePrefixes.Rep : SafePrefixes.Repne)) == 0)
        {
            return 0;
        }

        destination[0] = rep ? (byte)0xf3 : (byte)0xf2;
        return 1;
    }

    /// <summary>Pads the instruction to a length: 15 is the most that a processor accepts.</summary>
    private int Pad(FormTemplate template, in OperandChoice choice, Span<byte> destination, int length)
    {
        Span<byte> trial = stackalloc byte[TemplateEncoder.MaximumLength];
        int own = TemplateEncoder.Encode(template, in choice, trial, out _);
        if (template.Space != OpcodeSpace.Legacy || (template.SafePrefix & SafePrefixes.Segment) == 0 || choice.SegmentPrefix != 0)
        {
            return 0;
        }

        byte prefix = (template.SafePrefix & SafePrefixes.OperandSize) != 0 && (_random.Next() & 1) == 0 ? (byte)0x66 : (byte)0x3e;
        int count = Math.Max(0, length - own);
        destination[..count].Fill(prefix);
        return count;
    }
}
