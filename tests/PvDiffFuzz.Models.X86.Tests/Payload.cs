using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Small cases for hand-checkable facts: code at the end of the low block's code slot, registers as given, everything else zero.</summary>
internal static class Payload
{
    /// <summary>A writable address with room on both sides.</summary>
    public const ulong Data = AddressMap.LowBlock + AddressMap.Data + 0x800;

    /// <summary>The middle of the stack slot: where RSP starts.</summary>
    public const ulong Stack = AddressMap.LowBlock + AddressMap.Stack + 0x1000;

    /// <summary>The address right after the code.</summary>
    public const ulong End = AddressMap.LowBlock + AddressMap.CodeEnd;

    /// <summary>Makes a case.</summary>
    /// <param name="code">Hexadecimal bytes, spaces allowed.</param>
    /// <param name="rflags">RFLAGS at entry without the two fixed bits.</param>
    /// <param name="registers">Registers at entry; RSP is <see cref="Stack"/> unless given.</param>
    public static TestCase Case(string code, ulong rflags = 0, params (Register Register, ulong Value)[] registers) => Case(CpuMode.Long64, code, rflags, registers);

    /// <summary>Makes a case in a mode.</summary>
    public static TestCase Case(CpuMode mode, string code, ulong rflags = 0, params (Register Register, ulong Value)[] registers)
    {
        byte[] bytes = Convert.FromHexString(code.Replace(" ", string.Empty, StringComparison.Ordinal));
        ulong address = End - (ulong)bytes.Length;
        ushort data = mode == CpuMode.Long64 ? (ushort)0 : Selectors.UserData;
        RegisterState state = new()
        {
            Gpr = default,
            Rip = address,
            Rflags = rflags | RflagsBits.Fixed1 | RflagsBits.IF,
            Cs = mode == CpuMode.Long64 ? Selectors.UserCode64 : Selectors.UserCode32,
            Ds = data,
            Es = data,
        };
        state = state.With(Register.Rsp, Stack);
        foreach ((Register register, ulong value) in registers)
        {
            state = state.With(register, value);
        }

        TestCase testCase = new()
        {
            Code = new CodeBlock(address, [.. bytes], [(byte)Math.Min(bytes.Length, byte.MaxValue)]),
            Registers = state,
            Layout = AddressMap.Standard,
        };
        Assert.Null(testCase.Check());
        return testCase;
    }

    /// <summary>Adds initial contents.</summary>
    public static TestCase With(this TestCase testCase, ulong address, params byte[] bytes) =>
        testCase with { Contents = [.. testCase.Contents.Append(new MemoryContents(address, [.. bytes])).OrderBy(c => c.Address)] };

    /// <summary>Runs on a fresh model.</summary>
    public static Outcome Run(this TestCase testCase, CpuProfile? profile = null)
    {
        using X86Model model = new(profile);
        Outcome outcome = model.Run(testCase);
        Assert.True(outcome.Comparable, outcome.Detail);
        return outcome;
    }

    /// <summary>Runs and demands that the code ran to its end.</summary>
    public static RegisterState RunToEnd(this TestCase testCase, CpuProfile? profile = null)
    {
        Outcome outcome = testCase.Run(profile);
        Assert.Equal(EndKind.ReachedEnd, outcome.End);
        return outcome.Registers!;
    }

    /// <summary>The only event of a run.</summary>
    public static Event Only(this Outcome outcome) => Assert.Single(outcome.Events);

    /// <summary>The status flags of a state.</summary>
    public static ulong Status(this RegisterState registers) => registers.Rflags & RflagsBits.Status;
}
