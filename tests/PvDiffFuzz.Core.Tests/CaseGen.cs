using System.Collections.Immutable;
using FsCheck;
using FsCheck.Fluent;

namespace PvDiffFuzz.Core.Tests;

/// <summary>Arbitrary well-formed cases, outcomes and case files: every field takes every form that the contract allows.</summary>
internal static class CaseGen
{
    private static readonly Gen<ulong> AnyWord =
        from high in Gen.Choose(int.MinValue, int.MaxValue)
        from low in Gen.Choose(int.MinValue, int.MaxValue)
        select ((ulong)(uint)high << 32) | (uint)low;

    /// <summary>Any quadword, small and boundary values often.</summary>
    public static readonly Gen<ulong> Word = Gen.Frequency(
        (4, Gen.Constant(0UL)),
        (3, Gen.Elements<ulong>(1, 0x7f, 0x80, uint.MaxValue, 0x1_0000_0000, long.MaxValue, 1UL << 63, ulong.MaxValue)),
        (3, AnyWord));

    private static readonly Gen<byte> Octet = Gen.Choose(0, 255).Select(b => (byte)b);

    private static readonly Gen<ushort> Selector = Gen.Frequency(
        (3, Gen.Elements<ushort>(0, 0x23, 0x2b, 0x33)),
        (1, Gen.Choose(0, 0xffff).Select(s => (ushort)s)));

    private static readonly Gen<string> Letters = Gen.Elements("a", "Z", "0", " ", "#", ";", "=", "\\", "*", "é", "日", "𝄞", "[", "u0041");

    /// <summary>Text that a line may carry: no spaces at the ends.</summary>
    private static readonly Gen<string> LineText = Letters.NonEmptyListOf().Select(l => string.Concat(l).Trim(' ')).Select(s => s.Length == 0 ? "x" : s);

    /// <summary>Any string at all, lone surrogates and control characters included.</summary>
    private static readonly Gen<string> AnyText = Gen.Frequency(
        (3, LineText),
        (1, Gen.Constant("")),
        (1, Gen.Elements(" ", "\0", "\n", "\ud800", "\udc00", "\ufeff", "\ufffd", "\u2028", "\\", "\\u", "x", "𝄞").ListOf().Select(l => string.Concat(l))),
        (1, Gen.Choose(0, 400).Select(n => new string(' ', n) + new string('y', n))));

    private static readonly Gen<string> Name = Gen.Elements("native", "model.x86", "kvm", "recorded:native", "a_b-c.9");

    private static readonly Gen<GprFile> Gprs = Word.ArrayOf(GprFile.Count).Select(words =>
    {
        GprFile gpr = default;
        words.CopyTo(gpr);
        return gpr;
    });

    private static readonly Gen<DebugRegisters?> Debug = Gen.Frequency(
        (3, Gen.Constant<DebugRegisters?>(null)),
        (1, Word.ArrayOf(5).Select(DebugRegisters? (w) => new DebugRegisters(w[0], w[1], w[2], w[3], w[4]))));

    private static readonly Gen<uint?> Pkru = Gen.Frequency((2, Gen.Constant<uint?>(null)), (1, Word.Select(uint? (w) => (uint)w)));

    /// <summary>Registers of any value.</summary>
    public static readonly Gen<RegisterState> AnyRegisters =
        from gpr in Gprs
        from words in Word.ArrayOf(4)
        from selectors in Selector.ArrayOf(6)
        from pkru in Pkru
        from debug in Debug
        select new RegisterState
        {
            Gpr = gpr,
            Rip = words[0],
            Rflags = words[1],
            FsBase = words[2],
            GsBase = words[3],
            Pkru = pkru,
            Debug = debug,
            Cs = selectors[0],
            Ss = selectors[1],
            Ds = selectors[2],
            Es = selectors[3],
            Fs = selectors[4],
            Gs = selectors[5],
        };

    /// <summary>A state that differs from another in a few registers.</summary>
    private static Gen<RegisterState> Near(RegisterState state) =>
        from changes in (from register in Gen.Choose(0, (int)Register.GsBase) from value in Word select ((Register)register, value)).ListOf()
        from pkru in Gen.Frequency((3, Gen.Constant(state.Pkru)), (1, Pkru))
        select changes.Take(4).Aggregate(state with { Pkru = pkru }, (s, c) => s.With(c.Item1, c.value));

    /// <summary>Any bytes that end where a block of user code ends.</summary>
    public static readonly Gen<CodeBlock> AnyCode =
        from address in Gen.Elements(AddressMap.LowBlock, AddressMap.HighBlock)
        from lengths in Gen.Frequency((9, Gen.Choose(1, 15)), (1, Gen.Choose(1, 255))).NonEmptyListOf()
        let kept = lengths.Take(20).Select(n => (byte)n).ToImmutableArray()
        from bytes in Octet.ArrayOf(kept.Sum(n => n))
        select new CodeBlock(address + AddressMap.CodeEnd - (ulong)bytes.Length, [.. bytes], kept);

    private static readonly Gen<PageAccess> Access = Gen.Elements<PageAccess>(
        PageAccess.None, PageAccess.Read, PageAccess.Read | PageAccess.Write, PageAccess.Read | PageAccess.Execute, PageAccess.Read | PageAccess.Supervisor, (PageAccess)15);

    /// <summary>Pages at odd places; some overlap.</summary>
    public static readonly Gen<List<PageRange>> Ranges =
        (from page in Gen.Elements<ulong>(0, 1, 5, 6, 9, 0x7_ffff_fffc, 0xf_ffff_8000_0000, 0xf_ffff_ffff_0000)
         from count in Gen.Choose(1, 3)
         from access in Access
         select new PageRange(page << 12, count, access)).ListOf();

    /// <summary>The standard map, or the code's two pages with others at odd places.</summary>
    private static Gen<PageLayout> Layouts(CodeBlock code) => Gen.Frequency(
        (1, Gen.Constant(AddressMap.Standard)),
        (2, Ranges.Select(ranges => Joined(ranges, new PageRange(code.End - AddressMap.CodeEnd, 2, PageAccess.Read | PageAccess.Execute)))));

    /// <summary>Some pages with their own, without those that overlap others.</summary>
    public static PageLayout Joined(IEnumerable<PageRange> ranges, params PageRange[] own) => PageLayout.Create(
        ranges.OrderBy(r => r.Address).Aggregate(ImmutableArray.Create(own), (kept, r) => kept.Any(k => k.Address <= r.Last && r.Address <= k.Last) ? kept : kept.Add(r)));

    /// <summary>The nearest canonical address.</summary>
    public static ulong Canonical(ulong address) => (ulong)((long)(address << 16) >> 16);

    /// <summary>Contents at the starts and ends of readable pages.</summary>
    public static Gen<ImmutableArray<MemoryContents>> Contents(CodeBlock code, PageLayout layout)
    {
        PageRange[] readable = [.. layout.Ranges.Where(r => (r.Access & PageAccess.Read) != 0 && (r.Last < code.Address || r.Address >= code.End) && r.Last != ulong.MaxValue)];
        if (readable.Length == 0)
        {
            return Gen.Constant(ImmutableArray<MemoryContents>.Empty);
        }

        Gen<ImmutableArray<byte>> bytes = Gen.Frequency(
            (3, Octet.NonEmptyListOf().Select(l => l.ToImmutableArray())),
            (2, from value in Octet from count in Gen.Choose(1, 1500) from tail in Octet.ListOf() select ImmutableArray.CreateRange([.. Enumerable.Repeat(value, count), .. tail])));
        Gen<MemoryContents> run =
            from range in Gen.Elements(readable)
            from offset in Gen.Elements<ulong>(0, 1, 4000, 2000)
            from b in bytes
            let room = (int)Math.Min((ulong)b.Length, range.Last - (range.Address + offset) + 1)
            select new MemoryContents(range.Address + offset, b[..room]);
        return run.ListOf().Select(runs => runs.OrderBy(r => r.Address).Aggregate(
            ImmutableArray<MemoryContents>.Empty, (kept, r) => kept.Length > 0 && kept[^1].Address + (ulong)kept[^1].Bytes.Length > r.Address ? kept : kept.Add(r)));
    }

    private static readonly Gen<SegmentDescriptor> Descriptor =
        from index in Gen.Choose(0, 8191)
        from type in Gen.Choose(0, 15)
        from flags in Gen.Choose(0, 63)
        from dpl in Gen.Choose(0, 3)
        from words in Word.Two()
        select new SegmentDescriptor(
            index, (byte)type, (flags & 1) != 0, (byte)dpl, (flags & 2) != 0, (flags & 4) != 0, (flags & 8) != 0, (flags & 16) != 0, (flags & 32) != 0,
            (uint)words.Item1, (uint)words.Item2);

    /// <summary>At most one answer for each leaf and subleaf; leaves below 8 do not look at the subleaf.</summary>
    private static readonly Gen<ImmutableArray<CpuidLeaf>> CpuidLeaves =
        from numbers in Gen.SubListOf(Enumerable.Range(0, 24))
        from values in Gen.Choose(int.MinValue, int.MaxValue).ArrayOf(4)
        select ImmutableArray.CreateRange(numbers.Order().Select(n => new CpuidLeaf(
            n < 8 ? (uint)n : 0x8000_0000 + (uint)(n / 4), n < 8 ? null : (uint)(n % 4), (uint)values[0], (uint)values[1], (uint)values[2], (uint)(values[3] + n))));

    private static readonly Gen<CpuProfile?> Profile = Gen.Frequency(
        (2, Gen.Constant<CpuProfile?>(null)),
        (1, Gen.Elements<CpuProfile?>(CpuProfile.DefaultAmd, CpuProfile.DefaultIntel)),
        (2, from vendor in Gen.Elements(CpuVendor.Intel, CpuVendor.Amd)
            from family in Gen.Choose(0, 999)
            from linear in Gen.Elements(48, 57)
            from features in Gen.SubListOf("ADX", "BMI1", "SSE4_2", "x", "CMPXCHG16B")
            from gates in Octet.ListOf()
            from descriptors in Descriptor.ListOf()
            from limit in Gen.Choose(0, 0xffff)
            from readings in Gen.SubListOf(Enum.GetValues<Reading>())
            from leaves in CpuidLeaves
            select (CpuProfile?)new CpuProfile
            {
                Vendor = vendor,
                Family = family,
                LinearBits = linear,
                Features = [.. features],
                UserGates = [.. gates],
                Descriptors = [.. descriptors],
                GdtLimit = (ushort)limit,
                Readings = readings.ToImmutableSortedDictionary(r => r, r => (ulong)limit << (r is Reading.Random or Reading.TimeStamp ? 40 : 0)),
                Cpuid = leaves,
            }));

    private static readonly Gen<Response> Responses =
        from registers in Gen.SubListOf(Enumerable.Range(0, (int)Register.Pkru).Select(r => (Register)r))
        from values in Word.ArrayOf(registers.Count)
        select new Response([.. registers.Order().Select((r, i) => KeyValuePair.Create(r, Enterable(r, values[i])))]);

    /// <summary>The nearest value with which user code can be entered.</summary>
    private static ulong Enterable(Register register, ulong value) => register switch
    {
        Register.Rip or Register.FsBase or Register.GsBase => Canonical(value),
        Register.Rflags => (value & RflagsBits.UserLoadable) | RflagsBits.Fixed1 | RflagsBits.IF,
        Register.Cs => (value & 1) == 0 ? Selectors.UserCode64 : Selectors.UserCode32,
        Register.Ss => Selectors.UserData,
        _ => value,
    };

    /// <summary>Well-formed inputs, with and without a system side.</summary>
    public static Gen<TestCase> Cases => Gen.Frequency((3, X86Cases), (2, PvmGen.Cases), (2, XenGen.Cases));

    private static readonly Gen<TestCase> X86Cases =
        from code in AnyCode
        from layout in Layouts(code)
        from registers in AnyRegisters
        from contents in Contents(code, layout)
        from responses in Responses.ListOf()
        from limit in Gen.Choose(1, TestCase.MaximumInstructions)
        from profile in Profile
        from narrow in Gen.Choose(0, 4).Select(n => n == 0 && code.Address < AddressMap.HighBlock)
        let start = Enum.GetValues<Register>().Where(r => r < Register.Pkru).Aggregate(registers, (state, r) => state.With(r, Enterable(r, state[r])))
        select new TestCase
        {
            Code = code,
            Layout = layout,
            Contents = contents,
            Responses = [.. responses.Take(TestCase.MaximumResponses)],
            Limits = new CaseLimits(limit),
            Profile = profile,
            Registers = narrow ? Narrow(start) with { Cs = Selectors.UserCode32 } : start with { Cs = Selectors.UserCode64 },
        };

    private static RegisterState Narrow(RegisterState registers)
    {
        for (Register register = Register.Rax; register <= Register.Rip; register++)
        {
            registers = registers.With(register, register is >= Register.R8 and <= Register.R15 ? 0 : (uint)registers[register]);
        }

        return registers;
    }

    private static Gen<Event> NextEvent(Abi abi, RegisterState before) =>
        from any in Gen.Choose(0, 5)
        from vector in Octet
        from error in Pkru
        from cr2 in Gen.Frequency((2, Gen.Constant<ulong?>(null)), (1, Word.Select(ulong? (w) => w)))
        from entry in Gen.Elements(Enum.GetValues<EntryPoint>().Where(e => FrameLayout.HasEntry(abi, e)))
        let kind = abi == Abi.X86 ? (EventKind)any : entry == EntryPoint.HypercallReturn ? EventKind.Hypercall : any == (int)EventKind.Hypercall ? EventKind.Fault : (EventKind)any
        from registers in Gen.Frequency((3, Near(before)), (1, AnyRegisters))
        from length in Gen.Elements(abi.IsXen() ? XenGen.FrameLengths(abi, entry).ToArray() : [0, FrameLayout.LengthAt(abi, entry)])
        from frame in Gen.Frequency((1, Gen.Constant<byte>(0)), (1, Octet)).ArrayOf(length)
        select new Event(kind, vector, error, cr2, entry, registers) { Frame = [.. frame] };

    private static Gen<ImmutableArray<Event>> Events(Abi abi, RegisterState before, int count) =>
        count == 0
            ? Gen.Constant(ImmutableArray<Event>.Empty)
            : from e in NextEvent(abi, before) from rest in Events(abi, e.Registers, count - 1) select ImmutableArray.CreateRange([e, .. rest]);

    /// <summary>Answers to a case, odd ones included.</summary>
    public static Gen<Outcome> Outcomes(TestCase testCase) =>
        from end in Gen.Choose(0, (int)EndKind.HarnessError)
        from count in Gen.Choose(end == (int)EndKind.Event || (end == (int)EndKind.ReachedEnd && testCase.Start == GuestMode.User) ? 1 : 0, 3)
        let before = testCase.Registers with { Debug = null }
        from events in Events(testCase.Abi, before, count)
        let last = events.IsEmpty ? before : events[^1].Registers
        from final in Gen.Frequency((3, Gen.Constant<RegisterState?>(last)), (1, Gen.Constant<RegisterState?>(null)), (1, Near(last).Select(RegisterState? (r) => r)))
        from memory in (from address in Word from value in Word select new MemoryWord(address & ~7UL, value)).ListOf()
        from looked in Gen.Elements(false, true)
        from system in testCase.Abi.IsPvm() ? PvmGen.State(testCase.Abi) : testCase.Abi.IsXen() ? XenGen.System(testCase.Abi) : Gen.Constant(SystemState.Empty)
        from detail in Gen.Frequency((2, Gen.Constant<string?>(null)), (1, AnyText.Select(string? (t) => t)))
        select new Outcome
        {
            End = (EndKind)end,
            Events = events,
            Registers = final,
            Memory = [.. memory.OrderBy(m => m.Address).DistinctBy(m => m.Address)],
            Seen = looked ? Around(memory) : [],
            System = system,
            Detail = detail,
        };

    /// <summary>Ranges that hold every changed word, and a byte after each where there is room.</summary>
    private static ImmutableArray<MemoryRange> Around(IEnumerable<MemoryWord> memory)
    {
        ImmutableArray<MemoryRange> ranges = [];
        foreach (ulong address in memory.Select(m => m.Address).Distinct().Order())
        {
            int length = address < ulong.MaxValue - 64 ? 9 : 8;
            ranges = ranges.Length > 0 && address - ranges[^1].Address <= (ulong)ranges[^1].Length
                ? ranges.SetItem(ranges.Length - 1, ranges[^1] with { Length = (int)(address - ranges[^1].Address) + length })
                : ranges.Add(new MemoryRange(address, length));
        }

        return ranges;
    }

    private static readonly Gen<RecordedSource> Source =
        from target in Name
        from kind in Gen.Choose(0, 3)
        from lineage in Name
        from facts in (from name in Gen.Elements("cpu", "kernel", "ucode", "é") from value in Gen.Elements("", "25.1.1", "a b=c", "日") select KeyValuePair.Create(name, value)).ListOf()
        select new RecordedSource(target, (TargetKind)kind, lineage, new Fingerprint([.. facts.DistinctBy(f => f.Key, StringComparer.Ordinal)]));

    /// <summary>Targets of a recording, at least one.</summary>
    public static readonly Gen<ImmutableArray<RecordedSource>> Sources =
        Source.NonEmptyListOf().Select(sources => ImmutableArray.CreateRange(sources.DistinctBy(s => s.Name, StringComparer.Ordinal)));

    private static Gen<RecordedOutcome> Recorded(TestCase testCase) =>
        from source in Source
        from outcome in Outcomes(testCase)
        select new RecordedOutcome(source.Name, source.Kind, source.Lineage, source.Fingerprint, outcome);

    /// <summary>Case files that can be stored.</summary>
    public static readonly Gen<CaseFile> Files =
        from testCase in Cases
        from comment in (from first in LineText from more in LineText.Or(Gen.Constant("")).ListOf() from last in LineText select string.Join('\n', [first, .. more, last]))
        from id in Gen.Elements("a", "adc-carry.1", "0")
        from spec in LineText.ListOf()
        from found in Gen.OrNull(LineText)
        from verdict in Gen.OrNull(LineText)
        from remarks in LineText.Or(Gen.Constant("")).ArrayOf(testCase.Code.Lengths.Length)
        from outcomes in Recorded(testCase).ListOf()
        select new CaseFile
        {
            Comment = comment,
            Id = id,
            Spec = [.. spec],
            Found = found,
            Case = testCase,
            CodeComments = [.. remarks],
            Verdict = verdict,
            Outcomes = [.. outcomes.DistinctBy(o => (o.Target, o.Fingerprint)).Take(6)],
        };
}
