using System.Buffers.Binary;
using System.Collections.Frozen;
using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Isa;

/// <summary>Something that cases of Xen guests never do on a live target, and why.</summary>
/// <param name="Id">Stable name for messages and documents.</param>
/// <param name="What">What is not generated.</param>
/// <param name="Reason">Why, in one sentence.</param>
public sealed record XenExclusion(string Id, string What, string Reason);

/// <summary>What Xen cases leave out besides <see cref="Exclusions"/>, and the places where they leave out less.</summary>
public static class XenExclusions
{
    /// <summary>The forced emulation prefix: UD2 and the letters <c>xen</c>.</summary>
    public static ReadOnlySpan<byte> ForcedEmulation => [0x0f, 0x0b, 0x78, 0x65, 0x6e];

    private static ReadOnlySpan<byte> Cpuid => [0x0f, 0xa2];

    private static ReadOnlySpan<byte> PortOpcodes => [0x6c, 0x6d, 0x6e, 0x6f, 0xe4, 0xe5, 0xe6, 0xe7, 0xec, 0xed, 0xee, 0xef];

    /// <summary>Prefixes that a generated hypercall may have.</summary>
    private static ReadOnlySpan<byte> CallPrefixes => [0x48, 0x66, 0xf2];

    private static readonly FrozenSet<ulong> Calls = new ulong[] { 0, 2, 3, 4, 5, 6, 8, 9, 10, 13, 17, 18, 21, 23, 24, 25, 28, 29, 30, 33 }.ToFrozenSet();

    private const ulong FirstUnknownCall = 56;

    /// <summary>All rows.</summary>
    public static ImmutableArray<XenExclusion> Rows { get; } =
    [
        new("machine-calls", "hypercalls 1, 7, 11, 12, 14 to 16, 19, 20, 22, 26, 27, 31, 32, 34 to 55", "Act on the machine, on memory or on other domains, or need machine addresses; a case states none."),
        new("loose-calls", "a SYSCALL (32-bit guests: INT 82h) of the guest's kernel whose number was not loaded right before it", "Would be any call."),
        new("timers", "sched_op block and poll", "End by time."),
        new("machine-root", "MOV to and from CR3", "Holds a machine address."),
        new("ports", "ports other than 80h for writes and e4h", "Devices answer, or act; a dom0 may use almost all of them."),
        new("bare-cpuid", "CPUID without the forced emulation prefix, and with it leaves other than 40000000", "Shows the processor, or what the monitor chose."),
        new("xen-memory", "accesses to the range that Xen keeps", "Which of its pages a guest may read is Xen's affair and changes with its configuration."),
        new("kernel-sysenter", "SYSENTER of the guest's kernel on Intel's processors, but for cases that may crash the domain", "Enters Xen without a stack pointer."),
    ];

    /// <summary>As <see cref="Exclusions.FindAnywhere"/>, for Xen: allowed are CPUID behind the forced emulation prefix, and SYSCALL and SYSENTER, which the ABI defines for every processor.</summary>
    /// <param name="code">Machine code.</param>
    /// <param name="mode">Mode to decode in.</param>
    /// <param name="profile">The processor that is to execute it.</param>
    /// <param name="offset">Where the opcode of the excluded instruction begins, or -1.</param>
    /// <returns>The row, or null when the code may be executed.</returns>
    public static Exclusion? FindAnywhere(ReadOnlySpan<byte> code, CpuMode mode, CpuProfile profile, out int offset)
    {
        int from = 0;
        while (Exclusions.FindAnywhere(code[from..], mode, profile, out int found) is { } row)
        {
            offset = from + found;
            if (!IsAllowed(row, code[offset..], code[..offset]))
            {
                return row;
            }

            // No allowed opcode ends in a byte that could be a prefix of what follows.
            from = offset + 2;
        }

        offset = -1;
        return null;
    }

    /// <summary>True when the code of a guest's kernel may make a call whose number is not loaded right before it, or one that acts on the machine.</summary>
    /// <param name="code">Machine code.</param>
    /// <param name="abi">The kind of guest.</param>
    public static bool HasLooseCall(ReadOnlySpan<byte> code, Abi abi)
    {
        ReadOnlySpan<byte> call = abi == Abi.XenPv32 ? [0xcd, 0x82] : [0x0f, 0x05];
        for (int from = 0; code[from..].IndexOf(call) is >= 0 and int found; from += found + call.Length)
        {
            ReadOnlySpan<byte> before = code[..(from + found)];
            if (!LoadsKnownNumber(before) && !(before.Length > 0 && CallPrefixes.Contains(before[^1]) && LoadsKnownNumber(before[..^1])))
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>True when some byte of the code may begin an access to a port.</summary>
    public static bool HasPort(ReadOnlySpan<byte> code) => code.ContainsAny(PortOpcodes);

    /// <summary>True when a hypercall only touches the virtual CPU that makes it.</summary>
    public static bool IsCallAllowed(ulong number) => Calls.Contains(number) || number >= FirstUnknownCall;

    /// <summary>True when a case may run on a live host.</summary>
    public static bool MayRunLive(TestCase testCase, CpuProfile profile) =>
        FindAnywhere(testCase.Code.Bytes.AsSpan(), testCase.Mode, profile, out _) is null
        && !(testCase.Start == GuestMode.Supervisor && HasLooseCall(testCase.Code.Bytes.AsSpan(), testCase.Abi))
        && testCase.Responses.All(response => response.Hypercalls.All(call => IsCallAllowed(call.Number)));

    /// <summary>True when the last instruction is MOV of a constant to RAX or EAX, and the constant a call that is allowed.</summary>
    private static bool LoadsKnownNumber(ReadOnlySpan<byte> before) =>
        (before.Length >= 10 && before[^10..^8] is [0x48, 0xb8] && IsCallAllowed(BinaryPrimitives.ReadUInt64LittleEndian(before[^8..])))
        || (before.Length >= 7 && before[^7..^4] is [0x48, 0xc7, 0xc0] && IsCallAllowed((ulong)BinaryPrimitives.ReadInt32LittleEndian(before[^4..])))
        || (before.Length >= 5 && before[^5] == 0xb8 && !(before.Length >= 6 && before[^6] == 0x41) && IsCallAllowed(BinaryPrimitives.ReadUInt32LittleEndian(before[^4..])));

    private static bool IsAllowed(Exclusion row, ReadOnlySpan<byte> code, ReadOnlySpan<byte> before) =>
        row.Mnemonics.Contains(Mnemonic.Sysenter)
        || row.Mnemonics.Contains(Mnemonic.Syscall)
        || (row.Mnemonics.Contains(Mnemonic.Cpuid) && before.EndsWith(ForcedEmulation) && code.StartsWith(Cpuid));
}
