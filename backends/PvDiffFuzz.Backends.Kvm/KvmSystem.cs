using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Kvm.KvmAbi;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary><c>/dev/kvm</c>.</summary>
internal sealed unsafe class KvmSystem : KvmDescriptor
{
    /// <summary>Where the device is.</summary>
    public const string Device = "/dev/kvm";

    private const int MostCpuidEntries = 256;
    private const int CpuidHeader = 8;
    private const int CpuidEntry = 40;

    private KvmSystem(int fd, KernelPort kernel)
        : base(fd, kernel)
    {
    }

    /// <summary>Opens the device.</summary>
    /// <param name="path">Where it is.</param>
    /// <exception cref="TargetUnavailableException">It is missing, closed to us, something else, or speaks another version; the cure says which.</exception>
    public static KvmSystem Open(string path = Device) => Open(KernelPort.Local, path);

    /// <summary>Opens the device of a kernel.</summary>
    /// <param name="kernel">The kernel.</param>
    /// <param name="path">Where it is.</param>
    /// <exception cref="TargetUnavailableException">It is missing, closed to us, something else, or speaks another version; the cure says which.</exception>
    public static KvmSystem Open(KernelPort kernel, string path = Device)
    {
        int fd = kernel.Open(path);
        if (fd < 0)
        {
            int error = -fd;
            throw new TargetUnavailableException($"{path} cannot be opened: {PosixException.Describe(error)} (errno {error})", CureOfOpen(error));
        }

        KvmSystem system = new(fd, kernel);
        int version = system.TryCall(KVM_GET_API_VERSION, null);
        if (version == KVM_API_VERSION)
        {
            return system;
        }

        system.Dispose();
        throw version < 0
            ? new TargetUnavailableException(
                $"{path} is not the device of KVM: KVM_GET_API_VERSION: {PosixException.Describe(-version)} (errno {-version})",
                "something else lies at this path, as where a sandbox hides the device: pass the host's own in")
            : new TargetUnavailableException($"{path} answers KVM_GET_API_VERSION with {version}, not {KVM_API_VERSION}", "use a kernel with the stable KVM interface");
    }

    /// <summary>Makes a virtual machine.</summary>
    /// <exception cref="KvmException">The kernel refused.</exception>
    public KvmVm CreateVm() => new(Call(KVM_CREATE_VM, null, nameof(KVM_CREATE_VM)), VcpuMappingSize(), Kernel);

    /// <summary>Value of a capability; 0 when it is not there.</summary>
    public int Extension(int capability) => Math.Max(0, TryCall(KVM_CHECK_EXTENSION, (void*)capability));

    /// <summary>The CPUID leaves that KVM can offer, as a <c>struct kvm_cpuid2</c>.</summary>
    /// <exception cref="KvmException">The kernel refused.</exception>
    public byte[] SupportedCpuid()
    {
        byte[] table = new byte[CpuidHeader + (MostCpuidEntries * CpuidEntry)];

        // SAFETY: the table has room for as many entries as its header says.
        fixed (byte* at = table)
        {
            *(uint*)at = MostCpuidEntries;
            Call(KVM_GET_SUPPORTED_CPUID, at, nameof(KVM_GET_SUPPORTED_CPUID));
        }

        return table;
    }

    /// <summary>What a person can do when the device cannot be opened.</summary>
    /// <param name="error">Error number of open(2).</param>
    internal static string CureOfOpen(int error) => error switch
    {
        LinuxAbi.ENOENT => "switch virtualisation on in the firmware (or nested virtualisation in the hypervisor below) and load the kernel's KVM module; in a container pass the device in",
        LinuxAbi.EACCES => "join the group that owns the device (often kvm), or have its rights changed",
        LinuxAbi.EPERM => "the container or sandbox forbids the device: have it allowed there",
        LinuxAbi.ENODEV => "load the kernel's KVM module; when it refuses, switch virtualisation on in the firmware, or nested virtualisation in the hypervisor below",
        LinuxAbi.EMFILE or LinuxAbi.ENFILE => "raise the limit of open files (ulimit -n)",
        _ => "see the kernel's messages (dmesg): KVM may be there without a processor that supports it",
    };

    private int VcpuMappingSize() => Call(KVM_GET_VCPU_MMAP_SIZE, null, nameof(KVM_GET_VCPU_MMAP_SIZE));
}
