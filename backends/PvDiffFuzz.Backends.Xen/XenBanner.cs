using System.Globalization;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>What a Xen says of itself when it boots.</summary>
/// <param name="Version">Its version.</param>
/// <param name="Text">The version as its vendor writes it, such as <c>4.17.7-pre</c>.</param>
internal sealed record XenBanner(XenVersion Version, string Text)
{
    private const string Prefix = "Xen version ";
    private const string DebugPrefix = "debug=";

    /// <summary>Finds the banner: <c>Xen version 4.17.7 (Debian ...) (...) (gcc ...) debug=n date</c>.</summary>
    /// <param name="console">The console from its beginning.</param>
    /// <returns>Null when it is not there.</returns>
    public static XenBanner? Find(string console)
    {
        foreach (string line in console.Split('\n'))
        {
            int at = line.IndexOf(Prefix, StringComparison.Ordinal);
            if (at < 0)
            {
                continue;
            }

            string text = line[(at + Prefix.Length)..].Split(' ')[0].Trim();
            int end = text.AsSpan().IndexOfAnyExcept("0123456789.");
            string[] parts = (end < 0 ? text : text[..end]).Split('.');
            int[] numbers = new int[3];
            for (int i = 0; i < numbers.Length; i++)
            {
                // A version in the making has two numbers, as in 4.21-rc.
                if (i < parts.Length ? !int.TryParse(parts[i], NumberStyles.None, CultureInfo.InvariantCulture, out numbers[i]) : i < 2)
                {
                    return null;
                }
            }

            int debug = line.IndexOf(DebugPrefix, StringComparison.Ordinal);
            bool isDebug = debug >= 0 && line.AsSpan(debug + DebugPrefix.Length).StartsWith("y", StringComparison.Ordinal);
            return new XenBanner(new XenVersion(numbers[0], numbers[1], numbers[2], isDebug), text);
        }

        return null;
    }
}
