using System.Globalization;
using Iced.Intel;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>No encoding of a family is forgotten: Iced's tables name them all.</summary>
public sealed class IntegerFormsTests
{
    /// <summary>Every form of these mnemonics that a decoder without special options gives in 32- or 64-bit code is served.</summary>
    [Theory]
    [InlineData("shl sal shr sar shld shrd", 60)]
    [InlineData("rol ror rcl rcr", 48)]
    [InlineData("mul imul div idiv", 25)]
    [InlineData("bt bts btr btc bsf bsr bswap popcnt lzcnt tzcnt", 42)]
    [InlineData("seto setno setb setae sete setne setbe seta sets setns setp setnp setl setge setle setg", 16)]
    [InlineData("cmovo cmovno cmovb cmovae cmove cmovne cmovbe cmova cmovs cmovns cmovp cmovnp cmovl cmovge cmovle cmovg", 48)]
    [InlineData("cbw cwde cdqe cwd cdq cqo", 6)]
    [InlineData("andn bextr blsi blsmsk blsr bzhi mulx pdep pext rorx sarx shlx shrx adcx adox", 32)]
    [InlineData("blcfill blci blcic blcmsk blcs blsfill blsic t1mskc tzmsk", 18)]
    [InlineData("crc32", 5)]
    [InlineData("aaa aas aam aad daa das salc", 7)]
    public void EveryFormIsModelled(string mnemonics, int forms)
    {
        HashSet<string> wanted = [.. mnemonics.Split(' ')];
        List<Code> found = [.. Enum.GetValues<Code>().Where(code => wanted.Contains(code.Mnemonic().ToString().ToLower(CultureInfo.InvariantCulture)) && IsDecodable(code))];
        IEnumerable<Code> missing = found.Where(code => !X86Model.ModelledForms.Contains(code.ToString()));

        Assert.Empty(missing);
        Assert.Equal(wanted.Count, found.Select(code => code.Mnemonic()).Distinct().Count());
        Assert.Equal(forms, found.Count);
    }

    private static bool IsDecodable(Code code)
    {
        OpCodeInfo info = code.ToOpCode();
        return info.IsInstruction && (info.Mode32 || info.Mode64) && info.DecoderOption == DecoderOptions.None;
    }
}
