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

        _pages.Add((line, range));
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

    private void TakeResponse(CaseFileLine line)
    {
        if (_responses.Count == TestCase.MaximumResponses)
        {
            throw line.Wrong("one response too many", $"a case has at most {TestCase.MaximumResponses}");
        }

        ImmutableArray<KeyValuePair<Register, ulong>>.Builder patches = ImmutableArray.CreateBuilder<KeyValuePair<Register, ulong>>();
        string[] words = line.Words;
        if (words.Length == 0)
        {
            throw line.Wrong("a response that says nothing", "write `none`, or registers as in `response rip=401000`");
        }

        foreach (string word in words is ["none"] ? [] : words)
        {
            (string name, string value) = line.Pair(word);
            patches.Add(new((Register)line.OneOf(name, "register", CaseFileWords.Registers), line.Hex(value, name)));
        }

        _responses.Add((line, new Response(patches.ToImmutable())));
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

        CpuProfile? profile = FinishProfile(next);
        if (_lengths.Count == 0)
        {
            throw next.Wrong("the case has no `code` line", "add one before this line");
        }

        TestCase all = new()
        {
            Abi = Abi.X86,
            Code = new CodeBlock(_at, [.. _code], [.. _lengths]),
            Registers = _registers,
            Layout = Layout(next),
            Limits = _limits,
            Profile = profile,
        };

        // The first line that makes the case malformed is the one to show: lines are added in halves until it is found.
        Demand(all, _ => new CaseFileLine(text.File, text.LineOf(all.Check()!.Value.Field), "", ""), 0);
        TestCase bare = all;
        all = bare with { Contents = Contents(_contents.Count) };
        Demand(all, count => _contents[count - 1].Line, _contents.Count, count => bare with { Contents = Contents(count) });
        bare = all;
        all = bare with { Responses = Responses(_responses.Count) };
        Demand(all, count => _responses[count - 1].Line, _responses.Count, count => bare with { Responses = Responses(count) });
        return all;
    }

    private static void Demand(TestCase testCase, Func<int, CaseFileLine> lineOf, int count, Func<int, TestCase>? prefix = null)
    {
        if (testCase.Check() is not CaseProblem problem)
        {
            return;
        }

        int good = 0;
        int bad = count;
        while (prefix is not null && bad - good > 1)
        {
            int middle = (good + bad) / 2;
            if (prefix(middle).Check() is null)
            {
                good = middle;
            }
            else
            {
                bad = middle;
            }
        }

        throw lineOf(bad).Wrong(problem.Message, Cure(problem.Field));
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
        _ => "docs/case-format.md says what this key takes",
    };

    private PageLayout Layout(CaseFileLine next)
    {
        if (_standardMap)
        {
            return _pages.Count == 0 ? AddressMap.Standard : throw _pages[0].Line.Wrong("a page beside `map standard`", "use one or the other");
        }

        if (_pages.Count == 0)
        {
            throw next.Wrong("the case has no pages", "add `map standard` or `page` lines before this line");
        }

        _pages.Sort((a, b) => a.Range.Address.CompareTo(b.Range.Address));
        for (int i = 1; i < _pages.Count; i++)
        {
            if (_pages[i].Range.Address <= _pages[i - 1].Range.Last)
            {
                (CaseFileLine first, CaseFileLine second) = (_pages[i - 1].Line, _pages[i].Line);
                CaseFileLine later = first.Number > second.Number ? first : second;
                throw later.Wrong($"these pages overlap those of line {Math.Min(first.Number, second.Number)}", "name each page once");
            }
        }

        return PageLayout.Create(_pages.Select(p => p.Range));
    }

    private ImmutableArray<MemoryContents> Contents(int count)
    {
        IEnumerable<MemoryContents> runs = _contents.Take(count).Select(c => new MemoryContents(c.Address, c.Bytes.ToImmutable()));
        return [.. runs];
    }

    private ImmutableArray<Response> Responses(int count) => [.. _responses.Take(count).Select(r => r.Response)];

    private static bool Canonical(ulong address) => (ulong)((long)(address << 16) >> 16) == address;
}
