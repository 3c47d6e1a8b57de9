using System.Text;

namespace PvDiffFuzz.Core.Tests;

/// <summary>Damages files: bytes flipped, inserted, removed, lines moved, files spliced and cut.</summary>
internal static class Damage
{
    /// <summary>One to three damages of one of some files.</summary>
    public static byte[] Once(Random random, byte[][] files)
    {
        List<byte> text = [.. files[random.Next(files.Length)]];
        for (int n = random.Next(1, 4); n > 0; n--)
        {
            int at = random.Next(text.Count + 1);
            int length = Math.Min(random.Next(1, 40), text.Count - at);
            switch (random.Next(8))
            {
                case 0 when at < text.Count:
                    text[at] ^= (byte)(1 << random.Next(8));
                    break;
                case 1 when at < text.Count:
                    text[at] = (byte)"0123456789abcdef= \n*;#-"[random.Next(23)];
                    break;
                case 2:
                    text.Insert(at, (byte)random.Next(256));
                    break;
                case 3:
                    text.RemoveRange(at, length);
                    break;
                case 4:
                    text.RemoveRange(at, text.Count - at);
                    break;
                case 5:
                    text.InsertRange(random.Next(text.Count + 1), text.GetRange(at, length));
                    break;
                case 6:
                    byte[] other = files[random.Next(files.Length)];
                    int from = random.Next(other.Length);
                    text.RemoveRange(at, text.Count - at);
                    text.AddRange(other.AsSpan(from));
                    break;
                default:
                    SwapLines(random, text);
                    break;
            }
        }

        return [.. text];
    }

    private static void SwapLines(Random random, List<byte> text)
    {
        string[] lines = Encoding.Latin1.GetString([.. text]).Split('\n');
        int a = random.Next(lines.Length);
        int b = random.Next(lines.Length);
        (lines[a], lines[b]) = (lines[b], lines[a]);
        text.Clear();
        text.AddRange(Encoding.Latin1.GetBytes(string.Join('\n', lines)));
    }
}
