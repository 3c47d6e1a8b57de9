using System.Globalization;
using System.Text;
using PvDiffFuzz.Harness.Generate;

namespace PvDiffFuzz.FuzzTargets;

/// <summary>Changes inputs without knowing what they mean: bits, bytes, blocks, lines, and words that stand in other inputs.</summary>
internal sealed class InputMutator
{
    private const int MostChanges = 5;
    private const int LongestInput = 1 << 16;

    /// <summary>Makes an input from one or two others.</summary>
    public static byte[] Mutate(byte[] input, byte[] other, ref CounterRandom random)
    {
        List<byte> bytes = [.. input];
        for (int n = 1 + random.Below(MostChanges); n > 0; n--)
        {
            int at = random.Below(bytes.Count + 1);
            int length = Math.Min(1 + random.Below(random.Percent(80) ? 16 : 400), bytes.Count - at);
            switch (random.Below(10))
            {
                case 0 when at < bytes.Count:
                    bytes[at] ^= (byte)(1 << random.Below(8));
                    break;
                case 1 when at < bytes.Count:
                    bytes[at] = (byte)"0123456789abcdef= \n#;-,"[random.Below(22)];
                    break;
                case 2:
                    bytes.Insert(at, (byte)(random.Next() >> 24));
                    break;
                case 3:
                    bytes.RemoveRange(at, length);
                    break;
                case 4:
                    bytes.InsertRange(random.Below(bytes.Count + 1), bytes.GetRange(at, length));
                    break;
                case 5:
                    (int start, int end) = Line(other, ref random);
                    bytes.InsertRange(LineStart(bytes, at), other[start..end]);
                    break;
                case 6:
                    int from = LineStart(bytes, at);
                    int next = bytes.IndexOf((byte)'\n', from);
                    bytes.RemoveRange(from, (next < 0 ? bytes.Count : next + 1) - from);
                    break;
                case 7:
                    bytes.RemoveRange(at, bytes.Count - at);
                    bytes.AddRange(other.AsSpan(random.Below(other.Length + 1)));
                    break;
                case 8:
                    bytes.InsertRange(at, Encoding.ASCII.GetBytes(random.Pick<ulong>([0, 1, 0x7fff_ffff_ffff, ulong.MaxValue, 0x1000, 0x8000_0000, random.Next()]).ToString("x", CultureInfo.InvariantCulture)));
                    break;
                default:
                    int place = random.Below(other.Length + 1);
                    bytes.InsertRange(at, other.AsSpan(place, Math.Min(length, other.Length - place)));
                    break;
            }
        }

        return bytes.Count > LongestInput ? input : [.. bytes];
    }

    private static int LineStart(List<byte> bytes, int at) => at == 0 ? 0 : bytes.LastIndexOf((byte)'\n', at - 1) + 1;

    private static (int Start, int End) Line(byte[] bytes, ref CounterRandom random)
    {
        int at = random.Below(bytes.Length + 1);
        int start = at == 0 ? 0 : Array.LastIndexOf(bytes, (byte)'\n', at - 1) + 1;
        int end = Array.IndexOf(bytes, (byte)'\n', start);
        return (start, end < 0 ? bytes.Length : end + 1);
    }
}
