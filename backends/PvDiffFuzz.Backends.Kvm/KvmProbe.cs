using System.Collections.Concurrent;
using Iced.Intel;
using PvDiffFuzz.Core;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>What guests of this host can do, found out by running payloads: nothing is assumed from the kind of the host.</summary>
/// <param name="Breakpoints">True when debug registers raise #DB.</param>
/// <param name="Compatibility">True when the processor runs compatibility-mode code.</param>
/// <param name="NestedTask">True when RFLAGS.NT stays as a payload sets it.</param>
/// <param name="Selectors">True when KVM tells the selectors that a payload has loaded.</param>
/// <param name="Fingerprint">The facts that identify the host.</param>
internal sealed record KvmProbe(bool Breakpoints, bool Compatibility, bool NestedTask, bool Selectors, Fingerprint Fingerprint)
{
    private const ulong End = AddressMap.LowBlock + AddressMap.CodeEnd;
    private static readonly ConcurrentDictionary<CpuProfile, Lazy<KvmProbe>> Known = new();

    /// <summary>The facts of this host, probed once for each profile.</summary>
    /// <exception cref="TargetUnavailableException">No payload runs here.</exception>
    public static KvmProbe Of(CpuProfile profile) => Known.GetOrAdd(profile, p => new Lazy<KvmProbe>(() => Run(p))).Value;

    /// <summary>Says that KVM makes guests here, which do not run code at CPL3.</summary>
    /// <param name="kind">Kind of the host.</param>
    /// <param name="nop">What became of a NOP.</param>
    internal static TargetUnavailableException Refusal(string kind, Outcome nop) => new(
        $"guests of this host ({kind}) do not run a NOP at CPL3 of long mode: {nop.End} {nop.Detail}",
        kind == HostKind.Pvm
            ? "this KVM module lacks CPL3 support for ordinary guests: use a module that has it, or a host with VMX or SVM; see the kernel's messages (dmesg)"
            : "see the kernel's messages (dmesg), and whether other guests run here; a hypervisor below may emulate virtualisation badly");

    private static KvmProbe Run(CpuProfile profile)
    {
        using KvmTarget target = new(profile, oneCaseAnEntry: true, probe: null);
        Outcome plain = target.Run(Case(a => a.nop()));
        if (plain.End != EndKind.ReachedEnd)
        {
            throw Refusal(HostKind.OfThisHost(), plain);
        }

        TestCase breakpoint = Case(a => a.nop());
        DebugRegisters debug = new(breakpoint.Code.Address, 0, 0, 0, 0x401);
        bool breakpoints = target.Run(breakpoint with { Registers = breakpoint.Registers with { Debug = debug } }).Events is [{ Vector: 1 }];
        bool compatibility = Compatible(target, a => a.int3(), 3) && Compatible(target, a => a.aaa(), 14);
        bool nestedTask = KeepsNestedTask(target);
        bool selectors = target.Run(Case(a => { a.mov(eax, (uint)Core.Selectors.UserData); a.mov(ds, eax); })).Registers is { Ds: Core.Selectors.UserData };
        string kind = HostKind.OfThisHost();
        Fingerprint fingerprint = new(
        [
            Fact("host", kind),
            Fact("cpu", HostKind.Vendor()),
            Fact("model", HostKind.Model()),
            Fact("kernel", File.ReadAllText("/proc/sys/kernel/osrelease").Trim()),
            Fact("hypervisor", HostKind.Hypervisor()),
            Fact("syscall", Syscall(target)),
            Fact("gates", string.Join(',', Gates(target))),
            Fact("icebp", Icebp(target)),
            Fact("breakpoints", breakpoints ? "yes" : "no"),
            Fact("compatibility", compatibility ? "run" : "emulated"),
            Fact("nt", nestedTask ? "kept" : "lost"),
            Fact("selectors", selectors ? "told" : "hidden"),
            Fact("guestdebug", target.LeavesAtBreakpoint(Case(a => a.int3())) ? "yes" : "no"),
        ]);
        return new KvmProbe(breakpoints, compatibility, nestedTask, selectors, fingerprint);
    }

    private static string Syscall(KvmTarget target) =>
        target.Run(Case(a => a.syscall())).Events is [{ Entry: EntryPoint.Lstar } e] ? e.Registers.Rip == GuestMap.Landing ? "cpl3" : "cpl0" : "none";

    private static IEnumerable<int> Gates(KvmTarget target) =>
        Enumerable.Range(0, 256).Where(n => target.Run(Case(a => a.@int((byte)n))).Events is [{ Vector: not 13 } e] && e.Vector == n && e.Registers.Rip == End);

    private static string Icebp(KvmTarget target) =>
        target.Run(Case(a => a.int1())).Events is [{ Vector: 1 } e] ? e.Registers.Rip == End ? "after" : "at" : "none";

    /// <summary>Runs an instruction in compatibility mode; one that KVM's emulator lacks shows it.</summary>
    private static bool Compatible(KvmTarget target, Action<Assembler> emit, byte vector)
    {
        TestCase testCase = Case(emit, 32);
        RegisterState registers = testCase.Registers with { Cs = Core.Selectors.UserCode32 };
        return target.Run(testCase with { Registers = registers }).Events is [{ } e] && e.Vector == vector && e.Registers.Rip == End;
    }

    /// <summary>Runs a loop that lasts about as long as the timer's interval, so often that the host interrupts it: a fast processor is through with one before its turn comes.</summary>
    private static bool KeepsNestedTask(KvmTarget target)
    {
        const int tries = 16;
        TestCase loop = Case(
            a =>
            {
                Label again = a.CreateLabel();
                a.Label(ref again);
                a.dec(rcx);
                a.jnz(again);
            });
        RegisterState registers = loop.Registers.With(Core.Register.Rcx, 15_000_000) with { Rflags = loop.Registers.Rflags | Core.RflagsBits.NT };
        loop = loop with { Registers = registers };
        for (int i = 0; i < tries; i++)
        {
            if (target.Run(loop).Registers is not { } end || (end.Rflags & Core.RflagsBits.NT) == 0)
            {
                return false;
            }
        }

        return true;
    }

    private static TestCase Case(Action<Assembler> emit, int bits = 64)
    {
        Assembler assembler = new(bits);
        emit(assembler);
        using MemoryStream stream = new();
        assembler.Assemble(new StreamCodeWriter(stream), End - 0x100);
        byte[] bytes = stream.ToArray();
        ulong start = End - (ulong)bytes.Length;
        return new TestCase
        {
            Code = new CodeBlock(start, [.. bytes], [(byte)bytes.Length]),
            Registers = new RegisterState { Gpr = default, Rip = start, Rflags = Core.RflagsBits.Fixed1 | Core.RflagsBits.IF },
            Layout = AddressMap.Standard,
        };
    }

    private static KeyValuePair<string, string> Fact(string name, string value) =>
        KeyValuePair.Create(name, string.Concat(value.Select(c => c is ';' or '[' or ']' or '\n' ? ' ' : c)));
}
