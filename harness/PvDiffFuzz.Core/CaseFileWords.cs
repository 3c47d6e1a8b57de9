namespace PvDiffFuzz.Core;

/// <summary>The words of the case format: one spelling for each member of each enumeration, in the order of its values.</summary>
internal static class CaseFileWords
{
    /// <summary>Spellings of <see cref="Core.Abi"/>.</summary>
    public static ReadOnlySpan<string> Abis => (string[])["x86", "pvm-rfc1", "pvm-612", "pvm-abi1", "xen-pv64", "xen-pv64-fred", "xen-pv32"];

    /// <summary>Spellings of <see cref="CpuVendor"/>.</summary>
    public static ReadOnlySpan<string> Vendors => (string[])["intel", "amd"];

    /// <summary>Spellings of <see cref="TargetKind"/>.</summary>
    public static ReadOnlySpan<string> Kinds => (string[])["model", "hardware", "hypervisor", "recording"];

    /// <summary>Spellings of <see cref="EndKind"/>.</summary>
    public static ReadOnlySpan<string> Ends => (string[])["reached-end", "event", "halt", "crash", "hypervisor-crash", "budget-spent", "unsupported", "harness-error"];

    /// <summary>Spellings of <see cref="EventKind"/>.</summary>
    public static ReadOnlySpan<string> EventKinds => (string[])["fault", "trap", "interrupt", "system-call", "hypercall", "upcall"];

    /// <summary>Spellings of <see cref="EntryPoint"/>.</summary>
    public static ReadOnlySpan<string> Entries => EntryNames;

    /// <summary>Spellings of <see cref="GuestMode"/>.</summary>
    public static ReadOnlySpan<string> GuestModes => (string[])["user", "supervisor"];

    /// <summary>Spellings of <see cref="HostPath"/>.</summary>
    public static ReadOnlySpan<string> Paths => (string[])["cold", "warm"];

    /// <summary>Spellings of <see cref="ReturnKind"/>.</summary>
    public static ReadOnlySpan<string> Returns => (string[])["iretq", "eretu", "erets", "xen-iret"];

    /// <summary>Spellings of <see cref="InjectionKind"/>.</summary>
    public static ReadOnlySpan<string> Injections => (string[])["interrupt", "nmi", "upcall"];

    /// <summary>Spellings of <see cref="XenCallbackKind"/>.</summary>
    public static ReadOnlySpan<string> Callbacks => (string[])["event", "failsafe", "syscall", "sysenter", "syscall32", "nmi"];

    /// <summary>Spellings of <see cref="SystemRegister"/>.</summary>
    public static ReadOnlySpan<string> SystemRegisters => SystemNames;

    /// <summary>Spellings of <see cref="Register"/>.</summary>
    public static ReadOnlySpan<string> Registers => RegisterNames;

    /// <summary>The selectors of the <c>sel</c> line in its order.</summary>
    public static ReadOnlySpan<string> SelectorNames => RegisterNames.AsSpan((int)Register.Cs, 6);

    /// <summary>The registers of the <c>dr</c> line in its order.</summary>
    public static ReadOnlySpan<string> DebugNames => RegisterNames.AsSpan((int)Register.Dr0, 5);

    /// <summary>The flags of a <c>segment</c> line in their order.</summary>
    public static ReadOnlySpan<string> SegmentFlags => (string[])["system", "present", "long", "big", "granular", "available"];

    /// <summary>Spellings of <see cref="Reading"/>.</summary>
    public static ReadOnlySpan<string> Readings => ReadingNames;

    /// <summary>The registers of a <c>cpuid</c> line in their order.</summary>
    public static ReadOnlySpan<string> CpuidNames => (string[])["eax", "ebx", "ecx", "edx"];

    private static readonly string[] EntryNames =
    [
        "idt", "lstar", "pvm.user", "pvm.supervisor", "pvm.supervisor.high", "xen.trap", "xen.syscall", "xen.syscall32", "xen.sysenter", "xen.event", "xen.failsafe", "xen.nmi", "hypercall",
    ];

    private static readonly string[] SystemNames =
    [
        "cr0", "cr2", "cr3", "cr4", "cr8", "efer", "star", "lstar", "cstar", "syscall-mask", "sysenter-cs", "sysenter-eip", "sysenter-esp", "kernel-gs-base", "pkrs", "dr6", "dr7",
        "linear-address-range", "vcpu-struct", "supervisor-rsp", "supervisor-redzone", "event-entry", "retu-rip", "rets-rip", "switch-cr3",
        "pvcs.event-flags", "pvcs.event-errcode", "pvcs.event-vector", "pvcs.cr2", "pvcs.user-cs", "pvcs.user-ss", "pvcs.user-gsbase", "pvcs.eflags", "pvcs.pkru", "pvcs.rip",
        "pvcs.rsp", "pvcs.rcx", "pvcs.r11", "user-mode", "nmi-masked",
        "kernel-sp", "kernel-ss", "upcall-mask", "upcall-pending", "vcpu-info-pad", "vm-assist", "iopl",
    ];

    private static readonly string[] ReadingNames =
    [
        "time-stamp", "processor-number", "random", "xcr0", "in-use", "maximum-cycles", "actual-cycles", "gdt-base", "idt-base", "idt-limit", "ldt-selector", "task-selector", "cr0",
    ];

    private static readonly string[] RegisterNames =
    [
        "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
        "rip", "rflags", "cs", "ss", "ds", "es", "fs", "gs", "fsbase", "gsbase", "pkru", "dr0", "dr1", "dr2", "dr3", "dr7",
    ];

    /// <summary>The constant map that an ABI adds: its name, the pages of its kernel's root, and those of its user root, which a 32-bit Xen guest has not.</summary>
    public static (string Name, PageLayout Kernel, PageLayout? User) MapOf(Abi abi) =>
        abi.IsXen() ? ("xen", XenMap.KernelLayout(abi), XenMap.UserLayout(abi)) : ("pvm", PvmMap.SupervisorLayout, PvmMap.UserLayout);

    /// <summary>Rights as four letters or hyphens: read, write, execute, user. All hyphens: not present.</summary>
    public static string TextOf(PageAccess access)
    {
        bool user = (access & PageAccess.Read) != 0 && (access & PageAccess.Supervisor) == 0;
        return string.Create(4, (access, user), static (text, state) =>
        {
            text[0] = (state.access & PageAccess.Read) != 0 ? 'r' : '-';
            text[1] = (state.access & PageAccess.Write) != 0 ? 'w' : '-';
            text[2] = (state.access & PageAccess.Execute) != 0 ? 'x' : '-';
            text[3] = state.user ? 'u' : '-';
        });
    }

    /// <summary>The inverse of <see cref="TextOf"/>.</summary>
    /// <returns>Null for anything that <see cref="TextOf"/> does not give.</returns>
    public static PageAccess? AccessOf(string text)
    {
        for (PageAccess access = PageAccess.None; access <= (PageAccess)15; access++)
        {
            bool valid = access == PageAccess.None || (access & PageAccess.Read) != 0;
            if (valid && string.Equals(TextOf(access), text, StringComparison.Ordinal))
            {
                return access;
            }
        }

        return null;
    }

    /// <summary>The largest value that a reading can have.</summary>
    public static ulong LargestOf(Reading reading) => reading switch
    {
        Reading.IdtLimit or Reading.LdtSelector or Reading.TaskSelector => ushort.MaxValue,
        Reading.ProcessorNumber => uint.MaxValue,
        _ => ulong.MaxValue,
    };

    /// <summary>The words that turn one register state into another, in register order: <c>rip=401000 pkru=none</c>.</summary>
    public static IEnumerable<string> Differences(RegisterState from, RegisterState to)
    {
        for (Register register = Register.Rax; register <= Register.GsBase; register++)
        {
            if (from[register] != to[register])
            {
                yield return $"{RegisterNames[(int)register]}={to[register]:x}";
            }
        }

        if (from.Pkru != to.Pkru)
        {
            yield return to.Pkru is uint pkru ? $"pkru={pkru:x}" : "pkru=none";
        }

        if (!Equals(from.Debug, to.Debug))
        {
            yield return to.Debug is DebugRegisters d ? $"dr={d.Dr0:x}/{d.Dr1:x}/{d.Dr2:x}/{d.Dr3:x}/{d.Dr7:x}" : "dr=none";
        }
    }

    /// <summary>Applies words of <see cref="Differences"/>.</summary>
    /// <param name="line">Where they stand.</param>
    /// <param name="state">The state to change.</param>
    /// <param name="seen">Bits of registers that earlier words of this state have set.</param>
    public static RegisterState Apply(CaseFileLine line, RegisterState state, ref ulong seen)
    {
        foreach (string word in line.Words)
        {
            (string name, string text) = line.Pair(word);
            int register = name == "dr" ? (int)Register.Dr0 : line.OneOf(name, "register", RegisterNames.AsSpan(0, (int)Register.Dr0));
            if ((seen & (1UL << register)) != 0)
            {
                throw line.Wrong($"{name} is set twice", "set each register once");
            }

            seen |= 1UL << register;
            state = (Register)register switch
            {
                Register.Dr0 => state with { Debug = text == "none" ? null : DebugOf(line, text.Split('/')) },
                Register.Pkru => state with { Pkru = text == "none" ? null : (uint)line.Hex(text, name, uint.MaxValue) },
                >= Register.Cs and <= Register.Gs => state.With((Register)register, line.Hex(text, name, ushort.MaxValue)),
                _ => state.With((Register)register, line.Hex(text, name)),
            };
        }

        return state;
    }

    /// <summary>Debug registers from five numbers.</summary>
    public static DebugRegisters DebugOf(CaseFileLine line, ReadOnlySpan<string> values)
    {
        if (values.Length != 5)
        {
            throw line.Wrong($"{values.Length} debug registers", "give DR0, DR1, DR2, DR3 and DR7, or `none`");
        }

        return new DebugRegisters(
            line.Hex(values[0], "dr0"), line.Hex(values[1], "dr1"), line.Hex(values[2], "dr2"), line.Hex(values[3], "dr3"), line.Hex(values[4], "dr7"));
    }
}
