using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Models.Xen.Events;

namespace PvDiffFuzz.Models.Xen;

/// <summary>A 64-bit guest: kernel and user code both in ring 3, with page tables and a base of GS each.</summary>
/// <typeparam name="TDelivery">How the processor enters Xen.</typeparam>
internal readonly struct Pv64<TDelivery> : IXenGuest
    where TDelivery : struct, IDelivery
{
    private const byte R8 = 8 * 8;
    private const byte R9 = 9 * 8;
    private const byte R10 = 10 * 8;

    public static Abi Abi => TDelivery.Abi;

    public static ImmutableArray<SegmentDescriptor> Descriptors() => GuestDescriptors.Of64();

    [Spec("Xen PV traps", "Xen's configuration: both PV64 modes operate in CPL3")]
    public static int KernelRing() => 3;

    [Spec("Xen facts", "Event and exception delivery: stack")]
    public static bool SwapsGs() => true;

    public static bool HasUserRoot() => true;

    public static int PointerSize => sizeof(ulong);

    /// <summary>RDI, RSI, RDX, R10, R8; the sixth of hypercalls that have one is R9.</summary>
    [Spec("Xen hypercall ABI", "Registers: 64bit")]
    public static ReadOnlySpan<byte> ArgumentRegisters() => [Gpr.Rdi, Gpr.Rsi, Gpr.Rdx, R10, R8, R9];

    public static ulong Poison => 0xdead_beef_dead_f00d;

    public static bool Exists(Release release) => TDelivery.Abi != Abi.XenPv64Fred || release.HasFred;

    public static bool LoadsRcx(Release release) => TDelivery.LoadsRcx(release);

    /// <summary>RCX is the address after the agent's SYSCALL, which is the entry where the event came in.</summary>
    public static void PrepareCall(ref CpuState cpu, Vcpu vcpu, Hypercall call)
    {
        cpu.Write(Gpr.Rax, call.Number);
        for (int i = 0; i < call.Arguments.Length; i++)
        {
            cpu.Write(ArgumentRegisters()[i], call.Arguments[i]);
        }

        LeaveAgent(ref cpu, vcpu);
    }

    public static void LeaveAgent(ref CpuState cpu, Vcpu vcpu)
    {
        if (TDelivery.LoadsRcx(vcpu.Release))
        {
            cpu.Write(Gpr.Rcx, cpu.Rip);
            cpu.Write(Gpr.R11, RflagsBits.IF | RflagsBits.Fixed1);
        }
    }

    public static ushort KernelCode() => XenMap.FlatCode64;

    public static ushort KernelStack() => XenMap.FlatData;

    [Spec("Xen facts", "Structures: Xen-private range")]
    public static bool IsXens(ulong address) => address is >= XenMap.PrivateFirst and <= XenMap.PrivateLast;

    public static bool IsHandler(ref CpuState cpu, ulong address) => cpu.Canonical(address);

    public static bool IsGuestAddress(ulong address) => !IsXens(address) && (ulong)((long)(address << 16) >> 16) == address;

    public static void Enter(ref CpuState cpu, Vcpu vcpu, in Bounce bounce) => BounceFrame64.Enter<Pv64<TDelivery>>(ref cpu, vcpu, in bounce);

    public static void Interrupt(ref CpuState cpu, Vcpu vcpu, in MicroOp op, byte vector) =>
        SoftwareInterrupts.Deliver<Pv64<TDelivery>, TDelivery>(ref cpu, vcpu, in op, vector);

    public static void RefusedInterrupt(ref CpuState cpu, Vcpu vcpu, in MicroOp op, byte vector) =>
        SoftwareInterrupts.Emulate<Pv64<TDelivery>, TDelivery>(ref cpu, vcpu, in op, vector);

    public static bool TryGate(ref CpuState cpu, Vcpu vcpu, in MicroOp op) => CallGates.TryUse64();

    /// <summary>Of the kernel's 64-bit code a hypercall, of other code a system call of the guest's.</summary>
    [Spec("Xen hypercall ABI", "Hypercalls may only be issued by kernel-level software")]
    [Spec("Xen hypercall ABI", "Mode transfer: 64bit PV")]
    public static void Syscall(ref CpuState cpu, Vcpu vcpu, in MicroOp op)
    {
        if (cpu.Compatibility)
        {
            // The processor's model leaves CSTAR to whoever owns it.
            cpu.Rip = (cpu.InstructionRip + op.Length) & cpu.LinearMask;
            vcpu.Rflags &= ~RflagsBits.RF;
            if (TDelivery.LoadsRcx(vcpu.Release))
            {
                cpu.Write(Gpr.Rcx, cpu.Rip);
                cpu.Write(Gpr.R11, vcpu.Rflags);
            }
        }

        if (vcpu.KernelMode && !cpu.Compatibility)
        {
            vcpu.ReturnsFromSyscall = true;
            Hypercalls.Dispatcher.Execute<Pv64<TDelivery>>(ref cpu, vcpu);
        }
        else if (cpu.Compatibility)
        {
            SystemCalls64.User32<Pv64<TDelivery>, TDelivery>(ref cpu, vcpu, in op);
        }
        else
        {
            SystemCalls64.User<Pv64<TDelivery>, TDelivery>(ref cpu, vcpu, in op);
        }
    }

    public static void Sysenter(ref CpuState cpu, Vcpu vcpu, in MicroOp op) => SystemCalls64.Sysenter<Pv64<TDelivery>, TDelivery>(ref cpu, vcpu);

    public static void Return(ref CpuState cpu, Vcpu vcpu, in ReturnFrame frame) => Return64.Load<Pv64<TDelivery>>(ref cpu, vcpu, in frame);

    public static void ReturnByStack(ref CpuState cpu, Vcpu vcpu) => Return64.ByStack<Pv64<TDelivery>>(ref cpu, vcpu);

    public static bool TryLeave(ref CpuState cpu, Vcpu vcpu) => Return64.TryLeave<Pv64<TDelivery>, TDelivery>(ref cpu, vcpu);

    public static ReturnFrame ReadFrame(ref CpuState cpu, Vcpu vcpu, Delivered delivered)
    {
        GuestMemory memory = vcpu.Memory;
        ulong at = cpu.Read<ulong>(Gpr.Rsp);
        ulong rest = at + (ulong)(delivered.FrameLength - (5 * sizeof(ulong)));
        return new ReturnFrame(
            cpu.Read<ulong>(Gpr.Rax),
            memory.Read<ulong>(at + 8),
            memory.Read<ulong>(at),
            0,
            memory.Read<ulong>(rest),
            memory.Read<ushort>(rest + 8),
            memory.Read<ulong>(rest + 16),
            memory.Read<ulong>(rest + 24),
            memory.Read<ushort>(rest + 32));
    }
}
