using System.Numerics;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Instructions;

/// <summary>RDTSC, RDTSCP, RDPID, RDRAND, RDSEED, RDPRU, XGETBV, CPUID and, without UMIP, SGDT, SIDT, SLDT, STR and SMSW: what differs from host to host.</summary>
/// <remarks>
/// The profile states what is read, see <see cref="CpuProfile.Readings"/>; a form whose reading it does not state ends the case as unsupported. Assumes CR4.TSD
/// clear and CPUID faulting off. Only RDRAND and RDSEED change flags: CF is set, the other five cleared.
/// </remarks>
internal static unsafe class HostReadings
{
    /// <summary>First leaf of the extended range of CPUID.</summary>
    private const uint ExtendedLeaves = 0x8000_0000;

    /// <summary>Adds this family's rows.</summary>
    public static void Register(OpTable table, CpuProfile profile)
    {
        // SAFETY: only addresses of managed static methods are taken.
        table.Add(Code.Rdtsc, &ReadTime);
        table.Add(Code.Rdtscp, &ReadTimeAndProcessor);
        table.Add(Code.Rdpid_r32, &ReadProcessor);
        table.Add(Code.Rdpid_r64, &ReadProcessor);
        table.Add(Code.Rdrand_r16, &ReadRandom<ushort>);
        table.Add(Code.Rdrand_r32, &ReadRandom<uint>);
        table.Add(Code.Rdrand_r64, &ReadRandom<ulong>);
        table.Add(Code.Rdseed_r16, &ReadRandom<ushort>);
        table.Add(Code.Rdseed_r32, &ReadRandom<uint>);
        table.Add(Code.Rdseed_r64, &ReadRandom<ulong>);
        table.Add(Code.Rdpru, &ReadCycles);
        table.Add(Code.Cpuid, &Identify);
        if (profile.Has("OSXSAVE"))
        {
            table.Add(Code.Xgetbv, &GetExtendedControl);
        }
        else
        {
            table.Add(Code.Xgetbv, &OpTable.Undefined);
        }

        if (profile.Has("UMIP"))
        {
            foreach (Mnemonic mnemonic in (ReadOnlySpan<Mnemonic>)[Mnemonic.Sgdt, Mnemonic.Sidt, Mnemonic.Sldt, Mnemonic.Str, Mnemonic.Smsw])
            {
                table.AddAll(mnemonic, &OpTable.Privileged);
            }
        }
        else
        {
            table.AddAll(Mnemonic.Sgdt, &StoreTable);
            table.AddAll(Mnemonic.Sidt, &StoreTable);
            table.AddAll(Mnemonic.Sldt, &StoreWord);
            table.AddAll(Mnemonic.Str, &StoreWord);
            table.AddAll(Mnemonic.Smsw, &StoreWord);
        }
    }

    /// <summary>Finds a reading, or ends the case.</summary>
    private static bool Get(ref CpuState cpu, in MicroOp op, Reading reading, out ulong value)
    {
        if (cpu.Profile.Readings.TryGetValue(reading, out value))
        {
            return true;
        }

        OpTable.NotModelled(ref cpu, in op);
        return false;
    }

    /// <summary>EDX:EAX, whose upper halves are cleared.</summary>
    private static void WritePair(ref CpuState cpu, ulong value)
    {
        cpu.Write(Gpr.Rax, (uint)value);
        cpu.Write(Gpr.Rdx, (uint)(value >> 32));
    }

    [Spec("SDM", "vol.2B RDTSC")]
    [Spec("APM", "vol.3 RDTSC")]
    private static void ReadTime(ref CpuState cpu, in MicroOp op)
    {
        if (Get(ref cpu, in op, Reading.TimeStamp, out ulong time))
        {
            WritePair(ref cpu, time);
        }
    }

    [Spec("SDM", "vol.2B RDTSCP")]
    [Spec("APM", "vol.3 RDTSCP")]
    private static void ReadTimeAndProcessor(ref CpuState cpu, in MicroOp op)
    {
        if (Get(ref cpu, in op, Reading.TimeStamp, out ulong time) && Get(ref cpu, in op, Reading.ProcessorNumber, out ulong processor))
        {
            WritePair(ref cpu, time);
            cpu.Write(Gpr.Rcx, (uint)processor);
        }
    }

    /// <summary>The register is a whole one in 64-bit mode whatever the operand size.</summary>
    [Spec("SDM", "vol.2B RDPID")]
    [Spec("APM", "vol.3 RDPID")]
    private static void ReadProcessor(ref CpuState cpu, in MicroOp op)
    {
        if (Get(ref cpu, in op, Reading.ProcessorNumber, out ulong processor))
        {
            cpu.Write(op.Destination, (uint)processor);
        }
    }

    /// <summary>CF set says that there was a number.</summary>
    [Spec("SDM", "vol.2B RDRAND; RDSEED")]
    [Spec("APM", "vol.3 RDRAND; RDSEED")]
    private static void ReadRandom<T>(ref CpuState cpu, in MicroOp op)
        where T : unmanaged, IBinaryInteger<T>
    {
        if (Get(ref cpu, in op, Reading.Random, out ulong random))
        {
            cpu.Write(op.Destination, T.CreateTruncating(random));
            cpu.Status = Flags.Carry;
        }
    }

    /// <summary>ECX names the counter; a number that does not exist reads 0.</summary>
    [Spec("APM", "vol.3 RDPRU")]
    private static void ReadCycles(ref CpuState cpu, in MicroOp op)
    {
        ulong cycles = 0;
        uint counter = cpu.Read<uint>(Gpr.Rcx);
        if (counter > 1 || Get(ref cpu, in op, counter == 0 ? Reading.MaximumCycles : Reading.ActualCycles, out cycles))
        {
            WritePair(ref cpu, cycles);
        }
    }

    /// <summary>A register number that does not exist is #GP(0).</summary>
    [Spec("SDM", "vol.2C XGETBV")]
    [Spec("APM", "vol.4 XGETBV")]
    private static void GetExtendedControl(ref CpuState cpu, in MicroOp op)
    {
        uint number = cpu.Read<uint>(Gpr.Rcx);
        if (number > 1)
        {
            cpu.Raise(13);
        }
        else if (Get(ref cpu, in op, number == 0 ? Reading.Xcr0 : Reading.InUse, out ulong value))
        {
            WritePair(ref cpu, value);
        }
    }

    /// <summary>The upper halves of all four registers are cleared.</summary>
    [Spec("SDM", "vol.2A CPUID")]
    [Spec("APM", "vol.3 CPUID")]
    private static void Identify(ref CpuState cpu, in MicroOp op)
    {
        if (cpu.Profile.Cpuid.IsEmpty)
        {
            OpTable.NotModelled(ref cpu, in op);
            return;
        }

        cpu.Shown |= HostView.Identity;
        CpuidLeaf found = Answer(cpu.Profile, cpu.Read<uint>(Gpr.Rax), cpu.Read<uint>(Gpr.Rcx));
        cpu.Write(Gpr.Rax, found.Eax);
        cpu.Write(Gpr.Rbx, found.Ebx);
        cpu.Write(Gpr.Rcx, found.Ecx);
        cpu.Write(Gpr.Rdx, found.Edx);
    }

    /// <summary>Above its highest leaf, basic or extended, Intel answers as for the highest basic one; AMD, and both below it, answer 0.</summary>
    [Spec("SDM", "vol.2A CPUID (leaf above the maximum input value)")]
    [Spec("APM", "vol.3 CPUID; app. E (undefined function numbers)")]
    private static CpuidLeaf Answer(CpuProfile profile, uint leaf, uint subleaf)
    {
        if (Lookup(profile, leaf, subleaf) is CpuidLeaf exact)
        {
            return exact;
        }

        uint basic = Lookup(profile, 0, 0)?.Eax ?? 0;
        uint extended = Lookup(profile, ExtendedLeaves, 0)?.Eax ?? 0;
        bool within = leaf <= basic || (leaf >= ExtendedLeaves && leaf <= extended);
        return within || profile.Vendor == CpuVendor.Amd ? default : Lookup(profile, basic, subleaf) ?? default;
    }

    private static CpuidLeaf? Lookup(CpuProfile profile, uint leaf, uint subleaf)
    {
        foreach (CpuidLeaf row in profile.Cpuid)
        {
            if (row.Leaf == leaf && (row.Subleaf ?? subleaf) == subleaf)
            {
                return row;
            }
        }

        return null;
    }

    /// <summary>A limit of 16 bits, then a base of 64 bits, in compatibility mode of 32 whatever the operand size.</summary>
    [Spec("SDM", "vol.2B SGDT; vol.2B SIDT")]
    [Spec("APM", "vol.3 SGDT; SIDT")]
    private static void StoreTable(ref CpuState cpu, in MicroOp op)
    {
        bool interrupts = op.Form.Mnemonic() == Mnemonic.Sidt;
        ulong limit = cpu.Profile.GdtLimit;
        if ((interrupts && !Get(ref cpu, in op, Reading.IdtLimit, out limit)) || !Get(ref cpu, in op, interrupts ? Reading.IdtBase : Reading.GdtBase, out ulong where))
        {
            return;
        }

        cpu.Shown |= HostView.Tables;
        int wide = cpu.Compatibility ? sizeof(uint) : sizeof(ulong);
        ulong at = cpu.LinearAddress(in op);
        ulong next = cpu.LinearAddress(in op, sizeof(ushort));
        if (!cpu.CheckStore(at, sizeof(ushort), op.Segment) || !cpu.CheckStore(next, wide, op.Segment))
        {
            return;
        }

        cpu.StoreAt(at, op.Segment, (ushort)limit);
        if (cpu.Compatibility)
        {
            cpu.StoreAt(next, op.Segment, (uint)where);
        }
        else
        {
            cpu.StoreAt(next, op.Segment, where);
        }
    }

    /// <summary>Memory gets 16 bits; a register gets its operand size, selectors zero-extended and CR0 as far as it reaches.</summary>
    [Spec("SDM", "vol.2B SLDT; vol.2B SMSW; vol.2B STR")]
    [Spec("APM", "vol.3 SLDT; SMSW; STR")]
    private static void StoreWord(ref CpuState cpu, in MicroOp op)
    {
        Reading reading = op.Form.Mnemonic() switch
        {
            Mnemonic.Sldt => Reading.LdtSelector,
            Mnemonic.Str => Reading.TaskSelector,
            _ => Reading.Cr0,
        };
        if (!Get(ref cpu, in op, reading, out ulong value))
        {
            return;
        }

        cpu.Shown |= HostView.Tables;
        if ((op.Flags & OpFlags.Memory) != 0)
        {
            cpu.Store(in op, (ushort)value);
            return;
        }

        switch (op.Form)
        {
            case Code.Sldt_rm16 or Code.Str_rm16 or Code.Smsw_rm16:
                cpu.Write(op.Destination, (ushort)value);
                break;
            case Code.Sldt_r32m16 or Code.Str_r32m16 or Code.Smsw_r32m16:
                cpu.Write(op.Destination, (uint)value);
                break;
            default:
                cpu.Write(op.Destination, value);
                break;
        }
    }
}
