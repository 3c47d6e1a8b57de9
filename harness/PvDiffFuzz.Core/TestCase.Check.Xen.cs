namespace PvDiffFuzz.Core;

/// <content>What Xen cases must keep to: what a guest could have registered, and what targets need to run them.</content>
public sealed partial record TestCase
{
    /// <summary>Flags word of an iret frame: the guest returns from a system call (VGCF_in_syscall).</summary>
    public const ulong XenIretInSyscall = 0x100;

    private const ulong XenVmAssists = 0x1_0000_003f;

    private CaseProblem? CheckXen()
    {
        if (Xen is null)
        {
            return new CaseProblem("abi", $"a case of {Abi.Text()} has no `xen` line, which says how it is entered");
        }

        if (Pvm is not null)
        {
            return new CaseProblem("pvm", $"{Abi.Text()} has no per-VCPU structure; only PVM cases have a `pvm` line");
        }

        return CheckXenPages(Xen) ?? CheckXenTables(Xen) ?? CheckXenStatement(Xen) ?? CheckXenEntry(Xen) ?? CheckXenReturns();
    }

    private CaseProblem? CheckXenPages(XenState xen)
    {
        bool narrow = Abi == Abi.XenPv32;
        if (narrow && xen.UserLayout is not null)
        {
            return new CaseProblem("user-page", $"a guest of {Abi.Text()} has one root; its kernel's pages are supervisor pages of it");
        }

        foreach (PageRange range in Layout.Ranges.AddRange(UserPages.Ranges))
        {
            if (narrow ? range.Last >= XenMap.PrivateFirst32 : range.Address <= XenMap.PrivateLast && range.Last >= XenMap.PrivateFirst)
            {
                return new CaseProblem("page", $"{range.Address:x}: the range from {(narrow ? XenMap.PrivateFirst32 : XenMap.PrivateFirst):x} is Xen's own");
            }

            if (!narrow && (range.Access & PageAccess.Supervisor) != 0)
            {
                return new CaseProblem("page", $"{range.Address:x}: a supervisor page; kernel and user of {Abi.Text()} both run at CPL3, and only the user root keeps pages from user code");
            }
        }

        return null;
    }

    private CaseProblem? CheckXenTables(XenState xen)
    {
        ulong? last = xen.Traps.Base is ulong first ? first + (255 * XenTrap.HandlerSize) : null;
        if (last is ulong end && !(IsXenEntry(xen.Traps.Base!.Value) && IsXenEntry(end)))
        {
            return new CaseProblem("traps", $"{xen.Traps.Base:x}: all 256 handlers lie at addresses that the guest can have (HYPERVISOR_set_trap_table)");
        }

        foreach (XenTrap trap in xen.Traps.Overrides)
        {
            if (trap.Flags > 7 || (trap.Address != 0 && !IsXenEntry(trap.Address)))
            {
                return new CaseProblem("trap", $"vector {trap.Vector:x2}: flags have three bits, and the handler's address is one that the guest can have (HYPERVISOR_set_trap_table)");
            }
        }

        for (int i = 0; i < xen.Callbacks.Length; i++)
        {
            XenCallback callback = xen.Callbacks[i];
            if (callback.Kind is < XenCallbackKind.Event or > XenCallbackKind.Nmi || callback.Address == 0 || !IsXenEntry(callback.Address) || (i > 0 && callback.Kind <= xen.Callbacks[i - 1].Kind))
            {
                return new CaseProblem("callback", $"{callback.Kind} at {callback.Address:x}: each kind once, in their order, at an address that the guest can have (HYPERVISOR_callback_op)");
            }
        }

        if (xen.CallbackOf(XenCallbackKind.Nmi) is XenCallback nmi && !nmi.MaskEvents)
        {
            return new CaseProblem("callback", "the NMI callback always masks events; write mask=1");
        }

        for (int i = 0; i < xen.Gdt.Length; i++)
        {
            ushort selector = xen.Gdt[i].Key;
            if ((selector & 7) != 0 || selector >= XenMap.FirstReservedSelector || (i > 0 && selector <= xen.Gdt[i - 1].Key))
            {
                return new CaseProblem("gdt", $"selector {selector:x}: multiples of 8 below {XenMap.FirstReservedSelector:x}, in order, each once");
            }
        }

        return null;
    }

    private CaseProblem? CheckXenStatement(XenState xen)
    {
        foreach ((SystemRegister register, ulong value) in System.Values)
        {
            if (CheckSystemValue(Abi, register, value) is string trouble)
            {
                return new CaseProblem("sys", trouble);
            }

            string name = CaseFileWords.SystemRegisters[(int)register];
            if (register == SystemRegister.PvmUserMode)
            {
                return new CaseProblem("sys", $"{name}: the mode at the start is what `start` says");
            }

            if (register == SystemRegister.XenUpcallMask && xen.IretFlags is not null)
            {
                return new CaseProblem("sys", $"{name}: the return that enters the payload sets it to the inverse of RFLAGS.IF");
            }
        }

        return Inject is null ? null : new CaseProblem("inject", "what is pending at the start of a Xen case is `upcall-pending`");
    }

    /// <summary>Finds why a value cannot be one of a system register of a Xen guest.</summary>
    private static string? CheckXenValue(Abi abi, SystemRegister register, ulong value)
    {
        string name = CaseFileWords.SystemRegisters[(int)register];
        ulong? bits = register switch
        {
            SystemRegister.PvmUserMode or SystemRegister.NmiMasked => 1,
            SystemRegister.XenUpcallMask or SystemRegister.XenUpcallPending => byte.MaxValue,
            SystemRegister.XenVcpuInfoPad => 0xffff_ffff_ffff,
            SystemRegister.XenIopl => 3,
            SystemRegister.XenKernelSs => ushort.MaxValue,
            SystemRegister.XenVmAssist => XenVmAssists,
            SystemRegister.XenKernelSp or SystemRegister.Cr0 or SystemRegister.Cr2 or SystemRegister.Cr4 or SystemRegister.Dr6 or SystemRegister.Dr7 =>
                abi == Abi.XenPv32 ? uint.MaxValue : ulong.MaxValue,
            SystemRegister.KernelGsBase when abi != Abi.XenPv32 => ulong.MaxValue,
            _ => null,
        };
        return bits is not ulong possible ? $"{name}: a guest of {abi.Text()} has none of its own"
            : (value & ~possible) != 0 ? $"{name} = {value:x}: it has bits of {possible:x}"
            : register == SystemRegister.KernelGsBase && !IsCanonical(value) ? $"{name} = {value:x}: not a canonical address"
            : null;
    }

    private CaseProblem? CheckXenEntry(XenState xen)
    {
        RegisterState r = Registers;
        bool narrow = Abi == Abi.XenPv32;
        if (!IsCanonical(r.GsBase))
        {
            return new CaseProblem("gsbase", $"{r.GsBase:x}: not a canonical address");
        }

        if (narrow && (r.Rip > uint.MaxValue || r.Rflags > uint.MaxValue || r.FsBase > uint.MaxValue || r.GsBase > uint.MaxValue || Enumerable.Range(0, GprFile.Count).Any(i => r.Gpr[i] > (i < 8 ? uint.MaxValue : 0))))
        {
            return new CaseProblem("gpr", $"a guest of {Abi.Text()} starts with 32-bit values, and R8 to R15 zero");
        }

        if (r.Pkru is not null)
        {
            return new CaseProblem("pkru", "Xen gives PV guests no protection keys");
        }

        if (xen.IretFlags is not null)
        {
            return (r.Cs & 3) == 3 == (Start == GuestMode.User)
                ? null
                : new CaseProblem("sel", $"cs={r.Cs:x}: HYPERVISOR_iret returns to user mode for RPL 3 and to the kernel for others, which is not what `start` says");
        }

        ushort cs = narrow ? XenMap.KernelCode32 : XenMap.FlatCode64;
        ushort ss = narrow ? XenMap.KernelData32 : XenMap.FlatData;
        const ulong loadable = RflagsBits.UserLoadable | RflagsBits.IF;
        return Start == GuestMode.User ? new CaseProblem("xen", "user code is entered by HYPERVISOR_iret; write its flags word, as in iret=0")
            : r.Cs != cs || r.Ss != ss ? new CaseProblem("sel", $"cs={r.Cs:x} ss={r.Ss:x}: a guest kernel that is simply there runs with cs={cs:x} ss={ss:x}")
            : (r.Rflags & ~loadable) != RflagsBits.Fixed1 || (r.Rflags & RflagsBits.IF) == 0 ? new CaseProblem("rflags", $"{r.Rflags:x}: guest code runs with bits 1 and 9 set and bits of {loadable:x}; the upcall mask is `upcall-mask`")
            : !IsCanonical(r.Rip) ? new CaseProblem("rip", $"{r.Rip:x}: not a canonical address; kernel code starts at one")
            : null;
    }

    private CaseProblem? CheckXenReturns()
    {
        int arguments = Abi == Abi.XenPv32 ? 5 : 6;
        foreach (Response response in Responses)
        {
            if (response.Return != ReturnKind.XenIret)
            {
                return new CaseProblem("response", $"the kernel of a guest of {Abi.Text()} goes back by {CaseFileWords.Returns[(int)ReturnKind.XenIret]}");
            }

            if (response.Inject is Injection injection && injection != new Injection(InjectionKind.Upcall, 0))
            {
                return new CaseProblem("response", "what is pending at a return to a Xen guest is an event upcall; write inject=upcall");
            }

            foreach ((Register register, ulong value) in response.Patches)
            {
                if (register is >= Register.Cs and <= Register.Gs && value > ushort.MaxValue)
                {
                    return new CaseProblem("response", $"{register} = {value:x}: a selector has 16 bits");
                }

                if (register is Register.FsBase or Register.GsBase && !IsCanonical(value))
                {
                    return new CaseProblem("response", $"{register} = {value:x}: not a canonical address");
                }
            }

            if (response.Hypercalls.Any(call => call.Arguments.Length > arguments))
            {
                return new CaseProblem("hypercall", $"a hypercall of {Abi.Text()} has at most {arguments} arguments");
            }
        }

        return null;
    }

    private bool IsXenEntry(ulong address) => Abi == Abi.XenPv32 ? address < XenMap.PrivateFirst32 : IsCanonical(address);
}
