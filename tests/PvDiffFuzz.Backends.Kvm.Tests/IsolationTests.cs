using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Kvm.Tests.Payload;

namespace PvDiffFuzz.Backends.Kvm.Tests;

/// <summary>Cases do not see each other, runaway payloads end, and nothing leaks.</summary>
public sealed class IsolationTests : KvmTests
{
    private const ulong Supervisor = AddressMap.HighBlock + AddressMap.Supervisor;

    /// <summary>JMP to itself ends as budget spent, alone and in the middle of a batch, and its neighbours are as ever.</summary>
    [KvmFact]
    public void AnEndlessLoopIsStoppedAndTheBatchGoesOn()
    {
        TestCase loop = Case("eb fe");
        TestCase plain = Case("48 ff c0");
        TestCase[] batch = [plain, loop, plain, loop, plain];
        Outcome[] outcomes = new Outcome[batch.Length];
        Target.Run(batch, outcomes);

        Assert.Equal([EndKind.ReachedEnd, EndKind.BudgetSpent, EndKind.ReachedEnd, EndKind.BudgetSpent, EndKind.ReachedEnd], outcomes.Select(o => o.End));
        Assert.Equal(EndKind.BudgetSpent, Target.Run(loop).End);
        Assert.Equal(outcomes[0], Target.Run(plain));
        Assert.Equal((0, 0), (Target.Replaced, Target.RunAgain));
    }

    /// <summary>What one case writes, the next does not see: MOV [RDI],RAX, then MOV RAX,[RDI].</summary>
    [KvmFact]
    public void MemoryIsCleanForEveryCase()
    {
        TestCase write = Case("48 89 07", (Register.Rdi, Data), (Register.Rax, 77));
        TestCase read = Case("48 8b 07", (Register.Rdi, Data));
        TestCase[] batch = [write, read, write, read];
        Outcome[] outcomes = new Outcome[batch.Length];
        Target.Run(batch, outcomes);

        Assert.Equal([77UL, 0UL, 77UL, 0UL], outcomes.Select(o => o.Registers!.Gpr[0]));
        Assert.Equal([1, 0, 1, 0], outcomes.Select(o => o.Memory.Length));
        Assert.Equal(new MemoryWord(Data, 77), outcomes[2].Memory[0]);
        Assert.Equal(0UL, Target.Run(read).Registers!.Gpr[0]);
    }

    /// <summary>MOVQ XMM0,RAX in one case is not seen by MOVQ RAX,XMM0 in the next.</summary>
    [KvmFact]
    public void VectorStateIsCleanForEveryCase()
    {
        TestCase write = Case("66 48 0f 6e c0", (Register.Rax, 77));
        TestCase read = Case("66 48 0f 7e c0", (Register.Rax, 5));
        TestCase[] batch = [write, read];
        Outcome[] outcomes = new Outcome[batch.Length];
        Target.Run(batch, outcomes);

        Assert.Equal([77UL, 0UL], outcomes.Select(o => o.Registers!.Gpr[0]));
    }

    /// <summary>Pages of the supervisor are there for nobody at CPL3, and keep their contents to themselves.</summary>
    [KvmFact]
    public void SupervisorPagesFaultWithP()
    {
        PageLayout layout = PageLayout.Create([.. AddressMap.Standard.Ranges, new PageRange(Supervisor, 1, PageAccess.Read | PageAccess.Write | PageAccess.Supervisor)]);
        TestCase testCase = Case("48 8b 07", (Register.Rdi, Supervisor)) with { Layout = layout, Contents = [new MemoryContents(Supervisor, [1, 2, 3])] };
        Outcome outcome = Run(testCase);

        Assert.Equal((14, 5u, Supervisor), (outcome.Events[0].Vector, outcome.Events[0].ErrorCode!.Value, outcome.Events[0].Cr2!.Value));
        Assert.Empty(outcome.Memory);
    }

    /// <summary>A change of layout takes pages away and gives others.</summary>
    [KvmFact]
    public void LayoutsFollowTheCase()
    {
        const ulong extra = 0x5000_0000;
        PageLayout more = PageLayout.Create([.. AddressMap.Standard.Ranges, new PageRange(extra, 2, PageAccess.Read | PageAccess.Write)]);
        TestCase store = Case("48 89 07", (Register.Rdi, extra), (Register.Rax, 7));
        for (int i = 0; i < 3; i++)
        {
            Assert.Equal((EndKind.Event, 14), (Run(store).End, Run(store).Events[0].Vector));
            Assert.Equal([new MemoryWord(extra, 7)], Run(store with { Layout = more }).Memory.ToArray());
        }
    }

    /// <summary>Pages in the agent's range, and layouts with too many tables, are unsupported.</summary>
    [KvmTheory]
    [InlineData(AddressMap.AgentFirst, 1)]
    [InlineData(AddressMap.AgentLast - 0xfff, 1)]
    public void PagesInTheAgentsRangeAreUnsupported(ulong address, int pages)
    {
        PageLayout layout = PageLayout.Create([.. AddressMap.Standard.Ranges, new PageRange(address, pages, PageAccess.Read)]);

        Assert.Equal(EndKind.Unsupported, Target.Run(Case("90") with { Layout = layout }).End);
    }

    /// <summary>A case that mentions an address of the agent is unsupported: MOV AL,[address], and the address in a register.</summary>
    [KvmFact]
    public void AddressesOfTheAgentAreRefused()
    {
        const ulong address = GuestMap.Base + GuestMap.Request + 0x12345;
        Assert.Equal(EndKind.Unsupported, Target.Run(Case($"a0 {Convert.ToHexString(BitConverter.GetBytes(address))}")).End);
        Assert.Equal(EndKind.Unsupported, Target.Run(Case("8a 07", (Register.Rdi, address))).End);
        Assert.Equal(EndKind.Event, Target.Run(Case("8a 07", (Register.Rdi, AddressMap.AgentLast))).End);
    }

    /// <summary>A payload that writes to the agent's mailbox is noticed; all cases of its batch are run again, alone.</summary>
    [KvmFact]
    public void AWriteIntoTheMailboxIsNoticed()
    {
        // MOV RDI,half of the address; ADD RDI,RDI; MOV DWORD [RDI],1: no value of the case is an address of the agent.
        string half = Convert.ToHexString(BitConverter.GetBytes((GuestMap.Base + GuestMap.MailboxPage + Mailbox.Canary) / 2));
        TestCase write = Case($"48 bf {half} 48 01 ff c7 07 01 00 00 00");
        TestCase plain = Case("48 ff c0");
        TestCase[] batch = [plain, write, plain];
        Outcome[] outcomes = new Outcome[batch.Length];
        Target.Run(batch, outcomes);

        Assert.Equal(batch.Length, Target.RunAgain);
        Assert.Equal([EndKind.ReachedEnd, EndKind.ReachedEnd, EndKind.ReachedEnd], outcomes.Select(o => o.End));
        Assert.Equal(outcomes[0], Run(plain));
    }

    /// <summary>A guest without handlers shuts down at its first event: alone that is a crash, and in a batch the cases run again; both get a new machine.</summary>
    [KvmFact]
    public void AMachineThatShutsDownIsReplaced()
    {
        TestCase plain = Case("48 ff c0");
        Outcome first = Target.Run(plain);
        Target.MemoryOfGuest(GuestMap.SingleIdt, 0x1000).Clear();
        Outcome crashed = Target.Run(plain);

        Assert.Equal((EndKind.Crash, "KVM_EXIT_SHUTDOWN", 1), (crashed.End, crashed.Detail, Target.Replaced));
        Assert.Equal(first, Target.Run(plain));

        Target.MemoryOfGuest(GuestMap.BatchIdt, 0x1000).Clear();
        Outcome[] outcomes = new Outcome[3];
        Target.Run([plain, plain, plain], outcomes);

        Assert.Equal([first, first, first], outcomes);
        Assert.Equal((2, 3), (Target.Replaced, Target.RunAgain));
    }

    /// <summary>A payload that rings the agent's doorbell leaves the guest where none may: trouble that names the exit, and the neighbours are as ever.</summary>
    [KvmFact]
    public void AnUnexpectedExitIsNamed()
    {
        // MOV RDI,half of the address; ADD RDI,RDI; MOV DWORD [RDI],1.
        string half = Convert.ToHexString(BitConverter.GetBytes((GuestMap.Base + GuestMap.Doorbell) / 2));
        TestCase ring = Case($"48 bf {half} 48 01 ff c7 07 01 00 00 00");
        TestCase plain = Case("48 ff c0");
        Outcome[] outcomes = new Outcome[3];
        Target.Run([plain, ring, plain], outcomes);

        Assert.Equal([EndKind.ReachedEnd, EndKind.HarnessError, EndKind.ReachedEnd], outcomes.Select(o => o.End));
        Assert.Equal("KVM_EXIT_MMIO, address 10000000", outcomes[1].Detail);
        Assert.Equal((2, 3), (Target.Replaced, Target.RunAgain));
        Assert.Equal(outcomes[0], Run(plain));
    }

    /// <summary>A payload that makes the agent fault for ever, by a place for results that is not mapped, costs its batch some time and no more.</summary>
    [KvmFact]
    public void AnAgentThatNeverComesBackIsGivenUp()
    {
        // MOV RDI,half of the address; ADD RDI,RDI; MOV QWORD [RDI],0.
        string half = Convert.ToHexString(BitConverter.GetBytes((GuestMap.Base + GuestMap.MailboxPage + (ulong)Mailbox.Batch.Result) / 2));
        TestCase write = Case($"48 bf {half} 48 01 ff 48 c7 07 00 00 00 00");
        TestCase plain = Case("48 ff c0");
        TestCase[] batch = [plain, write, plain];
        Outcome[] outcomes = new Outcome[batch.Length];
        Target.Run(batch, outcomes);

        Assert.Equal((1, batch.Length), (Target.Replaced, Target.RunAgain));
        Assert.Equal([EndKind.ReachedEnd, EndKind.ReachedEnd, EndKind.ReachedEnd], outcomes.Select(o => o.End));
        Assert.Equal(outcomes[0], Run(plain));
    }

    /// <summary>Targets that come and go leave no descriptor and no mapping behind.</summary>
    [KvmFact]
    public void NothingLeaks()
    {
        Target.Run(Case("90"));
        (int Descriptors, int Mappings) before = Held();
        for (int i = 0; i < 20; i++)
        {
            using KvmTarget target = new(CpuProfile.DefaultAmd);
            Assert.Equal(EndKind.ReachedEnd, target.Run(Case("90")).End);
        }

        (int Descriptors, int Mappings) after = Held();
        Assert.Equal(before.Descriptors, after.Descriptors);
        Assert.True(after.Mappings - before.Mappings < 20, $"{before.Mappings} guest mappings before, {after.Mappings} after");
    }

    private static (int Descriptors, int Mappings) Held() => (
        Directory.GetFiles("/proc/self/fd").Count(f => new FileInfo(f).LinkTarget is { } link && (link.Contains("kvm", StringComparison.Ordinal) || link.Contains("pvdf", StringComparison.Ordinal))),
        File.ReadLines("/proc/self/maps").Count(l => l.Contains("pvdf-guest", StringComparison.Ordinal) || l.Contains("kvm-vcpu", StringComparison.Ordinal)));
}
