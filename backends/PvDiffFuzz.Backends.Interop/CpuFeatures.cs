using System.Collections.Immutable;
using System.Runtime.Intrinsics.X86;

namespace PvDiffFuzz.Backends.Interop;

/// <summary>What CPUID shows.</summary>
/// <param name="leaf">EAX.</param>
/// <param name="subleaf">ECX.</param>
public delegate (int Eax, int Ebx, int Ecx, int Edx) Cpuid(int leaf, int subleaf);

/// <summary>Names the CPUID features that code at CPL3 can use on a processor, in the spelling of Iced's <c>CpuidFeature</c>.</summary>
/// <remarks>Bits from SDM vol.2A CPUID and APM vol.3 appendix E. Features that an operating system must enable are listed only when it has.</remarks>
public static class CpuFeatures
{
    private const uint Basic = 1;
    private const uint Structured = 7;
    private const uint SaveArea = 0xd;
    private const uint Extended = 0x8000_0001;
    private const uint Sizes = 0x8000_0008;

    private static readonly Bit[] Bits =
    [
        new("MONITOR", Basic, Register.Ecx, 3), new("VMX", Basic, Register.Ecx, 5), new("SMX", Basic, Register.Ecx, 6),
        new("MSR", Basic, Register.Edx, 5), new("SEP", Basic, Register.Edx, 11),
        new("SSE3", Basic, Register.Ecx, 0), new("PCLMULQDQ", Basic, Register.Ecx, 1), new("SSSE3", Basic, Register.Ecx, 9),
        new("FMA", Basic, Register.Ecx, 12, Needs: State.Avx), new("CMPXCHG16B", Basic, Register.Ecx, 13), new("SSE4_1", Basic, Register.Ecx, 19),
        new("SSE4_2", Basic, Register.Ecx, 20), new("MOVBE", Basic, Register.Ecx, 22), new("POPCNT", Basic, Register.Ecx, 23),
        new("AES", Basic, Register.Ecx, 25), new("XSAVE", Basic, Register.Ecx, 27), new("OSXSAVE", Basic, Register.Ecx, 27),
        new("AVX", Basic, Register.Ecx, 28, Needs: State.Avx), new("F16C", Basic, Register.Ecx, 29, Needs: State.Avx),
        new("RDRAND", Basic, Register.Ecx, 30),
        new("FPU", Basic, Register.Edx, 0), new("TSC", Basic, Register.Edx, 4), new("CX8", Basic, Register.Edx, 8),
        new("CMOV", Basic, Register.Edx, 15),
        new("CLFSH", Basic, Register.Edx, 19), new("MMX", Basic, Register.Edx, 23), new("FXSR", Basic, Register.Edx, 24),
        new("SSE", Basic, Register.Edx, 25),
        new("SSE2", Basic, Register.Edx, 26),

        new("BMI1", Structured, Register.Ebx, 3), new("HLE", Structured, Register.Ebx, 4), new("AVX2", Structured, Register.Ebx, 5, Needs: State.Avx),
        new("BMI2", Structured, Register.Ebx, 8), new("RTM", Structured, Register.Ebx, 11),
        new("AVX512F", Structured, Register.Ebx, 16, Needs: State.Avx512),
        new("AVX512DQ", Structured, Register.Ebx, 17, Needs: State.Avx512), new("RDSEED", Structured, Register.Ebx, 18),
        new("ADX", Structured, Register.Ebx, 19),
        new("AVX512_IFMA", Structured, Register.Ebx, 21, Needs: State.Avx512), new("CLFLUSHOPT", Structured, Register.Ebx, 23),
        new("CLWB", Structured, Register.Ebx, 24),
        new("AVX512CD", Structured, Register.Ebx, 28, Needs: State.Avx512), new("SHA", Structured, Register.Ebx, 29),
        new("AVX512BW", Structured, Register.Ebx, 30, Needs: State.Avx512), new("AVX512VL", Structured, Register.Ebx, 31, Needs: State.Avx512),
        new("AVX512_VBMI", Structured, Register.Ecx, 1, Needs: State.Avx512), new("PKU", Structured, Register.Ecx, 4),
        new("WAITPKG", Structured, Register.Ecx, 5),
        new("AVX512_VBMI2", Structured, Register.Ecx, 6, Needs: State.Avx512), new("GFNI", Structured, Register.Ecx, 8),
        new("VAES", Structured, Register.Ecx, 9, Needs: State.Avx), new("VPCLMULQDQ", Structured, Register.Ecx, 10, Needs: State.Avx),
        new("AVX512_VNNI", Structured, Register.Ecx, 11, Needs: State.Avx512),
        new("AVX512_BITALG", Structured, Register.Ecx, 12, Needs: State.Avx512),
        new("AVX512_VPOPCNTDQ", Structured, Register.Ecx, 14, Needs: State.Avx512), new("RDPID", Structured, Register.Ecx, 22),
        new("CLDEMOTE", Structured, Register.Ecx, 25), new("MOVDIRI", Structured, Register.Ecx, 27), new("MOVDIR64B", Structured, Register.Ecx, 28),
        new("AVX512_VP2INTERSECT", Structured, Register.Edx, 8, Needs: State.Avx512), new("SERIALIZE", Structured, Register.Edx, 14),
        new("TSXLDTRK", Structured, Register.Edx, 16), new("AVX512_FP16", Structured, Register.Edx, 23, Needs: State.Avx512),
        new("INVPCID", Structured, Register.Ebx, 10), new("SMAP", Structured, Register.Ebx, 20), new("ENQCMD", Structured, Register.Ecx, 29),
        new("PCONFIG", Structured, Register.Edx, 18), new("FRED", Structured, Register.Eax, 17, 1), new("LKGS", Structured, Register.Eax, 18, 1),
        new("WRMSRNS", Structured, Register.Eax, 19, 1), new("HRESET", Structured, Register.Eax, 22, 1), new("MSRLIST", Structured, Register.Eax, 27, 1),
        new("SHA512", Structured, Register.Eax, 0, 1, State.Avx), new("SM3", Structured, Register.Eax, 1, 1, State.Avx),
        new("SM4", Structured, Register.Eax, 2, 1, State.Avx),
        new("RAO_INT", Structured, Register.Eax, 3, 1), new("AVX_VNNI", Structured, Register.Eax, 4, 1, State.Avx),
        new("AVX512_BF16", Structured, Register.Eax, 5, 1, State.Avx512), new("CMPCCXADD", Structured, Register.Eax, 7, 1),
        new("AVX_IFMA", Structured, Register.Eax, 23, 1, State.Avx), new("PREFETCHITI", Structured, Register.Edx, 14, 1),

        new("XSAVEOPT", SaveArea, Register.Eax, 0, 1), new("XSAVEC", SaveArea, Register.Eax, 1, 1),
        new("XSAVES", SaveArea, Register.Eax, 3, 1),

        new("LZCNT", Extended, Register.Ecx, 5), new("SSE4A", Extended, Register.Ecx, 6), new("PREFETCHW", Extended, Register.Ecx, 8),
        new("XOP", Extended, Register.Ecx, 11, Needs: State.Avx), new("FMA4", Extended, Register.Ecx, 16, Needs: State.Avx),
        new("TBM", Extended, Register.Ecx, 21),
        new("MONITORX", Extended, Register.Ecx, 29), new("SYSCALL", Extended, Register.Edx, 11), new("RDTSCP", Extended, Register.Edx, 27),
        new("D3NOWEXT", Extended, Register.Edx, 30), new("D3NOW", Extended, Register.Edx, 31),
        new("CLZERO", Sizes, Register.Ebx, 0), new("RDPRU", Sizes, Register.Ebx, 4), new("MCOMMIT", Sizes, Register.Ebx, 8),
        new("SVM", Extended, Register.Ecx, 2), new("SKINIT", Extended, Register.Ecx, 12), new("INVLPGB", Sizes, Register.Ebx, 3),
        new("WBNOINVD", Sizes, Register.Ebx, 9),
    ];

    private enum Register
    {
        Eax,
        Ebx,
        Ecx,
        Edx,
    }

    /// <summary>State that the operating system must save for a feature to be usable.</summary>
    private enum State
    {
        None,
        Avx,
        Avx512,
    }

    /// <summary>The names, without <c>FSGSBASE</c>, <c>UMIP</c> and <c>AM</c>, which CPUID does not tell at CPL3.</summary>
    public static ImmutableSortedSet<string> Read() => Read(X86Base.CpuId, Avx.IsSupported, Avx512F.IsSupported);

    /// <summary>The names for a processor whose operating system saves all that the processor has, as Linux does.</summary>
    /// <param name="cpuid">What CPUID shows there.</param>
    public static ImmutableSortedSet<string> Read(Cpuid cpuid)
    {
        ArgumentNullException.ThrowIfNull(cpuid);
        const int avx = 6;
        const int avx512 = 0xe6;
        int saved = cpuid((int)SaveArea, 0).Eax;
        return Read(cpuid, (saved & avx) == avx, (saved & avx512) == avx512);
    }

    private static ImmutableSortedSet<string> Read(Cpuid cpuid, bool avx, bool avx512)
    {
        ImmutableSortedSet<string>.Builder names = ImmutableSortedSet.CreateBuilder<string>(StringComparer.Ordinal);

        // Every 64-bit processor has these, without a CPUID bit.
        names.Add("MULTIBYTENOP");
        names.Add("PAUSE");
        foreach (Bit bit in Bits)
        {
            bool saved = bit.Needs switch { State.Avx => avx, State.Avx512 => avx512, _ => true };
            if (saved && Leaf(cpuid, bit.Leaf, bit.Subleaf) is { } values && ((values[(int)bit.Where] >> bit.Number) & 1) != 0)
            {
                names.Add(bit.Name);
            }
        }

        return names.ToImmutable();
    }

    /// <summary>The vendor string of leaf 0.</summary>
    public static string Vendor()
    {
        (_, int b, int c, int d) = X86Base.CpuId(0, 0);
        return Text(b, d, c);
    }

    /// <summary>Family, model and stepping, extended numbers added in.</summary>
    public static (int Family, int Model, int Stepping) Signature()
    {
        int a = X86Base.CpuId(1, 0).Eax;
        int family = (a >> 8) & 15;
        int model = (a >> 4) & 15;
        if (family is 6 or 15)
        {
            model |= (a >> 12) & 0xf0;
        }

        return (family == 15 ? family + ((a >> 20) & 0xff) : family, model, a & 15);
    }

    /// <summary>The hypervisor's own name, or <c>none</c>.</summary>
    public static string Hypervisor()
    {
        if (X86Base.CpuId(1, 0).Ecx >= 0)
        {
            return "none";
        }

        (_, int b, int c, int d) = X86Base.CpuId(0x4000_0000, 0);
        return Text(b, c, d);
    }

    private static uint[]? Leaf(Cpuid cpuid, uint leaf, uint subleaf)
    {
        uint highest = (uint)cpuid((int)(leaf & 0x8000_0000), 0).Eax;
        if (leaf > highest)
        {
            return null;
        }

        if (leaf == Structured && subleaf > (uint)cpuid((int)leaf, 0).Eax)
        {
            return null;
        }

        (int a, int b, int c, int d) = cpuid((int)leaf, (int)subleaf);
        return [(uint)a, (uint)b, (uint)c, (uint)d];
    }

    private static string Text(int first, int second, int third)
    {
        Span<char> text = stackalloc char[12];
        int length = 0;
        foreach (int word in (ReadOnlySpan<int>)[first, second, third])
        {
            for (int i = 0; i < 32; i += 8)
            {
                char letter = (char)((word >> i) & 0x7f);
                if (char.IsAsciiLetterOrDigit(letter))
                {
                    text[length++] = letter;
                }
            }
        }

        return length == 0 ? "unnamed" : new string(text[..length]);
    }

    private readonly record struct Bit(string Name, uint Leaf, Register Where, int Number, uint Subleaf = 0, State Needs = State.None);
}
