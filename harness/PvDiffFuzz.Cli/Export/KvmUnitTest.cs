using System.Collections.Immutable;
using System.Text;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Cli.Export.CSource;

namespace PvDiffFuzz.Cli.Export;

/// <summary>A case of a PVM guest as a test for kvm-unit-tests: one file for its folder <c>x86</c>.</summary>
/// <remarks>
/// The test makes page tables with the case's pages and an agent, writes the structure and the MSRs, enters the payload, and compares the first event with one of the recorded
/// outcomes. CR3 and the physical address of the structure are the test's own.
/// </remarks>
internal static class KvmUnitTest
{
    /// <summary>Where the agent lies: a page that no case and no entry of generated cases has.</summary>
    private const ulong Agent = AddressMap.AgentFirst + 0x30_0000;

    /// <summary>Number of the entry that is the end of supervisor code; 0 to 3 are the entries at +0, +256, +512 and LSTAR.</summary>
    private const int End = 4;

    private static readonly (SystemRegister Register, uint Index)[] Msrs =
    [
        (SystemRegister.Lstar, 0xc000_0082), (SystemRegister.SyscallMask, 0xc000_0084), (SystemRegister.KernelGsBase, 0xc000_0102), (SystemRegister.PvmSupervisorRsp, 0x4b56_4df2),
        (SystemRegister.PvmSupervisorRedzone, 0x4b56_4df3), (SystemRegister.PvmEventEntry, 0x4b56_4df4), (SystemRegister.PvmRetuRip, 0x4b56_4df5), (SystemRegister.PvmRetsRip, 0x4b56_4df6),
    ];

    /// <summary>Why a case is no such test, with a cure.</summary>
    public static string? Refuses(CaseFile file)
    {
        TestCase testCase = file.Case;
        RegisterState r = testCase.Registers;
        if (testCase.Abi is not (Abi.PvmRfc1 or Abi.Pvm612))
        {
            return $"the case is of {testCase.Abi.Text()}; format kvm-unit-test is for cases of pvm-rfc1 and pvm-612";
        }

        if (!testCase.Responses.IsEmpty || testCase.Inject is not null)
        {
            return "the case answers events or has something injected, and such a test shows one event; use `pvdf minimise`, or take these lines out";
        }

        if (Expected(file) is null)
        {
            return "no outcome with an event is recorded that the test could expect; use `pvdf record` first";
        }

        if (r.Debug is not null || (r.Ds | r.Es | r.Fs | r.Gs) != 0)
        {
            return "the case has debug registers or selectors in DS, ES, FS or GS, which the framework keeps for itself";
        }

        return new[] { testCase.Layout, testCase.UserPages }.Any(l => l.AccessAt(Agent) != PageAccess.None) || testCase.Pvm!.PvcsAddress == Agent
            ? $"page {Agent:x} is the test's own" : null;
    }

    /// <summary>Writes one file.</summary>
    public static ImmutableArray<ExportedFile> Write(CaseFile file)
    {
        string name = $"pvdf-{file.Id}";
        TestCase testCase = file.Case;
        RecordedOutcome expected = Expected(file)!;
        StringBuilder text = new();
        Comment(text, "/*", Head(file, expected, name));
        text.Append("#include \"libcflat.h\"\n#include \"processor.h\"\n#include \"msr.h\"\n#include \"vm.h\"\n#include \"alloc_page.h\"\n\n");
        Pages(text, testCase);
        Contents(text, testCase, "u8", "static const struct case_contents { u64 va; size_t size; const u8 *bytes; } case_contents[]");
        State(text, testCase);
        Expectation(text, testCase, expected);
        text.Append(ExportFormat.Runtime("kvm-unit-test.c"));
        return [new ExportedFile($"{name}.c", text.ToString())];
    }

    /// <summary>The outcome that the test demands: a model's, which is the specification, else the first with an event.</summary>
    private static RecordedOutcome? Expected(CaseFile file) =>
        file.Outcomes.Where(o => o.Outcome.End is EndKind.Event or EndKind.ReachedEnd).OrderBy(o => o.Kind == TargetKind.Model ? 0 : 1).FirstOrDefault();

    private static IEnumerable<string> Head(CaseFile file, RecordedOutcome expected, string name)
    {
        yield return $"{file.Id} ({file.Case.Abi.Text()}): written by pvdf export.";
        yield return "";
        foreach (string line in file.Comment.Split('\n'))
        {
            yield return line;
        }

        yield return "";
        yield return $"Expected is what {expected.Target} answered{(file.Outcomes.Length > 1 ? $", of {string.Join(", ", file.Outcomes.Select(o => o.Target))}" : "")}.";
        yield return $"Copy this to x86/{name}.c, then: make x86/{name}.flat && ./x86-run x86/{name}.flat";
    }

    private static void Pages(StringBuilder text, TestCase testCase)
    {
        text.Append("static const struct case_page { u64 va, bytes, flags; bool user_root; } case_pages[] = {\n");
        foreach ((PageLayout layout, bool user) in ((PageLayout, bool)[])[(testCase.Layout, false), (testCase.UserPages, true)])
        {
            foreach (PageRange page in layout.Ranges.Where(p => p.Access != PageAccess.None))
            {
                string flags = "PT_PRESENT_MASK" + ((page.Access & PageAccess.Write) != 0 ? " | PT_WRITABLE_MASK" : "")
                    + ((page.Access & PageAccess.Supervisor) == 0 ? " | PT_USER_MASK" : "") + ((page.Access & PageAccess.Execute) == 0 ? " | PT64_NX_MASK" : "");
                text.Append($"    {{ 0x{page.Address:x}, 0x{page.Pages * PageLayout.PageSize:x}, {flags}, {(user ? "true" : "false")} }},\n");
            }
        }

        text.Append("};\n\n");
    }

    private static void State(StringBuilder text, TestCase testCase)
    {
        bool user = testCase.Start == GuestMode.User;
        RegisterState r = testCase.Registers;
        text.Append("static const struct case_msr { u32 index; u64 value; } case_msrs[] = {\n");
        foreach ((SystemRegister register, uint index) in Msrs)
        {
            if (testCase.System.TryGet(register, out ulong value))
            {
                text.Append($"    {{ 0x{index:x}, 0x{value:x} }}, /* {register} */\n");
            }
        }

        text.Append($"    {{ 0xc0000100, 0x{r.FsBase:x} }}, /* FsBase */\n");
        if (!user)
        {
            text.Append($"    {{ 0xc0000101, 0x{r.GsBase:x} }}, /* GsBase */\n");
        }

        text.Append("};\n\nstatic const struct case_field { int offset, width; u64 value; } case_fields[] = {\n");
        foreach (PvcsField field in PvcsLayout.Of(testCase.Abi))
        {
            text.Append($"    {{ 0x{field.Offset:x2}, {Decimal(field.Width)}, 0x{FieldAtStart(testCase, field.Register):x} }}, /* {field.Register} */\n");
        }

        text.Append($"}};\n\nstatic const u64 case_gpr[16] = {{ {Registers(user ? r.With(Register.Rsp, testCase.System[SystemRegister.PvmSupervisorRsp]) : r)} }};\n\n");
        (string, string)[] constants =
        [
            ("MSR_PVM_VCPU_STRUCT", "0x4b564df1"), ("MSR_PVM_EVENT_ENTRY", "0x4b564df4"), ("MSR_PVM_SWITCH_CR3", testCase.Abi == Abi.PvmRfc1 ? "0x4b564df7" : "0"), ("AGENT", $"0x{Agent:x}ull"),
            ("CASE_STRUCT", $"0x{testCase.Pvm!.PvcsAddress:x}ull"), ("CASE_ENTRY", $"0x{testCase.System[SystemRegister.PvmEventEntry]:x}ull"), ("CASE_LSTAR", $"0x{testCase.System[SystemRegister.Lstar]:x}ull"),
            ("CASE_RFLAGS", $"0x{(user ? RflagsBits.Fixed1 : r.Rflags):x}ull"), ("CASE_JUMP", $"0x{(user ? testCase.System[SystemRegister.PvmRetuRip] : r.Rip):x}ull"), ("ENTRY_END", Decimal(End)),
        ];
        foreach ((string name, string value) in constants)
        {
            text.Append($"#define {name} {value}\n");
        }

        text.Append(user ? "\n" : $"#define CASE_END 0x{testCase.Code.End:x}ull\n\n");
    }

    /// <summary>Value of a field when the payload is entered: in user mode the return takes the context from there.</summary>
    private static ulong FieldAtStart(TestCase testCase, SystemRegister field)
    {
        RegisterState r = testCase.Registers;
        return testCase.Start == GuestMode.Supervisor ? testCase.System[field] : field switch
        {
            SystemRegister.PvcsUserCs => r.Cs,
            SystemRegister.PvcsUserSs => r.Ss,
            SystemRegister.PvcsUserGsBase => r.GsBase,
            SystemRegister.PvcsEflags => r.Rflags,
            SystemRegister.PvcsPkru => r.Pkru ?? 0,
            SystemRegister.PvcsRip => r.Rip,
            SystemRegister.PvcsRsp => r[Register.Rsp],
            SystemRegister.PvcsRcx => r[Register.Rcx],
            SystemRegister.PvcsR11 => r[Register.R11],
            _ => testCase.System[field],
        };
    }

    private static void Expectation(StringBuilder text, TestCase testCase, RecordedOutcome expected)
    {
        Event? first = expected.Outcome.Events.FirstOrDefault();
        RegisterState r = first?.Registers ?? expected.Outcome.Registers ?? testCase.Registers;
        int entry = first is null ? End : first.Entry switch
        {
            EntryPoint.PvmUser => 0,
            EntryPoint.Lstar => 3,
            EntryPoint.PvmSupervisor when testCase.Abi == Abi.PvmRfc1 => 1,
            _ => 2,
        };
        bool stack = first is not null && FrameLayout.OnStack(first.Entry) && testCase.Abi == Abi.PvmRfc1;
        text.Append($"#define EXPECT_TARGET \"{expected.Target}\"\n#define EXPECT_ENTRY {Decimal(entry)}\n#define EXPECT_RFLAGS 0x{r.Rflags:x}ull\n#define EXPECT_ON_STACK {(stack ? "1" : "0")}\n");
        text.Append($"static const u64 expected_gpr[16] = {{ {Registers(r)} }};\n");
        text.Append("static const struct expected_field { const char *name; int offset, width; u64 value; } expected_frame[] = {\n");
        if (first is not null)
        {
            foreach (FrameField field in FrameLayout.Of(testCase.Abi, first.Entry, first.Frame.Length))
            {
                text.Append($"    {{ \"{field.Name}\", 0x{field.Offset:x2}, {Decimal(field.Width)}, 0x{FrameLayout.Read(first.Frame, field):x} }},\n");
            }
        }

        text.Append("    { \"\", 0, 0, 0 },\n};\n");
    }
}
