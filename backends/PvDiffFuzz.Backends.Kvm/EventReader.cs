using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>Reads events, whether the agent wrote them or <see cref="SingleRun"/>.</summary>
internal readonly unsafe struct EventReader : IEventReader
{
    /// <inheritdoc/>
    public static ContextLayout Layout => Context.Layout;

    /// <inheritdoc/>
    public static string TimeLimit { get; } = $"{RunTimer.LongestRun / 1_000_000} ms of processor time";

    /// <inheritdoc/>
    public static Event? Read(byte* context, RegisterState registers, out Outcome? trouble)
    {
        // SAFETY: a whole context is here.
        trouble = null;
        uint word = *(uint*)(context + Context.Vector);
        ulong below = *(ulong*)(context + Context.Below);
        ulong extra = *(ulong*)(context + Context.Extra);
        if ((*(ulong*)(context + Context.Cs) | *(ulong*)(context + Context.Ss)) > ushort.MaxValue)
        {
            trouble = Outcome.HarnessError($"the frame of vector {word & 0xff} has a selector of more than 16 bits");
            return null;
        }

        if ((word & 0xffff) == GuestMap.SyscallVector)
        {
            // Where SYSCALL does not raise the privilege, the payload just goes on at the entry, and that is what the guest sees.
            bool entered = (below & 3) == 0;
            return new Event(EventKind.SystemCall, 0, null, null, EntryPoint.Lstar, entered ? registers : registers with { Rip = GuestMap.Landing });
        }

        byte vector = (byte)word;
        bool pushed = (word & SingleRun.FrameSizeKnown) != 0 ? (word & SingleRun.ErrorCodePushed) != 0 : ErrorCodes.Has(vector);
        return new Event(Event.KindOf(vector), vector, pushed ? (uint)below : null, vector == 14 ? extra : null, EntryPoint.Idt, registers);
    }

    /// <inheritdoc/>
    public static string DescribeRefusal(byte* context) => $"vector {*(int*)(context + Context.Vector)}"; // SAFETY: as in Read.
}
