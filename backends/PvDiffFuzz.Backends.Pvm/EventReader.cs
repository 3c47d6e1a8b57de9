using System.Buffers.Binary;
using System.Collections.Immutable;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Makes events of what a delivery left in registers, in the structure and on the stack.</summary>
internal static class EventReader
{
    /// <summary>Bytes of the frame that the first revision pushes for vectors below 32 of supervisor mode.</summary>
    public const int FrameSize = 64;

    /// <summary>Bits of the vector field by which the later revision marks NMIs and machine checks, whose vector byte is 0.</summary>
    private const ulong MarkedNmi = 0x200;

    private const ulong MarkedMachineCheck = 0x400;
    private const byte NmiVector = 2;
    private const byte MachineCheckVector = 18;
    private const byte PageFaultVector = 14;

    /// <summary>Vectors that have an error code: #DF, #TS, #NP, #SS, #GP, #PF, #AC, #CP, #VC, #SX.</summary>
    private const uint ErrorCodes = (1u << 8) | (1u << 10) | (1u << 11) | (1u << 12) | (1u << 13) | (1u << 14) | (1u << 17) | (1u << 21) | (1u << 29) | (1u << 30);

    /// <summary>Reads an event.</summary>
    /// <param name="revision">The revision.</param>
    /// <param name="port">Where it landed.</param>
    /// <param name="registers">Registers at the entry.</param>
    /// <param name="pvcs">The structure.</param>
    /// <param name="stack">The bytes from RSP on, <see cref="FrameSize"/> of them; empty where the entry has no frame on the stack.</param>
    /// <param name="injected">Vector of the interrupt that was delivered last; null for none.</param>
    public static Event Read(Abi revision, AgentPort port, RegisterState registers, ReadOnlySpan<byte> pvcs, ReadOnlySpan<byte> stack, byte? injected)
    {
        if (port == AgentPort.Lstar)
        {
            return new Event(EventKind.SystemCall, 0, null, null, EntryPoint.Lstar, registers) { Frame = ImmutableArray.Create(pvcs) };
        }

        bool onStack = OnStack(revision, port);
        ulong vectorField = onStack ? BinaryPrimitives.ReadUInt32LittleEndian(stack[4..]) : Field(revision, SystemRegister.PvcsEventVector, pvcs);
        ulong errorField = onStack ? BinaryPrimitives.ReadUInt32LittleEndian(stack) : Field(revision, SystemRegister.PvcsEventErrcode, pvcs);
        byte vector = VectorOf(revision, vectorField);
        bool outside = injected == vector || vector == NmiVector;
        bool hasError = !outside && vector < 32 && ((ErrorCodes >> vector) & 1) != 0;
        ulong? cr2 = vector == PageFaultVector && !outside ? Field(revision, SystemRegister.PvcsCr2, pvcs) : null;
        EventKind kind = outside ? EventKind.Interrupt : Event.KindOf(vector);
        return new Event(kind, vector, hasError ? (uint)errorField : null, cr2, EntryOf(revision, port), registers) { Frame = ImmutableArray.Create(onStack ? stack[..FrameSize] : pvcs) };
    }

    /// <summary>True when a delivery there pushes a frame.</summary>
    public static bool OnStack(Abi revision, AgentPort port) => revision == Abi.PvmRfc1 && port == AgentPort.SupervisorEntry;

    /// <summary>A field of the structure, zero-extended.</summary>
    public static ulong Field(Abi revision, SystemRegister register, ReadOnlySpan<byte> pvcs)
    {
        foreach (PvcsField field in PvcsLayout.Of(revision))
        {
            if (field.Register == register)
            {
                return Read(field, pvcs);
            }
        }

        return 0;
    }

    /// <summary>A field of the structure, zero-extended.</summary>
    public static ulong Read(PvcsField field, ReadOnlySpan<byte> pvcs) => field.Width switch
    {
        8 => BinaryPrimitives.ReadUInt64LittleEndian(pvcs[field.Offset..]),
        4 => BinaryPrimitives.ReadUInt32LittleEndian(pvcs[field.Offset..]),
        _ => BinaryPrimitives.ReadUInt16LittleEndian(pvcs[field.Offset..]),
    };

    /// <summary>Stores a field of the structure; one that the revision does not have is left out.</summary>
    public static void SetField(Abi revision, SystemRegister register, Span<byte> pvcs, ulong value)
    {
        Span<byte> bytes = stackalloc byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        foreach (PvcsField field in PvcsLayout.Of(revision))
        {
            if (field.Register == register)
            {
                bytes[..field.Width].CopyTo(pvcs[field.Offset..]);
            }
        }
    }

    /// <summary>The registers as instructions see them: the selectors of the supervisor are the underlying ones, whatever KVM says of them.</summary>
    /// <param name="regs">General registers.</param>
    /// <param name="sregs">Segments.</param>
    /// <param name="rip">Instruction pointer to report: the agent is not to be seen.</param>
    /// <param name="statesPkru">True when the case states PKRU. Guests have no protection keys, so it is 0.</param>
    public static RegisterState ReadRegisters(in KvmRegs regs, in KvmSregs sregs, ulong rip, bool statesPkru)
    {
        GprFile gpr = default;
        ReadOnlySpan<ulong> values =
            [regs.Rax, regs.Rcx, regs.Rdx, regs.Rbx, regs.Rsp, regs.Rbp, regs.Rsi, regs.Rdi, regs.R8, regs.R9, regs.R10, regs.R11, regs.R12, regs.R13, regs.R14, regs.R15];
        for (int i = 0; i < GprFile.Count; i++)
        {
            gpr[i] = values[i];
        }

        return new RegisterState
        {
            Gpr = gpr,
            Rip = rip,
            Rflags = regs.Rflags,
            Cs = Selectors.UserCode64,
            Ss = Selectors.UserData,
            Ds = sregs.Ds.Selector,
            Es = sregs.Es.Selector,
            Fs = sregs.Fs.Selector,
            Gs = sregs.Gs.Selector,
            FsBase = sregs.Fs.Base,
            GsBase = sregs.Gs.Base,
            Pkru = statesPkru ? 0 : null,
        };
    }

    private static byte VectorOf(Abi revision, ulong field) =>
        revision == Abi.PvmRfc1 || (byte)field != 0 ? (byte)field
        : (field & MarkedNmi) != 0 ? NmiVector
        : (field & MarkedMachineCheck) != 0 ? MachineCheckVector
        : (byte)0;

    private static EntryPoint EntryOf(Abi revision, AgentPort port) => port switch
    {
        AgentPort.UserEntry => EntryPoint.PvmUser,
        AgentPort.HighEntry when revision == Abi.PvmRfc1 => EntryPoint.PvmSupervisorHigh,
        _ => EntryPoint.PvmSupervisor,
    };
}
