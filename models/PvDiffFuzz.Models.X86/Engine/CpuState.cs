using System.Runtime.CompilerServices;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>What an operation left for the run loop to deliver.</summary>
internal enum PendingKind : byte
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>A fault: the saved RIP is the instruction's.</summary>
    Fault,

    /// <summary>A trap: the saved RIP is after the instruction.</summary>
    Trap,

    /// <summary>SYSCALL.</summary>
    SystemCall,

    /// <summary>A form that the model does not have.</summary>
    Unsupported,

    /// <summary>The next instruction would be fetched from an address that is not the payload's; see <see cref="X86Engine.Doors"/>.</summary>
    Door,
}

/// <summary>Why the run loop has to look up after an instruction.</summary>
[Flags]
internal enum Attention : byte
{
    /// <summary>It does not.</summary>
    None = 0,

    /// <summary>Something is pending.</summary>
    Stop = 1,

    /// <summary>TF, RF, a MOV SS shadow, a REP continuation or a breakpoint needs care after each instruction.</summary>
    Step = 2,

    /// <summary>RF was loaded by the instruction, so that its end does not clear it.</summary>
    Resume = 4,
}

/// <summary>What of the host instructions can show that are not refused at CPL3.</summary>
[Flags]
internal enum HostView : byte
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>CPUID.</summary>
    Identity = 1,

    /// <summary>SGDT, SIDT, SLDT, STR and SMSW.</summary>
    Tables = 2,

    /// <summary>LAR, LSL, VERR and VERW.</summary>
    Descriptors = 4,

    /// <summary>RDPKRU and WRPKRU.</summary>
    Rights = 8,
}

/// <summary>Processor state while a case runs. One instance a run, on the stack; operations get it by <c>ref</c>.</summary>
/// <remarks>Operations compute, then check, then commit: one that raises a fault must not have changed state.</remarks>
internal ref struct CpuState
{
    /// <summary>General registers; see <see cref="MicroOp"/> for how they are addressed.</summary>
    public RegisterFile Gpr;

    /// <summary>Address of the next instruction while an operation runs; branches assign it.</summary>
    public ulong Rip;

    /// <summary>Address of the instruction that runs.</summary>
    public ulong InstructionRip;

    /// <summary>CF, PF, AF, ZF, SF and OF at their RFLAGS positions; no other bit is ever set here.</summary>
    public uint Status;

    /// <summary>Set when the run loop must look up.</summary>
    public Attention Attention;

    /// <summary>What is pending; the other <c>Pending</c> fields belong to it.</summary>
    public PendingKind Pending;

    /// <summary>Vector of the pending event.</summary>
    public byte PendingVector;

    /// <summary>True when a REP instruction stopped between iterations for a single step, so that the frame shows RF.</summary>
    public bool Repeating;

    /// <summary>True after MOV SS or POP SS, until the next instruction is done.</summary>
    public bool Shadow;

    /// <summary>A #DB trap is due after the running instruction or REP iteration: TF was set when it began, or it met a data breakpoint.</summary>
    public bool TrapDue;

    /// <summary>TF was set when the running instruction began, so that the trap that is due is a single step, whatever else it is.</summary>
    public bool StepDue;

    /// <summary>Data breakpoints that the running instruction has met, a bit each as in DR6.</summary>
    public byte Watched;

    /// <summary>What a pending #DB adds to DR6: the breakpoints that were met, and BS for a single step. 0 for INT1.</summary>
    public ulong DebugStatus;

    /// <summary>What instructions have shown of the host, for the model that owns the engine; it clears this.</summary>
    public HostView Shown;

    /// <summary>True in compatibility mode.</summary>
    public bool Compatibility;

    /// <summary>Bit <c>n</c>: accesses through segment <c>n</c> take the slow path, which checks more than the linear address.</summary>
    public byte CheckedSegments;

    /// <summary>CR0.AM: EFLAGS.AC checks alignment.</summary>
    public bool ChecksAlignment;

    /// <summary>Low address bits that must be clear for an access of their size: 7 when #AC is armed, else 0.</summary>
    public ulong AlignmentMask;

    /// <summary>Error code of the pending event, for vectors that push one.</summary>
    public uint PendingError;

    /// <summary>CR2 of a pending #PF.</summary>
    public ulong PendingCr2;

    /// <summary>RFLAGS without the status flags: bit 1, TF, IF, DF, NT, RF, AC and ID.</summary>
    public ulong System;

    /// <summary>All ones, or 0xffffffff in compatibility mode.</summary>
    public ulong LinearMask;

    /// <summary>Segment bases that apply in the mode: only FS and GS in 64-bit mode.</summary>
    public SegmentFile<ulong> SegmentBase;

    /// <summary>Selectors.</summary>
    public SegmentFile<ushort> Selector;

    /// <summary>Instructions and REP iterations left.</summary>
    public int Budget;

    /// <summary>The breakpoints that are armed; null when none is.</summary>
    public Breakpoints? Breakpoints;

    /// <summary>The pages.</summary>
    public GuestMemory Memory;

    /// <summary>What the architecture leaves to the processor.</summary>
    public CpuProfile Profile;

    /// <summary>Protection-key rights; null while they are unknown, which allows everything. All pages have key 0.</summary>
    public uint? Pkru;

    /// <summary>True while CR4 has protection keys off: RDPKRU and WRPKRU work, and no access is refused.</summary>
    public bool KeysOff;

    /// <summary>True under FRED where nobody makes up for it: SYSCALL leaves RCX and R11 as they are.</summary>
    public bool SyscallKeepsRegisters;

    /// <summary>CR0.TS and CR0.MP are set, so that WAIT is #NM.</summary>
    public bool WaitFaults;

    /// <summary>RFLAGS as a whole.</summary>
    public readonly ulong Rflags => System | Status;

    /// <summary>The current privilege level: 3, or 1 in the kernel of a 32-bit guest of Xen.</summary>
    public readonly int Cpl => Selector[Seg.Cs] & 3;

    /// <summary>Bytes of a default stack slot: 8, or 4 in compatibility mode.</summary>
    public readonly int StackWidth => Compatibility ? 4 : 8;

    /// <summary>Applies to stack pointers: all ones, or 0xffffffff in compatibility mode.</summary>
    public readonly ulong StackMask => LinearMask;

    /// <summary>RSP, or ESP in compatibility mode.</summary>
    public ulong StackPointer
    {
        readonly get => Read<ulong>(X86.Gpr.Rsp) & StackMask;
        set => Write(X86.Gpr.Rsp, value & StackMask);
    }

    /// <summary>Reads a register.</summary>
    /// <param name="offset">Byte offset, see <see cref="MicroOp"/>.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly T Read<T>(byte offset)
        where T : unmanaged =>
        Unsafe.ReadUnaligned<T>(ref Unsafe.AddByteOffset(ref Unsafe.As<RegisterFile, byte>(ref Unsafe.AsRef(in Gpr)), offset));

    /// <summary>Writes a register: 32-bit writes zero the top half, 8- and 16-bit writes keep it.</summary>
    /// <param name="offset">Byte offset, see <see cref="MicroOp"/>.</param>
    /// <param name="value">The value.</param>
    [Spec("SDM", "vol.1 3.4.1.1 General-Purpose Registers in 64-Bit Mode")]
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Write<T>(byte offset, T value)
        where T : unmanaged
    {
        ref byte at = ref Unsafe.AddByteOffset(ref Unsafe.As<RegisterFile, byte>(ref Gpr), offset);
        if (Unsafe.SizeOf<T>() == sizeof(uint))
        {
            Unsafe.WriteUnaligned(ref at, (ulong)Unsafe.BitCast<T, uint>(value));
        }
        else
        {
            Unsafe.WriteUnaligned(ref at, value);
        }
    }

    /// <summary>Effective address of the memory operand, before the segment base.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly ulong EffectiveAddress(in MicroOp op) =>
        (Read<ulong>(op.Base) + (Read<ulong>(op.Index) << op.Scale) + op.Displacement) & op.AddressMask;

    /// <summary>Linear address of the memory operand.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public readonly ulong LinearAddress(in MicroOp op) => (EffectiveAddress(in op) + SegmentBase[op.Segment]) & LinearMask;

    /// <summary>Linear address some bytes into the memory operand: a second item wraps at the address size as the first does, before the base is added.</summary>
    [Spec("SDM", "vol.1 3.3.7 Address Calculations in 64-Bit Mode; 3.7.5 Specifying an Offset")]
    public readonly ulong LinearAddress(in MicroOp op, uint ahead) => (((EffectiveAddress(in op) + ahead) & op.AddressMask) + SegmentBase[op.Segment]) & LinearMask;

    /// <summary>Loads the memory operand.</summary>
    /// <returns>False after raising a fault.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool Load<T>(in MicroOp op, out T value)
        where T : unmanaged =>
        LoadAt(LinearAddress(in op), op.Segment, out value);

    /// <summary>Loads the memory operand of a read-modify-write instruction, so that write permission is checked first.</summary>
    /// <remarks>A following <see cref="Store"/> of the same width cannot fail.</remarks>
    /// <returns>False after raising a fault, whose error code shows a write.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool LoadForUpdate<T>(in MicroOp op, out T value)
        where T : unmanaged =>
        LoadForUpdateAt(LinearAddress(in op), op.Segment, out value);

    /// <summary>Stores to the memory operand.</summary>
    /// <returns>False after raising a fault.</returns>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool Store<T>(in MicroOp op, T value)
        where T : unmanaged =>
        StoreAt(LinearAddress(in op), op.Segment, value);

    /// <summary>Loads from a linear address.</summary>
    /// <param name="address">Linear address.</param>
    /// <param name="segment">Segment that it came through, 0 to 5: decides between #SS and #GP.</param>
    /// <param name="value">The value; 0 after a fault.</param>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool LoadAt<T>(ulong address, byte segment, out T value)
        where T : unmanaged
    {
        if ((address & AlignmentMask & ((uint)Unsafe.SizeOf<T>() - 1)) == 0 && ((CheckedSegments >> segment) & 1) == 0
            && Memory.TryRead(address, out value))
        {
            return true;
        }

        return SlowLoad(address, segment, out value);
    }

    /// <summary>Loads from a linear address that will be stored to by the same instruction.</summary>
    /// <inheritdoc cref="LoadAt" path="/param"/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool LoadForUpdateAt<T>(ulong address, byte segment, out T value)
        where T : unmanaged
    {
        if ((address & AlignmentMask & ((uint)Unsafe.SizeOf<T>() - 1)) == 0 && ((CheckedSegments >> segment) & 1) == 0
            && Memory.TryReadWritable(address, out value))
        {
            return true;
        }

        return SlowLoadForUpdate(address, segment, out value);
    }

    /// <summary>Stores to a linear address.</summary>
    /// <inheritdoc cref="LoadAt" path="/param"/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public bool StoreAt<T>(ulong address, byte segment, T value)
        where T : unmanaged
    {
        if ((address & AlignmentMask & ((uint)Unsafe.SizeOf<T>() - 1)) == 0 && ((CheckedSegments >> segment) & 1) == 0
            && Memory.TryWrite(address, value))
        {
            return true;
        }

        return SlowStore(address, segment, value);
    }

    /// <summary>Raises what a store of some bytes would raise.</summary>
    /// <returns>True when the store will succeed.</returns>
    public bool CheckStore(ulong address, int bytes, byte segment)
    {
        if (CheckSegment(address, bytes, segment, write: true) && CheckAlignment(address, bytes) && CheckKey(address, write: true) && !Memory.CanWrite(address, bytes, out ulong cr2, out uint error))
        {
            Raise(14, error, cr2);
        }

        return Pending == PendingKind.None;
    }

    /// <summary>Raises what a load of some bytes would raise.</summary>
    /// <returns>True when the load will succeed.</returns>
    public bool CheckLoad(ulong address, int bytes, byte segment)
    {
        if (CheckSegment(address, bytes, segment, write: false) && CheckAlignment(address, bytes) && CheckKey(address, write: false) && !Memory.CanRead(address, bytes, out ulong cr2, out uint error))
        {
            Raise(14, error, cr2);
        }

        return Pending == PendingKind.None;
    }

    /// <summary>Pushes a value of 2, 4 or 8 bytes.</summary>
    /// <returns>False after raising a fault; RSP is unchanged then.</returns>
    public bool Push<T>(T value)
        where T : unmanaged
    {
        ulong to = (StackPointer - (uint)Unsafe.SizeOf<T>()) & StackMask;
        if (!StoreAt(to, Seg.Ss, value))
        {
            return false;
        }

        StackPointer = to;
        return true;
    }

    /// <summary>Reads a value of 2, 4 or 8 bytes from the top of the stack without moving RSP.</summary>
    /// <returns>False after raising a fault.</returns>
    public bool Peek<T>(out T value)
        where T : unmanaged =>
        LoadAt(StackPointer, Seg.Ss, out value);

    /// <summary>Marks a fault. The operation must return at once and must not have changed state.</summary>
    /// <param name="vector">IDT vector, 0 to 31.</param>
    /// <param name="errorCode">Error code, for vectors that push one.</param>
    /// <param name="cr2">Faulting linear address for #PF.</param>
    public void Raise(byte vector, uint errorCode = 0, ulong cr2 = 0)
    {
        Pending = PendingKind.Fault;
        PendingVector = vector;
        PendingError = errorCode;
        PendingCr2 = cr2;
        Attention |= Attention.Stop;
    }

    /// <summary>Marks a trap-like event; the saved RIP is the next instruction's.</summary>
    public void Trap(byte vector)
    {
        Pending = PendingKind.Trap;
        PendingVector = vector;
        Attention |= Attention.Stop;
    }

    /// <summary>Marks an event that is neither fault nor trap.</summary>
    public void Stop(PendingKind kind)
    {
        Pending = kind;
        Attention |= Attention.Stop;
    }

    /// <summary>Loads RFLAGS bits that an instruction may change, and re-arms what hangs on them.</summary>
    /// <param name="value">New RFLAGS.</param>
    /// <param name="mask">The bits to take from it.</param>
    public void LoadRflags(ulong value, ulong mask)
    {
        ulong merged = (Rflags & ~mask) | (value & mask);
        Status = (uint)merged & Flags.All;
        System = merged & ~(ulong)Flags.All;
        AlignmentMask = (System & RflagsBits.AC) != 0 && ChecksAlignment ? 7UL : 0;
        if ((System & (RflagsBits.TF | RflagsBits.RF)) != 0)
        {
            Attention |= Attention.Step;
        }
    }

    /// <summary>True when an address is canonical for the profile's address width.</summary>
    [Spec("SDM", "vol.1 3.3.7.1 Canonical Addressing")]
    public readonly bool Canonical(ulong address)
    {
        int shift = 64 - Profile.LinearBits;
        return (ulong)((long)(address << shift) >> shift) == address;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool SlowLoad<T>(ulong address, byte segment, out T value)
        where T : unmanaged
    {
        bool allowed = CheckLoad(address, Unsafe.SizeOf<T>(), segment);
        value = default;
        if (allowed)
        {
            Note(address, Unsafe.SizeOf<T>(), write: false);
            value = Memory.Read<T>(address);
        }

        return allowed;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool SlowStore<T>(ulong address, byte segment, T value)
        where T : unmanaged
    {
        bool allowed = CheckStore(address, Unsafe.SizeOf<T>(), segment);
        if (allowed)
        {
            Note(address, Unsafe.SizeOf<T>(), write: true);
            Memory.Write(address, value);
        }

        return allowed;
    }

    [MethodImpl(MethodImplOptions.NoInlining)]
    private bool SlowLoadForUpdate<T>(ulong address, byte segment, out T value)
        where T : unmanaged
    {
        bool allowed = CheckStore(address, Unsafe.SizeOf<T>(), segment);
        value = default;
        if (allowed)
        {
            Note(address, Unsafe.SizeOf<T>(), write: true);
            value = Memory.Read<T>(address);
        }

        return allowed;
    }

    /// <summary>Lets data breakpoints see an access that is going to succeed.</summary>
    private void Note(ulong address, int bytes, bool write)
    {
        if (Breakpoints is not null)
        {
            Breakpoints.NoteAccess(ref this, address, bytes, write);
        }
    }

    /// <summary>Segment checks come first: what the descriptor refuses in compatibility mode, a non-canonical first or last byte in 64-bit mode.</summary>
    [Spec("SDM", "vol.3A 5.3.1 Limit Checking in 64-bit Mode; vol.1 3.3.7.1 Canonical Addressing (#SS and #GP)")]
    [Spec("APM", "vol.2 5.9 Effects of Segment Protection (segment checks before page checks); 4.12 Limit Checks")]
    private bool CheckSegment(ulong address, int bytes, byte segment, bool write)
    {
        bool usable = Compatibility
            ? Descriptors.Allows(Profile, Selector[segment], (uint)(address - SegmentBase[segment]), bytes, write)
            : Canonical(address) && Canonical(address + (uint)bytes - 1) && CanonicalOffset(address, bytes, segment);
        if (!usable)
        {
            Raise(segment == Seg.Ss ? (byte)12 : (byte)13);
        }

        return usable;
    }

    /// <summary>AMD asks of the effective address too, before an FS or GS base is added, that it be canonical.</summary>
    [Spec("x86-readings", "canonical-offset")]
    private readonly bool CanonicalOffset(ulong address, int bytes, byte segment)
    {
        ulong offset = address - SegmentBase[segment];
        return Profile.Vendor != CpuVendor.Amd || (Canonical(offset) && Canonical(offset + (uint)bytes - 1));
    }

    /// <summary>Alignment is checked on the linear address, before it is translated. The manuals leave the order against #PF open.</summary>
    [Spec("SDM", "vol.3A 6.15 Interrupt 17, Alignment Check Exception (#AC)")]
    [Spec("x86-readings", "ac-before-pf")]
    private bool CheckAlignment(ulong address, int bytes)
    {
        if ((address & AlignmentMask & ((uint)bytes - 1)) == 0)
        {
            return true;
        }

        Raise(17);
        return false;
    }

    /// <summary>AD of a key refuses every data access to user pages, WD stores. Where the page itself refuses too, the error code says both.</summary>
    /// <remarks>All pages have one key, so that it is the first byte's page that faults.</remarks>
    [Spec("SDM", "vol.3A 4.6.2 Protection Keys; 4.7 Page-Fault Exceptions (PK flag)")]
    [Spec("APM", "vol.2 5.6.7 Memory Protection Keys (MPK) Bit; 8.4.2 Page-Fault Error Code (PK)")]
    private bool CheckKey(ulong address, bool write)
    {
        const uint accessDisable = 1;
        const uint writeDisable = 2;
        if (KeysOff || ((Pkru ?? 0) & (write ? accessDisable | writeDisable : accessDisable)) == 0 || !Memory.CanRead(address, 1, out _, out _))
        {
            return true;
        }

        Raise(14, PageFault.Present | Memory.UserBit | PageFault.Key | (write ? PageFault.Write : 0), address);
        return false;
    }
}
