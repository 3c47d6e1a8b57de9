using Iced.Intel;
using PvDiffFuzz.Core;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Ports by which the agent leaves the guest. Each tells where the supervisor is.</summary>
internal enum AgentPort : ushort
{
    /// <summary>A delivery at MSR_PVM_EVENT_ENTRY: a vector event of user mode.</summary>
    UserEntry = 0x90,

    /// <summary>256 bytes later: vectors below 32 of supervisor mode, in the first revision.</summary>
    SupervisorEntry = 0x91,

    /// <summary>512 bytes later: vectors from 32 of supervisor mode, or all of them.</summary>
    HighEntry = 0x92,

    /// <summary>LSTAR: SYSCALL of user mode.</summary>
    Lstar = 0x93,

    /// <summary>The end of supervisor code.</summary>
    End = 0x94,

    /// <summary>Behind a hypercall that a response makes.</summary>
    Called = 0x95,

    /// <summary>A batch is done.</summary>
    Batch = 0x96,
}

/// <summary>The agent's machine code. Its OUT is no instruction of CPL3, so the host's KVM carries it out, and leaves with all registers as they were.</summary>
internal static class AgentCode
{
    /// <summary>Bytes of <see cref="Pad"/>.</summary>
    public const int PadLength = 2;

    /// <summary>Offset in the agent's page: a SYSCALL, and the way out behind it.</summary>
    public const int Call = 0;

    /// <summary>Offset in the agent's page: a SYSCALL for the agent's own return to user mode, which warms up the roots.</summary>
    public const int WarmReturn = 0x40;

    /// <summary>Offset in the agent's page: IRETQ.</summary>
    public const int InterruptReturn = 0x80;

    /// <summary>The way out.</summary>
    public static byte[] Pad(AgentPort port) => Assemble(a => a.@out((byte)port, al));

    /// <summary>The agent's page.</summary>
    public static byte[] Page()
    {
        byte[] page = new byte[PageLayout.PageSize];
        Assemble(a =>
        {
            a.syscall();
            a.@out((byte)AgentPort.Called, al);
        }).CopyTo(page, Call);
        Assemble(a => a.syscall()).CopyTo(page, WarmReturn);
        Assemble(a => a.iretq()).CopyTo(page, InterruptReturn);
        return page;
    }

    private static byte[] Assemble(Action<Assembler> emit)
    {
        Assembler assembler = new(64);
        emit(assembler);
        using MemoryStream stream = new();
        assembler.Assemble(new StreamCodeWriter(stream), GuestMap.AgentAddress);
        return stream.ToArray();
    }
}
