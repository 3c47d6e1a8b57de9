using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Import;

/// <summary>Reads records of PV guests of Xen, one JSON object a line. What a record must have and may have is all said here: anything else is refused.</summary>
internal static class XenObservationReader
{
    private const string Handlers =
        "default: all 256 vectors registered (cs e033, flags 3 for vectors 3 and 4, else 0), callbacks event, failsafe, syscall, sysenter, syscall32, nmi registered with flags 0; kernel_ss e02b";

    private const int StackWords = 8;
    private const byte Int3 = 0xcc;

    private static readonly string[] RegisterNames = ["rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15"];

    /// <summary>Reads a file.</summary>
    /// <param name="path">Path of the file.</param>
    /// <exception cref="CaseFileException">A record is bad; the message has file, line and what would be right.</exception>
    public static ImmutableArray<XenObservation> Read(string path)
    {
        ImmutableArray<XenObservation>.Builder records = ImmutableArray.CreateBuilder<XenObservation>();
        HashSet<string> seen = new(StringComparer.Ordinal);
        int line = 0;
        (ulong Selectors, ulong Cr2) left = default;
        foreach (string text in File.ReadLines(path))
        {
            line++;
            XenObservation record = Parse(path, line, text, left);
            if (!seen.Add(record.CaseId))
            {
                throw record.Bad($"{record.CaseId} was read before; a record is named by its name, mode, xen and cpu, so keep one");
            }

            // One guest ran all records in their order; what none of them sets stays as it is until a crash starts another guest.
            left = record.Delivery is XenDelivery delivery ? (delivery.Selectors, delivery.Cr2) : default;
            records.Add(record);
        }

        return records.ToImmutable();
    }

    /// <summary>Reads one line.</summary>
    /// <param name="file">Name for messages.</param>
    /// <param name="line">Line from 1.</param>
    /// <param name="text">The line's text.</param>
    /// <param name="before">What the record before it left behind.</param>
    /// <exception cref="CaseFileException">It is not a record.</exception>
    public static XenObservation Parse(string file, int line, string text, (ulong Selectors, ulong Cr2) before = default)
    {
        JsonFields record = JsonFields.Parse(file, line, text);
        JsonFields initial = record.Object("initial");
        JsonFields observed = record.Object("observed");
        if (record.Text("handlers") is string handlers && handlers != Handlers)
        {
            throw record.Bad("handlers", $"'{handlers}' is not known; it is '{Handlers}'");
        }

        byte[] terminator = record.Bytes("terminator");
        if (terminator is not [Int3])
        {
            throw record.Bad("terminator", $"is {Convert.ToHexStringLower(terminator)}; records end with INT3, {Int3:x2}");
        }

        string version = record.Text("xen");
        string cpu = record.Text("cpu");
        string mode = record.Text("mode");
        XenObservation result = new()
        {
            Place = (file, line),
            Name = record.Text("name"),
            Mode = mode switch
            {
                "kernel" => XenObservedMode.Kernel,
                "kernel-via-iret" => XenObservedMode.KernelViaIret,
                "user" => XenObservedMode.User,
                _ => throw record.Bad("mode", $"'{mode}' is not known; it is kernel, kernel-via-iret or user"),
            },
            Version = XenVersion.Parse(version) ?? throw record.Bad("xen", $"'{version}' is no release; write it as in 4.17.7"),
            Emulator = record.Text("qemu"),
            Cpu = cpu is XenHostState.AmdCpu or XenHostState.IntelCpu ? cpu : throw record.Bad("cpu", $"'{cpu}' is not known; it is {XenHostState.AmdCpu} or {XenHostState.IntelCpu}"),
            Code = [.. record.Bytes("code"), .. terminator],
            CodeAddress = initial.Hex("code_at"),
            Registers = RegistersOf(initial),
            Context = (initial.Hex("rip"), initial.Hex("rflags"), Selector(initial, "cs"), Selector(initial, "ss")),
            IretFlags = initial.Hex("iret_flags"),
            KernelSp = initial.Hex("kernel_sp"),
            Upcall = ((byte)initial.Number("upcall_pending"), (byte)initial.Number("upcall_mask")),
            Traps = [.. initial.List("trap_overrides").Select(TrapOf)],
            CallsBefore = [.. initial.List("hypercalls_before").Select(CallOf)],
            CallResults = [.. observed.HexList("hypercall_results")],
            Memory = [.. initial.List("memory").Select(MemoryOf)],
            Before = before,
            Delivery = DeliveryOf(observed),
        };
        initial.End();
        observed.End();
        record.End();
        return result;
    }

    private static ImmutableArray<ulong> RegistersOf(JsonFields parent)
    {
        JsonFields registers = parent.Object("registers");
        ImmutableArray<ulong> values = [.. RegisterNames.Select(registers.Hex)];
        registers.End();
        return values;
    }

    private static ushort Selector(JsonFields fields, string name)
    {
        ulong value = fields.Hex(name);
        return value <= ushort.MaxValue ? (ushort)value : throw fields.Bad(name, $"= {value:x}; a selector has 16 bits");
    }

    private static (byte Vector, byte Flags, bool Present) TrapOf(JsonFields trap)
    {
        (byte, byte, bool) result = ((byte)trap.Number("vector"), (byte)trap.Number("flags"), trap.Flag("present"));
        trap.End();
        return result;
    }

    private static Hypercall CallOf(JsonFields call)
    {
        Hypercall result = new((ulong)call.Number("number"), [.. call.HexList("args")]);
        call.End();
        return result;
    }

    private static MemoryContents MemoryOf(JsonFields memory)
    {
        MemoryContents result = new(memory.Hex("at"), [.. memory.Bytes("bytes")]);
        memory.End();
        return result;
    }

    private static XenDelivery? DeliveryOf(JsonFields observed)
    {
        string end = observed.Text("end");
        if (end == "domain-crash")
        {
            // What Xen printed names addresses of its own.
            observed.Skip("console");
            return null;
        }

        if (end != "event")
        {
            throw observed.Bad("end", $"'{end}' is not known; it is event or domain-crash, and what gave no answer is no record");
        }

        string name = observed.Text("entry");
        EntryPoint entry = name == "vector" ? EntryPoint.XenTrap : Words.Find<EntryPoint>(Words.Text, $"xen.{name}") ?? throw observed.Bad("entry", $"'{name}' is not known; it is vector or a callback");
        ulong selectors = observed.Hex("cs_ss");
        byte vector = entry == EntryPoint.XenTrap ? (byte)observed.Number("vector") : (byte)0;
        observed.Skip("vector");
        ulong[] stack = observed.HexList("stack_words_from_rsp");
        return stack.Length == StackWords
            ? new XenDelivery(
                entry, vector, RegistersOf(observed), observed.Hex("rflags"), (ushort)selectors, (ushort)(selectors >> 16), observed.Hex("data_selectors"), [.. stack], observed.Hex("vcpu_cr2"),
                observed.Hex("vcpu_info_first8"))
            : throw observed.Bad("stack_words_from_rsp", $"has {stack.Length} words; {StackWords} are expected");
    }
}
