using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Loads the system side of a case into a virtual processor by ioctls, and reads it back.</summary>
/// <param name="machine">The machine; its processor is in supervisor mode whenever something is loaded.</param>
/// <param name="host">The host.</param>
internal sealed class VcpuState(Machine machine, PvmHost host)
{
    private const ulong Cr0 = 0x8005_0033; // PG, AM, WP, NE, ET, MP, PE
    private const ulong Cr4 = 0x1_0620; // FSGSBASE, OSXMMEXCPT, OSFXSR, PAE
    private const ulong Smep = 1UL << 20;
    private const ulong Efer = 0xd01; // NXE, LMA, LME, SCE
    private const ulong Dr6 = 0xffff_0ff0;
    private const ulong Dr7 = 0x400;
    private const ulong OtherRoot = 0x3000;
    private const ushort KernelCode = 0x10;

    private KvmSregs? _fresh;
    private KvmMsrEntry[] _msrs = [];

    /// <summary>What the processor had when a case ended, with <see cref="_msrs"/>: whatever the next one has too need not be loaded.</summary>
    private KvmSregs? _now;
    private KvmDebugregs? _debug;

    /// <summary>Says that the machine has a new processor.</summary>
    public void Renewed()
    {
        _fresh = null;
        Forget();
    }

    /// <summary>Says that the guest has run, or that something else has loaded state: what is there is not known until it is read again.</summary>
    public void Forget() => (_now, _debug) = (null, null);

    /// <summary>The same where only the agent has run, which leaves debug registers alone.</summary>
    public void ForgetAllButDebugRegisters() => _now = null;

    /// <summary>Loads control registers, segments and debug registers. STAR changes with them, so MSRs are loaded later.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="gsBase">GS base at the first instruction.</param>
    /// <param name="freshRoots">True to make KVM forget the roots that it has prepared.</param>
    /// <returns>True when KVM keeps its roots: nothing that they depend on had to be loaded.</returns>
    /// <exception cref="KvmException">KVM does not take a value.</exception>
    public bool LoadControl(TestCase testCase, ulong gsBase, bool freshRoots)
    {
        if (_fresh is not KvmSregs sregs)
        {
            machine.Vcpu.GetSregs(out sregs);
            _fresh = sregs;
        }

        SystemState system = testCase.System;
        RegisterState registers = testCase.Registers;
        sregs.Cr0 = Or(system, SystemRegister.Cr0, Cr0);
        sregs.Cr2 = system[SystemRegister.Cr2];
        sregs.Cr3 = system[SystemRegister.Cr3];
        sregs.Cr4 = Or(system, SystemRegister.Cr4, Cr4 | (host.Revision == Abi.PvmRfc1 ? 0 : Smep));
        sregs.Cr8 = system[SystemRegister.Cr8];
        sregs.Efer = Or(system, SystemRegister.Efer, Efer);
        ushort code = (ushort)((system[SystemRegister.Star] >> 32) & 0xfffc);
        sregs.Cs = Flat(code == 0 ? KernelCode : code, code: true);
        sregs.Ss = Flat((ushort)(sregs.Cs.Selector + 8), code: false);
        sregs.Ds = Flat(registers.Ds, code: false);
        sregs.Es = Flat(registers.Es, code: false);
        sregs.Fs = Flat(registers.Fs, code: false) with { Base = registers.FsBase };
        sregs.Gs = Flat(registers.Gs, code: false) with { Base = gsBase };
        bool kept = !freshRoots && _now is KvmSregs now && SameRoots(now, sregs);
        if (kept && SameRest(_now!.Value, sregs))
        {
            return true;
        }

        _now = null;
        if (freshRoots)
        {
            machine.Vcpu.SetSregs(sregs with { Cr3 = OtherRoot });
        }

        machine.Vcpu.SetSregs(in sregs);
        machine.Vcpu.Cr8 = sregs.Cr8;
        return kept;
    }

    /// <summary>Loads debug registers.</summary>
    /// <returns>False when KVM refuses them.</returns>
    public bool LoadDebugRegisters(TestCase testCase)
    {
        DebugRegisters debug = testCase.Registers.Debug ?? new DebugRegisters(0, 0, 0, 0, Or(testCase.System, SystemRegister.Dr7, Dr7));
        KvmDebugregs registers = new() { Db0 = debug.Dr0, Db1 = debug.Dr1, Db2 = debug.Dr2, Db3 = debug.Dr3, Dr6 = Or(testCase.System, SystemRegister.Dr6, Dr6), Dr7 = debug.Dr7 };
        return (_debug is KvmDebugregs now && Same(now, registers)) || machine.Vcpu.TrySetDebugRegisters(in registers) == 0;
    }

    /// <summary>Loads the MSRs of the case, and the bases of FS and GS, as far as they are not there.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="gsBase">GS base at the first instruction.</param>
    public void LoadMsrs(TestCase testCase, ulong gsBase)
    {
        ReadOnlySpan<(SystemRegister Register, uint Index)> all = PvmMsrs.Of(host.Revision);
        Span<KvmMsrEntry> wanted = stackalloc KvmMsrEntry[all.Length + 2];
        int count = 0;
        for (int i = 0; i < all.Length; i++)
        {
            (SystemRegister register, uint index) = all[i];
            ulong value = register == SystemRegister.PvmLinearAddressRange ? host.Range : testCase.System[register];
            if (_now is null || _msrs[i].Data != value)
            {
                wanted[count++] = new KvmMsrEntry { Index = index, Data = value };
            }
        }

        if (_now is not KvmSregs now || now.Fs.Base != testCase.Registers.FsBase)
        {
            wanted[count++] = new KvmMsrEntry { Index = PvmMsrs.FsBase, Data = testCase.Registers.FsBase };
        }

        if (_now is not KvmSregs then || then.Gs.Base != gsBase)
        {
            wanted[count++] = new KvmMsrEntry { Index = PvmMsrs.GsBase, Data = gsBase };
        }

        if (count > 0)
        {
            machine.Vcpu.SetMsrs(wanted[..count]);
        }
    }

    /// <summary>Reads the MSRs of a case, and behind them those by which KVM writes.</summary>
    /// <returns>How many exist.</returns>
    private int ReadMsrs()
    {
        ReadOnlySpan<(SystemRegister Register, uint Index)> all = PvmMsrs.Of(host.Revision);
        if (_msrs.Length == 0)
        {
            _msrs = new KvmMsrEntry[all.Length + host.Writers.Length];
        }

        for (int i = 0; i < _msrs.Length; i++)
        {
            _msrs[i].Index = i < all.Length ? all[i].Index : host.Writers[i - all.Length];
        }

        return machine.Vcpu.GetMsrs(_msrs);
    }

    private bool Writes()
    {
        foreach (KvmMsrEntry entry in _msrs.AsSpan(PvmMsrs.Of(host.Revision).Length))
        {
            if (entry.Data != 0)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>Keeps KVM from writing into the guest's memory by itself, which supervisor code can have it do.</summary>
    /// <returns>True when it may have written already.</returns>
    public bool StopWriters()
    {
        int read = ReadMsrs();
        if (read == _msrs.Length && !Writes())
        {
            return false;
        }

        Span<KvmMsrEntry> entries = stackalloc KvmMsrEntry[host.Writers.Length];
        for (int i = 0; i < entries.Length; i++)
        {
            entries[i] = new KvmMsrEntry { Index = host.Writers[i] };
        }

        if (!entries.IsEmpty)
        {
            machine.Vcpu.SetMsrs(entries);
        }

        return true;
    }

    /// <summary>Loads some MSRs by the system registers' names.</summary>
    public void LoadMsrs(params ReadOnlySpan<(SystemRegister Register, ulong Value)> values)
    {
        Span<KvmMsrEntry> entries = stackalloc KvmMsrEntry[values.Length];
        int count = 0;
        foreach ((SystemRegister register, ulong value) in values)
        {
            foreach ((SystemRegister known, uint index) in PvmMsrs.Of(host.Revision))
            {
                if (known == register)
                {
                    entries[count++] = new KvmMsrEntry { Index = index, Data = value };
                }
            }
        }

        machine.Vcpu.SetMsrs(entries[..count]);
    }

    /// <summary>Value of an MSR by its system register's name; 0 for one that the revision does not have.</summary>
    public ulong ReadMsr(SystemRegister register)
    {
        foreach ((SystemRegister known, uint index) in PvmMsrs.Of(host.Revision))
        {
            if (known == register)
            {
                KvmMsrEntry entry = new() { Index = index };
                machine.Vcpu.GetMsrs(new Span<KvmMsrEntry>(ref entry));
                return entry.Data;
            }
        }

        return 0;
    }

    /// <summary>The system side now.</summary>
    /// <param name="sregs">Control registers, as read before.</param>
    /// <param name="pvcs">The structure.</param>
    public SystemState Read(in KvmSregs sregs, ReadOnlySpan<byte> pvcs)
    {
        List<KeyValuePair<SystemRegister, ulong>> values =
        [
            new(SystemRegister.Cr0, sregs.Cr0), new(SystemRegister.Cr2, sregs.Cr2), new(SystemRegister.Cr3, sregs.Cr3), new(SystemRegister.Cr4, sregs.Cr4),
            new(SystemRegister.Cr8, sregs.Cr8), new(SystemRegister.Efer, sregs.Efer),
        ];
        machine.Vcpu.GetDebugRegisters(out KvmDebugregs debug);
        values.Add(new(SystemRegister.Dr6, debug.Dr6));
        values.Add(new(SystemRegister.Dr7, debug.Dr7));
        ReadOnlySpan<(SystemRegister Register, uint Index)> all = PvmMsrs.Of(host.Revision);
        int read = ReadMsrs();
        for (int i = 0; i < Math.Min(read, all.Length); i++)
        {
            values.Add(new(all[i].Register, _msrs[i].Data));
        }

        (_now, _debug) = (read == _msrs.Length ? sregs : null, debug);

        foreach (PvcsField field in PvcsLayout.Of(host.Revision))
        {
            values.Add(new(field.Register, EventReader.Read(field, pvcs)));
        }

        values.Add(new(SystemRegister.PvmUserMode, 0));
        values.Add(new(SystemRegister.NmiMasked, machine.Vcpu.GetNmiMask() ? 1UL : 0));
        return SystemState.Of(values);
    }

    /// <summary>The flat segment of a selector. Hosts take selector and base, and have their own descriptors.</summary>
    public static KvmSegment Flat(ushort selector, bool code) => new()
    {
        Limit = uint.MaxValue,
        Selector = selector,
        Type = code ? (byte)0xb : (byte)3,
        Present = 1,
        S = 1,
        L = code ? (byte)1 : (byte)0,
        Db = code ? (byte)0 : (byte)1,
        G = 1,
    };

    private static bool SameRoots(KvmSregs now, KvmSregs wanted) => now.Cr0 == wanted.Cr0 && now.Cr3 == wanted.Cr3 && now.Cr4 == wanted.Cr4 && now.Efer == wanted.Efer;

    private static bool SameRest(KvmSregs now, KvmSregs wanted) =>
        now.Cr2 == wanted.Cr2 && now.Cr8 == wanted.Cr8 && now.Cs.Selector == wanted.Cs.Selector && now.Ss.Selector == wanted.Ss.Selector && now.Ds.Selector == wanted.Ds.Selector
        && now.Es.Selector == wanted.Es.Selector && now.Fs.Selector == wanted.Fs.Selector && now.Gs.Selector == wanted.Gs.Selector;

    private static bool Same(KvmDebugregs now, KvmDebugregs wanted) =>
        now.Db0 == wanted.Db0 && now.Db1 == wanted.Db1 && now.Db2 == wanted.Db2 && now.Db3 == wanted.Db3 && now.Dr6 == wanted.Dr6 && now.Dr7 == wanted.Dr7;

    private static ulong Or(SystemState system, SystemRegister register, ulong other) => system.TryGet(register, out ulong value) ? value : other;
}
