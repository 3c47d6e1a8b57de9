using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <summary>Gives the lines of a case file their meaning. One instance reads one file; every error names its line.</summary>
/// <remarks>The head and the case come first, the outcomes after them: an outcome's registers are written as differences from the case's.</remarks>
internal sealed partial class CaseFileReader(CaseFileText text)
{
    private readonly Dictionary<string, int> _once = new(StringComparer.Ordinal);
    private readonly List<string> _spec = [];
    private readonly List<(CaseFileLine Line, PageRange Range)> _pages = [];
    private readonly List<byte> _code = [];
    private readonly List<byte> _lengths = [];
    private readonly List<string> _remarks = [];
    private readonly List<(CaseFileLine Line, ulong Address, ImmutableArray<byte>.Builder Bytes)> _contents = [];
    private readonly List<(ImmutableArray<CaseFileLine> Calls, CaseFileLine Line, Response Response)> _responses = [];
    private readonly List<SegmentDescriptor> _segments = [];
    private string? _id;
    private string? _found;
    private string? _verdict;
    private CpuProfile? _profile;
    private ulong _at;
    private bool _otherSegments;
    private RegisterState _registers = new() { Gpr = default, Rip = 0, Rflags = 0 };
    private ulong _gprSeen;
    private CaseLimits _limits = CaseLimits.Default;
    private long _pageCount;
    private int _byteCount;
    private bool _openContents;
    private TestCase? _case;

    /// <summary>Reads all lines.</summary>
    public CaseFile Read()
    {
        CaseFileLine first = text.Lines[0];
        if (first.Key != "pvdf" || first.Words is not ["case", _])
        {
            throw first.Wrong($"{CaseFileText.Quote(first.Key)} is not the format line", $"after the comment comes `pvdf     case {CaseFile.FormatVersion}`");
        }

        first.Count(first.Words[1], "format version", CaseFile.FormatVersion, CaseFile.FormatVersion);
        foreach (CaseFileLine line in text.Lines)
        {
            if (_once.ContainsKey("end"))
            {
                throw line.Wrong("something after `end`", "`end` is the last line");
            }

            Take(line);
        }

        return new CaseFile
        {
            Comment = text.Comment,
            Id = _id!,
            Spec = [.. _spec],
            Found = _found,
            Case = _case!,
            CodeComments = [.. _remarks],
            Outcomes = [.. _outcomes.Select(o => o.ToOutcome())],
            Verdict = _verdict,
        };
    }

    private void Take(CaseFileLine line)
    {
        switch (line.Key)
        {
            case "fact" or "detail" or "event" or "regs" or "frame" or "final" or "state" or "memory" or "seen":
                TakeOutcome(line);
                return;
            case "outcome":
                _case ??= Finish(line);
                StartOutcome(line);
                return;
            case "verdict":
                Once(line);
                _verdict = NotEmpty(line);
                return;
            case "end":
                Once(line);
                _case ??= Finish(line);
                if (line.Value.Length > 0)
                {
                    throw line.Wrong("something after `end`", "`end` stands alone on the last line");
                }

                return;
            default:
                if (_case is not null)
                {
                    throw line.Wrong($"{CaseFileText.Quote(line.Key)} after an outcome", Known(line.Key) ? "the case comes first, then its outcomes" : KnownKeys);
                }

                if (line.Key != "+")
                {
                    _openContents = false;
                }

                TakeCase(line);
                return;
        }
    }

    private const string KnownKeys = "docs/case-format.md lists the keys";

    private static bool Known(string key) =>
        key is "pvdf" or "id" or "spec" or "found" or "abi" or "cpu" or "feature" or "gate" or "segment" or "reading" or "cpuid" or "map" or "page" or "at" or "code" or "gpr" or "rip" or "rflags"
            or "sel" or "base" or "pkru" or "dr" or "bytes" or "+" or "response" or "limit" or "start" or "pvm" or "xen" or "traps" or "trap" or "callback" or "gdt" or "user-map" or "user-page" or "sys" or "inject" or "hypercall";

    private void TakeCase(CaseFileLine line)
    {
        if (line.Key is not ("spec" or "feature" or "segment" or "reading" or "cpuid" or "page" or "user-page" or "code" or "gpr" or "sys" or "bytes" or "+" or "hypercall" or "response" or "trap" or "callback" or "gdt"))
        {
            if (!Known(line.Key))
            {
                throw line.Wrong($"unknown key {CaseFileText.Quote(line.Key)}", KnownKeys);
            }

            Once(line);
        }

        switch (line.Key)
        {
            case "id":
                _id = NotEmpty(line);
                break;
            case "spec":
                _spec.Add(NotEmpty(line));
                break;
            case "found":
                _found = NotEmpty(line);
                break;
            case "abi" or "start" or "pvm" or "xen" or "traps" or "trap" or "callback" or "gdt" or "map" or "user-map" or "sys" or "inject" or "hypercall":
                TakeSystem(line);
                break;
            case "cpu" or "feature" or "gate" or "segment" or "reading" or "cpuid":
                TakeProfile(line);
                break;
            case "page" or "user-page":
                TakePage(line);
                break;
            case "at":
                _at = line.Hex(line.Value, "at");
                break;
            case "code":
                TakeCode(line);
                break;
            case "bytes" or "+":
                TakeBytes(line);
                break;
            case "response":
                TakeResponse(line);
                break;
            case "limit":
                _limits = new CaseLimits(line.Count(line.Named(line.Words, ["instructions"])[0], "instructions", 1, TestCase.MaximumInstructions));
                break;
            default:
                TakeRegisters(line);
                break;
        }
    }

    private void TakeRegisters(CaseFileLine line)
    {
        switch (line.Key)
        {
            case "gpr":
                RegisterState before = _registers;
                _registers = CaseFileWords.Apply(line, _registers, ref _gprSeen);
                if ((_registers with { Gpr = before.Gpr }) != before)
                {
                    throw line.Wrong("a register that is not a general one", "use rax to r15 here; the others have keys of their own");
                }

                break;
            case "rip":
                _registers = _registers with { Rip = line.Hex(line.Value, "rip") };
                break;
            case "rflags":
                _registers = _registers with { Rflags = line.Hex(line.Value, "rflags") };
                break;
            case "sel":
                string[] selectors = line.Named(line.Words, CaseFileWords.SelectorNames);
                for (int i = 0; i < selectors.Length; i++)
                {
                    _registers = _registers.With(Register.Cs + i, line.Hex(selectors[i], CaseFileWords.SelectorNames[i], ushort.MaxValue));
                }

                break;
            case "base":
                string[] bases = line.Named(line.Words, ["fs", "gs"]);
                _registers = _registers with { FsBase = line.Hex(bases[0], "fs"), GsBase = line.Hex(bases[1], "gs") };
                break;
            case "pkru":
                _registers = _registers with { Pkru = (uint)line.Hex(line.Value, "pkru", uint.MaxValue) };
                break;
            case "dr":
                _registers = _registers with { Debug = CaseFileWords.DebugOf(line, line.Named(line.Words, CaseFileWords.DebugNames)) };
                break;
        }
    }

    private void TakeProfile(CaseFileLine line)
    {
        if (line.Key == "cpu")
        {
            string[] words = line.Words;
            int vendor = line.OneOf(words.Length > 0 ? words[0] : "", "vendor", CaseFileWords.Vendors);
            string[] values = line.Named(words.AsSpan(1), ["family", "linear", "gdt"]);
            _profile = new CpuProfile
            {
                Vendor = (CpuVendor)vendor,
                Family = line.Count(values[0], "family", 0, 999),
                LinearBits = line.Count(values[1], "linear", 48, 57),
                GdtLimit = (ushort)line.Hex(values[2], "gdt", ushort.MaxValue),
                Features = ImmutableSortedSet.Create<string>(StringComparer.Ordinal),
            };
            return;
        }

        CpuProfile profile = _profile ?? throw line.Wrong($"`{line.Key}` without `cpu`", "a `cpu` line comes first");
        switch (line.Key)
        {
            case "feature":
                foreach (string feature in line.Words)
                {
                    if (profile.Features.Contains(feature))
                    {
                        throw line.Wrong($"feature {CaseFileText.Quote(feature)} twice", "name each feature once");
                    }

                    profile = profile with { Features = profile.Features.Add(feature) };
                }

                break;
            case "gate":
                profile = profile with { UserGates = line.Value == "none" ? [] : [.. line.Words.Select(w => line.Byte(w, "gate"))] };
                break;
            case "reading":
                profile = TakeReadings(line, profile);
                break;
            case "cpuid":
                TakeCpuid(line);
                break;
            default:
                TakeSegment(line);
                break;
        }

        _profile = profile;
    }

    /// <summary>The processor when its last line was read; null when there is none.</summary>
    /// <param name="next">The line after it, where missing keys are reported.</param>
    private CpuProfile? FinishProfile(CaseFileLine next)
    {
        if (_profile is not null && (!_once.ContainsKey("gate") || (_segments.Count == 0 && !_otherSegments)))
        {
            throw next.Wrong("a `cpu` without `gate` and `segment`", "a profile has both; `gate none` and `segment standard` are possible");
        }

        return _profile is null ? null : _profile with { Descriptors = [.. _segments], Cpuid = SortedCpuid() };
    }

    private void TakeSegment(CaseFileLine line)
    {
        string[] words = line.Words;
        bool special = words is ["standard"] or ["none"];
        if (_otherSegments || (special && _segments.Count > 0))
        {
            throw line.Wrong("`segment standard` or `segment none` beside another segment", "use it alone, or list all descriptors");
        }

        _otherSegments = special;
        if (special)
        {
            _segments.AddRange(words[0] == "none" ? [] : CpuProfile.DefaultDescriptors);
            return;
        }

        if (words.Length < 5)
        {
            throw line.Wrong("a segment with too few values", "write index type=... dpl=... base=... limit=... and flags");
        }

        string[] values = line.Named(words.AsSpan(1, 4), ["type", "dpl", "base", "limit"]);
        int flags = 0;
        foreach (string word in words.AsSpan(5))
        {
            int flag = 1 << line.OneOf(word, "flag", CaseFileWords.SegmentFlags);
            flags = (flags & flag) == 0 ? flags | flag : throw line.Wrong($"flag {word} twice", "name each flag once");
        }

        _segments.Add(new SegmentDescriptor(
            line.Count(words[0], "index", 0, 8191),
            (byte)line.Hex(values[0], "type", 15),
            (flags & 1) != 0,
            (byte)line.Count(values[1], "dpl", 0, 3),
            (flags & 2) != 0,
            (flags & 4) != 0,
            (flags & 8) != 0,
            (flags & 16) != 0,
            (flags & 32) != 0,
            (uint)line.Hex(values[2], "base", uint.MaxValue),
            (uint)line.Hex(values[3], "limit", uint.MaxValue)));
    }

    private void Once(CaseFileLine line)
    {
        if (!_once.TryAdd(line.Key, line.Number))
        {
            throw line.Wrong($"`{line.Key}` for the second time (first in line {_once[line.Key]})", "say it once");
        }
    }

    private static string NotEmpty(CaseFileLine line) => line.Value.Length > 0 ? line.Value : throw line.Wrong($"`{line.Key}` without a value", "give one, or leave the line out");
}
