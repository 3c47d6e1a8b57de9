using System.Buffers.Binary;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>Events of the bytes that a delivery leaves, and changed memory.</summary>
public sealed class DecodingTests
{
    private static readonly RegisterState Entry = new() { Gpr = default, Rip = PvmMap.EventEntry, Rflags = 2 };

    [Fact]
    public void AUserPageFaultIsReadFromTheStructure()
    {
        byte[] pvcs = Pvcs(Abi.PvmRfc1, (SystemRegister.PvcsEventVector, 14), (SystemRegister.PvcsEventErrcode, 0x14), (SystemRegister.PvcsCr2, 0x1234));

        Event e = EventReader.Read(Abi.PvmRfc1, AgentPort.UserEntry, Entry, pvcs, [], null);

        Assert.Equal((EventKind.Fault, (byte)14, (uint?)0x14, (ulong?)0x1234, EntryPoint.PvmUser), (e.Kind, e.Vector, e.ErrorCode, e.Cr2, e.Entry));
        Assert.Equal(pvcs, e.Frame);
    }

    /// <summary>The error code field is stale when the vector has none.</summary>
    [Fact]
    public void ABreakpointHasNoErrorCode()
    {
        byte[] pvcs = Pvcs(Abi.PvmRfc1, (SystemRegister.PvcsEventVector, 3), (SystemRegister.PvcsEventErrcode, 0x14));

        Event e = EventReader.Read(Abi.PvmRfc1, AgentPort.UserEntry, Entry, pvcs, [], null);

        Assert.Equal((EventKind.Trap, (byte)3, (uint?)null, (ulong?)null), (e.Kind, e.Vector, e.ErrorCode, e.Cr2));
    }

    [Fact]
    public void ASupervisorFaultIsReadFromTheStack()
    {
        byte[] stack = new byte[EventReader.FrameSize];
        BinaryPrimitives.WriteUInt64LittleEndian(stack, (13UL << 32) | 0x1a);

        Event e = EventReader.Read(Abi.PvmRfc1, AgentPort.SupervisorEntry, Entry, Pvcs(Abi.PvmRfc1, (SystemRegister.PvcsEventVector, 3)), stack, null);

        Assert.Equal(((byte)13, (uint?)0x1a, EntryPoint.PvmSupervisor), (e.Vector, e.ErrorCode, e.Entry));
        Assert.Equal(stack, e.Frame);
    }

    /// <summary>Vector 17 from outside is no #AC.</summary>
    [Fact]
    public void AnInjectedVectorIsAnInterruptWithoutAnErrorCode()
    {
        byte[] pvcs = Pvcs(Abi.PvmRfc1, (SystemRegister.PvcsEventVector, 17));

        Assert.Equal((EventKind.Interrupt, null), Kind(EventReader.Read(Abi.PvmRfc1, AgentPort.UserEntry, Entry, pvcs, [], 17)));
        Assert.Equal((EventKind.Fault, 0u), Kind(EventReader.Read(Abi.PvmRfc1, AgentPort.UserEntry, Entry, pvcs, [], null)));

        static (EventKind, uint?) Kind(Event e) => (e.Kind, e.ErrorCode);
    }

    [Theory]
    [InlineData(0x10d, 13)]
    [InlineData(0x200, 2)]
    [InlineData(0x400, 18)]
    public void TheLaterRevisionMarksItsVectors(ulong field, byte vector)
    {
        Event e = EventReader.Read(Abi.Pvm612, AgentPort.HighEntry, Entry, Pvcs(Abi.Pvm612, (SystemRegister.PvcsEventVector, field)), [], null);

        Assert.Equal((vector, EntryPoint.PvmSupervisor), (e.Vector, e.Entry));
    }

    [Fact]
    public void RegistersAreThoseThatInstructionsSee()
    {
        KvmRegs regs = new() { Rax = 1, Rcx = 2, Rdx = 3, Rbx = 4, Rsp = 5, Rbp = 6, Rsi = 7, Rdi = 8, R15 = 16, Rip = 0x99, Rflags = 0x202 };
        KvmSregs sregs = new() { Cs = VcpuState.Flat(0x10, code: true), Ds = VcpuState.Flat(0x2b, code: false), Gs = VcpuState.Flat(0, code: false) with { Base = 0xdead000 } };

        RegisterState state = EventReader.ReadRegisters(in regs, in sregs, 0x77, statesPkru: false);

        Assert.Equal((0x77UL, (ushort)0x33, (ushort)0x2b, (ushort)0x2b, 0xdead000UL, (uint?)null), (state.Rip, state.Cs, state.Ss, state.Ds, state.GsBase, state.Pkru));
        Assert.Equal(Enumerable.Range(1, 8).Select(i => (ulong)i), Enumerable.Range(0, 8).Select(i => state.Gpr[i]));
        Assert.Equal(16UL, state.Gpr[15]);
    }

    [Fact]
    public void ChangedMemoryIsFoundAndThePoolIsLeftClean()
    {
        const ulong data = AddressMap.LowBlock + AddressMap.Data;
        TestCase testCase = Cases.Of(GuestMode.Supervisor, 0x90);
        testCase = testCase with { Contents = [new MemoryContents(data + 4, [1, 2, 3, 4, 5, 6, 7, 8]), PvmMap.ReturnInstructions] };
        CasePages pages = CasePages.Create(testCase.Layout, testCase.UserPages);
        byte[] pool = new byte[pages.Count * PageLayout.PageSize];
        CaseMemory memory = new(pool, pages);
        memory.Load(testCase);
        int at = (pages.IndexOf(data) * PageLayout.PageSize) + 4;
        Assert.Equal((byte)1, pool[at]);

        pool[at] = 9;
        pool[at + 0x100] = 0x55;

        Assert.Equal([new MemoryWord(data, 0x0403_0209_0000_0000), new MemoryWord(data + 0x100, 0x55UL << 32)], memory.Unload(testCase, out bool intact).ToArray());
        Assert.True(intact);
        Assert.DoesNotContain(pool, b => b != 0);
    }

    [Fact]
    public void AStubThatWasOverwrittenIsNoticed()
    {
        TestCase testCase = Cases.Of(GuestMode.Supervisor, 0x90);
        CasePages pages = CasePages.Create(testCase.Layout, testCase.UserPages);
        byte[] pool = new byte[pages.Count * PageLayout.PageSize];
        CaseMemory memory = new(pool, pages);
        memory.Load(testCase);

        pool[(pages.IndexOf(testCase.Code.End) * PageLayout.PageSize) + (int)(testCase.Code.End & 0xfff)] = 0xcc;
        memory.Unload(testCase, out bool intact);

        Assert.False(intact);
    }

    private static byte[] Pvcs(Abi revision, params (SystemRegister Register, ulong Value)[] fields)
    {
        byte[] pvcs = new byte[PvcsLayout.Size];
        foreach ((SystemRegister register, ulong value) in fields)
        {
            EventReader.SetField(revision, register, pvcs, value);
        }

        return pvcs;
    }
}
