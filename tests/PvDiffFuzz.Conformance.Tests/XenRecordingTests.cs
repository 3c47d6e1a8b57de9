using PvDiffFuzz.Models.Xen;

namespace PvDiffFuzz.Conformance.Tests;

/// <summary>What PV guests of Xen were observed to do; docs/xen-recordings.md says how.</summary>
public sealed class XenRecordingTests() : RecordingTests("xen", () => new XenModel(), notComparable: 14, fewestAgree: 270, fewestFlips: 20_000);
