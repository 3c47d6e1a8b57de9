using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <content>The system side of a paravirtual case: where it starts, its second root, control registers and MSRs, and what its supervisor does after events.</content>
internal sealed partial class CaseFileReader
{
    private readonly List<(CaseFileLine Line, PageRange Range)> _userPages = [];
    private readonly List<(CaseFileLine Line, SystemRegister Register)> _stated = [];
    private readonly List<(CaseFileLine Line, Hypercall Call)> _calls = [];
    private Abi _abi;
    private CaseFileLine? _map;
    private CaseFileLine? _userMap;
    private CaseFileLine? _start;
    private GuestMode _mode;
    private SystemState _system = SystemState.Empty;
    private PvmState? _pvm;
    private Injection? _inject;

    private void TakeSystem(CaseFileLine line)
    {
        switch (line.Key)
        {
            case "abi":
                _abi = (Abi)line.OneOf(line.Value, "ABI", CaseFileWords.Abis);
                break;
            case "start":
                _start = line;
                _mode = (GuestMode)line.OneOf(line.Value, "start", CaseFileWords.GuestModes);
                break;
            case "pvm":
                string[] values = line.Named(line.Words, ["pvcs", "path"]);
                _pvm = new PvmState(line.Hex(values[0], "pvcs"), null, (HostPath)line.OneOf(values[1], "path", CaseFileWords.Paths));
                break;
            case "sys":
                foreach (SystemRegister register in TakeSystemValues(line, ref _system))
                {
                    _stated.Add((line, register));
                }

                break;
            case "inject":
                _inject = InjectionOf(line, line.Words, "inject   interrupt 41", "inject   nmi");
                break;
            case "xen" or "traps" or "trap" or "callback" or "gdt":
                TakeXen(line);
                break;
            case "map":
                _map = line;
                break;
            case "user-map":
                _userMap = line;
                break;
            default:
                TakeHypercall(line);
                break;
        }
    }

    /// <summary>Reads <c>name=value</c> words of system registers.</summary>
    /// <returns>The registers in the order of the line.</returns>
    private static List<SystemRegister> TakeSystemValues(CaseFileLine line, ref SystemState state)
    {
        List<SystemRegister> registers = [];
        foreach (string word in line.Words)
        {
            (string name, string value) = line.Pair(word);
            SystemRegister register = (SystemRegister)line.OneOf(name, "system register", CaseFileWords.SystemRegisters);
            if (state.TryGet(register, out _))
            {
                throw line.Wrong($"{name} is stated twice", "state each system register once");
            }

            state = state.With(register, line.Hex(value, name));
            registers.Add(register);
        }

        return registers.Count > 0 ? registers : throw line.Wrong($"`{line.Key}` without a value", "write system registers, as in `sys      cr3=1000`, or leave the line out");
    }

    /// <summary>Reads <c>interrupt 41</c> or <c>nmi</c>.</summary>
    private static Injection InjectionOf(CaseFileLine line, ReadOnlySpan<string> words, string interrupt, string nmi) => words switch
    {
        ["nmi"] => new Injection(InjectionKind.Nmi, Injection.NmiVector),
        ["upcall"] => new Injection(InjectionKind.Upcall, 0),
        ["interrupt", string vector] => new Injection(InjectionKind.Interrupt, line.Byte(vector, "vector")),
        _ => throw line.Wrong("this is nothing that comes from outside", $"write `{interrupt}` or `{nmi}`"),
    };

    private void TakeHypercall(CaseFileLine line)
    {
        string[] words = line.Words;
        if (words.Length is 0 or > 1 + Hypercall.MaximumArguments || _calls.Count == Response.MaximumHypercalls)
        {
            throw line.Wrong(
                "a hypercall without a number, with too many arguments, or one too many before a response",
                $"write the number and at most {Hypercall.MaximumArguments} arguments; a response makes at most {Response.MaximumHypercalls} hypercalls");
        }

        _calls.Add((line, new Hypercall(line.Hex(words[0], "hypercall"), [.. words[1..].Select(word => line.Hex(word, "argument"))])));
    }

    private void TakeResponse(CaseFileLine line)
    {
        if (_responses.Count == TestCase.MaximumResponses)
        {
            throw line.Wrong("one response too many", $"a case has at most {TestCase.MaximumResponses}");
        }

        ReadOnlySpan<string> words = line.Words;
        if (words.Length == 0)
        {
            throw line.Wrong("a response that says nothing", "write `none`, or registers as in `response rip=401000`");
        }

        ReturnKind back = ReturnKind.Iretq;
        Injection? inject = null;
        if (CaseFileWords.Returns.IndexOf(words[0]) is int kind and >= 0)
        {
            back = (ReturnKind)kind;
            words = words[1..];
        }
        else if (words is ["none"])
        {
            words = [];
        }

        ulong flags = 0;
        if (words.Length > 0 && line.Pair(words[0]) is ("flags", string word0))
        {
            flags = line.Hex(word0, "flags");
            words = words[1..];
        }

        if (words.Length > 0 && line.Pair(words[0]) is ("inject", string what))
        {
            inject = InjectionOf(line, what.Split(':'), "inject=interrupt:41", "inject=nmi");
            words = words[1..];
        }

        ImmutableArray<KeyValuePair<Register, ulong>>.Builder patches = ImmutableArray.CreateBuilder<KeyValuePair<Register, ulong>>();
        foreach (string word in words)
        {
            (string name, string value) = line.Pair(word);
            patches.Add(new((Register)line.OneOf(name, "register", CaseFileWords.Registers), line.Hex(value, name)));
        }

        // Calls are made before the return, so their lines stand before it.
        _responses.Add(([.. _calls.Select(c => c.Line)], line, new Response(patches.ToImmutable()) { Return = back, Flags = flags, Inject = inject, Hypercalls = [.. _calls.Select(c => c.Call)] }));
        _calls.Clear();
    }

    /// <summary>Demands the keys that the ABI needs, and refuses those that it has not.</summary>
    /// <param name="next">The line after the case, where missing keys are reported.</param>
    private void DemandSystem(CaseFileLine next)
    {
        bool x86 = _abi == Abi.X86;
        if (x86 && _start is CaseFileLine start)
        {
            throw start.Wrong("an x86 case starts in user code", "leave the line out; only paravirtual cases have one");
        }

        if (!x86 && _start is null)
        {
            throw next.Wrong("the case has no `start` line", "add `start user` or `start supervisor` before this line");
        }

        if (_pvm is null && _xen is null && (_userMap ?? (_userPages.Count > 0 ? _userPages[0].Line : null)) is CaseFileLine user)
        {
            throw user.Wrong("pages of a user root without `pvm` or `xen`", "only PVM and Xen cases have two roots; a `pvm` or `xen` line comes with them");
        }

        if (_calls.Count > 0)
        {
            throw _calls[0].Line.Wrong("a hypercall that belongs to no response", "hypercalls stand before the `response` that makes them");
        }
    }

    /// <summary>Pages under the supervisor root: a map by its name, or page lines.</summary>
    private PageLayout Layout(CaseFileLine next) =>
        NamedOrListed(_map, _pages, "page", _abi == Abi.X86 ? ["standard"] : ["standard", CaseFileWords.MapOf(_abi).Name], CaseFileWords.MapOf(_abi).Kernel)
            ?? throw next.Wrong("the case has no pages", "add `map standard` or `page` lines before this line");

    /// <summary>Pages under the user root; null when there is but one root.</summary>
    private PageLayout? UserLayout() => NamedOrListed(_userMap, _userPages, "user-page", ["standard", CaseFileWords.MapOf(_abi).Name, "none"], CaseFileWords.MapOf(_abi).User);

    private static PageLayout? NamedOrListed(CaseFileLine? map, List<(CaseFileLine Line, PageRange Range)> pages, string key, ReadOnlySpan<string> names, PageLayout? own)
    {
        if (map is not CaseFileLine line)
        {
            return pages.Count == 0 ? null : Listed(pages);
        }

        int name = names.IndexOf(line.Value);
        return name < 0 ? throw line.Wrong($"map {CaseFileText.Quote(line.Value)} is not known", $"use {string.Join(", ", names.ToArray().Select(n => $"`{n}`"))}, or `{key}` lines")
            : pages.Count > 0 ? throw pages[0].Line.Wrong($"a page beside `{line.Key} {line.Value}`", "use one or the other")
            : name switch
            {
                0 => AddressMap.Standard,
                1 => own,
                _ => PageLayout.Create([]),
            };
    }

    private CaseFileLine LineOfHypercall(TestCase malformed, int index)
    {
        (ImmutableArray<CaseFileLine> calls, _, Response response) = _responses[index];
        return calls[FirstBad(calls.Length, count => malformed with { Responses = [.. Responses(index), response with { Hypercalls = response.Hypercalls[..count] }] }) - 1];
    }

    /// <summary>The line that states the system register with whose name a problem starts; the first <c>sys</c> line, or that of the ABI, when none states it.</summary>
    private CaseFileLine LineOfSystem(CaseProblem problem)
    {
        foreach ((CaseFileLine line, SystemRegister register) in _stated)
        {
            if (problem.Message.AsSpan(0, problem.Message.AsSpan().IndexOfAny(' ', ':')).SequenceEqual(CaseFileWords.SystemRegisters[(int)register]))
            {
                return line;
            }
        }

        return new CaseFileLine(text.File, text.LineOf("sys"), "", "");
    }
}
