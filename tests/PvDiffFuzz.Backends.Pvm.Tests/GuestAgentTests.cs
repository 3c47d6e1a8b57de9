using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>The code of the agent that stays in the guest, decoded again.</summary>
public sealed class GuestAgentTests
{
    [Theory]
    [InlineData(Abi.PvmRfc1)]
    [InlineData(Abi.Pvm612)]
    public void TheAgentFitsInItsRoomAndIsMadeOfInstructions(Abi revision)
    {
        GuestAgent agent = GuestAgent.Assemble(revision);

        Assert.InRange(agent.Bytes.Length, 1, GuestMap.Landings - GuestMap.AgentProgram);
        Decoder decoder = Decoder.Create(64, new ByteArrayCodeReader(agent.Bytes), GuestMap.BatchLinear(GuestMap.AgentProgram));
        HashSet<ulong> starts = [];
        while (decoder.IP < GuestMap.BatchLinear(GuestMap.AgentProgram) + (ulong)agent.Bytes.Length)
        {
            starts.Add(decoder.IP);
            Assert.NotEqual(Code.INVALID, decoder.Decode().Code);
        }

        Assert.All((ulong[])[agent.Start, agent.Ring, agent.Arrive, agent.InterruptReturn, agent.Inject], place => Assert.Contains(place, starts));
    }

    /// <summary>A landing has no register to lose but RCX, which goes to memory first.</summary>
    [Theory]
    [InlineData(AgentPort.UserEntry)]
    [InlineData(AgentPort.SupervisorEntry)]
    [InlineData(AgentPort.Lstar)]
    [InlineData(AgentPort.End)]
    internal void ALandingKeepsAllRegisters(AgentPort port)
    {
        GuestAgent agent = GuestAgent.Assemble(Abi.PvmRfc1);
        byte[] landing = agent.Landing(port);
        Decoder decoder = Decoder.Create(64, new ByteArrayCodeReader(landing), GuestMap.BatchLinear(AgentCode.LandingOf(port)));

        Instruction store = decoder.Decode();
        Instruction number = decoder.Decode();
        Instruction jump = decoder.Decode();

        Assert.InRange(landing.Length, 1, GuestMap.LandingSize);
        Assert.Equal((Code.Mov_rm64_r64, GuestMap.BatchAddress + Mailbox.SavedRcx, Iced.Intel.Register.RCX), (store.Code, store.IPRelativeMemoryAddress, store.Op1Register));
        Assert.Equal((Code.Mov_r32_imm32, (uint)port), (number.Code, number.Immediate32));
        Assert.Equal(agent.Arrive, jump.NearBranchTarget);
    }

    /// <summary>An entry jumps through the address behind it, as does the stub behind supervisor code, for which there is room.</summary>
    [Theory]
    [InlineData(AgentPort.UserEntry)]
    [InlineData(AgentPort.HighEntry)]
    [InlineData(AgentPort.End)]
    internal void AnEntryLeadsToItsLanding(AgentPort port)
    {
        byte[] entry = AgentCode.Jump(port);
        Instruction jump = Decoder.Create(64, new ByteArrayCodeReader(entry), 0x1000).Decode();

        Assert.InRange(entry.Length, AgentCode.JumpLength, TestCase.StubLength);
        Assert.Equal((Code.Jmp_rm64, 0x1000UL + (ulong)jump.Length), (jump.Code, jump.IPRelativeMemoryAddress));
        Assert.Equal(GuestMap.BatchLinear(AgentCode.LandingOf(port)), BitConverter.ToUInt64(entry, jump.Length));
    }

    /// <summary>Nothing of one kind of structure overlaps another of it, and all lie in the memory.</summary>
    [Fact]
    public void PlacesDoNotOverlap()
    {
        Assert.Equal(GuestMap.MailboxPage + PageLayout.PageSize, GuestMap.AgentProgram);
        Assert.True(Mailbox.Lstar + sizeof(ulong) <= Mailbox.Scratch && Mailbox.Scratch + Context.SizeOfInput < Mailbox.StackTop);
        Assert.Equal(Context.Structure + PvcsLayout.Size, Context.Frame);
        Assert.Equal(Record.Structure + PvcsLayout.Size, Record.AsksStructure);
        Assert.Equal(GuestMap.Request, GuestMap.Landings + (8 * GuestMap.LandingSize));
        Assert.True(GuestMap.BatchLinear(GuestMap.Size) <= GuestMap.PoolAddress);
        Assert.True(GuestMap.PoolAddress + (TestCase.MaximumPages * PageLayout.PageSize) <= AddressMap.AgentLast);
    }
}
