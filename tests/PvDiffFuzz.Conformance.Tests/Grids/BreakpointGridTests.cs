using System.Collections.Immutable;
using System.Globalization;
using PvDiffFuzz.Backends.Native;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Models.X86;
using Xunit.Abstractions;
using static PvDiffFuzz.Conformance.Tests.Payload;

namespace PvDiffFuzz.Conformance.Tests.Grids;

/// <summary>The model against the processor with one breakpoint at a time: on every byte of a code, and around everything that it touches; alone, single-stepped and entered with RF.</summary>
/// <remarks>Each case is answered four times, so that it goes on behind the events, with RF set where there is an instruction breakpoint; ICEBP is not, where a host shows its own address. RDI points at the selector 2b, RSP at a frame that RET, RETF and IRET can use.</remarks>
public sealed class BreakpointGridTests(GridRunner runner, ITestOutputHelper output) : IClassFixture<GridRunner>
{
    private const ulong LowData = AddressMap.LowBlock + AddressMap.Data + 0x40;
    private const ulong LowEnd = AddressMap.LowBlock + AddressMap.CodeEnd;
    private const ulong LowStack = AddressMap.LowBlock + AddressMap.Stack + 0x1000;

    private static readonly ImmutableArray<Response> GoOn = [Patch(), Patch(), Patch(), Patch()];

    private static readonly ImmutableArray<Response> GoOnBehind = [Resume(0), Resume(0), Resume(RflagsBits.TF), Resume(0)];

    private static readonly ImmutableArray<ulong> EntryFlags = [0, RflagsBits.TF, RflagsBits.RF, RflagsBits.TF | RflagsBits.RF];

    /// <summary>Codes for both modes.</summary>
    private static readonly ImmutableArray<string> Both =
    [
        "90 90", "66 90 90", "2e 66 90 90", "89 07 90", "8b 07 90", "88 07 90", "66 89 07 90", "01 07 90", "39 07 90", "85 07 90", "87 07 90", "f0 0f b1 0f 90", "0f b1 07 90",
        "0f c7 0f 90", "0f c1 07 90", "0f a3 1f 90", "0f ab 1f 90", "d3 27 90", "c1 27 00 90", "c1 27 01 90", "0f a4 07 00 90", "50 90", "58 90", "ff 37 90", "8f 07 90", "66 50 90",
        "e8 00 00 00 00 90", "c3 90", "c2 08 00 90", "c8 10 00 00 90", "c8 10 00 03 90", "c9 90", "9c 90", "9d 90 90", "8d 07 90", "0f 1f 07 90", "0f 18 0f 90",
        "0f ae 3f 90", "8e 17 90 90", "8e d0 90 90", "8e d0 cc 90", "8e 17 cc 90", "8e 17 cd 04 90", "8e 17 cd 05 90", "8e 17 0f 0b 90", "8e 17 8e 17 90 90",
        "8e 17 89 07 90", "8e d0 89 07 90", "8e d0 8b 07 90", "8e 17 9d 90", "8e 17 f4 90", "8e 17 f3 a4 90", "8e d0 f3 a4 90", "8e 17 eb 00 90", "8e d0 8e d0 90 90", "8e 1f 90",
        "cc 90", "cd 04 90", "cd 20 90", "f1 90", "0f 0b 90", "f4 90", "ec 90", "e6 00 90", "6c 90", "6e 90", "f3 6c 90", "a4 90", "a5 90", "aa 90", "ac 90", "a6 90", "ae 90",
        "f3 a4 90", "f3 a5 90", "f3 aa 90", "f3 ab 90", "f3 ac 90", "f3 a6 90", "f2 ae 90", "f2 a4 90", "fd f3 a4 90", "fd f3 ab 90", "31 c9 f3 a4 90", "31 c9 d3 27 90",
        "0f 44 07 90", "0f 45 07 90", "0f 90 07 90", "f7 27 90", "f7 37 90", "f7 17 90", "ff 07 90", "ff 27", "ff 17", "ff 2f", "e2 fe 90", "d7 90", "0f 00 27 90", "0f 02 07 90",
        "0f 38 f0 07 90", "0f 38 f1 07 90", "f2 0f 38 f0 07 90", "8c 17 90", "0f b4 07 90", "0f b2 07 90 90", "cf 90", "cb 90", "ca 08 00 90", "c6 07 cc ff e7", "f3 90 90", "f0 90 90",
        "0f c3 07 90", "c7 07 01 00 00 00 c7 07 02 00 00 00 90", "83 24 24 00 90", "0f ba 27 05 90", "0f ba 2f 05 90", "69 07 05 00 00 00 90", "0f b6 07 90", "0f bc 07 90", "0f 0d 0f 90",
    ];

    private static readonly ImmutableArray<string> Long64Only =
    [
        "48 89 07 90", "48 8b 07 90", "48 0f c7 0f 90", "48 0f b1 0f 90", "48 cf", "48 cb", "f3 48 a5 90", "f3 48 ab 90", "48 0f a3 1f 90", "48 0f bb 1f 90", "0f 05 90", "8e 17 0f 05 90",
        "63 07 90", "41 57 90", "64 89 07 90", "0f fc 90", "0f 01 fc 90", "67 89 07 90", "48 a7 90", "f3 48 af 90", "e8 00 00 00 80 90", "c4 e2 79 f7 07 90", "c4 e2 f8 f2 07 90",
    ];

    private static readonly ImmutableArray<string> CompatibilityOnly =
    [
        "60 90", "61 90", "66 60 90", "66 61 90", "17 90 90", "17 cc 90", "07 90", "16 90", "1e 90", "62 07 90", "c4 07 90", "c5 07 90", "63 07 90", "ce 90", "27 90", "a1 40 00 41 00 90", "a3 40 00 41 00 90",
    ];

    public static TheoryData<string, CpuMode> Codes
    {
        get
        {
            TheoryData<string, CpuMode> codes = [];
            foreach (string code in Both.Concat(Long64Only))
            {
                codes.Add(code, CpuMode.Long64);
            }

            foreach (string code in Both.Concat(CompatibilityOnly))
            {
                codes.Add(code, CpuMode.Compatibility32);
            }

            return codes;
        }
    }

    /// <summary>Every point agrees, nearly all of them are comparable, and some meet their breakpoint.</summary>
    [NativeTheory]
    [MemberData(nameof(Codes))]
    public void BreakpointsAgree(string code, CpuMode mode)
    {
        TestCase[] cases = [.. Points(code, mode)];

        ImmutableArray<Examination> examined = runner.Examine(cases);

        List<string> failures = [];
        int known = 0;
        foreach (Examination examination in examined.Where(e => e.Diverges && !e.Comparison.Consumed))
        {
            if (runner.IsKnown(examination))
            {
                known++;
            }
            else
            {
                failures.Add(Explain(examination));
            }
        }

        int comparable = examined.Count(e => e.Comparison.Comparable == 2);
        int met = examined.Count(e => e.Outcomes.Any(o => o.Comparable && o.Events.Any(x => x.Vector == 1)) && (e.Case.Registers.Rflags & RflagsBits.TF) == 0);
        output.WriteLine($"{code} {mode}: {comparable} of {cases.Length} points compared, {met} with a breakpoint met, {known} known divergences");
        Assert.True(failures.Count == 0, $"{code} {mode}: {failures.Count} of {cases.Length} points differ\n{string.Join('\n', failures.Take(6))}");
        Assert.True(comparable >= cases.Length * 9 / 10, $"{code} {mode}: only {comparable} of {cases.Length} points have two outcomes: {Why(examined)}");
        Assert.True(met > 0, $"{code} {mode}: none of {cases.Length} points meets a breakpoint");
    }

    /// <summary>The grid sees a broken rule: a model in which RF does not suppress differs at each execution point that is entered with RF, and nowhere else.</summary>
    [NativeFact]
    public void AModelWhoseResumeFlagDoesNothingIsFound()
    {
        TestCase[] cases = [.. Points("90 90", CpuMode.Long64).Where(c => c.Registers.Rflags is Flags or (Flags | RflagsBits.RF))];
        using CaseRunner planted = CaseRunner.Create([() => new IgnoresResumeFlag(new X86Model(Host.Profile)), () => new NativeTarget()], CaseAnalyst.For(new X86Model(Host.Profile), Host.Profile.Vendor));

        ImmutableArray<Examination> examined = planted.Examine(cases);

        Assert.All(examined, e => Assert.Equal(2, e.Comparison.Comparable));
        Assert.All(examined, e => Assert.Equal(e.Case.Registers.Debug!.Dr0 == e.Case.Code.Address && e.Case.Registers.Rflags != Flags, e.Diverges));
        Assert.Equal(2, examined.Count(e => e.Diverges));
    }

    private static IEnumerable<TestCase> Points(string code, CpuMode mode)
    {
        bool wide = mode == CpuMode.Long64;
        TestCase plain = wide ? Long(code) : Compatibility(code);
        ulong data = wide ? Data + 0x40 : LowData;
        ulong stack = wide ? Stack : LowStack;
        List<DebugRegisters> breakpoints = [];
        for (ulong at = plain.Code.Address; at <= plain.Code.End; at++)
        {
            // Alone, and together with accesses to the operand, the stack below and the stack above.
            breakpoints.Add(new DebugRegisters(at, 0, 0, 0, 0x401));
            breakpoints.Add(new DebugRegisters(at, data, stack - 8, stack, 0xfff0_0455));
        }

        // Writes, then reads and writes; each length at every aligned place around the operands.
        foreach (ulong kind in (ulong[])[1, 3])
        {
            foreach ((ulong length, ulong field) in (ReadOnlySpan<(ulong, ulong)>)[(1, 0), (2, 1), (4, 3), (8, 2)])
            {
                ulong control = 0x608 | (kind << 20) | (field << 22);
                breakpoints.AddRange(Around(data, below: 8, above: 24, length).Select(at => new DebugRegisters(0, at, 0, 0, control)));
                breakpoints.AddRange(Around(data + 0x40, below: 8, above: 8, length).Select(at => new DebugRegisters(0, at, 0, 0, control)));
                breakpoints.AddRange(Around(stack, below: 32, above: 24, length).Select(at => new DebugRegisters(0, at, 0, 0, control)));
            }
        }

        foreach (DebugRegisters debug in breakpoints)
        {
            foreach (ulong flags in EntryFlags)
            {
                yield return plain with
                {
                    Registers = plain.Registers with { Rflags = Flags | flags, Debug = debug },
                    Responses = code.StartsWith("f1", StringComparison.Ordinal) ? [] : debug.Dr0 != 0 ? GoOnBehind : GoOn,
                };
            }
        }
    }

    private static Response Resume(ulong flags) => Patch((Register.Rflags, Flags | RflagsBits.RF | flags));

    private static List<ulong> Around(ulong at, ulong below, ulong above, ulong step)
    {
        List<ulong> places = [];
        for (ulong place = at - below; place < at + above; place += Math.Max(step, 2))
        {
            places.Add(place);
        }

        return places;
    }

    private static TestCase Long(string code)
    {
        TestCase testCase = Case(
            code, (Register.Rax, 0x2b), (Register.Rcx, 3), (Register.Rbx, 100), (Register.Rbp, Stack - 8), (Register.Rsi, Data + 0x80), (Register.Rdi, Data + 0x40));
        return testCase with
        {
            Contents = [new MemoryContents(Data + 0x40, [0x2b]), new MemoryContents(Stack, [.. Words(8, testCase.Code.End - 1, 0x33, 0x202, Stack + 8, 0x2b)])],
        };
    }

    private static TestCase Compatibility(string code)
    {
        TestCase testCase = At(
            LowEnd,
            code,
            (Register.Rax, 0x2b), (Register.Rcx, 3), (Register.Rbx, 100), (Register.Rbp, LowStack - 8), (Register.Rsi, LowData + 0x40), (Register.Rdi, LowData),
            (Register.Rsp, LowStack), (Register.Cs, Selectors.UserCode32), (Register.Ds, Selectors.UserData), (Register.Es, Selectors.UserData));
        return testCase with
        {
            Contents = [new MemoryContents(LowData, [0x2b]), new MemoryContents(LowStack, [.. Words(4, testCase.Code.End - 1, 0x23, 0x202, LowStack + 8, 0x2b)])],
        };
    }

    private static IEnumerable<byte> Words(int width, params ulong[] values) => values.SelectMany(v => BitConverter.GetBytes(v).Take(width));

    private static string Explain(Examination examination)
    {
        TestCase point = examination.Case;
        DebugRegisters debug = point.Registers.Debug!;
        string outcomes = string.Join("\n    ", examination.Outcomes.Select(Describe));
        return string.Create(
            CultureInfo.InvariantCulture, $"  start={point.Code.Address:x} dr0={debug.Dr0:x} dr1={debug.Dr1:x} dr7={debug.Dr7:x} rflags={point.Registers.Rflags:x}:\n    {outcomes}");
    }

    /// <summary>The model, told of no RF at entry.</summary>
    private sealed class IgnoresResumeFlag(X86Model model) : ITarget
    {
        public TargetInfo Info { get; } = model.Info with { Name = "model.planted" };

        public Outcome Run(TestCase testCase) => model.Run(testCase with { Registers = testCase.Registers with { Rflags = testCase.Registers.Rflags & ~RflagsBits.RF } });

        public void Dispose() => model.Dispose();
    }

    private static string Why(ImmutableArray<Examination> examined) =>
        string.Join("; ", examined.SelectMany(e => e.Outcomes).Where(o => !o.Comparable).Select(o => $"{o.End} {o.Detail}").Distinct(StringComparer.Ordinal).Take(3));
}
