using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen;

/// <summary>All rules of <c>model.xen</c> beside those of the processor, read from their <see cref="SpecAttribute"/>s.</summary>
public static class XenRules
{
    /// <summary>Every rule, by document, section and implementation.</summary>
    public static ImmutableArray<Rule> All { get; } = X86Rules.In(typeof(XenRules).Assembly);
}
