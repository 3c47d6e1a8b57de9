using System.Collections.Concurrent;
using System.Collections.Immutable;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Backends.Native;
using PvDiffFuzz.Backends.Pvm;
using PvDiffFuzz.Backends.Pvm.Emulated;
using PvDiffFuzz.Backends.Xen;
using PvDiffFuzz.Cli.Commands;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.Pvm;
using PvDiffFuzz.Models.X86;
using PvDiffFuzz.Models.Xen;

namespace PvDiffFuzz.Cli;

/// <summary>The only place that names every target.</summary>
public sealed class Composition
{
    /// <summary>The model of Xen. With a colon and a release after it, such as <c>model.xen:4.17.7</c>, it stands for that release.</summary>
    private const string XenName = "model.xen";

    /// <summary>The model of Xen that answers cases of IDT delivery as under FRED.</summary>
    private const string FredName = "model.xen-fred";

    /// <summary>Targets that answer otherwise than the ABI of a case says, so that they run only where they are named.</summary>
    private static readonly ImmutableHashSet<string> OnRequest = [FredName];

    private readonly SortedDictionary<string, Func<CpuProfile, ITarget>> _targets;

    /// <summary>Targets that were made to ask for their processor, by name, until somebody wants one: booting a host takes a second.</summary>
    private readonly ConcurrentDictionary<string, ITarget> _asked = new(StringComparer.Ordinal);

    private CpuProfile? _host;
    private XenInstallations _xen = new(new XenOptions());

    /// <summary>Names the targets.</summary>
    public Composition()
    {
        _targets = new(StringComparer.Ordinal)
        {
            ["kvm"] = profile => new KvmTarget(profile),
            ["model.pvm"] = profile => new PvmModel(profile, Usage),
            ["model.x86"] = profile => new X86Model(profile, Usage),
            [XenName] = profile => new XenModel(profile, Usage),
            [FredName] = profile => new FredDelivery(new XenModel(profile, Usage)),
            ["native"] = _ => new NativeTarget(),
            ["pvm"] = profile => new PvmTarget(profile),
        };
        UseXen(XenCommandOptions.Default);
    }

    /// <summary>Targets of a run of an x86 case that names none.</summary>
    public const string Default = "model.x86,native";

    /// <summary>Forms that models have executed in this process.</summary>
    public FormUsage Usage { get; } = new();

    /// <summary>Iced's names of these forms.</summary>
    public ImmutableSortedSet<string> FormsUsed => [.. X86Model.ModelledForms.Where(Usage.Contains)];

    /// <summary>Every name, in alphabetical order.</summary>
    public IReadOnlyCollection<string> Names => _targets.Keys;

    /// <summary>The names without those that run only where they are named.</summary>
    public IEnumerable<string> Usual => Names.Where(name => !OnRequest.Contains(name));

    /// <summary>The processor at hand, or the default profile where it cannot be probed.</summary>
    public CpuProfile Host => _host ??= ProbeHost();

    /// <summary>Says where to look for Xen. Each version that is found there is a target, and <c>xen</c> is the first of them.</summary>
    /// <exception cref="UsageException">An image is given without a version, or two have the same one.</exception>
    public void UseXen(XenOptions options)
    {
        foreach (string name in _xen.Names)
        {
            _targets.Remove(name);
        }

        try
        {
            _xen = new XenInstallations(options);
        }
        catch (FormatException e)
        {
            throw new UsageException($"--xen-image {e.Message}");
        }

        foreach (string name in _xen.Names)
        {
            _targets[name] = _ => new XenTarget(name, _xen.Find(name));
        }
    }

    /// <summary>Makes PVM hosts that are booted for it targets.</summary>
    public void UsePvm(IEnumerable<EmulatedHostOptions> hosts)
    {
        foreach (EmulatedHostOptions host in hosts)
        {
            _targets[host.Name] = _ => new PvmTarget(host);
        }
    }

    /// <summary>True for a name that <see cref="Create(string)"/> knows: one of <see cref="Names"/>, <c>xen</c>, or a model of a release of Xen.</summary>
    public bool Knows(string name) => _targets.ContainsKey(name) || _xen.Knows(name) || ReleaseOf(name) is not null;

    /// <summary>Adds or replaces a target; for tests that plant faults.</summary>
    public void Register(string name, Func<CpuProfile, ITarget> create) => _targets[name] = create;

    /// <summary>Makes a target.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <exception cref="UsageException">There is no such target.</exception>
    /// <exception cref="TargetUnavailableException">It does not work on this host.</exception>
    public ITarget Create(string name) => Create(name, Host);

    /// <summary>Makes a target, which is a model of a given processor if it is a model.</summary>
    /// <param name="name">One of <see cref="Names"/>.</param>
    /// <param name="profile">The processor for cases that name none.</param>
    /// <exception cref="UsageException">There is no such target.</exception>
    /// <exception cref="TargetUnavailableException">It does not work on this host.</exception>
    public ITarget Create(string name, CpuProfile profile) =>
        _asked.TryRemove(name, out ITarget? asked) ? asked
            : _targets.TryGetValue(name, out Func<CpuProfile, ITarget>? create) ? create(profile)
            : _xen.Knows(name) ? new XenTarget(name, _xen.Find(name))
            : ReleaseOf(name) is XenVersion version ? new XenModel(profile, Usage, version)
            : throw new UsageException($"there is no target '{name}'; the targets are {string.Join(", ", Names)}");

    /// <summary>The processor that cases of an ABI which name none meet on these targets: that of targets which bring their own, else the host's. Makes each target once, so that trouble with one shows before a run.</summary>
    /// <param name="abi">The ABI.</param>
    /// <param name="names">The targets.</param>
    /// <param name="keep">True when the caller will make each of them: those with a processor of their own, as nothing has run on them, are what it gets then.</param>
    /// <exception cref="UsageException">Two of them bring different ones.</exception>
    /// <exception cref="TargetUnavailableException">One does not work on this host.</exception>
    public CpuProfile ProcessorOf(Abi abi, IReadOnlyList<string> names, bool keep = false)
    {
        ArgumentNullException.ThrowIfNull(names);
        (string Name, CpuProfile Processor)? first = null;
        foreach (string name in names)
        {
            ITarget target = Create(name);
            CpuProfile? own = target.Info.Abis.Contains(abi) ? target.Info.Processor : null;
            if (own is null || !keep || !_asked.TryAdd(name, target))
            {
                target.Dispose();
            }

            if (own is null)
            {
                continue;
            }

            first ??= (name, own);
            if (first.Value.Processor != own)
            {
                throw new UsageException(
                    $"{first.Value.Name} and {name} have different processors ({TextOf(first.Value.Processor, own)} against {TextOf(own, first.Value.Processor)}), so that no case means the same to both; compare them one at a time");
            }
        }

        return first?.Processor ?? Host;
    }

    /// <summary>Splits a comma-separated list and checks each name.</summary>
    /// <exception cref="UsageException">A name is unknown or given twice, or the list is empty.</exception>
    public IReadOnlyList<string> Parse(string list)
    {
        string[] names = list.Split(',', StringSplitOptions.TrimEntries | StringSplitOptions.RemoveEmptyEntries);
        if (names.Length == 0)
        {
            throw new UsageException($"no target given; the targets are {string.Join(", ", Names)}");
        }

        if (names.Distinct(StringComparer.Ordinal).Count() != names.Length)
        {
            throw new UsageException($"'{list}' names a target twice");
        }

        string? unknown = names.FirstOrDefault(name => !Knows(name));
        return unknown is null ? names : throw new UsageException($"there is no target '{unknown}'; the targets are {string.Join(", ", Names)}");
    }

    /// <summary>Targets of a run that names none: the usual two for x86, and for any other ABI those that run it and work here.</summary>
    public IReadOnlyList<string> DefaultsFor(Abi abi) => abi == Abi.X86 ? Parse(Default) : [.. Usual.Where(name => RunsHere(name, abi))];

    /// <summary>The release of a model of Xen that a target's name ends in; null for any other name.</summary>
    public static XenVersion? ReleaseOf(string name) =>
        name.StartsWith(XenName + ":", StringComparison.Ordinal) ? XenVersion.Parse(name[(XenName.Length + 1)..]) : null;

    /// <summary>What tells a processor from another, as far as one line can say.</summary>
    private static string TextOf(CpuProfile processor, CpuProfile other) =>
        string.Join(' ', processor.Features.Except(other.Features).Prepend($"{processor.Vendor} family {processor.Family}"));

    private bool RunsHere(string name, Abi abi)
    {
        try
        {
            using ITarget target = Create(name);
            return target.Info.Abis.Contains(abi);
        }
        catch (TargetUnavailableException)
        {
            return false;
        }
    }

    private static CpuProfile ProbeHost()
    {
        try
        {
            return HostProfile.Probe();
        }
        catch (TargetUnavailableException)
        {
            return CpuProfile.DefaultAmd;
        }
    }
}
