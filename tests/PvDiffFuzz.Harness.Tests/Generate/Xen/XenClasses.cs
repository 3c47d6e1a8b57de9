using System.Buffers.Binary;
using System.Globalization;
using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;
using Decoder = Iced.Intel.Decoder;
using Flags = PvDiffFuzz.Core.RflagsBits;
using Register = PvDiffFuzz.Core.Register;

namespace PvDiffFuzz.Harness.Tests.Generate.Xen;

/// <summary>Names the kinds of things that a Xen case holds, so that a test can demand each.</summary>
internal static class XenClasses
{
    /// <summary>The classes of one case, some more than once.</summary>
    public static IEnumerable<string> Of(TestCase testCase) => [.. Start(testCase), .. State(testCase), .. Tables(testCase.Xen!), .. Answers(testCase), .. Code(testCase)];

    private static IEnumerable<string> Start(TestCase testCase)
    {
        bool kernel = testCase.Start == GuestMode.Supervisor;
        RegisterState r = testCase.Registers;
        yield return kernel ? testCase.Xen!.IretFlags is null ? "kernel" : "kernel by iret" : testCase.Mode == CpuMode.Long64 ? "user 64" : "user 32";
        yield return testCase.Code.Address > 0xffff_8000_0000_0000 ? "code in the upper half" : testCase.Code.Address > uint.MaxValue ? "code high" : "code low";
        yield return testCase.Xen!.UserLayout is null ? "one root" : testCase.Xen.UserLayout.Ranges.IsEmpty ? "no user root" : "two roots";
        if (testCase.Xen.IretFlags is not ulong word)
        {
            yield break;
        }

        yield return word switch { 0 => "iret 0", TestCase.XenIretInSyscall => "iret in syscall", _ => "iret odd" };
        yield return (r.Cs | 3) is XenMap.FlatCode64 or XenMap.FlatCode32 ? $"iret CS RPL {r.Cs & 3}" : "iret CS bad";
        yield return (r.Ss | 3) == XenMap.FlatData ? $"iret SS RPL {r.Ss & 3}" : "iret SS bad";
        yield return Canonical(r.Rip) ? "iret RIP" : "iret RIP not canonical";
        foreach ((string name, ulong bit) in ((string, ulong)[])
            [("IOPL", Flags.IOPL), ("VM", Flags.VM), ("VIF", Flags.VIF), ("VIP", Flags.VIP), ("NT", Flags.NT), ("RF", Flags.RF), ("TF", Flags.TF), ("AC", Flags.AC), ("ID", Flags.ID), ("reserved", 0xffc0_8028)])
        {
            if ((r.Rflags & bit) != 0)
            {
                yield return $"iret {name}";
            }
        }

        yield return (r.Rflags & Flags.IF) != 0 ? "iret IF=1" : "iret IF=0";
    }

    private static IEnumerable<string> State(TestCase testCase)
    {
        SystemState system = testCase.System;
        yield return $"mask {Truth(system[SystemRegister.XenUpcallMask])}";
        yield return $"pending {Truth(system[SystemRegister.XenUpcallPending])}";
        yield return system[SystemRegister.XenVcpuInfoPad] == 0 ? "padding 0" : "padding odd";
        yield return $"iopl {system[SystemRegister.XenIopl]}";
        yield return $"assists {system[SystemRegister.XenVmAssist]:x}";
        yield return (system[SystemRegister.Cr0] & 8) != 0 ? "TS" : "no TS";
        yield return $"CR4 {system[SystemRegister.Cr4]:x}";
        foreach ((string who, ulong rsp) in ((string, ulong)[])[("kernel stack", system[SystemRegister.XenKernelSp]), ("RSP", testCase.Start == GuestMode.Supervisor ? testCase.Registers.Gpr[4] : 0)])
        {
            if (rsp != 0)
            {
                yield return $"{who} {StackClass(testCase, rsp)}";
                yield return $"{who} {((rsp & 15) == 0 ? "aligned" : "misaligned")}";
            }
        }
    }

    private static string Truth(ulong value) => value switch { 0 => "0", 1 => "1", _ => "odd" };

    private static string StackClass(TestCase testCase, ulong rsp) =>
        !Canonical(rsp) ? "not canonical"
        : rsp is >= XenMap.PrivateFirst and <= XenMap.PrivateLast + 0x40 ? "in Xen's range"
        : (testCase.Layout.AccessAt(rsp - 8) & PageAccess.Write) == 0 ? "not there"
        : (testCase.Layout.AccessAt(rsp - 0x200) & PageAccess.Write) == 0 ? "near the edge"
        : rsp > 0xffff_8000_0000_0000 ? "in the upper half" : "good";

    private static IEnumerable<string> Tables(XenState xen)
    {
        yield return xen.Version is null ? "any release" : xen.Version.Debug ? "debug build" : "a release";
        yield return xen.Gdt.IsEmpty ? "no descriptors" : "descriptors";
        foreach (XenTrap trap in xen.Traps.Overrides)
        {
            yield return trap.Address == 0 ? "hole" : $"DPL {trap.Dpl}{((trap.Flags & XenTrap.MaskEvents) != 0 ? ", masks" : "")}";
        }

        foreach (XenCallbackKind kind in Enum.GetValues<XenCallbackKind>())
        {
            yield return xen.CallbackOf(kind) is XenCallback callback ? $"{kind}{(callback.MaskEvents ? " masks" : "")}" : $"no {kind}";
        }
    }

    private static IEnumerable<string> Answers(TestCase testCase)
    {
        yield return $"responses {testCase.Responses.Length}";
        foreach (Response response in testCase.Responses)
        {
            yield return response.Flags switch { 0 => "response flags 0", TestCase.XenIretInSyscall => "response in syscall", _ => "response flags odd" };
            yield return response.Inject is null ? "response nothing" : "response upcall";
            foreach ((Register register, ulong value) in response.Patches)
            {
                yield return $"patch {register}";
                yield return register == Register.Cs ? $"patch to {((value & 3) == 3 ? "user" : "kernel")}" : register == Register.Rip && !Canonical(value) ? "patch RIP not canonical" : "patch plain";
            }

            foreach (Hypercall call in response.Hypercalls)
            {
                yield return $"answering {CallName(call.Number)}";
            }
        }
    }

    /// <summary>What the code does, by a linear sweep that follows immediates of EAX.</summary>
    private static IEnumerable<string> Code(TestCase testCase)
    {
        string who = testCase.Start == GuestMode.Supervisor ? "k" : testCase.Mode == CpuMode.Long64 ? "u" : "c";
        ulong eax = 0;
        int at = 0;
        foreach (byte length in testCase.Code.Lengths)
        {
            byte[] bytes = [.. testCase.Code.Bytes.Slice(at, length)];
            at += length;
            if (bytes.AsSpan().StartsWith(XenExclusions.ForcedEmulation))
            {
                yield return $"{who} forced {(bytes[5] == 0x0f && bytes[6] == 0xa2 ? "CPUID" : "other")}";
                continue;
            }

            Decoder decoder = Decoder.Create(testCase.Mode == CpuMode.Long64 ? 64 : 32, new ByteArrayCodeReader(bytes));
            decoder.Decode(out Instruction instruction);
            if (instruction.IsInvalid)
            {
                continue;
            }

            foreach (string name in Of(in instruction, bytes, eax))
            {
                yield return $"{who} {name}";
            }

            eax = bytes switch
            {
                [0xb8, ..] => BinaryPrimitives.ReadUInt32LittleEndian(bytes.AsSpan(1)),
                [0x48, 0xb8, ..] => BinaryPrimitives.ReadUInt64LittleEndian(bytes.AsSpan(2)),
                [0x48, 0xc7, 0xc0, ..] => (ulong)BinaryPrimitives.ReadInt32LittleEndian(bytes.AsSpan(3)),
                _ => eax,
            };
        }
    }

    private static string[] Of(in Instruction instruction, byte[] bytes, ulong eax)
    {
        bool control = instruction.Op0Register.IsCR() || instruction.Op1Register.IsCR() || instruction.Op0Register.IsDR() || instruction.Op1Register.IsDR();
        string prefixed = bytes.Length > 2 ? "prefixed " : "";
        return instruction.Mnemonic switch
        {
            Mnemonic.Mov when control => [instruction.Op0Register.IsGPR() ? $"read {instruction.Op1Register}" : $"write {instruction.Op0Register}"],
            Mnemonic.Syscall => [$"{prefixed}SYSCALL", $"call {CallName(eax)}"],
            Mnemonic.Int => [$"{prefixed}INT {(instruction.Immediate8 is 3 or 4 or 0x40 or 0x80 or 0x82 ? instruction.Immediate8.ToString("x", CultureInfo.InvariantCulture) : "other")}"],
            _ when instruction.HasLockPrefix => [],
            _ => [instruction.Mnemonic.ToString()],
        };
    }

    private static string CallName(ulong number) => number < 56 ? number.ToString(CultureInfo.InvariantCulture) : "unknown";

    private static bool Canonical(ulong address) => (ulong)((long)(address << 16) >> 16) == address;
}
