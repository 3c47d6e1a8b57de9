using System.Text;
using FsCheck.Fluent;

namespace PvDiffFuzz.Core.Tests;

public sealed class CaseFileMutationTests
{
    private const int Mutations = 20_000;

    /// <summary>
    /// Damaged files in every way: bytes flipped, inserted, removed, lines moved, files spliced and cut. Each is either refused with a line of the file, or is a case
    /// whose text is the very bytes that were read.
    /// </summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void ADamagedFileIsRefusedOrReadForWhatItIs(bool lenient)
    {
        Random random = new(lenient ? 20_261_121 : 5);
        byte[][] files = [.. CaseGen.Files.Sample(10, 40).Append(Samples.Adc).Select(f => Encoding.UTF8.GetBytes(f.Write()))];
        List<string> failures = [];
        int accepted = 0;
        for (int i = 0; i < Mutations; i++)
        {
            byte[] text = Damage(random, files);
            try
            {
                CaseFile file = CaseFile.Parse(text, "x.case", lenient);
                accepted++;
                byte[] written = Encoding.UTF8.GetBytes(file.Write());
                if (lenient ? !CaseFile.Parse(written, "x.case").Equals(file) : !written.AsSpan().SequenceEqual(text))
                {
                    failures.Add($"accepted, but written otherwise:\n{Encoding.UTF8.GetString(text)}");
                }
            }
            catch (CaseFileException e) when (e.Line >= 1 && e.Line <= 1 + text.Count(b => b == '\n') && e.Message.Contains("; ", StringComparison.Ordinal))
            {
                // Refused as it should be.
            }
            catch (Exception e)
            {
                failures.Add($"{e.GetType().Name}: {e.Message}\n{e.StackTrace}\n{Encoding.UTF8.GetString(text)}");
            }
        }

        Assert.True(failures.Count == 0, $"{failures.Count} of {Mutations} mutations; the first:\n{failures.FirstOrDefault()}");
        Assert.InRange(accepted, 1, Mutations - 1);
    }

    private static byte[] Damage(Random random, byte[][] files)
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
