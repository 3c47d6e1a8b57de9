using System.Buffers.Binary;
using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Cli.Import;

/// <summary>Makes the input of a case from a record: the guest's set-up, and what the record says of its own.</summary>
internal static class XenCaseMaker
{
    private const ulong PhysdevOp = 33;
    private const ulong SetIopl = 6;

    private static readonly ImmutableArray<byte> ForcedCpuid = [0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2];

    /// <summary>The first leaf of those that a hypervisor answers.</summary>
    private const ulong HypervisorLeaves = 0x4000_0000;

    /// <summary>Makes the case.</summary>
    /// <param name="record">A record that <see cref="XenLeftOut"/> has nothing against.</param>
    public static TestCase Make(XenObservation record)
    {
        CpuProfile profile = XenHostState.Profile(record.Cpu);
        CpuMode mode = record.Context.Cs == XenMap.FlatCode32 ? CpuMode.Compatibility32 : CpuMode.Long64;
        bool entered = record.Mode != XenObservedMode.Kernel;
        return new TestCase
        {
            Abi = Abi.XenPv64,
            Start = record.Mode == XenObservedMode.User ? GuestMode.User : GuestMode.Supervisor,
            Code = new CodeBlock(record.CodeAddress, record.Code, Split(record, mode, profile)),
            Registers = RegistersOf(record, entered),
            Layout = XenHostState.KernelLayout,
            Contents = record.Memory,
            System = SystemOf(record, entered),
            Xen = new XenState(TrapsOf(record), XenHostState.Callbacks)
            {
                Version = record.Version,
                IretFlags = entered ? record.IretFlags : null,
                UserLayout = XenHostState.UserLayout,
            },
            Profile = WithReadings(profile, record, mode),
        };
    }

    /// <summary>The forced emulation prefix is UD2 and the letters <c>xen</c>, which are no instructions.</summary>
    private static ImmutableArray<byte> Split(XenObservation record, CpuMode mode, CpuProfile profile)
    {
        const int prefix = 5;
        bool forced = record.Code.AsSpan().StartsWith(ForcedCpuid.AsSpan()[..prefix]);
        ImmutableArray<byte> lengths = CodeSplitter.Split(record.Code.AsSpan()[(forced ? prefix : 0)..], mode, profile.Vendor);
        return forced ? [(byte)(prefix + lengths[0]), .. lengths[1..]] : lengths;
    }

    private static RegisterState RegistersOf(XenObservation record, bool entered)
    {
        GprFile gpr = default;
        record.Registers.AsSpan().CopyTo(gpr);
        return new RegisterState
        {
            Gpr = gpr,
            Rip = record.Context.Rip,
            Rflags = record.Context.Rflags,

            // Records show the kernel's CS as frames do; a kernel that is simply there runs with Xen's flat one.
            Cs = entered ? record.Context.Cs : XenMap.FlatCode64,
            Ss = record.Context.Ss,
            Ds = (ushort)record.Before.Selectors,
            Es = (ushort)(record.Before.Selectors >> 16),
            Fs = (ushort)(record.Before.Selectors >> 32),
            Gs = (ushort)(record.Before.Selectors >> 48),
        };
    }

    private static SystemState SystemOf(XenObservation record, bool entered)
    {
        SystemState system = XenHostState.System
            .With(SystemRegister.Cr2, record.Before.Cr2)
            .With(SystemRegister.XenKernelSp, record.KernelSp)
            .With(SystemRegister.XenUpcallPending, record.Upcall.Pending);
        system = entered ? system : system.With(SystemRegister.XenUpcallMask, record.Upcall.Mask);
        return IoplOf(record) is ulong iopl ? system.With(SystemRegister.XenIopl, iopl) : system;
    }

    /// <summary>The only call that any record makes before its code is the one that sets the virtual IOPL.</summary>
    private static ulong? IoplOf(XenObservation record)
    {
        if (record.CallsBefore.IsEmpty)
        {
            return null;
        }

        bool sets = record.CallsBefore is [{ Number: PhysdevOp, Arguments: [SetIopl, var at] }] && record.Memory is [{ Bytes.Length: sizeof(uint) } contents] && contents.Address == at && record.CallResults is [0];
        return sets
            ? BinaryPrimitives.ReadUInt32LittleEndian(record.Memory[0].Bytes.AsSpan())
            : throw record.Bad("hypercalls_before: the importer knows one call of physdev_op set_iopl, with its argument in memory and result 0; teach it what another one leaves behind");
    }

    private static XenTrapTable TrapsOf(XenObservation record)
    {
        // The NMI callback takes the place of entry 2.
        XenTrapTable traps = XenTrapTable.At(XenHostState.Handlers, XenMap.FlatCode64);
        foreach ((byte vector, byte flags, bool present) in record.Traps)
        {
            traps = present ? traps.With(traps[vector] with { Flags = flags }) : traps.Without(vector);
        }

        return traps;
    }

    /// <summary>Where the code reads what differs from host to host, the case states what this host answers.</summary>
    private static CpuProfile WithReadings(CpuProfile profile, XenObservation record, CpuMode mode)
    {
        if (record.Delivery is not XenDelivery delivery)
        {
            return profile;
        }

        switch (Exclusions.FindAnywhere(record.Code.AsSpan(), mode, profile, out _)?.Id)
        {
            case "descriptor-tables" or "machine-status" or "state-in-use":
                return profile with { Readings = XenHostState.Readings };
            case "time":
                return profile with { Readings = profile.Readings.Add(Reading.TimeStamp, (delivery.Registers[2] << 32) | delivery.Registers[0]) };
            case "identity" when !IsXenLeaf(record):
                // RCX at entry is the handler's address; the frame has the interrupted one.
                return profile with { Cpuid = [new CpuidLeaf((uint)record.Registers[0], null, (uint)delivery.Registers[0], (uint)delivery.Registers[3], (uint)delivery.Stack[0], (uint)delivery.Registers[2])] };
            default:
                return profile;
        }
    }

    /// <summary>True for a leaf that the ABI answers, so that it is no reading of the host.</summary>
    private static bool IsXenLeaf(XenObservation record) => record.Registers[0] >= HypervisorLeaves && record.Registers[0] < HypervisorLeaves << 1 && record.Code.AsSpan().StartsWith(ForcedCpuid.AsSpan());
}
