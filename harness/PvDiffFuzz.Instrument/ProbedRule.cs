namespace PvDiffFuzz.Instrument;

/// <summary>A rule as its attribute states it.</summary>
/// <param name="Document">Document name.</param>
/// <param name="Section">Section in it.</param>
/// <param name="Implementation">The type or member that implements it, such as <c>Arithmetic.Adc</c>.</param>
public sealed record ProbedRule(string Document, string Section, string Implementation);
