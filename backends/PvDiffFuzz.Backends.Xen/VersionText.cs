using System.Globalization;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Reads version numbers at the beginning of a text.</summary>
internal static class VersionText
{
    /// <summary>Reads up to three numbers with dots between them; what follows is not looked at.</summary>
    /// <param name="text">Such as <c>10.0.2 (Debian)</c> or <c>4.21-rc</c>.</param>
    /// <param name="least">Numbers that there must be; missing ones are 0.</param>
    /// <returns>Three numbers, or null when there are too few.</returns>
    public static int[]? Leading(ReadOnlySpan<char> text, int least)
    {
        int[] numbers = new int[3];
        for (int i = 0; i < numbers.Length; i++)
        {
            int digits = 0;
            while (digits < text.Length && char.IsAsciiDigit(text[digits]))
            {
                digits++;
            }

            if (!int.TryParse(text[..digits], NumberStyles.None, CultureInfo.InvariantCulture, out numbers[i]))
            {
                return i < least ? null : numbers;
            }

            text = text[digits..];
            if (!text.StartsWith("."))
            {
                return i + 1 < least ? null : numbers;
            }

            text = text[1..];
        }

        return numbers;
    }
}
