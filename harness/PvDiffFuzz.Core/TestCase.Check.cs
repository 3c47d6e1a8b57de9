namespace PvDiffFuzz.Core;

/// <summary>A reason why a case is not well formed.</summary>
/// <param name="Field">Keyword of the case file that carries the trouble, such as <c>code</c> or <c>rflags</c>.</param>
/// <param name="Message">What is wrong and what would be right.</param>
public readonly record struct CaseProblem(string Field, string Message);

/// <content>Validity: what every producer of cases promises and the reader enforces.</content>
public sealed partial record TestCase
{
    /// <summary>Most bytes of initial contents in one case.</summary>
    public const int MaximumContents = 1 << 20;

    /// <summary>Most pages in one case.</summary>
    public const int MaximumPages = 4096;

    /// <summary>Most responses in one case.</summary>
    public const int MaximumResponses = 64;

    /// <summary>Largest instruction limit.</summary>
    public const int MaximumInstructions = 10_000_000;

    /// <summary>Finds what makes this case malformed.</summary>
    /// <returns>Null when the case is well formed, else the first problem.</returns>
    public CaseProblem? Check() => CheckCode() ?? CheckRegisters() ?? CheckMemory() ?? CheckRest() ?? (Abi.IsPvm() ? CheckPvm() : Abi.IsXen() ? CheckXen() : CheckX86());

    private CaseProblem? CheckCode()
    {
        if (Code.Bytes.Length is 0 or > CodeBlock.MaximumLength)
        {
            return new CaseProblem("code", $"{Code.Bytes.Length} bytes of code; a case has 1 to {CodeBlock.MaximumLength}");
        }

        int sum = 0;
        foreach (byte length in Code.Lengths)
        {
            if (length == 0)
            {
                return new CaseProblem("code", "an instruction of length 0");
            }

            sum += length;
        }

        if (sum != Code.Bytes.Length)
        {
            return new CaseProblem("code", $"instruction lengths sum to {sum}, but there are {Code.Bytes.Length} bytes");
        }

        if (Code.End < Code.Address)
        {
            return new CaseProblem("code", "the code wraps past the end of the address space");
        }

        bool user = Start == GuestMode.User;
        PageLayout pages = user ? UserPages : Layout;
        ulong last = user ? Code.End - 1 : Code.End + StubLength - 1;
        for (ulong page = Code.Address & ~0xfffUL; page <= last; page += PageLayout.PageSize)
        {
            if ((pages.AccessAt(page) & PageAccess.Execute) == 0)
            {
                string what = page < Code.End ? "the code touches" : $"the {StubLength} bytes after supervisor code, where a target puts its jump stub, touch";
                return new CaseProblem("code", $"{what} page {page:x}, which is not an executable page of the case");
            }
        }

        return !user || pages.AccessAt(Code.End) == PageAccess.None || (Abi.IsPvm() && EndsWithCall) || (Abi.IsXen() && Code.Bytes[^1] == 0xcc)
            ? null
            : new CaseProblem("code", $"the code ends at {Code.End:x}, where a page is mapped; nothing may be mapped at the end of user code");
    }

    /// <summary>
    /// True when the last instruction calls the supervisor: SYSCALL or INT 80h. Observed runs of PVM guests end so, those of Xen guests with INT3, with whatever page after the code.
    /// </summary>
    private bool EndsWithCall => Code.Lengths[^1] == 2 && Code.Bytes.AsSpan()[^2..] is [0x0f, 0x05] or [0xcd, 0x80];

    private CaseProblem? CheckRegisters()
    {
        RegisterState r = Registers;
        if (!IsCanonical(r.FsBase))
        {
            return new CaseProblem("fsbase", $"{r.FsBase:x}: not a canonical address");
        }

        foreach (Register register in Abi == Abi.X86 ? (ReadOnlySpan<Register>)[Register.Rip, Register.Rflags, Register.Cs, Register.Ss, Register.GsBase] : [])
        {
            if (CheckEntryValue(register, r[register]) is string trouble)
            {
                return new CaseProblem(register.ToString().ToLowerInvariant(), trouble);
            }
        }

        if (Mode == CpuMode.Compatibility32)
        {
            if (Code.End > 0x1_0000_0000 || r.Rip > uint.MaxValue)
            {
                return new CaseProblem("code", "compatibility-mode code lies below 4 GiB");
            }

            // Returns of paravirtual ABIs take general registers as they are; instructions then see their lower halves.
            for (int i = 0; i < (Abi == Abi.X86 ? GprFile.Count : 0); i++)
            {
                if (i >= 8 ? r.Gpr[i] != 0 : r.Gpr[i] > uint.MaxValue)
                {
                    return new CaseProblem("gpr", $"{(Register)i} = {r.Gpr[i]:x}: compatibility mode starts with 32-bit values and R8 to R15 zero");
                }
            }
        }

        return null;
    }

    /// <summary>What the return to user mode demands of a register, whether at the start of a case or as a patch.</summary>
    private static string? CheckEntryValue(Register register, ulong value)
    {
        const ulong required = RflagsBits.Fixed1 | RflagsBits.IF;
        return register switch
        {
            Register.Rflags when (value & ~RflagsBits.UserLoadable) != required =>
                $"{value:x}: user code is entered with bits {required:x} set and may choose only bits of {RflagsBits.UserLoadable:x}",
            Register.Cs when value is not (Selectors.UserCode64 or Selectors.UserCode32) =>
                $"{value:x}: user code is entered with CS {Selectors.UserCode64:x} (64-bit) or {Selectors.UserCode32:x} (compatibility)",
            Register.Ss when value != Selectors.UserData => $"{value:x}: user code is entered with SS {Selectors.UserData:x}",
            Register.Rip or Register.FsBase or Register.GsBase when (ulong)((long)(value << 16) >> 16) != value => $"{value:x}: not a canonical address",
            _ => null,
        };
    }

    private CaseProblem? CheckMemory()
    {
        long pages = 0;
        foreach (PageRange range in (Pvm?.UserLayout ?? Xen?.UserLayout) is PageLayout second ? Layout.Ranges.AddRange(second.Ranges) : Layout.Ranges)
        {
            pages += range.Pages;
            if ((range.Access & PageAccess.Read) == 0 && range.Access != PageAccess.None)
            {
                return new CaseProblem("page", $"{range.Address:x}: a present page is readable");
            }
        }

        if (pages > MaximumPages)
        {
            return new CaseProblem("page", $"{pages} pages; a case has at most {MaximumPages}");
        }

        long bytes = 0;
        ulong free = 0;
        foreach (MemoryContents run in Contents)
        {
            if (run.Bytes.IsDefaultOrEmpty)
            {
                return new CaseProblem("bytes", $"{run.Address:x}: no bytes");
            }

            bytes += run.Bytes.Length;
            ulong last = run.Address + (ulong)run.Bytes.Length - 1;
            if (bytes > MaximumContents)
            {
                return new CaseProblem("bytes", $"more than {MaximumContents} bytes of contents");
            }

            if (last < run.Address || run.Address < free)
            {
                return new CaseProblem("bytes", $"{run.Address:x}: contents overlap, wrap or are not in address order");
            }

            if (run.Address < Code.End + (Start == GuestMode.User ? 0UL : StubLength) && last >= Code.Address)
            {
                return new CaseProblem("bytes", $"{run.Address:x}: contents overlap the code, or the {StubLength} bytes after supervisor code");
            }

            for (ulong page = run.Address & ~0xfffUL; page <= last; page += PageLayout.PageSize)
            {
                if (((Layout.AccessAt(page) | UserPages.AccessAt(page)) & PageAccess.Read) == 0)
                {
                    return new CaseProblem("bytes", $"{run.Address:x}: page {page:x} is not present");
                }
            }

            free = last + 1;
        }

        return null;
    }

    private CaseProblem? CheckX86()
    {
        if (Pvm is not null || Xen is not null)
        {
            return new CaseProblem(Pvm is null ? "xen" : "pvm", $"{Abi.Text()} has no hypervisor; only PVM cases have a `pvm` line, and only Xen cases a `xen` line");
        }

        if (Start != GuestMode.User || !System.Values.IsEmpty || Inject is not null)
        {
            return new CaseProblem(Start != GuestMode.User ? "start" : Inject is null ? "sys" : "inject", "an x86 case starts in user code and has neither system state nor anything pending");
        }

        return Responses.Any(r => r.Return != ReturnKind.Iretq || !r.Hypercalls.IsEmpty || r.Inject is not null)
            ? new CaseProblem("response", "the supervisor of an x86 case returns by iretq, without hypercalls and with nothing pending")
            : null;
    }

    private CaseProblem? CheckRest()
    {
        if (Limits.Instructions is < 1 or > MaximumInstructions)
        {
            return new CaseProblem("limit", $"{Limits.Instructions} instructions; a limit is 1 to {MaximumInstructions}");
        }

        if (Responses.Length > MaximumResponses)
        {
            return new CaseProblem("response", $"{Responses.Length} responses; a case has at most {MaximumResponses}");
        }

        foreach (Response response in Responses)
        {
            if (response.Hypercalls.Length > Response.MaximumHypercalls)
            {
                return new CaseProblem("response", $"{response.Hypercalls.Length} hypercalls in a response; it makes at most {Response.MaximumHypercalls}");
            }

            if (response.Flags != 0 && response.Return != ReturnKind.XenIret)
            {
                return new CaseProblem("response", "flags of an iret frame; only xen-iret has them");
            }

            Register previous = (Register)(-1);
            foreach ((Register register, ulong value) in response.Patches)
            {
                if (Abi == Abi.X86 && CheckEntryValue(register, value) is string trouble)
                {
                    return new CaseProblem("response", $"{register} = {trouble}");
                }

                if (register <= previous || register > Register.Pkru || (register == Register.Pkru && response.Return != ReturnKind.Eretu))
                {
                    return new CaseProblem("response", $"{register}: patches are in register order, once each, without debug registers, PKRU for eretu only");
                }

                previous = register;
            }
        }

        return null;
    }
}
