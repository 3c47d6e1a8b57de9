using System.Collections.Immutable;
using System.Text;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Cli.Export.CSource;

namespace PvDiffFuzz.Cli.Export;

/// <summary>A case of a 64-bit Xen guest as a test for the Xen Test Framework: <c>main.c</c> and <c>Makefile</c> for a folder below <c>tests</c> there.</summary>
/// <remarks>
/// The test maps the case's pages, registers what the case states, enters the payload, and compares the first event with one of the recorded outcomes. XTF has one root for kernel
/// and user, so user code sees the kernel's pages there.
/// </remarks>
internal static class XtfTest
{
    /// <summary>Numbers of handlers that are no vectors.</summary>
    private const int FirstCallback = 0x100;
    private const int End = 0x200;

    private const int TaskSwitched = 8;

    /// <summary>Why a case is no such test, with a cure.</summary>
    public static string? Refuses(CaseFile file)
    {
        TestCase testCase = file.Case;
        if (testCase.Abi is not (Abi.XenPv64 or Abi.XenPv64Fred) || testCase.Xen is not XenState xen)
        {
            return $"the case is of {testCase.Abi.Text()}; format xtf is for cases of xen-pv64 and xen-pv64-fred";
        }

        if (!testCase.Responses.IsEmpty)
        {
            return "the case answers events, and such a test shows one; use `pvdf minimise`, or take the `response` lines out";
        }

        if (Expected(file) is null)
        {
            return "no outcome is recorded that the test could expect; use `pvdf record` first";
        }

        if (!xen.Gdt.IsEmpty || testCase.Registers.Debug is not null || (xen.IretFlags is null && (testCase.Registers.Rflags & RflagsBits.TF) != 0))
        {
            return "the case has descriptors of its own, debug registers, or TF in kernel code that is simply there; XTF's kernel would not survive them";
        }

        return OneRoot(testCase) is PageRange page ? $"page {page.Address:x} has other rights for user code than for the kernel, and XTF has one root; use `pvdf run CASE --targets xen`"
            : EntryPages(xen).Any(p => testCase.Layout.AccessAt(p) != PageAccess.None || testCase.UserPages.AccessAt(p) != PageAccess.None) ? "handlers lie in a page of the case; XTF needs them apart"
            : null;
    }

    /// <summary>Writes two files.</summary>
    public static ImmutableArray<ExportedFile> Write(CaseFile file) =>
    [
        new ExportedFile("main.c", Source(file)),
        new ExportedFile("Makefile", $"include $(ROOT)/build/common.mk\n\nNAME      := {NameOf(file)}\nCATEGORY  := utility\nTEST-ENVS := pv64\n\nobj-perenv += main.o\n\ninclude $(ROOT)/build/gen.mk\n"),
    ];

    /// <summary>The outcome that the test demands: a model's, which is the specification, else the first of an event or a crash.</summary>
    private static RecordedOutcome? Expected(CaseFile file) =>
        file.Outcomes.Where(o => o.Outcome.End is EndKind.Event or EndKind.ReachedEnd or EndKind.Crash).OrderBy(o => o.Kind == TargetKind.Model ? 0 : 1).FirstOrDefault();

    private static string NameOf(CaseFile file) => $"pvdf-{file.Id.Replace('.', '-')}";

    private static string Source(CaseFile file)
    {
        TestCase testCase = file.Case;
        XenState xen = testCase.Xen!;
        RecordedOutcome expected = Expected(file)!;
        StringBuilder text = new();
        Comment(text, "/**", Head(file, expected));
        text.Append("#include <xtf.h>\n\n#include <arch/pagetable.h>\n#include <arch/symbolic-const.h>\n\n");
        text.Append($"const char test_title[] = \"pvdf: {file.Id}\";\n\nextern struct xen_trap_info pv_default_trap_info[];\n\n");
        Pages(text, testCase, xen);
        Contents(text, testCase, "uint8_t", "static const struct case_contents { uint64_t va; size_t size; const uint8_t *bytes; } case_contents[]");
        Registered(text, xen);
        Constants(text, testCase, xen);
        Expectation(text, testCase, expected);
        return text.Append(ExportFormat.Runtime("xtf.c")).ToString();
    }

    private static IEnumerable<string> Head(CaseFile file, RecordedOutcome expected)
    {
        yield return $"@file tests/{NameOf(file)}/main.c";
        yield return $"@ref test-{NameOf(file)} - {file.Comment.Split('\n')[0]}";
        yield return "";
        yield return $"@page test-{NameOf(file)} {file.Id}";
        yield return "";
        foreach (string line in file.Comment.Split('\n'))
        {
            yield return line;
        }

        yield return "";
        yield return $"Written by pvdf export. Expected is what {expected.Target} answered{(file.Outcomes.Length > 1 ? $", of {string.Join(", ", file.Outcomes.Select(o => o.Target))}" : "")}.";
        foreach ((string name, string value) in expected.Fingerprint.Facts)
        {
            yield return $"  {name}={value}";
        }
    }

    private static void Pages(StringBuilder text, TestCase testCase, XenState xen)
    {
        ImmutableArray<PageRange> pages = AllPages(testCase, xen);
        HashSet<ulong> tables = [];
        foreach (PageRange range in pages)
        {
            for (ulong page = range.Address; page <= range.Last; page += PageLayout.PageSize)
            {
                foreach (int shift in (int[])[21, 30, 39])
                {
                    tables.Add((page >> shift << 8) | (uint)shift);
                }
            }
        }

        text.Append($"#define FRAMES {Decimal(pages.Sum(p => p.Pages) + tables.Count)}\n\n");
        text.Append("static const struct case_page { uint64_t va; unsigned int count; uint64_t flags; } case_pages[] = {\n");
        foreach (PageRange page in pages)
        {
            string rights = (page.Access & PageAccess.Write) != 0 ? "PF_SYM(AD, U, RW, P)" : "PF_SYM(AD, U, P)";
            text.Append($"    {{ 0x{page.Address:x}, {Decimal(page.Pages)}, {rights}{((page.Access & PageAccess.Execute) == 0 ? " | _PAGE_NX" : "")} }},\n");
        }

        text.Append("};\n\n");
    }

    private static void Registered(StringBuilder text, XenState xen)
    {
        text.Append("/* Vector, flags, selector, handler. */\nstatic const struct xen_trap_info case_traps[] = {\n");
        foreach (XenTrap trap in Traps(xen))
        {
            text.Append($"    {{ 0x{trap.Vector:x2}, {trap.Flags}, 0x{trap.Cs:x}, 0x{trap.Address:x} }},\n");
        }

        text.Append($"    {{ 0, 0, 0, 0 }},\n}};\n\n#define CALLBACKS {Decimal(xen.Callbacks.Length)}\nstatic const xen_callback_register_t case_callbacks[] = {{\n");
        foreach (XenCallback callback in xen.Callbacks)
        {
            text.Append($"    {{ .type = CALLBACKTYPE_{TypeOf(callback.Kind)}, .flags = {(callback.MaskEvents ? "CALLBACKF_mask_events" : "0")}, .address = INIT_XEN_CALLBACK(0x{callback.Cs:x}, 0x{callback.Address:x}) }},\n");
        }

        IEnumerable<string> missing = Enum.GetValues<XenCallbackKind>()
            .Where(kind => kind is XenCallbackKind.Event or XenCallbackKind.Syscall or XenCallbackKind.Sysenter or XenCallbackKind.Syscall32 && xen.CallbackOf(kind) is null)
            .Select(kind => $"CALLBACKTYPE_{TypeOf(kind)}, ");
        text.Append($"    {{ .type = 0 }},\n}};\nstatic const int case_unregistered[] = {{ {string.Concat(missing)}-1 }};\n\n");
    }

    private static void Constants(StringBuilder text, TestCase testCase, XenState xen)
    {
        RegisterState r = testCase.Registers;
        SystemState system = testCase.System;
        bool user = testCase.Start == GuestMode.User;
        ulong assist = system[SystemRegister.XenVmAssist];
        ulong other = system[SystemRegister.KernelGsBase];
        (string, string)[] constants =
        [
            ("CASE_GPR", $"{{ {Registers(r)} }}"),
            ("CASE_RIP", $"0x{r.Rip:x}"),
            ("CASE_RFLAGS", $"0x{r.Rflags:x}"),
            ("CASE_CS", $"0x{r.Cs:x}"),
            ("CASE_SS", $"0x{r.Ss:x}"),
            ("CASE_KERNEL_SS", $"0x{system[SystemRegister.XenKernelSs]:x}"),
            ("CASE_KERNEL_SP", $"0x{system[SystemRegister.XenKernelSp]:x}"),
            ("CASE_VM_ASSIST", assist == 0 ? "-1" : Decimal(System.Numerics.BitOperations.TrailingZeroCount(assist))),
            ("CASE_IOPL", Decimal((int)system[SystemRegister.XenIopl])),
            ("CASE_TS", (system[SystemRegister.Cr0] & TaskSwitched) != 0 ? "1" : "0"),
            ("CASE_FS_BASE", $"0x{r.FsBase:x}"),
            ("CASE_USER_GS_BASE", $"0x{(user ? r.GsBase : other):x}"),
            ("CASE_KERNEL_GS_BASE", $"0x{(user ? other : r.GsBase):x}"),
            ("CASE_PENDING", $"0x{system[SystemRegister.XenUpcallPending]:x}"),
            ("CASE_MASK", xen.IretFlags is null ? $"0x{system[SystemRegister.XenUpcallMask]:x}" : "1"),
            ("ENTRY_CALLBACK", $"0x{FirstCallback:x}"),
            ("ENTRY_END", $"0x{End:x}"),
        ];
        foreach ((string name, string value) in constants)
        {
            text.Append($"#define {name} {value}\n");
        }

        if (xen.IretFlags is ulong flags)
        {
            text.Append($"#define CASE_IRET 0x{flags:x}\n");
        }

        if (!user)
        {
            text.Append($"#define CASE_END 0x{testCase.Code.End:x}\n");
        }

        text.Append('\n');
    }

    private static void Expectation(StringBuilder text, TestCase testCase, RecordedOutcome expected)
    {
        bool crash = expected.Outcome.End == EndKind.Crash && expected.Outcome.Events.IsEmpty;
        Event? first = expected.Outcome.Events.FirstOrDefault();
        RegisterState r = first?.Registers ?? expected.Outcome.Registers ?? testCase.Registers;
        string mask = expected.Outcome.Events.Length < 2 && expected.Outcome.System.TryGet(SystemRegister.XenUpcallMask, out ulong value) ? $"0x{value:x}" : "-1";
        text.Append($"#define EXPECT_TARGET \"as {expected.Target}\"\n#define EXPECT_CRASH {(crash ? "1" : "0")}\n#define EXPECT_ENTRY 0x{EntryOf(first):x}\n");
        text.Append($"#define EXPECT_RFLAGS 0x{r.Rflags:x}\n#define EXPECT_CR2 0x{first?.Cr2 ?? 0:x}\n#define EXPECT_MASK {mask}\n");
        text.Append($"static const uint64_t expected_gpr[16] = {{ {Registers(r)} }};\n");
        ImmutableArray<byte> frame = first?.Frame ?? [];
        string[] names = frame.Length == 64 ? ["rcx", "r11", "error code", "rip", "cs and mask", "rflags", "rsp", "ss"] : ["rcx", "r11", "rip", "cs and mask", "rflags", "rsp", "ss"];
        int words = frame.Length / 8;
        IEnumerable<string> values = Enumerable.Range(0, words).Select(i => $"0x{BitConverter.ToUInt64(frame.AsSpan(i * 8, 8)):x}");
        text.Append($"#define FRAME_WORDS {Decimal(words)}\nstatic const uint64_t expected_frame[] = {{ {string.Join(", ", values.Append("0"))} }};\n");
        text.Append($"static const char *const frame_names[] = {{ {string.Join(", ", names.Take(words).Select(n => $"\"frame {n}\"").Append("0"))} }};\n");
    }

    private static int EntryOf(Event? e) => e?.Entry switch
    {
        null => End,
        EntryPoint.XenTrap => e.Vector,
        EntryPoint entry => FirstCallback + CallbackTypeOf(entry),
    };

    /// <summary>Numbers of CALLBACKOP_register.</summary>
    private static int CallbackTypeOf(EntryPoint entry) => entry switch
    {
        EntryPoint.XenEvent => 0,
        EntryPoint.XenFailsafe => 1,
        EntryPoint.XenSyscall => 2,
        EntryPoint.XenNmi => 4,
        EntryPoint.XenSysenter => 5,
        _ => 7,
    };

    private static string TypeOf(XenCallbackKind kind) => kind.ToString().ToLowerInvariant();

    private static IEnumerable<XenTrap> Traps(XenState xen) => Enumerable.Range(0, 256).Select(v => xen.Traps[(byte)v]).Where(t => t.Address != 0);

    private static IEnumerable<ulong> EntryPages(XenState xen) =>
        Traps(xen).Select(t => t.Address).Concat(xen.Callbacks.Select(c => c.Address)).SelectMany(a => (ulong[])[a, a + 10]).Select(a => a & ~0xfffUL).Distinct().Order();

    /// <summary>Pages of both roots, and those of the handlers.</summary>
    private static ImmutableArray<PageRange> AllPages(TestCase testCase, XenState xen)
    {
        IEnumerable<PageRange> userOnly = testCase.UserPages.Ranges.SelectMany(Split).Where(p => testCase.Layout.AccessAt(p.Address) == PageAccess.None);
        IEnumerable<PageRange> handlers = EntryPages(xen).Select(p => new PageRange(p, 1, PageAccess.Read | PageAccess.Execute));
        return PageLayout.Create([.. testCase.Layout.Ranges.Where(r => r.Access != PageAccess.None), .. userOnly.Where(r => r.Access != PageAccess.None), .. handlers]).Ranges;
    }

    /// <summary>A page that user code may use otherwise than the kernel, in a case that runs user code; null for none. Pages that user code has not at all are seen there, too.</summary>
    private static PageRange? OneRoot(TestCase testCase)
    {
        foreach (PageRange page in testCase.UserPages.Ranges.SelectMany(Split))
        {
            PageAccess kernel = testCase.Layout.AccessAt(page.Address);
            if (kernel != PageAccess.None && page.Access != PageAccess.None && kernel != page.Access && Touched(testCase, page))
            {
                return page;
            }
        }

        return null;
    }

    /// <summary>True when the code or contents of a case lie in a page.</summary>
    private static bool Touched(TestCase testCase, PageRange page) => Reproducer.ContentsOf(testCase).Any(c => c.Address <= page.Last && c.Address + (ulong)c.Bytes.Length > page.Address);

    private static IEnumerable<PageRange> Split(PageRange range) => Enumerable.Range(0, range.Pages).Select(i => new PageRange(range.Address + ((ulong)i * PageLayout.PageSize), 1, range.Access));
}
