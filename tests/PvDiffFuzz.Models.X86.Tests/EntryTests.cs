using PvDiffFuzz.Core;
using static PvDiffFuzz.Core.RflagsBits;
using static PvDiffFuzz.Models.X86.Tests.Payload;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>Facts about instructions that enter the system, flag instructions and what CPL3 may not do.</summary>
public sealed class EntryTests
{
    /// <summary>Vector, error code, bytes from the end of the code to the saved RIP, and whether the frame shows RF.</summary>
    [Fact]
    public void EntriesRaiseTheirVectors()
    {
        (string Code, byte Vector, uint? Error, ulong Back, bool Resume)[] rows =
        [
            ("cc", 3, null, 0, false), ("cd 03", 3, null, 0, false), ("cd 80", 0x80, null, 0, false), ("cd 0e", 13, (14 * 8) + 2, 2, true),
            ("f1", 1, null, 0, false), ("0f 0b", 6, null, 2, true), ("0f b9 c0", 6, null, 3, true), ("0f ff c0", 6, null, 3, true), ("fa", 13, 0, 1, true),
            ("fb", 13, 0, 1, true), ("f4", 13, 0, 1, true), ("0f 34", 6, null, 2, true), ("48 0f 07", 13, 0, 3, true), ("0f aa", 6, null, 2, true),
            ("0f 20 c0", 13, 0, 3, true), ("0f 20 c8", 6, null, 3, true), ("44 0f 21 c0", 6, null, 4, true), ("0f 21 e0", 13, 0, 3, true),
            ("0f 01 38", 13, 0, 3, true), ("0f 30", 13, 0, 2, true), ("0f 01 f8", 13, 0, 3, true), ("0f 01 c8", 6, null, 3, true), ("0f 01 ca", 6, null, 3, true),
            ("0f 01 c1", 6, null, 3, true), ("0f 01 d9", 6, null, 3, true), ("e4 60", 13, 0, 2, true), ("0f 01 d1", 13, 0, 3, true), ("0f 01 ee", 6, null, 3, true),
            ("f3 0f 09", 13, 0, 3, true), ("0f 01 e0", 13, 0, 3, true), ("0f 33", 13, 0, 2, true), ("0f 0d c0", 6, null, 3, true),
        ];
        List<string> wrong = [];
        foreach ((string code, byte vector, uint? error, ulong back, bool resume) in rows)
        {
            Event raised = Case(code).Run().Events[0];
            bool resumes = (raised.Registers.Rflags & RF) != 0;
            if (raised.Vector != vector || raised.ErrorCode != error || raised.Registers.Rip != End - back || resumes != resume)
            {
                wrong.Add($"{code}: vector {raised.Vector} error {raised.ErrorCode} rip end-{End - raised.Registers.Rip} RF {resumes}");
            }
        }

        Assert.Empty(wrong);
    }

    /// <summary>SYSCALL: RCX gets the next RIP, R11 RFLAGS without RF.</summary>
    [Fact]
    public void SystemCallSavesRipAndRflags()
    {
        Event call = Case("0f 05", CF | RF).Run().Only();

        Assert.Equal((EventKind.SystemCall, EntryPoint.Lstar), (call.Kind, call.Entry));
        Assert.Equal((End, Fixed1 | IF | CF, End), (call.Registers[Register.Rcx], call.Registers[Register.R11], call.Registers.Rip));
        Assert.Equal((byte)6, Case(CpuMode.Compatibility32, "0f 05").Run(CpuProfile.DefaultIntel).Only().Vector);
    }

    /// <summary>INTO traps with OF only; BOUND of -1 against 0 to 5 is #BR at the instruction.</summary>
    [Fact]
    public void CompatibilityModeChecks()
    {
        Assert.Equal((byte)4, Case(CpuMode.Compatibility32, "ce", OF).Run().Only().Vector);
        Assert.Equal(EndKind.ReachedEnd, Case(CpuMode.Compatibility32, "ce").Run().End);
        TestCase bound = Case(CpuMode.Compatibility32, "62 03", 0, (Register.Rbx, Data), (Register.Rax, uint.MaxValue)).With(Data, 0, 0, 0, 0, 5);
        Assert.Equal(((byte)5, End - 2), (bound.Run().Only().Vector, bound.Run().Only().Registers.Rip));
    }

    /// <summary>Flag instructions one by one; SAHF keeps OF, LAHF shows bit 1.</summary>
    [Fact]
    public void FlagInstructionsChangeTheirFlag()
    {
        Assert.Equal(ZF, Case("f8", CF | ZF).RunToEnd().Status());
        Assert.Equal(CF, Case("f9").RunToEnd().Status());
        Assert.Equal(0UL, Case("f5", CF).RunToEnd().Status());
        Assert.Equal(DF, Case("fd").RunToEnd().Rflags & DF);
        Assert.Equal(0UL, Case("fc", DF).RunToEnd().Rflags & DF);
        Assert.Equal(OF | CF | ZF, Case("9e", OF, (Register.Rax, 0x4100)).RunToEnd().Status());
        Assert.Equal(0x4300UL, Case("9f", OF | CF | ZF).RunToEnd()[Register.Rax]);
    }

    /// <summary>NOPs and hints touch nothing, a flush faults as a load, WRFSBASE refuses a non-canonical base.</summary>
    [Fact]
    public void HintsTouchNothingAndFlushesLoad()
    {
        RegisterState end = Case("0f 1f 00 0f 18 08 f3 0f 1e fa f3 90 f3 48 0f 1e c8 0f ae e8", 0, (Register.Rax, 8)).RunToEnd();
        Assert.Equal(8UL, end[Register.Rax]);
        Assert.Equal(4u, Case("0f ae 38", 0, (Register.Rax, 8)).Run().Only().ErrorCode);
        Assert.Equal(0x1234UL, Case("f3 48 0f ae d0", 0, (Register.Rax, 0x1234)).RunToEnd().FsBase);
        Assert.Equal((byte)13, Case("f3 48 0f ae d0", 0, (Register.Rax, 1UL << 63)).Run().Only().Vector);
    }
}
