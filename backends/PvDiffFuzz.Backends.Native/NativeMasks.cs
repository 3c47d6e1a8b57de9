using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Native;

/// <summary>What Linux changes between the processor and us, and a comparer must not look at. Each row is described in docs/native.md.</summary>
internal static class NativeMasks
{
    /// <summary>All rows.</summary>
    public static ImmutableArray<TargetMask> All { get; } =
    [
        new TargetMask(
            "native.pf-present-above-user",
            "Linux sets the P bit of the error code for addresses from 7ffffffff000 up, so that a process cannot probe kernel memory "
            + "(set_signal_archinfo in arch/x86/mm/fault.c)",
            e => e is { Vector: 14, Entry: EntryPoint.Idt, Cr2: >= LayoutRules.UserEnd },
            Field: null,
            Bits: 1),
        new TargetMask(
            "native.int80-rax",
            "the INT 0x80 entry of Linux keeps the low half of RAX as the system call number, and a refused call shows that "
            + "(int80_emulation in arch/x86/entry/syscall_32.c)",
            e => e is { Vector: 0x80, Entry: EntryPoint.Idt },
            Register.Rax,
            0xffff_ffff_0000_0000),
        Restart("rax", Register.Rax),
        Restart("rip", Register.Rip),
        new TargetMask(
            "native.instruction-breakpoint-rf",
            "the processor saves RF clear for an instruction breakpoint; Linux sets it, so that a return does not meet the breakpoint again "
            + "(hw_breakpoint_handler in arch/x86/kernel/hw_breakpoint.c)",
            e => e is { Vector: 1, Entry: EntryPoint.Idt } && (e.Registers.Rflags & RflagsBits.RF) != 0,
            Register.Rflags,
            RflagsBits.RF),
        NullSelector(Register.Ds),
        NullSelector(Register.Es),
        NullSelector(Register.Fs),
        NullSelector(Register.Gs),
    ];

    /// <summary>RAX at a system call that Linux takes for its own request to restart it.</summary>
    private static bool LooksLikeRestart(Event e)
    {
        long rax = (long)e.Registers.Gpr[0];
        long error = e.Vector == 0x80 ? (int)rax : rax;
        return error is -512 or -513 or -514 or -516 && (e.Entry == EntryPoint.Lstar || e.Vector == 0x80);
    }

    private static TargetMask Restart(string name, Register register) => new(
        $"native.system-call-restart-{name}",
        "a refused system call whose RAX is -512, -513, -514 or -516 looks to Linux like an interrupted one of its own: delivering the signal changes RAX or moves RIP back "
        + "(handle_signal in arch/x86/kernel/signal.c)",
        LooksLikeRestart,
        register,
        ulong.MaxValue);

    private static TargetMask NullSelector(Register segment) => new(
        $"native.null-selector-{segment.ToString().ToLowerInvariant()}",
        "an interrupt return replaces the null selectors 1 to 3 in data segment registers by 0, at any time (SDM vol.2A IRET, APM vol.3 IRET)",
        e => e.Registers[segment] < 4,
        segment,
        3);
}
