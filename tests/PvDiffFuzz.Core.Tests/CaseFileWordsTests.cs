using System.Text;

namespace PvDiffFuzz.Core.Tests;

public sealed class CaseFileWordsTests
{
    /// <summary>The PVM sample as supervisor code, with nothing that only one revision has.</summary>
    private static readonly TestCase Supervisor = Samples.Pvm.Case with
    {
        Start = GuestMode.Supervisor,
        Code = Samples.Pvm.Case.Code with { Address = AddressMap.LowBlock + PvmMap.CodeEnd - 2 },
        Registers = Samples.Pvm.Case.Registers with { Rflags = 2 },
        Responses = [],
        System = SystemState.Empty.With(SystemRegister.Star, PvmMap.Star).With(SystemRegister.PvmRetuRip, PvmMap.RetuRip),
    };

    /// <summary>A member added to an enumeration without a spelling would make cases that cannot be stored.</summary>
    [Fact]
    public void EveryMemberHasASpelling()
    {
        RecordedOutcome native = Samples.Adc.Outcomes[0];
        List<CaseFile> files =
        [
            .. Enum.GetValues<EndKind>().Select(end => With(native with { Outcome = native.Outcome with { End = end } })),
            .. Enum.GetValues<TargetKind>().Select(kind => With(native with { Kind = kind })),
            .. Enum.GetValues<EventKind>().Select(kind => With(native with { Outcome = native.Outcome with { Events = [native.Outcome.Events[0] with { Kind = kind }] } })),
            .. Enum.GetValues<EntryPoint>().Where(e => FrameLayout.HasEntry(Abi.X86, e)).Select(e => WithEntry(Samples.Adc, e)),
            .. Enum.GetValues<EntryPoint>().Where(e => FrameLayout.HasEntry(Abi.PvmRfc1, e)).Select(e => WithEntry(Samples.Pvm, e)),
            .. Enum.GetValues<CpuVendor>().Select(v => Samples.Adc with { Case = Samples.Adc.Case with { Profile = CpuProfile.DefaultAmd with { Vendor = v } } }),
            .. Enum.GetValues<Register>().Where(r => r < Register.Pkru)
                .Select(r => Samples.Adc with { Case = Samples.Adc.Case with { Responses = [new Response([new(r, Samples.Adc.Case.Registers[r])])] } }),
            .. Enum.GetValues<Abi>().Where(abi => abi.IsPvm()).Select(abi => OnlyCase(Supervisor with { Abi = abi })),
            .. Enum.GetValues<HostPath>().Select(path => OnlyCase(Supervisor with { Pvm = Supervisor.Pvm! with { Path = path } })),
            .. Enum.GetValues<SystemRegister>().Select(Stating),
            .. Enum.GetValues<XenCallbackKind>().Select(kind => OnlyCase(Samples.Xen.Case with { Xen = Samples.Xen.Case.Xen! with { Callbacks = [new XenCallback(kind, MaskEvents: true, XenMap.FlatCode64, 0x1000)] } })),
            OnlyCase(Supervisor with { Inject = new Injection(InjectionKind.Nmi, 2), Responses = [new Response([]) { Return = ReturnKind.Eretu }] }),
            OnlyCase(Supervisor with { Inject = new Injection(InjectionKind.Interrupt, 32), Abi = Abi.Pvm612, Responses = [new Response([]) { Return = ReturnKind.Iretq }] }),
            OnlyCase(Supervisor with { System = Supervisor.System.With(SystemRegister.PvmRetsRip, PvmMap.RetsRip), Responses = [new Response([]) { Return = ReturnKind.Erets }] }),
            Samples.Pvm,
        ];

        Assert.All(files, file => Assert.Equal(file, CaseFile.Parse(Encoding.UTF8.GetBytes(file.Write()), "x")));
        Assert.Equal([.. Enum.GetValues<EntryPoint>()], Enum.GetValues<Abi>().SelectMany(abi => Enum.GetValues<EntryPoint>().Where(e => FrameLayout.HasEntry(abi, e))).Distinct().Order());
    }

    /// <summary>Each name means one member.</summary>
    [Fact]
    public void NoTwoMembersHaveOneName()
    {
        Assert.Equal(Enum.GetValues<Abi>().Length, Enum.GetValues<Abi>().Select(abi => abi.Text()).Distinct(StringComparer.Ordinal).Count());
        string[] lines = [.. Enum.GetValues<SystemRegister>().Select(r => Stating(r).Write().Split('\n').Single(l => l.StartsWith("state ", StringComparison.Ordinal)))];
        Assert.Equal(Enum.GetValues<SystemRegister>().Length, lines.Distinct(StringComparer.Ordinal).Count());
    }

    private static CaseFile With(RecordedOutcome outcome) => Samples.Adc with { Outcomes = [outcome] };

    private static CaseFile OnlyCase(TestCase testCase) => (testCase.Abi.IsXen() ? Samples.Xen : Samples.Pvm) with { Case = testCase, Outcomes = [] };

    /// <summary>A sample whose ABI has a register, with an outcome that states it.</summary>
    private static CaseFile Stating(SystemRegister register)
    {
        CaseFile file = register < SystemRegister.XenKernelSp ? Samples.Pvm : Samples.Xen;
        return file with { Outcomes = [file.Outcomes[0] with { Outcome = file.Outcomes[0].Outcome with { System = SystemState.Empty.With(register, 1) } }] };
    }

    private static CaseFile WithEntry(CaseFile file, EntryPoint entry)
    {
        RecordedOutcome recorded = file.Outcomes[0];
        Event e = recorded.Outcome.Events[0] with { Entry = entry, Frame = [], Kind = entry == EntryPoint.HypercallReturn ? EventKind.Hypercall : EventKind.Fault };
        return file with { Outcomes = [recorded with { Outcome = recorded.Outcome with { Events = [e] } }] };
    }
}
