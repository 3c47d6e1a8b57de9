using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>What of a case's system side the agent does not set for each case; cases of a batch have it in common.</summary>
internal sealed record BatchKey(GuestPlan Plan, ulong Star, ulong RetuRip, ulong RetsRip, ulong SwitchCr3, ulong Cr0, ulong Cr3, ulong Cr4, ulong Cr8, ulong Efer);

/// <summary>Which cases the agent in the guest can run. All others run alone: a case never needs the batch.</summary>
/// <remarks>
/// Left out is what an ioctl has to do (cold roots, things from outside, debug registers), and supervisor code that could change what later cases begin with or leave the guest. User code
/// can do neither, so it is not looked at.
/// </remarks>
internal static class BatchRules
{
    private const ulong Dr6 = 0xffff_0ff0;

    /// <summary>Second bytes of 0F opcodes that change or show system state: descriptor tables, SYSCALL, CLTS, SYSRET, INVD and WBINVD, control and debug registers, MSRs, SYSENTER and SYSEXIT.</summary>
    private static ReadOnlySpan<byte> SystemOpcodes => [0x00, 0x01, 0x05, 0x06, 0x07, 0x08, 0x09, 0x20, 0x21, 0x22, 0x23, 0x30, 0x32, 0x33, 0x34, 0x35];

    /// <summary>The key of the batches that a case may be part of; null when it has to run alone.</summary>
    /// <param name="testCase">A case that <see cref="PvmRules"/> allows.</param>
    /// <param name="plan">Its plan.</param>
    public static BatchKey? KeyOf(TestCase testCase, GuestPlan plan)
    {
        SystemState system = testCase.System;
        bool user = testCase.Start == GuestMode.User;
        bool simple = testCase.Pvm!.Path == HostPath.Warm
            && testCase.Inject is null
            && testCase.Registers.Debug is null
            && plan.EventEntry == PvmMap.EventEntry
            && plan.Lstar == PvmMap.Lstar
            && system[SystemRegister.PvmVcpuStruct] != 0
            && (plan.User is not null || testCase.Abi != Abi.PvmRfc1)
            && system[SystemRegister.NmiMasked] == 0
            && (!system.TryGet(SystemRegister.Dr6, out ulong dr6) || dr6 == Dr6)
            && (user ? HasPlainAnswers(testCase) : testCase.Responses.IsEmpty && (testCase.Registers.Rflags & RflagsBits.RF) == 0 && IsTame(testCase));
        return simple
            ? new BatchKey(
                plan,
                system[SystemRegister.Star],
                system[SystemRegister.PvmRetuRip],
                system[SystemRegister.PvmRetsRip],
                system[SystemRegister.PvmSwitchCr3],
                system.TryGet(SystemRegister.Cr0, out ulong cr0) ? cr0 : 0,
                system[SystemRegister.Cr3],
                system.TryGet(SystemRegister.Cr4, out ulong cr4) ? cr4 : 0,
                system[SystemRegister.Cr8],
                system.TryGet(SystemRegister.Efer, out ulong efer) ? efer : 0)
            : null;
    }

    /// <summary>True when a case can neither make the host forget its roots nor change an MSR: no code of it that could runs in supervisor mode, and its answers make no hypercalls.</summary>
    /// <param name="testCase">A case.</param>
    public static bool IsSteady(TestCase testCase)
    {
        bool supervisor = testCase.Start == GuestMode.Supervisor;
        foreach (Response response in testCase.Responses)
        {
            if (!response.Hypercalls.IsEmpty)
            {
                return false;
            }

            supervisor |= response.Return != ReturnKind.Eretu;
        }

        return !supervisor || IsTame(testCase);
    }

    /// <summary>True when the agent returns to user mode after each event and does nothing else.</summary>
    private static bool HasPlainAnswers(TestCase testCase)
    {
        foreach (Response response in testCase.Responses)
        {
            if (response.Return != ReturnKind.Eretu || !response.Hypercalls.IsEmpty || response.Inject is not null)
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>True when no byte of executable memory begins an instruction of the system, wherever a jump may land.</summary>
    private static bool IsTame(TestCase testCase)
    {
        if (!IsTame(testCase.Code.Bytes.AsSpan()))
        {
            return false;
        }

        foreach (MemoryContents contents in testCase.Contents)
        {
            ulong last = contents.Address + (ulong)contents.Bytes.Length - 1;
            bool executable = ((testCase.Layout.AccessAt(contents.Address) | testCase.Layout.AccessAt(last)) & PageAccess.Execute) != 0;
            if (executable && !IsReturns(contents) && !IsTame(contents.Bytes.AsSpan()))
            {
                return false;
            }
        }

        return true;
    }

    /// <summary>The page of the synthetic returns. The agent refuses supervisor code that comes to user mode by it.</summary>
    private static bool IsReturns(MemoryContents contents) => contents.Address >> 12 == PvmMap.RetuRip >> 12;

    private static bool IsTame(ReadOnlySpan<byte> code)
    {
        const byte hlt = 0xf4;
        const byte twoBytes = 0x0f;
        for (int i = 0; i < code.Length; i++)
        {
            bool port = code[i] is >= 0x6c and <= 0x6f or >= 0xe4 and <= 0xe7 or >= 0xec and <= 0xef;
            if (port || code[i] == hlt || (code[i] == twoBytes && (i + 1 == code.Length || SystemOpcodes.Contains(code[i + 1]))))
            {
                return false;
            }
        }

        return true;
    }
}
