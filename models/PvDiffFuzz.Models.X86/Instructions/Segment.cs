using System.Numerics;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>Loads and stores of segment registers, and the instructions that inspect selectors.</summary>
/// <remarks>
/// Descriptors are the profile's; there is no LDT. The inspecting instructions change ZF only, the others no flag. A 16-bit stack segment ends the case as
/// unsupported in compatibility mode.
/// </remarks>
internal static unsafe class Segment
{
    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table, CpuProfile profile)
    {
        // SAFETY: only addresses of managed static methods are taken.
        table.Add(Code.Mov_rm16_Sreg, &StoreReg<ushort>, &StoreMem);
        table.Add(Code.Mov_r32m16_Sreg, &StoreReg<uint>, &StoreMem);
        table.Add(Code.Mov_r64m16_Sreg, &StoreReg<ulong>, &StoreMem);
        table.Add(Code.Mov_Sreg_rm16, &LoadReg, &LoadMem);
        table.Add(Code.Mov_Sreg_r32m16, &LoadReg, &LoadMem);
        table.Add(Code.Mov_Sreg_r64m16, &LoadReg, &LoadMem);
        bool narrow = profile.Vendor == CpuVendor.Intel;
        foreach (Code code in (ReadOnlySpan<Code>)[Code.Pushw_ES, Code.Pushw_CS, Code.Pushw_SS, Code.Pushw_DS, Code.Pushw_FS, Code.Pushw_GS])
        {
            table.Add(code, &Push<ushort>);
        }

        foreach (Code code in (ReadOnlySpan<Code>)[Code.Pushd_ES, Code.Pushd_CS, Code.Pushd_SS, Code.Pushd_DS, Code.Pushd_FS, Code.Pushd_GS])
        {
            if (narrow)
            {
                table.Add(code, &PushNarrow);
            }
            else
            {
                table.Add(code, &Push<uint>);
            }
        }

        table.Add(Code.Pushq_FS, &Push<ulong>);
        table.Add(Code.Pushq_GS, &Push<ulong>);
        foreach (Code code in (ReadOnlySpan<Code>)[Code.Popw_ES, Code.Popw_SS, Code.Popw_DS, Code.Popw_FS, Code.Popw_GS])
        {
            table.Add(code, &Pop<ushort>);
        }

        foreach (Code code in (ReadOnlySpan<Code>)[Code.Popd_ES, Code.Popd_SS, Code.Popd_DS, Code.Popd_FS, Code.Popd_GS])
        {
            table.Add(code, &Pop<uint>);
        }

        table.Add(Code.Popq_FS, &Pop<ulong>);
        table.Add(Code.Popq_GS, &Pop<ulong>);
        foreach (Code code in (ReadOnlySpan<Code>)[Code.Les_r16_m1616, Code.Lds_r16_m1616, Code.Lss_r16_m1616, Code.Lfs_r16_m1616, Code.Lgs_r16_m1616])
        {
            table.Add(code, &LoadPointer<ushort>);
        }

        foreach (Code code in (ReadOnlySpan<Code>)[Code.Les_r32_m1632, Code.Lds_r32_m1632, Code.Lss_r32_m1632, Code.Lfs_r32_m1632, Code.Lgs_r32_m1632])
        {
            table.Add(code, &LoadPointer<uint>);
        }

        table.Add(Code.Lss_r64_m1664, &LoadPointer<ulong>);
        table.Add(Code.Lfs_r64_m1664, &LoadPointer<ulong>);
        table.Add(Code.Lgs_r64_m1664, &LoadPointer<ulong>);
        table.Add(Code.Lar_r16_rm16, &AccessRights<ushort>);
        table.Add(Code.Lar_r32_r32m16, &AccessRights<uint>);
        table.Add(Code.Lar_r64_r64m16, &AccessRights<ulong>);
        table.Add(Code.Lsl_r16_rm16, &SegmentLimit<ushort>);
        table.Add(Code.Lsl_r32_r32m16, &SegmentLimit<uint>);
        table.Add(Code.Lsl_r64_r64m16, &SegmentLimit<ulong>);
        table.AddAll(Mnemonic.Verr, &VerifyRead);
        table.AddAll(Mnemonic.Verw, &VerifyWrite);
        table.Add(Code.Arpl_rm16_r16, &AdjustReg, &AdjustMem);
        table.Add(Code.Arpl_r32m16_r32, &AdjustReg, &AdjustMem);
    }

    /// <summary>A register gets the selector zero-extended to the operand size.</summary>
    [Spec("SDM", "vol.2B MOV (Sreg)")]
    private static void StoreReg<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        cpu.Write(op.Destination, T.CreateTruncating(cpu.Selector[op.Source]));

    /// <summary>Memory gets 16 bits whatever the operand size.</summary>
    [Spec("SDM", "vol.2B MOV (Sreg)")]
    private static void StoreMem(ref CpuState cpu, in MicroOp op) => cpu.Store(in op, cpu.Selector[op.Source]);

    [Spec("SDM", "vol.2B MOV (Sreg)")]
    private static void LoadReg(ref CpuState cpu, in MicroOp op)
    {
        if (op.Destination == Seg.Cs)
        {
            cpu.Raise(6);
        }
        else if (Load(ref cpu, in op, op.Destination, cpu.Read<ushort>(op.Source)))
        {
            Shade(ref cpu, op.Destination);
        }
    }

    [Spec("SDM", "vol.2B MOV (Sreg)")]
    private static void LoadMem(ref CpuState cpu, in MicroOp op)
    {
        if (op.Destination == Seg.Cs)
        {
            cpu.Raise(6);
        }
        else if (cpu.Load(in op, out ushort selector) && Load(ref cpu, in op, op.Destination, selector))
        {
            Shade(ref cpu, op.Destination);
        }
    }

    [Spec("SDM", "vol.2B PUSH")]
    private static void Push<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T> =>
        cpu.Push(T.CreateTruncating(cpu.Selector[op.Destination]));

    /// <summary>Recent Intel processors store 16 bits of a 32-bit slot.</summary>
    [Spec("SDM", "vol.2B PUSH (segment register with a 32-bit operand size)")]
    private static void PushNarrow(ref CpuState cpu, in MicroOp op)
    {
        ulong to = (cpu.StackPointer - sizeof(uint)) & cpu.StackMask;
        if (cpu.StoreAt(to, Seg.Ss, cpu.Selector[op.Destination]))
        {
            cpu.StackPointer = to;
        }
    }

    [Spec("SDM", "vol.2B POP")]
    private static void Pop<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        if (cpu.Peek(out T value) && Load(ref cpu, in op, op.Destination, ushort.CreateTruncating(value)))
        {
            cpu.StackPointer += (uint)sizeof(T);
            Shade(ref cpu, op.Destination);
        }
    }

    /// <summary>The offset comes first in memory. LSS does not shade the next instruction.</summary>
    [Spec("SDM", "vol.2A LDS/LES/LFS/LGS/LSS")]
    private static void LoadPointer<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged
    {
        ulong at = cpu.LinearAddress(in op, (uint)sizeof(T));
        byte segment = op.Form.Mnemonic() switch
        {
            Mnemonic.Les => Seg.Es,
            Mnemonic.Lds => Seg.Ds,
            Mnemonic.Lss => Seg.Ss,
            Mnemonic.Lfs => Seg.Fs,
            _ => Seg.Gs,
        };
        if (cpu.Load(in op, out T offset) && cpu.LoadAt(at, op.Segment, out ushort selector) && Load(ref cpu, in op, segment, selector))
        {
            cpu.Write(op.Destination, offset);
        }
    }

    /// <summary>MOV SS and POP SS hold back the single-step trap until after the next instruction.</summary>
    [Spec("SDM", "vol.3A 6.8.3 Masking Exceptions and Interrupts When Switching Stacks")]
    [Spec("x86-readings", "mov-ss-debug")]
    private static void Shade(ref CpuState cpu, byte segment)
    {
        if (segment == Seg.Ss)
        {
            cpu.Shadow = true;
            cpu.Attention |= Attention.Step;
        }
    }

    /// <summary>Checks a selector and loads ES, SS, DS, FS or GS with it.</summary>
    /// <returns>False after raising a fault or meeting a segment that the model cannot represent.</returns>
    [Spec("SDM", "vol.2B MOV (protected-mode and 64-bit-mode exceptions); vol.3A 5.6 Privilege Level Checking When Accessing Data Segments")]
    private static bool Load(ref CpuState cpu, in MicroOp op, byte segment, ushort selector)
    {
        uint error = selector & 0xfffcu;
        if (error == 0)
        {
            return LoadNull(ref cpu, segment, selector);
        }

        SegmentDescriptor? found = Descriptors.Find(cpu.Profile, selector);
        if (found is not { System: false } || !(segment == Seg.Ss ? FitsStack(in cpu, found, selector) : Descriptors.IsReadable(found) && Reaches(in cpu, found, selector)))
        {
            cpu.Raise(13, error);
            return false;
        }

        if (!found.Present)
        {
            cpu.Raise(segment == Seg.Ss ? (byte)12 : (byte)11, error);
            return false;
        }

        if (cpu.Compatibility && segment == Seg.Ss && !found.Big)
        {
            OpTable.NotModelled(ref cpu, in op);
            return false;
        }

        if (cpu.Compatibility || segment >= Seg.Fs)
        {
            cpu.SegmentBase[segment] = found.Base;
        }

        cpu.Selector[segment] = selector;
        Delivery.UpdateSegment(ref cpu, segment);
        return true;
    }

    /// <summary>SS cannot be null at CPL3. Intel and AMD from Zen on clear the base of FS and GS; older AMD processors keep it.</summary>
    [Spec("SDM", "vol.3A 3.4.4 Segment Loading Instructions in IA-32e Mode")]
    [Spec("APM", "vol.2 4.5.1 Segment Selectors (Null Selector, NullSelectorClearsBase); 4.5.3 Segment Registers in 64-Bit Mode")]
    [Spec("x86-readings", "null-selector-base")]
    private static bool LoadNull(ref CpuState cpu, byte segment, ushort selector)
    {
        if (segment == Seg.Ss)
        {
            cpu.Raise(13);
            return false;
        }

        if (segment >= Seg.Fs && (cpu.Profile.Vendor == CpuVendor.Intel || cpu.Profile.Family >= 23))
        {
            cpu.SegmentBase[segment] = 0;
        }

        cpu.Selector[segment] = selector;
        Delivery.UpdateSegment(ref cpu, segment);
        return true;
    }

    /// <summary>Privilege as for data: a conforming code segment is open to all.</summary>
    private static bool Reaches(in CpuState cpu, SegmentDescriptor descriptor, ushort selector) =>
        Descriptors.IsConforming(descriptor) || descriptor.Dpl >= Math.Max(cpu.Cpl, selector & 3);

    internal static bool FitsStack(in CpuState cpu, SegmentDescriptor descriptor, ushort selector) =>
        (selector & 3) == cpu.Cpl && Descriptors.IsWritable(descriptor) && descriptor.Dpl == cpu.Cpl;

    /// <summary>Finds what LAR, LSL, VERR and VERW may look at: any code or data segment within reach, and the system types that the mask names.</summary>
    private static SegmentDescriptor? Inspect(ref CpuState cpu, in MicroOp op, uint systemTypes)
    {
        ushort selector;
        if ((op.Flags & OpFlags.Memory) == 0)
        {
            selector = cpu.Read<ushort>(op.OneOperand() ? op.Destination : op.Source);
        }
        else if (!cpu.Load(in op, out selector))
        {
            return null;
        }

        cpu.Shown |= HostView.Descriptors;
        SegmentDescriptor? found = Descriptors.Find(cpu.Profile, selector);
        bool visible = found is not null && Reaches(in cpu, found, selector) && (!found.System || (((systemTypes >> found.Type) & 1) != 0 && IsWhole(in cpu, found, selector)));
        return visible ? found : null;
    }

    /// <summary>Descriptors of LDTs and TSSs have 16 bytes: for Intel in 64-bit mode only, for AMD in compatibility mode too. All of them lie within the limit.</summary>
    [Spec("SDM", "vol.3A 3.5.2 Segment Descriptor Tables in IA-32e Mode; 7.2.3 TSS Descriptor in 64-bit mode")]
    [Spec("x86-readings", "system-descriptor-size")]
    private static bool IsWhole(in CpuState cpu, SegmentDescriptor descriptor, ushort selector)
    {
        const int gate = 4;
        bool wide = (descriptor.Type & gate) == 0 && (!cpu.Compatibility || cpu.Profile.Vendor == CpuVendor.Amd);
        return (selector | 7) + (wide ? 8 : 0) <= cpu.Profile.GdtLimit;
    }

    private static bool OneOperand(this in MicroOp op) => op.Form.Mnemonic() is Mnemonic.Verr or Mnemonic.Verw;

    /// <summary>Sets ZF to a verdict, unless reading the operand faulted.</summary>
    /// <returns>The verdict, false after a fault.</returns>
    private static bool Conclude(ref CpuState cpu, bool verdict)
    {
        if (cpu.Pending != PendingKind.None)
        {
            return false;
        }

        cpu.Status = verdict ? cpu.Status | Flags.Zero : cpu.Status & ~Flags.Zero;
        return verdict;
    }

    /// <summary>Bits 23:8 of the descriptor's second doubleword; 19:16, the top of the limit, are undefined by the manuals.</summary>
    [Spec("SDM", "vol.2A LAR")]
    private static void AccessRights<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        const uint types = (1u << 2) | (1u << 9) | (1u << 11) | (1u << 12);
        SegmentDescriptor? found = Inspect(ref cpu, in op, types);
        if (Conclude(ref cpu, found is not null))
        {
            uint limit = found!.Granular ? found.Limit >> 12 : found.Limit;
            uint rights = ((uint)found.Type << 8) | (found.System ? 0 : 1u << 12) | ((uint)found.Dpl << 13) | (found.Present ? 1u << 15 : 0) | (limit & 0xf_0000)
                | (found.Available ? 1u << 20 : 0) | (found.Long ? 1u << 21 : 0) | (found.Big ? 1u << 22 : 0) | (found.Granular ? 1u << 23 : 0);
            cpu.Write(op.Destination, T.CreateTruncating(rights));
        }
    }

    [Spec("SDM", "vol.2A LSL")]
    private static void SegmentLimit<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        SegmentDescriptor? found = Inspect(ref cpu, in op, (1u << 2) | (1u << 9) | (1u << 11));
        if (Conclude(ref cpu, found is not null))
        {
            cpu.Write(op.Destination, T.CreateTruncating(found!.Limit));
        }
    }

    [Spec("SDM", "vol.2C VERR/VERW")]
    private static void VerifyRead(ref CpuState cpu, in MicroOp op)
    {
        SegmentDescriptor? found = Inspect(ref cpu, in op, 0);
        Conclude(ref cpu, found is not null && Descriptors.IsReadable(found));
    }

    [Spec("SDM", "vol.2C VERR/VERW")]
    private static void VerifyWrite(ref CpuState cpu, in MicroOp op)
    {
        SegmentDescriptor? found = Inspect(ref cpu, in op, 0);
        Conclude(ref cpu, found is not null && Descriptors.IsWritable(found));
    }

    [Spec("SDM", "vol.2A ARPL")]
    private static void AdjustReg(ref CpuState cpu, in MicroOp op)
    {
        ushort selector = cpu.Read<ushort>(op.Destination);
        int wanted = cpu.Read<ushort>(op.Source) & 3;
        if (Conclude(ref cpu, (selector & 3) < wanted))
        {
            cpu.Write(op.Destination, (ushort)((selector & ~3) | wanted));
        }
    }

    /// <summary>Memory is written only when the RPL changes.</summary>
    [Spec("SDM", "vol.2A ARPL")]
    private static void AdjustMem(ref CpuState cpu, in MicroOp op)
    {
        int wanted = cpu.Read<ushort>(op.Source) & 3;
        if (cpu.Load(in op, out ushort selector))
        {
            bool raise = (selector & 3) < wanted;
            if (!raise || cpu.Store(in op, (ushort)((selector & ~3) | wanted)))
            {
                Conclude(ref cpu, raise);
            }
        }
    }
}
