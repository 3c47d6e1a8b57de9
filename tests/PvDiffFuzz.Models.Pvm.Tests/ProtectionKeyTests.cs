using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm.Tests;

/// <summary>PKRU over the modes.</summary>
public sealed class ProtectionKeyTests
{
    /// <summary>To the supervisor PKRU is saved and becomes 0; RDPKRU of user code reads what the return loaded.</summary>
    [Fact]
    public void PkruFollowsTheMode()
    {
        // rdpkru; int3
        Event what = Payload.User("0F 01 EE CC", (Register.Pkru, 0x54)).Run(Payload.Keys).Only();

        Assert.Equal((0x54UL, 0x54UL, (uint?)0), (what.Registers.Gpr[0], what.Frame("pkru"), what.Registers.Pkru));
    }

    /// <summary>With CR4.PKS the supervisor starts with MSR_IA32_PKRS.</summary>
    [Fact]
    public void PksLoadsPkrs()
    {
        TestCase testCase = Payload.User("CC", (Register.Pkru, 0x54)).With((SystemRegister.Cr4, 0x141_0620), (SystemRegister.Pkrs, 0x5c));

        Assert.Equal((uint?)0x5c, testCase.Run(Payload.Keys).Only().Registers.Pkru);
    }

    /// <summary>With CR4.PKS the underlying PKRU protects supervisor code's data, too: error code 21h, P and PK, with U clear. Without it nothing is refused.</summary>
    [Fact]
    public void KeysProtectSupervisorCode()
    {
        // wrpkru with eax 1 (key 0 access-disable), then a load
        TestCase without = Payload.Supervisor("0F 01 EF 48 8B 1B", (Register.Rax, 1), (Register.Rbx, Payload.Data), (Register.Pkru, 0));
        Event what = without.With((SystemRegister.Cr4, 0x141_0620)).Run(Payload.Keys).Only();

        Assert.Equal((14, (uint?)0x21), (what.Vector, what.ErrorCode));
        Assert.Equal(EndKind.ReachedEnd, without.Run(Payload.Keys).End);
    }

    /// <summary>On a host without protection keys the field of the structure is left alone.</summary>
    [Fact]
    public void WithoutKeysTheFieldStays() => Assert.Equal(0x77UL, Payload.User("CC", (Register.Pkru, 0x77)).Run().Only().Frame("pkru"));
}
