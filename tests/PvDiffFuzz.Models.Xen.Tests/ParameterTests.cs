using System.Reflection;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Tests;

/// <summary>Release and delivery change what their rows say, and nothing else.</summary>
public sealed class ParameterTests
{
    /// <summary>The table of versions: the first release of each branch that has a change; branches after the last have it, those before the first do not.</summary>
    public static TheoryData<string, string[]> Table => new()
    {
        { nameof(Release.FaultsUnregisteredSyscall), ["4.15.0"] },
        { nameof(Release.KeepsDirectionOnSyscallFault), ["4.17.5", "4.18.3", "4.19.0"] },
        { nameof(Release.ReplacesMetBreakpoints), ["4.18.4", "4.19.1", "4.20.0"] },
        { nameof(Release.CountsPrefixesOfInt), ["4.19.5", "4.20.3", "4.21.1", "4.22.0"] },
        { nameof(Release.ClampsIretFlags), ["4.21.1", "4.22.0"] },
        { nameof(Release.FaultsOnIoBitmap), ["4.20.0"] },
        { nameof(Release.HasFred), ["4.21.1", "4.22.0"] },
        { nameof(Release.LoadsRcxUnderFred), ["4.21.2", "4.22.0"] },
    };

    /// <summary>Every release from 4.14 to 4.23 with ten patches each has a row exactly from the table's releases on.</summary>
    [Theory]
    [MemberData(nameof(Table))]
    public void RowsBeginWhereTheTableSays(string row, string[] first)
    {
        PropertyInfo property = typeof(Release).GetProperty(row)!;
        XenVersion[] branches = [.. first.Select(f => XenVersion.Parse(f)!)];
        for (int minor = 14; minor <= 23; minor++)
        {
            for (int patch = 0; patch < 10; patch++)
            {
                XenVersion? branch = branches.FirstOrDefault(b => b.Minor == minor);
                bool expected = branch is null ? minor > branches[^1].Minor : patch >= branch.Patch;
                Assert.Equal(expected, property.GetValue(new Release(new XenVersion(4, minor, patch))));
            }
        }
    }

    /// <summary>The one row that ends: xenoprof_op is gone in 4.22.</summary>
    [Fact]
    public void XenoprofEnds() => Assert.Equal((true, false), (new Release(new XenVersion(4, 21, 9)).HasXenoprof, new Release(new XenVersion(4, 22, 0)).HasXenoprof));

    /// <summary>Releases with the same rows give the same outcomes to all random cases, but for the number that the guest can read.</summary>
    [Theory]
    [InlineData("4.17.5", "4.17.9")]
    [InlineData("4.20.3", "4.20.4")]
    [InlineData("4.22.0", "4.22.3")]
    public void EqualRowsGiveEqualOutcomes(string one, string other)
    {
        using XenModel model = new(CpuProfile.DefaultAmd);
        foreach (TestCase testCase in RandomCases.Draw(Abi.XenPv64, seed: 5, count: 3_000))
        {
            Assert.Equal(model.Run(testCase.Of(one)), model.Run(testCase.Of(other)));
        }
    }

    /// <summary>A case that names no release is about the model's own.</summary>
    [Fact]
    public void TheModelStandsForARelease()
    {
        using XenModel old = new(version: XenVersion.Parse("4.14.0"));
        using XenModel newest = new();
        TestCase testCase = Payload.User("0F 05").Without(XenCallbackKind.Syscall);

        Assert.Equal((EndKind.Crash, EndKind.Event), (old.Run(testCase).End, newest.Run(testCase).End));
        Assert.Equal(EndKind.Event, old.Run(testCase.Of("4.15.0")).End);
        Assert.Equal(("model.xen:4.14.0", "model.xen"), (old.Info.Name, newest.Info.Name));
    }

    [Theory]
    [InlineData("4.17.7", EndKind.Unsupported)]
    [InlineData("4.21.0", EndKind.Unsupported)]
    [InlineData("4.21.1", EndKind.Event)]
    public void FredNeedsARelease(string version, EndKind end) => Assert.Equal(end, Payload.User("CC").Under(Abi.XenPv64Fred).Of(version).RunAny().End);

    /// <summary>What the two deliveries have in common: everything but INT n, an unregistered SYSCALL, SYSENTER and the mask of 32-bit system calls.</summary>
    [Theory]
    [InlineData("CC")]
    [InlineData("66 CC")]
    [InlineData("F1")]
    [InlineData("0F 0B")]
    [InlineData("F4")]
    [InlineData("0F 05")]
    [InlineData("48 0F 05")]
    [InlineData("31 C9 F7 F1")]
    [InlineData("A0 00 00 00 70 00 00 00 00")]
    [InlineData("0F 20 C0")]
    [InlineData("0F 0B 78 65 6E 0F A2")]
    [InlineData("48 CF")]
    public void DeliveriesAgree(string code)
    {
        foreach (TestCase start in (TestCase[])[Payload.Kernel(code), Payload.User(code), Payload.Kernel(code).ByIret(), Payload.User(code).ByIret(0x100)])
        {
            TestCase testCase = start with { Registers = start.Registers with { Rflags = 0x602 | (start.Xen!.IretFlags is null ? 0UL : RflagsBits.TF) } };
            Assert.Equal(testCase.RunAny(), testCase.Under(Abi.XenPv64Fred).RunAny());
        }
    }

    /// <summary>Random cases differ only where an INT n, a SYSCALL or a SYSENTER was executed.</summary>
    [Fact]
    public void RandomCasesDifferByEntryInstructionsAlone()
    {
        using XenModel model = new(CpuProfile.DefaultAmd);
        int differing = 0;
        foreach (TestCase testCase in RandomCases.Draw(Abi.XenPv64, seed: 6, count: 6_000))
        {
            if (!model.Run(testCase).Equals(model.Run(testCase.Under(Abi.XenPv64Fred))))
            {
                differing++;
                Assert.Contains(model.Trace(testCase, 1000), i => i.Bytes.Contains((byte)0xcd) || i.Bytes.Contains((byte)0x0f));
            }
        }

        Assert.InRange(differing, 1, 3_000);
    }
}
