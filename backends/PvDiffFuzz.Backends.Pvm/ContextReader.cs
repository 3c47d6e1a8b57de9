using System.Runtime.InteropServices;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Reads what the agent records of a case as events, in their order.</summary>
/// <param name="testCase">The case.</param>
/// <param name="plan">Where its entries are.</param>
internal ref struct ContextReader(TestCase testCase, GuestPlan plan)
{
    private static readonly int Cr2Offset = PvcsLayout.Of(Abi.PvmRfc1).ToArray().Single(field => field.Register == SystemRegister.PvcsCr2).Offset;
    private readonly bool _asksStructure = AsksStructure(testCase);
    private ulong _entry;

    /// <summary>True when a case may take away the structure, so that the agent asks where it is: without one, interrupts are disabled, whatever was in it.</summary>
    /// <param name="testCase">The case.</param>
    public static bool AsksStructure(TestCase testCase) => !BatchRules.IsSteady(testCase) && CaseNumbers.Mentions(testCase, CaseNumbers.VcpuStructMsr);

    /// <summary>True when an event that was read pushed its frame over the structure, where CR2 was written over its vector: nobody in the guest can tell then what came.</summary>
    public bool IsHidden { get; private set; }

    /// <summary>The place that a context is of.</summary>
    public static AgentPort PortOf(ReadOnlySpan<byte> context) => (AgentPort)MemoryMarshal.Read<uint>(context[Context.Port..]);

    /// <summary>The per-VCPU structure then.</summary>
    public static ReadOnlySpan<byte> StructureOf(ReadOnlySpan<byte> context) => context.Slice(Context.Structure, PvcsLayout.Size);

    /// <summary>The end of a hypercall that a response makes.</summary>
    /// <param name="registers">Registers behind it, at the entry of the event that is answered.</param>
    public static Event Called(RegisterState registers) => new(EventKind.Hypercall, 0, null, null, EntryPoint.HypercallReturn, registers);

    /// <summary>Reads an event.</summary>
    /// <param name="context">Its context.</param>
    /// <param name="injected">Vector of the interrupt that was injected before it; null for none.</param>
    public Event Read(ReadOnlySpan<byte> context, byte? injected)
    {
        AgentPort port = PortOf(context);
        if (port == AgentPort.Called)
        {
            return Called(Registers(context, _entry));
        }

        _entry = AddressOf(port);
        IsHidden |= EventReader.OnStack(testCase.Abi, port) && MemoryMarshal.Read<ulong>(context[Context.GprAt(4)..]) == plan.VcpuStructAddress + (ulong)Cr2Offset;
        return EventReader.Read(testCase.Abi, port, Registers(context, _entry), StructureOf(context), context.Slice(Context.Frame, EventReader.FrameSize), injected);
    }

    /// <summary>The registers; RFLAGS has the virtual interrupt flag, which in supervisor mode is that of the structure.</summary>
    /// <param name="context">A context.</param>
    /// <param name="rip">Instruction pointer to report: the agent is not to be seen.</param>
    public readonly RegisterState Registers(ReadOnlySpan<byte> context, ulong rip)
    {
        GprFile gpr = default;
        for (int i = 0; i < GprFile.Count; i++)
        {
            gpr[i] = MemoryMarshal.Read<ulong>(context[Context.GprAt(i)..]);
        }

        bool gone = _asksStructure && MemoryMarshal.Read<ulong>(context[Context.StructureAt..]) == 0;
        ulong eventFlags = gone ? 0 : EventReader.Field(testCase.Abi, SystemRegister.PvcsEventFlags, StructureOf(context));
        return new RegisterState
        {
            Gpr = gpr,
            Rip = rip,
            Rflags = (MemoryMarshal.Read<ulong>(context[Context.Rflags..]) & ~RflagsBits.IF) | (eventFlags & RflagsBits.IF),
            Cs = Selectors.UserCode64,
            Ss = Selectors.UserData,
            Ds = MemoryMarshal.Read<ushort>(context[Context.Ds..]),
            Es = MemoryMarshal.Read<ushort>(context[Context.Es..]),
            Fs = MemoryMarshal.Read<ushort>(context[Context.Fs..]),
            Gs = MemoryMarshal.Read<ushort>(context[Context.Gs..]),
            FsBase = MemoryMarshal.Read<ulong>(context[Context.FsBase..]),
            GsBase = MemoryMarshal.Read<ulong>(context[Context.GsBase..]),
            Pkru = testCase.Registers.Pkru is not null ? 0 : null,
        };
    }

    private readonly ulong AddressOf(AgentPort port)
    {
        foreach ((AgentPort known, ulong address) in plan.Pads())
        {
            if (known == port)
            {
                return address;
            }
        }

        return 0;
    }
}
