using Iced.Intel;
using PvDiffFuzz.Core;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Places of the supervisor. Where one leaves the guest, the number is that of the port.</summary>
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

    /// <summary>A batch is done, or a case that runs alone.</summary>
    Done = 0x96,

    /// <summary>Right before a return behind which something is to be pending.</summary>
    Inject = 0x97,
}

/// <summary>What leads to the agent and out of the guest. An OUT is no instruction of CPL3, so the host's KVM carries it out, and leaves with all registers as they were.</summary>
internal static class AgentCode
{
    /// <summary>Bytes of <see cref="Leave"/>.</summary>
    public const int LeaveLength = 2;

    /// <summary>Bytes of <see cref="Jump"/>.</summary>
    public const int JumpLength = 14;

    /// <summary>Offset in the page of the target's own instructions: a SYSCALL, and the way out behind it.</summary>
    public const int Call = 0;

    /// <summary>Offset there: a SYSCALL for a return to user mode, which warms up the roots.</summary>
    public const int WarmReturn = 0x40;

    /// <summary>Offset there: the event entry while no case runs, with ways out at the offsets of all deliveries.</summary>
    public const int WarmEntry = 0x80;

    /// <summary>The way out.</summary>
    public static byte[] Leave(AgentPort port) => Assemble(a => a.@out((byte)port, al));

    /// <summary>A jump whose address lies behind it, so that it fits wherever an entry is, and changes nothing.</summary>
    /// <param name="port">What the entry is.</param>
    public static byte[] Jump(AgentPort port) => [0xff, 0x25, 0, 0, 0, 0, .. BitConverter.GetBytes(GuestMap.BatchLinear(LandingOf(port)))];

    /// <summary>Guest-physical address of an entry's landing in the agent.</summary>
    public static int LandingOf(AgentPort port) => GuestMap.Landings + (((int)port & 7) * GuestMap.LandingSize);

    /// <summary>The page of the target's own instructions.</summary>
    public static byte[] Page()
    {
        byte[] page = new byte[PageLayout.PageSize];
        Assemble(a =>
        {
            a.syscall();
            a.@out((byte)AgentPort.Called, al);
        }).CopyTo(page, Call);
        Assemble(a => a.syscall()).CopyTo(page, WarmReturn);
        Leave(AgentPort.UserEntry).CopyTo(page, WarmEntry);
        Leave(AgentPort.SupervisorEntry).CopyTo(page, WarmEntry + 256);
        Leave(AgentPort.HighEntry).CopyTo(page, WarmEntry + 512);
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
