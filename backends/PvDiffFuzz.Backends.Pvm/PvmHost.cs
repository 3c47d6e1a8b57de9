using System.Collections.Immutable;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>What a host offers.</summary>
/// <param name="Revision">The revision of the ABI.</param>
/// <param name="Range">MSR_PVM_LINEAR_ADDRESS_RANGE of a new virtual processor, which the host chooses.</param>
internal sealed record PvmHost(Abi Revision, ulong Range)
{
    /// <summary>Those of <see cref="PvmMsrs.Writers"/> that this KVM has.</summary>
    public ImmutableArray<uint> Writers { get; init; } = [];

    private const string Cure = "boot a kernel whose KVM implements the PVM guest ABI and load its kvm_pvm module; docs/pvm-host.md tells what kind of host that is";

    /// <summary>Asks a new virtual processor which of PVM's MSRs exist.</summary>
    /// <param name="system">The device.</param>
    /// <exception cref="TargetUnavailableException">This KVM does not offer the ABI, or a revision that is not known.</exception>
    public static PvmHost Detect(KvmSystem system)
    {
        try
        {
            using KvmVm vm = system.CreateVm();
            using KvmVcpu vcpu = vm.CreateVcpu();
            PvmHost host = Detect(index =>
            {
                KvmMsrEntry entry = new() { Index = index };
                return vcpu.GetMsrs(new Span<KvmMsrEntry>(ref entry)) == 1 ? entry.Data : null;
            });
            return host with { Writers = [.. PvmMsrs.Writers.ToArray().Where(index => Accepts(vcpu, index))] };
        }
        catch (IOException e) when (e is KvmException or PosixException)
        {
            throw new TargetUnavailableException(e.Message, e is KvmException refused ? refused.Cure : "free memory, or raise the limits of this process", e);
        }
    }

    private static bool Accepts(KvmVcpu vcpu, uint index)
    {
        try
        {
            vcpu.SetMsrs(new KvmMsrEntry { Index = index });
            vcpu.GetRegs(out _);
            return true;
        }
        catch (KvmException)
        {
            return false;
        }
    }

    /// <summary>Tells the revision by the MSRs that exist.</summary>
    /// <param name="read">The value of an MSR of a new virtual processor; null for one that does not exist.</param>
    /// <exception cref="TargetUnavailableException">They fit no revision.</exception>
    public static PvmHost Detect(Func<uint, ulong?> read)
    {
        // KVM's parameter ignore_msrs answers 0 for registers that do not exist, so one that no revision has is asked too.
        const uint none = 0x4b56_4dff;
        if (read(none) is not null)
        {
            throw new TargetUnavailableException($"KVM answers for MSR {none:x}, which does not exist, so the revision cannot be told", "load the kvm module with ignore_msrs=0");
        }

        ulong? range = read(PvmMsrs.LinearAddressRange);
        List<uint> found = [];
        for (uint index = PvmMsrs.LinearAddressRange; index <= PvmMsrs.Last; index++)
        {
            if (read(index) is not null)
            {
                found.Add(index);
            }
        }

        return (range, found.Count) switch
        {
            (_, 0) => throw new TargetUnavailableException("KVM does not offer the PVM guest ABI: none of the MSRs 4b564df0 to 4b564df7 exists", Cure),
            (ulong value, 8) => new PvmHost(Abi.PvmRfc1, value),
            (ulong value, 4) when found is [_, 0x4b56_4df1, 0x4b56_4df4, 0x4b56_4df5] => new PvmHost(Abi.Pvm612, value),
            _ => throw new TargetUnavailableException(
                $"KVM offers a revision of the PVM guest ABI that is not known here: it has the MSRs {string.Join(", ", found.Select(index => index.ToString("x")))}",
                "use a kernel with one of the revisions that docs/pvm-host.md names"),
        };
    }

    /// <summary>True when an address belongs to the guest: the lower half, and the part of the upper one that the range names. With four levels of page tables.</summary>
    public bool IsGuests(ulong address)
    {
        ulong slot = (address >> 39) & 0x1ff;
        return (long)address >= 0 || (slot >= (Range & 0x1ff) && slot < ((Range >> 16) & 0x1ff));
    }

    /// <summary>The facts that identify this host.</summary>
    /// <param name="kernel">Its kernel.</param>
    public Fingerprint Describe(KernelPort kernel) => new(
    [
        Fact("revision", Revision.Text()),
        Fact("cpu", HostKind.VendorOf(kernel.CpuId)),
        Fact("model", HostKind.ModelOf(kernel.CpuId)),
        Fact("kernel", kernel.Release),
        Fact("hypervisor", HostKind.HypervisorOf(kernel.CpuId)),
        Fact("range", Range.ToString("x")),
    ]);

    private static KeyValuePair<string, string> Fact(string name, string value) =>
        KeyValuePair.Create(name, string.Concat(value.Select(c => c is ';' or '[' or ']' or '\n' ? ' ' : c)));
}
