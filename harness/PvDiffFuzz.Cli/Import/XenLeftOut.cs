using System.Collections.Frozen;

namespace PvDiffFuzz.Cli.Import;

/// <summary>Records that lack part of their initial state, and so are no cases.</summary>
internal static class XenLeftOut
{
    private const string XensOwn = "memory of Xen's own range, whose mappings a case cannot state";

    private static readonly FrozenDictionary<string, string> Reasons = new Dictionary<string, string>(StringComparer.Ordinal)
    {
        ["read Xen M2P RO"] = XensOwn,
        ["write Xen M2P RO"] = XensOwn,
        ["exec Xen"] = XensOwn,
    }.ToFrozenDictionary(StringComparer.Ordinal);

    /// <summary>Why a record is left out, or null when it is a case.</summary>
    public static string? ReasonFor(XenObservation record) => Reasons.GetValueOrDefault(record.Name);
}
