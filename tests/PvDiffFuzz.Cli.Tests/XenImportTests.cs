using System.Text.Json.Nodes;
using PvDiffFuzz.Cli.Import;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Tests;

/// <summary>Records of PV guests of Xen become cases: inputs and outcomes are what a person reads in the record.</summary>
public sealed class XenImportTests : IDisposable
{
    private readonly Terminal _terminal = new();

    /// <inheritdoc/>
    public void Dispose() => _terminal.Dispose();

    [Fact]
    public void AKernelIsSimplyThereAndItsTerminatorIsTheLastInstruction()
    {
        CaseFile file = Only(XenRecordText.Line());
        TestCase testCase = file.Case;
        Event e = Assert.Single(file.Outcomes[0].Outcome.Events);

        Assert.Equal("xen-4.17-amd-kernel-int3", file.Id);
        Assert.Equal((Abi.XenPv64, GuestMode.Supervisor, null), (testCase.Abi, testCase.Start, testCase.Xen!.IretFlags));
        Assert.Equal(new XenVersion(4, 17, 7), testCase.Xen.Version);
        Assert.Equal([0x90, 0xcc], testCase.Code.Bytes.AsEnumerable());
        Assert.Equal([1, 1], testCase.Code.Lengths.AsEnumerable());
        Assert.Equal((XenMap.FlatCode64, XenMap.FlatData, 0x202UL), (testCase.Registers.Cs, testCase.Registers.Ss, testCase.Registers.Rflags));
        Assert.Equal((1UL, 0UL, 0xffff_ffff_801b_bfc0UL), (testCase.System[SystemRegister.XenUpcallMask], testCase.System[SystemRegister.XenUpcallPending], testCase.System[SystemRegister.XenKernelSp]));
        Assert.Equal(0xffff_ffff_8010_2800UL, testCase.Xen.Traps[0x80].Address);
        Assert.Equal(0xffff_ffff_8010_3040UL, testCase.Xen.CallbackOf(XenCallbackKind.Syscall32)!.Value.Address);
        Assert.Equal(CpuVendor.Amd, testCase.Profile!.Vendor);

        Assert.Equal((EventKind.Trap, (byte)3, (uint?)null, EntryPoint.XenTrap), (e.Kind, e.Vector, e.ErrorCode, e.Entry));
        Assert.Equal((0xffff_ffff_8010_2030UL, 0x202UL, XenMap.FlatCode64, XenMap.FlatData), (e.Registers.Rip, e.Registers.Rflags, e.Registers.Cs, e.Registers.Ss));
        Assert.Equal(56, e.Frame.Length);
        Assert.Equal([0x30, 0xe0, 0, 0, 1], e.Frame[24..29].AsEnumerable());
        Assert.Equal([new MemoryRange(0xffff_ffff_801b_df88, 56)], file.Outcomes[0].Outcome.Seen.AsEnumerable());
        Assert.Equal(1UL, file.Outcomes[0].Outcome.System[SystemRegister.XenUpcallMask]);
        Assert.Equal(("xen:4.17", TargetKind.Hypervisor, "tcg"), (file.Outcomes[0].Target, file.Outcomes[0].Kind, file.Outcomes[0].Lineage));
        Assert.Equal("impl=4.17-amd; version=4.17.7; cpu=qemu64; qemu=10.0.2 tcg", file.Outcomes[0].Fingerprint.ToString());
    }

    /// <summary>The frame is eight words when RSP is a multiple of 16; the error code is the third.</summary>
    [Fact]
    public void AnErrorCodeIsInTheFrame()
    {
        CaseFile file = Only(XenRecordText.Line(
            ("mode", "user"), ("initial.cs", "e033"), ("initial.rip", "400000"), ("initial.code_at", "400000"), ("initial.rflags", "2"), ("cpu", "Skylake-Client"), ("initial.iret_flags", "100"),
            ("observed.vector", 14), ("observed.registers.rsp", "ffffffff801bbf80"), ("observed.registers.rcx", "ffffffff801020e0"), ("observed.vcpu_cr2", "1234"),
            ("observed.stack_words_from_rsp", XenRecordText.Words("c", "11", "6", "400000", "10000e033", "10002", "405fc0", "e02b"))));
        Event e = Assert.Single(file.Outcomes[0].Outcome.Events);

        Assert.Equal("xen-4.17-intel-user-int3", file.Id);
        Assert.Equal((GuestMode.User, (ulong?)0x100, XenMap.FlatCode64), (file.Case.Start, file.Case.Xen!.IretFlags, file.Case.Registers.Cs));
        Assert.False(file.Case.System.TryGet(SystemRegister.XenUpcallMask, out _));
        Assert.Equal((EventKind.Fault, (byte)14, (uint?)6, (ulong?)0x1234), (e.Kind, e.Vector, e.ErrorCode, e.Cr2));
        Assert.Equal(64, e.Frame.Length);
        Assert.Equal(CpuVendor.Intel, file.Case.Profile!.Vendor);
    }

    /// <summary>INT n delivers vectors of exceptions without their error codes, as traps; callbacks have kinds of their own.</summary>
    [Theory]
    [InlineData("vector", 8, "ffffffff80102080", EventKind.Trap, EntryPoint.XenTrap)]
    [InlineData("vector", 6, "ffffffff80102060", EventKind.Fault, EntryPoint.XenTrap)]
    [InlineData("syscall", null, "ffffffff80103020", EventKind.SystemCall, EntryPoint.XenSyscall)]
    [InlineData("event", null, "ffffffff80103000", EventKind.Upcall, EntryPoint.XenEvent)]
    public void EntriesHaveTheirKinds(string entry, int? vector, string handler, EventKind kind, EntryPoint door)
    {
        Event e = Assert.Single(Only(XenRecordText.Line(("observed.entry", entry), ("observed.vector", vector), ("observed.registers.rcx", handler))).Outcomes[0].Outcome.Events);

        Assert.Equal((kind, door, (byte)(vector ?? 0)), (e.Kind, e.Entry, e.Vector));
    }

    [Fact]
    public void TablesCallsAndACrashAreTaken()
    {
        JsonArray traps = [new JsonObject { ["vector"] = 64, ["flags"] = 7, ["present"] = true }, new JsonObject { ["vector"] = 6, ["flags"] = 0, ["present"] = false }];
        JsonArray calls = [new JsonObject { ["number"] = 33, ["args"] = XenRecordText.Words("6", "ffffffff801be000") }];
        JsonArray memory = [new JsonObject { ["at"] = "ffffffff801be000", ["bytes"] = "03000000" }];
        CaseFile file = Only(XenRecordText.Line(
            ("initial.trap_overrides", traps), ("initial.hypercalls_before", calls), ("initial.memory", memory), ("observed.hypercall_results", XenRecordText.Words("0"))));
        Outcome death = Only(XenRecordText.Line(("observed", new JsonObject { ["end"] = "domain-crash", ["console"] = new JsonArray("(XEN) crashed") }))).Outcomes[0].Outcome;

        Assert.Equal((7, 0UL), (file.Case.Xen!.Traps[64].Flags, file.Case.Xen.Traps[6].Address));
        Assert.Equal(3UL, file.Case.System[SystemRegister.XenIopl]);
        Assert.Equal([3, 0, 0, 0], file.Case.Contents[0].Bytes.AsEnumerable());
        Assert.Equal((EndKind.Crash, null, 0), (death.End, death.Registers, death.Events.Length));
    }

    /// <summary>Selectors and the fault address stay from record to record, until a crash starts another guest.</summary>
    [Fact]
    public void WhatTheRecordBeforeLeftIsTheStart()
    {
        string file = _terminal.Write(
            "records.jsonl",
            string.Join('\n',
                XenRecordText.Line(("name", "first"), ("observed.data_selectors", "e02b00000000"), ("observed.vcpu_cr2", "77")),
                XenRecordText.Line(("name", "second"), ("observed", new JsonObject { ["end"] = "domain-crash", ["console"] = new JsonArray() })),
                XenRecordText.Line(("name", "third"))));
        CaseFile[] files = [.. XenImport.Of(file).Files];

        Assert.Equal([0, 0xe02b, 0], files.Select(f => (int)f.Case.Registers.Fs));
        Assert.Equal([0UL, 0x77, 0], files.Select(f => f.Case.System[SystemRegister.Cr2]));
    }

    /// <summary>What forced emulation shows of the host's CPUID is in the case; a leaf of Xen's own is the ABI's.</summary>
    [Fact]
    public void ForcedEmulationIsOneInstruction()
    {
        CaseFile host = Only(XenRecordText.Line(("code", "0f0b78656e0fa2"), ("initial.registers.rax", "1"), ("observed.registers.rax", "60fb1")));
        CaseFile xen = Only(XenRecordText.Line(("code", "0f0b78656e0fa2"), ("initial.registers.rax", "40000000")));

        Assert.Equal([7, 1], host.Case.Code.Lengths.AsEnumerable());
        Assert.Equal([new CpuidLeaf(1, null, 0x60fb1, 0xb, 0xc, 0xd)], host.Case.Profile!.Cpuid.AsEnumerable());
        Assert.Empty(xen.Case.Profile!.Cpuid);
    }

    [Theory]
    [InlineData("mode", "hypervisor", "mode 'hypervisor' is not known; it is kernel, kernel-via-iret or user")]
    [InlineData("xen", "4.17", "xen '4.17' is no release")]
    [InlineData("cpu", "max", "cpu 'max' is not known")]
    [InlineData("handlers", "none", "handlers 'none' is not known")]
    [InlineData("terminator", "0f0b", "terminator is 0f0b; records end with INT3")]
    [InlineData("extra", "1", "extra is not a field that the importer knows")]
    [InlineData("initial.cs", "1e033", "initial.cs = 1e033; a selector has 16 bits")]
    [InlineData("observed.end", "no-answer", "observed.end 'no-answer' is not known")]
    [InlineData("observed.entry", "door", "observed.entry 'door' is not known")]
    [InlineData("observed.registers.rcx", "1", "xen.trap 03 with RCX 1; its handler lies at ffffffff80102030")]
    public void BadRecordsAreRefused(string path, string value, string complaint)
    {
        string file = _terminal.Write("records.jsonl", XenRecordText.Line((path, value)));

        CaseFileException trouble = Assert.Throws<CaseFileException>(() => XenImport.Of(file));
        Assert.StartsWith($"{file}:1: ", trouble.Message, StringComparison.Ordinal);
        Assert.Contains(complaint, trouble.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void WhatACaseCannotStateIsLeftOutAndTheRestIsWrittenOnce()
    {
        string file = _terminal.Write("records.jsonl", $"{XenRecordText.Line()}\n{XenRecordText.Line(("name", "exec Xen"))}");
        Printed printed = _terminal.Run("import", "xen-observed", file, "--out", _terminal.Path("cases"));

        Assert.Equal((int)ExitCode.Ok, printed.Exit);
        Assert.Contains("left out    1  memory of Xen's own range", printed.Out, StringComparison.Ordinal);
        Assert.Contains("2 records: 1 imported, 1 left out", printed.Out, StringComparison.Ordinal);
        Assert.True(File.Exists(Path.Combine(_terminal.Path("cases"), "4.17-amd", "xen-4.17-amd-kernel-int3.case")));
        Assert.Throws<CaseFileException>(() => XenImport.Of(_terminal.Write("twice.jsonl", $"{XenRecordText.Line()}\n{XenRecordText.Line()}")));
    }

    private CaseFile Only(string line) => Assert.Single(XenImport.Of(_terminal.Write("records.jsonl", line)).Files);
}
