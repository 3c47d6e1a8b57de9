using System.Collections.Immutable;
using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using Iced.Intel;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Core;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Native;

/// <summary>What a payload can see of this host, found out by running payloads.</summary>
/// <param name="Profile">The processor and what Linux makes of it.</param>
/// <param name="DebugRegisters">True when ptrace(2) may set the debug registers of a child.</param>
/// <param name="Fingerprint">The facts that identify the host.</param>
internal sealed record HostProbe(CpuProfile Profile, bool DebugRegisters, Fingerprint Fingerprint)
{
    private const ulong End = AddressMap.LowBlock + AddressMap.CodeEnd;
    private const ulong Data = AddressMap.LowBlock + AddressMap.Data;

    /// <summary>Probes.</summary>
    /// <param name="basic">What is known without running anything.</param>
    /// <exception cref="TargetUnavailableException">No payload runs here.</exception>
    public static HostProbe Run(HostFacts basic)
    {
        using NativeTarget target = new(basic);
        ImmutableSortedSet<byte> gates = ProbeGates(target);
        ImmutableArray<SegmentDescriptor> descriptors = ProbeDescriptors(target);
        bool alignment = VectorOf(target, a => a.mov(rax, __[rax]), (Core.Register.Rax, Data + 1), (Core.Register.Rflags, 0x202UL | Core.RflagsBits.AC)) == 17;
        bool wide = VectorOf(target, a => a.mov(rax, __[rax]), (Core.Register.Rax, 1UL << 47)) == 14;
        bool umip = IsUmipActive(target);
        bool icebp = ProbeIcebp(target);
        bool debug = target.CanSetDebugRegisters();

        string vendor = CpuFeatures.Vendor();
        (int family, int model, int stepping) = CpuFeatures.Signature();
        ImmutableSortedSet<string> features = CpuFeatures.Read();
        features = basic.SegmentBases ? features.Add("FSGSBASE") : features;
        features = alignment ? features.Add("AM") : features;
        features = umip ? features.Add("UMIP") : features;
        CpuProfile profile = new()
        {
            Vendor = vendor is "AuthenticAMD" or "HygonGenuine" ? CpuVendor.Amd : CpuVendor.Intel,
            Family = family,
            LinearBits = wide ? 57 : 48,
            Features = features,
            UserGates = gates,
            Descriptors = descriptors,
        };
        Fingerprint fingerprint = new(
        [
            Fact("cpu", vendor),
            Fact("model", string.Create(CultureInfo.InvariantCulture, $"{family}.{model}.{stepping}")),
            Fact("microcode", Microcode()),
            Fact("kernel", ReadLine("/proc/sys/kernel/osrelease")),
            Fact("hypervisor", CpuFeatures.Hypervisor()),
            Fact("gates", string.Join(',', gates)),
            Fact("descriptors", Digest(string.Join('\n', descriptors))),
            Fact("umip", umip ? "on" : "off"),
            Fact("icebp", icebp ? "at" : "after"),
        ]);
        return new HostProbe(profile, debug, fingerprint);
    }

    /// <summary>INT n with every n: the gates of DPL 3 are those that do not give #GP.</summary>
    private static ImmutableSortedSet<byte> ProbeGates(NativeTarget target)
    {
        TestCase[] cases = [.. Enumerable.Range(0, 256).Select(n => Case(a => a.@int((byte)n)))];
        Outcome[] outcomes = new Outcome[cases.Length];
        target.Run(cases, outcomes);
        return [.. Enumerable.Range(0, 256).Where(n => outcomes[n].Events is [{ Vector: not 13 } e] && e.Vector == n).Select(n => (byte)n)];
    }

    /// <summary>LAR and LSL with every selector of the GDT; they see what user mode may use. What Linux keeps below DPL 3 is known.</summary>
    private static ImmutableArray<SegmentDescriptor> ProbeDescriptors(NativeTarget target)
    {
        Outcome outcome = target.Run(Case(
            a =>
            {
                Label loop = a.CreateLabel();
                Label next = a.CreateLabel();
                a.Label(ref loop);
                a.lar(eax, ecx);
                a.jne(next);
                a.lsl(edx, ecx);
                a.mov(__dword_ptr[rdi], ecx);
                a.mov(__dword_ptr[rdi + 4], eax);
                a.mov(__dword_ptr[rdi + 8], edx);
                a.add(rdi, 16);
                a.Label(ref next);
                a.add(ecx, 8);
                a.cmp(ecx, 0x1_0000);
                a.jb(loop);
            },
            (Core.Register.Rcx, 3),
            (Core.Register.Rdi, Data)));

        List<SegmentDescriptor> found = [.. CpuProfile.DefaultDescriptors.Where(d => d.Dpl < 3)];
        Dictionary<ulong, ulong> words = outcome.Memory.ToDictionary(w => w.Address, w => w.Value);
        for (ulong at = Data; words.TryGetValue(at, out ulong word); at += 16)
        {
            uint rights = (uint)(word >> 32);
            int index = (int)((word & 0xffff) >> 3);

            // Linux keeps the number of the processor in the limit of this descriptor, so it varies.
            const int cpuNumber = 15;
            uint limit = index == cpuNumber ? 0 : (uint)words.GetValueOrDefault(at + 8);
            found.Add(SegmentDescriptor.OfRights(index, rights, limit));
        }

        return [.. found.OrderBy(d => d.Index)];
    }

    /// <summary>Linux answers SIDT for a process under UMIP with a limit of 0; the processor would show the real one.</summary>
    private static bool IsUmipActive(NativeTarget target)
    {
        Outcome outcome = target.Run(Case(a => a.sidt(__[rdi]), (Core.Register.Rdi, Data)));
        return outcome.End == EndKind.Event || (outcome.Memory is [{ Address: Data } first, ..] && (first.Value & 0xffff) == 0);
    }

    private static bool ProbeIcebp(NativeTarget target)
    {
        TestCase testCase = Case(a => a.int1());
        return target.Run(testCase).Events is [{ Vector: 1 } e] && e.Registers.Rip == testCase.Code.Address;
    }

    private static int VectorOf(NativeTarget target, Action<Assembler> code, params (Core.Register, ulong)[] registers) =>
        target.Run(Case(code, registers)).Events is [{ } e] ? e.Vector : -1;

    private static TestCase Case(Action<Assembler> emit, params (Core.Register Register, ulong Value)[] registers)
    {
        Assembler assembler = new(64);
        emit(assembler);
        using MemoryStream stream = new();
        assembler.Assemble(new StreamCodeWriter(stream), End - 0x100);
        byte[] bytes = stream.ToArray();
        RegisterState state = new() { Gpr = default, Rip = End - (ulong)bytes.Length, Rflags = Core.RflagsBits.Fixed1 | Core.RflagsBits.IF };
        foreach ((Core.Register register, ulong value) in registers)
        {
            state = state.With(register, value);
        }

        return new TestCase
        {
            Code = new CodeBlock(End - (ulong)bytes.Length, [.. bytes], []),
            Registers = state,
            Layout = AddressMap.Standard,
        };
    }

    private static KeyValuePair<string, string> Fact(string name, string value) =>
        KeyValuePair.Create(name, string.Concat(value.Select(c => c is ';' or '[' or ']' or '\n' ? ' ' : c)));

    private static string Microcode()
    {
        foreach (string line in File.ReadLines("/proc/cpuinfo"))
        {
            if (line.StartsWith("microcode", StringComparison.Ordinal))
            {
                return line[(line.IndexOf(':', StringComparison.Ordinal) + 1)..].Trim();
            }
        }

        return "unknown";
    }

    private static string ReadLine(string path) => File.ReadAllText(path).Trim();

    private static string Digest(string text) => Convert.ToHexStringLower(SHA256.HashData(Encoding.UTF8.GetBytes(text)).AsSpan(0, 4));
}

/// <summary>Tells what processor and what Linux this is.</summary>
public static class HostProfile
{
    /// <summary>Probes this host, once in a process.</summary>
    /// <returns>What the architecture leaves to a processor or its operating system and a payload can see here.</returns>
    /// <exception cref="TargetUnavailableException">No payload runs here; the message says why, and what to do.</exception>
    public static CpuProfile Probe() => HostFacts.OfThisHost.Profile!;
}
