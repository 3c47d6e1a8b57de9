using System.Buffers.Binary;
using System.Collections.Immutable;

namespace PvDiffFuzz.Core.Tests;

/// <content>A case with a system side.</content>
internal static partial class Samples
{
    /// <summary>INT3 in user mode, a hypercall, an interrupt that comes at the return: the second example of docs/case-format.md.</summary>
    public static CaseFile Pvm { get; } = MakePvm();

    /// <summary>The canonical text of <see cref="Pvm"/> with one piece replaced.</summary>
    /// <exception cref="InvalidOperationException">The piece is not in the text, so the replacement would show nothing.</exception>
    public static byte[] PvmWith(string piece, string replacement) => With(Pvm, piece, replacement);

    private static CaseFile MakePvm()
    {
        GprFile gpr = default;
        gpr[1] = 1;
        gpr[4] = 0x45_1000;
        gpr[11] = 2;
        return new CaseFile
        {
            Comment = "A host stores PKRU as 0 when user code is interrupted.\n\nThe interrupt at the return shows that the structure's value is what user code gets back.",
            Id = "user-pkru-lost",
            Spec = ["PVM rfc1 Vector events in user mode", "PVM rfc1 Protection Keys"],
            Case = new TestCase
            {
                Abi = Abi.PvmRfc1,
                Pvm = new PvmState(PvmMap.PvcsAddress, PvmMap.UserLayout, HostPath.Warm),
                Code = new CodeBlock(0x40_1ffe, [0xcc, 0x90], [1, 1]),
                Registers = new RegisterState { Gpr = gpr, Rip = 0x40_1ffe, Rflags = 0x202, Pkru = 4 },
                Layout = PvmMap.SupervisorLayout,
                Contents = [PvmMap.ReturnInstructions],
                System = SystemState.Of(
                    new(SystemRegister.Cr3, PvmMap.SupervisorRoot),
                    new(SystemRegister.Star, PvmMap.Star),
                    new(SystemRegister.Lstar, PvmMap.Lstar),
                    new(SystemRegister.PvmVcpuStruct, PvmMap.VcpuStruct),
                    new(SystemRegister.PvmSupervisorRsp, 0x47_1000),
                    new(SystemRegister.PvmEventEntry, PvmMap.EventEntry),
                    new(SystemRegister.PvmRetuRip, PvmMap.RetuRip),
                    new(SystemRegister.PvmRetsRip, PvmMap.RetsRip),
                    new(SystemRegister.PvmSwitchCr3, PvmMap.UserRoot)),
                Responses =
                [
                    new Response([new(Register.Rcx, 0x77)])
                    {
                        Return = ReturnKind.Eretu,
                        Hypercalls = [new Hypercall(0x1708_8205, [0x41_0000])],
                        Inject = new Injection(InjectionKind.Interrupt, 0x41),
                    },
                    new Response([]) { Return = ReturnKind.Eretu },
                ],
            },
            CodeComments = ["int3", "nop"],
            Outcomes = [PvmAnswer("model.pvm", TargetKind.Model, "model", gpr, 4), PvmAnswer("pvm", TargetKind.Hypervisor, "pvm", gpr, 0)],
            Verdict = "known user-pkru-zero",
        };
    }

    private static RecordedOutcome PvmAnswer(string target, TargetKind kind, string lineage, GprFile user, uint pkru)
    {
        GprFile gpr = user;
        (gpr[1], gpr[4], gpr[11]) = (PvmMap.EventEntry, 0x47_1000, 0x202);
        RegisterState entry = new() { Gpr = gpr, Rip = PvmMap.EventEntry, Rflags = 2, Pkru = 0 };
        Event Delivery(EventKind kind, byte vector, uint? error, ulong? cr2, ulong rip, ulong rcx) =>
            new(kind, vector, error, cr2, EntryPoint.PvmUser, entry) { Frame = Pvcs(vector, error ?? 0, cr2 ?? 0, pkru, rip, user[4], rcx, user[11]) };

        return new RecordedOutcome(target, kind, lineage, Fingerprint.Empty, new Outcome
        {
            End = EndKind.ReachedEnd,
            Events =
            [
                Delivery(EventKind.Trap, 3, null, null, 0x40_1fff, 1),
                new Event(EventKind.Hypercall, 0, null, null, EntryPoint.HypercallReturn, entry),
                Delivery(EventKind.Interrupt, 0x41, null, null, 0x40_1fff, 0x77),
                Delivery(EventKind.Fault, 0x0e, 0x14, 0x40_2000, 0x40_2000, 0x77),
            ],
            Registers = entry,
            System = SystemState.Of(
                new(SystemRegister.Cr3, PvmMap.SupervisorRoot),
                new(SystemRegister.PvmSupervisorRsp, 0x47_1000),
                new(SystemRegister.PvmSwitchCr3, PvmMap.UserRoot),
                new(SystemRegister.PvcsEventFlags, 0),
                new(SystemRegister.PvcsPkru, pkru)),
        });
    }

    /// <summary>PVM's structure, field by field at the offsets of the first specification.</summary>
    private static ImmutableArray<byte> Pvcs(byte vector, uint error, ulong cr2, uint pkru, ulong rip, ulong rsp, ulong rcx, ulong r11)
    {
        byte[] bytes = new byte[128];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(0x08), error);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(0x0c), vector);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(0x10), cr2);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(0x40), Selectors.UserCode64);
        BinaryPrimitives.WriteUInt16LittleEndian(bytes.AsSpan(0x42), Selectors.UserData);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(0x58), 0x202);
        BinaryPrimitives.WriteUInt32LittleEndian(bytes.AsSpan(0x5c), pkru);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(0x60), rip);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(0x68), rsp);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(0x70), rcx);
        BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(0x78), r11);
        return ImmutableArray.Create(bytes);
    }
}
