using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>A case that was kept, and what it was the first to show.</summary>
/// <param name="Case">The case.</param>
/// <param name="Features">Its features that no case before it had.</param>
/// <param name="Value">The sum of their values; the higher, the more is made of the case.</param>
/// <param name="Raised">Its instructions that raised events.</param>
public sealed record CorpusEntry(TestCase Case, ImmutableArray<int> Features, int Value, ImmutableArray<Raiser> Raised);

/// <summary>The corpus at one moment of a campaign. Immutable, so that jobs share it.</summary>
/// <param name="Entries">Cases in the order in which they were kept.</param>
/// <param name="Picks">By entry: how many cases were made from it.</param>
/// <param name="Finds">By entry: how many of these were kept.</param>
/// <param name="Seen">All features so far; not changed any more.</param>
internal sealed record GuideView(ImmutableArray<CorpusEntry> Entries, ImmutableArray<int> Picks, ImmutableArray<int> Finds, SeenFeatures Seen);

/// <summary>A case that a job found interesting, measured by what it knew.</summary>
/// <param name="Entry">The case.</param>
/// <param name="Parent">Number of the entry that it was made from, the job's own ones after those of its view; -1 for none.</param>
internal readonly record struct Candidate(CorpusEntry Entry, int Parent);

/// <summary>What a range of guided cases gave.</summary>
/// <param name="Candidates">In the order of cases.</param>
/// <param name="Picks">Numbers of the entries from which cases were made, each as often as that happened; of the job's view only.</param>
/// <param name="Known">Number of entries of the view.</param>
/// <param name="Cases">Cases run.</param>
internal sealed record RangeFindings(ImmutableArray<Candidate> Candidates, ImmutableArray<int> Picks, int Known, long Cases);
