using System.Text;
using PvDiffFuzz.Core;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Harness.Tests;

public sealed class KnownTests
{
    private const string Icebp =
        """
        # Saved RIP of ICEBP under a hypervisor that injects #DB again.
        id       icebp
        kind     host
        clause   SDM vol.2A INT1
        reason   injected again
        targets  native [icebp=at]
        forms    Int1
        vectors  1
        fields   event.rip
        where    this.event.rip = other.event.rip - length
        """;

    private static readonly TestCase Case = Cases.Of("f1");

    [Fact]
    public void AnEntryMatchesWhatItDescribes()
    {
        Assert.True(Entry().Matches(Seen()));
        Assert.Equal(new Verdict(VerdictKind.Known, "icebp"), Entry().Verdict);
        Assert.Equal(VerdictKind.SpecAmbiguity, Entry(Icebp.Replace("host", "specification", StringComparison.Ordinal)).Verdict.Kind);
    }

    /// <summary>Each way in which a divergence can be another one.</summary>
    [Fact]
    public void NothingElseMatches()
    {
        RegisterState r = At(0).Registers!;
        List<string> matched = [];
        Try("other facts", Seen(facts: "after"));
        Try("other target", Seen(name: "kvm"));
        Try("sides swapped", Seen(swap: true));
        Try("value condition", Seen(one: At(2)));
        Try("form", Seen(testCase: Cases.Of("90")));
        Try("vector in one camp", Seen(one: Fault(13, At(0))));
        Try("end", Seen(one: At(0) with { End = EndKind.Crash }));
        Try("events", Seen(one: At(0) with { Events = [At(0).Events[0], At(0).Events[0]] }));
        Try("memory", Seen(one: At(0) with { Memory = [new MemoryWord(0x410000, 1)] }));
        Try("error", Seen(one: At(0) with { Events = [At(0).Events[0] with { ErrorCode = 0 }] }));
        Try("cr2", Seen(one: At(0) with { Events = [At(0).Events[0] with { Cr2 = 0 }] }));
        Try("kind", Seen(one: At(0) with { Events = [At(0).Events[0] with { Kind = EventKind.Fault }] }));
        Try("entry", Seen(one: At(0) with { Events = [At(0).Events[0] with { Entry = EntryPoint.Lstar }] }));
        for (Register register = Register.Rax; register <= Register.Pkru; register++)
        {
            if (register != Register.Rip)
            {
                RegisterState changed = r.With(register, r[register] ^ 4);
                Try(register.ToString(), Seen(one: At(0) with { Registers = changed, Events = [At(0).Events[0] with { Registers = changed }] }));
            }
        }

        Assert.True(matched.Count == 0, string.Join(", ", matched));

        void Try(string what, Divergence divergence)
        {
            if (Entry().Matches(divergence))
            {
                matched.Add(what);
            }
        }
    }

    [Fact]
    public void ARecordingCountsAsWhatWasRecorded() => Assert.True(Entry().Matches(Seen(name: "recorded:native")));

    /// <summary>A target's name can have a colon, and so can the name of a recording behind it.</summary>
    [Theory]
    [InlineData("xen:4.17", true)]
    [InlineData("recorded:xen:4.17", true)]
    [InlineData("recorded:xen:4.17:host-a", true)]
    [InlineData("recorded:xen:4.20", false)]
    [InlineData("recorded:xen:4.170", false)]
    [InlineData("recorded:xen", false)]
    public void NamesCanHaveColons(string name, bool matches) =>
        Assert.Equal(matches, Entry(Icebp.Replace("native [", "xen:4.17 [", StringComparison.Ordinal)).Matches(Seen(name: name)));

    /// <summary>Of 48 F1, an ICEBP with REX.W, and of 48 66 F1, where the REX prefix counts for nothing.</summary>
    [Theory]
    [InlineData("48 f1", "rex-w", true)]
    [InlineData("66 48 f1", "rex-w operand-size", true)]
    [InlineData("48 66 f1", "void-rex operand-size", true)]
    [InlineData("48 66 f1", "rex-w", false)]
    [InlineData("48 f1", "void-rex", false)]
    [InlineData("4c f1", "rex-r rex-w", true)]
    [InlineData("48 f1", "rex-r", false)]
    [InlineData("f1", "operand-size", false)]
    [InlineData("f3 f1", "repe", true)]
    [InlineData("f3 f1", "repne", false)]
    [InlineData("f2 66 f1", "repne operand-size", true)]
    [InlineData("64 3e f1", "void-segment", true)]
    [InlineData("3e 64 f1", "void-segment", false)]
    [InlineData("65 f1", "void-segment", false)]
    public void AnEntryCanAskForPrefixes(string code, string encoding, bool matches) =>
        Assert.Equal(matches, Entry(Icebp.Replace("where    this.event.rip = other.event.rip - length", "encoding " + encoding, StringComparison.Ordinal)).Matches(Seen(testCase: Cases.Of(code))));

    /// <summary>STC, NOP, ICEBP with REX.W: what ran before, the NOP left out, and all that ran.</summary>
    [Theory]
    [InlineData("after Stc", true)]
    [InlineData("after Nopd", false)]
    [InlineData("executed Stc", true)]
    [InlineData("executed Clc Int1", true)]
    [InlineData("executed Int1+rex-w", true)]
    [InlineData("executed Stc+rex-w", false)]
    [InlineData("executed Int1+rex-r", false)]
    [InlineData("executed Clc void-rex", false)]
    [InlineData("executed Clc rex-w", true)]
    [InlineData("executed operand-size syscall-rcx", false)]
    [InlineData("executed negative", false)]
    [InlineData("ever Stc", true)]
    [InlineData("ever Clc negative", false)]
    [InlineData("after rex-w", false)]
    public void AnEntryCanAskForWhatRanBefore(string line, bool matches) =>
        Assert.Equal(matches, Entry(Icebp.Replace("where    this.event.rip = other.event.rip - length", line, StringComparison.Ordinal)).Matches(Seen(testCase: Cases.Of("f9", "90", "48 f1"))));

    /// <summary>Immediates whose top bit is set, whatever their width: RET, PUSH, ADD and IMUL with a byte that is extended, MOV of eight bytes; the second one of ENTER is a count.</summary>
    [Theory]
    [InlineData("c2 00 80", true)]
    [InlineData("c2 ff 7f", false)]
    [InlineData("6a 80", true)]
    [InlineData("48 83 c0 ff", true)]
    [InlineData("48 6b c3 80", true)]
    [InlineData("48 6b c3 7f", false)]
    [InlineData("48 b8 00 00 00 00 00 00 00 80", true)]
    [InlineData("c8 00 80 00", true)]
    [InlineData("c8 00 00 80", false)]
    public void AnEntryCanAskForANegativeImmediate(string code, bool matches) =>
        Assert.Equal(matches, InstructionAt.Decode(Convert.FromHexString(code.Replace(" ", "", StringComparison.Ordinal)), 0x1000, CpuMode.Long64, CpuVendor.Amd).Encoding.HasFlag(Encodings.Negative));

    /// <summary>An IRETD that finds VM among the flags on the stack, and one that finds all others.</summary>
    [Theory]
    [InlineData("cf", 0x20202, true)]
    [InlineData("cf", 0xfffd_ffff, false)]
    [InlineData("48 cf", 0x20202, false)]
    public void AnEntryCanAskForVmAmongTheFlagsOfAReturn(string code, ulong flags, bool matches)
    {
        string text = Asking("executed vm-image");
        TestCase testCase = Cases.Of(code);
        Assert.Equal(matches, Entry(text).Matches(Seen(testCase: testCase with { Registers = testCase.Registers.With(Register.Rax, flags) })));
    }

    /// <summary>RCL and RCR of 8 bits by 9, 18 and, masked, 73, of 16 bits by 17; CL is 18. By 8 and by 32, which is masked to 0, they are none, nor is any of 32 bits.</summary>
    [Theory]
    [InlineData("c0 d0 09", true)]
    [InlineData("c0 d8 12", true)]
    [InlineData("c0 d8 49", true)]
    [InlineData("66 c1 d0 11", true)]
    [InlineData("d2 d0", true)]
    [InlineData("c0 d0 08", false)]
    [InlineData("c0 d0 20", false)]
    [InlineData("66 d3 d0", false)]
    [InlineData("d3 d0", false)]
    [InlineData("c0 c0 09", false)]
    public void AnEntryCanAskForAWholeTurn(string code, bool matches)
    {
        string text = Asking("executed whole-turn");
        TestCase testCase = Cases.Of(code);
        Assert.Equal(matches, Entry(text).Matches(Seen(testCase: testCase with { Registers = testCase.Registers.With(Register.Rcx, 18) })));
    }

    /// <summary>RCL that takes CF of SHL of 8 bits and of SHLD of 16, also with an INC between, which leaves CF; not that of SHL of 64 bits, of SHR, nor with a CLC between; and ADC is no rotation.</summary>
    [Theory]
    [InlineData(true, "c0 e0 07", "d1 d0")]
    [InlineData(true, "66 0f a4 c0 01", "48 d1 d1")]
    [InlineData(true, "c0 e0 07", "48 ff c0", "d1 d8")]
    [InlineData(false, "48 c1 e0 07", "d1 d0")]
    [InlineData(false, "c0 e8 07", "d1 d0")]
    [InlineData(false, "c0 e0 07", "f8", "d1 d0")]
    [InlineData(false, "c0 e0 07", "48 11 d8")]
    public void AnEntryCanAskForTheCarryOfAShift(bool matches, params string[] code)
    {
        string text = Asking("executed shifted-carry");
        Assert.Equal(matches, Entry(text).Matches(Seen(testCase: Cases.Of(code))));
    }

    /// <summary>UD2 raises 6 and the machine that traces says so, whatever the targets answer; ICEBP raises 1, and what stands before it nothing.</summary>
    [Theory]
    [InlineData("0f 0b", "raised 6", true)]
    [InlineData("0f 0b", "raised 13 6", true)]
    [InlineData("0f 0b", "raised none 13", false)]
    [InlineData("90", "raised none", true)]
    [InlineData("90", "raised 6", false)]
    [InlineData("f9 f1", "raised 1", true)]
    [InlineData("f9 f1", "executed Int1+1", true)]
    [InlineData("f9 f1", "executed Int1+none", false)]
    [InlineData("f9 f1", "executed Stc+none", true)]
    [InlineData("f9 f1", "executed Stc+1", false)]
    public void AnEntryCanAskForWhatTheInstructionRaised(string code, string line, bool matches)
    {
        string text = Asking(line);
        Assert.Equal(matches, Entry(text).Matches(Seen(testCase: Cases.Of(code))));
    }

    /// <summary>A #PF of a store to a page that is there: error code 3. #UD has none.</summary>
    [Theory]
    [InlineData("raised.error = 3", true)]
    [InlineData("raised.error & 1 = 1", true)]
    [InlineData("raised.error & 0x10 = 0x10", false)]
    public void ConditionsReadTheErrorCodeThatTheInstructionRaised(string condition, bool holds)
    {
        Divergence seen = Seen();
        KnownEntry entry = Entry(Icebp + "\nwhere " + condition);

        Assert.Equal(holds, entry.Matches(seen with { Instruction = seen.Instruction with { Raised = new RaisedException(14, 3) } }));
        Assert.False(entry.Matches(seen with { Instruction = seen.Instruction with { Raised = new RaisedException(6, null) } }));
        Assert.False(entry.Matches(seen with { Instruction = seen.Instruction with { Raised = null } }));
    }

    /// <summary>RCX before the instruction: 7, as the case begins with it.</summary>
    [Theory]
    [InlineData("rcx = 7", true)]
    [InlineData("rcx & 0xff != 7", false)]
    public void ConditionsReadRcxBeforeTheInstruction(string condition, bool holds)
    {
        Divergence seen = Seen(testCase: Case with { Registers = Case.Registers.With(Register.Rcx, 7) });
        KnownEntry entry = Entry(Icebp + "\nwhere " + condition);

        Assert.Equal(holds, entry.Matches(seen));
        Assert.False(entry.Matches(seen with { Instruction = seen.Instruction with { Rcx = null } }));
    }

    /// <summary>Where nobody traces, nobody knows that an instruction raised nothing.</summary>
    [Fact]
    public void WithoutATraceNothingIsSaidOfWhatWasRaised()
    {
        Divergence traced = Seen(testCase: Cases.Of("90"));
        KnownEntry entry = Entry(Icebp.Replace("where    this.event.rip = other.event.rip - length", "raised none", StringComparison.Ordinal).Replace("Int1", "any", StringComparison.Ordinal));

        Assert.True(entry.Matches(traced));
        Assert.False(entry.Matches(traced with { Instruction = InstructionAt.Decode([0x90], 0, CpuMode.Long64, CpuVendor.Amd) }));
    }

    /// <summary>One side has written 4 to a word, and 100h to another.</summary>
    [Theory]
    [InlineData("memory = 0x104", true)]
    [InlineData("memory & 0xfffffffffffffefb = 0", true)]
    [InlineData("memory = 4", false)]
    [InlineData("memory = 0", false)]
    public void ConditionsReadTheBitsInWhichMemoryDiffers(string condition, bool holds)
    {
        Divergence divergence = Seen(one: At(0) with { Memory = [new MemoryWord(0x410000, 4), new MemoryWord(0x410008, 0x100)] });

        Assert.Equal(holds, Entry(Icebp.Replace("event.rip\n", "event.rip memory\n", StringComparison.Ordinal) + "\nwhere " + condition).Matches(divergence));
    }

    /// <summary>ICEBP of 64-bit code, and of 32-bit code.</summary>
    [Theory]
    [InlineData(CpuMode.Compatibility32, true)]
    [InlineData(CpuMode.Long64, false)]
    public void AnEntryCanAskForCompatibilityMode(CpuMode mode, bool matches)
    {
        Divergence seen = Seen() with { Instruction = InstructionAt.Decode([0xf1], Case.Code.Address, mode, CpuVendor.Amd) };

        Assert.Equal(matches, Entry(Icebp + "\nencoding compatibility").Matches(seen));
    }

    /// <summary>MOV with an operand in memory or without, through GS, and MOVSB, whose operands its encoding does not name. PUSH has none, whatever it stores.</summary>
    [Theory]
    [InlineData("48 8b 00", "memory", true)]
    [InlineData("65 48 8b 00", "gs memory", true)]
    [InlineData("a4", "memory", true)]
    [InlineData("f0 48 ff 00", "lock memory", true)]
    [InlineData("48 ff 00", "lock memory", false)]
    [InlineData("64 48 8b 00", "fs", true)]
    [InlineData("64 48 8b 00", "gs memory", false)]
    [InlineData("48 8b 00", "gs memory", false)]
    [InlineData("48 8b c0", "memory", false)]
    [InlineData("50", "memory", false)]
    public void AnEntryCanAskForMemory(string code, string encoding, bool matches)
    {
        string text = Icebp.Replace("where    this.event.rip = other.event.rip - length", "encoding " + encoding, StringComparison.Ordinal).Replace("Int1", "any", StringComparison.Ordinal);
        Assert.Equal(matches, Entry(text).Matches(Seen(testCase: Cases.Of(code))));
    }

    [Fact]
    public void ACampThatMixesSidesIsNotTheOneDescribed()
    {
        Divergence seen = Seen();
        Divergence mixed = seen with
        {
            Outcomes = [seen.Outcomes[0], seen.Outcomes[1], seen.Outcomes[0]],
            Targets = [seen.Targets[0], seen.Targets[1], Cases.Info("third")],
            Comparison = seen.Comparison with { Camps = [new Camp([0, 2]), new Camp([1])] },
        };

        Assert.False(Entry().Matches(mixed));
        Assert.True(Entry(Icebp.Replace("native [icebp=at]", "*", StringComparison.Ordinal).Replace("where ", "#", StringComparison.Ordinal)).Matches(mixed));
    }

    [Theory]
    [InlineData("event.rip gpr", "gpr.rax", true)]
    [InlineData("event.rip gpr.rax", "gpr.rax", true)]
    [InlineData("event.rip gpr.rcx", "gpr.rax", false)]
    [InlineData("event.rip event.rflags", "event.rflags.CF", true)]
    [InlineData("event.rip event.rflags.ZF", "event.rflags.CF", false)]
    public void GroupsOfFieldsCoverTheirMembers(string fields, string differing, bool covered)
    {
        RegisterState r = At(0).Registers!;
        RegisterState changed = differing == "gpr.rax" ? r.With(Register.Rax, 9) : r with { Rflags = r.Rflags ^ 1 };
        Divergence divergence = Seen(one: At(0) with { Registers = changed, Events = [At(0).Events[0] with { Registers = changed }] });

        Assert.Contains(divergence.Comparison.Differences, d => d.Field.Unindexed == differing);
        Assert.Equal(covered, Entry(Icebp.Replace("event.rip\n", fields + "\n", StringComparison.Ordinal)).Matches(divergence));
    }

    [Theory]
    [InlineData("this.event.rip = address", true)]
    [InlineData("this.event.rip != address", false)]
    [InlineData("other.event.rip = address + length", true)]
    [InlineData("other.event.rip - this.event.rip = 1", true)]
    [InlineData("other.event.rip & 0xff = 0", true)]
    [InlineData("this.event.vector = 1", true)]
    [InlineData("this.event.error = 0", false)] // #DB has no error code.
    [InlineData("this.event.rflags & 0x200 = 512", true)]
    [InlineData("this.gpr.rsp = other.gpr.rsp", true)]
    public void ConditionsReadValues(string condition, bool holds) =>
        Assert.Equal(holds, Entry(Icebp + "\nwhere " + condition).Matches(Seen()));

    [Theory]
    [InlineData("id       icebp", "", 10, "no 'id'")]
    [InlineData("kind     host", "kind mistake", 3, "implementation, specification or host")]
    [InlineData("id       icebp", "id Big", 2, "lower-case")]
    [InlineData("reason ", "because ", 5, "unknown key 'because'")]
    [InlineData("reason   injected again", "reason", 5, "no value")]
    [InlineData("reason   injected again", "id twice", 5, "line 2")]
    [InlineData("Int1", "Int1 Bogus", 7, "'Bogus' is neither")]
    [InlineData("vectors  1", "vectors 256", 8, "'256' is no vector")]
    [InlineData("event.rip\n", "any\n", 9, "'any' is no field")]
    [InlineData("event.rip\n", "event.rax\n", 9, "'event.rax' is no field")]
    [InlineData("[icebp=at]", "[icebp=at", 6, "target pattern")]
    [InlineData("[icebp=at]", "[icebp]", 6, "target pattern")]
    [InlineData("native [", "na*tive [", 6, "target pattern")]
    [InlineData("- length", "* length", 10, "'*' is no operator")]
    [InlineData("- length", "- width", 10, "'width' is no term")]
    [InlineData("rip = other", "rip == other", 10, "one '='")]
    [InlineData("other.event.rip", "other.event.rpi", 10, "'other.event.rpi' is no term")]
    [InlineData("# Saved", "Saved", 1, "first line is a comment")]
    [InlineData("again\n", "again\r\n", 5, "control character")]
    [InlineData("vectors  1", "vectors  1\nraised 256", 9, "'256' is no vector")]
    [InlineData("vectors  1", "vectors  1\nraised nothing", 9, "'nothing' is no vector")]
    [InlineData("vectors  1", "vectors  1\nexecuted Int1+256", 9, "'Int1+256' is neither")]
    [InlineData("- length", "- raised.vector", 10, "'raised.vector' is no term")]
    [InlineData("vectors  1", "vectors  1\nexecuted Int1+rexw", 9, "'Int1+rexw' is neither")]
    public void MistakesAreNamedWithFileAndLine(string right, string wrong, int line, string message)
    {
        string text = Icebp.Replace(right, wrong, StringComparison.Ordinal);
        Assert.NotEqual(Icebp, text);

        KnownFileException problem = Assert.Throws<KnownFileException>(() => Entry(text));

        Assert.StartsWith($"x.known:{line}: ", problem.Message, StringComparison.Ordinal);
        Assert.Contains(message, problem.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void DamagedFilesGiveEntriesOrErrorsAndNothingElse()
    {
        byte[] text = Encoding.UTF8.GetBytes(Icebp);
        int refused = 0;
        for (int i = 0; i < 20_000; i++)
        {
            byte[] damaged = [.. text];
            uint random = (uint)i * 2654435761;
            for (int change = 0; change <= i % 3; change++, random = (random * 1664525) + 1013904223)
            {
                damaged[(random >> 8) % (uint)damaged.Length] = (byte)random;
            }

            try
            {
                KnownReader.Parse(damaged.AsSpan(0, (int)(random % (uint)(damaged.Length + 1))), "x");
            }
            catch (KnownFileException)
            {
                refused++;
            }
        }

        Assert.InRange(refused, 15_000, 20_000);
    }

    [Fact]
    public void TheStoredEntriesCanBeRead()
    {
        KnownSet stored = KnownReader.ReadFolder(Checkout.PathOf("corpus", "known"));

        Assert.True(stored.Entries.Single(e => e.Id == "icebp-rip-native").Matches(Seen()));
    }

    [Fact]
    public void TwoFilesWithOneIdAreRefused()
    {
        string folder = Directory.CreateTempSubdirectory("pvdf-known").FullName;
        File.WriteAllText(Path.Combine(folder, "a.known"), Icebp);
        File.WriteAllText(Path.Combine(folder, "b.known"), Icebp);

        Assert.Contains("a.known", Assert.Throws<KnownFileException>(() => KnownReader.ReadFolder(folder)).Message, StringComparison.Ordinal);
        Directory.Delete(folder, recursive: true);
    }

    private static KnownEntry Entry(string text = Icebp) => KnownReader.Parse(Encoding.UTF8.GetBytes(text), "x.known");

    private static Outcome At(ulong offset) => Fault(1, Cases.Fault(1, Case.Code.Address + offset, 0x202, null));

    private static Outcome Fault(byte vector, Outcome like) => like with { Events = [like.Events[0] with { Vector = vector }] };

    /// <summary>An entry of any form that asks for something in place of a condition.</summary>
    private static string Asking(string line) =>
        Icebp.Replace("where    this.event.rip = other.event.rip - length", line, StringComparison.Ordinal).Replace("forms    Int1", "forms any", StringComparison.Ordinal);

    private static Divergence Seen(Outcome? one = null, string name = "native", string facts = "at", bool swap = false, TestCase? testCase = null)
    {
        TargetInfo native = Cases.Info(name, "hardware") with { Fingerprint = new Fingerprint([new("cpu", "x"), new("icebp", facts)]) };
        Outcome at = one ?? At(0);
        Outcome after = At(1);
        FakeTarget left = new(native, _ => swap ? after : at);
        FakeTarget right = new("model.x86", _ => swap ? at : after);
        using CaseRunner runner = new([left, right], new CaseAnalyst(new FakeMachine(), null, CpuVendor.Amd));
        return Fakes.Divergence(runner, testCase ?? Case);
    }
}
