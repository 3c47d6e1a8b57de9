using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Events;

/// <summary>How Xen enters the kernel of a 64-bit guest: it builds the frame itself, on the guest's stack.</summary>
internal static class BounceFrame64
{
    /// <summary>Bytes of a frame without an error code: RCX, R11, RIP, CS, RFLAGS, RSP, SS.</summary>
    public const int Length = 56;

    /// <summary>What handlers never start with.</summary>
    private const ulong ClearedOnEntry = RflagsBits.AC | RflagsBits.VM | RflagsBits.RF | RflagsBits.NT | RflagsBits.TF;

    private const int ArchitecturalIopl = 4;

    /// <summary>Builds the frame and goes to the handler.</summary>
    [Spec("Xen facts", "Event and exception delivery: live state")]
    public static void Enter<TGuest>(ref CpuState cpu, Vcpu vcpu, in Bounce bounce)
        where TGuest : struct, IXenGuest
    {
        vcpu.Note(in bounce);
        bool fromUser = !vcpu.KernelMode;
        ulong rip = cpu.Rip;
        ulong top = StackFor<TGuest>(ref cpu, vcpu);
        if (IsXens(top))
        {
            DomainCrash.StackOfXen(vcpu);
            return;
        }

        int length = Length + (bounce.Error is null ? 0 : sizeof(ulong));
        ulong at = top - (ulong)length;
        if (!cpu.Canonical(at) || !cpu.Canonical(top - 1) || !vcpu.Memory.CanWrite(at, length, out _, out _))
        {
            DomainCrash.FrameNotStored(vcpu);
            return;
        }

        Store(ref cpu, vcpu, at, fromUser, bounce.Error);
        if (bounce.MasksEvents)
        {
            vcpu.UpcallMask |= 1;
        }

        if (bounce.Handler == 0)
        {
            DomainCrash.NoHandler(vcpu);
            return;
        }

        cpu.Rip = bounce.Handler;
        cpu.Write(Gpr.Rsp, at);
        cpu.Selector[Seg.Cs] = XenMap.FlatCode64;
        cpu.Selector[Seg.Ss] = XenMap.FlatData;
        vcpu.Rflags &= ~ClearedOnEntry;
        vcpu.ReturnsFromSyscall = true;
        vcpu.Deliveries.Add(new Delivered(bounce.Entry, bounce.Kind, bounce.Vector, bounce.Error, bounce.Cr2, bounce.Handler, length, rip, fromUser));
    }

    /// <summary>From user mode the registered kernel stack, with the kernel's page tables and GS; else the current one. Aligned down to 16.</summary>
    [Spec("Xen facts", "Event and exception delivery: stack")]
    private static ulong StackFor<TGuest>(ref CpuState cpu, Vcpu vcpu)
        where TGuest : struct, IXenGuest
    {
        ulong stack = cpu.Read<ulong>(Gpr.Rsp);
        if (!vcpu.KernelMode)
        {
            vcpu.SwitchMode<TGuest>(ref cpu, kernel: true);
            stack = vcpu[SystemRegister.XenKernelSp];
        }

        return stack & ~0xfUL;
    }

    /// <summary>Above the first byte of Xen's range, and up to where a frame would reach down into it. The first byte itself passes; the frame then does not fit.</summary>
    [Spec("Xen facts", "Event and exception delivery: stack in Xen's range")]
    private static bool IsXens(ulong top) => top is > XenMap.PrivateFirst and < XenMap.PrivateLast + 1 + 64;

    private static void Store(ref CpuState cpu, Vcpu vcpu, ulong at, bool fromUser, uint? error)
    {
        GuestMemory memory = vcpu.Memory;
        ulong next = Push(memory, at, cpu.Read<ulong>(Gpr.Rcx));
        next = Push(memory, next, cpu.Read<ulong>(Gpr.R11));
        if (error is uint code)
        {
            next = Push(memory, next, code);
        }

        next = Push(memory, next, cpu.Rip);
        next = Push(memory, next, CodeWord(vcpu, cpu.Selector[Seg.Cs], fromUser));
        next = Push(memory, next, ShownRflags(vcpu));
        next = Push(memory, next, cpu.Read<ulong>(Gpr.Rsp));
        Push(memory, next, cpu.Selector[Seg.Ss]);
    }

    private static ulong Push(GuestMemory memory, ulong at, ulong value)
    {
        memory.Write(at, value);
        return at + sizeof(ulong);
    }

    /// <summary>CS, with RPL 0 for the kernel; the upcall mask as it was in bits 39:32, and above it the bytes that follow it in the vcpu_info.</summary>
    [Spec("Xen facts", "Event and exception delivery: CS word")]
    private static ulong CodeWord(Vcpu vcpu, ushort cs, bool fromUser)
    {
        const ulong shownPad = 0xff_ffff;
        ulong shown = fromUser ? cs : (uint)cs & ~3u;
        return shown | ((ulong)vcpu.UpcallMask << 32) | ((vcpu[SystemRegister.XenVcpuInfoPad] & shownPad) << 40);
    }

    /// <summary>IF is the inverse of the upcall mask, IOPL 0, or the virtual one for guests that have asked to see it. What a return has loaded into the upper half is not shown.</summary>
    [Spec("Xen facts", "Event and exception delivery: saved RFLAGS")]
    [Spec("xen-readings", "width-of-saved-flags")]
    public static ulong ShownRflags(Vcpu vcpu) =>
        (vcpu.Rflags & uint.MaxValue & ~(RflagsBits.IF | RflagsBits.IOPL)) | (vcpu.UpcallMask == 0 ? RflagsBits.IF : 0) | (vcpu.Assists(ArchitecturalIopl) ? vcpu[SystemRegister.XenIopl] << 12 : 0);
}
