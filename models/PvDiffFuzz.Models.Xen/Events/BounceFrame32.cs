using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Events;

/// <summary>How Xen enters the kernel of a 32-bit guest: as the processor enters ring 1, with the frame on a stack of the guest's.</summary>
internal static class BounceFrame32
{
    /// <summary>Ring of the guest's kernel.</summary>
    public const int KernelRing = 1;

    /// <summary>What handlers never start with. AC stays.</summary>
    private const ulong ClearedOnEntry = RflagsBits.VM | RflagsBits.RF | RflagsBits.NT | RflagsBits.TF;

    private const int ArchitecturalIopl = 4;
    private const int WordsOfKernel = 3;
    private const int WordsOfUser = 5;

    /// <summary>Builds the frame and goes to the handler: [error code,] EIP, CS, EFLAGS, and from an outer ring ESP and SS. The stack is not aligned.</summary>
    [Spec("Xen facts", "PV32: frames")]
    public static void Enter(ref CpuState cpu, Vcpu vcpu, in Bounce bounce)
    {
        vcpu.Note(in bounce);
        bool fromUser = !vcpu.KernelMode;
        uint rip = (uint)cpu.Rip;
        ushort ss = fromUser ? (ushort)vcpu[SystemRegister.XenKernelSs] : cpu.Selector[Seg.Ss];
        uint top = fromUser ? (uint)vcpu[SystemRegister.XenKernelSp] : cpu.Read<uint>(Gpr.Rsp);
        if (fromUser)
        {
            vcpu.SwitchMode<Pv32>(ref cpu, kernel: true);
        }

        int length = sizeof(uint) * ((fromUser ? WordsOfUser : WordsOfKernel) + (bounce.Error is null ? 0 : 1));
        uint at = top - (uint)length;
        if (!FitsStack(ref cpu, vcpu, ss, at, top))
        {
            return;
        }

        if (!vcpu.Memory.CanWrite(at, length, out _, out _))
        {
            DomainCrash.FrameNotStored(vcpu);
            return;
        }

        Store(ref cpu, vcpu, at, fromUser, bounce.Error);
        if (bounce.MasksEvents)
        {
            vcpu.UpcallMask |= 1;
        }

        ushort cs = Hypercalls.TrapTable.FixSelector<Pv32>(bounce.Cs);
        if (bounce.Handler == 0)
        {
            DomainCrash.NoHandler(vcpu);
            return;
        }

        if (cs <= 3)
        {
            DomainCrash.NullCode(vcpu);
            return;
        }

        cpu.Rip = bounce.Handler;
        cpu.Write(Gpr.Rsp, at);
        cpu.Selector[Seg.Cs] = cs;
        cpu.Selector[Seg.Ss] = ss;
        vcpu.Rflags &= ~ClearedOnEntry;
        vcpu.Deliveries.Add(new Delivered(bounce.Entry, bounce.Kind, bounce.Vector, bounce.Error, bounce.Cr2, bounce.Handler, length, rip, fromUser));
    }

    /// <summary>Xen stores through the selector of the stack: the registered one from user mode, else the current one.</summary>
    [Spec("Xen facts", "PV32: stack")]
    [Spec("xen-readings", "stack-of-a-32-bit-guest")]
    private static bool FitsStack(ref CpuState cpu, Vcpu vcpu, ushort ss, uint at, uint top)
    {
        if (Descriptors.Find(cpu.Profile, ss) is not { Present: true, Dpl: >= KernelRing } stack || !Descriptors.IsWritable(stack) || top < at)
        {
            DomainCrash.FrameNotStored(vcpu);
            return false;
        }

        if (!Descriptors.IsFlat(cpu.Profile, ss) || stack.Base != 0)
        {
            vcpu.End(Verdict.Unsupported, "the stack of the guest's kernel is not flat");
            return false;
        }

        return true;
    }

    private static void Store(ref CpuState cpu, Vcpu vcpu, uint at, bool fromUser, uint? error)
    {
        GuestMemory memory = vcpu.Memory;
        uint next = at;
        if (error is uint code)
        {
            next = Push(memory, next, code);
        }

        next = Push(memory, next, (uint)cpu.Rip);
        next = Push(memory, next, CodeWord(vcpu, cpu.Selector[Seg.Cs]));
        next = Push(memory, next, (uint)ShownRflags(vcpu));
        if (fromUser)
        {
            next = Push(memory, next, cpu.Read<uint>(Gpr.Rsp));
            Push(memory, next, cpu.Selector[Seg.Ss]);
        }
    }

    private static uint Push(GuestMemory memory, uint at, uint value)
    {
        memory.Write(at, value);
        return at + sizeof(uint);
    }

    /// <summary>CS, the upcall mask as it was in bits 23:16, and above it the byte that follows it in the vcpu_info.</summary>
    [Spec("Xen facts", "PV32: CS word")]
    private static uint CodeWord(Vcpu vcpu, ushort cs) => cs | ((uint)vcpu.UpcallMask << 16) | ((uint)(byte)vcpu[SystemRegister.XenVcpuInfoPad] << 24);

    /// <summary>IF is the inverse of the upcall mask, IOPL 0, or the virtual one for guests that have asked to see it.</summary>
    [Spec("Xen facts", "Event and exception delivery: saved RFLAGS")]
    private static ulong ShownRflags(Vcpu vcpu) =>
        (vcpu.Rflags & ~(RflagsBits.IF | RflagsBits.IOPL)) | (vcpu.UpcallMask == 0 ? RflagsBits.IF : 0) | (vcpu.Assists(ArchitecturalIopl) ? vcpu[SystemRegister.XenIopl] << 12 : 0);
}
