using System.Collections.Immutable;

namespace PvDiffFuzz.Core.Tests;

/// <summary>Where the fields of structures and frames lie. The numbers are those of the ABIs' headers and documents.</summary>
public sealed class LayoutTests
{
    /// <summary>The structure of the first specification, MSR_PVM_VCPU_CTRL_STRUCT.</summary>
    [Fact]
    public void TheStructureOfTheFirstSpecification() => Assert.Equal(
        "event-flags 00 8, event-errcode 08 4, event-vector 0c 4, cr2 10 8, user-cs 40 2, user-ss 42 2, user-gsbase 50 8, eflags 58 4, pkru 5c 4, rip 60 8, rsp 68 8, rcx 70 8, r11 78 8",
        Pvcs(Abi.PvmRfc1));

    [Theory]
    [InlineData(Abi.Pvm612)]
    [InlineData(Abi.PvmAbi1)]
    public void TheStructureOfLaterRevisions(Abi revision) => Assert.Equal(
        "event-flags 00 8, cr2 08 8, user-cs 40 2, user-ss 42 2, event-errcode 44 2, event-vector 46 2, user-gsbase 48 8, eflags 50 4, pkru 54 4, rip 58 8, rcx 60 8, r11 68 8",
        Pvcs(revision));

    [Theory]
    [InlineData(Abi.X86)]
    [InlineData(Abi.XenPv64)]
    public void OnlyPvmHasTheStructure(Abi abi) => Assert.Throws<ArgumentOutOfRangeException>(() => Pvcs(abi));

    [Fact]
    public void TheUserContextIsWhatAReturnToUserModeLoads() => Assert.Equal(
        "pvcs.user-cs pvcs.user-ss pvcs.user-gsbase pvcs.eflags pvcs.pkru pvcs.rip pvcs.rsp pvcs.rcx pvcs.r11",
        string.Join(' ', Enum.GetValues<SystemRegister>().Where(PvcsLayout.IsUserContext).Select(Name)));

    /// <summary>Fields follow each other without overlap, inside the structure or frame, in every ABI and at every entry.</summary>
    [Fact]
    public void FieldsDoNotOverlap()
    {
        int frames = 0;
        foreach (Abi abi in Enum.GetValues<Abi>())
        {
            foreach (EntryPoint entry in Enum.GetValues<EntryPoint>().Where(e => FrameLayout.HasEntry(abi, e)))
            {
                foreach (int length in (int[])[FrameLayout.LengthAt(abi, entry), 12, 16, 20, 24, 56, 64])
                {
                    int free = 0;
                    foreach (FrameField field in FrameLayout.Of(abi, entry, length))
                    {
                        Assert.InRange(field.Offset, free, length - field.Width);
                        Assert.InRange(field.Width, 1, 8);
                        free = field.Offset + field.Width;
                        frames++;
                    }
                }
            }
        }

        Assert.True(frames > 0);
    }

    /// <summary>The eight quadwords that vectors below 32 push in supervisor mode, from the last push upwards.</summary>
    [Fact]
    public void TheFrameOnTheSupervisorsStack() => Assert.Equal(
        "errcode 00 4, vector 04 4, rip 08 8, cs 10 8, rflags 18 8, rsp 20 8, ss 28 8, rcx 30 8, r11 38 8",
        Frame(Abi.PvmRfc1, EntryPoint.PvmSupervisor, 64));

    [Fact]
    public void FramesOfXen()
    {
        const string rest = "rip {0:x2} 8, cs {1:x2} 2, cs.upper {2:x2} 2, mask {3:x2} 1, mask.upper {4:x2} 3, rflags {5:x2} 8, rsp {6:x2} 8, ss {7:x2} 2, ss.upper {8:x2} 6";
        Assert.Equal(
            "rcx 00 8, r11 08 8, " + string.Format(null, rest, 0x10, 0x18, 0x1a, 0x1c, 0x1d, 0x20, 0x28, 0x30, 0x32),
            Frame(Abi.XenPv64, EntryPoint.XenTrap, 56));
        Assert.Equal(
            "rcx 00 8, r11 08 8, errcode 10 8, " + string.Format(null, rest, 0x18, 0x20, 0x22, 0x24, 0x25, 0x28, 0x30, 0x38, 0x3a),
            Frame(Abi.XenPv64, EntryPoint.XenTrap, 64));
    }

    /// <summary>Ring 1 is interrupted on its own stack; ring 3 brings ESP and SS.</summary>
    [Fact]
    public void FramesOfXenWith32Bits()
    {
        Assert.Equal("eip 00 4, cs 04 2, mask 06 1, mask.upper 07 1, eflags 08 4", Frame(Abi.XenPv32, EntryPoint.XenTrap, 12));
        Assert.Equal("errcode 00 4, eip 04 4, cs 08 2, mask 0a 1, mask.upper 0b 1, eflags 0c 4", Frame(Abi.XenPv32, EntryPoint.XenTrap, 16));
        Assert.Equal("eip 00 4, cs 04 2, mask 06 1, mask.upper 07 1, eflags 08 4, esp 0c 4, ss 10 2, ss.upper 12 2", Frame(Abi.XenPv32, EntryPoint.XenSyscall32, 20));
        Assert.Equal(
            "errcode 00 4, eip 04 4, cs 08 2, mask 0a 1, mask.upper 0b 1, eflags 0c 4, esp 10 4, ss 14 2, ss.upper 16 2", Frame(Abi.XenPv32, EntryPoint.XenTrap, 24));
    }

    [Theory]
    [InlineData(Abi.X86, EntryPoint.Idt, true, 0)]
    [InlineData(Abi.X86, EntryPoint.Lstar, true, 0)]
    [InlineData(Abi.X86, EntryPoint.PvmUser, false, 0)]
    [InlineData(Abi.X86, EntryPoint.HypercallReturn, false, 0)]
    [InlineData(Abi.PvmRfc1, EntryPoint.Idt, false, 0)]
    [InlineData(Abi.PvmRfc1, EntryPoint.Lstar, true, 128)]
    [InlineData(Abi.PvmRfc1, EntryPoint.PvmUser, true, 128)]
    [InlineData(Abi.PvmRfc1, EntryPoint.PvmSupervisor, true, 64)]
    [InlineData(Abi.PvmRfc1, EntryPoint.PvmSupervisorHigh, true, 128)]
    [InlineData(Abi.PvmRfc1, EntryPoint.HypercallReturn, true, 0)]
    [InlineData(Abi.Pvm612, EntryPoint.PvmSupervisor, true, 128)]
    [InlineData(Abi.Pvm612, EntryPoint.PvmSupervisorHigh, false, 128)]
    [InlineData(Abi.PvmAbi1, EntryPoint.PvmUser, true, 128)]
    [InlineData(Abi.XenPv64, EntryPoint.XenTrap, true, 0)]
    [InlineData(Abi.XenPv64, EntryPoint.Lstar, false, 0)]
    public void EachEntryBelongsToItsAbiAndStoresSoMuch(Abi abi, EntryPoint entry, bool has, int length)
    {
        Assert.Equal(has, FrameLayout.HasEntry(abi, entry));
        if (has)
        {
            Assert.Equal(length, FrameLayout.LengthAt(abi, entry));
        }
    }

    /// <summary>The stack of an INT3 in supervisor code at 10000, as an implementation left it.</summary>
    [Fact]
    public void AFrameIsReadByItsFields()
    {
        ulong[] stack = [0x3_0000_0000, 0x1_0001, 0x10, 0x2, 0x2_2f08, 0x18, 0xc1c1_c1c1_c1c1_c1c1, 0x1111];
        ImmutableArray<byte> frame = [.. stack.SelectMany(BitConverter.GetBytes)];

        List<string> read = [];
        foreach (FrameField field in FrameLayout.Of(Abi.PvmRfc1, EntryPoint.PvmSupervisor, frame.Length))
        {
            read.Add($"{field.Name}={FrameLayout.Read(frame, field):x}");
        }

        Assert.Equal("errcode=0 vector=3 rip=10001 cs=10 rflags=2 rsp=22f08 ss=18 rcx=c1c1c1c1c1c1c1c1 r11=1111", string.Join(' ', read));
    }

    [Fact]
    public void WhatAFrameSavesIsKnownByItsRegister()
    {
        foreach ((Abi abi, EntryPoint entry, int length) in ((Abi, EntryPoint, int)[])[(Abi.PvmRfc1, EntryPoint.PvmUser, 128), (Abi.PvmRfc1, EntryPoint.PvmSupervisor, 64)])
        {
            Register[] saved = [.. FrameLayout.Of(abi, entry, length).ToArray().Where(f => f.Saves is not null).Select(f => f.Saves!.Value).Order()];
            Assert.Equal([Register.Rcx, Register.Rsp, Register.R11, Register.Rip, Register.Rflags], saved);
        }
    }

    [Theory]
    [InlineData(EntryPoint.PvmSupervisor, true)]
    [InlineData(EntryPoint.XenTrap, true)]
    [InlineData(EntryPoint.PvmUser, false)]
    [InlineData(EntryPoint.PvmSupervisorHigh, false)]
    [InlineData(EntryPoint.Lstar, false)]
    [InlineData(EntryPoint.Idt, false)]
    public void SomeFramesLieOnTheStack(EntryPoint entry, bool onStack) => Assert.Equal(onStack, FrameLayout.OnStack(entry));

    /// <summary>An IDT's frame is its registers, whatever else was given; so two such events are equal.</summary>
    [Fact]
    public void AnIdtsFrameIsItsRegisters()
    {
        Event e = Samples.Adc.Outcomes[0].Outcome.Events[0];
        Event given = e with { Frame = [1, 2, 3] };

        Assert.Equal(40, e.Frame.Length);
        Assert.Equal<byte>([0x00, 0x20, 0x40, 0, 0, 0, 0, 0, 0x33], [.. e.Frame[..9]]);
        Assert.Equal(e, given);
        Assert.NotEqual(e with { Entry = EntryPoint.Lstar }, given with { Entry = EntryPoint.Lstar });
    }

    private static string Pvcs(Abi revision)
    {
        List<string> fields = [];
        foreach (PvcsField field in PvcsLayout.Of(revision))
        {
            Assert.InRange(field.Offset + field.Width, 1, PvcsLayout.Size);
            fields.Add($"{Name(field.Register)["pvcs.".Length..]} {field.Offset:x2} {field.Width}");
        }

        return string.Join(", ", fields);
    }

    private static string Frame(Abi abi, EntryPoint entry, int length) =>
        string.Join(", ", FrameLayout.Of(abi, entry, length).ToArray().Select(f => $"{f.Name} {f.Offset:x2} {f.Width}"));

    private static string Name(SystemRegister register) => string.Concat(register.ToString().Select((c, i) => i == 4 ? $".{char.ToLowerInvariant(c)}" : i > 0 && char.IsUpper(c) ? $"-{char.ToLowerInvariant(c)}" : $"{char.ToLowerInvariant(c)}"))
        .Replace("gs-base", "gsbase", StringComparison.Ordinal);
}
