using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>What surrounds instructions: entry, single step, RF, the MOV SS shadow, delivery of events and return from them.</summary>
internal static class Delivery
{
    /// <summary>Vectors that push an error code.</summary>
    private const uint ErrorCodeVectors = (1u << 8) | (1u << 10) | (1u << 11) | (1u << 12) | (1u << 13) | (1u << 14) | (1u << 17) | (1u << 21) | (1u << 29) | (1u << 30);

    /// <summary>Loads the registers of a context, as IRETQ to CPL3 does. The breakpoints are armed already; one may be met at once.</summary>
    public static void Enter(ref CpuState cpu, RegisterState registers)
    {
        Load(ref cpu, registers);
        Resume(ref cpu, registers.Rflags);
    }

    /// <summary>Loads the registers of a context except RFLAGS, without going on there.</summary>
    public static void Load(ref CpuState cpu, RegisterState registers)
    {
        GprFile gpr = registers.Gpr;
        ((ReadOnlySpan<ulong>)gpr).CopyTo(cpu.Gpr);
        cpu.Gpr[GprFile.Count] = 0;
        cpu.Rip = registers.Rip;
        cpu.Selector[Seg.Es] = registers.Es;
        cpu.Selector[Seg.Cs] = registers.Cs;
        cpu.Selector[Seg.Ss] = registers.Ss;
        cpu.Selector[Seg.Ds] = registers.Ds;
        cpu.Selector[Seg.Fs] = registers.Fs;
        cpu.Selector[Seg.Gs] = registers.Gs;
        cpu.SegmentBase[Seg.Fs] = registers.FsBase;
        cpu.SegmentBase[Seg.Gs] = registers.GsBase;
        cpu.Pkru = registers.Pkru;
    }

    /// <summary>Goes on at RIP with CS and the other registers as they are and nothing pending, as after a return from an event.</summary>
    /// <param name="cpu">State.</param>
    /// <param name="rflags">RFLAGS from now on.</param>
    public static void Resume(ref CpuState cpu, ulong rflags)
    {
        cpu.Pending = PendingKind.None;
        cpu.Attention = Attention.None;
        cpu.Shadow = false;
        cpu.Repeating = false;
        cpu.LoadRflags(rflags, ulong.MaxValue);
        cpu.TrapDue = (rflags & RflagsBits.TF) != 0;
        cpu.StepDue = cpu.TrapDue;
        cpu.Watched = 0;
        cpu.DebugStatus = 0;
        SetMode(ref cpu);
        Breakpoints.BeforeInstruction(ref cpu, shadow: false);
    }

    /// <summary>Takes the mode from the code segment, and from the other selectors what the mode makes of them, as a far transfer does.</summary>
    [Spec("SDM", "vol.3A 3.4.4 Segment Loading Instructions in IA-32e Mode; 5.2.1 Code-Segment Descriptor in 64-bit Mode")]
    public static void SetMode(ref CpuState cpu)
    {
        bool compatibility = Descriptors.Find(cpu.Profile, cpu.Selector[Seg.Cs]) is { Long: false };
        if (compatibility != cpu.Compatibility)
        {
            cpu.Memory.ForgetCode();
        }

        cpu.Compatibility = compatibility;
        cpu.LinearMask = compatibility ? uint.MaxValue : ulong.MaxValue;
        cpu.Memory.Mask = cpu.LinearMask;
        cpu.CheckedSegments = ChecksAll(in cpu) ? (byte)0x3f : (byte)0;
        for (byte segment = 0; segment < Seg.Fs; segment++)
        {
            cpu.SegmentBase[segment] = 0;
            if (compatibility)
            {
                // Descriptors do not change while a case runs, so what was loaded in either mode can be looked up again.
                cpu.SegmentBase[segment] = Descriptors.Find(cpu.Profile, cpu.Selector[segment])?.Base ?? 0;
                UpdateSegment(ref cpu, segment);
            }
        }

        UpdateSegment(ref cpu, Seg.Fs);
        UpdateSegment(ref cpu, Seg.Gs);
    }

    /// <summary>Decides anew whether accesses through a segment need more than a look at the linear address, after its selector or base changed.</summary>
    public static void UpdateSegment(ref CpuState cpu, byte segment)
    {
        bool check = cpu.SegmentBase[segment] != 0
            || ChecksAll(in cpu)
            || (cpu.Compatibility && !Descriptors.IsFlat(cpu.Profile, cpu.Selector[segment]));
        cpu.CheckedSegments = (byte)((cpu.CheckedSegments & ~(1 << segment)) | (check ? 1 << segment : 0));
    }

    /// <summary>True when every access has to be looked at: data breakpoints are armed, or key 0 is restricted.</summary>
    private static bool ChecksAll(in CpuState cpu) => cpu.Breakpoints is { OnAccess: true } || (!cpu.KeysOff && (cpu.Pkru & 3) is not (null or 0));

    /// <summary>Applies a response and returns to the interrupted context.</summary>
    public static void Return(ref CpuState cpu, RegisterState interrupted, Response response)
    {
        RegisterState registers = interrupted;
        foreach ((Register register, ulong value) in response.Patches)
        {
            registers = registers.With(register, value);
        }

        Enter(ref cpu, registers);
    }

    /// <summary>Care after an instruction that asked for it.</summary>
    /// <returns>True when an event is to be delivered.</returns>
    [Spec("SDM", "vol.3B 17.3.1.4 Single-Step Exception Condition; 17.3.1.1 Instruction-Breakpoint Exception Condition (RF); vol.3A 6.8.3 Masking Exceptions and Interrupts When Switching Stacks")]
    public static bool AfterInstruction(ref CpuState cpu)
    {
        if ((cpu.Attention & Attention.Stop) != 0)
        {
            if (cpu.Pending is PendingKind.Fault or PendingKind.Unsupported)
            {
                cpu.Rip = cpu.InstructionRip;
            }

            return true;
        }

        bool shadow = cpu.Shadow;
        bool held = cpu.TrapDue && shadow;
        bool trap = cpu.TrapDue && !shadow;
        cpu.Shadow = false;
        Attention resume = cpu.Attention & Attention.Resume;
        cpu.System &= cpu.Repeating || resume != 0 ? ulong.MaxValue : ~RflagsBits.RF;
        bool step = cpu.StepDue;
        cpu.TrapDue = held || (cpu.System & RflagsBits.TF) != 0;
        cpu.StepDue = (held && step) || (cpu.System & RflagsBits.TF) != 0;
        cpu.Attention = held || (cpu.System & (RflagsBits.TF | RflagsBits.RF)) != 0 ? Attention.Step : Attention.None;
        if (trap)
        {
            cpu.DebugStatus = cpu.Watched | (step ? Breakpoints.SingleStep : 0);
            cpu.Watched = 0;
            cpu.Trap(1);
            cpu.Attention |= resume;
            return true;
        }

        return Breakpoints.BeforeInstruction(ref cpu, shadow);
    }

    /// <summary>A fault before the instruction began: the interrupted RIP is unchanged.</summary>
    public static void AfterFailedFetch(ref CpuState cpu) => cpu.InstructionRip = cpu.Rip;

    /// <summary>RFLAGS as the pending event saves them.</summary>
    [Spec("SDM", "vol.3A 6.14.2 64-Bit Mode Stack Frame; vol.3B 17.3.1.1 Instruction-Breakpoint Exception Condition (RF as saved)")]
    [Spec("APM", "vol.2 3.1.6 RFLAGS Register (RF as saved)")]
    [Spec("x86-readings", "rep-rf")]
    public static ulong SavedRflags(ref CpuState cpu)
    {
        ulong rflags = (cpu.Attention & Attention.Resume) != 0 ? cpu.Rflags : cpu.Rflags & ~RflagsBits.RF;
        return cpu.Pending switch
        {
            PendingKind.SystemCall => rflags,
            PendingKind.Fault => rflags | RflagsBits.RF,

            // Between iterations of REP the SDM saves RF set. The APM says that this is so normally; here RF stays as it was until the instruction is done.
            _ => rflags | (!cpu.Repeating ? 0 : cpu.Profile.Vendor == CpuVendor.Intel ? RflagsBits.RF : cpu.Rflags & RflagsBits.RF),
        };
    }

    /// <summary>Tells whether the pending event pushes an error code.</summary>
    public static bool PushesError(ref CpuState cpu) =>
        HasErrorCode(cpu.PendingVector) && cpu.Pending == PendingKind.Fault;

    /// <summary>Tells whether the exception of a vector pushes an error code.</summary>
    public static bool HasErrorCode(byte vector) => vector < 32 && ((ErrorCodeVectors >> vector) & 1) != 0;

    /// <summary>Builds the event that is pending.</summary>
    public static Event Deliver(ref CpuState cpu)
    {
        ulong rflags = SavedRflags(ref cpu);
        if (cpu.Pending == PendingKind.SystemCall)
        {
            return new Event(EventKind.SystemCall, 0, null, null, EntryPoint.Lstar, Capture(ref cpu, rflags));
        }

        byte vector = cpu.PendingVector;
        bool pushesError = PushesError(ref cpu);
        return new Event(
            Event.KindOf(vector),
            vector,
            pushesError ? cpu.PendingError : null,
            vector == 14 && cpu.Pending == PendingKind.Fault ? cpu.PendingCr2 : null,
            EntryPoint.Idt,
            Capture(ref cpu, rflags));
    }

    /// <summary>The registers now, with RFLAGS as given.</summary>
    public static RegisterState Capture(ref CpuState cpu, ulong rflags)
    {
        GprFile gpr = default;
        ((ReadOnlySpan<ulong>)cpu.Gpr)[..GprFile.Count].CopyTo(gpr);
        return new RegisterState
        {
            Gpr = gpr,
            Rip = cpu.Rip,
            Rflags = rflags,
            Cs = cpu.Selector[Seg.Cs],
            Ss = cpu.Selector[Seg.Ss],
            Ds = cpu.Selector[Seg.Ds],
            Es = cpu.Selector[Seg.Es],
            Fs = cpu.Selector[Seg.Fs],
            Gs = cpu.Selector[Seg.Gs],
            FsBase = cpu.SegmentBase[Seg.Fs],
            GsBase = cpu.SegmentBase[Seg.Gs],
            Pkru = cpu.Pkru,
        };
    }
}
