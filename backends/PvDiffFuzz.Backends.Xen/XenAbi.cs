namespace PvDiffFuzz.Backends.Xen;

/// <summary>Numbers of Xen's public headers, under their own names (<c>xen/include/public</c>).</summary>
internal static class XenAbi
{
#pragma warning disable CS1591, CA1707 // Each member is the constant of that name.
    public const uint HYPERVISOR_set_trap_table = 0;
    public const uint HYPERVISOR_mmu_update = 1;
    public const uint HYPERVISOR_set_gdt = 2;
    public const uint HYPERVISOR_stack_switch = 3;
    public const uint HYPERVISOR_set_callbacks = 4;
    public const uint HYPERVISOR_fpu_taskswitch = 5;
    public const uint HYPERVISOR_sched_op_compat = 6;
    public const uint HYPERVISOR_set_debugreg = 8;
    public const uint HYPERVISOR_get_debugreg = 9;
    public const uint HYPERVISOR_update_descriptor = 10;
    public const uint HYPERVISOR_multicall = 13;
    public const uint HYPERVISOR_update_va_mapping = 14;
    public const uint HYPERVISOR_set_timer_op = 15;
    public const uint HYPERVISOR_xen_version = 17;
    public const uint HYPERVISOR_console_io = 18;
    public const uint HYPERVISOR_vm_assist = 21;
    public const uint HYPERVISOR_iret = 23;
    public const uint HYPERVISOR_vcpu_op = 24;
    public const uint HYPERVISOR_set_segment_base = 25;
    public const uint HYPERVISOR_mmuext_op = 26;
    public const uint HYPERVISOR_nmi_op = 28;
    public const uint HYPERVISOR_sched_op = 29;
    public const uint HYPERVISOR_callback_op = 30;
    public const uint HYPERVISOR_physdev_op = 33;

    public const uint SCHEDOP_poll = 3;

    public const byte VCPUOP_is_up = 3;

    public const uint MMUEXT_PIN_L4_TABLE = 3;
    public const uint MMUEXT_UNPIN_TABLE = 4;
    public const uint MMUEXT_NEW_BASEPTR = 5;
    public const uint MMUEXT_TLB_FLUSH_LOCAL = 6;
    public const uint MMUEXT_NEW_USER_BASEPTR = 15;
    public const ulong DOMID_SELF = 0x7ff0;

    public const uint UVMF_INVLPG = 2;

    public const uint CALLBACKOP_register = 0;
    public const uint CALLBACKTYPE_event = 0;
    public const uint CALLBACKTYPE_failsafe = 1;
    public const uint CALLBACKTYPE_syscall = 2;
    public const uint CALLBACKTYPE_nmi = 4;
    public const uint CALLBACKTYPE_sysenter = 5;
    public const uint CALLBACKTYPE_syscall32 = 7;
    public const uint CALLBACKF_mask_events = 1;

    public const uint SEGBASE_FS = 0;
    public const uint SEGBASE_GS_USER = 1;
    public const uint SEGBASE_GS_KERNEL = 2;
    public const uint SEGBASE_GS_USER_SEL = 3;

    public const uint PHYSDEVOP_set_iopl = 6;
    public const uint PHYSDEVOP_set_iobitmap = 7;

    public const uint VMASST_CMD_enable = 0;
    public const uint VMASST_CMD_disable = 1;
#pragma warning restore CS1591, CA1707

    /// <summary>Offset of <c>nr_pages</c> in <c>start_info</c>.</summary>
    public const int StartInfoPages = 32;

    /// <summary>Offset in <c>start_info</c> of the machine address of <c>shared_info</c>.</summary>
    public const int StartInfoSharedInfo = 40;

    /// <summary>Offset in <c>start_info</c> of the linear address of the first page table.</summary>
    public const int StartInfoPageTable = 88;

    /// <summary>Offset in <c>start_info</c> of the linear address of the list of machine frames.</summary>
    public const int StartInfoFrameList = 104;

    /// <summary>Bytes of <c>trap_info</c>: vector, flags, cs, padding, address.</summary>
    public const int TrapInfoSize = 16;

    /// <summary>In <c>vcpu_info</c>: one byte that is set when events are pending.</summary>
    public const int UpcallPending = 0;

    /// <summary>In <c>vcpu_info</c>: one byte that holds events back.</summary>
    public const int UpcallMask = 1;

    /// <summary>In <c>vcpu_info</c>: the address of the last #PF.</summary>
    public const int VcpuCr2 = 16;

    /// <summary>In <c>vcpu_info</c>: time stamp, system time in nanoseconds, multiplier and shift.</summary>
    public const int TimeStamp = 40, SystemTime = 48, TimeMultiplier = 56, TimeShift = 60;
}
