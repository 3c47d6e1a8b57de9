using Iced.Intel;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>The code of the agent that stays in the guest, decoded again.</summary>
public sealed class BatchAgentTests
{
    [Theory]
    [InlineData(Abi.PvmRfc1)]
    [InlineData(Abi.Pvm612)]
    public void TheAgentFitsInItsRoomAndIsMadeOfInstructions(Abi revision)
    {
        BatchAgent agent = BatchAgent.Assemble(revision);

        Assert.InRange(agent.Bytes.Length, 1, GuestMap.BatchAgentSize - BatchAgent.EndPadRoom);
        Decoder decoder = Decoder.Create(64, new ByteArrayCodeReader(agent.Bytes), GuestMap.BatchLinear(GuestMap.BatchAgent));
        HashSet<ulong> starts = [];
        while (decoder.IP < GuestMap.BatchLinear(GuestMap.BatchAgent) + (ulong)agent.Bytes.Length)
        {
            starts.Add(decoder.IP);
            Assert.NotEqual(Code.INVALID, decoder.Decode().Code);
        }

        Assert.All((ulong[])[agent.Start, agent.Arrive, agent.InterruptReturn], place => Assert.Contains(place, starts));
    }

    /// <summary>An entry has 256 bytes, and no register to lose but RCX, which goes to memory first.</summary>
    [Theory]
    [InlineData(PvmMap.EventEntry, AgentPort.UserEntry)]
    [InlineData(PvmMap.EventEntry + 256, AgentPort.SupervisorEntry)]
    [InlineData(PvmMap.Lstar, AgentPort.Lstar)]
    internal void AnEntryKeepsAllRegisters(ulong address, AgentPort port)
    {
        BatchAgent agent = BatchAgent.Assemble(Abi.PvmRfc1);
        byte[] pad = agent.Pad(port, address);
        Decoder decoder = Decoder.Create(64, new ByteArrayCodeReader(pad), address);

        Instruction store = decoder.Decode();
        Instruction number = decoder.Decode();
        Instruction jump = decoder.Decode();

        Assert.InRange(pad.Length, 1, 256);
        Assert.Equal((Code.Mov_rm64_r64, GuestMap.BatchAddress + Mailbox.SavedRcx, Iced.Intel.Register.RCX), (store.Code, store.IPRelativeMemoryAddress, store.Op1Register));
        Assert.Equal((Code.Mov_r32_imm32, (uint)port), (number.Code, number.Immediate32));
        Assert.Equal(agent.Arrive, jump.NearBranchTarget);
    }

    /// <summary>The stub jumps through the address behind it, and fits into the room behind supervisor code.</summary>
    [Fact]
    public void TheStubLeadsToThePadOfTheEnd()
    {
        ReadOnlySpan<byte> stub = BatchAgent.Stub;
        Instruction jump = Decoder.Create(64, new ByteArrayCodeReader(stub), 0x1000).Decode();

        Assert.InRange(stub.Length, 1, TestCase.StubLength);
        Assert.Equal((Code.Jmp_rm64, 0x1000UL + (ulong)jump.Length), (jump.Code, jump.IPRelativeMemoryAddress));
        Assert.Equal(BatchAgent.StubTarget, BitConverter.ToUInt64(stub, jump.Length));
        Assert.InRange(BatchAgent.Assemble(Abi.PvmRfc1).Pad(AgentPort.End, BatchAgent.StubTarget).Length, 1, BatchAgent.EndPadRoom);
    }

    /// <summary>Nothing of one kind of structure overlaps another of it, and all lie in the memory.</summary>
    [Fact]
    public void PlacesDoNotOverlap()
    {
        Assert.Equal(GuestMap.MailboxPage + PageLayout.PageSize, GuestMap.BatchAgent);
        Assert.True(Mailbox.Target + sizeof(ulong) <= Mailbox.Scratch && Mailbox.Scratch + Context.SizeOfInput < Mailbox.StackTop);
        Assert.Equal(Context.Structure + PvcsLayout.Size, Context.Frame);
        Assert.Equal(Record.Structure + PvcsLayout.Size, Record.StartFrame);
        Assert.True(GuestMap.BatchLinear(GuestMap.Size) <= GuestMap.PoolAddress);
        Assert.True(GuestMap.PoolAddress + (TestCase.MaximumPages * PageLayout.PageSize) <= AddressMap.AgentLast);
    }
}
