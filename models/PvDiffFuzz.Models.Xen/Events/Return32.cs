using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Events;

/// <summary>HYPERVISOR_iret of a 32-bit guest, and the last step by which Xen goes back to it.</summary>
internal static class Return32
{
    private const int WordsOfKernel = 4;
    private const int WordsOfUser = 6;
    private const ulong Loadable = RflagsBits.UserLoadable | RflagsBits.VIF | RflagsBits.VIP;

    /// <summary>Reads the frame at ESP and returns by it: EAX, EIP, CS, EFLAGS, and to an outer ring ESP and SS. To ring 1 the frame is popped.</summary>
    [Spec("Xen facts", "PV32: iret frame")]
    public static void ByStack(ref CpuState cpu, Vcpu vcpu)
    {
        uint at = cpu.Read<uint>(Gpr.Rsp);
        Span<uint> w = stackalloc uint[WordsOfUser];
        if (!TryReadWords(vcpu, at, w[..WordsOfKernel]))
        {
            return;
        }

        if ((w[2] & 3) > BounceFrame32.KernelRing)
        {
            if (!TryReadWords(vcpu, at, w))
            {
                return;
            }
        }
        else
        {
            w[4] = at + (WordsOfKernel * sizeof(uint));
            w[5] = cpu.Selector[Seg.Ss];
        }

        Load(ref cpu, vcpu, new ReturnFrame(w[0], 0, 0, 0, w[1], (ushort)w[2], w[3], w[4], (ushort)w[5]));
    }

    private static bool TryReadWords(Vcpu vcpu, uint at, scoped Span<uint> words)
    {
        int length = words.Length * sizeof(uint);
        if (!Pv32.IsGuestAddress(at + (ulong)length - 1) || !vcpu.Memory.CanRead(at, length, out _, out _))
        {
            DomainCrash.FrameNotRead(vcpu);
            return false;
        }

        for (int i = 0; i < words.Length; i++)
        {
            words[i] = vcpu.Memory.Read<uint>(at + (uint)(i * sizeof(uint)));
        }

        return true;
    }

    /// <summary>Loads the frame. The RPL of CS says to which ring; no guest code runs in ring 0.</summary>
    [Spec("Xen facts", "PV32: iret frame")]
    [Spec("xen-readings", "virtual-8086-mode")]
    public static void Load(ref CpuState cpu, Vcpu vcpu, in ReturnFrame frame)
    {
        int ring = frame.Cs & 3;
        if ((frame.Rflags & RflagsBits.VM) != 0 || ring == 2)
        {
            vcpu.End(Verdict.Unsupported, "HYPERVISOR_iret of a 32-bit guest to virtual-8086 mode or to ring 2");
            return;
        }

        if (ring == 0)
        {
            DomainCrash.ReturnToRing0(vcpu);
            return;
        }

        if (ring > BounceFrame32.KernelRing)
        {
            vcpu.SwitchMode<Pv32>(ref cpu, kernel: false);
        }

        cpu.Rip = (uint)frame.Rip;
        cpu.Selector[Seg.Cs] = frame.Cs;
        cpu.Selector[Seg.Ss] = frame.Ss;
        cpu.Write(Gpr.Rsp, (uint)frame.Rsp);
        cpu.Write(Gpr.Rax, (uint)frame.Rax);
        Return64.LoadFlags(vcpu, (uint)frame.Rflags);
    }

    /// <summary>By IRET. To user mode it empties data segments that are the kernel's alone.</summary>
    /// <returns>False after a fault of the IRET, which the guest gets as if it had happened where it was to go on.</returns>
    [Spec("Xen facts", "iret hypercall: bad selectors")]
    public static bool TryLeave(ref CpuState cpu, Vcpu vcpu)
    {
        if (ReturnChecks.Find(ref cpu, vcpu, vcpu.KernelMode ? BounceFrame32.KernelRing : 3) is (byte vector, uint error))
        {
            BounceFrame32.Enter(ref cpu, vcpu, Bounce.ToTrap(vcpu, vector, error));
            return false;
        }

        if (vcpu.Verdict != Verdict.Running)
        {
            return true;
        }

        if (!vcpu.KernelMode)
        {
            EmptyInnerSegments(ref cpu);
        }

        // Alignment is checked in ring 3 alone.
        cpu.ChecksAlignment = !vcpu.KernelMode && vcpu.Engine.ChecksAlignment;
        X86.Delivery.Resume(ref cpu, (vcpu.Rflags & Loadable) | RflagsBits.IF | RflagsBits.Fixed1);
        return true;
    }

    /// <summary>A data segment of a DPL below the new privilege level becomes null, unless it is conforming code.</summary>
    [Spec("SDM", "vol.2A IRET/IRETD/IRETQ (to an outer privilege level)")]
    private static void EmptyInnerSegments(ref CpuState cpu)
    {
        ReadOnlySpan<byte> segments = [Seg.Es, Seg.Ds, Seg.Fs, Seg.Gs];
        foreach (byte segment in segments)
        {
            if (Descriptors.Find(cpu.Profile, cpu.Selector[segment]) is { Dpl: < 3 } found && !Descriptors.IsConforming(found))
            {
                cpu.Selector[segment] = 0;
                cpu.SegmentBase[segment] = 0;
            }
        }
    }
}
