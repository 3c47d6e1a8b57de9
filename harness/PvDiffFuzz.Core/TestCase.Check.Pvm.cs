namespace PvDiffFuzz.Core;

/// <content>What PVM cases must keep to: the constraints of the specification on MSRs and the per-VCPU structure, and what targets need to run them.</content>
public sealed partial record TestCase
{
    /// <summary>Bytes of executable page that must follow supervisor code, for a target's jump stub.</summary>
    public const int StubLength = 64;

    private const ulong EventFlagIF = 1UL << 9;
    private const ulong EventFlagIP = 1UL << 8;
    private const ulong EventFlagIPOfAbi1 = 1UL << 32;

    /// <summary>The pages that user code sees.</summary>
    public PageLayout UserPages => Pvm?.UserLayout ?? Xen?.UserLayout ?? Layout;

    private CaseProblem? CheckPvm()
    {
        if (Pvm is null || Xen is not null)
        {
            return Pvm is null
                ? new CaseProblem("abi", $"a case of {Abi.Text()} has no `pvm` line, which says where the supervisor sees the per-VCPU structure")
                : new CaseProblem("xen", $"{Abi.Text()} is not Xen's; only Xen cases have a `xen` line");
        }

        if (Pvm.PvcsAddress % PageLayout.PageSize != 0 || !IsCanonical(Pvm.PvcsAddress))
        {
            return new CaseProblem("pvm", $"{Pvm.PvcsAddress:x}: the per-VCPU structure lies at the start of a page at a canonical address");
        }

        foreach (PageRange range in Layout.Ranges.AddRange(UserPages.Ranges))
        {
            if (range.Address <= Pvm.PvcsAddress && Pvm.PvcsAddress <= range.Last)
            {
                return new CaseProblem("pvm", $"{Pvm.PvcsAddress:x}: the per-VCPU structure overlaps a page of the case");
            }
        }

        return CheckPvmStatement() ?? CheckPvmMsrs() ?? CheckPvmControl() ?? CheckPvcs() ?? CheckPvmEntry() ?? CheckPvmReturns();
    }

    /// <summary>Each stated register must exist in the revision and hold its value; what other lines say is not stated twice.</summary>
    private CaseProblem? CheckPvmStatement()
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

            if (Start == GuestMode.User && PvcsLayout.IsUserContext(register))
            {
                return new CaseProblem("sys", $"{name}: a case that starts in user mode takes the user context from its registers");
            }
        }

        return Inject is Injection injection && CheckInjection(injection) is string wrong ? new CaseProblem("inject", wrong) : null;
    }

    /// <summary>Finds why a value cannot be one of a system register of an ABI, at the start or at the end of a case.</summary>
    /// <param name="abi">ABI of the case.</param>
    /// <param name="register">The register.</param>
    /// <param name="value">Its value.</param>
    /// <returns>Null when it can; else what is wrong, starting with the name of the register in case files.</returns>
    public static string? CheckSystemValue(Abi abi, SystemRegister register, ulong value)
    {
        if (register is < SystemRegister.Cr0 or > SystemRegister.XenIopl)
        {
            return $"{(int)register} is no system register";
        }

        string name = CaseFileWords.SystemRegisters[(int)register];
        if (!abi.IsPvm())
        {
            return abi == Abi.X86 ? $"{name}: the system side of an x86 case is not stated" : CheckXenValue(abi, register, value);
        }

        if (register is >= SystemRegister.PvcsEventFlags and <= SystemRegister.PvcsR11)
        {
            int width = 0;
            foreach (PvcsField field in PvcsLayout.Of(abi))
            {
                width = field.Register == register ? field.Width : width;
            }

            return width == 0 ? $"{name}: the per-VCPU structure of {abi.Text()} has no such field"
                : width < 8 && value >> (8 * width) != 0 ? $"{name} = {value:x}: the field has {width} bytes"
                : null;
        }

        bool exists = register switch
        {
            >= SystemRegister.XenKernelSp => false,
            SystemRegister.PvmSupervisorRsp or SystemRegister.PvmSupervisorRedzone or SystemRegister.PvmRetsRip or SystemRegister.PvmSwitchCr3 => abi == Abi.PvmRfc1,
            SystemRegister.PvmLinearAddressRange => abi != Abi.PvmAbi1,
            _ => true,
        };
        ulong largest = register switch
        {
            SystemRegister.PvmUserMode or SystemRegister.NmiMasked => 1,
            SystemRegister.Cr8 => 15,
            _ => ulong.MaxValue,
        };
        return !exists ? $"{name}: {abi.Text()} has no such MSR" : value > largest ? $"{name} = {value:x}: it is 0 to {largest:x}" : null;
    }

    private CaseProblem? CheckPvmMsrs()
    {
        (SystemRegister, ulong, string)[] canonical =
        [
            (SystemRegister.PvmEventEntry, 0, "MSR_PVM_EVENT_ENTRY"), (SystemRegister.PvmEventEntry, 512, "MSR_PVM_EVENT_ENTRY, entry for vectors from 32 in supervisor mode"),
            (SystemRegister.Lstar, 0, "MSR_LSTAR"), (SystemRegister.KernelGsBase, 0, "MSR_GS_BASE/MSR_KERNEL_GS_BASE"),
        ];
        foreach ((SystemRegister register, ulong offset, string rule) in canonical)
        {
            if (!IsCanonical(System[register] + offset))
            {
                return Wrong(register, $"{(offset == 0 ? "" : $"with {offset} it is ")}not a canonical address (PVM rfc1, {rule})");
            }
        }

        if (System[SystemRegister.PvmVcpuStruct] % PageLayout.PageSize != 0)
        {
            return Wrong(SystemRegister.PvmVcpuStruct, "it is a multiple of 1000, or 0 for none (PVM rfc1, MSR_PVM_VCPU_CTRL_STRUCT)");
        }

        ulong star = System[SystemRegister.Star];
        if ((star >> 48 | 3) != Selectors.UserCode32 || (star >> 32 & 0xfffc) == 0 || (star >> 32 & 3) != 0)
        {
            return Wrong(SystemRegister.Star, $"bits 63:48 are {Selectors.UserCode32:x} with any RPL, bits 47:32 the supervisor's CS with RPL 0 (PVM rfc1, MSR_STAR)");
        }

        return System.TryGet(SystemRegister.PvmLinearAddressRange, out ulong range) ? CheckRange(range) : null;
    }

    private CaseProblem? CheckRange(ulong range)
    {
        const ulong ones = 0xfe00_fe00_fe00_fe00;
        const ulong top = 0x0100_0100_0100_0100;
        ulong start4 = range & 0x1ff;
        ulong end4 = range >> 16 & 0x1ff;
        ulong start5 = range >> 32 & 0x1ff;
        ulong end5 = range >> 48 & 0x1ff;
        bool five = Profile?.LinearBits == 57;
        bool valid = (range & (ones | top)) == (ones | top) && start4 < end4 && end4 < 0x1ff
            && (five ? start5 < end5 && end5 < 0x1ff : start5 == 0x1ff && end5 == 0x1ff);
        return valid ? null : Wrong(
            SystemRegister.PvmLinearAddressRange,
            "fields are fe00 | index with 100 <= start < end < 1ff, and 1ff for PML5 without LA57 (PVM rfc1, MSR_PVM_LINEAR_ADDRESS_RANGE)");
    }

    /// <summary>CR0, CR4 and EFER, where they are stated, have the bits that PVM's modes fix. A payload may still try others.</summary>
    private CaseProblem? CheckPvmControl()
    {
        const ulong pe = 1UL << 0, mp = 1UL << 1, em = 1UL << 2, ts = 1UL << 3, et = 1UL << 4, ne = 1UL << 5, wp = 1UL << 16, am = 1UL << 18, nw = 1UL << 29, cd = 1UL << 30, pg = 1UL << 31;
        const ulong vme = 1UL << 0, pvi = 1UL << 1, pae = 1UL << 5, fsgsbase = 1UL << 16, smep = 1UL << 20, smap = 1UL << 21;
        const ulong sce = 1UL << 0, lme = 1UL << 8, lma = 1UL << 10;
        (SystemRegister, ulong, ulong)[] fixedBits =
        [
            (SystemRegister.Cr0, pe | mp | et | ne | wp | am | pg, em | ts | nw | cd),
            (SystemRegister.Cr4, pae | fsgsbase, vme | pvi | smap | (Abi == Abi.PvmRfc1 ? smep : 0)),
            (SystemRegister.Efer, sce | lme | lma, 0),
        ];
        foreach ((SystemRegister register, ulong set, ulong clear) in fixedBits)
        {
            if (System.TryGet(register, out ulong value) && (value & (set | clear)) != set)
            {
                return Wrong(register, $"bits {set:x} are set and bits {clear:x} clear in every mode of PVM (PVM rfc1, States or registers on PVM modes)");
            }
        }

        return null;
    }

    private CaseProblem? CheckPvcs()
    {
        ulong known = EventFlagIF | (Abi == Abi.PvmAbi1 ? EventFlagIPOfAbi1 : EventFlagIP);
        ulong flags = System[SystemRegister.PvcsEventFlags];
        return (flags & ~known) != 0
            ? Wrong(SystemRegister.PvcsEventFlags, $"bits other than IF and IP, {known:x}, are reserved (PVM rfc1, PVCS::event_flags)")
            : null;
    }

    private CaseProblem? CheckPvmEntry()
    {
        RegisterState r = Registers;
        if (Start == GuestMode.User)
        {
            return r.Rflags > uint.MaxValue ? new CaseProblem("rflags", $"{r.Rflags:x}: the structure keeps 32 bits of the user's flags") : null;
        }

        const ulong loadable = RflagsBits.UserLoadable | RflagsBits.IF;
        if ((r.Rflags & ~loadable) != RflagsBits.Fixed1)
        {
            return new CaseProblem("rflags", $"{r.Rflags:x}: supervisor code starts with bit 1 set and bits of {loadable:x} (PVM rfc1, States or registers on PVM modes)");
        }

        bool enabled = System[SystemRegister.PvmVcpuStruct] != 0 && (System[SystemRegister.PvcsEventFlags] & EventFlagIF) != 0;
        if ((r.Rflags & RflagsBits.IF) != 0 != enabled)
        {
            return new CaseProblem("rflags", $"{r.Rflags:x}: the interrupt flag of supervisor mode is bit 9 of pvcs.event-flags, and 0 without the structure (PVM rfc1, RFLAGS)");
        }

        if (r.Cs != Selectors.UserCode64 || r.Ss != Selectors.UserData)
        {
            return new CaseProblem("sel", $"cs={r.Cs:x} ss={r.Ss:x}: the underlying CS and SS of supervisor mode are {Selectors.UserCode64:x} and {Selectors.UserData:x} (PVM rfc1, Underlying states)");
        }

        // FS base is checked for every ABI.
        return !IsCanonical(r.Rip) ? new CaseProblem("rip", $"{r.Rip:x}: not a canonical address; supervisor code starts at one")
            : !IsCanonical(r.GsBase) ? new CaseProblem("gsbase", $"{r.GsBase:x}: not a canonical address")
            : null;
    }

    /// <summary>A problem with the value of a system register. It starts with the register's name, so that its line can be found.</summary>
    private CaseProblem Wrong(SystemRegister register, string trouble) => new("sys", $"{CaseFileWords.SystemRegisters[(int)register]} = {System[register]:x}: {trouble}");

    /// <summary>What a supervisor does after events. A target goes back by the SYSCALL at RETU_RIP or RETS_RIP, so there has to be one.</summary>
    private CaseProblem? CheckPvmReturns()
    {
        bool user = Start == GuestMode.User;
        bool supervisor = false;
        foreach (Response response in Responses)
        {
            if (CheckPvmResponse(response) is CaseProblem problem)
            {
                return problem;
            }

            user |= response.Return == ReturnKind.Eretu;
            supervisor |= response.Return == ReturnKind.Erets;
        }

        return user && !IsSyscall(System[SystemRegister.PvmRetuRip]) ? NoSyscall(SystemRegister.PvmRetuRip)
            : supervisor && !IsSyscall(System[SystemRegister.PvmRetsRip]) ? NoSyscall(SystemRegister.PvmRetsRip)
            : null;
    }

    private CaseProblem? CheckPvmResponse(Response response)
    {
        ReturnKind back = Abi == Abi.PvmRfc1 ? ReturnKind.Erets : ReturnKind.Iretq;
        if (response.Return != ReturnKind.Eretu && response.Return != back)
        {
            string[] names = [.. CaseFileWords.Returns];
            string given = response.Return is >= ReturnKind.Iretq and <= ReturnKind.XenIret ? names[(int)response.Return] : "no return";
            return new CaseProblem("response", $"{given}: {Abi.Text()} goes back by {names[(int)ReturnKind.Eretu]} or {names[(int)back]}");
        }

        foreach ((Register register, ulong value) in response.Patches)
        {
            if (CheckPvmPatch(response.Return, register, value) is string trouble)
            {
                return new CaseProblem("response", $"{register} = {value:x}: {trouble}");
            }
        }

        if (response.Inject is Injection injection && CheckInjection(injection) is string wrong)
        {
            return new CaseProblem("response", wrong);
        }

        foreach (Hypercall call in response.Hypercalls)
        {
            if (call.Arguments.Length > 3)
            {
                return new CaseProblem("hypercall", $"hypercall {call.Number:x} has {call.Arguments.Length} arguments, and PVM passes RBX, R10 and RDX");
            }
        }

        return null;
    }

    /// <summary>Patched values must fit where the return takes them from; whether it accepts them is what a case is about.</summary>
    private static string? CheckPvmPatch(ReturnKind kind, Register register, ulong value) => register switch
    {
        >= Register.Cs and <= Register.Gs when value > ushort.MaxValue => "a selector has 16 bits",
        Register.Pkru when value > uint.MaxValue => "PKRU has 32 bits",
        Register.Rflags when kind == ReturnKind.Eretu && value > uint.MaxValue => "the structure keeps 32 bits of the user's flags",
        Register.FsBase when !IsCanonical(value) => "not a canonical address",
        Register.GsBase when kind != ReturnKind.Eretu && !IsCanonical(value) => "not a canonical address; only the structure holds others",
        _ => null,
    };

    private static string? CheckInjection(Injection injection) => injection.Kind switch
    {
        InjectionKind.Nmi => injection.Vector == Injection.NmiVector ? null : $"an NMI with vector {injection.Vector:x2}: it has vector {Injection.NmiVector:x2}",
        InjectionKind.Interrupt => injection.Vector >= Injection.LowestInterrupt ? null : $"an interrupt with vector {injection.Vector:x2}: no interrupt controller sends vectors below {Injection.LowestInterrupt:x2} (SDM vol.3A, Valid Interrupt Vectors)",
        _ => $"{(int)injection.Kind} is nothing that comes from outside",
    };

    private CaseProblem NoSyscall(SystemRegister register) => Wrong(
        register, "no bytes 0f 05 of the case lie there in an executable page of the supervisor root, and the case returns by them");

    private bool IsSyscall(ulong address) =>
        (Layout.AccessAt(address) & PageAccess.Execute) != 0 && (Layout.AccessAt(address + 1) & PageAccess.Execute) != 0 && InitialByte(address) == 0x0f && InitialByte(address + 1) == 0x05;

    private byte InitialByte(ulong address)
    {
        if (address - Code.Address < (ulong)Code.Bytes.Length)
        {
            return Code.Bytes[(int)(address - Code.Address)];
        }

        foreach (MemoryContents run in Contents)
        {
            if (address - run.Address < (ulong)run.Bytes.Length)
            {
                return run.Bytes[(int)(address - run.Address)];
            }
        }

        return 0;
    }

    private static bool IsCanonical(ulong address) => (ulong)((long)(address << 16) >> 16) == address;
}
