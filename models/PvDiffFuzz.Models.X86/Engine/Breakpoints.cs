using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86;

/// <summary>The breakpoints that DR7 enables, and when they are met. Immutable; cases without any have none of these, and pay nothing.</summary>
/// <remarks>
/// <para>
/// Instruction breakpoints are looked at on each instruction boundary: <see cref="Attention.Step"/> stays set while any is armed. For data breakpoints every
/// access takes the slow path (see <see cref="CpuState.CheckedSegments"/>), which calls <see cref="NoteAccess"/> once the access is known to succeed.
/// </para>
/// <para>
/// Neither the L and G bits (one enables as well as the other, and tasks do not switch here) nor LE, GE and GD matter at CPL3. I/O breakpoints never come about: with IOPL 0
/// and no I/O bitmap IN, OUT, INS and OUTS raise #GP(0) before the port is accessed.
/// What goes to DR6 is no part of an event; models that have it find it in <see cref="CpuState.DebugStatus"/>.
/// </para>
/// </remarks>
internal sealed class Breakpoints
{
    private const int Count = 4;
    private const int Execute = 0;
    private const int Write = 1;
    private const int ReadWrite = 3;
    private const byte DebugVector = 1;

    /// <summary>BS of DR6.</summary>
    public const ulong SingleStep = 1UL << 14;

    private readonly ImmutableArray<(ulong Address, byte Bit)> _code;
    private readonly ImmutableArray<Watch> _data;

    private Breakpoints(ImmutableArray<(ulong Address, byte Bit)> code, ImmutableArray<Watch> data)
    {
        _code = code;
        _data = data;
    }

    /// <summary>True when an instruction breakpoint is armed.</summary>
    public bool OnExecution => !_code.IsEmpty;

    /// <summary>True when a data breakpoint is armed.</summary>
    public bool OnAccess => !_data.IsEmpty;

    /// <summary>Reads DR0 to DR3 and DR7. The low bits of a data address that its length covers are ignored.</summary>
    /// <returns>Null when nothing is enabled.</returns>
    [Spec("SDM", "vol.3B 17.2.1 Debug Address Registers (DR0-DR3); 17.2.4 Debug Control Register (DR7); 17.2.5 Breakpoint Field Recognition")]
    [Spec("APM", "vol.2 13.1.1.1 Address-Breakpoint Registers (DR0-DR3); 13.1.1.4 Debug-Control Register (DR7)")]
    public static Breakpoints? Arm(DebugRegisters? registers)
    {
        if (registers is null)
        {
            return null;
        }

        ImmutableArray<(ulong Address, byte Bit)>.Builder code = ImmutableArray.CreateBuilder<(ulong Address, byte Bit)>(Count);
        ImmutableArray<Watch>.Builder data = ImmutableArray.CreateBuilder<Watch>(Count);
        ReadOnlySpan<ulong> addresses = [registers.Dr0, registers.Dr1, registers.Dr2, registers.Dr3];
        for (int i = 0; i < Count; i++)
        {
            int kind = (int)(registers.Dr7 >> (16 + (4 * i))) & 3;
            bool enabled = ((registers.Dr7 >> (2 * i)) & 3) != 0;
            if (enabled && kind == Execute)
            {
                code.Add((addresses[i], (byte)(1 << i)));
            }
            else if (enabled && kind is Write or ReadWrite)
            {
                uint length = ((registers.Dr7 >> (18 + (4 * i))) & 3) switch { 0 => 1, 1 => 2, 2 => 8, _ => 4 };
                data.Add(new Watch(addresses[i] & ~(ulong)(length - 1), length, OnRead: kind == ReadWrite, (byte)(1 << i)));
            }
        }

        return code.Count + data.Count == 0 ? null : new Breakpoints(code.DrainToImmutable(), data.DrainToImmutable());
    }

    /// <summary>Looks at the boundary before the next instruction. An instruction breakpoint is a fault, and comes before any that fetching or executing may raise.</summary>
    /// <remarks>Only the address of the first byte counts, prefixes included. RF suppresses the fault; so does, for Intel, an instruction before that loaded SS. RF is saved clear.</remarks>
    /// <param name="cpu">State; gets the fault when there is one.</param>
    /// <param name="shadow">True right after MOV SS or POP SS.</param>
    /// <returns>True when a #DB is to be delivered.</returns>
    [Spec("SDM", "vol.3B 17.3.1.1 Instruction-Breakpoint Exception Condition; vol.3A 6.9 Prioritization of Concurrent Events; 6.8.3 Masking Exceptions and Interrupts When Switching Stacks")]
    [Spec("APM", "vol.2 13.1.2 Setting Breakpoints; 13.1.3.1 Instruction Breakpoints; 8.2.2 #DB (fault for instruction execution); 3.1.6 RFLAGS Register (RF)")]
    public static bool BeforeInstruction(ref CpuState cpu, bool shadow)
    {
        if (cpu.Breakpoints is not { OnExecution: true } armed)
        {
            return false;
        }

        cpu.Attention |= Attention.Step;
        bool masked = (cpu.System & RflagsBits.RF) != 0 || (shadow && cpu.Profile.Vendor == CpuVendor.Intel);
        byte met = masked ? (byte)0 : armed.MetAt(cpu.Rip);
        if (met == 0)
        {
            return false;
        }

        // A fault by its RIP, but the one fault that does not save RF set: the handler must set it, or the instruction meets its breakpoint again.
        cpu.DebugStatus = met;
        cpu.Trap(DebugVector);
        return true;
    }

    private byte MetAt(ulong rip)
    {
        byte met = 0;
        foreach ((ulong address, byte bit) in _code)
        {
            met |= address == rip ? bit : (byte)0;
        }

        return met;
    }

    /// <summary>Takes note of an access that succeeded. Its trap comes after the instruction, or after the iteration of a repeated one.</summary>
    /// <remarks>
    /// One byte in common is enough. The trap is one and the same with that of a single step. It is held back over the instruction after MOV SS and POP SS, and
    /// lost when the instruction goes on to raise a fault, since that instruction then has not been executed.
    /// </remarks>
    /// <param name="cpu">State.</param>
    /// <param name="address">Linear address of the first byte.</param>
    /// <param name="bytes">Length of the access.</param>
    /// <param name="write">True for a store.</param>
    [Spec("SDM", "vol.3B 17.3.1.2 Data Memory and I/O Breakpoint Exception Conditions; 17.2.5 Breakpoint Field Recognition")]
    [Spec("APM", "vol.2 13.1.2 Setting Breakpoints; 13.1.3.2 Data Breakpoints; 8.2.2 #DB (trap for data reads and writes)")]
    public static void NoteAccess(ref CpuState cpu, ulong address, int bytes, bool write)
    {
        foreach (Watch watch in cpu.Breakpoints!._data)
        {
            bool met = ((watch.Address - address) & cpu.LinearMask) < (uint)bytes || ((address - watch.Address) & cpu.LinearMask) < watch.Length;
            if (met && (write || watch.OnRead) && (watch.Address & ~cpu.LinearMask) == 0)
            {
                cpu.TrapDue = true;
                cpu.Watched |= watch.Bit;
                cpu.Attention |= Attention.Step;
            }
        }
    }

    /// <summary>A data breakpoint.</summary>
    private readonly record struct Watch(ulong Address, uint Length, bool OnRead, byte Bit);
}
