using System.Diagnostics;
using PvDiffFuzz.Core;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Backends.Xen.Tests;

/// <summary>A real Xen under QEMU: what Xen's documents say of a few cases, and what the target does when something goes wrong.</summary>
public sealed class LiveTests(LiveTests.Machine machine) : IClassFixture<LiveTests.Machine>
{
    private const ulong HighEnd = AddressMap.HighBlock + XenMap.CodeEnd;
    private const ulong HighKernelStack = AddressMap.HighBlock + XenMap.Stack + 0x1000;

    private XenTarget Xen => machine.Target;

    /// <summary>INT3 in the kernel: seven words, the mask in the CS word, IF its inverse, RCX the handler and R11 the flags.</summary>
    [XenFact]
    public void AFrameOfTheKernelIsAsTheDocumentSays()
    {
        Outcome outcome = Xen.Run(XenPayloads.Case("cc", GuestMode.Supervisor));

        Event e = Assert.Single(outcome.Events);
        Assert.Equal((EventKind.Trap, (byte)3, EntryPoint.XenTrap), (e.Kind, e.Vector, e.Entry));
        Assert.Equal([0x1111_1111_1111_1111UL, 0xbbbb_bbbb_bbbb_bbbb, HighEnd, 0x1_0000_e030, 0x2, HighKernelStack, 0xe02b], Words(e));
        Assert.Equal(XenMap.Handlers + 0x30, e.Registers.Gpr[(int)Register.Rcx]);
        Assert.Equal(HighKernelStack - 56, e.Registers.Gpr[(int)Register.Rsp]);
        Assert.Equal(7, outcome.Memory.Length);
    }

    /// <summary>A page fault of user code at its end: eight words on the registered stack, user selectors, the address beside.</summary>
    [XenFact]
    public void UserCodeEndsWithTheFetchFault()
    {
        Outcome outcome = Xen.Run(XenPayloads.Case("90", GuestMode.User));

        Event e = Assert.Single(outcome.Events);
        Assert.Equal(EndKind.ReachedEnd, outcome.End);
        Assert.Equal((0x14u, AddressMap.HighBlock + AddressMap.CodeEnd), (e.ErrorCode!.Value, e.Cr2!.Value));
        Assert.Equal([0x14UL, AddressMap.HighBlock + AddressMap.CodeEnd, 0xe033], Words(e)[2..5]);
        Assert.Equal(XenPayloads.KernelStack - 64, e.Registers.Gpr[(int)Register.Rsp]);
    }

    /// <summary>Kernel code runs into the stub behind it: no event, and registers as they are.</summary>
    [XenFact]
    public void KernelCodeEndsAtTheStub()
    {
        Outcome outcome = Xen.Run(XenPayloads.Case("48 ff c0", GuestMode.Supervisor));

        Assert.Equal((EndKind.ReachedEnd, 0), (outcome.End, outcome.Events.Length));
        Assert.Equal((1UL, HighEnd), (outcome.Registers!.Gpr[0], outcome.Registers.Rip));
        Assert.Empty(outcome.Memory);
    }

    /// <summary>A store to the entry to which INT3 comes faults, so that the entry serves the next case, too.</summary>
    [XenFact]
    public void EntriesCannotBeOverwritten()
    {
        TestCase stores = XenPayloads.Case("cc 48 89 01", GuestMode.Supervisor);
        Outcome[] outcomes = new Outcome[2];

        Xen.Run([stores with { Responses = [new Response([new(Register.Rcx, XenMap.Handlers + 0x30)]) { Return = ReturnKind.XenIret }] }, XenPayloads.Case("cc", GuestMode.Supervisor)], outcomes);

        Assert.Equal([3, 14], outcomes[0].Events.Select(e => (int)e.Vector));
        Assert.Equal((XenMap.Handlers + 0x30, 3u), (outcomes[0].Events[1].Cr2!.Value, outcomes[0].Events[1].ErrorCode!.Value & 3));
        Assert.Equal((EndKind.Event, 3), (outcomes[1].End, (int)Assert.Single(outcomes[1].Events).Vector));
    }

    /// <summary>A hole of the trap table: #GP with the vector, for the kernel as for user code; with a handler the same case is a trap.</summary>
    [XenFact]
    public void AHoleIsOneForItsCaseOnly()
    {
        TestCase allowed = XenPayloads.Case("cd 41", GuestMode.Supervisor).WithTraps(t => t.With(t[0x41] with { Flags = 3 }));
        TestCase hole = XenPayloads.Case("cd 41", GuestMode.Supervisor).WithTraps(t => t.Without(0x41));
        allowed = Low(allowed);
        Outcome[] outcomes = new Outcome[3];

        Xen.Run([allowed, hole, allowed], outcomes);

        Assert.Equal([0x41, 13, 0x41], outcomes.Select(o => (int)o.Events[0].Vector));
        Assert.Equal(0x20au, outcomes[1].Events[0].ErrorCode);
    }

    /// <summary>UD2 is answered, INT3 has no handler: the domain dies with one event, and the next case knows nothing of it.</summary>
    [XenFact]
    public void ACrashShowsTheEventsBeforeItAndHurtsNobody()
    {
        TestCase crash = XenPayloads.Case("0f 0b 90 cc 90 90", GuestMode.User).WithTraps(t => t.Without(3));
        crash = crash with { Responses = [new Response([new(Register.Rip, crash.Code.Address + 2)]) { Return = ReturnKind.XenIret }] };
        TestCase next = XenPayloads.Case("cc", GuestMode.User);
        Outcome alone = Xen.Run(next);
        int restored = Xen.Restored;
        Outcome[] outcomes = new Outcome[3];

        Xen.Run([next, crash, next], outcomes);

        Assert.Equal(EndKind.Crash, outcomes[1].End);
        Assert.Equal(6, Assert.Single(outcomes[1].Events).Vector);
        Assert.Equal((alone, alone), (outcomes[0], outcomes[2]));
        Assert.Equal(restored + 1, Xen.Restored);
    }

    /// <summary>The kernel ends with an event pending that is not masked. The agent reads CR4, which Xen emulates: the upcall is no event of the case, and does not reach the agent.</summary>
    [XenFact]
    public void WhatIsPendingAtTheEndDoesNotReachTheAgent()
    {
        TestCase testCase = XenPayloads.Case("90", GuestMode.Supervisor).With(SystemRegister.XenUpcallMask, 0).With(SystemRegister.XenUpcallPending, 1).With(SystemRegister.Cr4, 0x660);
        const uint getDebugRegister = 9;
        testCase = testCase with { Responses = [new Response([]) { Return = ReturnKind.XenIret, Hypercalls = [new Hypercall(getDebugRegister, [3])] }] };
        TestCase next = XenPayloads.Case("cc", GuestMode.User);
        Outcome alone = Xen.Run(next);
        Outcome[] outcomes = new Outcome[2];

        Xen.Run([testCase, next], outcomes);

        Assert.Equal((EndKind.ReachedEnd, 0), (outcomes[0].End, outcomes[0].Events.Length));
        Assert.Equal(1UL, outcomes[0].System[SystemRegister.XenUpcallPending]);
        Assert.Equal(alone, outcomes[1]);
    }

    /// <summary>An upcall on the delivery of #UD: its answer begins the handler of #UD with RCX as before. The return of that handler, by the way that keeps RCX, counts as made at the handler all the same.</summary>
    [XenFact]
    public void AReturnCountsAsMadeAtTheEntryWhateverRcxHolds()
    {
        const ulong handler = XenMap.Handlers + 0x60;
        TestCase testCase = XenPayloads.Case("0f 0b", GuestMode.Supervisor).With(SystemRegister.XenUpcallMask, 0).With(SystemRegister.XenUpcallPending, 1);
        const ulong inSyscall = 0x100;
        testCase = testCase with
        {
            Responses =
            [
                new Response([new(Register.Rflags, RflagsBits.Fixed1)]) { Return = ReturnKind.XenIret },
                new Response([]) { Return = ReturnKind.XenIret, Flags = inSyscall },
            ],
        };

        Outcome outcome = Xen.Run(testCase);

        Assert.Equal([EntryPoint.XenEvent, EntryPoint.XenTrap, EntryPoint.XenEvent], outcome.Events.Select(e => e.Entry));
        Assert.Equal(0x1111_1111_1111_1111UL, outcome.Events[1].Registers.Gpr[(int)Register.Rcx]);
        Assert.Equal(handler, Words(outcome.Events[2])[0]);
    }

    /// <summary>
    /// PUSH 1; PUSH 0; MOV RSI, RSP; HYPERVISOR_callback_op makes address 1 the callback of upcalls; UD2 is answered as a system call, which leaves RCX. The upcall that was pending goes to 1, where there
    /// is no page. Its frame lies where that of the UD2 lay, and has RCX of the return.
    /// </summary>
    [XenFact]
    public void AFrameThatNobodyTookHasRcxOfTheReturnBeforeIt()
    {
        const ulong inSyscall = 0x100;
        TestCase testCase = XenPayloads.Case("6a 01 6a 00 48 89 e6 31 ff b8 1e 00 00 00 0f 05 0f 0b", GuestMode.Supervisor).With(SystemRegister.XenUpcallPending, 1);
        testCase = testCase with
        {
            Responses = [new Response([new(Register.Rflags, RflagsBits.Fixed1 | RflagsBits.IF)]) { Return = ReturnKind.XenIret, Flags = inSyscall }],
        };

        Outcome outcome = Xen.Run(testCase);

        Assert.Equal([6, 14], outcome.Events.Select(e => (int)e.Vector));
        RegisterState handler = outcome.Events[0].Registers;
        Assert.Equal(handler.Rip, Assert.Single(outcome.Memory, w => w.Address == handler.Gpr[(int)Register.Rsp]).Value);
    }

    /// <summary>UD2 of the kernel is answered by a way to user mode, where the last byte of the address space cannot be fetched: that is an event like others, and answered.</summary>
    [XenFact]
    public void AKernelsCodeHasNoEndInUserMode()
    {
        Response user = new([new(Register.Rip, ulong.MaxValue), new(Register.Cs, XenMap.FlatCode64)]) { Return = ReturnKind.XenIret };
        TestCase testCase = XenPayloads.Case("0f 0b", GuestMode.Supervisor) with { Responses = [user, new Response([]) { Return = ReturnKind.XenIret }] };

        Outcome outcome = Xen.Run(testCase);

        Assert.Equal([6, 14, 14], outcome.Events.Select(e => (int)e.Vector));
    }

    /// <summary>MOV EAX, flat data; MOV to segment register 6: the emulator loads LDTR, so that nothing that comes behind is as Xen has it until the snapshot is loaded. One to register 7, which is TR there, is not run.</summary>
    [XenFact]
    public void ACaseThatLoadsTablesHurtsNobody()
    {
        TestCase next = XenPayloads.Case("cc", GuestMode.User);
        Outcome alone = Xen.Run(next);
        foreach ((string code, int loads) in (ReadOnlySpan<(string, int)>)[("b8 2b e0 00 00 8e f0 cc", 1), ("b8 2b e0 00 00 8e f8 cc", 0)])
        {
            int restored = Xen.Restored;
            int restarted = Xen.Restarted;
            Outcome[] outcomes = new Outcome[3];

            Xen.Run([next, XenPayloads.Case(code, GuestMode.Supervisor), next], outcomes);

            Assert.Equal((alone, alone), (outcomes[0], outcomes[2]));
            Assert.Equal(loads == 0, outcomes[1].End == EndKind.Unsupported);
            Assert.Equal((restored + loads, restarted), (Xen.Restored, Xen.Restarted));
        }
    }

    /// <summary>PUSH flags with VM, VIF and VIP; PUSH 32-bit code; PUSH the end; IRETD. The emulator loads all three, and nothing clears VIF and VIP again: PUSHF; POP RAX of the next case would show them.</summary>
    [XenFact]
    public void FlagsThatOnlyTheEmulatorLoadsHurtNobody()
    {
        TestCase next = XenPayloads.Case("9c 58 cc", GuestMode.User);
        TestCase loads = XenPayloads.Case("68 02 02 1a 00 68 23 e0 00 00 68 ff 1f 40 00 cf 90", GuestMode.User);
        ulong start = AddressMap.LowBlock + AddressMap.CodeEnd - (ulong)loads.Code.Bytes.Length;
        GprFile gpr = default;
        gpr[(int)Register.Rsp] = AddressMap.LowBlock + AddressMap.Stack + 0x1000;
        loads = loads with { Code = loads.Code with { Address = start }, Registers = loads.Registers with { Gpr = gpr, Rip = start, Cs = XenMap.FlatCode32 } };
        Outcome alone = Xen.Run(next);
        int restored = Xen.Restored;
        Outcome[] outcomes = new Outcome[3];

        Xen.Run([next, loads, next], outcomes);

        Assert.NotEqual(EndKind.Crash, outcomes[1].End);
        Assert.Equal((alone, alone), (outcomes[0], outcomes[2]));
        Assert.Equal(restored + 1, Xen.Restored);
    }

    /// <summary>Nothing is behind a port: reads are ones, whether a device of the machine is there (port 92 resets it by a write of 1), and a write leaves EAX (to port 5658 an emulator's own).</summary>
    [XenFact]
    public void NoPortIsGranted()
    {
        int restored = Xen.Restored;

        // IN AL, 92; XCHG EAX, EBX; MOV AL, 1; OUT 92, AL; MOV DX, 5658; XOR EAX, EAX; OUT DX, EAX; INT3.
        Outcome outcome = Xen.Run(XenPayloads.Case("e4 92 93 b0 01 e6 92 66 ba 58 56 31 c0 ef cc", GuestMode.Supervisor).With(SystemRegister.XenIopl, 1));

        Assert.Equal(3, (int)Assert.Single(outcome.Events).Vector);
        Assert.Equal((0UL, 0xffUL), (outcome.Registers!.Gpr[(int)Register.Rax], outcome.Registers.Gpr[(int)Register.Rbx] & 0xff));
        Assert.Equal(restored, Xen.Restored);
    }

    /// <summary>A breakpoint on any access lies where Xen stores the frame of UD2 and the agent reads it. It stays for what the payload does behind the answer: MOV of that word to RAX, then INT3.</summary>
    [XenFact]
    public void TheAgentMeetsNoBreakpoint()
    {
        TestCase testCase = XenPayloads.Case("0f 0b 48 8b 44 24 d8 cc", GuestMode.Supervisor);
        ulong word = testCase.Registers[Register.Rsp] - 0x28;
        testCase = testCase with
        {
            Registers = testCase.Registers with { Debug = new DebugRegisters(word, 0, 0, 0, 0xf_0003) },
            Responses = [new Response([new(Register.Rip, testCase.Code.Address + 2)]) { Return = ReturnKind.XenIret }, new Response([]) { Return = ReturnKind.XenIret }],
        };
        Outcome[] outcomes = new Outcome[2];

        Xen.Run([testCase, testCase], outcomes);

        Assert.Equal([6, 1, 3], outcomes[0].Events.Select(e => (int)e.Vector));
        Assert.Equal(outcomes[0], outcomes[1]);
    }

    /// <summary>A kernel goes to 32-bit code by IRETQ and executes SYSCALL there: whether its callback is registered belongs to the case, and the cases before it have another one.</summary>
    [XenFact]
    public void CallbacksOfAKernelsOtherCodeAreItsOwn()
    {
        string stack = Hex(AddressMap.LowBlock + XenMap.Stack + 0x1000);
        string target = Hex(AddressMap.LowBlock + XenMap.CodeEnd - 3);
        TestCase registered = XenPayloads.Case($"68 2b e0 00 00 68 {stack} 68 02 02 00 00 68 23 e0 00 00 68 {target} 48 cf 0f 05 cc", GuestMode.Supervisor);
        ulong start = AddressMap.LowBlock + XenMap.CodeEnd - (ulong)registered.Code.Bytes.Length;
        GprFile gpr = default;
        gpr[(int)Register.Rsp] = AddressMap.LowBlock + XenMap.Stack + 0x1000;
        registered = registered with { Code = registered.Code with { Address = start }, Registers = registered.Registers with { Gpr = gpr, Rip = start } };
        TestCase without = registered with { Xen = registered.Xen! with { Callbacks = [.. registered.Xen.Callbacks.Where(c => c.Kind != XenCallbackKind.Syscall32)] } };
        Outcome[] outcomes = new Outcome[4];

        Xen.Run([registered, without, registered, without], outcomes);

        Assert.Equal([EntryPoint.XenSyscall32, EntryPoint.XenTrap, EntryPoint.XenSyscall32, EntryPoint.XenTrap], outcomes.Select(o => o.Events[0].Entry));
        Assert.Equal((6, 6), ((int)outcomes[1].Events[0].Vector, (int)outcomes[3].Events[0].Vector));
    }

    [XenFact]
    public void AnEndlessLoopIsStoppedAlone()
    {
        TestCase next = XenPayloads.Case("cc", GuestMode.Supervisor);
        Outcome alone = Xen.Run(next);
        Outcome[] outcomes = new Outcome[3];

        Xen.Run([next, XenPayloads.Case("eb fe", GuestMode.User), next], outcomes);

        Assert.Equal((alone, EndKind.BudgetSpent, alone), (outcomes[0], outcomes[1].End, outcomes[2]));
    }

    /// <summary>SCHEDOP_block with nothing pending, after a store: the guest halts, and memory shows the store.</summary>
    [XenFact]
    public void AGuestThatBlocksHalts()
    {
        const ulong at = AddressMap.HighBlock + XenMap.Data;
        TestCase testCase = XenPayloads.Case("48 89 1d 00 00 00 00 bf 01 00 00 00 b8 1d 00 00 00 0f 05", GuestMode.Supervisor);
        byte[] code = [.. testCase.Code.Bytes];
        BitConverter.GetBytes((int)(at - (testCase.Code.Address + 7))).CopyTo(code, 3);

        Outcome outcome = Xen.Run(testCase with { Code = testCase.Code with { Bytes = [.. code] } });

        Assert.Equal(EndKind.Halt, outcome.End);
        Assert.Equal(new MemoryWord(at, 0x3333_3333_3333_3333), Assert.Single(outcome.Memory));
        Assert.Equal(EndKind.ReachedEnd, Xen.Run(XenPayloads.Case("90", GuestMode.User)).End);
    }

    /// <summary>A hypercall that gives up the page of the next case's stack is undone before that case runs.</summary>
    [XenFact]
    public void ACallThatSpoilsThePageTablesIsUndone()
    {
        // update_va_mapping(the kernel's stack, 0, 0): the number is in RAX at the start, so the target does not know it beforehand.
        TestCase spoils = XenPayloads.Case("0f 05", GuestMode.Supervisor);
        GprFile gpr = spoils.Registers.Gpr;
        (gpr[(int)Register.Rax], gpr[(int)Register.Rdi], gpr[(int)Register.Rsi], gpr[(int)Register.Rdx]) = (14, XenPayloads.KernelStack - 0x1000, 0, 0);
        spoils = spoils with { Registers = spoils.Registers with { Gpr = gpr } };
        TestCase next = XenPayloads.Case("cc", GuestMode.User);
        Outcome alone = Xen.Run(next);
        Outcome[] outcomes = new Outcome[3];

        Xen.Run([next, spoils, next], outcomes);

        Assert.True(outcomes[1].Registers is not null, outcomes[1].ToString());
        Assert.Equal(0UL, outcomes[1].Registers!.Gpr[0]);
        Assert.Equal((alone, alone), (outcomes[0], outcomes[2]));
    }

    /// <summary>Hypercalls of a response are recorded, its patches are applied, and what it makes pending comes before the next instruction.</summary>
    [XenFact]
    public void AResponseCallsPatchesAndInjects()
    {
        TestCase testCase = XenPayloads.Case("0f 0b 90 90 90 90", GuestMode.User);
        testCase = testCase with
        {
            Responses =
            [
                new Response([new(Register.Rbx, 5), new(Register.Rip, testCase.Code.Address + 2)])
                {
                    Return = ReturnKind.XenIret, Hypercalls = [new Hypercall(99, [])], Inject = new Injection(InjectionKind.Upcall, 0),
                },
            ],
        };

        Outcome outcome = Xen.Run(testCase);

        Assert.Equal([EventKind.Fault, EventKind.Hypercall, EventKind.Upcall], outcome.Events.Select(e => e.Kind));
        Assert.Equal(unchecked((ulong)-38), outcome.Events[1].Registers.Gpr[0]);
        Assert.Equal(5UL, outcome.Events[2].Registers.Gpr[(int)Register.Rbx]);
        Assert.Equal(testCase.Code.Address + 2, Words(outcome.Events[2])[2]);
    }

    /// <summary>A guest with one root, with two, and with no user root at all take turns without a load of the snapshot, but for the crash that the last one is.</summary>
    [XenFact]
    public void UserRootsChangeFromCaseToCase()
    {
        TestCase two = XenPayloads.Case("cc", GuestMode.User);
        TestCase one = two with { Xen = two.Xen! with { UserLayout = null } };
        TestCase none = two with { Xen = two.Xen with { UserLayout = PageLayout.Create([]) } };
        Xen.Run(two);
        int restored = Xen.Restored;
        Outcome[] outcomes = new Outcome[4];

        Xen.Run([two, one, two, none], outcomes);

        Assert.Equal([EndKind.Event, EndKind.Event, EndKind.Event, EndKind.Crash], outcomes.Select(o => o.End));
        Assert.Equal(restored + 1, Xen.Restored);
    }

    /// <summary>QEMU is killed from outside: one case is told so, the next is run by another QEMU.</summary>
    [XenFact]
    public void AQemuThatDiesIsReplaced()
    {
        using XenTarget target = new("xen", LiveXen.Installation);
        TestCase testCase = XenPayloads.Case("cc", GuestMode.User);
        Outcome before = target.Run(testCase);
        Process.GetProcessById(target.ProcessId!.Value).Kill();

        Outcome during = target.Run(testCase);
        Outcome after = target.Run(testCase);

        Assert.Equal(EndKind.HarnessError, during.End);
        Assert.Contains("QEMU has ended", during.Detail, StringComparison.Ordinal);
        Assert.Equal(before, after);
        Assert.Equal(1, target.Restarted);
    }

    [XenFact]
    public void NoProcessIsLeftBehind()
    {
        XenTarget target = new("xen", LiveXen.Installation);
        int id = target.ProcessId!.Value;

        target.Dispose();

        Assert.False(Directory.Exists($"/proc/{id}"));
    }

    /// <summary>No room for the snapshot is a reason that a person can act on.</summary>
    [XenFact]
    public void NoRoomForTheSnapshotIsNamed()
    {
        TargetUnavailableException trouble = Assert.Throws<TargetUnavailableException>(() => new XenTarget("xen", LiveXen.Installation with { SnapshotLimit = 0x10_0000 }));

        Assert.Contains("QEMU cannot savevm", trouble.Message, StringComparison.Ordinal);
    }

    /// <summary>An image that is no Xen is refused with what QEMU says of it.</summary>
    [XenFact]
    public void AnImageThatIsNoXenIsRefused()
    {
        TargetUnavailableException trouble = Assert.Throws<TargetUnavailableException>(() => new XenTarget("xen", LiveXen.Installation with { Image = "/bin/ls" }));

        Assert.Contains("/bin/ls does not come up", trouble.Message, StringComparison.Ordinal);
        Assert.Contains("QEMU has ended", trouble.Message, StringComparison.Ordinal);
    }

    [XenFact]
    public void TheProcessorIsTheEmulatedOne()
    {
        Assert.Equal(CpuVendor.Amd, Xen.Info.Processor!.Vendor);
        Assert.Contains("SYSCALL", Xen.Info.Processor!.Features);
        Assert.DoesNotContain("BMI2", Xen.Info.Processor!.Features);
        Assert.Equal(("tcg", TargetKind.Hypervisor), (Xen.Info.Lineage, Xen.Info.Kind));
    }

    /// <summary>The same code in the slot below 4 GiB, where every version delivers what the virtual DPL allows.</summary>
    private static TestCase Low(TestCase testCase)
    {
        ulong start = AddressMap.LowBlock + XenMap.CodeEnd - (ulong)testCase.Code.Bytes.Length;
        return testCase with { Code = testCase.Code with { Address = start }, Registers = testCase.Registers with { Rip = start } };
    }

    private static ulong[] Words(Event e) => [.. Enumerable.Range(0, e.Frame.Length / sizeof(ulong)).Select(i => BitConverter.ToUInt64(e.Frame.AsSpan()[(i * sizeof(ulong))..]))];

    /// <summary>One Xen for the tests that leave it alive.</summary>
    public sealed class Machine : IDisposable
    {
        private XenTarget? _target;

        /// <summary>The target, booted when it is needed first.</summary>
        public XenTarget Target => _target ??= new XenTarget("xen", LiveXen.Installation);

        /// <inheritdoc/>
        public void Dispose() => _target?.Dispose();
    }

    private static string Hex(ulong address) => Convert.ToHexString(BitConverter.GetBytes((uint)address));
}
