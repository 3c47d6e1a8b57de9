using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <summary>The keys that say what instructions read of the processor.</summary>
internal sealed partial class CaseFileReader
{
    private readonly List<CpuidLeaf> _cpuid = [];

    private CpuProfile TakeReadings(CaseFileLine line, CpuProfile profile)
    {
        foreach (string word in line.Words)
        {
            (string name, string text) = line.Pair(word);
            Reading reading = (Reading)line.OneOf(name, "reading", CaseFileWords.Readings);
            if (profile.Readings.ContainsKey(reading))
            {
                throw line.Wrong($"reading {name} twice", "state each reading once");
            }

            profile = profile with { Readings = profile.Readings.Add(reading, line.Hex(text, name, CaseFileWords.LargestOf(reading))) };
        }

        return profile;
    }

    private void TakeCpuid(CaseFileLine line)
    {
        string[] words = line.Words;
        if (words.Length < 2)
        {
            throw line.Wrong("a CPUID leaf without its numbers", "write the leaf, the subleaf or -, and eax=... ebx=... ecx=... edx=...");
        }

        string[] values = line.Named(words.AsSpan(2), CaseFileWords.CpuidNames);
        CpuidLeaf leaf = new(
            (uint)line.Hex(words[0], "leaf", uint.MaxValue),
            words[1] == "-" ? null : (uint)line.Hex(words[1], "subleaf", uint.MaxValue),
            (uint)line.Hex(values[0], "eax", uint.MaxValue),
            (uint)line.Hex(values[1], "ebx", uint.MaxValue),
            (uint)line.Hex(values[2], "ecx", uint.MaxValue),
            (uint)line.Hex(values[3], "edx", uint.MaxValue));
        foreach (CpuidLeaf other in _cpuid)
        {
            if (other.Leaf == leaf.Leaf && (other.Subleaf is null || leaf.Subleaf is null || other.Subleaf == leaf.Subleaf))
            {
                throw line.Wrong($"leaf {words[0]} is answered twice", "give one line for each subleaf, or a single one with -");
            }
        }

        _cpuid.Add(leaf);
    }

    private ImmutableArray<CpuidLeaf> SortedCpuid() => [.. _cpuid.OrderBy(l => l.Leaf).ThenBy(l => l.Subleaf ?? 0)];
}
