namespace PvDiffFuzz.Core;

/// <content>What PVM cases must keep to: the constraints of the specification on MSRs and the per-VCPU structure, and what targets need to run them.</content>
public sealed partial record TestCase
{
    /// <summary>Bytes of executable page that must follow supervisor code, for a target's jump stub.</summary>
    public const int StubLength = 64;

    private const ulong EventFlagIF = 1UL << 9;
    private const ulong EventFlagIP = 1UL << 8;

    /// <summary>The pages that user code sees.</summary>
    public PageLayout UserPages => Pvm?.UserLayout ?? Layout;

    private CaseProblem? CheckPvm()
    {
        if (Pvm is null)
        {
            return new CaseProblem("abi", $"a case of {Abi.Text()} has no `pvm` line; it says where the supervisor sees the per-VCPU structure");
        }

        if (Pvm.PvcsAddress % PageLayout.PageSize != 0 || !IsCanonical(Pvm.PvcsAddress))
        {
            return new CaseProblem("pvm", $"{Pvm.PvcsAddress:x}: the per-VCPU structure lies at the start of a page at a canonical address");
        }

        if (Layout.AccessAt(Pvm.PvcsAddress) != PageAccess.None || UserPages.AccessAt(Pvm.PvcsAddress) != PageAccess.None)
        {
            return new CaseProblem("pvm", $"{Pvm.PvcsAddress:x}: the per-VCPU structure overlaps a page of the case; it has a page of its own");
        }

        return CheckPvmMsrs() ?? CheckPvcs() ?? CheckPvmEntry() ?? CheckPvmReturns();
    }

    private CaseProblem? CheckPvmMsrs()
    {
        (SystemRegister, string)[] canonical = [(SystemRegister.PvmEventEntry, "MSR_PVM_EVENT_ENTRY"), (SystemRegister.Lstar, "MSR_LSTAR"), (SystemRegister.KernelGsBase, "MSR_KERNEL_GS_BASE")];
        foreach ((SystemRegister register, string name) in canonical)
        {
            ulong value = System[register];
            if (!IsCanonical(value) || (register == SystemRegister.PvmEventEntry && !IsCanonical(value + 512)))
            {
                return new CaseProblem("sys", $"{name} = {value:x}: not a canonical address (PVM rfc1, X86 MSR and PVM MSRs)");
            }
        }

        if (System[SystemRegister.PvmVcpuStruct] % PageLayout.PageSize != 0)
        {
            return new CaseProblem("sys", $"MSR_PVM_VCPU_CTRL_STRUCT = {System[SystemRegister.PvmVcpuStruct]:x}: a multiple of 4096, or 0 for none (PVM rfc1, MSR_PVM_VCPU_CTRL_STRUCT)");
        }

        ulong star = System[SystemRegister.Star];
        if ((star >> 48 | 3) != Selectors.UserCode32 || (star >> 32 & 0xfffc) == 0 || (star >> 32 & 3) != 0)
        {
            return new CaseProblem("sys", $"MSR_STAR = {star:x}: bits 63:48 are {Selectors.UserCode32:x}, bits 47:32 the supervisor's CS with RPL 0 (PVM rfc1, MSR_STAR)");
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
        return valid ? null : new CaseProblem(
            "sys",
            $"MSR_PVM_LINEAR_ADDRESS_RANGE = {range:x}: fields are fe00 | index with 256 <= start < end < 511, and 1ff for PML5 without LA57 (PVM rfc1, MSR_PVM_LINEAR_ADDRESS_RANGE)");
    }

    private CaseProblem? CheckPvcs()
    {
        foreach ((SystemRegister register, ulong value) in System.Values)
        {
            if (register is < SystemRegister.PvcsEventFlags or > SystemRegister.PvcsR11)
            {
                continue;
            }

            int width = 0;
            foreach (PvcsField field in PvcsLayout.Of(Abi))
            {
                width = field.Register == register ? field.Width : width;
            }

            string name = CaseFileWords.SystemRegisters[(int)register];
            if (width == 0)
            {
                return new CaseProblem("sys", $"{name}: the per-VCPU structure of {Abi.Text()} has no such field");
            }

            if (width < 8 && value >> (8 * width) != 0)
            {
                return new CaseProblem("sys", $"{name} = {value:x}: the field has {width} bytes");
            }

            if (Start == GuestMode.User && PvcsLayout.IsUserContext(register))
            {
                return new CaseProblem("sys", $"{name}: a case that starts in user mode takes the user context from its registers");
            }
        }

        ulong flags = System[SystemRegister.PvcsEventFlags];
        return (flags & ~(EventFlagIF | EventFlagIP)) != 0
            ? new CaseProblem("sys", $"pvcs.event-flags = {flags:x}: bits other than IF (9) and IP (8) are reserved (PVM rfc1, PVCS::event_flags)")
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

        return IsCanonical(r.Rip) && IsCanonical(r.FsBase) && IsCanonical(r.GsBase) ? null : new CaseProblem("rip", "RIP and segment bases of supervisor code are canonical at the start");
    }

    /// <summary>A target goes to user mode by the SYSCALL at RETU_RIP, so there has to be one.</summary>
    private CaseProblem? CheckPvmReturns()
    {
        bool user = Start == GuestMode.User;
        bool supervisor = false;
        foreach (Response response in Responses)
        {
            ReturnKind back = Abi == Abi.PvmRfc1 ? ReturnKind.Erets : ReturnKind.Iretq;
            if (response.Return != ReturnKind.Eretu && response.Return != back)
            {
                return new CaseProblem("response", $"{CaseFileWords.Returns[(int)response.Return]}: {Abi.Text()} goes back by eretu or {CaseFileWords.Returns[(int)back]}");
            }

            user |= response.Return == ReturnKind.Eretu;
            supervisor |= response.Return == ReturnKind.Erets;
            foreach (Hypercall call in response.Hypercalls)
            {
                if (call.Arguments.Length > 3)
                {
                    return new CaseProblem("response", $"hypercall {call.Number:x} has {call.Arguments.Length} arguments; PVM passes RBX, R10 and RDX");
                }
            }
        }

        return user && !IsSyscall(System[SystemRegister.PvmRetuRip]) ? NoSyscall("retu-rip")
            : supervisor && !IsSyscall(System[SystemRegister.PvmRetsRip]) ? NoSyscall("rets-rip")
            : null;
    }

    private static CaseProblem NoSyscall(string name) => new("sys", $"{name}: no bytes 0f 05 of the case lie there in an executable page of the supervisor root, and the case returns by them");

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
