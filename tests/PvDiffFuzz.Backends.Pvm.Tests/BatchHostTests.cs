using PvDiffFuzz.Core;
using PvDiffFuzz.Tests;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>On a host with the ABI: batches answer what cases alone answer.</summary>
public sealed class BatchHostTests
{
    /// <summary>Events of both modes, answers, memory that changes, a case that never ends and one that dies, in one batch, each beside cases that are fine.</summary>
    [PvmFact]
    public void ABatchAnswersWhatCasesAloneAnswer()
    {
        Response back = new([KeyValuePair.Create(Register.Rax, 7UL), KeyValuePair.Create(Register.Rip, AddressMap.LowBlock + AddressMap.CodeEnd)]) { Return = ReturnKind.Eretu };
        TestCase[] cases =
        [
            Warm(Cases.Of(GuestMode.User, 0xcc)),
            Warm(Cases.Of(GuestMode.User, 0xcc)) with { Responses = [back] },
            Warm(Cases.Of(GuestMode.Supervisor, 0xb8, 0x42, 0, 0, 0)),
            Warm(Cases.Of(GuestMode.User, 0x50)),                                     // push rax
            Warm(Cases.Of(GuestMode.User, 0xeb, 0xfe)),                               // jmp to itself
            Warm(Cases.Of(GuestMode.Supervisor, 0x0f, 0x0b)),                         // ud2
            Warm(Cases.Of(GuestMode.Supervisor, 0x31, 0xe4, 0x0f, 0x0b)),             // xor esp, esp; ud2: no stack for the frame
            Warm(Cases.Of(GuestMode.User, 0x0f, 0x05)),                               // syscall
            Warm(Cases.Of(GuestMode.User, 0x0f, 0x0b)),
            Warm(Cases.Of(GuestMode.Supervisor, 0xb8, 0x42, 0, 0, 0)),
        ];
        Outcome[] together = new Outcome[cases.Length];
        Outcome[] alone = new Outcome[cases.Length];
        using (PvmTarget target = PvmHosts.Start(CpuProfile.DefaultAmd))
        {
            target.Run(cases, together);
            Assert.Equal(cases.Length - 2, target.Batched);
        }

        using (PvmTarget target = PvmHosts.Start(CpuProfile.DefaultAmd, batches: false))
        {
            target.Run(cases, alone);
            Assert.Equal(0, target.Batched);
        }

        Assert.Equal(EndKind.BudgetSpent, alone[4].End);
        Assert.Equal(EndKind.Crash, alone[6].End);
        Assert.Equal(alone, together);
    }

    private static TestCase Warm(TestCase testCase) => testCase with { Pvm = testCase.Pvm! with { Path = HostPath.Warm } };
}
