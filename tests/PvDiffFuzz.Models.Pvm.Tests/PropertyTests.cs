using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm.Tests;

/// <summary>What holds for any case: the model answers, the same each time, and leaves nothing behind.</summary>
public sealed class PropertyTests
{
    /// <summary>Pieces of code that do something with the system side, so that random cases get somewhere.</summary>
    private static readonly string[] Pieces =
    [
        "90", "CC", "CD80", "CD04", "0F0B", "0F05", "FA", "FB", "F4", "9C", "9D", "0F32", "0F30", "0F20C0", "0F22D8", "0F20E0", "0F22E0", "0F23F8", "0F21F0", "0F013C2550564DFF0FA2", "0F0138", "0F34",
        "48890425", "488B0425", "50", "58", "FFE0", "48CF", "CB", "8ED8", "0F00D8", "0F011425", "0FA2", "F30FAED8", "0F01EF", "0F01EE", "B8008208170F05", "B8018208170F05", "B8028208170F05", "B8068208170F05",
        "B8078208170F05", "B8088208170F05", "B8098208170F05", "48B810004D0000000000FFE0", "48B820004D0000000000FFE0", "810C250000490000020000", "B9F44D564B", "B9820000C0", "31C0", "31D2", "F1", "D9EE", "C8000000",
    ];

    private static readonly ulong[] Values =
    [
        0, 1, 2, 0x10, 0x2b, 0x33, 0x63, 0x8000, PvmMap.SupervisorRoot, PvmMap.UserRoot, 0xc000_0082, 0x4b56_4df4, 0x4b56_4df1, PvmMap.PvcsAddress, Payload.Data, Payload.Data + 0xfff, Payload.Stack, PvmMap.EventEntry,
        PvmMap.RetuRip, PvmMap.RetsRip, AddressMap.LowBlock + AddressMap.Data, AddressMap.LowBlock + PvmMap.UserOnly, 0x7fff_ffff_ffff, 0x8000_0000_0000, ulong.MaxValue, 0x8005_0033, 0x202, 0x302,
    ];

    /// <summary>Thirty thousand random cases of both revisions and starts: no exception, the same outcome on a used model and on a used model again.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(2)]
    [InlineData(3)]
    public void AnyCaseIsAnswered(int seed)
    {
        using PvmModel model = new(Payload.Keys);
        using PvmModel other = new(Payload.Keys);
        Random random = new(seed);
        int comparable = 0;
        int checks = 0;
        for (int i = 0; i < 10_000; i++)
        {
            TestCase testCase = Draw(random);
            if (testCase.Check() is not null)
            {
                continue;
            }

            checks++;
            Outcome first = model.Run(testCase);
            Outcome again = i % 2 == 0 ? model.Run(testCase) : other.Run(testCase);
            Assert.True(first.Equals(again), $"case {i} of seed {seed} has two outcomes");
            comparable += first.Comparable ? 1 : 0;
            Assert.True(first.Alternatives.Length <= 3);
        }

        Assert.InRange(checks, 5_000, 10_000);
        Assert.InRange(comparable, checks / 2, checks);
    }

    /// <summary>The trace of a case has the instructions in order, the one that ends it included.</summary>
    [Fact]
    public void TheTraceCrossesModes()
    {
        using PvmModel model = new();
        TestCase testCase = Payload.Supervisor("90 48 B8 10 00 4D 00 00 00 00 00 FF E0").With(AddressMap.LowBlock + AddressMap.Code, 0x90, 0xcc).With(
            (SystemRegister.PvcsRip, AddressMap.LowBlock + AddressMap.Code), (SystemRegister.PvcsUserCs, 0x33), (SystemRegister.PvcsUserSs, 0x2b), (SystemRegister.PvcsEflags, 0x202));

        Assert.Equal(
            [testCase.Code.Address, testCase.Code.Address + 1, testCase.Code.Address + 11, PvmMap.RetuRip, AddressMap.LowBlock + AddressMap.Code, AddressMap.LowBlock + AddressMap.Code + 1],
            model.Trace(testCase, 100).Select(i => i.Address));
    }

    /// <summary>
    /// What each instruction raised: nothing where the hypervisor carries it out (HLT is refused by the processor first), #PF with the error code that the guest is told, #UD; also where the frame finds no
    /// stack and the guest dies. What the fetch behind a jump raised is not the jump's, but is noted with it.
    /// </summary>
    [Theory]
    [InlineData("90 FA 0F 0B", 0x2000, new[] { -1, -1, 6 }, -1)]
    [InlineData("90 0F 0B", 0x10, new[] { -1, 6 }, -1)]
    [InlineData("48 89 04 25 10 00 00 00", 0x2000, new[] { 14 }, 2)]
    [InlineData("CC", 0x2000, new[] { 3 }, -1)]
    [InlineData("31 C0 FF E0", 0x2000, new[] { -1, -1 }, -1)]
    public void TheTraceTellsWhatWasRaised(string code, int rsp, int[] vectors, int error)
    {
        using PvmModel model = new();
        TestCase testCase = Payload.Supervisor(code, (Register.Rsp, rsp == 0x2000 ? Payload.Stack : (ulong)rsp));

        ImmutableArray<TracedInstruction> trace = model.Trace(testCase, 100);

        Assert.Equal(vectors, trace.Select(i => i.Raised is RaisedException raised ? raised.Vector : -1));
        Assert.Equal(error < 0 ? null : (uint?)error, trace[^1].Raised?.Error);
        Assert.Equal(code == "31 C0 FF E0", trace[^1].NextFetchRaised);
        Assert.DoesNotContain(trace[..^1], i => i.NextFetchRaised);
    }

    /// <summary>Every system register that an outcome states is one that the revision has, and what a case states comes back when nothing changes it.</summary>
    [Theory]
    [InlineData(Abi.PvmRfc1)]
    [InlineData(Abi.Pvm612)]
    public void OutcomesStateTheSystemSide(Abi abi)
    {
        TestCase testCase = Payload.Make(abi, GuestMode.Supervisor, "90");

        SystemState system = testCase.RunToEnd().System;

        Assert.All(system.Values, pair => Assert.Null(TestCase.CheckSystemValue(abi, pair.Key, pair.Value)));
        Assert.All(testCase.System.Values, pair => Assert.Equal(pair.Value, system[pair.Key]));
        Assert.True(system.TryGet(SystemRegister.PvmUserMode, out _) && system.TryGet(SystemRegister.NmiMasked, out _) && system.TryGet(SystemRegister.PvcsRip, out _));
    }

    private static TestCase Draw(Random random)
    {
        Abi abi = random.Next(3) == 0 ? Abi.Pvm612 : Abi.PvmRfc1;
        GuestMode start = random.Next(2) == 0 ? GuestMode.User : GuestMode.Supervisor;
        string code = string.Concat(Enumerable.Range(0, random.Next(1, 9)).Select(_ => random.Next(12) == 0 ? random.Next(256).ToString("X2", null) : Pieces[random.Next(Pieces.Length)]));
        TestCase testCase = Payload.Make(abi, start, code);
        RegisterState registers = testCase.Registers;
        foreach (Register register in (Register[])[Register.Rax, Register.Rbx, Register.Rcx, Register.Rdx, Register.R10, Register.Rsp])
        {
            registers = random.Next(3) == 0 ? registers.With(register, Values[random.Next(Values.Length)]) : registers;
        }

        if (start == GuestMode.User && random.Next(4) == 0)
        {
            registers = registers with { Cs = random.Next(2) == 0 ? Selectors.UserCode32 : (ushort)random.Next(0x80), Rflags = (uint)random.NextInt64() };
        }

        testCase = testCase with { Registers = registers, Limits = new CaseLimits(200) };
        if (random.Next(3) == 0)
        {
            testCase = testCase.InterruptsOn();
        }

        if (random.Next(12) == 0)
        {
            testCase = testCase.With((SystemRegister.PvmVcpuStruct, 0));
        }

        if (random.Next(4) == 0)
        {
            testCase = random.Next(2) == 0 ? testCase.Inject(InjectionKind.Nmi) : testCase.Inject(InjectionKind.Interrupt, (byte)random.Next(32, 256));
        }

        return testCase.Answer([.. Enumerable.Range(0, random.Next(5)).Select(_ => DrawResponse(random, abi))]);
    }

    private static Response DrawResponse(Random random, Abi abi)
    {
        ReturnKind kind = random.Next(2) == 0 ? ReturnKind.Eretu : abi == Abi.PvmRfc1 ? ReturnKind.Erets : ReturnKind.Iretq;
        Register[] names = [Register.Rax, Register.Rcx, Register.Rsp, Register.R11, Register.Rip, Register.Rflags, Register.Cs, Register.Gs];
        (Register, ulong)[] patches = [.. names.Where(_ => random.Next(6) == 0).Select(r => (r, r is Register.Cs or Register.Gs ? Values[random.Next(7)] : (uint)Values[random.Next(Values.Length)]))];
        Response response = Payload.Back(kind, patches);
        return response with
        {
            Inject = random.Next(5) == 0 ? new Injection(InjectionKind.Interrupt, 0x41) : null,
            Hypercalls = random.Next(4) == 0 ? [new Hypercall(Hypercalls.Base + (ulong)random.Next(12), [Values[random.Next(Values.Length)], Values[random.Next(Values.Length)]])] : [],
        };
    }
}
