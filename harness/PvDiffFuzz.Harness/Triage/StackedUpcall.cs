using System.Buffers.Binary;
using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Shows the delivery that lies below an upcall as an event of its own.</summary>
/// <remarks>
/// Xen delivers a pending upcall before the first instruction of a handler that does not mask it (Xen facts, Event upcall). What came to that handler is then a frame in memory and nothing else. What is
/// known of that delivery is known whether an upcall follows it or not, so entries are held against both views.
/// </remarks>
internal static class StackedUpcall
{
    private const int FrameLength = 56;

    /// <summary>Unfolds the last events of a divergence.</summary>
    /// <param name="divergence">A divergence of any ABI.</param>
    /// <param name="analyst">Says what is undefined, and what ran.</param>
    /// <returns>The divergence with one event more on each side that ends with a stacked upcall; null when none does, or when nothing differs then.</returns>
    public static Divergence? Unfold(Divergence divergence, CaseAnalyst analyst)
    {
        TestCase testCase = divergence.Case;
        if (testCase.Abi is not (Abi.XenPv64 or Abi.XenPv64Fred) || !divergence.Outcomes.Any(o => Below(testCase, o) is not null))
        {
            return null;
        }

        ImmutableArray<Outcome> unfolded = [.. divergence.Outcomes.Select(o => Below(testCase, o) is Event below ? o with { Events = o.Events.Insert(o.Events.Length - 1, below) } : o)];
        Comparison comparison = new Comparer(divergence.Targets, analyst).Compare(testCase, unfolded.AsSpan());
        return comparison.Result != ComparisonResult.Divergence || comparison.Consumed
            ? null
            : new Divergence(testCase, unfolded, comparison, divergence.Targets, InstructionAt.Find(testCase, unfolded.AsSpan(), comparison.FirstEvent, analyst));
    }

    /// <summary>The delivery below the upcall with which an outcome ends; null when it does not end so, or when more than one handler lies at the interrupted address.</summary>
    private static Event? Below(TestCase testCase, Outcome outcome)
    {
        if (!outcome.Comparable || outcome.End is EndKind.Crash or EndKind.HypervisorCrash || outcome.Events.IsEmpty || !Interrupted.IsStacked(testCase, outcome.Events[^1]))
        {
            return null;
        }

        Event upcall = outcome.Events[^1];
        ulong rip = Interrupted.Value(testCase.Abi, upcall, Register.Rip);
        ulong rsp = Interrupted.Value(testCase.Abi, upcall, Register.Rsp);
        return Handler(testCase.Xen!, rip) is (EventKind kind, EntryPoint entry, byte vector) ? Delivery(testCase, outcome, upcall, rip, rsp, kind, entry, vector) : null;
    }

    private static Event Delivery(TestCase testCase, Outcome outcome, Event upcall, ulong rip, ulong rsp, EventKind kind, EntryPoint entry, byte vector)
    {
        // Xen aligns the stack before it pushes, so RSP tells whether there is an error code.
        bool error = (rsp & 8) == 0;
        byte[] frame = new byte[error ? FrameLength + sizeof(ulong) : FrameLength];
        for (int at = 0; at < frame.Length; at += sizeof(ulong))
        {
            BinaryPrimitives.WriteUInt64LittleEndian(frame.AsSpan(at), WordAt(testCase, outcome, rsp + (ulong)at));
        }

        const int errorPlace = 16;
        const byte pageFault = 14;
        uint? code = error ? BinaryPrimitives.ReadUInt32LittleEndian(frame.AsSpan(errorPlace)) : null;
        ulong? cr2 = entry == EntryPoint.XenTrap && vector == pageFault && outcome.System.TryGet(SystemRegister.Cr2, out ulong address) ? address : null;
        GprFile gpr = upcall.Registers.Gpr;
        gpr[(int)Register.Rsp] = rsp;
        gpr[(int)Register.Rcx] = Interrupted.Value(testCase.Abi, upcall, Register.Rcx);
        gpr[(int)Register.R11] = Interrupted.Value(testCase.Abi, upcall, Register.R11);
        RegisterState registers = upcall.Registers with { Gpr = gpr, Rip = rip, Rflags = Interrupted.Value(testCase.Abi, upcall, Register.Rflags) };
        return new Event(kind, vector, code, cr2, entry, registers) { Frame = [.. frame] };
    }

    private static ulong WordAt(TestCase testCase, Outcome outcome, ulong address)
    {
        foreach (MemoryWord word in outcome.Memory)
        {
            if (word.Address == address)
            {
                return word.Value;
            }
        }

        return testCase.InitialWord(address);
    }

    private static (EventKind Kind, EntryPoint Entry, byte Vector)? Handler(XenState xen, ulong address)
    {
        List<(EventKind, EntryPoint, byte)> found = [];
        for (int vector = 0; vector < 256; vector++)
        {
            if (xen.Traps[(byte)vector].Address == address)
            {
                found.Add((Event.KindOf((byte)vector), EntryPoint.XenTrap, (byte)vector));
            }
        }

        foreach (XenCallback callback in xen.Callbacks.Where(callback => callback.Address == address))
        {
            found.Add(callback.Kind switch
            {
                XenCallbackKind.Event => (EventKind.Upcall, EntryPoint.XenEvent, 0),
                XenCallbackKind.Failsafe => (EventKind.Fault, EntryPoint.XenFailsafe, 0),
                XenCallbackKind.Syscall => (EventKind.SystemCall, EntryPoint.XenSyscall, 0),
                XenCallbackKind.Syscall32 => (EventKind.SystemCall, EntryPoint.XenSyscall32, 0),
                XenCallbackKind.Sysenter => (EventKind.SystemCall, EntryPoint.XenSysenter, 0),
                _ => (EventKind.Interrupt, EntryPoint.XenNmi, 2),
            });
        }

        return found is [(EventKind, EntryPoint, byte) only] ? only : null;
    }
}
