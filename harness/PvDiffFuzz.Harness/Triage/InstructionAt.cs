using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;
using Register = PvDiffFuzz.Core.Register;

namespace PvDiffFuzz.Harness;

/// <summary>What is special about the encoding of an instruction.</summary>
[Flags]
public enum Encodings
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>A REX prefix that another prefix follows, so that it means nothing.</summary>
    VoidRex = 1 << 0,

    /// <summary>An operand-size prefix.</summary>
    OperandSize = 1 << 1,

    /// <summary>A REX prefix with W.</summary>
    RexW = 1 << 2,

    /// <summary>A prefix for FS or GS with one for another segment behind it, which means nothing in 64-bit mode.</summary>
    VoidSegment = 1 << 3,

    /// <summary>An operand in memory, the ones of string instructions included; that of PUSH and POP is none.</summary>
    Memory = 1 << 4,

    /// <summary>A prefix for the segment FS.</summary>
    Fs = 1 << 5,

    /// <summary>A prefix for the segment GS.</summary>
    Gs = 1 << 6,

    /// <summary>A LOCK prefix.</summary>
    Lock = 1 << 7,

    /// <summary>A prefix F3.</summary>
    Repe = 1 << 8,

    /// <summary>A prefix F2.</summary>
    Repne = 1 << 9,

    /// <summary>Code of compatibility mode.</summary>
    Compatibility = 1 << 10,

    /// <summary>It reads RCX, or a part of it, as a SYSCALL has left it. No encoding, but of what ran; see <see cref="InstructionAt.Executed"/>.</summary>
    SyscallRcx = 1 << 11,

    /// <summary>A REX prefix with R.</summary>
    RexR = 1 << 12,

    /// <summary>An immediate operand whose top bit is set: a negative number, where it is taken for a signed one.</summary>
    Negative = 1 << 13,

    /// <summary>An IRET that finds VM among the flags on the stack. No encoding, but of what ran; see <see cref="InstructionAt.Executed"/>.</summary>
    VmImage = 1 << 14,

    /// <summary>An RCL or RCR by as many bits as the operand has with CF, or twice or three times as many, after which all are where they were. No encoding, but of what ran; see <see cref="InstructionAt.Executed"/>.</summary>
    WholeTurn = 1 << 15,

    /// <summary>An RCL or RCR that takes CF as a shift to the left has left it. No encoding, but of what ran; see <see cref="InstructionAt.Executed"/>.</summary>
    ShiftedCarry = 1 << 16,
}

/// <summary>An instruction that ran before a divergence shows.</summary>
/// <param name="Form">Iced's code name, as of <see cref="InstructionAt"/>.</param>
/// <param name="Encoding">What is special about its encoding.</param>
/// <param name="Raised">The vector of what the model raised at it; null for none.</param>
public readonly record struct Executed(string Form, Encodings Encoding, byte? Raised);

/// <summary>The instruction at which a divergence shows.</summary>
/// <param name="Form">Iced's code name, such as <c>Adc_rm64_r64</c>; <c>LOCK.</c> and the name of what LOCK makes undefined; <c>INVALID</c> and the opcode bytes for what does not decode; <c>none</c> when nothing was executed.</param>
/// <param name="Mnemonic">Iced's mnemonic, such as <c>Adc</c>.</param>
/// <param name="Address">Its linear address.</param>
/// <param name="Length">Its length in bytes, 0 for none.</param>
public readonly record struct InstructionAt(string Form, string Mnemonic, ulong Address, int Length)
{
    /// <summary>What is special about its encoding.</summary>
    public Encodings Encoding { get; init; }

    /// <summary>The last instruction that ran before it and is no NOP; one named <c>none</c> when none did, or nobody knows.</summary>
    public Executed Before { get; init; } = new("none", Encodings.None, null);

    /// <summary>What the model that traces says that it raised, whatever became of its delivery; null when it raised nothing, or nobody knows.</summary>
    public RaisedException? Raised { get; init; }

    /// <summary>RCX before it: what counts its repetitions, or names the register of RDMSR and WRMSR. Null when nobody knows.</summary>
    public ulong? Rcx { get; init; }

    /// <summary>The instructions that ran since the event before, this one included; at the end of a case, all that ran. Each kind once. Default when nobody knows.</summary>
    public ImmutableArray<Executed> Executed { get; init; }

    /// <summary>All instructions that ran until then. Each kind once. Default when nobody knows.</summary>
    public ImmutableArray<Executed> Ever { get; init; }

    /// <summary>Stands before the names of an instruction that is undefined only because of its LOCK prefix.</summary>
    public const string Lock = "LOCK.";

    /// <summary>What the name of an encoding without a form begins with; the first opcode bytes in hexadecimal follow.</summary>
    public const string Invalid = "INVALID.";

    /// <summary>Every mnemonic that an instruction may have.</summary>
    public static ImmutableArray<string> Mnemonics { get; } = [.. Enum.GetNames<Mnemonic>()];

    /// <summary>No instruction.</summary>
    public static InstructionAt None { get; } = new("none", "none", 0, 0);

    /// <summary>Finds the instruction at an event of a case.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="outcomes">What the targets answered, for when there is no trace.</param>
    /// <param name="eventIndex">Index of the event, or <see cref="Field.Final"/> for the last.</param>
    /// <param name="analyst">Traces the case if it can.</param>
    /// <returns>The last instruction that ran and is no NOP, the one that raised the event included. Where a handler ran that is code of the case, the one that led to it.</returns>
    public static InstructionAt Find(TestCase testCase, ReadOnlySpan<Outcome> outcomes, int eventIndex, CaseAnalyst analyst)
    {
        int answers = Math.Min(Answers.Before(outcomes, eventIndex), testCase.Responses.Length);
        ImmutableArray<TracedInstruction> trace = analyst.TraceAfter(testCase, answers);
        CpuVendor vendor = analyst.VendorOf(testCase);
        int all = trace.Length;
        if (eventIndex < 0 && testCase.Abi.IsPvm())
        {
            trace = BeforeHandler(trace, outcomes);
        }

        if (LastIndex(trace.AsSpan()) is int last and >= 0)
        {
            return AtIndex(trace, last, eventIndex < 0 ? 0 : Math.Min(last, LengthBefore(testCase, answers, all, analyst)), vendor);
        }

        foreach (Outcome outcome in outcomes)
        {
            if (outcome.Comparable && !outcome.Events.IsEmpty)
            {
                Event e = Answers.DeliveryOf(outcome.Events.AsSpan(), eventIndex < 0 ? int.MaxValue : eventIndex);
                return FromEvent(testCase, e, vendor);
            }
        }

        return None;
    }

    /// <summary>Finds the instruction that faulted on a target while the model that traces went on to a later event.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="outcomes">What the targets answered.</param>
    /// <param name="eventIndex">Index of the event; negative for none.</param>
    /// <param name="analyst">Traces the case.</param>
    /// <returns>The first instruction since the event before at which the fault of a target is; null when there is none before the last.</returns>
    public static InstructionAt? FindEarlier(TestCase testCase, ReadOnlySpan<Outcome> outcomes, int eventIndex, CaseAnalyst analyst)
    {
        int answers = Math.Min(Answers.Before(outcomes, eventIndex), testCase.Responses.Length);
        ImmutableArray<TracedInstruction> trace = analyst.TraceAfter(testCase, answers);
        int last = LastIndex(trace.AsSpan());
        foreach (Outcome outcome in outcomes)
        {
            if (last <= 0 || eventIndex < 0 || !outcome.Comparable || eventIndex >= outcome.Events.Length || outcome.Events[eventIndex] is not { Kind: EventKind.Fault } fault)
            {
                continue;
            }

            ulong rip = Interrupted.Value(testCase.Abi, fault, Register.Rip);
            int first = rip == trace[last].Address ? last : Math.Min(last, LengthBefore(testCase, answers, trace.Length, analyst));
            for (int i = first; i < last; i++)
            {
                if (trace[i].Address == rip)
                {
                    return AtIndex(trace, i, first, analyst.VendorOf(testCase));
                }
            }
        }

        return null;
    }

    /// <summary>The instruction at an index of a trace, with what ran before it.</summary>
    /// <param name="trace">The trace.</param>
    /// <param name="index">Its index.</param>
    /// <param name="first">Index of the first instruction since the event before.</param>
    /// <param name="vendor">Whose decoder.</param>
    private static InstructionAt AtIndex(ImmutableArray<TracedInstruction> trace, int index, int first, CpuVendor vendor)
    {
        InstructionAt found = Decode(trace[index], vendor);
        int before = LastIndex(trace.AsSpan()[..index]);
        (ImmutableArray<Executed> since, ImmutableArray<Executed> ever) = AllRan(trace.AsSpan()[..(index + 1)], first, vendor);
        return found with
        {
            Before = before < 0 ? found.Before : RanAt(trace[before], vendor),
            Executed = since,
            Ever = ever,
        };
    }

    /// <summary>How many instructions of a trace ran before the last event that was answered.</summary>
    private static int LengthBefore(TestCase testCase, int answers, int all, CaseAnalyst analyst)
    {
        for (int fewer = answers - 1; fewer >= 0; fewer--)
        {
            // A response that was not used makes no difference.
            int length = analyst.TraceAfter(testCase, fewer).Length;
            if (length < all)
            {
                return length;
            }
        }

        return 0;
    }

    private static InstructionAt Decode(TracedInstruction ran, CpuVendor vendor) => Decode(ran.Bytes.AsSpan(), ran.Address, ran.Mode, vendor) with { Raised = ran.Raised, Rcx = ran.Rcx };

    private static Executed RanAt(TracedInstruction ran, CpuVendor vendor)
    {
        InstructionAt at = Decode(ran, vendor);
        return new Executed(at.Form, at.Encoding | FoundBy(ran, at.Form), ran.Raised?.Vector);
    }

    /// <summary>What of an instruction only the state tells that it found.</summary>
    private static Encodings FoundBy(TracedInstruction ran, string form) =>
        (((ran.FlagsImage ?? 0) & Core.RflagsBits.VM) != 0 ? Encodings.VmImage : Encodings.None) | (IsWholeTurn(ran, form) ? Encodings.WholeTurn : Encodings.None);

    private static bool IsWholeTurn(TracedInstruction ran, string form)
    {
        const int mask = 31;
        int bits = form.StartsWith("Rcl_rm8_", StringComparison.Ordinal) || form.StartsWith("Rcr_rm8_", StringComparison.Ordinal) ? 9
            : form.StartsWith("Rcl_rm16_", StringComparison.Ordinal) || form.StartsWith("Rcr_rm16_", StringComparison.Ordinal) ? 17
            : 0;
        int count = (form.EndsWith("_CL", StringComparison.Ordinal) ? (byte)ran.Rcx : form.EndsWith("_imm8", StringComparison.Ordinal) ? ran.Bytes[^1] : 1) & mask;
        return bits != 0 && count != 0 && count % bits == 0;
    }

    /// <summary>Each kind of instruction that ran from an index of a trace on, and each that ran at all.</summary>
    private static (ImmutableArray<Executed> Since, ImmutableArray<Executed> Ever) AllRan(ReadOnlySpan<TracedInstruction> trace, int first, CpuVendor vendor)
    {
        Dictionary<(ulong Address, CpuMode Mode), (InstructionAt At, RcxUse Rcx, CarryUse Carry)> decoded = [];
        HashSet<Executed> since = [];
        HashSet<Executed> ever = [];
        bool left = false;
        bool shifted = false;
        for (int i = 0; i < trace.Length; i++)
        {
            TracedInstruction ran = trace[i];
            if (!decoded.TryGetValue((ran.Address, ran.Mode), out (InstructionAt At, RcxUse Rcx, CarryUse Carry) one))
            {
                Instruction instruction = CodeEdit.DecodeOne(ran.Bytes.AsSpan(), ran.Address, ran.Mode, vendor);
                one = (Decode(ran, vendor), RcxUse.Of(in instruction), CarryUse.Of(in instruction));
                decoded.Add((ran.Address, ran.Mode), one);
            }

            Encodings found = FoundBy(ran, one.At.Form) | (left && one.Rcx.Reads ? Encodings.SyscallRcx : Encodings.None) | (shifted && one.Carry.Rotates ? Encodings.ShiftedCarry : Encodings.None);
            Executed kind = new(one.At.Form, one.At.Encoding | found, ran.Raised?.Vector);
            ever.Add(kind);
            if (i >= first)
            {
                since.Add(kind);
            }

            left = ran.Raised is null && (one.At.Form == nameof(Code.Syscall) || (left && !one.Rcx.Replaces));
            shifted = one.Carry.Shifts || (shifted && !one.Carry.Replaces);
        }

        return ([.. since], [.. ever]);
    }

    /// <summary>What ran before the last handler that begins where an entry is at the end. An entry that the case begins with is no payload, so this is one that its code has set.</summary>
    private static ImmutableArray<TracedInstruction> BeforeHandler(ImmutableArray<TracedInstruction> trace, ReadOnlySpan<Outcome> outcomes)
    {
        foreach (Outcome outcome in outcomes)
        {
            bool stated = outcome.System.TryGet(SystemRegister.PvmEventEntry, out ulong entry);
            stated &= outcome.System.TryGet(SystemRegister.Lstar, out ulong lstar);
            for (int i = trace.Length - 1; stated && i > 0; i--)
            {
                ulong address = trace[i].Address;
                if (address == entry || address == entry + 256 || address == entry + 512 || address == lstar)
                {
                    return trace[..i];
                }
            }
        }

        return trace;
    }

    /// <summary>Index of the last instruction of a trace that is no NOP, or of the first; -1 when there is none.</summary>
    internal static int LastIndex(ReadOnlySpan<TracedInstruction> trace)
    {
        int last = trace.Length - 1;
        while (last > 0 && IsNop(trace[last].Bytes.AsSpan()))
        {
            last--;
        }

        return last;
    }

    /// <summary>Decodes one instruction.</summary>
    /// <param name="bytes">Its bytes, perhaps followed by others.</param>
    /// <param name="address">Its linear address.</param>
    /// <param name="mode">Mode to decode in.</param>
    /// <param name="vendor">Whose decoder.</param>
    public static InstructionAt Decode(ReadOnlySpan<byte> bytes, ulong address, CpuMode mode, CpuVendor vendor)
    {
        Instruction instruction = CodeEdit.DecodeOne(bytes, address, mode, vendor);
        InstructionAt found = instruction.IsInvalid
            ? WithoutLock(bytes, address, mode, vendor) ?? new InstructionAt($"{Invalid}{Opcode(bytes)}", "INVALID", address, bytes.Length)
            : new InstructionAt(IcedNames.Of(instruction.Code), IcedNames.Of(instruction.Mnemonic), address, instruction.Length);
        return found with { Encoding = EncodingOf(bytes, mode) | OperandsOf(in instruction) };
    }

    private static Encodings OperandsOf(in Instruction instruction)
    {
        Encodings operands = Encodings.None;
        for (int i = 0; i < instruction.OpCount; i++)
        {
            // The kinds of memory follow each other, those of string instructions first.
            OpKind kind = instruction.GetOpKind(i);
            operands |= kind is >= OpKind.MemorySegSI and <= OpKind.Memory ? Encodings.Memory : Encodings.None;
            operands |= IsNegative(in instruction, i) ? Encodings.Negative : Encodings.None;
        }

        return operands;
    }

    private static bool IsNegative(in Instruction instruction, int operand) => instruction.GetOpKind(operand) switch
    {
        OpKind.Immediate8 => (sbyte)instruction.Immediate8 < 0,
        OpKind.Immediate16 => (short)instruction.Immediate16 < 0,
        OpKind.Immediate32 => (int)instruction.Immediate32 < 0,
        OpKind.Immediate64 or OpKind.Immediate8to16 or OpKind.Immediate8to32 or OpKind.Immediate8to64 or OpKind.Immediate32to64 => (long)instruction.GetImmediate(operand) < 0,
        _ => false,
    };

    private static Encodings EncodingOf(ReadOnlySpan<byte> bytes, CpuMode mode)
    {
        const byte operandSize = 0x66;
        const byte segmentFs = 0x64;
        const byte segmentGs = 0x65;
        const byte @lock = 0xf0;
        const byte repne = 0xf2;
        const byte repe = 0xf3;
        Encodings encoding = mode == CpuMode.Long64 ? Encodings.None : Encodings.Compatibility;
        bool based = false;
        for (int at = 0; at < bytes.Length && CodeEdit.IsPrefix(bytes[at], mode); at++)
        {
            // REX counts right before the opcode only.
            bool last = at + 1 == bytes.Length || !CodeEdit.IsPrefix(bytes[at + 1], mode);
            based |= bytes[at] is segmentFs or segmentGs;
            encoding |= bytes[at] switch
            {
                operandSize => Encodings.OperandSize,
                segmentFs => Encodings.Fs,
                segmentGs => Encodings.Gs,
                @lock => Encodings.Lock,
                repne => Encodings.Repne,
                repe => Encodings.Repe,
                0x26 or 0x2e or 0x36 or 0x3e => based && mode == CpuMode.Long64 ? Encodings.VoidSegment : Encodings.None,
                >= 0x40 and <= 0x4f when mode == CpuMode.Long64 => last ? RexOf(bytes[at]) : Encodings.VoidRex,
                _ => Encodings.None,
            };
        }

        return encoding;
    }

    private static Encodings RexOf(byte prefix)
    {
        const int w = 8;
        const int r = 4;
        return ((prefix & w) != 0 ? Encodings.RexW : Encodings.None) | ((prefix & r) != 0 ? Encodings.RexR : Encodings.None);
    }

    // What is undefined only because LOCK may not precede it has a name of its own.
    private static InstructionAt? WithoutLock(ReadOnlySpan<byte> bytes, ulong address, CpuMode mode, CpuVendor vendor)
    {
        int at = bytes.IndexOf((byte)0xf0);
        if (at < 0 || !bytes[..at].ToArray().All(b => CodeEdit.IsPrefix(b, mode)))
        {
            return null;
        }

        Instruction rest = CodeEdit.DecodeOne([.. bytes[..at], .. bytes[(at + 1)..]], address, mode, vendor);
        return rest.IsInvalid ? null : new InstructionAt(Lock + rest.Code, Lock + rest.Mnemonic, address, rest.Length + 1);
    }

    // Without a trace, the event's RIP is all there is: a fault's is the instruction, a trap's is right after it.
    private static InstructionAt FromEvent(TestCase testCase, Event e, CpuVendor vendor)
    {
        CodeBlock code = testCase.Code;
        ulong rip = Interrupted.Value(testCase.Abi, e, Register.Rip);
        bool after = e.Kind != EventKind.Fault || rip == code.End;
        int found = -1;
        int at = 0;
        int foundAt = 0;
        for (int i = 0; i < code.Lengths.Length; at += code.Lengths[i++])
        {
            ulong start = code.Address + (ulong)at;
            bool nop = IsNop(code.Bytes.AsSpan(at, code.Lengths[i]));
            if (after ? start < rip && rip <= code.End && (!nop || found < 0) : start == rip)
            {
                found = i;
                foundAt = at;
            }
        }

        return found < 0 ? None : Decode(code.Bytes.AsSpan(foundAt, code.Lengths[found]), code.Address + (ulong)foundAt, testCase.Mode, vendor);
    }

    private static bool IsNop(ReadOnlySpan<byte> bytes) => bytes is [0x90];

    private static string Opcode(ReadOnlySpan<byte> bytes)
    {
        int at = 0;
        while (at < bytes.Length - 1 && CodeEdit.IsPrefix(bytes[at], CpuMode.Long64))
        {
            at++;
        }

        return Convert.ToHexStringLower(bytes[at..Math.Min(bytes.Length, at + 3)]);
    }
}
