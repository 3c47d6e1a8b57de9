using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Core;
using Tmds.Linux;

namespace PvDiffFuzz.Backends.Native;

/// <summary>Reads events as the agent's signal handler recorded them.</summary>
internal readonly unsafe struct EventReader : IEventReader
{
    /// <inheritdoc/>
    public static ContextLayout Layout => Context.Layout;

    /// <inheritdoc/>
    public static string TimeLimit => "5 ms of processor time";

    /// <inheritdoc/>
    public static Event? Read(byte* context, RegisterState registers, out Outcome? trouble)
    {
        trouble = null;

        // SAFETY: a whole context is here.
        int signal = *(int*)(context + Context.Signal);
        if (signal == LibC.SIGSYS)
        {
            // Trap number and error code of such a frame are left over from an earlier event.
            uint architecture = *(uint*)(context + Context.Architecture);
            return architecture == LinuxAbi.AUDIT_ARCH_X86_64
                ? new Event(EventKind.SystemCall, 0, null, null, EntryPoint.Lstar, registers)
                : new Event(EventKind.Trap, 0x80, null, null, EntryPoint.Idt, registers);
        }

        ulong trap = *(ulong*)(context + Context.Trap);
        if (trap > 31)
        {
            trouble = Outcome.Unsupported($"signal {signal} with trap number {trap} is no exception");
            return null;
        }

        byte vector = (byte)trap;
        uint? errorCode = ErrorCodes.Has(vector) ? *(uint*)(context + Context.Error) : null;
        ulong? cr2 = vector == 14 ? *(ulong*)(context + Context.Cr2) : null;
        return new Event(Event.KindOf(vector), vector, errorCode, cr2, EntryPoint.Idt, registers);
    }

    /// <inheritdoc/>
    public static string DescribeRefusal(byte* context) =>
        $"vector {*(ulong*)(context + Context.Trap)}, error code {*(uint*)(context + Context.Error):x}"; // SAFETY: as in Read.
}
