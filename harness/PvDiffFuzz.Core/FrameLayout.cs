using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <summary>A named part of the frame that a hypervisor delivers.</summary>
/// <param name="Name">As in reports and known entries, such as <c>rflags</c> or <c>errcode</c>.</param>
/// <param name="Offset">Bytes from the start of the frame.</param>
/// <param name="Width">Bytes, 1 to 8.</param>
/// <param name="Saves">The register whose interrupted value it holds, so that what is undefined there is undefined here; null for none.</param>
public readonly record struct FrameField(string Name, int Offset, int Width, Register? Saves = null);

/// <summary>What the bytes of a delivered frame mean, by ABI, entry and length.</summary>
public static class FrameLayout
{
    private static readonly FrameField[] PvmStack =
    [
        new("errcode", 0, 4), new("vector", 4, 4), new("rip", 8, 8, Register.Rip), new("cs", 16, 8), new("rflags", 24, 8, Register.Rflags), new("rsp", 32, 8, Register.Rsp),
        new("ss", 40, 8), new("rcx", 48, 8, Register.Rcx), new("r11", 56, 8, Register.R11),
    ];

    private static readonly FrameField[] PvcsRfc1 = Pvcs(Abi.PvmRfc1);
    private static readonly FrameField[] Pvcs612 = Pvcs(Abi.Pvm612);
    private static readonly FrameField[] Xen64 = XenPv64(error: false);
    private static readonly FrameField[] Xen64Error = XenPv64(error: true);
    private static readonly FrameField[] Xen32 = XenPv32(error: false, outer: false);
    private static readonly FrameField[] Xen32Error = XenPv32(error: true, outer: false);
    private static readonly FrameField[] Xen32Outer = XenPv32(error: false, outer: true);
    private static readonly FrameField[] Xen32OuterError = XenPv32(error: true, outer: true);

    /// <summary>The fields of a frame, in the order of their offsets.</summary>
    /// <param name="abi">The ABI.</param>
    /// <param name="entry">Where the event came in.</param>
    /// <param name="length">Bytes of the frame.</param>
    /// <returns>Empty when the frame has no layout of its own: an IDT's, or one of an unexpected length.</returns>
    public static ReadOnlySpan<FrameField> Of(Abi abi, EntryPoint entry, int length) => (abi, entry, length) switch
    {
        (Abi.PvmRfc1, EntryPoint.PvmSupervisor, 64) => PvmStack,
        (Abi.PvmRfc1, _, PvcsLayout.Size) => PvcsRfc1,
        (Abi.Pvm612 or Abi.PvmAbi1, _, PvcsLayout.Size) => Pvcs612,
        (Abi.XenPv64 or Abi.XenPv64Fred, _, 56) => Xen64,
        (Abi.XenPv64 or Abi.XenPv64Fred, _, 64) => Xen64Error,
        (Abi.XenPv32, _, 12) => Xen32,
        (Abi.XenPv32, _, 16) => Xen32Error,
        (Abi.XenPv32, _, 20) => Xen32Outer,
        (Abi.XenPv32, _, 24) => Xen32OuterError,
        _ => [],
    };

    /// <summary>Bytes of the longest frame.</summary>
    public const int MaximumLength = PvcsLayout.Size;

    /// <summary>True when events of an ABI come through an entry; for <see cref="EntryPoint.HypercallReturn"/>, when it has hypercalls.</summary>
    public static bool HasEntry(Abi abi, EntryPoint entry) => entry switch
    {
        EntryPoint.Idt => abi == Abi.X86,
        EntryPoint.Lstar => !abi.IsXen(),
        EntryPoint.PvmUser or EntryPoint.PvmSupervisor => abi.IsPvm(),
        EntryPoint.PvmSupervisorHigh => abi == Abi.PvmRfc1,
        EntryPoint.HypercallReturn => abi != Abi.X86,
        _ => abi.IsXen(),
    };

    /// <summary>Bytes that a delivery at an entry stores; 0 for none, and for entries whose length depends on the event, as all of Xen's.</summary>
    public static int LengthAt(Abi abi, EntryPoint entry) => (abi, entry) switch
    {
        (Abi.PvmRfc1, EntryPoint.PvmSupervisor) => 64,
        _ => abi.IsPvm() && entry != EntryPoint.HypercallReturn ? PvcsLayout.Size : 0,
    };

    /// <summary>True when the frame lies in guest memory from the RSP at entry upwards; false when it is PVM's per-VCPU structure or an IDT's.</summary>
    public static bool OnStack(EntryPoint entry) => entry is EntryPoint.PvmSupervisor or >= EntryPoint.XenTrap;

    /// <summary>Value of a field, little-endian.</summary>
    public static ulong Read(ImmutableArray<byte> frame, FrameField field)
    {
        ulong value = 0;
        for (int i = field.Width - 1; i >= 0; i--)
        {
            value = (value << 8) | frame[field.Offset + i];
        }

        return value;
    }

    private static FrameField[] Pvcs(Abi revision)
    {
        List<FrameField> fields = [];
        foreach (PvcsField field in PvcsLayout.Of(revision))
        {
            fields.Add(new FrameField(CaseFileWords.SystemRegisters[(int)field.Register]["pvcs.".Length..], field.Offset, field.Width, PvcsLayout.Saves(field.Register)));
        }

        return [.. fields];
    }

    private static FrameField[] XenPv64(bool error)
    {
        int at = error ? 24 : 16;
        FrameField[] rest =
        [
            new("rip", at, 8, Register.Rip), new("cs", at + 8, 2), new("cs.upper", at + 10, 2), new("mask", at + 12, 1), new("mask.upper", at + 13, 3),
            new("rflags", at + 16, 8, Register.Rflags), new("rsp", at + 24, 8, Register.Rsp), new("ss", at + 32, 2), new("ss.upper", at + 34, 6),
        ];
        FrameField[] first = [new("rcx", 0, 8, Register.Rcx), new("r11", 8, 8, Register.R11)];
        return error ? [.. first, new("errcode", 16, 8), .. rest] : [.. first, .. rest];
    }

    private static FrameField[] XenPv32(bool error, bool outer)
    {
        int at = error ? 4 : 0;
        FrameField[] rest =
        [
            new("eip", at, 4, Register.Rip), new("cs", at + 4, 2), new("mask", at + 6, 1), new("mask.upper", at + 7, 1), new("eflags", at + 8, 4, Register.Rflags),
        ];
        FrameField[] stack = outer ? [new("esp", at + 12, 4, Register.Rsp), new("ss", at + 16, 2), new("ss.upper", at + 18, 2)] : [];
        return error ? [new("errcode", 0, 4), .. rest, .. stack] : [.. rest, .. stack];
    }
}
