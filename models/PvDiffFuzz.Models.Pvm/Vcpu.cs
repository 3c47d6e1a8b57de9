using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>A vector event to be delivered. RIP is in the processor's state.</summary>
/// <param name="Kind">Kind.</param>
/// <param name="Vector">Vector.</param>
/// <param name="Error">Error code, or null where the event has none.</param>
/// <param name="Cr2">Faulting linear address of a #PF, else null.</param>
/// <param name="Rflags">The underlying RFLAGS that hardware saved.</param>
internal readonly record struct VectorEvent(EventKind Kind, byte Vector, uint? Error, ulong? Cr2, ulong Rflags);

/// <summary>Places where the specification says <em>may</em>.</summary>
[Flags]
internal enum Choices
{
    /// <summary>The first alternative everywhere.</summary>
    None = 0,

    /// <summary>User code may use supervisor pages of its root.</summary>
    SupervisorBitIgnored = 1,

    /// <summary>The return to user mode leaves MSR_KERNEL_GS_BASE as it is.</summary>
    KernelGsBaseKept = 2,
}

/// <summary>The virtual CPU: everything that is not in <see cref="CpuState"/>. One instance a model, used again for each case.</summary>
internal sealed class Vcpu(GuestMemory memory)
{
    /// <summary>The interrupt enable flag, a bit of <c>event_flags</c>.</summary>
    public const ulong InterruptFlag = 1UL << 9;

    private SystemFile _registers;
    private ulong _known;
    private ulong _initialCr3;
    private ulong _initialSwitchCr3;
    private bool _tellsRoots;

    /// <summary>The pages.</summary>
    public GuestMemory Memory { get; } = memory;

    /// <summary>The case that runs.</summary>
    public TestCase Case { get; private set; } = null!;

    /// <summary>True in user mode.</summary>
    public bool UserMode { get; set; }

    /// <summary>True from the delivery of an NMI until the next synthetic return.</summary>
    public bool NmiMasked { get; set; }

    /// <summary>An NMI waits.</summary>
    public bool NmiPending { get; set; }

    /// <summary>Maskable interrupts that wait.</summary>
    public InterruptSet Interrupts;

    /// <summary>Set where the hypervisor looks for something from outside before the guest goes on.</summary>
    public bool LooksOutside { get; set; }

    /// <summary>Layout under CR3: 0 or 1, or -1 for a root that the case does not have.</summary>
    public int Root { get; set; }

    /// <summary>Layout under MSR_PVM_SWITCH_CR3, as <see cref="Root"/>.</summary>
    public int SwitchRoot { get; set; }

    /// <summary>DR0 to DR3, DR7.</summary>
    public DebugRegisters Debug { get; set; } = NoBreakpoints;

    /// <summary>GDTR as last written: limit and base; null before.</summary>
    public (ushort Limit, ulong Base)? Gdtr { get; set; }

    /// <summary>IDTR as last written; null before.</summary>
    public (ushort Limit, ulong Base)? Idtr { get; set; }

    /// <summary>How the run stands.</summary>
    public Verdict Verdict { get; private set; }

    /// <summary>Why, for verdicts that need a reason.</summary>
    public string? Reason { get; private set; }

    /// <summary>Which of several allowed outcomes this run is to have.</summary>
    public Choices Choices { get; set; }

    /// <summary>The choices that mattered so far.</summary>
    public Choices Touched { get; set; }

    /// <summary>Door of the delivery that was just made; null for none.</summary>
    public EntryPoint? Entry { get; set; }

    /// <summary>RIP that the delivery saved.</summary>
    public ulong InterruptedRip { get; set; }

    /// <summary>A value: zero when nothing stated or wrote it.</summary>
    public ulong this[SystemRegister register]
    {
        get => _registers[(int)register];
        set
        {
            _registers[(int)register] = value;
            _known |= 1UL << (int)register;
        }
    }

    /// <summary>True when the per-VCPU structure is in use.</summary>
    public bool HasPvcs => this[SystemRegister.PvmVcpuStruct] != 0;

    /// <summary>The supervisor's code selector, which frames show.</summary>
    public ushort KernelCs => (ushort)(this[SystemRegister.Star] >> 32 & 0xfffc);

    /// <summary>The supervisor's stack selector, which frames show.</summary>
    public ushort KernelSs => (ushort)(KernelCs + 8);

    /// <summary>The debug registers after reset.</summary>
    public static DebugRegisters NoBreakpoints { get; } = new(0, 0, 0, 0, UnderlyingStates.ResetDr7);

    /// <summary>The per-VCPU structure in the layout of a revision.</summary>
    public Pvcs<TAbi> Pvcs<TAbi>()
        where TAbi : struct, IPvmAbi => new(Memory.Private);

    /// <summary>True when a value was stated or written.</summary>
    public bool Knows(SystemRegister register) => (_known >> (int)register & 1) != 0;

    /// <summary>Makes a value unknown, so that it is neither read nor compared.</summary>
    public void Forget(SystemRegister register) => _known &= ~(1UL << (int)register);

    /// <summary>Exchanges two values, known or not.</summary>
    public void Exchange(SystemRegister one, SystemRegister other)
    {
        (_registers[(int)one], _registers[(int)other]) = (_registers[(int)other], _registers[(int)one]);
        ulong differ = ((_known >> (int)one) ^ (_known >> (int)other)) & 1;
        _known ^= (differ << (int)one) | (differ << (int)other);
    }

    /// <summary>Takes the state of a case.</summary>
    public void Load<TAbi>(TestCase testCase)
        where TAbi : struct, IPvmAbi
    {
        Case = testCase;
        _registers = default;
        _known = Zeroed;
        Memory.Private[..PvcsLayout.Size].Clear();
        Pvcs<TAbi> pvcs = Pvcs<TAbi>();
        this[SystemRegister.Cr0] = UnderlyingStates.Cr0;
        this[SystemRegister.Dr6] = UnderlyingStates.ResetDr6;
        foreach ((SystemRegister register, ulong value) in testCase.System.Values)
        {
            if (register is >= SystemRegister.PvcsEventFlags and <= SystemRegister.PvcsR11)
            {
                pvcs[register] = value;
            }
            else
            {
                this[register] = value;
            }
        }

        _initialCr3 = this[SystemRegister.Cr3];
        _initialSwitchCr3 = this[SystemRegister.PvmSwitchCr3];
        _tellsRoots = testCase.System.TryGet(SystemRegister.Cr3, out _) && (_initialCr3 != _initialSwitchCr3 || testCase.Pvm!.UserLayout is null);
        Debug = testCase.Registers.Debug ?? NoBreakpoints;
        if (testCase.System.TryGet(SystemRegister.Dr7, out ulong dr7) && testCase.Registers.Debug is null)
        {
            Debug = Debug with { Dr7 = dr7 };
        }

        UserMode = false;
        NmiMasked = this[SystemRegister.NmiMasked] != 0;
        NmiPending = false;
        Interrupts = default;
        LooksOutside = false;
        Root = 0;
        SwitchRoot = TAbi.SwitchesRoots ? 1 : 0;
        Gdtr = null;
        Idtr = null;
        Verdict = Verdict.Running;
        Reason = null;
        Entry = null;
    }

    /// <summary>Ends the run.</summary>
    public void End(Verdict verdict, string? reason = null)
    {
        if (Verdict == Verdict.Running)
        {
            Verdict = verdict;
            Reason = reason;
        }
    }

    /// <summary>Goes on after all: a single step is due after the HLT.</summary>
    public void Wake() => Verdict = Verdict == Verdict.Halt ? Verdict.Running : Verdict;

    /// <summary>Which layout a root names.</summary>
    /// <param name="value">Value of CR3 or MSR_PVM_SWITCH_CR3.</param>
    /// <param name="switching">True for the latter.</param>
    /// <returns>0 or 1, or -1 when the case has no such root.</returns>
    public int RootOf(ulong value, bool switching)
    {
        const ulong address = 0x000f_ffff_ffff_f000;
        bool first = ((value ^ _initialCr3) & address) == 0;
        bool second = ((value ^ _initialSwitchCr3) & address) == 0;
        return !_tellsRoots || !(first || second) ? -1 : first && second ? (switching ? 1 : 0) : first ? 0 : 1;
    }

    /// <summary>Puts up what the mode sees.</summary>
    /// <param name="supervisor">Rights of supervisor mode.</param>
    public void SelectView(ViewRights supervisor)
    {
        if (Root < 0)
        {
            End(Verdict.Unsupported, "CR3 was loaded with a root that the case does not have");
            return;
        }

        ViewRights user = (Choices & Choices.SupervisorBitIgnored) != 0 ? ViewRights.SupervisorPages : ViewRights.User;
        Memory.Select(Root, UserMode ? user : supervisor);
    }

    /// <summary>Everything that is known, for an outcome.</summary>
    public SystemState Capture<TAbi>(ref CpuState cpu)
        where TAbi : struct, IPvmAbi
    {
        this[SystemRegister.NmiMasked] = NmiMasked ? 1UL : 0;
        this[SystemRegister.PvmUserMode] = UserMode ? 1UL : 0;
        if (Knows(SystemRegister.Dr7))
        {
            this[SystemRegister.Dr7] = Debug.Dr7;
        }

        ReadOnlySpan<PvcsField> fields = PvcsLayout.Of(TAbi.Revision);
        ulong fieldMask = 0;
        Pvcs<TAbi> pvcs = Pvcs<TAbi>();
        foreach (PvcsField field in fields)
        {
            fieldMask |= 1UL << (int)field.Register;
            _registers[(int)field.Register] = pvcs[field.Register];
        }

        ulong stated = (_known & ~NotPvmMsrs<TAbi>.Mask) | fieldMask;
        KeyValuePair<SystemRegister, ulong>[] values = new KeyValuePair<SystemRegister, ulong>[BitOperations.PopCount(stated)];
        int count = 0;
        for (; stated != 0; stated &= stated - 1)
        {
            int register = BitOperations.TrailingZeroCount(stated);
            values[count++] = new((SystemRegister)register, _registers[register]);
        }

        return SystemState.OfSorted(ImmutableCollectionsMarshal.AsImmutableArray(values));
    }

    /// <summary>What is 0 unless the case says otherwise. Of the rest a case that says nothing cannot read it.</summary>
    private static ulong Zeroed { get; } = Mask(
        SystemRegister.Cr8, SystemRegister.Star, SystemRegister.Lstar, SystemRegister.Cstar, SystemRegister.SyscallMask, SystemRegister.SysenterCs, SystemRegister.SysenterEip,
        SystemRegister.SysenterEsp, SystemRegister.KernelGsBase, SystemRegister.Pkrs, SystemRegister.PvmVcpuStruct, SystemRegister.PvmSupervisorRsp, SystemRegister.PvmSupervisorRedzone,
        SystemRegister.PvmEventEntry, SystemRegister.PvmRetuRip, SystemRegister.PvmRetsRip);

    private static ulong Mask(params ReadOnlySpan<SystemRegister> registers)
    {
        ulong mask = 0;
        foreach (SystemRegister register in registers)
        {
            mask |= 1UL << (int)register;
        }

        return mask;
    }

    /// <summary>PVM's MSRs that a revision does not have, and the fields of the structure.</summary>
    private static class NotPvmMsrs<TAbi>
        where TAbi : struct, IPvmAbi
    {
        public static readonly ulong Mask = Compute();

        private static ulong Compute()
        {
            ulong mask = 0;
            for (SystemRegister register = SystemRegister.PvmLinearAddressRange; register <= SystemRegister.PvcsR11; register++)
            {
                mask |= 1UL << (int)register;
            }

            foreach ((_, SystemRegister register) in TAbi.PvmMsrs)
            {
                mask &= ~(1UL << (int)register);
            }

            return mask;
        }
    }

    [InlineArray(64)]
    private struct SystemFile
    {
        private ulong _first;
    }
}

/// <summary>A set of interrupt vectors.</summary>
[InlineArray(4)]
internal struct InterruptSet
{
    private ulong _low;

    /// <summary>True when there is none.</summary>
    public readonly bool IsEmpty => (this[0] | this[1] | this[2] | this[3]) == 0;

    /// <summary>Adds a vector.</summary>
    public void Add(byte vector) => this[vector >> 6] |= 1UL << (vector & 63);

    /// <summary>Takes the highest vector out.</summary>
    public byte TakeHighest()
    {
        int word = this[3] != 0 ? 3 : this[2] != 0 ? 2 : this[1] != 0 ? 1 : 0;
        int bit = BitOperations.Log2(this[word]);
        this[word] &= ~(1UL << bit);
        return (byte)((word * 64) + bit);
    }
}
