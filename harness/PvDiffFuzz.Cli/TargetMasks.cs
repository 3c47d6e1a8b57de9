using System.Collections.Immutable;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Backends.Native;
using PvDiffFuzz.Backends.Pvm;
using PvDiffFuzz.Backends.Xen;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli;

/// <summary>What targets could not show when they were recorded. What Linux hides is hidden in stored outcomes of <c>native</c> too, wherever they are read.</summary>
internal static class TargetMasks
{
    /// <summary>Mask rows of a target that need not be at hand.</summary>
    /// <param name="name">Its name, as recorded.</param>
    public static ImmutableArray<TargetMask> Of(string name) => name switch
    {
        "kvm" => KvmTarget.Masks,
        "native" => NativeTarget.Masks,
        _ when PvmTarget.IsName(name) => PvmTarget.Masks,
        _ => XenInstallations.IsName(name) ? XenTarget.Masks : [],
    };
}
