namespace PvDiffFuzz.Tests;

/// <summary>The checkout that the tests were built in, found by walking up from the test assembly to the solution. Compiled into each project that needs it.</summary>
internal static class Checkout
{
    /// <summary>The folder of <c>PvDiffFuzz.sln</c>.</summary>
    public static string Root { get; } = Find();

    /// <summary>A file or folder of the checkout.</summary>
    /// <param name="parts">Names from the root down.</param>
    public static string PathOf(params ReadOnlySpan<string> parts) => Path.Combine([Root, .. parts]);

    private static string Find()
    {
        for (DirectoryInfo? folder = new(AppContext.BaseDirectory); folder is not null; folder = folder.Parent)
        {
            if (File.Exists(Path.Combine(folder.FullName, "PvDiffFuzz.sln")))
            {
                return folder.FullName;
            }
        }

        throw new InvalidOperationException($"PvDiffFuzz.sln is in no folder above {AppContext.BaseDirectory}; run the tests from a clone");
    }
}
