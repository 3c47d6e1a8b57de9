using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Models.Xen.Events;

namespace PvDiffFuzz.Models.Xen;

/// <summary>A 32-bit guest: its kernel in ring 1, user code in ring 3, under one root. There is none where Xen uses FRED.</summary>
internal readonly struct Pv32 : IXenGuest
{
    public static Abi Abi => Abi.XenPv32;

    public static ImmutableArray<SegmentDescriptor> Descriptors() => GuestDescriptors.Of32();

    public static int KernelRing() => BounceFrame32.KernelRing;

    public static bool SwapsGs() => false;

    public static bool HasUserRoot() => false;

    public static int PointerSize => sizeof(uint);

    /// <summary>EBX, ECX, EDX, ESI, EDI; the sixth of hypercalls that have one is EBP.</summary>
    [Spec("Xen hypercall ABI", "Registers: 32bit")]
    public static ReadOnlySpan<byte> ArgumentRegisters() => [Gpr.Rbx, Gpr.Rcx, Gpr.Rdx, Gpr.Rsi, Gpr.Rdi, Gpr.Rbp];

    public static ulong Poison => 0xdead_f00d;

    public static bool Exists(Release release) => true;

    public static ushort KernelCode() => XenMap.KernelCode32;

    public static ushort KernelStack() => XenMap.KernelData32;

    public static bool IsXens(ulong address) => address is >= XenMap.PrivateFirst32 and <= uint.MaxValue;

    public static bool IsHandler(ref CpuState cpu, ulong address) => address <= uint.MaxValue;

    public static bool LoadsRcx(Release release) => true;

    public static void PrepareCall(ref CpuState cpu, Vcpu vcpu, Hypercall call)
    {
        cpu.Write(Gpr.Rax, (uint)call.Number);
        for (int i = 0; i < call.Arguments.Length; i++)
        {
            cpu.Write(ArgumentRegisters()[i], (uint)call.Arguments[i]);
        }
    }

    public static void LeaveAgent(ref CpuState cpu, Vcpu vcpu)
    {
    }

    public static bool IsGuestAddress(ulong address) => address < XenMap.PrivateFirst32;

    public static void Enter(ref CpuState cpu, Vcpu vcpu, in Bounce bounce) => BounceFrame32.Enter(ref cpu, vcpu, in bounce);

    public static void Interrupt(ref CpuState cpu, Vcpu vcpu, in MicroOp op, byte vector) => SoftwareInterrupts.Deliver<Pv32, Idt>(ref cpu, vcpu, in op, vector);

    public static void RefusedInterrupt(ref CpuState cpu, Vcpu vcpu, in MicroOp op, byte vector)
    {
        if (SystemCalls32.IsHypercall(vcpu, vector))
        {
            SystemCalls32.Hypercall(ref cpu, vcpu, in op);
        }
        else
        {
            SoftwareInterrupts.Emulate<Pv32, Idt>(ref cpu, vcpu, in op, vector);
        }
    }

    public static bool TryGate(ref CpuState cpu, Vcpu vcpu, in MicroOp op) => CallGates.TryUse32(ref cpu, vcpu, in op);

    public static void Syscall(ref CpuState cpu, Vcpu vcpu, in MicroOp op) => SystemCalls32.User(ref cpu, vcpu, in op);

    public static void Sysenter(ref CpuState cpu, Vcpu vcpu, in MicroOp op) => SystemCalls32.Sysenter(ref cpu, vcpu);

    public static void Return(ref CpuState cpu, Vcpu vcpu, in ReturnFrame frame) => Return32.Load(ref cpu, vcpu, in frame);

    public static void ReturnByStack(ref CpuState cpu, Vcpu vcpu) => Return32.ByStack(ref cpu, vcpu);

    public static bool TryLeave(ref CpuState cpu, Vcpu vcpu) => Return32.TryLeave(ref cpu, vcpu);

    /// <summary>The frame of ring 1 has neither ESP nor SS: they are what remains when it is popped.</summary>
    public static ReturnFrame ReadFrame(ref CpuState cpu, Vcpu vcpu, Delivered delivered)
    {
        GuestMemory memory = vcpu.Memory;
        uint rsp = cpu.Read<uint>(Gpr.Rsp);
        ulong at = rsp + (delivered.Error is null ? 0u : sizeof(uint));
        return new ReturnFrame(
            cpu.Read<uint>(Gpr.Rax),
            0,
            0,
            0,
            memory.Read<uint>(at),
            memory.Read<ushort>(at + 4),
            memory.Read<uint>(at + 8),
            delivered.FromUser ? memory.Read<uint>(at + 12) : rsp + (uint)delivered.FrameLength,
            delivered.FromUser ? memory.Read<ushort>(at + 16) : cpu.Selector[Seg.Ss]);
    }
}
