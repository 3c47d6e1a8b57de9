using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>A distinct, reproduced, minimised divergence.</summary>
public sealed record Finding
{
    /// <summary>What makes it this finding.</summary>
    public required Signature Signature { get; init; }

    /// <summary>How it was judged.</summary>
    public required Verdict Verdict { get; init; }

    /// <summary>The smallest case with its outcomes.</summary>
    public required Divergence Divergence { get; init; }

    /// <summary>Seed of the campaign that found it.</summary>
    public required ulong Seed { get; init; }

    /// <summary>Index of the generated case that <see cref="Divergence"/> was made from.</summary>
    public required ulong Index { get; init; }

    /// <summary>Name for its file, without ending: unique in a campaign, the same in every run.</summary>
    public string Name => Signature.FileName();

    /// <summary>Number of instructions in its case, one-byte NOPs that keep the others in their places not counted; at least 1.</summary>
    public int Instructions => CodeEdit.CountWithoutPadding(Divergence.Case.Code);
}

/// <summary>What became of an attempt to save.</summary>
/// <param name="Path">Where the finding is stored, or null when it is not.</param>
/// <param name="Problem">Why not, in one line; null on success.</param>
public readonly record struct StoreResult(string? Path, string? Problem);

/// <summary>Keeps findings. Saving again under the same name replaces; a failure leaves what was saved before as it was.</summary>
public interface IFindingStore
{
    /// <summary>Saves a finding. Trouble is a value: the campaign keeps the finding and tries again at its end.</summary>
    StoreResult Save(Finding finding);
}

/// <summary>Where cases come from.</summary>
public interface ICaseSource
{
    /// <summary>The case with an index. A pure function: equal on every thread and host.</summary>
    TestCase Generate(ulong index);
}
