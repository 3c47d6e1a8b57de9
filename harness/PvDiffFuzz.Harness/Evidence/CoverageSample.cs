namespace PvDiffFuzz.Harness;

/// <summary>How much of a model a campaign had covered after some of its cases.</summary>
/// <param name="Cases">Cases run.</param>
/// <param name="Edges">Edges taken; 0 when nobody counted them.</param>
/// <param name="Rules">Rules executed.</param>
/// <param name="Corpus">Cases kept; 0 for a campaign that keeps none.</param>
public sealed record CoverageSample(long Cases, int Edges, int Rules, int Corpus);
