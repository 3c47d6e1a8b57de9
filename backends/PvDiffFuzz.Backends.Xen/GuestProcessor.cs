using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Finds out what processor a guest has, by CPUID in its kernel, which Xen lets PV guests execute.</summary>
/// <remarks>
/// Bits from SDM vol.2A CPUID and APM vol.3 appendix E, in the spelling of Iced's <c>CpuidFeature</c>. Left out is what only vector state needs, for which a guest would have to enable XSAVE, and <c>AM</c>:
/// CR0.AM is set, but an emulated processor checks no alignment.
/// </remarks>
internal static class GuestProcessor
{
    private const uint Basic = 1;
    private const uint Structured = 7;
    private const uint Extended = 0x8000_0001;

    /// <summary>Features of every processor with 64-bit mode.</summary>
    private static readonly ImmutableArray<string> Always = ["MULTIBYTENOP", "PAUSE", "SYSCALL"];

    private static readonly (string Feature, uint Leaf, Register Register, int Bit)[] Bits =
    [
        ("FPU", Basic, Register.Rdx, 0), ("TSC", Basic, Register.Rdx, 4), ("MSR", Basic, Register.Rdx, 5), ("CX8", Basic, Register.Rdx, 8), ("SEP", Basic, Register.Rdx, 11),
        ("CMOV", Basic, Register.Rdx, 15), ("CLFSH", Basic, Register.Rdx, 19), ("MMX", Basic, Register.Rdx, 23), ("FXSR", Basic, Register.Rdx, 24), ("SSE", Basic, Register.Rdx, 25),
        ("SSE2", Basic, Register.Rdx, 26), ("SSE3", Basic, Register.Rcx, 0), ("PCLMULQDQ", Basic, Register.Rcx, 1), ("SSSE3", Basic, Register.Rcx, 9), ("CMPXCHG16B", Basic, Register.Rcx, 13),
        ("SSE4_1", Basic, Register.Rcx, 19), ("SSE4_2", Basic, Register.Rcx, 20), ("MOVBE", Basic, Register.Rcx, 22), ("POPCNT", Basic, Register.Rcx, 23), ("AES", Basic, Register.Rcx, 25),
        ("RDRAND", Basic, Register.Rcx, 30),
        ("FSGSBASE", Structured, Register.Rbx, 0), ("BMI1", Structured, Register.Rbx, 3), ("BMI2", Structured, Register.Rbx, 8), ("RDSEED", Structured, Register.Rbx, 18),
        ("ADX", Structured, Register.Rbx, 19), ("CLFLUSHOPT", Structured, Register.Rbx, 23), ("CLWB", Structured, Register.Rbx, 24), ("RDPID", Structured, Register.Rcx, 22),
        ("LZCNT", Extended, Register.Rcx, 5), ("PREFETCHW", Extended, Register.Rcx, 8), ("TBM", Extended, Register.Rcx, 21), ("RDTSCP", Extended, Register.Rdx, 27),
    ];

    /// <summary>Asks.</summary>
    /// <param name="run">Runs a case.</param>
    /// <returns>Null when the guest does not answer.</returns>
    public static CpuProfile? Ask(Func<TestCase, Outcome> run)
    {
        if (Cpuid(run, 0) is not RegisterState vendor || Cpuid(run, Basic) is not RegisterState basic || Cpuid(run, Structured) is not RegisterState structured || Cpuid(run, Extended) is not RegisterState extended)
        {
            return null;
        }

        ImmutableSortedSet<string>.Builder features = ImmutableSortedSet.CreateBuilder<string>(StringComparer.Ordinal);
        features.UnionWith(Always);
        foreach ((string feature, uint leaf, Register register, int bit) in Bits)
        {
            RegisterState answer = leaf == Basic ? basic : leaf == Structured ? structured : extended;
            if (((answer[register] >> bit) & 1) != 0)
            {
                features.Add(feature);
            }
        }

        const ulong genuineIntel = 0x756e_6547;
        const int extendedFamily = 15;
        bool intel = vendor[Register.Rbx] == genuineIntel;
        int family = (int)(basic[Register.Rax] >> 8) & 0xf;
        if (!intel)
        {
            // In 64-bit mode only Intel's have it.
            features.Remove("SEP");
        }

        return new CpuProfile
        {
            Vendor = intel ? CpuVendor.Intel : CpuVendor.Amd,
            Family = family == extendedFamily ? family + ((int)(basic[Register.Rax] >> 20) & 0xff) : family,
            Features = features.ToImmutable(),
        };
    }

    private static RegisterState? Cpuid(Func<TestCase, Outcome> run, uint leaf)
    {
        const ulong code = AddressMap.LowBlock + XenMap.CodeEnd - 2;
        GprFile gpr = default;
        gpr[(int)Register.Rax] = leaf;
        Outcome outcome = run(new TestCase
        {
            Abi = Abi.XenPv64,
            Start = GuestMode.Supervisor,
            Code = new CodeBlock(code, [0x0f, 0xa2], [2]),
            Registers = new RegisterState { Gpr = gpr, Rip = code, Rflags = RflagsBits.Fixed1 | RflagsBits.IF, Cs = XenMap.FlatCode64, Ss = XenMap.FlatData },
            Layout = XenMap.KernelLayout(Abi.XenPv64),
            System = SystemState.Of(new KeyValuePair<SystemRegister, ulong>(SystemRegister.XenUpcallMask, 1)),
            Xen = new XenState(XenMap.Traps, []) { UserLayout = XenMap.UserLayout(Abi.XenPv64) },
        });
        return outcome is { End: EndKind.ReachedEnd } ? outcome.Registers : null;
    }
}
