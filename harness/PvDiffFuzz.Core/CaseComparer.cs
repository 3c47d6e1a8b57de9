namespace PvDiffFuzz.Core;

/// <summary>Equality of cases for dictionaries. Cases of one campaign differ little, so they are told apart by all of their bytes.</summary>
public sealed class CaseComparer : IEqualityComparer<TestCase>
{
    private CaseComparer()
    {
    }

    /// <summary>The only one.</summary>
    public static CaseComparer Instance { get; } = new();

    /// <inheritdoc/>
    public bool Equals(TestCase? x, TestCase? y) => object.Equals(x, y);

    /// <inheritdoc/>
    public int GetHashCode(TestCase obj) => Digest64.Of(obj).GetHashCode();
}
