namespace PvDiffFuzz.Conformance.Tests;

/// <summary>Finds the stored cases of the checkout that the tests were built in.</summary>
internal static class Corpus
{
    /// <summary>A folder below <c>corpus</c>.</summary>
    public static string Folder(string name)
    {
        DirectoryInfo? at = new(AppContext.BaseDirectory);
        while (at is not null && !File.Exists(Path.Combine(at.FullName, "PvDiffFuzz.sln")))
        {
            at = at.Parent;
        }

        Assert.True(at is not null, $"no PvDiffFuzz.sln above {AppContext.BaseDirectory}; run the tests from a checkout");
        return Path.Combine(at.FullName, "corpus", name);
    }
}
