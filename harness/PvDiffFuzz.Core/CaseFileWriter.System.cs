using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <content>The system side of a paravirtual case. Writes nothing for others.</content>
internal sealed partial class CaseFileWriter
{
    /// <summary>Bytes of a delivered frame that form a word of a <c>frame</c> line.</summary>
    private const int FrameWord = 8;

    /// <summary>Words on a <c>frame</c> line.</summary>
    private const int FrameWords = 4;

    private void Start(TestCase testCase)
    {
        if (testCase.Abi != Abi.X86)
        {
            Line("start", CaseFileWords.GuestModes[(int)testCase.Start]);
        }

        if (testCase.Pvm is PvmState pvm)
        {
            Line("pvm", $"pvcs={pvm.PvcsAddress:x} path={CaseFileWords.Paths[(int)pvm.Path]}");
        }

        if (testCase.Xen is XenState xen)
        {
            Xen(xen);
        }
    }

    private void Pages(TestCase testCase)
    {
        (string name, PageLayout kernel, PageLayout? both) = CaseFileWords.MapOf(testCase.Abi);
        if (testCase.Abi != Abi.X86 && testCase.Layout.Equals(kernel))
        {
            Line("map", name);
        }
        else
        {
            Pages("map", "page", testCase.Layout);
        }

        if ((testCase.Pvm?.UserLayout ?? testCase.Xen?.UserLayout) is not PageLayout user)
        {
            return;
        }

        if (user.Ranges.IsEmpty || user.Equals(both))
        {
            Line("user-map", user.Ranges.IsEmpty ? "none" : name);
        }
        else
        {
            Pages("user-map", "user-page", user);
        }
    }

    private void Pages(string map, string page, PageLayout layout)
    {
        if (layout.Equals(AddressMap.Standard))
        {
            Line(map, "standard");
            return;
        }

        foreach (PageRange range in layout.Ranges)
        {
            Line(page, $"{range.Address:x} {range.Pages} {CaseFileWords.TextOf(range.Access)}");
        }
    }

    private void SystemSide(TestCase testCase)
    {
        SystemValues("sys", testCase.System);
        if (testCase.Inject is Injection injection)
        {
            Line("inject", TextOf(injection, ' '));
        }
    }

    private void SystemValues(string key, SystemState state) => List(key, state.Values.Select(v => $"{CaseFileWords.SystemRegisters[(int)v.Key]}={v.Value:x}"));

    private void Response(Response response, Abi abi)
    {
        foreach (Hypercall call in response.Hypercalls)
        {
            Line("hypercall", string.Join(' ', call.Arguments.Prepend(call.Number).Select(a => $"{a:x}")));
        }

        List<string> words = abi == Abi.X86 ? [] : [CaseFileWords.Returns[(int)response.Return]];
        if (response.Flags != 0)
        {
            words.Add($"flags={response.Flags:x}");
        }

        if (response.Inject is Injection injection)
        {
            words.Add($"inject={TextOf(injection, ':')}");
        }

        words.AddRange(response.Patches.Select(p => $"{CaseFileWords.Registers[(int)p.Key]}={p.Value:x}"));
        Line("response", words.Count == 0 ? "none" : string.Join(' ', words));
    }

    private void Frame(Event e)
    {
        if (e.Entry == EntryPoint.Idt)
        {
            // Its five quadwords are the event's registers.
            return;
        }

        ImmutableArray<byte> frame = e.Frame;
        foreach (byte[] line in frame.Chunk(FrameWord * FrameWords))
        {
            Line("frame", string.Join(' ', line.Chunk(FrameWord).Select(word => Convert.ToHexStringLower(word))));
        }
    }

    private static string TextOf(Injection injection, char separator) =>
        CaseFileWords.Injections[(int)injection.Kind] + (injection.Kind == InjectionKind.Interrupt ? $"{separator}{injection.Vector:x2}" : "");
}
