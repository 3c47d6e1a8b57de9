using System.Text.Json.Nodes;
using PvDiffFuzz.Cli.Import;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Tests;

/// <summary>Records of PVM hosts become cases: inputs and outcomes are what a person reads in the record.</summary>
public sealed class PvmImportTests : IDisposable
{
    private readonly Terminal _terminal = new();

    /// <inheritdoc/>
    public void Dispose() => _terminal.Dispose();

    [Fact]
    public void SupervisorCodeThatRanToItsEndHasNoEvent()
    {
        CaseFile file = Only(PvmRecordText.Line());
        TestCase testCase = file.Case;
        Outcome outcome = file.Outcomes[0].Outcome;

        Assert.Equal("pvm-rfc1-amd-s-nop", file.Id);
        Assert.Equal((Abi.PvmRfc1, GuestMode.Supervisor, HostPath.Cold), (testCase.Abi, testCase.Start, testCase.Pvm!.Path));
        Assert.Equal(0x1_0000UL, testCase.Code.Address);
        Assert.Equal([0x90], testCase.Code.Bytes.AsEnumerable());
        Assert.Equal((0x1_0000UL, 0x2_2f08UL, 2UL), (testCase.Registers.Rip, testCase.Registers[Register.Rsp], testCase.Registers.Rflags));
        Assert.Equal((Selectors.UserCode64, Selectors.UserData, 0xdead000UL), (testCase.Registers.Cs, testCase.Registers.Ss, testCase.Registers.GsBase));
        Assert.Equal(0xbbbb_0000_0000_0bbbUL, testCase.Registers[Register.Rbp]);
        Assert.Equal(0x41_0f08UL, testCase.System[SystemRegister.PvcsRsp]);
        Assert.Equal(128UL, testCase.System[SystemRegister.PvmSupervisorRedzone]);
        Assert.Equal(CpuVendor.Amd, testCase.Profile!.Vendor);

        Assert.Equal(EndKind.ReachedEnd, outcome.End);
        Assert.Empty(outcome.Events);
        Assert.Equal(0x1_0001UL, outcome.Registers!.Rip);
        Assert.Equal((0xa1UL, 0x12UL), (outcome.Registers[Register.Rax], outcome.Registers[Register.R12]));
        Assert.Empty(outcome.Memory);
        Assert.Equal([new(0x1_1000, 16), new(0x2_2f08, 64), new(0x2_3fe0, 32), new(0x40_1000, 10)], outcome.Seen.AsEnumerable());
        Assert.Equal(0xffff_0ff0UL, outcome.System[SystemRegister.Dr6]);
        Assert.Equal(("pvm", TargetKind.Hypervisor, "tcg"), (file.Outcomes[0].Target, file.Outcomes[0].Kind, file.Outcomes[0].Lineage));
        Assert.Equal("impl=rfc-port; cpu=tcg-amd; kernel=6.12", file.Outcomes[0].Fingerprint.ToString());
    }

    [Fact]
    public void AnExceptionOfTheSupervisorHasItsFrameOnTheStack()
    {
        CaseFile file = Only(PvmRecordText.Line(
            ("id", "s_int2"), ("bytes_hex", "cd02"), ("observed.port", "11"), ("observed.rip", "30102"), ("observed.rcx", "30100"), ("observed.rsp", "22e40"),
            ("observed.stk", PvmRecordText.Words("d0000000a", "10000", "10", "10002", "22f08", "18", "c1", "11"))));
        Event e = Assert.Single(file.Outcomes[0].Outcome.Events);

        Assert.Equal((EventKind.Fault, (byte)13, (uint?)0xa, (ulong?)null, EntryPoint.PvmSupervisor), (e.Kind, e.Vector, e.ErrorCode, e.Cr2, e.Entry));
        Assert.Equal((0x3_0100UL, 0x3_0100UL, 0x2_2e40UL), (e.Registers.Rip, e.Registers[Register.Rcx], e.Registers[Register.Rsp]));
        Assert.Equal(64, e.Frame.Length);
        Assert.Equal([0xa, 0, 0, 0, 0xd, 0, 0, 0, 0, 0, 1], e.Frame[..11].AsEnumerable());
        Assert.Equal(new MemoryWord(0x2_2e40, 0xd_0000_000a), file.Outcomes[0].Outcome.Memory[0]);
        Assert.Equal(8, file.Outcomes[0].Outcome.Memory.Length);
        Assert.Equal(EndKind.Event, file.Outcomes[0].Outcome.End);
    }

    [Fact]
    public void UserCodeStartsFromTheStructureAndEndsWithItsTerminator()
    {
        CaseFile file = Only(PvmRecordText.Line(
            ("id", "u_nop@ds"), ("mode", "U"), ("initial.code", "400000"), ("initial.rip", "32000"), ("observed.port", "13"), ("observed.rip", "31002"),
            ("observed.pvcs.rip", "400003"), ("observed.pvcs.rcx", "400003")));
        RegisterState start = file.Case.Registers;
        Event e = Assert.Single(file.Outcomes[0].Outcome.Events);

        Assert.Equal("pvm-rfc1-amd-u-nop-warm", file.Id);
        Assert.Equal((GuestMode.User, HostPath.Warm), (file.Case.Start, file.Case.Pvm!.Path));
        Assert.Equal([0x90, 0x0f, 0x05], file.Case.Code.Bytes.AsEnumerable());
        Assert.Equal([1, 2], file.Case.Code.Lengths.AsEnumerable());
        Assert.Equal((0x40_0000UL, 0x202UL, 0x41_0f08UL, 0xcc0cUL, 0x110cUL), (start.Rip, start.Rflags, start[Register.Rsp], start[Register.Rcx], start[Register.R11]));
        Assert.Equal((0x33, 0x2b, 0x9000UL, (uint?)0x77), (start.Cs, start.Ss, start.GsBase, start.Pkru));
        Assert.Equal(0x2_2f08UL, file.Case.System[SystemRegister.PvmSupervisorRsp]);
        Assert.False(file.Case.System.TryGet(SystemRegister.PvcsRip, out _));
        Assert.Equal(0xeeeeUL, file.Case.System[SystemRegister.PvcsEventVector]);
        Assert.Equal((EventKind.SystemCall, (byte)0, EntryPoint.Lstar, 0x3_1000UL), (e.Kind, e.Vector, e.Entry, e.Registers.Rip));
        Assert.Equal([0x03, 0x00, 0x40, 0, 0, 0, 0, 0], e.Frame.AsSpan(0x60, 8).ToArray());
    }

    /// <summary>Code that changes mode ends with the terminator of the mode it is in then.</summary>
    [Theory]
    [InlineData("C", "10", "80", "400003", "cd80")]
    [InlineData("U", "10", "80", "400003", "cd80")]
    [InlineData("C", "13", "eeee", "400003", "0f05")]
    [InlineData("U", "10", "e", "400000", "0f05")]
    [InlineData("C", "10", "e", "400000", "cd80")]
    public void TheTerminatorIsTheOneThatRan(string mode, string port, string vector, string rip, string terminator)
    {
        CaseFile file = Only(PvmRecordText.Line(
            ("mode", mode), ("initial.code", "400000"), ("observed.port", port), ("observed.rip", port == "13" ? "31002" : "30002"), ("observed.pvcs.vec", vector), ("observed.pvcs.rip", rip)));

        Assert.Equal(Convert.FromHexString($"90{terminator}"), file.Case.Code.Bytes.AsEnumerable());
    }

    [Fact]
    public void TheLaterRevisionHasOneEntryForTheSupervisorAndMarksItsVectors()
    {
        CaseFile file = Only(PvmRecordText.Line612(
            ("observed.port", "12"), ("observed.rip", "30202"), ("observed.pvcs.vec", "10e"), ("observed.pvcs.err", "2"), ("observed.pvcs.cr2", "600008")));
        Event e = Assert.Single(file.Outcomes[0].Outcome.Events);

        Assert.Equal(("pvm-612-amd-s-nop", Abi.Pvm612), (file.Id, file.Case.Abi));
        Assert.Equal((EventKind.Fault, (byte)14, (uint?)2, (ulong?)0x60_0008, EntryPoint.PvmSupervisor), (e.Kind, e.Vector, e.ErrorCode, e.Cr2, e.Entry));
        Assert.Equal(128, e.Frame.Length);
        Assert.False(file.Case.System.TryGet(SystemRegister.PvmSupervisorRsp, out _));
        Assert.False(file.Outcomes[0].Outcome.System.TryGet(SystemRegister.PvcsRsp, out _));

        Event nmi = Assert.Single(Only(PvmRecordText.Line612(("observed.port", "10"), ("observed.rip", "30002"), ("observed.pvcs.vec", "200"))).Outcomes[0].Outcome.Events);
        Assert.Equal((EventKind.Interrupt, (byte)2), (nmi.Kind, nmi.Vector));
    }

    [Fact]
    public void DeathAndHaltAreEnds()
    {
        Outcome halt = Only(PvmRecordText.Line(("observed.exit", "HLT"), ("observed.port", null), ("observed.reason", 5), ("observed.rip", "10001"))).Outcomes[0].Outcome;
        Outcome death = Only(PvmRecordText.Line(("observed.exit", "SHUTDOWN"), ("observed.port", null), ("observed.stk", null))).Outcomes[0].Outcome;
        Outcome given = Only(PvmRecordText.Line(("observed.exit", "INTERNAL"), ("observed.port", null), ("observed.suberr", 1))).Outcomes[0].Outcome;

        Assert.Equal((EndKind.Halt, 0x1_0001UL), (halt.End, halt.Registers!.Rip));
        Assert.Equal((EndKind.Crash, null, "triple fault"), (death.End, death.Registers, death.Detail));
        Assert.Equal((EndKind.Crash, "the hypervisor gave the virtual CPU up: internal error 1"), (given.End, given.Detail));
    }

    [Fact]
    public void ChangedMemoryIsWordsAndACautionIsACommentThatStays()
    {
        CaseFile file = Only(PvmRecordText.Line(("caution", "no UMIP"), ("observed.mem401000", "7f000010000000feffff"), ("observed.mem11000", "11111111111111112222222222222223")));

        Assert.Equal([new(0x1_1008, 0x2322_2222_2222_2222), new(0x40_1000, 0xfe00_0000_1000_007f), new(0x40_1008, 0xffff)], file.Outcomes[0].Outcome.Memory.AsEnumerable());
        Assert.EndsWith("\nCaution: no UMIP.", file.Comment, StringComparison.Ordinal);
    }

    /// <summary>What instructions read of the host is stated in the case, so that models need not guess.</summary>
    [Fact]
    public void ReadingsOfTheHostComeWithTheCode()
    {
        TestCase time = Only(PvmRecordText.Line(("bytes_hex", "0f01f9"), ("observed.rip", "10005"), ("observed.rax", "89abcdef"), ("observed.rdx", "1"), ("observed.rcx", "2"))).Case;
        TestCase table = Only(PvmRecordText.Line(("bytes_hex", "0f010c2500100100"), ("observed.rip", "1000a"))).Case;
        TestCase leaf = Only(PvmRecordText.Line(("bytes_hex", "b80700000031c90fa2"), ("observed.rip", "1000b"))).Case;

        Assert.Equal((0x1_89ab_cdefUL, 2UL), (time.Profile!.Readings[Reading.TimeStamp], time.Profile.Readings[Reading.ProcessorNumber]));
        Assert.Equal(0xfffUL, table.Profile!.Readings[Reading.IdtLimit]);
        Assert.Equal([new CpuidLeaf(7, null, 0xa1, 0xb1, 0xc1, 0xd1)], leaf.Profile!.Cpuid.AsEnumerable());
        Assert.Empty(Only(PvmRecordText.Line()).Case.Profile!.Readings);
    }

    [Fact]
    public void RecordsThatLackTheirStateAreLeftOutAndCounted()
    {
        string file = _terminal.Write("records.jsonl", string.Join('\n', PvmRecordText.Line(), PvmRecordText.Line(("id", "u_nmi_inj")), PvmRecordText.Line(("id", "s_erets_plain"), ("mode", "S/ERETS"))));
        Imported import = PvmImport.Of(file);

        Assert.Equal(["pvm-rfc1-amd-s-nop"], import.Files.Select(f => f.Id));
        Assert.Equal(2, import.LeftOut.Count);
        Assert.Equal(["pvm-rfc1-amd-u-nmi-inj"], import.LeftOut["an interrupt or NMI from outside that only the name tells of"].AsEnumerable());
    }

    /// <summary>Every complaint names file and line, and says what would be right.</summary>
    [Theory]
    [InlineData("impl", "xen", "impl 'xen' is not known; it is rfc-port or pvm-612")]
    [InlineData("cpu", "tcg", "cpu 'tcg' is not known; it is tcg-amd or tcg-intel")]
    [InlineData("mode", "X", "mode 'X' is not known; it is S, U, C, S/ERETU or S/ERETS")]
    [InlineData("bytes_hex", "9", "bytes_hex '9' are no bytes; two hexadecimal digits a byte are expected")]
    [InlineData("initial.pvcs_hex", "00", "initial.pvcs_hex has 1 bytes; the structure has 128")]
    [InlineData("initial.rsp", "0x1", "initial.rsp '0x1' is no number; up to sixteen hexadecimal digits are expected")]
    [InlineData("initial.rbx", "1", "initial.rbx is not a field that the importer knows; teach it what the field means, or that it is of no use")]
    [InlineData("observed.exit", "EINTR", "observed.exit 'EINTR' is not known; it is IO, HLT, SHUTDOWN or INTERNAL")]
    [InlineData("observed.pvcs.rip", null, "observed.pvcs.rip is missing; every record has it")]
    [InlineData("observed.xmm0", "1", "observed.xmm0 is not a field that the importer knows; teach it what the field means, or that it is of no use")]
    [InlineData("observed.cs", "33", "observed.cs = 33, ss = 18 in supervisor mode; MSR_STAR makes them 10 and 18")]
    [InlineData("observed.rip", "10004", "s_nop: the terminator answered at 10002; it lies at 10001")]
    [InlineData("observed.port", "14", "s_nop: port 14 belongs to no landing pad; they have 10 to 13, and the terminator 20")]
    [InlineData("observed.port", "11", "s_nop: port 11 answered at 10001; its landing pad lies at 30100")]
    public void ABadRecordIsRefusedWithItsLine(string field, string? value, string complaint)
    {
        string file = _terminal.Write("records.jsonl", $"{PvmRecordText.Line(("id", "s_other"))}\n{PvmRecordText.Line((field, (JsonNode?)value))}\n");
        CaseFileException trouble = Assert.Throws<CaseFileException>(() => PvmImport.Of(file));

        Assert.Equal($"{file}:2: {complaint}", trouble.Message);
    }

    [Theory]
    [InlineData("[1]", "is Array; an object is expected")]
    [InlineData("{", "not JSON")]
    [InlineData("""{"id":"a","id":"b"}""", "id is given twice; give it once")]
    public void ALineThatIsNoRecordIsRefused(string line, string complaint)
    {
        string file = _terminal.Write("records.jsonl", line);

        Assert.StartsWith($"{file}:1: ", Assert.Throws<CaseFileException>(() => PvmImport.Of(file)).Message, StringComparison.Ordinal);
        Assert.Contains(complaint, Assert.Throws<CaseFileException>(() => PvmImport.Of(file)).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ARecordThatComesTwiceIsRefused()
    {
        string file = _terminal.Write("records.jsonl", $"{PvmRecordText.Line()}\n{PvmRecordText.Line()}\n");

        Assert.Contains(":2: s_nop: pvm-rfc1-amd-s-nop was read before;", Assert.Throws<CaseFileException>(() => PvmImport.Of(file)).Message, StringComparison.Ordinal);
    }

    private CaseFile Only(string line) => Assert.Single(PvmImport.Of(_terminal.Write("records.jsonl", line)).Files);
}
