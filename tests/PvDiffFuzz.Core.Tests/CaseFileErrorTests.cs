using System.Text;

namespace PvDiffFuzz.Core.Tests;

/// <summary>Each kind of bad file: the line it is on, what is wrong and what would be right.</summary>
public sealed class CaseFileErrorTests
{
    /// <summary>A piece of the sample, what stands there instead, and the message. Lines are those of docs/case-format.md's example.</summary>
    [Theory]
    [InlineData("pvdf     case 1", "pvdf     case 2", 4, "format version `2` is not a count of this field; use decimal digits, 1 to 1")]
    [InlineData("pvdf     case 1\n", "", 4, "`id` is not the format line; after the comment comes `pvdf     case 1`")]
    [InlineData("id       adc", "id       ADC", 5, "`ADC-carry-wrap` is not an id; use lower-case")]
    [InlineData("id       adc-carry-wrap\n", "", 21, "the case has no `id` line; add one")]
    [InlineData("limit    instructions=20000\n", "", 21, "the case has no `limit` line; add one")]
    [InlineData("map      standard\n", "", 21, "the case has no pages; add `map standard` or `page` lines")]
    [InlineData("abi      x86", "abi      pvm-rfc2", 10, "ABI `pvm-rfc2` is not known; use one of: x86, pvm-rfc1, pvm-612, pvm-abi1")]
    [InlineData("rflags   203", "rflagz   203", 17, "unknown key `rflagz`; docs/case-format.md lists the keys")]
    [InlineData("rflags   203", "rflags   203\nrflags   203", 18, "`rflags` for the second time (first in line 17); say it once")]
    [InlineData("rflags   203", "rflags   3", 17, "3: user code is entered with bits 202 set")]
    [InlineData("rflags   203", "rflags   0x203", 17, "rflags `0x203` is not a number of this field; use hexadecimal digits without 0x")]
    [InlineData("rflags   203", "rflags   -3", 17, "rflags `-3` is not a number of this field")]
    [InlineData("rflags   203", "rflags", 17, "rflags `` is not a number of this field")]
    [InlineData("rflags   203", "rflags   11112222333344445", 17, "rflags `11112222333344445` is not a number of this field; use hexadecimal digits without 0x, 0 to ffffffffffffffff")]
    [InlineData("cs=33", "cs=10033", 18, "cs `10033` is not a number of this field; use hexadecimal digits without 0x, 0 to ffff")]
    [InlineData("cs=33", "cs=2b", 18, "2b: user code is entered with CS 33 (64-bit) or 23 (compatibility)")]
    [InlineData("ss=2b", "ss=0", 18, "0: user code is entered with SS 2b; write cs=33 or cs=23, and ss=2b")]
    [InlineData("rip      401ffa", "rip      800000000000", 16, "800000000000: not a canonical address; bits 63 to 47 of an address are equal")]
    [InlineData("bytes    410000 ", "base     fs=0 gs=800000000000\nbytes    410000 ", 19, "800000000000: not a canonical address; bits 63 to 47")]
    [InlineData("limit    ", "response rip=800000000000\nlimit    ", 20, "Rip = 800000000000: not a canonical address; list each register once")]
    [InlineData("cs=33", "cs=23", 15, "Rax = ffffffffffffffff: compatibility mode starts with 32-bit values")]
    [InlineData("cs=33 ss=2b", "ss=2b cs=33", 18, "`ss` is not expected here; write cs=... ss=... ds=...")]
    [InlineData("rax=ffffffffffffffff", "rax=g", 15, "rax `g` is not a number of this field")]
    [InlineData("rax=ffffffffffffffff", "eax=1", 15, "register `eax` is not known; use one of: rax, rcx")]
    [InlineData("rax=ffffffffffffffff", "rax=1 rax=1", 15, "rax is set twice; set each register once")]
    [InlineData("rax=ffffffffffffffff", "rip=1", 15, "a register that is not a general one; use rax to r15 here")]
    [InlineData("rax=ffffffffffffffff", "rax", 15, "`rax` is not of the form name=value; write for example rax=1")]
    [InlineData("48 83 d0 00", "48 83 d0 0", 13, "code `0` is not a byte; use two hexadecimal digits")]
    [InlineData("48 83 d0 00", "", 13, "0 bytes in this entry and 0 so far; an entry is one instruction")]
    [InlineData("at       401ffa", "at       401ff8", 13, "the code ends at 401ffe, where a page is mapped")]
    [InlineData("at       401ffa", "at       510ffa", 13, "the code touches page 510000, which is not an executable page of the case")]
    [InlineData("bytes    410000 de", "bytes    410000 d", 19, "byte `d` is not a byte; use two hexadecimal digits")]
    [InlineData("ff*14", "ff*1400000", 19, "fill `1400000` is not a count of this field; use decimal digits, 1 to 1048576")]
    [InlineData("ff*14", "ff*1048575", 19, "more than 1048576 bytes of contents; make the case smaller")]
    [InlineData("bytes    410000 ", "bytes    412000 ", 19, "412000: page 412000 is not present")]
    [InlineData("limit    ", "bytes    41000f 00\nlimit    ", 20, "41000f: contents overlap, wrap or are not in address order")]
    [InlineData("limit    ", "bytes    410010 00\nbytes    410011 00\nbytes    410012 00 00\nbytes    410013 01\nlimit    ", 23, "410013: contents overlap")]
    [InlineData("bytes    410000 ", "+        ", 19, "`+` without `bytes` before it")]
    [InlineData("limit    ", "response none\nresponse rbx=0 rax=0\nlimit    ", 21, "Rax: patches are in register order")]
    [InlineData("limit    ", "response pkru=0\nlimit    ", 20, "Pkru: patches are in register order, once each, without debug registers, PKRU for eretu only")]
    [InlineData("limit    ", "response\nlimit    ", 20, "a response that says nothing; write `none`")]
    [InlineData("instructions=20000", "instructions=0", 20, "instructions `0` is not a count of this field; use decimal digits, 1 to 10000000")]
    [InlineData("map      standard", "map      standard\npage     410000 1 rw-u", 12, "a page beside `map standard`; use one or the other")]
    [InlineData("map      standard", "page     400000 2 r-xu\npage     410000 3 rw-u\npage     412000 1 r--u", 13, "these pages overlap those of line 12; name each page once")]
    [InlineData("map      standard", "page     400001 2 r-xu", 11, "400001 with 2 pages; an address is a multiple of 1000, and all pages are canonical")]
    [InlineData("map      standard", "page     7fffffffe000 3 r-xu", 11, "7fffffffe000 with 3 pages; an address is a multiple of 1000, and all pages are canonical")]
    [InlineData("map      standard", "page     400000 2 -wxu", 11, "rights `-wxu`; use rwxu with - for what is missing; a present page has r")]
    [InlineData("map      standard", "page     400000 4097 r-xu", 11, "pages `4097` is not a count of this field; use decimal digits, 1 to 4096")]
    [InlineData("map      standard", "page     400000 4096 r-xu\npage     2000000 1 r-xu", 12, "4097 pages so far; a case has at most 4096")]
    [InlineData("map      standard", "gate     03\nmap      standard", 11, "`gate` without `cpu`; a `cpu` line comes first")]
    [InlineData("map      standard", "cpu      via family=6 linear=48 gdt=7f\nmap      standard", 11, "vendor `via` is not known; use one of: intel, amd")]
    [InlineData("map      standard", "cpu      amd family=6 linear=50 gdt=7f\ngate     none\nsegment  none\nmap      standard", 11, "family 6, 50 linear bits; a family is 0 to 999, linear")]
    [InlineData("map      standard", "cpu      amd family=6 linear=48 gdt=7f\nmap      standard", 23, "a `cpu` without `gate` and `segment`; a profile has both")]
    [InlineData("map      standard", "reading  tsc=1\nmap      standard", 11, "`reading` without `cpu`; a `cpu` line comes first")]
    [InlineData("map      standard", "cpu      amd family=6 linear=48 gdt=7f\nreading  tsc=1\nmap      standard", 12, "reading `tsc` is not known; use one of: time-stamp, processor-number")]
    [InlineData("map      standard", "cpu      amd family=6 linear=48 gdt=7f\nreading  idt-limit=10000\nmap      standard", 12, "idt-limit `10000` is not a number of this field; use hexadecimal digits without 0x, 0 to ffff")]
    [InlineData("map      standard", "cpu      amd family=6 linear=48 gdt=7f\nreading  cr0=1 cr0=1\nmap      standard", 12, "reading cr0 twice; state each reading once")]
    [InlineData("map      standard", "cpu      amd family=6 linear=48 gdt=7f\ncpuid    0\nmap      standard", 12, "a CPUID leaf without its numbers; write the leaf, the subleaf or -")]
    [InlineData("map      standard", "cpu      amd family=6 linear=48 gdt=7f\ncpuid    0 - eax=1\nmap      standard", 12, "`cpuid` has 1 of 4 named values")]
    [InlineData("map      standard", "cpu      amd family=6 linear=48 gdt=7f\ncpuid    0 - eax=1 ebx=0 ecx=0 edx=0\ncpuid    0 1 eax=1 ebx=0 ecx=0 edx=0\nmap      standard", 13, "leaf 0 is answered twice; give one line for each subleaf")]
    [InlineData("fact     kernel=6.18.5", "seen", 24, "`seen` without a range; write ranges as in")]
    [InlineData("fact     kernel=6.18.5", "seen     410000", 24, "`410000` is no range, or one too many; write address and number of bytes")]
    [InlineData("fact     kernel=6.18.5", "seen     410000*0", 24, "bytes `0` is not a count of this field")]
    [InlineData("fact     kernel=6.18.5", "seen     410000*8 410008*8", 24, "`native`: 410008 with 8 bytes; ranges are in address order, with something unseen between them")]
    [InlineData("fact     kernel=6.18.5", "seen     410008*8", 27, "`native`: 410000 changed, but `seen` says that nobody looked there")]
    [InlineData("kind=hardware", "kind=oracle", 22, "kind `oracle` is not known; use one of: model, hardware")]
    [InlineData("lineage=hardware end=reached-end", "end=reached-end", 22, "`outcome` has 2 of 3 named values; write kind=... lineage=... end=...")]
    [InlineData("fact     kernel=6.18.5", "fact     cpu=6.18.5", 24, "`cpu` is stated twice; state each fact once")]
    [InlineData("event    fault 0e idt error=14 cr2=402000\nregs     rax=0 rip=402000 rflags=10256\n", "", 29, "`model.x86`: the end is an event, but there is none")]
    [InlineData("regs     rax=0 rip=402000 rflags=10256", "final    same\nregs     rax=0", 33, "`regs` without an event before it")]
    [InlineData("event    fault 0e idt error=14 cr2=402000\nregs     rax=0 rip=402000 rflags=10257", "event    fault 0e", 25, "an event without its three first words")]
    [InlineData("error=14 cr2=402000\nregs     rax=0 rip=402000 rflags=10257", "cr2=402000 error=14", 25, "`error=14` is not expected here; after the entry come error=... and cr2=...")]
    [InlineData("410000=ffffffffffffad00\n\nverdict", "410001=ad\n\nverdict", 33, "410001 is not a multiple of 8 above the word before it")]
    [InlineData("410000=ffffffffffffad00\n\nverdict", "410008=0 410000=0\n\nverdict", 33, "410000 is not a multiple of 8 above the word before it")]
    [InlineData("fact     commit", "detail   a\\b\nfact     commit", 30, "a lone backslash; write")]
    [InlineData("verdict  new", "verdict  new\ngate     03", 36, "`gate` after an outcome; the case comes first, then its outcomes")]
    [InlineData("verdict  new", "verdict  new\nverdict  new", 36, "`verdict` for the second time (first in line 35)")]
    [InlineData("verdict  new", "verdict", 35, "`verdict` without a value; give one, or leave the line out")]
    [InlineData("verdict  new\nend\n", "verdict  new\n", 35, "the file is cut off; a case file ends with the line `end`")]
    [InlineData("\nend\n", "\nend", 36, "the last line has no line break, so the file is cut off")]
    [InlineData("\nend\n", "\nend\nid       x\nend\n", 37, "something after `end`; `end` is the last line")]
    [InlineData("verdict  new", "# more", 35, "a comment after the first key; say it in the comment at the top")]
    [InlineData("verdict  new", " verdict new", 35, "the line starts with a space; a key stands in the first column")]
    [InlineData("found    generator", "found    gener\0tor", 8, "a NUL byte; a case file is plain text")]
    [InlineData("abi      x86\n", "abi      x86\r\n", 10, "a carriage return; lines end with a line feed only")]
    [InlineData("abi      x86", "abi\tx86", 10, "a tab; use spaces")]
    [InlineData("found    generator", "found    gen\u001berator", 8, "the character U+001B; use printable characters only")]
    [InlineData("# ADC", "\ufeff# ADC", 1, "a byte order mark; a case file is UTF-8 without one")]
    [InlineData("# ADC drops the carry-out when b + CF wraps to 0.\n", "#\n", 1, "the comment has an empty first or last line")]
    [InlineData("# ADC drops the carry-out when b + CF wraps to 0.\n#\n# Seen on the model only; kept because the sum with carry has two ways to wrap.\n", "", 1, "the file does not start with a comment; its first line is `# ` and why this case exists")]
    [InlineData("rax=0 rip=402000 rflags=10257", "rip=402000 rax=0 rflags=10257", 26, "not in canonical form; this line should read `regs     rax=0 rip=402000 rflags=10257`")]
    [InlineData("de ad ff*14", "de ad ff*7 ff*7", 19, "not in canonical form; this line should read `bytes    410000 de ad ff*14`")]
    [InlineData("abi      x86\n", "\nabi      x86\n", 10, "not in canonical form; this line should read `abi      x86`")]
    public void ABadFileIsRefusedWithItsLineAndACure(string piece, string replacement, int line, string message)
    {
        byte[] text = Samples.AdcWith(piece, replacement);

        CaseFileException refused = Assert.Throws<CaseFileException>(() => CaseFile.Parse(text, "dir/x.case"));

        Assert.StartsWith($"dir/x.case:{line}: {message}", refused.Message, StringComparison.Ordinal);
        Assert.Contains("; ", refused.Message, StringComparison.Ordinal);
        Assert.Equal(line, refused.Line);
        Assert.Equal("dir/x.case", refused.File);
    }

    [Fact]
    public void BytesThatAreNotUtf8AreRefused()
    {
        byte[] text = Samples.AdcWith("found    generator", "found    \u00e9enerator");
        text[Array.IndexOf(text, (byte)0xc3)] = 0xff;

        Assert.Equal("x:8: the line is not UTF-8; a case file is plain text", Refusal(text));
    }

    [Fact]
    public void ALineOverTheLimitIsRefused() =>
        Assert.StartsWith("x:35: the line is longer than 4096 bytes; ", Refusal(Samples.AdcWith("verdict  new", "verdict  " + new string('n', 4096))), StringComparison.Ordinal);

    [Fact]
    public void AnEmptyFileIsRefused() => Assert.StartsWith("x:1: the file does not start with a comment; ", Refusal([]), StringComparison.Ordinal);

    /// <summary>Cut after any byte, a file is refused; the last line <c>end</c> is what makes a cut between two lines visible.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void EveryTruncationIsRefused(bool pvm)
    {
        byte[] text = Encoding.UTF8.GetBytes((pvm ? Samples.Pvm : Samples.Adc).Write());
        for (int length = 0; length < text.Length; length++)
        {
            Assert.Throws<CaseFileException>(() => CaseFile.Parse(text.AsSpan(0, length), "x"));
            Assert.Throws<CaseFileException>(() => CaseFile.Parse(text.AsSpan(0, length), "x", lenient: true));
        }
    }

    [Theory]
    [InlineData("/nonexistent/x.case")]
    [InlineData("/")]
    [InlineData("")]
    [InlineData("a\0b")]
    public void AFileThatCannotBeOpenedIsRefusedInTheSameForm(string path)
    {
        CaseFileException refused = Assert.Throws<CaseFileException>(() => CaseFile.Read(path));

        Assert.StartsWith($"{path}:1: cannot be read: ", refused.Message, StringComparison.Ordinal);
        Assert.EndsWith("; name a readable case file", refused.Message, StringComparison.Ordinal);
    }

    /// <summary>100 MB of zeros in a sparse file: refused by its length, not one byte read.</summary>
    [Fact]
    public void AHugeFileIsRefusedWithoutReadingIt()
    {
        string path = Path.GetTempFileName();
        try
        {
            using (FileStream file = File.OpenWrite(path))
            {
                file.SetLength(100_000_000);
            }

            CaseFileException refused = Assert.Throws<CaseFileException>(() => CaseFile.Read(path));
            Assert.Equal($"{path}:1: the file is longer than 1048576 bytes; a case file is small text, so this is something else", refused.Message);

            using CountingStream stream = new(length: 100_000_000, seekable: true);
            Assert.Throws<CaseFileException>(() => CaseFile.Read(stream, "x", lenient: false));
            Assert.Equal(0, stream.Given);
        }
        finally
        {
            File.Delete(path);
        }
    }

    /// <summary>A pipe does not say how long it is: reading stops one byte over the limit.</summary>
    [Fact]
    public void AnEndlessStreamIsReadOnlyToTheLimit()
    {
        using CountingStream stream = new(length: 100_000_000, seekable: false);

        CaseFileException refused = Assert.Throws<CaseFileException>(() => CaseFile.Read(stream, "x", lenient: false));

        Assert.Contains("longer than 1048576 bytes", refused.Message, StringComparison.Ordinal);
        Assert.Equal(CaseFile.MaximumBytes + 1, stream.Given);
    }

    private static string Refusal(byte[] text) => Assert.Throws<CaseFileException>(() => CaseFile.Parse(text, "x")).Message;

    /// <summary>So many letters, and a count of those that were given out.</summary>
    private sealed class CountingStream(long length, bool seekable) : Stream
    {
        public long Given { get; private set; }

        public override bool CanRead => true;

        public override bool CanSeek => seekable;

        public override bool CanWrite => false;

        public override long Length => seekable ? length : throw new NotSupportedException();

        public override long Position
        {
            get => Given;
            set => throw new NotSupportedException();
        }

        public override int Read(byte[] buffer, int offset, int count)
        {
            int given = (int)Math.Min(count, length - Given);
            buffer.AsSpan(offset, given).Fill((byte)'j');
            Given += given;
            return given;
        }

        public override void Flush()
        {
            // Nothing is written.
        }

        public override long Seek(long offset, SeekOrigin origin) => throw new NotSupportedException();

        public override void SetLength(long value) => throw new NotSupportedException();

        public override void Write(byte[] buffer, int offset, int count) => throw new NotSupportedException();
    }
}
