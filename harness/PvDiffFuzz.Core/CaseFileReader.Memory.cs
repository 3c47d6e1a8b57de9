using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <content>Code, pages, contents and responses, and putting the case together.</content>
internal sealed partial class CaseFileReader
{
    private void TakeCode(CaseFileLine line)
    {
        int semicolon = line.Value.IndexOf(';', StringComparison.Ordinal);
        string hex = semicolon < 0 ? line.Value : line.Value[..semicolon];
        int length = 0;
        foreach (string word in hex.Split(' ', StringSplitOptions.RemoveEmptyEntries))
        {
            _code.Add(line.Byte(word, "code"));
            length++;
        }

        if (length is 0 or > byte.MaxValue || _code.Count > CodeBlock.MaximumLength)
        {
            throw line.Wrong(
                $"{length} bytes in this entry and {_code.Count} so far",
                $"an entry is one instruction, or 1 to {byte.MaxValue} bytes that are none; a case has at most {CodeBlock.MaximumLength} bytes");
        }

        _lengths.Add((byte)length);
        _remarks.Add(semicolon < 0 ? "" : line.Value[(semicolon + 1)..].Trim(' '));
    }

    private void TakePage(CaseFileLine line)
    {
        if (line.Words is not [string addressText, string countText, string accessText])
        {
            throw line.Wrong("a page without its three values", "write address, count and rights, as in `page 410000 2 rw-u`");
        }

        ulong address = line.Hex(addressText, "page");
        int count = line.Count(countText, "pages", 1, TestCase.MaximumPages);
        PageAccess access = CaseFileWords.AccessOf(accessText)
            ?? throw line.Wrong($"rights {CaseFileText.Quote(accessText)}", "use rwxu with - for what is missing; a present page has r; ---- is not present");
        PageRange range = new(address, count, access);
        if (address % PageLayout.PageSize != 0 || range.Last < address || !Canonical(address) || !Canonical(range.Last) || address >> 63 != range.Last >> 63)
        {
            throw line.Wrong($"{address:x} with {count} pages", "an address is a multiple of 1000, and all pages are canonical");
        }

        _pageCount += count;
        if (_pageCount > TestCase.MaximumPages)
        {
            throw line.Wrong($"{_pageCount} pages so far", $"a case has at most {TestCase.MaximumPages}");
        }

        (line.Key == "page" ? _pages : _userPages).Add((line, range));
    }

    private void TakeBytes(CaseFileLine line)
    {
        ReadOnlySpan<string> words = line.Words;
        if (line.Key == "bytes")
        {
            if (words.Length < 2)
            {
                throw line.Wrong("no bytes", "write an address and bytes, as in `bytes 410000 de ad 00*14`");
            }

            _contents.Add((line, line.Hex(words[0], "address"), ImmutableArray.CreateBuilder<byte>()));
            _openContents = true;
            words = words[1..];
        }
        else if (!_openContents)
        {
            throw line.Wrong("`+` without `bytes` before it", "start contents with `bytes` and an address");
        }

        foreach (string word in words)
        {
            int star = word.IndexOf('*', StringComparison.Ordinal);
            byte value = line.Byte(star < 0 ? word : word[..star], "byte");
            int count = star < 0 ? 1 : line.Count(word[(star + 1)..], "fill", 1, TestCase.MaximumContents);
            _byteCount += count;
            if (_byteCount > TestCase.MaximumContents)
            {
                throw line.Wrong($"more than {TestCase.MaximumContents} bytes of contents", "make the case smaller");
            }

            for (int i = 0; i < count; i++)
            {
                _contents[^1].Bytes.Add(value);
            }
        }
    }

    /// <summary>Builds the case when its last line was read.</summary>
    /// <param name="next">The line after the case, where missing keys are reported.</param>
    private TestCase Finish(CaseFileLine next)
    {
        foreach (string key in (ReadOnlySpan<string>)["id", "abi", "at", "rip", "rflags", "sel", "limit"])
        {
            if (!_once.ContainsKey(key))
            {
                throw next.Wrong($"the case has no `{key}` line", "add one before this line");
            }
        }

        DemandSystem(next);
        CpuProfile? profile = FinishProfile(next);
        if (_lengths.Count == 0)
        {
            throw next.Wrong("the case has no `code` line", "add one before this line");
        }

        PageLayout pages = Layout(next);
        TestCase all = new()
        {
            Abi = _abi,
            Start = _mode,
            Code = new CodeBlock(_at, [.. _code], [.. _lengths]),
            Registers = _registers,
            Layout = pages,
            Contents = Contents(_contents.Count),
            Responses = Responses(_responses.Count),
            Limits = _limits,
            Profile = profile,
            System = _system,
            Pvm = _pvm is null ? null : _pvm with { UserLayout = UserLayout() },
            Xen = FinishXen(next),
            Inject = _inject,
        };
        return all.Check() is not CaseProblem problem ? all : throw LineOf(all, problem).Wrong(problem.Message, Cure(problem.Field));
    }

    /// <summary>The line that makes a case malformed. Contents and responses have many lines: they are added in halves until the problem is there.</summary>
    private CaseFileLine LineOf(TestCase malformed, CaseProblem problem) => problem.Field switch
    {
        "bytes" => _contents[FirstBad(_contents.Count, count => malformed with { Contents = Contents(count) }) - 1].Line,
        "response" => _responses[FirstBad(_responses.Count, count => malformed with { Responses = Responses(count) }) - 1].Line,
        "hypercall" => LineOfHypercall(malformed, FirstBad(_responses.Count, count => malformed with { Responses = Responses(count) }) - 1),
        "sys" => LineOfSystem(problem),
        _ => new CaseFileLine(text.File, text.LineOf(problem.Field), "", ""),
    };

    /// <summary>The smallest number of entries with which a case has the problem that it has with all of them.</summary>
    private static int FirstBad(int count, Func<int, TestCase> prefix)
    {
        string field = prefix(count).Check()!.Value.Field;
        int good = 0;
        int bad = count;
        while (bad - good > 1)
        {
            int middle = (good + bad) / 2;
            if (prefix(middle).Check()?.Field != field)
            {
                good = middle;
            }
            else
            {
                bad = middle;
            }
        }

        return bad;
    }

    /// <summary>What would be right, for each key that <see cref="TestCase.Check"/> may name.</summary>
    private static string Cure(string field) => field switch
    {
        "code" => "code fills executable pages to their end, and no page follows",
        "rflags" => "start from 202 and add CF, PF, AF, ZF, SF, TF, DF, OF, NT, RF, AC or ID",
        "cs" or "ss" => "write cs=33 or cs=23, and ss=2b",
        "rip" or "fsbase" or "gsbase" => "bits 63 to 47 of an address are equal",
        "gpr" => "use values up to ffffffff and leave r8 to r15 out, or start with cs=33",
        "bytes" => "list contents in address order, in present pages, apart from each other and from the code",
        "response" => "list each register once, in the order rax to r15, rip, rflags, cs, ss, ds, es, fs, gs, fsbase, gsbase, with values that a case may start with",
        "page" or "user-page" => "a present page has r, and both roots together have few pages",
        "abi" => "a PVM case has a line such as `pvm      pvcs=490000 path=cold`, a Xen case one such as `xen      version=any iret=0`",
        "pvm" => "give the structure a page of its own that no `page` names; other ABIs have none",
        "xen" or "traps" or "trap" or "callback" or "gdt" => "state what a guest could have registered; other ABIs have none of it",
        "start" or "inject" => "leave the line out, or name another ABI",
        "sys" => "state what the ABI has, as its specification allows it",
        "hypercall" => "write the number and as many arguments as the ABI takes",
        _ => "docs/case-format.md says what this key takes",
    };

    private static PageLayout Listed(List<(CaseFileLine Line, PageRange Range)> pages)
    {
        pages.Sort((a, b) => a.Range.Address.CompareTo(b.Range.Address));
        for (int i = 1; i < pages.Count; i++)
        {
            if (pages[i].Range.Address <= pages[i - 1].Range.Last)
            {
                (CaseFileLine first, CaseFileLine second) = (pages[i - 1].Line, pages[i].Line);
                CaseFileLine later = first.Number > second.Number ? first : second;
                throw later.Wrong($"these pages overlap those of line {Math.Min(first.Number, second.Number)}", "name each page once");
            }
        }

        return PageLayout.Create(pages.Select(p => p.Range));
    }

    private ImmutableArray<MemoryContents> Contents(int count)
    {
        IEnumerable<MemoryContents> runs = _contents.Take(count).Select(c => new MemoryContents(c.Address, c.Bytes.ToImmutable()));
        return [.. runs];
    }

    private ImmutableArray<Response> Responses(int count) => [.. _responses.Take(count).Select(r => r.Response)];

    private static bool Canonical(ulong address) => (ulong)((long)(address << 16) >> 16) == address;
}
