using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen;

/// <summary>A kind of PV guest: how its frames, returns and hypercalls look.</summary>
/// <remarks>Implemented by empty structs, so that a model is compiled for each kind and asks nothing at run time.</remarks>
internal interface IXenGuest
{
    /// <summary>The ABI.</summary>
    static abstract Abi Abi { get; }

    /// <summary>Xen's descriptors.</summary>
    static abstract ImmutableArray<SegmentDescriptor> Descriptors();

    /// <summary>Ring of the guest's kernel.</summary>
    static abstract int KernelRing();

    /// <summary>True when the base of GS changes with the mode.</summary>
    static abstract bool SwapsGs();

    /// <summary>True when user code has page tables of its own.</summary>
    static abstract bool HasUserRoot();

    /// <summary>Bytes of a pointer in the guest's structures.</summary>
    static abstract int PointerSize { get; }

    /// <summary>The registers of hypercall arguments, as byte offsets (see <see cref="MicroOp"/>).</summary>
    static abstract ReadOnlySpan<byte> ArgumentRegisters();

    /// <summary>What debug builds write into them.</summary>
    static abstract ulong Poison { get; }

    /// <summary>True when a release has this kind of guest under this delivery.</summary>
    static abstract bool Exists(Release release);

    /// <summary>True when <paramref name="address"/> is one that the guest can have.</summary>
    static abstract bool IsGuestAddress(ulong address);

    /// <summary>True when <paramref name="address"/> lies in the range that Xen keeps.</summary>
    static abstract bool IsXens(ulong address);

    /// <summary>True when a guest can register a handler at <paramref name="address"/>.</summary>
    static abstract bool IsHandler(ref CpuState cpu, ulong address);

    /// <summary>Code selector of the guest's kernel.</summary>
    static abstract ushort KernelCode();

    /// <summary>Stack selector of the guest's kernel.</summary>
    static abstract ushort KernelStack();

    /// <summary>True when SYSCALL and the way back from it load RCX and R11.</summary>
    static abstract bool LoadsRcx(Release release);

    /// <summary>Puts a hypercall of the agent of a target into the registers.</summary>
    static abstract void PrepareCall(ref CpuState cpu, Vcpu vcpu, Hypercall call);

    /// <summary>The agent calls HYPERVISOR_iret: what that call itself does to registers.</summary>
    static abstract void LeaveAgent(ref CpuState cpu, Vcpu vcpu);

    /// <summary>Enters the guest's kernel: builds the frame and goes to the handler, or crashes the domain.</summary>
    static abstract void Enter(ref CpuState cpu, Vcpu vcpu, in Bounce bounce);

    /// <summary>Turns a software interrupt whose gate is open in the IDT into what the guest gets.</summary>
    static abstract void Interrupt(ref CpuState cpu, Vcpu vcpu, in MicroOp op, byte vector);

    /// <summary>Turns an <c>INT n</c> that the IDT refuses into what the guest gets.</summary>
    static abstract void RefusedInterrupt(ref CpuState cpu, Vcpu vcpu, in MicroOp op, byte vector);

    /// <summary>A far CALL or JMP that the processor has refused: through a call gate perhaps.</summary>
    /// <returns>False when the fault is the guest's.</returns>
    static abstract bool TryGate(ref CpuState cpu, Vcpu vcpu, in MicroOp op);

    /// <summary>SYSCALL. RCX and R11 have been loaded if the processor does that.</summary>
    static abstract void Syscall(ref CpuState cpu, Vcpu vcpu, in MicroOp op);

    /// <summary>SYSENTER, where the processor has it.</summary>
    static abstract void Sysenter(ref CpuState cpu, Vcpu vcpu, in MicroOp op);

    /// <summary>Loads the frame of a HYPERVISOR_iret.</summary>
    static abstract void Return(ref CpuState cpu, Vcpu vcpu, in ReturnFrame frame);

    /// <summary>HYPERVISOR_iret of guest code, with its frame on the stack.</summary>
    static abstract void ReturnByStack(ref CpuState cpu, Vcpu vcpu);

    /// <summary>The last step of Xen: loads what the guest goes on with.</summary>
    /// <returns>False when that faults; the fault has been delivered then.</returns>
    static abstract bool TryLeave(ref CpuState cpu, Vcpu vcpu);

    /// <summary>Reads the frame of a delivery as the agent of a target passes it to HYPERVISOR_iret.</summary>
    static abstract ReturnFrame ReadFrame(ref CpuState cpu, Vcpu vcpu, Delivered delivered);
}

/// <summary>The frame of HYPERVISOR_iret, as wide as a 64-bit guest's. A 32-bit guest has EAX, EIP, CS, EFLAGS, ESP and SS of it.</summary>
/// <param name="Rax">RAX.</param>
/// <param name="R11">R11, unless the flags say that it returns from a system call.</param>
/// <param name="Rcx">RCX, likewise.</param>
/// <param name="Flags">The flags word.</param>
/// <param name="Rip">RIP.</param>
/// <param name="Cs">CS; the RPL decides about the mode.</param>
/// <param name="Rflags">RFLAGS; IF is the inverse of the upcall mask.</param>
/// <param name="Rsp">RSP.</param>
/// <param name="Ss">SS.</param>
internal readonly record struct ReturnFrame(ulong Rax, ulong R11, ulong Rcx, ulong Flags, ulong Rip, ushort Cs, ulong Rflags, ulong Rsp, ushort Ss);

/// <summary>What the guest's kernel is to be entered for.</summary>
/// <param name="Entry">Where.</param>
/// <param name="Kind">Kind of event.</param>
/// <param name="Vector">Vector; 0 for callbacks.</param>
/// <param name="Handler">Address of the handler, 0 for none.</param>
/// <param name="Cs">Its code selector, which a 32-bit guest chooses.</param>
/// <param name="MasksEvents">True when event upcalls are masked in it.</param>
/// <param name="Error">Error code, or null for none.</param>
/// <param name="Cr2">Faulting linear address of a #PF, else null.</param>
internal readonly record struct Bounce(EntryPoint Entry, EventKind Kind, byte Vector, ulong Handler, ushort Cs, bool MasksEvents, uint? Error = null, ulong? Cr2 = null)
{
    /// <summary>To a handler of the trap table.</summary>
    public static Bounce ToTrap(Vcpu vcpu, byte vector, uint? error = null, ulong? cr2 = null)
    {
        XenTrap trap = vcpu.TrapOf(vector);
        bool nmi = vector == Injection.NmiVector && vcpu.Case.Xen!.CallbackOf(XenCallbackKind.Nmi) is not null;
        return new Bounce(nmi ? EntryPoint.XenNmi : EntryPoint.XenTrap, KindOf(vector, error is not null, nmi), vector, trap.Address, trap.Cs, (trap.Flags & XenTrap.MaskEvents) != 0, error, cr2);
    }

    /// <summary>To a callback.</summary>
    public static Bounce ToCallback(in XenCallback callback, EntryPoint entry, EventKind kind) =>
        new(entry, kind, 0, callback.Address, callback.Cs, callback.MaskEvents);

    /// <summary>What a handler can tell of its event: a vector that has an error code comes without one only by <c>INT n</c>.</summary>
    private static EventKind KindOf(byte vector, bool error, bool nmi) =>
        nmi ? EventKind.Interrupt : !error && X86.Delivery.HasErrorCode(vector) ? EventKind.Trap : Event.KindOf(vector);
}
