using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Cli.Import;

/// <summary>Makes the input of a case from a record: the host's set-up, and what the record says of its own.</summary>
internal static class PvmCaseMaker
{
    private static readonly ImmutableArray<byte> Syscall = [0x0f, 0x05];
    private static readonly ImmutableArray<byte> Int80 = [0xcd, 0x80];

    /// <summary>Makes the case.</summary>
    /// <param name="record">A record that <see cref="PvmLeftOut"/> has nothing against.</param>
    public static TestCase Make(PvmObservation record)
    {
        CpuProfile profile = PvmHostState.Profile(record.Cpu);
        bool user = record.Mode is ObservedMode.User or ObservedMode.Compatibility;
        ImmutableArray<byte> code = user ? [.. record.Code, .. Terminator(record)] : record.Code;
        CpuMode mode = record.Mode == ObservedMode.Compatibility ? CpuMode.Compatibility32 : CpuMode.Long64;
        return new TestCase
        {
            Abi = record.Abi,
            Start = user ? GuestMode.User : GuestMode.Supervisor,
            Code = new CodeBlock(record.CodeAddress, code, CodeSplitter.Split(code.AsSpan(), mode, profile.Vendor)),
            Registers = user ? UserRegisters(record) : SupervisorRegisters(record),
            Layout = PvmHostState.Layout,
            Contents = PvmHostState.Contents,
            System = SystemOf(record, user),
            Pvm = new PvmState(PvmHostState.Pvcs, Path: record.Path),
            Profile = WithReadings(profile, record, code, mode),
        };
    }

    /// <summary>
    /// What ended the user code of a record: SYSCALL, or INT 0x80 where the processor is in compatibility mode, which the code may have entered or left.
    /// </summary>
    private static ImmutableArray<byte> Terminator(PvmObservation record)
    {
        ulong after = record.CodeAddress + (ulong)(record.Code.Length + Syscall.Length);
        bool reached = record.Exit.Kind == ObservedExit.Port && record.System[SystemRegister.PvcsRip] == after;
        return reached ? (record.Exit.Port == PvmOutcomeMaker.LstarPort ? Syscall : Int80)
            : record.Mode == ObservedMode.Compatibility ? Int80
            : Syscall;
    }

    private static RegisterState SupervisorRegisters(PvmObservation record) => new()
    {
        Gpr = PvmHostState.Gpr(record.Start.Rsp),
        Rip = record.Mode == ObservedMode.ReturnToSupervisor ? PvmHostState.RetsRip : record.CodeAddress,
        Rflags = record.Start.Rflags,
        GsBase = PvmHostState.GsBase,
    };

    /// <summary>The user context is that of the structure; a later revision leaves RSP alone, so there it is the one at the start.</summary>
    private static RegisterState UserRegisters(PvmObservation record)
    {
        GprFile gpr = PvmHostState.Gpr(record.Pvcs.GetValueOrDefault(SystemRegister.PvcsRsp, record.Start.Rsp));
        gpr[(int)Register.Rcx] = record.Pvcs[SystemRegister.PvcsRcx];
        gpr[(int)Register.R11] = record.Pvcs[SystemRegister.PvcsR11];
        return new RegisterState
        {
            Gpr = gpr,
            Rip = record.Pvcs[SystemRegister.PvcsRip],
            Rflags = record.Pvcs[SystemRegister.PvcsEflags],
            Cs = (ushort)record.Pvcs[SystemRegister.PvcsUserCs],
            Ss = (ushort)record.Pvcs[SystemRegister.PvcsUserSs],
            GsBase = record.Pvcs[SystemRegister.PvcsUserGsBase],
            Pkru = (uint)record.Pvcs[SystemRegister.PvcsPkru],
        };
    }

    private static SystemState SystemOf(PvmObservation record, bool user)
    {
        SystemState system = PvmHostState.System(record.Abi);
        foreach ((SystemRegister register, ulong value) in record.Pvcs)
        {
            system = user && PvcsLayout.IsUserContext(register) ? system : system.With(register, value);
        }

        // The supervisor's stack pointer is what the return saves.
        return user && record.Abi == Abi.PvmRfc1 ? system.With(SystemRegister.PvmSupervisorRsp, record.Start.Rsp) : system;
    }

    /// <summary>Where the code reads what differs from host to host, the case states what this host answers.</summary>
    private static CpuProfile WithReadings(CpuProfile profile, PvmObservation record, ImmutableArray<byte> code, CpuMode mode)
    {
        switch (Exclusions.FindAnywhere(code.AsSpan(), mode, profile, out _)?.Id)
        {
            case "descriptor-tables" or "machine-status" or "state-in-use":
                return profile with { Readings = PvmHostState.Readings };
            case "time":
                ulong time = (record.Registers[Register.Rdx] << 32) | record.Registers[Register.Rax];

                // In user mode the terminator overwrites RCX, so nobody sees the processor's number.
                ulong number = record.Mode == ObservedMode.Supervisor ? record.Registers[Register.Rcx] : 0;
                return profile with { Readings = PvmHostState.Readings.Add(Reading.TimeStamp, time).Add(Reading.ProcessorNumber, number) };
            case "identity":
                return profile with { Cpuid = CpuidOf(record) };
            default:
                return profile;
        }
    }

    /// <summary>
    /// CPUID of a basic leaf answers what the host or its monitor chose, so a record of it states that answer. Hypervisor leaves are the ABI's and are not stated.
    /// </summary>
    private static ImmutableArray<CpuidLeaf> CpuidOf(PvmObservation record)
    {
        ReadOnlySpan<byte> code = record.Code.AsSpan();
        bool basic = code is [0xb8, not 0, 0, 0, 0, ..];
        return [basic ? Leaf(code[1], record.Registers) : new CpuidLeaf(1, null, 0x6_0fb1, 0x800, 0xfed8_320b, 0x0fcb_fbfd)];
    }

    private static CpuidLeaf Leaf(uint leaf, ImmutableDictionary<Register, ulong> answer) =>
        new(leaf, null, (uint)answer[Register.Rax], (uint)answer[Register.Rbx], (uint)answer[Register.Rcx], (uint)answer[Register.Rdx]);
}
