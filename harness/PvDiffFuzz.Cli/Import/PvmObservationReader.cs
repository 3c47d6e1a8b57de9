using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Import;

/// <summary>Reads records of PVM hosts, one JSON object a line.</summary>
internal static class PvmObservationReader
{
    private const string WarmMark = "@ds";

    private static readonly (string Name, Register Register)[] RegisterFields =
    [
        ("rax", Register.Rax), ("rcx", Register.Rcx), ("rdx", Register.Rdx), ("rbx", Register.Rbx), ("rsp", Register.Rsp), ("rbp", Register.Rbp), ("rsi", Register.Rsi),
        ("rdi", Register.Rdi), ("r8", Register.R8), ("r9", Register.R9), ("r10", Register.R10), ("r11", Register.R11), ("r12", Register.R12), ("rip", Register.Rip),
        ("rflags", Register.Rflags), ("ds", Register.Ds), ("fs", Register.Fs), ("gs", Register.Gs), ("gs_base", Register.GsBase),
    ];

    private static readonly (string Name, SystemRegister Register)[] SystemFields =
    [
        ("cr0", SystemRegister.Cr0), ("cr2", SystemRegister.Cr2), ("cr3", SystemRegister.Cr3), ("cr4", SystemRegister.Cr4), ("efer", SystemRegister.Efer),
        ("dr6", SystemRegister.Dr6), ("dr7", SystemRegister.Dr7), ("kgs", SystemRegister.KernelGsBase),
    ];

    private static readonly (string Name, SystemRegister Register)[] PvcsFields =
    [
        ("flags", SystemRegister.PvcsEventFlags), ("err", SystemRegister.PvcsEventErrcode), ("vec", SystemRegister.PvcsEventVector), ("cr2", SystemRegister.PvcsCr2),
        ("cs", SystemRegister.PvcsUserCs), ("ss", SystemRegister.PvcsUserSs), ("gsbase", SystemRegister.PvcsUserGsBase), ("eflags", SystemRegister.PvcsEflags),
        ("pkru", SystemRegister.PvcsPkru), ("rip", SystemRegister.PvcsRip), ("rsp", SystemRegister.PvcsRsp), ("rcx", SystemRegister.PvcsRcx), ("r11", SystemRegister.PvcsR11),
    ];

    private static readonly (string Name, ulong Address)[] MemoryFields = [("mem23fe0", 0x2_3fe0), ("mem11000", 0x1_1000), ("mem401000", 0x40_1000)];

    /// <summary>Reads a file to its end.</summary>
    /// <param name="path">Path of the file.</param>
    /// <exception cref="CaseFileException">A line is not a record; the message has file, line and what would be right.</exception>
    /// <exception cref="IOException">The file cannot be read.</exception>
    public static ImmutableArray<PvmObservation> Read(string path)
    {
        ImmutableArray<PvmObservation>.Builder records = ImmutableArray.CreateBuilder<PvmObservation>();
        HashSet<string> seen = new(StringComparer.Ordinal);
        int line = 0;
        foreach (string text in File.ReadLines(path))
        {
            line++;
            PvmObservation record = Parse(path, line, text);
            if (!seen.Add(record.CaseId))
            {
                throw record.Bad($"{record.CaseId} was read before; a record is named by id, impl and cpu, so keep one");
            }

            records.Add(record);
        }

        return records.ToImmutable();
    }

    /// <summary>Reads one line.</summary>
    /// <param name="file">Name for messages.</param>
    /// <param name="line">Line from 1.</param>
    /// <param name="text">The line's text.</param>
    /// <exception cref="CaseFileException">It is not a record.</exception>
    public static PvmObservation Parse(string file, int line, string text)
    {
        JsonFields record = JsonFields.Parse(file, line, text);
        string id = record.Text("id");
        bool warm = id.EndsWith(WarmMark, StringComparison.Ordinal);
        string implementation = record.Text("impl");
        Abi abi = implementation switch
        {
            "rfc-port" => Abi.PvmRfc1,
            "pvm-612" => Abi.Pvm612,
            _ => throw record.Bad("impl", $"'{implementation}' is not known; it is rfc-port or pvm-612"),
        };
        string cpu = record.Text("cpu");
        string mode = record.Text("mode");
        JsonFields initial = record.Object("initial");
        JsonFields observed = record.Object("observed");
        ImmutableDictionary<Register, ulong> registers = RegisterFields.ToImmutableDictionary(f => f.Register, f => observed.Hex(f.Name));
        PvmObservation result = new()
        {
            Place = (file, line),
            Id = warm ? id[..^WarmMark.Length] : id,
            Abi = abi,
            Implementation = implementation,
            Cpu = cpu is "tcg-amd" or "tcg-intel" ? cpu : throw record.Bad("cpu", $"'{cpu}' is not known; it is tcg-amd or tcg-intel"),
            Path = warm ? HostPath.Warm : HostPath.Cold,
            Mode = mode switch
            {
                "S" => ObservedMode.Supervisor,
                "U" or "S/ERETU" => ObservedMode.User,
                "C" => ObservedMode.Compatibility,
                "S/ERETS" => ObservedMode.ReturnToSupervisor,
                _ => throw record.Bad("mode", $"'{mode}' is not known; it is S, U, C, S/ERETU or S/ERETS"),
            },
            Code = [.. record.Bytes("bytes_hex")],
            CodeAddress = initial.Hex("code"),
            Start = (initial.Hex("rsp"), initial.Hex("rflags")),
            Pvcs = Image(initial, abi),
            Exit = ExitOf(observed),
            Caution = record.OptionalText("caution"),
            Registers = registers,
            System = SystemOf(observed, abi),
            Memory = MemoryOf(observed, registers[Register.Rsp]),
        };

        // RIP at the start is the return's or the code's, which the mode says.
        initial.Skip("rip");
        initial.End();
        CheckSelectors(observed, result);
        SkipUnused(observed);
        observed.End();
        record.End();
        return result;
    }

    private static ImmutableDictionary<SystemRegister, ulong> Image(JsonFields initial, Abi abi)
    {
        byte[] image = initial.Bytes("pvcs_hex");
        if (image.Length != PvcsLayout.Size)
        {
            throw initial.Bad("pvcs_hex", $"has {image.Length} bytes; the structure has {PvcsLayout.Size}");
        }

        ImmutableDictionary<SystemRegister, ulong>.Builder fields = ImmutableDictionary.CreateBuilder<SystemRegister, ulong>();
        foreach (PvcsField field in PvcsLayout.Of(abi))
        {
            ulong value = 0;
            for (int i = field.Width - 1; i >= 0; i--)
            {
                value = (value << 8) | image[field.Offset + i];
            }

            fields.Add(field.Register, value);
        }

        return fields.ToImmutable();
    }

    private static (ObservedExit Kind, ulong Port) ExitOf(JsonFields observed)
    {
        string exit = observed.Text("exit");
        return exit switch
        {
            "IO" => (ObservedExit.Port, observed.Hex("port")),
            "HLT" => (ObservedExit.Halted, 0),
            "SHUTDOWN" => (ObservedExit.Shutdown, 0),
            "INTERNAL" => (ObservedExit.InternalError, (ulong)observed.Number("suberr")),
            _ => throw observed.Bad("exit", $"'{exit}' is not known; it is IO, HLT, SHUTDOWN or INTERNAL"),
        };
    }

    private static ImmutableDictionary<SystemRegister, ulong> SystemOf(JsonFields observed, Abi abi)
    {
        ImmutableDictionary<SystemRegister, ulong>.Builder system = ImmutableDictionary.CreateBuilder<SystemRegister, ulong>();
        foreach ((string name, SystemRegister register) in SystemFields)
        {
            system.Add(register, observed.Hex(name));
        }

        if (abi == Abi.PvmRfc1)
        {
            system.Add(SystemRegister.PvmSupervisorRsp, observed.Hex("msr_srsp"));
            system.Add(SystemRegister.PvmSwitchCr3, observed.Hex("msr_swcr3"));
        }

        system.Add(SystemRegister.NmiMasked, (ulong)observed.Number("nmi_masked"));
        system.Add(SystemRegister.PvmUserMode, observed.Number("cs_dpl") == 3 ? 1UL : 0);
        JsonFields pvcs = observed.Object("pvcs");
        foreach ((string name, SystemRegister register) in PvcsFields)
        {
            if (register != SystemRegister.PvcsRsp || abi == Abi.PvmRfc1)
            {
                system.Add(register, pvcs.Hex(name));
            }
        }

        pvcs.End();
        return system.ToImmutable();
    }

    private static ImmutableSortedDictionary<ulong, byte> MemoryOf(JsonFields observed, ulong rsp)
    {
        ImmutableSortedDictionary<ulong, byte>.Builder memory = ImmutableSortedDictionary.CreateBuilder<ulong, byte>();
        ulong at = rsp;
        foreach (ulong word in observed.HexList("stk"))
        {
            for (int i = 0; i < sizeof(ulong); i++)
            {
                memory[at++] = (byte)(word >> (8 * i));
            }
        }

        foreach ((string name, ulong address) in MemoryFields)
        {
            byte[] bytes = observed.Bytes(name);
            for (int i = 0; i < bytes.Length; i++)
            {
                memory[address + (ulong)i] = bytes[i];
            }
        }

        return memory.ToImmutable();
    }

    /// <summary>In user mode the hypervisor reports CS and SS shifted by the width of the RPL and table bits, so they say nothing; in supervisor mode they are those of MSR_STAR.</summary>
    private static void CheckSelectors(JsonFields observed, PvmObservation record)
    {
        (ulong cs, ulong ss) = (observed.Hex("cs"), observed.Hex("ss"));
        if (record.System[SystemRegister.PvmUserMode] == 0 && (cs, ss) != (PvmHostState.SupervisorCs, PvmHostState.SupervisorSs))
        {
            throw observed.Bad("cs", $"= {cs:x}, ss = {ss:x} in supervisor mode; MSR_STAR makes them {PvmHostState.SupervisorCs:x} and {PvmHostState.SupervisorSs:x}");
        }
    }

    /// <summary>What no guest sees, or what another field says better.</summary>
    private static void SkipUnused(JsonFields observed) =>
        observed.Skip("reason", "cs_l", "exc_inj", "int_inj", "pre", "ready", "if_flag", "ifl", "irqwin", "irqwin_rip", "io_in");
}
