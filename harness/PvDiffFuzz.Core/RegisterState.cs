using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <summary>Everything of <see cref="RegisterState"/> that has a name in case files, messages and patches.</summary>
/// <remarks>The first sixteen are the general registers in encoding order, so <c>(int)register</c> indexes <see cref="GprFile"/>.</remarks>
public enum Register
{
#pragma warning disable CS1591 // Each member is the register of that name.
    Rax, Rcx, Rdx, Rbx, Rsp, Rbp, Rsi, Rdi, R8, R9, R10, R11, R12, R13, R14, R15,
    Rip, Rflags, Cs, Ss, Ds, Es, Fs, Gs, FsBase, GsBase, Pkru, Dr0, Dr1, Dr2, Dr3, Dr7,
#pragma warning restore CS1591
}

/// <summary>The debug registers that a case may arm. Addresses are linear; DR7 has its architectural layout.</summary>
/// <param name="Dr0">Address of breakpoint 0.</param>
/// <param name="Dr1">Address of breakpoint 1.</param>
/// <param name="Dr2">Address of breakpoint 2.</param>
/// <param name="Dr3">Address of breakpoint 3.</param>
/// <param name="Dr7">Enables, lengths and kinds.</param>
public sealed record DebugRegisters(ulong Dr0, ulong Dr1, ulong Dr2, ulong Dr3, ulong Dr7);

/// <summary>The registers of a virtual CPU at one moment: before a case, or as interrupted by an event.</summary>
/// <remarks>
/// Immutable and shared freely between outcomes and threads. RFLAGS keeps bit 1 set. Which RFLAGS bits and selectors a case may start with is checked by
/// <see cref="TestCase.Check"/>.
/// </remarks>
public sealed record RegisterState
{
    /// <summary>General registers in encoding order.</summary>
    public required GprFile Gpr { get; init; }

    /// <summary>Instruction pointer.</summary>
    public required ulong Rip { get; init; }

    /// <summary>Flags register, bit 1 always set.</summary>
    public required ulong Rflags { get; init; }

    /// <summary>Code segment selector: <see cref="Selectors.UserCode64"/> or <see cref="Selectors.UserCode32"/> at the start of a case.</summary>
    public ushort Cs { get; init; } = Selectors.UserCode64;

    /// <summary>Stack segment selector.</summary>
    public ushort Ss { get; init; } = Selectors.UserData;

    /// <summary>DS selector.</summary>
    public ushort Ds { get; init; }

    /// <summary>ES selector.</summary>
    public ushort Es { get; init; }

    /// <summary>FS selector.</summary>
    public ushort Fs { get; init; }

    /// <summary>GS selector.</summary>
    public ushort Gs { get; init; }

    /// <summary>FS base, a canonical linear address.</summary>
    public ulong FsBase { get; init; }

    /// <summary>GS base, a canonical linear address.</summary>
    public ulong GsBase { get; init; }

    /// <summary>Protection-key rights, or null where the CPU has none or the case does not care.</summary>
    public uint? Pkru { get; init; }

    /// <summary>Armed debug registers, or null for none. Never present in an outcome.</summary>
    public DebugRegisters? Debug { get; init; }

    /// <summary>Value of one register; 0 for one that is not present.</summary>
    public ulong this[Register register] => register switch
    {
        <= Register.R15 => Gpr[(int)register],
        Register.Rip => Rip,
        Register.Rflags => Rflags,
        Register.Cs => Cs,
        Register.Ss => Ss,
        Register.Ds => Ds,
        Register.Es => Es,
        Register.Fs => Fs,
        Register.Gs => Gs,
        Register.FsBase => FsBase,
        Register.GsBase => GsBase,
        Register.Pkru => Pkru ?? 0,
        Register.Dr0 => Debug?.Dr0 ?? 0,
        Register.Dr1 => Debug?.Dr1 ?? 0,
        Register.Dr2 => Debug?.Dr2 ?? 0,
        Register.Dr3 => Debug?.Dr3 ?? 0,
        Register.Dr7 => Debug?.Dr7 ?? 0,
        _ => throw new ArgumentOutOfRangeException(nameof(register)),
    };

    /// <summary>A copy with one register changed. Selectors keep 16 bits, PKRU 32.</summary>
    public RegisterState With(Register register, ulong value)
    {
        if (register <= Register.R15)
        {
            GprFile gpr = Gpr;
            gpr[(int)register] = value;
            return this with { Gpr = gpr };
        }

        DebugRegisters debug = Debug ?? new DebugRegisters(0, 0, 0, 0, 0);
        return register switch
        {
            Register.Rip => this with { Rip = value },
            Register.Rflags => this with { Rflags = value },
            Register.Cs => this with { Cs = (ushort)value },
            Register.Ss => this with { Ss = (ushort)value },
            Register.Ds => this with { Ds = (ushort)value },
            Register.Es => this with { Es = (ushort)value },
            Register.Fs => this with { Fs = (ushort)value },
            Register.Gs => this with { Gs = (ushort)value },
            Register.FsBase => this with { FsBase = value },
            Register.GsBase => this with { GsBase = value },
            Register.Pkru => this with { Pkru = (uint)value },
            Register.Dr0 => this with { Debug = debug with { Dr0 = value } },
            Register.Dr1 => this with { Debug = debug with { Dr1 = value } },
            Register.Dr2 => this with { Debug = debug with { Dr2 = value } },
            Register.Dr3 => this with { Debug = debug with { Dr3 = value } },
            Register.Dr7 => this with { Debug = debug with { Dr7 = value } },
            _ => throw new ArgumentOutOfRangeException(nameof(register)),
        };
    }

    /// <summary>Registers whose values differ between two states, in <see cref="Register"/> order.</summary>
    public static ImmutableArray<Register> Differences(RegisterState left, RegisterState right)
    {
        ImmutableArray<Register>.Builder differing = ImmutableArray.CreateBuilder<Register>();
        for (Register register = Register.Rax; register <= Register.Dr7; register++)
        {
            if (left[register] != right[register])
            {
                differing.Add(register);
            }
        }

        return differing.ToImmutable();
    }
}

/// <summary>The selectors of the one segment layout that every target offers to a payload (Linux, KVM guest, PVM).</summary>
public static class Selectors
{
    /// <summary>32-bit code at CPL3: compatibility mode.</summary>
    public const ushort UserCode32 = 0x23;

    /// <summary>Flat writable data at DPL 3.</summary>
    public const ushort UserData = 0x2b;

    /// <summary>64-bit code at CPL3.</summary>
    public const ushort UserCode64 = 0x33;
}

/// <summary>Bits of RFLAGS (SDM vol.1 3.4.3).</summary>
public static class RflagsBits
{
    /// <summary>Carry.</summary>
    public const ulong CF = 1UL << 0;

    /// <summary>Always set.</summary>
    public const ulong Fixed1 = 1UL << 1;

    /// <summary>Parity of the low byte.</summary>
    public const ulong PF = 1UL << 2;

    /// <summary>Carry out of bit 3.</summary>
    public const ulong AF = 1UL << 4;

    /// <summary>Zero.</summary>
    public const ulong ZF = 1UL << 6;

    /// <summary>Sign.</summary>
    public const ulong SF = 1UL << 7;

    /// <summary>Single step.</summary>
    public const ulong TF = 1UL << 8;

    /// <summary>Interrupts are enabled; always set in user code.</summary>
    public const ulong IF = 1UL << 9;

    /// <summary>Strings go downwards.</summary>
    public const ulong DF = 1UL << 10;

    /// <summary>Signed overflow.</summary>
    public const ulong OF = 1UL << 11;

    /// <summary>I/O privilege level, two bits; 0 in user code.</summary>
    public const ulong IOPL = 3UL << 12;

    /// <summary>Nested task.</summary>
    public const ulong NT = 1UL << 14;

    /// <summary>Resume: the next instruction meets no instruction breakpoint.</summary>
    public const ulong RF = 1UL << 16;

    /// <summary>Virtual-8086 mode.</summary>
    public const ulong VM = 1UL << 17;

    /// <summary>Alignment checks.</summary>
    public const ulong AC = 1UL << 18;

    /// <summary>Virtual interrupt flag.</summary>
    public const ulong VIF = 1UL << 19;

    /// <summary>Virtual interrupt pending.</summary>
    public const ulong VIP = 1UL << 20;

    /// <summary>CPUID can be used.</summary>
    public const ulong ID = 1UL << 21;

    /// <summary>CF, PF, AF, ZF, SF and OF.</summary>
    public const ulong Status = CF | PF | AF | ZF | SF | OF;

    /// <summary>What a user payload may start with besides <see cref="Fixed1"/> and <see cref="IF"/>: IRETQ at CPL3 loads exactly these.</summary>
    public const ulong UserLoadable = Status | TF | DF | NT | RF | AC | ID;
}
