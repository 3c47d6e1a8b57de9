using System.Globalization;
using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness.Generate.Pvm;
using PvDiffFuzz.Isa;
using Decoder = Iced.Intel.Decoder;
using Flags = PvDiffFuzz.Core.RflagsBits;
using Register = PvDiffFuzz.Core.Register;

namespace PvDiffFuzz.Harness.Tests.Generate.Pvm;

/// <summary>Names the kinds of things that a PVM case holds, so that a test can demand each.</summary>
internal static class PvmClasses
{
    /// <summary>The classes of one case, some more than once.</summary>
    public static IEnumerable<string> Of(TestCase testCase) =>
        [.. Start(testCase), .. State(testCase), .. Context(testCase), .. Answers(testCase), .. Code(testCase)];

    private static IEnumerable<string> Start(TestCase testCase)
    {
        bool supervisor = testCase.Start == GuestMode.Supervisor;
        yield return supervisor ? "start supervisor" : testCase.Mode == CpuMode.Long64 ? "start user 64" : "start user 32";
        yield return testCase.Code.Address > uint.MaxValue ? "high block" : "low block";
        yield return testCase.Pvm!.UserLayout is null ? "one root" : "two roots";
        yield return testCase.Pvm.Path == HostPath.Warm ? "warm" : "cold";
        if (testCase.Registers.Debug is not null)
        {
            yield return "armed";
        }

        if (testCase.Inject is { } pending)
        {
            yield return $"start {Pending(pending)}, IF={((testCase.System[SystemRegister.PvcsEventFlags] & Flags.IF) != 0 ? 1 : 0)}";
        }
    }

    private static string Pending(Injection pending) => pending.Kind == InjectionKind.Nmi ? "NMI" : pending.Vector < 32 ? "interrupt below 32" : "interrupt from 32";

    private static IEnumerable<string> State(TestCase testCase)
    {
        SystemState system = testCase.System;
        yield return system[SystemRegister.PvmVcpuStruct] == 0 ? "structure missing" : "structure there";
        yield return $"event flags {system[SystemRegister.PvcsEventFlags]:x}";
        yield return system[SystemRegister.PvcsEventVector] > 0xff ? "stale vector wide" : "stale vector";
        yield return system[SystemRegister.KernelGsBase] == testCase.Registers.GsBase ? "kernel GS base same" : "kernel GS base other";
        yield return system[SystemRegister.Star] == PvmMap.Star ? "STAR usual" : (system[SystemRegister.Star] >> 32 & 0xffff) == 0x10 ? "STAR other user" : "STAR other kernel";
        yield return system[SystemRegister.NmiMasked] != 0 ? "NMI masked" : "NMI open";
        yield return system.TryGet(SystemRegister.PvmLinearAddressRange, out _) ? "range stated" : "range not stated";
        yield return (system[SystemRegister.Cr4] & (1 << 17)) != 0 ? "PCID on" : "PCID off";
        yield return InCode(system[SystemRegister.PvmRetuRip]) ? "RETU_RIP in code" : "RETU_RIP usual";
        if (testCase.Abi != Abi.PvmRfc1)
        {
            yield break;
        }

        yield return InCode(system[SystemRegister.PvmRetsRip]) ? "RETS_RIP in code" : "RETS_RIP usual";
        yield return system[SystemRegister.PvmSupervisorRedzone] switch { 0 => "redzone 0", 128 => "redzone 128", >= 1UL << 31 => "redzone huge", var odd when (odd & 15) != 0 => "redzone odd", _ => "redzone other" };
        yield return $"supervisor RSP {StackClass(testCase, system[SystemRegister.PvmSupervisorRsp])}";
        if (testCase.Start == GuestMode.Supervisor)
        {
            yield return $"supervisor start RSP {StackClass(testCase, testCase.Registers.Gpr[4])}";
        }

        bool InCode(ulong address) => address >= testCase.Code.Address && address < testCase.Code.End;
    }

    private static string StackClass(TestCase testCase, ulong rsp)
    {
        if (!Canonical(rsp))
        {
            return "not canonical";
        }

        PageAccess access = testCase.Layout.AccessAt(rsp - 8);
        return (access & PageAccess.Write) != 0 ? testCase.Layout.AccessAt(rsp - 0xc0) == PageAccess.None ? "near the edge" : (rsp & 7) != 0 ? "unaligned" : "good"
            : access != PageAccess.None ? "read-only"
            : rsp >> 63 != 0 ? "upper half" : "not present";
    }

    /// <summary>The context that a return to user mode finds: the registers of a user start, or the structure's fields.</summary>
    private static IEnumerable<string> Context(TestCase testCase)
    {
        bool supervisor = testCase.Start == GuestMode.Supervisor;
        SystemState system = testCase.System;
        RegisterState r = testCase.Registers;
        string who = supervisor ? "structure" : "user";
        if (supervisor && system[SystemRegister.PvmVcpuStruct] == 0)
        {
            yield break;
        }

        (ulong rip, ulong flags, ulong cs, ulong ss, ulong gs, ulong rcx, ulong r11) = supervisor
            ? (system[SystemRegister.PvcsRip], system[SystemRegister.PvcsEflags], system[SystemRegister.PvcsUserCs], system[SystemRegister.PvcsUserSs], system[SystemRegister.PvcsUserGsBase],
                system[SystemRegister.PvcsRcx], system[SystemRegister.PvcsR11])
            : (r.Rip, r.Rflags, r.Cs, r.Ss, r.GsBase, r.Gpr[1], r.Gpr[11]);
        yield return $"{who} RIP {(!Canonical(rip) ? "not canonical" : rip >> 63 != 0 ? "upper half" : (testCase.UserPages.AccessAt(rip) & PageAccess.Execute) != 0 ? "good" : "not executable")}";
        foreach ((string name, ulong bit) in ((string, ulong)[])
            [("IOPL", Flags.IOPL), ("VM", Flags.VM), ("VIF", Flags.VIF), ("VIP", Flags.VIP), ("NT", Flags.NT), ("RF", Flags.RF), ("TF", Flags.TF), ("AC", Flags.AC), ("ID", Flags.ID), ("reserved", 0xffc0_8028)])
        {
            if ((flags & bit) != 0)
            {
                yield return $"{who} {name}";
            }
        }

        if ((flags & Flags.IF) == 0)
        {
            yield return $"{who} IF=0";
        }

        if ((flags & Flags.Fixed1) == 0)
        {
            yield return $"{who} bit 1 clear";
        }

        yield return $"{who} CS {(cs is 0x33 or 0x23 ? $"{cs:x}" : (cs | 3) is 0x33 or 0x23 ? "RPL missing" : "bad")}";
        yield return $"{who} SS {(ss == 0x2b ? "2b" : (ss | 3) == 0x2b ? "RPL missing" : "bad")}";
        yield return $"{who} GS base {(Canonical(gs) ? "canonical" : "not canonical")}";
        if (rcx == rip && (r11 & Flags.Status) == (flags & Flags.Status))
        {
            yield return $"{who} like SYSRET";
        }
    }

    private static IEnumerable<string> Answers(TestCase testCase)
    {
        yield return $"responses {testCase.Responses.Length}";
        bool pending = testCase.Inject is { Kind: InjectionKind.Interrupt };
        foreach (Response response in testCase.Responses)
        {
            yield return $"response {response.Return}";
            foreach ((Register register, ulong value) in response.Patches)
            {
                yield return $"patch {register}";
                yield return register switch
                {
                    Register.Rflags when (value & Flags.TF) != 0 => "patch RFLAGS with TF",
                    Register.Rip when !Canonical(value) => "patch RIP not canonical",
                    Register.Rip when testCase.Layout.AccessAt(value) == PageAccess.None => "patch RIP not present",
                    _ => "patch plain",
                };
            }

            foreach (Hypercall call in response.Hypercalls)
            {
                yield return $"answering {CallName(call.Number)}";
                if (pending && call.Number == PvmCall.Base + PvmCall.IrqWin)
                {
                    yield return "IRQ_WIN behind an interrupt";
                }
            }

            if (response.Inject is { } injected)
            {
                pending |= injected.Kind == InjectionKind.Interrupt;
                yield return $"response {Pending(injected)}";
            }
        }
    }

    /// <summary>What the code does, by a linear sweep that follows immediates of EAX and ECX.</summary>
    private static IEnumerable<string> Code(TestCase testCase)
    {
        string who = testCase.Start == GuestMode.Supervisor ? "s" : testCase.Mode == CpuMode.Long64 ? "u" : "c";
        ulong eax = 0;
        ulong ecx = 0;
        string? place = null;
        int at = 0;
        foreach (byte length in testCase.Code.Lengths)
        {
            byte[] bytes = [.. testCase.Code.Bytes.Slice(at, length)];
            at += length;
            Decoder decoder = Decoder.Create(testCase.Mode == CpuMode.Long64 ? 64 : 32, new ByteArrayCodeReader(bytes));
            decoder.Decode(out Instruction instruction);
            if (instruction.IsInvalid)
            {
                continue;
            }

            if (bytes.AsSpan().SequenceEqual(PvmExclusions.SyntheticCpuid))
            {
                yield return $"{who} synthetic CPUID {eax:x}";
                continue;
            }

            if (instruction.Mnemonic == Mnemonic.Dec && place is not null)
            {
                yield return $"{who} to before {place}";
                place = null;
            }

            foreach (string name in Of(in instruction, bytes, eax, ecx))
            {
                yield return $"{who} {name}";
            }

            if (instruction.Mnemonic is Mnemonic.Mov or Mnemonic.Push && instruction.Op0Kind != OpKind.Memory && Immediate(in instruction) is { } value)
            {
                eax = instruction.Op0Register is Iced.Intel.Register.EAX or Iced.Intel.Register.RAX ? value : eax;
                ecx = instruction.Op0Register is Iced.Intel.Register.ECX ? value : ecx;
                place = value switch { PvmMap.RetuRip => "RETU_RIP", PvmMap.RetsRip => "RETS_RIP", _ => null };
                if (place is not null)
                {
                    yield return $"{who} to {place}";
                }
            }
        }
    }

    private static string[] Of(in Instruction instruction, byte[] bytes, ulong eax, ulong ecx)
    {
        bool control = instruction.Op0Register.IsCR() || instruction.Op1Register.IsCR() || instruction.Op0Register.IsDR() || instruction.Op1Register.IsDR();
        return instruction.Mnemonic switch
        {
            Mnemonic.Mov when control => [instruction.Op0Register.IsGPR() ? $"read {instruction.Op1Register}" : $"write {instruction.Op0Register}"],
            Mnemonic.Rdmsr => [$"rdmsr {MsrName(ecx)}"],
            Mnemonic.Wrmsr => [$"wrmsr {MsrName(ecx)}"],
            Mnemonic.Syscall => [bytes.Length == 2 ? $"call {CallName(eax)}" : $"prefixed SYSCALL {bytes[0]:x2}"],
            Mnemonic.Int => [$"INT {(instruction.Immediate8 is 3 or 4 or 0x80 ? instruction.Immediate8.ToString("x", CultureInfo.InvariantCulture) : "other")}"],
            Mnemonic.Invlpg when instruction.MemoryBase == Iced.Intel.Register.None && (uint)instruction.MemoryDisplacement64 == 0xff4d_5650 => ["INVLPG of the magic address"],
            _ when instruction.HasLockPrefix => [],
            _ => [instruction.Mnemonic.ToString()],
        };
    }

    private static ulong? Immediate(in Instruction instruction)
    {
        int last = instruction.OpCount - 1;
        return instruction.GetOpKind(last) is >= OpKind.Immediate8 and <= OpKind.Immediate32to64 ? instruction.GetImmediate(last) : null;
    }

    private static string MsrName(ulong msr) => PvmMsr.Named.Contains((uint)msr) && msr <= uint.MaxValue ? $"{msr:x}" : PvmMsr.Invalid.Contains((uint)msr) ? "invalid" : "other";

    private static string CallName(ulong number) =>
        number - PvmCall.Base < PvmCall.Count ? $"{number - PvmCall.Base}" : number == 1 ? "KVM 1" : PvmCall.Others.Contains(number) ? "unknown" : "random";

    private static bool Canonical(ulong address) => (ulong)((long)(address << 16) >> 16) == address;
}
