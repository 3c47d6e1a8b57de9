using PvDiffFuzz.Cli.Output;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate;
using PvDiffFuzz.Models.Xen;

namespace PvDiffFuzz.Cli.Tests;

/// <summary>What is shown of a Xen guest, and the model that answers as under FRED.</summary>
public sealed class XenViewTests
{
    private static readonly XenState Guest = new(
        XenMap.Traps.With(new XenTrap(0x40, 7, 0xe033, 0x1000)).Without(0x80),
        [new XenCallback(XenCallbackKind.Syscall, MaskEvents: true, 0xe033, 0x2000)])
    {
        Version = new XenVersion(4, 17, 7),
        IretFlags = 0x100,
        Gdt = [new(0x18, 0x00cf_f300_0000_ffff)],
    };

    [Fact]
    public void PeopleSeeWhatAGuestHasRegistered()
    {
        Assert.Equal(
            [
                "traps   all from 7e0000200000, cs e033", "trap    40 dpl 3, masks events, e033:1000", "trap    80 none", "entry   syscall e033:2000, masks events", "gdt     18 = 00cff3000000ffff",
            ],
            XenView.Lines(Guest));
        Assert.Equal(" by HYPERVISOR_iret with flags 100, Xen 4.17.7", XenView.Entry(Guest));
        Assert.Equal("", XenView.Entry(Guest with { Version = null, IretFlags = null }));
    }

    /// <summary>INT 80h with virtual DPL 0 is delivered under IDT delivery and refused under FRED; what both have in common agrees.</summary>
    [Fact]
    public void TheModelAnswersAsUnderFred()
    {
        using XenModel idt = new();
        using FredDelivery fred = new(new XenModel());
        TestCase refused = Case("cd80");
        TestCase same = Case("0f0b");

        Assert.Equal((0x80, 13), (idt.Run(refused).Events[0].Vector, fred.Run(refused).Events[0].Vector));
        Assert.Equal(idt.Run(refused with { Abi = Abi.XenPv64Fred }).Events[0], fred.Run(refused).Events[0]);
        Assert.Equal(idt.Run(same).Events[0], fred.Run(same).Events[0]);
        Assert.Equal(EndKind.Unsupported, fred.Run(refused with { Abi = Abi.XenPv64Fred }).End);
        Assert.Equal(["model.xen"], new Composition().Usual.Where(name => name.StartsWith("model.xen", StringComparison.Ordinal)));
    }

    /// <summary>Cases follow the processor that an emulator brings; targets that follow the cases have no say, nor has one that runs no case of the ABI.</summary>
    [Fact]
    public void TheProcessorOfAnEmulatorComesFirst()
    {
        Composition composition = new();
        composition.Register("one", _ => new Emulated("one", CpuProfile.DefaultIntel));
        composition.Register("same", _ => new Emulated("same", CpuProfile.DefaultIntel));
        composition.Register("other", _ => new Emulated("other", CpuProfile.DefaultAmd));

        Assert.Same(composition.Host, composition.ProcessorOf(Abi.XenPv64, ["model.xen"]));
        Assert.Same(composition.Host, composition.ProcessorOf(Abi.X86, ["model.x86", "one"]));
        Assert.Equal(CpuProfile.DefaultIntel, composition.ProcessorOf(Abi.XenPv64, ["model.xen", "one", "same"]));
        UsageException refused = Assert.Throws<UsageException>(() => composition.ProcessorOf(Abi.XenPv64, ["model.xen", "one", "other"]));
        Assert.StartsWith("one and other have different processors (", refused.Message, StringComparison.Ordinal);
    }

    private static TestCase Case(string code)
    {
        byte[] bytes = Convert.FromHexString(code);
        TestCase testCase = new Generator(GeneratorOptions.DefaultsFor(Abi.XenPv64), CpuProfile.DefaultAmd).Generate(1, 0);
        ulong address = AddressMap.LowBlock + AddressMap.CodeEnd - (ulong)bytes.Length;
        return testCase with
        {
            Start = GuestMode.User,
            Code = new CodeBlock(address, [.. bytes], [(byte)bytes.Length]),
            Contents = [],
            Responses = [],
            Registers = new RegisterState { Gpr = default, Rip = address, Rflags = 0x202, Cs = XenMap.FlatCode64, Ss = XenMap.FlatData },
            System = SystemState.Of(new(SystemRegister.XenKernelSp, AddressMap.LowBlock + XenMap.Stack + 0x1000), new(SystemRegister.XenKernelSs, XenMap.FlatData)),
            Xen = new XenState(XenMap.Traps, []) { IretFlags = 0, UserLayout = XenMap.UserLayout(Abi.XenPv64) },
        };
    }

    private sealed class Emulated(string name, CpuProfile processor) : ITarget
    {
        public TargetInfo Info { get; } = new(name, TargetKind.Hypervisor, "tcg", Capabilities.None, Fingerprint.Empty) { Abis = [Abi.XenPv64], Processor = processor };

        public Outcome Run(TestCase testCase) => throw new NotSupportedException();

        public void Dispose()
        {
        }
    }
}
