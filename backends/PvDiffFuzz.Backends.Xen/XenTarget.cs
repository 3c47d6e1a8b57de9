using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Cases of the Xen PV ABI on a real Xen under QEMU, with a kernel of ours as its dom0. One instance belongs to one thread at a time.</summary>
public sealed class XenTarget : ITarget
{
    private readonly BatchRun _batch;
    private bool _disposed;

    /// <summary>Boots Xen, which takes a second or two.</summary>
    /// <param name="name">Name of the target: <c>xen</c>, or with a version, as in <c>xen:4.17</c>.</param>
    /// <param name="installation">QEMU, Xen, and the emulated processor.</param>
    /// <exception cref="TargetUnavailableException">It does not come up; the message says why, and what to do.</exception>
    public XenTarget(string name, XenInstallation installation)
    {
        ArgumentNullException.ThrowIfNull(installation);
        QemuVersion qemu = QemuVersion.Ask(installation);
        Guest guest;
        try
        {
            guest = Guest.Start(installation);
        }
        catch (IOException e)
        {
            throw new TargetUnavailableException($"{installation.Image} does not come up under QEMU {qemu}: {e.Message}", XenInstallation.Cure, e);
        }

        XenBanner? banner = XenBanner.Find(guest.BootConsole);
        if (banner is null)
        {
            guest.Dispose();
            throw new TargetUnavailableException($"{installation.Image} does not tell its version when it boots", XenInstallation.Cure);
        }

        _batch = new BatchRun(guest, installation);
        if (GuestProcessor.Ask(Run) is not CpuProfile processor)
        {
            _batch.Dispose();
            throw new TargetUnavailableException($"the guest under {installation.Image} runs no case", XenInstallation.Cure);
        }

        _batch.Rules = new XenRules(banner.Version, processor.Vendor, installation.Lineage == "tcg");
        const Capabilities capabilities = Capabilities.CompatibilityMode | Capabilities.DebugRegisters | Capabilities.SegmentBases | Capabilities.Responses;
        Info = new TargetInfo(name, TargetKind.Hypervisor, installation.Lineage, capabilities, new Fingerprint(
        [
            new("xen", banner.Text), new("qemu", qemu.ToString()), new("accel", installation.Accelerator), new("cpu", installation.CpuModel),
        ]))
        {
            Masks = XenMasks.All,
            Abis = [Abi.XenPv64],
            Processor = processor,
        };
    }

    /// <summary>All rows that may be in <see cref="TargetInfo.Masks"/>, for outcomes stored elsewhere.</summary>
    public static ImmutableArray<TargetMask> Masks => XenMasks.All;

    /// <inheritdoc/>
    public TargetInfo Info { get; }

    /// <summary>Times that the snapshot was loaded.</summary>
    public int Restored => _batch.Restored;

    /// <summary>Times that QEMU was started anew.</summary>
    public int Restarted => _batch.Restarted;

    /// <summary>Process id of QEMU; null while there is none.</summary>
    internal int? ProcessId => _batch.ProcessId;

    /// <summary>Tells why a Xen cannot be a target.</summary>
    /// <returns>Null when it can.</returns>
    public static TargetUnavailableException? Probe(XenInstallation installation)
    {
        try
        {
            using XenTarget target = new("xen", installation);
            return null;
        }
        catch (TargetUnavailableException e)
        {
            return e;
        }
    }

    /// <inheritdoc/>
    public Outcome Run(TestCase testCase)
    {
        ArgumentNullException.ThrowIfNull(testCase);
        Outcome[] outcome = new Outcome[1];
        Run(new ReadOnlySpan<TestCase>(in testCase), outcome);
        return outcome[0];
    }

    /// <inheritdoc/>
    public void Run(ReadOnlySpan<TestCase> cases, Span<Outcome> outcomes)
    {
        ObjectDisposedException.ThrowIf(_disposed, this);
        if (outcomes.Length < cases.Length)
        {
            throw new ArgumentException($"room for {outcomes.Length} outcomes of {cases.Length} cases", nameof(outcomes));
        }

        _batch.Run(cases, outcomes);
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        _disposed = true;
        _batch.Dispose();
    }
}
