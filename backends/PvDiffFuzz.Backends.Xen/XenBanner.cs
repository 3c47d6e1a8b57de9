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
            if (VersionText.Leading(text, least: 2) is not [int major, int minor, int patch])
            {
                return null;
            }

            int debug = line.IndexOf(DebugPrefix, StringComparison.Ordinal);
            bool isDebug = debug >= 0 && line.AsSpan(debug + DebugPrefix.Length).StartsWith("y", StringComparison.Ordinal);
            return new XenBanner(new XenVersion(major, minor, patch, isDebug), text);
        }

        return null;
    }
}
