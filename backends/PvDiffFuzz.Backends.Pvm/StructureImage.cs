using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>The per-VCPU structure as a case begins with it.</summary>
internal static class StructureImage
{
    /// <summary>Writes all fields that the case states, and, when it starts in user mode, the context that the return to user mode takes.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="pvcs">The bytes of the structure, all zero.</param>
    public static void Write(TestCase testCase, Span<byte> pvcs)
    {
        Abi revision = testCase.Abi;
        foreach ((SystemRegister register, ulong value) in testCase.System.Values)
        {
            if (register is >= SystemRegister.PvcsEventFlags and <= SystemRegister.PvcsR11)
            {
                EventReader.SetField(revision, register, pvcs, value);
            }
        }

        if (testCase.Start == GuestMode.Supervisor)
        {
            return;
        }

        RegisterState registers = testCase.Registers;
        ReadOnlySpan<(SystemRegister Register, ulong Value)> context =
        [
            (SystemRegister.PvcsUserCs, registers.Cs), (SystemRegister.PvcsUserSs, registers.Ss), (SystemRegister.PvcsUserGsBase, registers.GsBase), (SystemRegister.PvcsEflags, registers.Rflags),
            (SystemRegister.PvcsPkru, registers.Pkru ?? 0), (SystemRegister.PvcsRip, registers.Rip), (SystemRegister.PvcsRsp, registers.Gpr[4]), (SystemRegister.PvcsRcx, registers.Gpr[1]),
            (SystemRegister.PvcsR11, registers.Gpr[11]),
        ];
        foreach ((SystemRegister register, ulong value) in context)
        {
            EventReader.SetField(revision, register, pvcs, value);
        }
    }

    /// <summary>The field from which EVENT_RETURN_USER takes a register; null for what stays in place.</summary>
    /// <param name="revision">The revision.</param>
    /// <param name="register">The register.</param>
    public static SystemRegister? FieldOf(Abi revision, Register register) => register switch
    {
        Register.Rip => SystemRegister.PvcsRip,
        Register.Rflags => SystemRegister.PvcsEflags,
        Register.Rsp when revision == Abi.PvmRfc1 => SystemRegister.PvcsRsp,
        Register.Rcx => SystemRegister.PvcsRcx,
        Register.R11 => SystemRegister.PvcsR11,
        Register.Cs => SystemRegister.PvcsUserCs,
        Register.Ss => SystemRegister.PvcsUserSs,
        Register.GsBase => SystemRegister.PvcsUserGsBase,
        Register.Pkru => SystemRegister.PvcsPkru,
        _ => null,
    };
}
