using FsCheck;
using FsCheck.Fluent;

namespace PvDiffFuzz.Core.Tests;

/// <summary>Arbitrary well-formed PVM cases of every revision, in both modes, and what only their outcomes have.</summary>
internal static class PvmGen
{
    private const PageAccess SupervisorCode = PageAccess.Read | PageAccess.Execute | PageAccess.Supervisor;

    private static readonly Gen<Abi> Revision = Gen.Elements(Abi.PvmRfc1, Abi.Pvm612, Abi.PvmAbi1);

    private static readonly Gen<Injection?> Inject = Gen.Frequency(
        (3, Gen.Constant<Injection?>(null)),
        (1, Gen.Constant<Injection?>(new Injection(InjectionKind.Nmi, Injection.NmiVector))),
        (1, Gen.Choose(Injection.LowestInterrupt, 255).Select(Injection? (vector) => new Injection(InjectionKind.Interrupt, (byte)vector))));

    /// <summary>Well-formed inputs.</summary>
    public static Gen<TestCase> Cases =>
        from abi in Revision
        from start in Gen.Elements(GuestMode.User, GuestMode.Supervisor)
        from code in Code(start)
        from layout in Layout(code, start)
        from user in UserLayout(code, start)
        from contents in CaseGen.Contents(code, PageLayout.Create(layout.Ranges.Where(r => r.Address != AddressMap.LowBlock + PvmMap.Returns)))
        from pvcs in Gen.Elements(PvmMap.PvcsAddress, 0x7e80_0000_0000UL, 0xffff_9000_0000_0000UL)
        from path in Gen.Elements(HostPath.Cold, HostPath.Warm)
        from system in StateAtStart(abi, start)
        from registers in CaseGen.AnyRegisters
        from inject in Inject
        from responses in Response(abi).ListOf()
        from limit in Gen.Choose(1, TestCase.MaximumInstructions)
        select new TestCase
        {
            Abi = abi,
            Start = start,
            Code = code,
            Layout = layout,
            Contents = [.. contents.Append(PvmMap.ReturnInstructions).OrderBy(c => c.Address)],
            Pvm = new PvmState(pvcs, user, path),
            System = system,
            Registers = AtStart(registers, start, system),
            Inject = inject,
            Responses = [.. responses.Take(TestCase.MaximumResponses)],
            Limits = new CaseLimits(limit),
        };

    /// <summary>A few system registers that a revision has, with values that fit.</summary>
    public static Gen<SystemState> State(Abi abi) =>
        from registers in Gen.SubListOf(Enum.GetValues<SystemRegister>())
        from values in CaseGen.Word.ArrayOf(registers.Count)
        select SystemState.Of(registers.Select((r, i) => KeyValuePair.Create(r, Fitting(r, values[i], abi))).Where(v => TestCase.CheckSystemValue(abi, v.Key, v.Value) is null));

    private static Gen<CodeBlock> Code(GuestMode start) => CaseGen.AnyCode.Select(code =>
        start == GuestMode.User ? code : code with { Address = (code.End > uint.MaxValue ? AddressMap.HighBlock : AddressMap.LowBlock) + PvmMap.CodeEnd - (ulong)code.Bytes.Length });

    /// <summary>PVM's map, the standard one, or odd pages: with the code if the supervisor sees it, and with the instructions that return.</summary>
    private static Gen<PageLayout> Layout(CodeBlock code, GuestMode start) =>
        from odd in CaseGen.Ranges
        from kind in Gen.Choose(0, 2)
        let returns = new PageRange(AddressMap.LowBlock + PvmMap.Returns, 1, SupervisorCode)
        let own = new PageRange(PageOf(code), 2, start == GuestMode.User ? PageAccess.Read | PageAccess.Execute : SupervisorCode)
        select kind == 0 ? PvmMap.SupervisorLayout : CaseGen.Joined(odd, own, returns);

    private static Gen<PageLayout?> UserLayout(CodeBlock code, GuestMode start) =>
        from odd in CaseGen.Ranges
        from kind in Gen.Choose(0, 4)
        let own = new PageRange(PageOf(code), 2, PageAccess.Read | PageAccess.Execute)
        select kind switch
        {
            0 => null,
            1 => PvmMap.UserLayout,
            2 => AddressMap.Standard,
            3 when start == GuestMode.Supervisor => PageLayout.Create([]),
            _ => CaseGen.Joined(odd, own),
        };

    private static ulong PageOf(CodeBlock code) => (code.End - 1 & ~0xfffUL) - PageLayout.PageSize;

    private static Gen<SystemState> StateAtStart(Abi abi, GuestMode start) =>
        from some in State(abi)
        from rpl in Gen.Choose(0, 3)
        let stated = some.Values.Where(v => v.Key is not (SystemRegister.PvmUserMode or SystemRegister.Cr0 or SystemRegister.Cr4 or SystemRegister.Efer)
            && !(start == GuestMode.User && PvcsLayout.IsUserContext(v.Key)))
        let kept = SystemState.OfSorted([.. stated]).With(SystemRegister.Star, PvmMap.Star & ~(3UL << 48) | (ulong)rpl << 48).With(SystemRegister.PvmRetuRip, PvmMap.RetuRip)
        select abi == Abi.PvmRfc1 ? kept.With(SystemRegister.PvmRetsRip, PvmMap.RetsRip) : kept;

    private static ulong Fitting(SystemRegister register, ulong value, Abi abi)
    {
        foreach (PvcsField field in PvcsLayout.Of(abi))
        {
            value &= field.Register == register && field.Width < 8 ? (1UL << (8 * field.Width)) - 1 : ulong.MaxValue;
        }

        return register switch
        {
            SystemRegister.PvcsEventFlags => value & (abi == Abi.PvmAbi1 ? 1UL << 9 | 1UL << 32 : 0x300),
            SystemRegister.PvmEventEntry => CaseGen.Canonical(value) & ~0xfffUL,
            SystemRegister.Lstar or SystemRegister.KernelGsBase => CaseGen.Canonical(value),
            SystemRegister.PvmVcpuStruct => value & ~0xfffUL,
            SystemRegister.PvmLinearAddressRange => 0xffff_ffff_ffb3_ff93,
            SystemRegister.PvmUserMode or SystemRegister.NmiMasked => value & 1,
            SystemRegister.Cr8 => value & 15,
            _ => value,
        };
    }

    private static RegisterState AtStart(RegisterState registers, GuestMode start, SystemState system)
    {
        RegisterState r = registers with { FsBase = CaseGen.Canonical(registers.FsBase) };
        if (start == GuestMode.User)
        {
            return r with { Rflags = (uint)r.Rflags, Cs = r.Cs == Selectors.UserCode32 ? Selectors.UserCode64 : r.Cs };
        }

        bool enabled = system[SystemRegister.PvmVcpuStruct] != 0 && (system[SystemRegister.PvcsEventFlags] & RflagsBits.IF) != 0;
        return r with
        {
            Rflags = (r.Rflags & RflagsBits.UserLoadable) | RflagsBits.Fixed1 | (enabled ? RflagsBits.IF : 0),
            Rip = CaseGen.Canonical(r.Rip),
            GsBase = CaseGen.Canonical(r.GsBase),
            Cs = Selectors.UserCode64,
            Ss = Selectors.UserData,
        };
    }

    private static Gen<Response> Response(Abi abi) =>
        from eretu in Gen.Elements(true, false)
        let back = eretu ? ReturnKind.Eretu : abi == Abi.PvmRfc1 ? ReturnKind.Erets : ReturnKind.Iretq
        from registers in Gen.SubListOf(Enumerable.Range(0, (int)Register.Pkru + (eretu ? 1 : 0)).Select(r => (Register)r))
        from values in CaseGen.Word.ArrayOf(registers.Count)
        from inject in Inject
        from calls in (from number in CaseGen.Word from arguments in CaseGen.Word.ListOf() select new Hypercall(number, [.. arguments.Take(3)])).ListOf()
        select new Response([.. registers.Order().Select((r, i) => KeyValuePair.Create(r, Patch(back, r, values[i])))])
        {
            Return = back,
            Inject = inject,
            Hypercalls = [.. calls.Take(Core.Response.MaximumHypercalls)],
        };

    private static ulong Patch(ReturnKind back, Register register, ulong value) => register switch
    {
        >= Register.Cs and <= Register.Gs => (ushort)value,
        Register.Pkru => (uint)value,
        Register.Rflags when back == ReturnKind.Eretu => (uint)value,
        Register.FsBase => CaseGen.Canonical(value),
        Register.GsBase when back != ReturnKind.Eretu => CaseGen.Canonical(value),
        _ => value,
    };
}
