using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Kvm.Tests.Payload;

namespace PvDiffFuzz.Backends.Kvm.Tests;

/// <summary>What differs between kinds of hosts is reported as the host delivers it, and the probe has said so.</summary>
public sealed class HostTests : KvmTests
{
    private const ulong Flags = 0x202 | RflagsBits.CF | RflagsBits.ID;

    /// <summary>INT n through a gate of DPL 3 arrives behind the instruction, or the host refuses the instruction.</summary>
    [KvmFact]
    public void Int80GoesThroughItsGateOrIsRefused()
    {
        TestCase testCase = Case("cd 80", (Register.Rax, ulong.MaxValue));
        Event e = Only(testCase, "INT 80h");
        bool honoured = Fact("gates").Split(',').Contains("128", StringComparer.Ordinal);

        Assert.Equal(honoured ? (0x80, End) : ((byte)6, testCase.Code.Address), (e.Vector, e.Registers.Rip));
        Assert.Equal(ulong.MaxValue, e.Registers.Gpr[0]);
    }

    /// <summary>SYSCALL enters CPL0, or goes on at the entry without it; RCX and R11 tell where from in both.</summary>
    [KvmTheory]
    [InlineData(60UL)]
    [InlineData(0xdead_beef_0000_0001UL)]
    public void SystemCallsAreEvents(ulong number)
    {
        Event e = Only(Case("0f 05", (Register.Rax, number), (Register.Rdi, 9), (Register.Rflags, Flags)), "SYSCALL");

        Assert.Equal((EventKind.SystemCall, (byte)0, EntryPoint.Lstar, (uint?)null), (e.Kind, e.Vector, e.Entry, e.ErrorCode));
        Assert.Equal((number, End, Flags, Flags), (e.Registers.Gpr[0], e.Registers.Gpr[1], e.Registers.Gpr[11], e.Registers.Rflags));
        Assert.Equal(Fact("syscall") == "cpl0" ? End : GuestMap.Landing, e.Registers.Rip);
        Assert.Equal(Stack, e.Registers.Gpr[4]);
    }

    /// <summary>A response returns from a system call to where it came from, whatever the host made of the entry.</summary>
    [KvmFact]
    public void ASystemCallCanBeAnswered()
    {
        Outcome outcome = Run(Case("0f 05 90") with { Responses = [Patch((Register.Rax, 5))] });

        Assert.Equal(EndKind.ReachedEnd, outcome.End);
        Assert.Equal((5UL, Stack), (outcome.Registers!.Gpr[0], outcome.Registers.Gpr[4]));
    }

    /// <summary>All flags that a case may choose arrive and stay, NT only where the host keeps it.</summary>
    [KvmFact]
    public void LoadableFlagsArrive()
    {
        ulong flags = 0x202 | (RflagsBits.UserLoadable & ~(RflagsBits.TF | RflagsBits.AC));
        flags &= Fact("nt") == "kept" ? ulong.MaxValue : ~RflagsBits.NT;

        Assert.Equal(flags | RflagsBits.RF, Only(Case("90", (Register.Rflags, flags)), "flags").Registers.Rflags);
    }

    /// <summary>What the probe found lacking is unsupported, with the reason.</summary>
    [KvmFact]
    public void WhatTheHostLacksIsUnsupported()
    {
        (string Fact, string Lacking, TestCase Case)[] rows =
        [
            ("nt", "lost", Case("90", (Register.Rflags, 0x202 | RflagsBits.NT))),
            ("compatibility", "emulated", Case32("90")),
            ("breakpoints", "no", Case("90", (Register.Dr0, End - 1), (Register.Dr7, 0x401))),
        ];
        Assert.All(rows, row => Assert.Equal(Fact(row.Fact) == row.Lacking, Target.Run(row.Case).End == EndKind.Unsupported));
    }

    /// <summary>Kind and lineage are in the fingerprint.</summary>
    [KvmFact]
    public void TheKindOfTheHostIsNamed()
    {
        Assert.Contains(Fact("host"), new[] { HostKind.Vmx, HostKind.Svm, HostKind.Pvm });
        Assert.Contains(Target.Info.Lineage, new[] { Fact("host"), "tcg" });
    }

    /// <summary>The kind follows the module that is loaded for what the processor has.</summary>
    [Theory]
    [InlineData(true, false, "kvm_intel", "kvm-vmx")]
    [InlineData(false, true, "kvm_amd", "kvm-svm")]
    [InlineData(false, false, "kvm_pvm", "kvm-pvm")]
    [InlineData(false, true, "kvm_pvm", "kvm-pvm")]
    [InlineData(true, false, "", "kvm-vmx")]
    public void KindsAreToldByModules(bool vmx, bool svm, string module, string kind) =>
        Assert.Equal(kind, HostKind.Of(path => path == "/sys/module/" + module && module.Length > 0, vmx, svm));

    /// <summary>What is missing is said exactly, with errno, and so is the cure. ENOENT and ENOTTY are errors 2 and 25.</summary>
    [Fact]
    public void WhatIsMissingIsNamedWithItsCure()
    {
        TargetUnavailableException absent = Assert.Throws<TargetUnavailableException>(() => KvmSystem.Open("/dev/there-is-no-such-device"));
        TargetUnavailableException hidden = Assert.Throws<TargetUnavailableException>(() => KvmSystem.Open("/dev/null"));
        TargetUnavailableException refused = KvmProbe.Refusal(HostKind.Pvm, new Outcome { End = EndKind.Crash, Detail = "KVM_EXIT_SHUTDOWN" });

        Assert.Contains("errno 2)", absent.Message, StringComparison.Ordinal);
        Assert.Contains("load the kernel's KVM module", absent.Cure, StringComparison.Ordinal);
        Assert.Contains("KVM_GET_API_VERSION: ", hidden.Message, StringComparison.Ordinal);
        Assert.Contains("errno 25)", hidden.Message, StringComparison.Ordinal);
        Assert.Contains("(kvm-pvm) do not run a NOP at CPL3 of long mode: Crash KVM_EXIT_SHUTDOWN", refused.Message, StringComparison.Ordinal);
        Assert.Contains("lacks CPL3 support", refused.Cure, StringComparison.Ordinal);
        Assert.Contains("group", KvmSystem.CureOfOpen(13), StringComparison.Ordinal);
        Assert.Contains("container", KvmSystem.CureOfOpen(1), StringComparison.Ordinal);
        Assert.Contains("ulimit -n", KvmSystem.CureOfOpen(24), StringComparison.Ordinal);
    }

    /// <summary>A call to the hypervisor below is never executed.</summary>
    [KvmTheory]
    [InlineData("0f 01 d9")]
    [InlineData("90 0f 01 c1")]
    public void HypercallsAreRefused(string code) => Assert.Equal(EndKind.Unsupported, Target.Run(Case(code)).End);
}
