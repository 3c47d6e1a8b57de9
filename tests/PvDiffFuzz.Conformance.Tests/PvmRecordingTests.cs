using PvDiffFuzz.Models.Pvm;

namespace PvDiffFuzz.Conformance.Tests;

/// <summary>What PVM hosts were observed to do; docs/pvm-recordings.md says how.</summary>
public sealed class PvmRecordingTests() : RecordingTests("pvm", () => new PvmModel(), notComparable: 18, fewestAgree: 300, fewestFlips: 40_000);
