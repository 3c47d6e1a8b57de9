using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>Small cases of the first revision.</summary>
internal static class Cases
{
    /// <summary>Supervisor or user code at the end of its slot in the low block.</summary>
    public static TestCase Of(GuestMode start, params byte[] code)
    {
        ulong end = start == GuestMode.Supervisor ? AddressMap.LowBlock + PvmMap.CodeEnd : AddressMap.LowBlock + AddressMap.CodeEnd;
        GprFile gpr = default;
        gpr[4] = AddressMap.LowBlock + (start == GuestMode.Supervisor ? PvmMap.Stack : AddressMap.Stack) + 0x1000;
        return new TestCase
        {
            Abi = Abi.PvmRfc1,
            Start = start,
            Pvm = new PvmState(PvmMap.PvcsAddress, PvmMap.UserLayout),
            Code = new CodeBlock(end - (ulong)code.Length, [.. code], [(byte)code.Length]),
            Registers = new RegisterState { Gpr = gpr, Rip = end - (ulong)code.Length, Rflags = start == GuestMode.User ? 0x202UL : 2 },
            Layout = PvmMap.SupervisorLayout,
            Contents = [PvmMap.ReturnInstructions],
            System = SystemState.Of(
                new(SystemRegister.Cr3, PvmMap.SupervisorRoot),
                new(SystemRegister.Star, PvmMap.Star),
                new(SystemRegister.Lstar, PvmMap.Lstar),
                new(SystemRegister.PvmVcpuStruct, PvmMap.VcpuStruct),
                new(SystemRegister.PvmSupervisorRsp, AddressMap.LowBlock + PvmMap.Stack + 0x1800),
                new(SystemRegister.PvmEventEntry, PvmMap.EventEntry),
                new(SystemRegister.PvmRetuRip, PvmMap.RetuRip),
                new(SystemRegister.PvmRetsRip, PvmMap.RetsRip),
                new(SystemRegister.PvmSwitchCr3, PvmMap.UserRoot)),
        };
    }
}
