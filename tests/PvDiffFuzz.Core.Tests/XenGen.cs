using FsCheck;
using FsCheck.Fluent;

namespace PvDiffFuzz.Core.Tests;

/// <summary>Arbitrary well-formed Xen cases of every ABI, entered in every way, and what only their outcomes have.</summary>
internal static class XenGen
{
    private const PageAccess ReadExecute = PageAccess.Read | PageAccess.Execute;

    private static readonly Gen<Abi> Guest = Gen.Elements(Abi.XenPv64, Abi.XenPv64Fred, Abi.XenPv32);

    private static readonly Gen<XenVersion?> Version = Gen.Elements(null, new XenVersion(4, 17, 7), new XenVersion(4, 21, 1, Debug: true), new XenVersion(4, 0, 0));

    /// <summary>Well-formed inputs.</summary>
    public static Gen<TestCase> Cases =>
        from abi in Guest
        from start in Gen.Elements(GuestMode.User, GuestMode.Supervisor)
        from code in Code(abi, start)
        from layout in Layout(abi, code, start)
        from user in UserLayout(abi, code, start)
        from contents in CaseGen.Contents(code, layout)
        from xen in State(abi)
        from iret in Gen.OrNull(Gen.Elements<object>(0UL, TestCase.XenIretInSyscall, ulong.MaxValue)).Select(word => (ulong?)word ?? (start == GuestMode.User ? 0UL : null))
        from system in Stated(abi)
        from registers in CaseGen.AnyRegisters
        from responses in Response(abi).ListOf()
        from limit in Gen.Choose(1, TestCase.MaximumInstructions)
        select new TestCase
        {
            Abi = abi,
            Start = start,
            Code = code,
            Layout = layout,
            Contents = [.. contents.Where(run => !IsNearCode(run, code))],
            Xen = xen with { IretFlags = iret, UserLayout = user },
            System = iret is null ? system : system.Without(SystemRegister.XenUpcallMask),
            Registers = AtStart(registers, abi, start, entered: iret is not null),
            Responses = [.. responses.Take(TestCase.MaximumResponses)],
            Limits = new CaseLimits(limit),
        };

    /// <summary>A few system registers that a guest has, with values that fit.</summary>
    public static Gen<SystemState> System(Abi abi) =>
        from registers in Gen.SubListOf(Enum.GetValues<SystemRegister>())
        from values in CaseGen.Word.ArrayOf(registers.Count)
        select SystemState.Of(registers.Select((r, i) => KeyValuePair.Create(r, Fitting(r, values[i], abi))).Where(v => TestCase.CheckSystemValue(abi, v.Key, v.Value) is null));

    /// <summary>Lengths that the frame of an event can have, 0 for one that is not known.</summary>
    public static ReadOnlySpan<int> FrameLengths(Abi abi, EntryPoint entry) => entry == EntryPoint.HypercallReturn ? [0] : abi == Abi.XenPv32 ? [0, 12, 16, 20, 24] : [0, 56, 64];

    private static Gen<CodeBlock> Code(Abi abi, GuestMode start) => CaseGen.AnyCode.Select(code =>
    {
        ulong block = abi == Abi.XenPv32 || code.End <= uint.MaxValue ? AddressMap.LowBlock : AddressMap.HighBlock;
        return code with { Address = block + (start == GuestMode.User ? AddressMap.CodeEnd : XenMap.CodeEnd) - (ulong)code.Bytes.Length };
    });

    /// <summary>Xen's map, or odd pages with those of the code.</summary>
    private static Gen<PageLayout> Layout(Abi abi, CodeBlock code, GuestMode start) =>
        from odd in CaseGen.Ranges
        from kind in Gen.Choose(0, 1)
        let own = new PageRange(PageOf(code), 2, start == GuestMode.Supervisor && abi == Abi.XenPv32 ? ReadExecute | PageAccess.Supervisor : ReadExecute)
        select kind == 0 ? XenMap.KernelLayout(abi) : CaseGen.Joined(odd.Where(range => MayHave(abi, range)), own);

    private static Gen<PageLayout?> UserLayout(Abi abi, CodeBlock code, GuestMode start) =>
        from odd in CaseGen.Ranges
        from kind in Gen.Choose(0, 3)
        let own = new PageRange(PageOf(code), 2, ReadExecute)
        select abi == Abi.XenPv32 ? null : kind switch
        {
            0 => null,
            1 => XenMap.UserLayout(abi),
            2 when start == GuestMode.Supervisor => PageLayout.Create([]),
            _ => CaseGen.Joined(odd.Where(range => MayHave(abi, range)), own),
        };

    private static bool MayHave(Abi abi, PageRange range) => abi == Abi.XenPv32
        ? range.Last < XenMap.PrivateFirst32
        : (range.Access & PageAccess.Supervisor) == 0 && (range.Address > XenMap.PrivateLast || range.Last < XenMap.PrivateFirst);

    private static ulong PageOf(CodeBlock code) => ((code.End - 1) & ~0xfffUL) - PageLayout.PageSize;

    private static bool IsNearCode(MemoryContents run, CodeBlock code) => run.Address < code.End + TestCase.StubLength && run.Address + (ulong)run.Bytes.Length > code.Address;

    private static Gen<XenState> State(Abi abi) =>
        from version in Version
        from traps in Traps(abi)
        from kinds in Gen.SubListOf(Enum.GetValues<XenCallbackKind>())
        from addresses in Address(abi).ArrayOf(kinds.Count)
        from masks in Gen.Elements(true, false).ArrayOf(kinds.Count)
        from selectors in Gen.Choose(0, (XenMap.FirstReservedSelector >> 3) - 1).ListOf()
        from descriptors in CaseGen.Word.ArrayOf(selectors.Count)
        let gdt = selectors.Select((s, i) => KeyValuePair.Create((ushort)(s << 3), descriptors[i])).OrderBy(d => d.Key).DistinctBy(d => d.Key)
        select new XenState(traps, [.. kinds.Order().Select((kind, i) => new XenCallback(kind, masks[i] || kind == XenCallbackKind.Nmi, (ushort)(addresses[i] >> 4), addresses[i]))])
        {
            Version = version,
            Gdt = [.. gdt],
        };

    private static Gen<XenTrapTable> Traps(Abi abi) =>
        from all in Gen.Elements(true, false)
        from vectors in Gen.Choose(0, 255).ListOf()
        from flags in Gen.Choose(0, 7).ArrayOf(vectors.Count)
        from addresses in Gen.Frequency((3, Address(abi)), (1, Gen.Constant(0UL))).ArrayOf(vectors.Count)
        select vectors.Select((v, i) => new XenTrap((byte)v, (byte)flags[i], (ushort)(flags[i] * 0x1f), addresses[i])).Aggregate(
            !all ? XenTrapTable.Empty : abi == Abi.XenPv32 ? XenMap.Traps32 : XenMap.Traps, (table, trap) => table.With(trap));

    private static Gen<ulong> Address(Abi abi) => CaseGen.Word.Select(word => abi == Abi.XenPv32 ? ((uint)word % (uint)XenMap.PrivateFirst32) | 1 : CaseGen.Canonical(word | 1));

    private static Gen<SystemState> Stated(Abi abi) => System(abi).Select(state => state.Without(SystemRegister.PvmUserMode));

    private static ulong Fitting(SystemRegister register, ulong value, Abi abi) => register switch
    {
        SystemRegister.PvmUserMode or SystemRegister.NmiMasked => value & 1,
        SystemRegister.XenUpcallMask or SystemRegister.XenUpcallPending => (byte)value,
        SystemRegister.XenVcpuInfoPad => value >> 16,
        SystemRegister.XenIopl => value & 3,
        SystemRegister.XenKernelSs => (ushort)value,
        SystemRegister.XenVmAssist => value & 0x1_0000_003f,
        SystemRegister.KernelGsBase => CaseGen.Canonical(value),
        _ => abi == Abi.XenPv32 ? (uint)value : value,
    };

    private static RegisterState AtStart(RegisterState registers, Abi abi, GuestMode start, bool entered)
    {
        RegisterState r = registers with { FsBase = CaseGen.Canonical(registers.FsBase), GsBase = CaseGen.Canonical(registers.GsBase), Pkru = null };
        bool narrow = abi == Abi.XenPv32;
        if (narrow)
        {
            for (Register register = Register.Rax; register <= Register.GsBase; register++)
            {
                r = r.With(register, register is >= Register.R8 and <= Register.R15 ? 0 : (uint)r[register]);
            }
        }

        if (entered)
        {
            ushort cs = (ushort)(start == GuestMode.User ? r.Cs | 3 : r.Cs & ~1);
            return r with { Cs = (ushort)((cs | 3) == XenMap.FlatCode32 ? XenMap.FlatCode64 : cs) };
        }

        return r with
        {
            Rflags = (r.Rflags & RflagsBits.UserLoadable) | RflagsBits.Fixed1 | RflagsBits.IF,
            Rip = CaseGen.Canonical(r.Rip),
            Cs = narrow ? XenMap.KernelCode32 : XenMap.FlatCode64,
            Ss = narrow ? XenMap.KernelData32 : XenMap.FlatData,
        };
    }

    private static Gen<Response> Response(Abi abi) =>
        from registers in Gen.SubListOf(Enumerable.Range(0, (int)Register.Pkru).Select(r => (Register)r))
        from values in CaseGen.Word.ArrayOf(registers.Count)
        from flags in Gen.Elements<ulong>(0, TestCase.XenIretInSyscall, 0xdead)
        from pending in Gen.Elements(true, false)
        from calls in (from number in CaseGen.Word from arguments in CaseGen.Word.ListOf() select new Hypercall(number, [.. arguments.Take(abi == Abi.XenPv32 ? 5 : 6)])).ListOf()
        select new Response([.. registers.Order().Select((r, i) => KeyValuePair.Create(r, Patch(r, values[i])))])
        {
            Return = ReturnKind.XenIret,
            Flags = flags,
            Inject = pending ? new Injection(InjectionKind.Upcall, 0) : null,
            Hypercalls = [.. calls.Take(Core.Response.MaximumHypercalls)],
        };

    private static ulong Patch(Register register, ulong value) => register switch
    {
        >= Register.Cs and <= Register.Gs => (ushort)value,
        Register.FsBase or Register.GsBase => CaseGen.Canonical(value),
        _ => value,
    };
}
