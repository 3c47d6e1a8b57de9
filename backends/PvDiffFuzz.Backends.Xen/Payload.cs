using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>What a payload may do to the state that Xen and the agent keep, by what its bytes could execute.</summary>
[Flags]
internal enum Effects
{
    /// <summary>Nothing but registers and memory of the case.</summary>
    None = 0,

    /// <summary>It can call Xen.</summary>
    Calls = 1 << 0,

    /// <summary>It can register handlers, so that the trap table and callbacks are not known afterwards, nor anything else, since handlers can be code of the case.</summary>
    ChangesEverything = 1 << 1,

    /// <summary>It can change the kernel's stack.</summary>
    ChangesStack = 1 << 2,

    /// <summary>It can enable or disable assists.</summary>
    ChangesAssists = 1 << 3,

    /// <summary>It can change the virtual IOPL, or name an I/O bitmap.</summary>
    ChangesIopl = 1 << 4,

    /// <summary>It can give up the guest's part of the GDT.</summary>
    ChangesGdt = 1 << 5,

    /// <summary>It can write debug registers.</summary>
    ChangesDebug = 1 << 6,

    /// <summary>It can change the GS base of the mode that does not run.</summary>
    ChangesOtherGsBase = 1 << 7,

    /// <summary>It can change CR0.TS.</summary>
    ChangesTaskSwitched = 1 << 8,

    /// <summary>It can read DR6.</summary>
    ReadsDebug = 1 << 9,

    /// <summary>It can see or change CR4, or be told whether the instructions for segment bases are on.</summary>
    SeesCr4 = 1 << 10,

    /// <summary>It can read CR2.</summary>
    ReadsCr2 = 1 << 11,

    /// <summary>User code can run.</summary>
    UserMode = 1 << 12,

    /// <summary>It can load a selector, or the base itself, of GS.</summary>
    LoadsGs = 1 << 13,

    /// <summary>It makes a call whose effects nothing but the snapshot undoes.</summary>
    Lasting = 1 << 14,

    /// <summary>It can execute SYSCALL.</summary>
    Syscalls = 1 << 15,

    /// <summary>It can execute SYSENTER.</summary>
    Sysenters = 1 << 16,

    /// <summary>It can see the GS base of user mode: by a segment prefix, the instructions for bases, or the MSR.</summary>
    SeesUserGsBase = 1 << 17,
}

/// <summary>Reads effects off a case. A jump can land anywhere, so every byte counts as the beginning of an instruction.</summary>
internal static class Payload
{
    private const Effects Everything =
        Effects.Calls | Effects.ChangesEverything | Effects.ChangesStack | Effects.ChangesAssists | Effects.ChangesIopl | Effects.ChangesGdt | Effects.ChangesDebug
        | Effects.ChangesOtherGsBase | Effects.ChangesTaskSwitched | Effects.UserMode | Effects.ReadsDebug;

    /// <summary>What is known of a call whose number is not: everything that is set anew for every case may be otherwise. What is worse shows in the page tables.</summary>
    private const Effects UnknownCall = Everything;

    /// <summary>Numbers of hypercalls end here; from here on nothing is done.</summary>
    private const ulong Numbers = 56;

    /// <summary>Reads a case.</summary>
    public static Effects Of(TestCase testCase)
    {
        // Whether kernel code runs: at the start, or after a return to it.
        bool user = testCase.Start == GuestMode.User;
        bool kernel = !user;
        Effects effects = Effects.None;
        foreach (Response response in testCase.Responses)
        {
            foreach ((Register register, ulong value) in response.Patches)
            {
                effects |= register is Register.Gs or Register.GsBase ? Effects.LoadsGs : Effects.None;
                kernel |= register == Register.Cs && (value & 3) != 3;
                user |= register == Register.Cs && (value & 3) == 3;
            }

            foreach (Hypercall call in response.Hypercalls)
            {
                effects |= IsQuery(call) ? Effects.Calls : OfCall(call.Number);
            }
        }

        effects |= user ? Effects.UserMode : Effects.None;
        effects |= OfBytes(testCase.Code.Bytes.AsSpan(), kernel);
        foreach (MemoryContents contents in testCase.Contents)
        {
            effects |= IsCode(testCase, contents) ? OfBytes(contents.Bytes.AsSpan(), kernel) : Effects.None;
        }

        return effects;
    }

    /// <summary>True for a case that can load CS by MOV, or TR and what an emulator has behind it, as if they were segment registers.</summary>
    public static bool LoadsNoSegment(TestCase testCase)
    {
        if (LoadsNoSegment(testCase.Code.Bytes.AsSpan()))
        {
            return true;
        }

        foreach (MemoryContents contents in testCase.Contents)
        {
            if (LoadsNoSegment(contents.Bytes.AsSpan()) && IsCode(testCase, contents))
            {
                return true;
            }
        }

        return false;
    }

    private static bool LoadsNoSegment(ReadOnlySpan<byte> bytes)
    {
        int loaded = SegmentLoads.Numbers(bytes);
        return (loaded & (1 << SegmentLoads.Cs)) != 0 || loaded >> SegmentLoads.TaskRegister != 0;
    }

    // Contents do not cross from data into code: the slots lie apart.
    private static bool IsCode(TestCase testCase, MemoryContents contents) => IsCode(testCase, contents.Address) || IsCode(testCase, contents.Address + (ulong)contents.Bytes.Length - 1);

    private static bool IsCode(TestCase testCase, ulong address) =>
        ((testCase.Layout.AccessAt(address) | (testCase.Xen!.UserLayout?.AccessAt(address) ?? PageAccess.None)) & PageAccess.Execute) != 0;

    /// <summary>Vectors other than exceptions that the case's bytes can raise by <c>INT n</c>, a bit each, and exceptions and the fast path always.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="vectors">Receives four words.</param>
    public static void VectorsOf(TestCase testCase, Span<ulong> vectors)
    {
        const int fastPath = 0x80;
        const int hypercall = 0x82;
        vectors.Clear();
        vectors[0] = uint.MaxValue;
        vectors[fastPath >> 6] |= 1UL << (fastPath & 63);
        vectors[hypercall >> 6] |= 1UL << (hypercall & 63);
        AddVectors(testCase.Code.Bytes.AsSpan(), vectors);
        foreach (MemoryContents contents in testCase.Contents)
        {
            AddVectors(contents.Bytes.AsSpan(), vectors);
        }
    }

    private static void AddVectors(ReadOnlySpan<byte> bytes, Span<ulong> vectors)
    {
        const byte softwareInterrupt = 0xcd;
        while (bytes.IndexOf(softwareInterrupt) is int at and >= 0 && at + 1 < bytes.Length)
        {
            byte vector = bytes[at + 1];
            vectors[vector >> 6] |= 1UL << (vector & 63);
            bytes = bytes[(at + 1)..];
        }
    }

    /// <summary>What a hypercall may do.</summary>
    private static Effects OfCall(ulong number) => Effects.Calls | number switch
    {
        >= Numbers => Effects.None,
        XenAbi.HYPERVISOR_set_trap_table or XenAbi.HYPERVISOR_callback_op or XenAbi.HYPERVISOR_set_callbacks or XenAbi.HYPERVISOR_nmi_op or XenAbi.HYPERVISOR_multicall => Everything,
        XenAbi.HYPERVISOR_set_gdt => Effects.ChangesGdt,
        XenAbi.HYPERVISOR_stack_switch => Effects.ChangesStack,
        XenAbi.HYPERVISOR_fpu_taskswitch => Effects.ChangesTaskSwitched,
        XenAbi.HYPERVISOR_set_debugreg => Effects.ChangesDebug | Effects.SeesCr4,
        XenAbi.HYPERVISOR_get_debugreg => Effects.ReadsDebug | Effects.SeesCr4,
        XenAbi.HYPERVISOR_vm_assist => Effects.ChangesAssists,
        XenAbi.HYPERVISOR_set_segment_base => Effects.ChangesOtherGsBase,
        XenAbi.HYPERVISOR_physdev_op => Effects.ChangesIopl,
        XenAbi.HYPERVISOR_iret => Effects.UserMode,

        // A descriptor needs a machine address; timers have no channel to come through; the others change nothing, or stop the guest, which shows.
        XenAbi.HYPERVISOR_update_descriptor or XenAbi.HYPERVISOR_set_timer_op or XenAbi.HYPERVISOR_sched_op or XenAbi.HYPERVISOR_sched_op_compat or XenAbi.HYPERVISOR_xen_version
            or XenAbi.HYPERVISOR_console_io => Effects.None,
        _ => Everything | Effects.Lasting,
    };

    private static Effects OfBytes(ReadOnlySpan<byte> bytes, bool kernel)
    {
        // MOV to GS and the prefix for GS have no 0F before them.
        Effects effects = (bytes.Contains((byte)0x8e) ? Effects.LoadsGs : Effects.None) | (bytes.Contains((byte)0x65) ? Effects.SeesUserGsBase : Effects.None);
        for (int at = bytes.IndexOf((byte)0x0f); at >= 0 && at + 1 < bytes.Length; at = Next(bytes, at))
        {
            byte second = bytes[at + 1];
            byte third = at + 2 < bytes.Length ? bytes[at + 2] : (byte)0;
            int register = (third >> 3) & 7;
            effects |= second switch
            {
                0x05 => Effects.Syscalls | (kernel ? OfCallAt(bytes, at) : Effects.None),
                0x34 => Effects.Sysenters,
                0x32 when kernel => Effects.SeesUserGsBase,
                0x06 when kernel => Effects.ChangesTaskSwitched,
                0x01 when kernel && register == 6 => Effects.ChangesTaskSwitched,
                0x20 when kernel => register == 4 ? Effects.SeesCr4 : register == 2 ? Effects.ReadsCr2 : Effects.None,
                0x22 when kernel => register == 4 ? Effects.SeesCr4 : register == 0 ? Effects.ChangesTaskSwitched : Effects.None,
                0x21 when kernel => Effects.ReadsDebug | OfAlias(register),
                0x23 when kernel => Effects.ChangesDebug | OfAlias(register),
                0x30 when kernel => Effects.ChangesOtherGsBase | Effects.SeesUserGsBase,
                0xae when register < 4 && third >= 0xc0 => Effects.SeesCr4 | Effects.LoadsGs | Effects.SeesUserGsBase,
                0xa9 or 0xb5 => Effects.LoadsGs,
                _ => Effects.None,
            };
        }

        return effects;
    }

    /// <summary>DR4 and DR5 are DR6 and DR7, or nothing, as CR4.DE says.</summary>
    private static Effects OfAlias(int register) => register is 4 or 5 ? Effects.SeesCr4 : Effects.None;

    private static int Next(ReadOnlySpan<byte> bytes, int at)
    {
        int further = bytes[(at + 1)..].IndexOf((byte)0x0f);
        return further < 0 ? -1 : at + 1 + further;
    }

    /// <summary>What the call of a SYSCALL may do: its number is known when MOV EAX with a constant comes right before it.</summary>
    private static Effects OfCallAt(ReadOnlySpan<byte> bytes, int at)
    {
        const int loadLength = 5;
        const byte loadEax = 0xb8;
        int load = at - loadLength;
        bool prefixed = at > 0 && bytes[at - 1] is (0x48 or 0x66 or 0xf2 or 0xf3);
        load = prefixed && load > 0 && bytes[load - 1] == loadEax ? load - 1 : load;
        if (load < 0 || bytes[load] != loadEax)
        {
            return UnknownCall;
        }

        ulong number = BitConverter.ToUInt32(bytes[(load + 1)..]);
        return number == XenAbi.HYPERVISOR_vcpu_op && bytes[Math.Max(0, load - ArgumentBytes)..load].IndexOf(LoadQuery) >= 0 ? Effects.Calls : OfCall(number);
    }

    /// <summary>Bytes before the number of a call in which its arguments are loaded.</summary>
    private const int ArgumentBytes = 24;

    /// <summary>MOV EDI with the command of vcpu_op that asks whether a virtual CPU is up, the only one that changes nothing.</summary>
    private static ReadOnlySpan<byte> LoadQuery => [0xbf, XenAbi.VCPUOP_is_up, 0, 0, 0];

    private static bool IsQuery(Hypercall call) => call.Number == XenAbi.HYPERVISOR_vcpu_op && !call.Arguments.IsEmpty && call.Arguments[0] == XenAbi.VCPUOP_is_up;
}
