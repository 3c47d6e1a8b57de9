using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>What an event says of the context that it interrupted. For an IDT that is in its registers, for a paravirtual ABI in its frame.</summary>
internal static class Interrupted
{
    /// <summary>The interrupted value of a register.</summary>
    /// <param name="abi">The ABI of the case.</param>
    /// <param name="e">An event.</param>
    /// <param name="register">A register.</param>
    /// <returns>What the frame saved; the value at entry for a register that the frame does not save, and for events without a frame.</returns>
    public static ulong Value(Abi abi, Event e, Register register)
    {
        foreach (FrameField field in Layout(abi, e))
        {
            if (field.Saves == register)
            {
                return FrameLayout.Read(e.Frame, field);
            }
        }

        return e.Registers[register];
    }

    /// <summary>True when 32-bit code was interrupted.</summary>
    public static bool InCompatibilityMode(Abi abi, Event e)
    {
        foreach (FrameField field in Layout(abi, e))
        {
            if (field.Name is "cs" or "user-cs")
            {
                return IsCompatible(abi, FrameLayout.Read(e.Frame, field));
            }
        }

        return IsCompatible(abi, e.Registers.Cs);
    }

    private static bool IsCompatible(Abi abi, ulong cs) => abi == Abi.XenPv32 || (abi.IsXen() ? (cs | 3) == XenMap.FlatCode32 : cs == Selectors.UserCode32);

    /// <summary>True for a register whose value at entry the delivery gives, so that nothing before it can have left it undefined.</summary>
    /// <remarks>PVM loads RCX, R11 and RFLAGS at every entry and for every hypercall (PVM rfc1, Vector events in user mode and the sections after it). Xen's ways in differ, so nothing is claimed for them.</remarks>
    public static bool IsReplaced(Abi abi, Register register) => abi.IsPvm() && register is Register.Rcx or Register.R11 or Register.Rflags;

    /// <summary>True for an event at which R11 shows RFLAGS as the handler has them, so that what is undefined there is undefined in R11: a 64-bit Xen guest's handlers are entered by SYSRET (Xen facts, RCX and R11).</summary>
    public static bool ShowsFlagsInR11(Abi abi, Event e) =>
        abi is Abi.XenPv64 or Abi.XenPv64Fred && FrameLayout.OnStack(e.Entry) && ((e.Registers[Register.R11] ^ e.Registers.Rflags) & RflagsBits.Status) == 0;

    /// <summary>True for a case with a return that loads R11 with RFLAGS, what is undefined there included (Xen facts, VGCF_in_syscall).</summary>
    public static bool LoadsFlagsIntoR11(TestCase testCase) =>
        testCase.Abi is Abi.XenPv64 or Abi.XenPv64Fred
        && (((testCase.Xen!.IretFlags ?? 0) & TestCase.XenIretInSyscall) != 0 || testCase.Responses.Any(response => (response.Flags & TestCase.XenIretInSyscall) != 0));

    /// <summary>True when frames of the case's events lie where its code may find them: on the stack of supervisor code, or where a Xen guest's kernel has its stack in a page of user mode.</summary>
    public static bool StoresFramesInReach(TestCase testCase) =>
        testCase.Start == GuestMode.Supervisor
        || (testCase.System.TryGet(SystemRegister.XenKernelSp, out ulong stack) && (testCase.UserPages.AccessAt(stack - sizeof(ulong)) & PageAccess.Read) != 0);

    /// <summary>True for an upcall that came before the first instruction of a handler, so that it says nothing of the instruction before it.</summary>
    public static bool IsStacked(TestCase testCase, Event e) =>
        e.Entry == EntryPoint.XenEvent && testCase.Xen is XenState xen && Value(testCase.Abi, e, Register.Rip) is ulong rip
        && (xen.Callbacks.Any(callback => callback.Address == rip) || Enumerable.Range(0, 256).Any(vector => xen.Traps[(byte)vector].Address == rip));

    /// <summary>True when an event's frame lies in pages of the case, from RSP at entry upwards; PVM's structure does not.</summary>
    public static bool IsOnStack(Abi abi, Event e) => FrameLayout.OnStack(e.Entry) && !IsPvcs(abi, e);

    /// <summary>True when an event's frame lies in memory that code of the case may read: on a stack, or in PVM's structure, whose page a case may have.</summary>
    public static bool IsInMemory(Abi abi, Event e) => FrameLayout.OnStack(e.Entry) || IsPvcs(abi, e);

    /// <summary>True when an event's frame is PVM's per-VCPU structure.</summary>
    public static bool IsPvcs(Abi abi, Event e) => abi.IsPvm() && e.Entry != EntryPoint.Idt && e.Frame.Length == PvcsLayout.Size;

    /// <summary>The named fields of an event's frame; none for an IDT's, whose words are the event's registers.</summary>
    public static ReadOnlySpan<FrameField> Layout(Abi abi, Event e) => e.Entry == EntryPoint.Idt ? [] : FrameLayout.Of(abi, e.Entry, e.Frame.Length);
}
