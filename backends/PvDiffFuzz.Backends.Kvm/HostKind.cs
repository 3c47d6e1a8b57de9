using System.Runtime.Intrinsics.X86;
using System.Text;
using PvDiffFuzz.Backends.Interop;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>What lies below <c>/dev/kvm</c>: hosts of different kinds deliver events differently, and only CPL3 execution is the processor's own on all of them.</summary>
internal static class HostKind
{
    /// <summary>Intel's VMX.</summary>
    public const string Vmx = "kvm-vmx";

    /// <summary>AMD's SVM.</summary>
    public const string Svm = "kvm-svm";

    /// <summary>A module that runs guests at CPL3 only and emulates CPL0.</summary>
    public const string Pvm = "kvm-pvm";

    private const string Modules = "/sys/module/";
    /// <summary>How QEMU names itself in CPUID where it emulates the processor.</summary>
    public const string TinyCodeGenerator = "TCGTCGTCGTCG";

    /// <summary>The kind of this host.</summary>
    public static string OfThisHost() => Of(Directory.Exists, (X86Base.CpuId(1, 0).Ecx & (1 << 5)) != 0, (X86Base.CpuId(unchecked((int)0x8000_0001), 0).Ecx & (1 << 2)) != 0);

    /// <summary>The kind of a host.</summary>
    /// <param name="exists">Whether a directory exists.</param>
    /// <param name="vmx">CPUID shows VMX.</param>
    /// <param name="svm">CPUID shows SVM.</param>
    public static string Of(Func<string, bool> exists, bool vmx, bool svm) =>
        vmx && exists(Modules + "kvm_intel") ? Vmx
        : svm && exists(Modules + "kvm_amd") ? Svm
        : exists(Modules + "kvm_pvm") ? Pvm
        : vmx ? Vmx
        : svm ? Svm
        : Pvm;

    /// <summary>What executes: the kind, or <c>tcg</c> where the whole host is emulated.</summary>
    public static string Lineage(string kind) => IsEmulated ? "tcg" : kind;

    /// <summary>True where the host itself runs on an emulated processor.</summary>
    public static bool IsEmulated => Hypervisor() == TinyCodeGenerator;

    /// <summary>The name of the hypervisor below this host, or <c>none</c>.</summary>
    public static string Hypervisor() => HypervisorOf(X86Base.CpuId);

    /// <summary>The name of the hypervisor below a host, or <c>none</c>.</summary>
    /// <param name="cpuid">What CPUID shows there.</param>
    public static string HypervisorOf(Cpuid cpuid)
    {
        if (cpuid(1, 0).Ecx >= 0)
        {
            return "none";
        }

        (_, int b, int c, int d) = cpuid(0x4000_0000, 0);
        return Text(b, c, d);
    }

    /// <summary>The vendor string of the processor.</summary>
    public static string Vendor() => VendorOf(X86Base.CpuId);

    /// <summary>The vendor string of a host's processor.</summary>
    /// <param name="cpuid">What CPUID shows there.</param>
    public static string VendorOf(Cpuid cpuid)
    {
        (_, int b, int c, int d) = cpuid(0, 0);
        return Text(b, d, c);
    }

    /// <summary>Family, model and stepping, with dots.</summary>
    public static string Model() => ModelOf(X86Base.CpuId);

    /// <summary>Family, model and stepping of a host's processor, with dots.</summary>
    /// <param name="cpuid">What CPUID shows there.</param>
    public static string ModelOf(Cpuid cpuid)
    {
        int a = cpuid(1, 0).Eax;
        int family = (a >> 8) & 15;
        int model = (a >> 4) & 15;
        model |= family is 6 or 15 ? (a >> 12) & 0xf0 : 0;
        family += family == 15 ? (a >> 20) & 0xff : 0;
        return $"{family}.{model}.{a & 15}";
    }

    private static string Text(params ReadOnlySpan<int> words)
    {
        StringBuilder text = new();
        foreach (int word in words)
        {
            for (int shift = 0; shift < 32; shift += 8)
            {
                char letter = (char)((word >> shift) & 0x7f);
                if (char.IsAsciiLetterOrDigit(letter))
                {
                    text.Append(letter);
                }
            }
        }

        return text.Length == 0 ? "unnamed" : text.ToString();
    }
}
