using System.Buffers.Binary;
using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>The memory of a machine, as a processor would walk it, and the agent's code, decoded again.</summary>
public sealed class MachineTests
{
    private static readonly GuestPlan Plan = GuestPlan.Of(Cases.Of(GuestMode.Supervisor, 0x90), out _)!;
    private static readonly CasePages Pages = CasePages.Create(Plan.Supervisor, Plan.UserPages);
    private static readonly byte[] Memory = Build();

    [Fact]
    public void BothRootsShareAPageAndHaveTheirOwnRights()
    {
        const ulong address = AddressMap.LowBlock + PvmMap.WritableForSupervisor;

        ulong supervisor = Walk(Plan.SupervisorRoot, address);
        ulong user = Walk(Plan.UserRoot, address);

        Assert.Equal(supervisor & 0x000f_ffff_ffff_f000, user & 0x000f_ffff_ffff_f000);
        Assert.Equal(7UL, supervisor & 7);
        Assert.Equal(5UL, user & 7);
        Assert.Equal(1UL, supervisor >> 63);
    }

    [Fact]
    public void SupervisorPagesHaveNoUserBitAndTheUserRootLacksThem()
    {
        const ulong address = AddressMap.HighBlock + PvmMap.Stack;

        Assert.Equal(3UL, Walk(Plan.SupervisorRoot, address) & 7);
        Assert.Equal(0UL, Walk(Plan.UserRoot, address));
        Assert.Equal(1UL, Walk(Plan.SupervisorRoot, AddressMap.LowBlock + PvmMap.Code) & 7);
        Assert.Equal(0UL, Walk(Plan.SupervisorRoot, AddressMap.LowBlock + PvmMap.Code) >> 63);
    }

    [Fact]
    public void TheStructureIsWhereTheCaseSaysInBothKindsOfAddress()
    {
        Assert.Equal(PvmMap.VcpuStruct, Walk(Plan.SupervisorRoot, PvmMap.PvcsAddress) & 0x000f_ffff_ffff_f000);
        Assert.Equal(0UL, Walk(Plan.UserRoot, PvmMap.PvcsAddress));
    }

    [Theory]
    [InlineData(PvmMap.EventEntry, AgentPort.UserEntry)]
    [InlineData(PvmMap.EventEntry + 256, AgentPort.SupervisorEntry)]
    [InlineData(PvmMap.EventEntry + 512, AgentPort.HighEntry)]
    [InlineData(PvmMap.Lstar, AgentPort.Lstar)]
    internal void EveryEntryLeadsToItsOwnLanding(ulong address, AgentPort port)
    {
        ulong entry = Walk(Plan.SupervisorRoot, address & ~0xfffUL);

        Assert.Equal(1UL, entry & 7);
        Assert.Equal(0UL, Walk(Plan.UserRoot, address & ~0xfffUL));
        int place = (int)(entry & 0x000f_ffff_ffff_f000) + (int)(address & 0xfff);
        Assert.Equal(AgentCode.Jump(port), Memory[place..(place + AgentCode.JumpLength)]);
        Assert.Equal(Code.Mov_rm64_r64, Decode(AgentCode.LandingOf(port)).Code);
    }

    [Fact]
    public void TheAgentCallsAndReturns()
    {
        Assert.Equal(Code.Syscall, Decode(GuestMap.Agent + AgentCode.Call).Code);
        Assert.Equal((byte)AgentPort.Called, Decode(GuestMap.Agent + AgentCode.Call + 2).Immediate8);
        Assert.Equal(Code.Syscall, Decode(GuestMap.Agent + AgentCode.WarmReturn).Code);
        Assert.Equal((Code.Out_imm8_AL, (byte)AgentPort.UserEntry), (Decode(GuestMap.Agent + AgentCode.WarmEntry).Code, Decode(GuestMap.Agent + AgentCode.WarmEntry).Immediate8));
    }

    [Fact]
    public void PagesThatCanBeWrittenComeFirst()
    {
        for (int i = 0; i < Pages.Count; i++)
        {
            ulong address = Pages.AddressOf(i);
            bool writable = ((Plan.Supervisor.AccessAt(address) | Plan.UserPages.AccessAt(address)) & PageAccess.Write) != 0;
            Assert.Equal(i < Pages.Writable, writable);
            Assert.Equal(i, Pages.IndexOf(address + 0xfff));
        }
    }

    [Fact]
    public void RootsThatTheTargetCannotHonourAreRefused()
    {
        TestCase testCase = Cases.Of(GuestMode.Supervisor, 0x90);

        Assert.Null(GuestPlan.Of(testCase with { System = testCase.System.With(SystemRegister.Cr3, 0x1_0000_0000) }, out string? root));
        Assert.Null(GuestPlan.Of(testCase with { System = testCase.System.With(SystemRegister.PvmVcpuStruct, PvmMap.UserRoot) }, out string? structure));
        Assert.Null(GuestPlan.Of(testCase with { System = testCase.System.With(SystemRegister.Lstar, PvmMap.EventEntry + 1) }, out string? entries));
        Assert.Contains("page-table roots", root, StringComparison.Ordinal);
        Assert.Contains("structure", structure, StringComparison.Ordinal);
        Assert.Contains("entries", entries, StringComparison.Ordinal);
    }

    private static byte[] Build()
    {
        byte[] memory = new byte[GuestMap.Size];
        Machine.Write(memory, Plan, Pages, GuestAgent.Assemble(Abi.PvmRfc1));
        return memory;
    }

    private static Instruction Decode(int offset) => Decoder.Create(64, new ByteArrayCodeReader(Memory, offset, 15)).Decode();

    /// <summary>The last entry of a walk; 0 where one is missing.</summary>
    private static ulong Walk(int root, ulong linear)
    {
        ulong entry = (uint)root;
        for (int level = 3; level >= 0; level--)
        {
            int table = (int)(entry & 0x000f_ffff_ffff_f000);
            entry = BinaryPrimitives.ReadUInt64LittleEndian(Memory.AsSpan(table + ((int)((linear >> (12 + (9 * level))) & 0x1ff) * 8)));
            if ((entry & 1) == 0)
            {
                return 0;
            }
        }

        return entry;
    }
}
