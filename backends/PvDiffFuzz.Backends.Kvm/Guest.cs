using System.Runtime.Intrinsics.X86;
using Microsoft.Win32.SafeHandles;
using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>A virtual machine with one processor in the PVM document's table of underlying states, and the memory that it shares with this process.</summary>
internal sealed unsafe class Guest : IDisposable
{
    private const ulong Cr0 = 0x8005_0033; // PG, AM, WP, NE, ET, MP, PE
    private const ulong Cr4Pae = 0x20;
    private const ulong Cr4Fxsr = 0x200;
    private const ulong Cr4SimdExceptions = 0x400;
    private const ulong Cr4Umip = 0x800;
    private const ulong Cr4FsGsBase = 0x1_0000;
    private const ulong Cr4Osxsave = 0x4_0000;
    private const ulong Efer = 0xd01; // NXE, LMA, LME, SCE
    private const uint MsrStar = 0xc000_0081;
    private const uint MsrLstar = 0xc000_0082;
    private const uint MsrCstar = 0xc000_0083;
    private const uint MsrSyscallMask = 0xc000_0084;

    /// <summary>RFLAGS bits that SYSCALL clears: those that could harm an entry.</summary>
    private const ulong SyscallMask = RflagsBits.Status | RflagsBits.TF | RflagsBits.IF | RflagsBits.DF | RflagsBits.IOPL | RflagsBits.NT | RflagsBits.RF | RflagsBits.AC | RflagsBits.ID;

    private readonly KvmVm _vm;
    private readonly SafeMapping _memory;
    private readonly CpuProfile _profile;
    private LayoutMap? _layout;
    private bool _single;

    private Guest(KvmVm vm, KvmVcpu vcpu, SafeMapping memory, AgentCode agent, CpuProfile profile)
    {
        _vm = vm;
        Vcpu = vcpu;
        _memory = memory;
        _profile = profile;
        Agent = agent;
    }

    /// <summary>The processor.</summary>
    public KvmVcpu Vcpu { get; }

    /// <summary>The memory as this process sees it.</summary>
    public byte* Memory => _memory.Start;

    /// <summary>The agent in the guest.</summary>
    public AgentCode Agent { get; }

    /// <summary>x87 and vector state of a new processor.</summary>
    public byte[] CleanState { get; private set; } = [];

    /// <summary>System registers of a new processor, set up for CPL3.</summary>
    public KvmSregs Clean { get; private set; }

    /// <summary>Builds a machine.</summary>
    /// <param name="system">The device.</param>
    /// <param name="profile">Descriptors and gates.</param>
    /// <exception cref="KvmException">KVM refused a call.</exception>
    /// <exception cref="PosixException">Memory could not be had.</exception>
    public static Guest Create(KvmSystem system, CpuProfile profile)
    {
        using SafeFileHandle file = Memfd.Create("pvdf-guest", executable: false);
        Memfd.Resize(file, GuestMap.Size);
        SafeMapping? memory = null;
        KvmVm? vm = null;
        KvmVcpu? vcpu = null;
        try
        {
            memory = SafeMapping.Shared(file, GuestMap.Size);
            vm = system.CreateVm();
            if (system.Extension(KvmAbi.KVM_CAP_SET_TSS_ADDR) != 0)
            {
                vm.SetTssAddress(GuestMap.TssPhysical);
            }

            vcpu = vm.CreateVcpu();
            vcpu.SetCpuid(system.SupportedCpuid());
            Guest guest = new(vm, vcpu, memory, AgentCode.Assemble(Avx2.IsSupported), profile);
            guest.Prepare();
            return guest;
        }
        catch
        {
            vcpu?.Dispose();
            vm?.Dispose();
            memory?.Dispose();
            throw;
        }
    }

    /// <summary>Gives the payload the pages of a layout.</summary>
    public void Use(LayoutMap layout)
    {
        if (ReferenceEquals(layout, _layout))
        {
            return;
        }

        // KVM may keep shadows of tables that we change behind its back; it drops them with the memory.
        _vm.SetMemory(Memory, 0);
        PageTables.Write(Memory, layout);
        _vm.SetMemory(Memory, GuestMap.Size);
        _layout = layout;
    }

    /// <summary>Chooses where SYSCALL goes.</summary>
    /// <param name="single">True for the mode that leaves the guest at each event.</param>
    public void SetLanding(bool single)
    {
        if (single != _single)
        {
            Vcpu.SetMsrs(new KvmMsrEntry { Index = MsrLstar, Data = single ? GuestMap.Base + GuestMap.SingleLanding : GuestMap.Landing });
            _single = single;
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Vcpu.Dispose();
        _vm.Dispose();
        _memory.Dispose();
    }

    private void Prepare()
    {
        // SAFETY: the mapping has this size.
        GuestImage.Write(new Span<byte>(Memory, GuestMap.Size), _profile, Agent);
        PageTables.Write(Memory, null);
        _vm.SetMemory(Memory, GuestMap.Size);
        ulong xcr0 = (ulong)(uint)X86Base.CpuId(0xd, 0).Eax & 0xe7;
        Vcpu.GetSregs(out KvmSregs sregs);
        sregs.Cs = SegmentOf(Selectors.UserCode64);
        sregs.Ss = SegmentOf(Selectors.UserData);
        sregs.Ds = sregs.Es = sregs.Fs = sregs.Gs = SegmentOf(0);
        sregs.Ldt = SegmentOf(0);
        sregs.Tr = new KvmSegment { Base = GuestMap.Base + GuestMap.Tss, Limit = 0x67, Selector = GuestMap.TaskState, Type = 11, Present = 1 };
        sregs.Gdt = new KvmDtable { Base = GuestMap.Base + GuestMap.Gdt, Limit = _profile.GdtLimit };
        sregs.Idt = new KvmDtable { Base = GuestMap.Base + GuestMap.SingleIdt, Limit = 0xfff };
        sregs.Cr0 = Cr0;
        sregs.Cr3 = GuestMap.Tables;
        sregs.Cr4 = Cr4Pae | Cr4Fxsr | Cr4SimdExceptions | Cr4FsGsBase | (_profile.Has("OSXSAVE") ? Cr4Osxsave : 0) | (_profile.Has("UMIP") ? Cr4Umip : 0);
        sregs.Efer = Efer;
        Clean = sregs;
        Vcpu.SetSregs(in sregs);
        if (_profile.Has("OSXSAVE"))
        {
            Vcpu.SetXcr0(xcr0);
        }

        ulong star = ((ulong)Selectors.UserCode32 << 48) | ((ulong)GuestMap.KernelCode << 32);
        Vcpu.SetMsrs(
            new KvmMsrEntry { Index = MsrStar, Data = star },
            new KvmMsrEntry { Index = MsrLstar, Data = GuestMap.Landing },
            new KvmMsrEntry { Index = MsrCstar, Data = GuestMap.Landing },
            new KvmMsrEntry { Index = MsrSyscallMask, Data = SyscallMask });
        CleanState = Vcpu.GetXsave();
    }

    /// <summary>The hidden part of a segment register, as loading its selector makes it.</summary>
    private KvmSegment SegmentOf(ushort selector)
    {
        SegmentDescriptor? d = _profile.Descriptors.FirstOrDefault(found => found.Index == selector >> 3);
        return d is null || selector < 4
            ? new KvmSegment { Selector = selector, Unusable = 1 }
            : new KvmSegment
            {
                Base = d.Base,
                Limit = d.Limit,
                Selector = selector,
                Type = (byte)(d.Type | 1),
                Present = d.Present ? (byte)1 : (byte)0,
                Dpl = d.Dpl,
                Db = d.Big ? (byte)1 : (byte)0,
                S = d.System ? (byte)0 : (byte)1,
                L = d.Long ? (byte)1 : (byte)0,
                G = d.Granular ? (byte)1 : (byte)0,
                Avl = d.Available ? (byte)1 : (byte)0,
            };
    }
}
