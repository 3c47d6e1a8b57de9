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
        byte[][] files = [.. CaseGen.Files.Sample(10, 40).Append(Samples.Adc).Append(Samples.Pvm).Append(Samples.Xen).Select(f => Encoding.UTF8.GetBytes(f.Write()))];
        List<string> failures = [];
        int accepted = 0;
        for (int i = 0; i < Mutations; i++)
        {
            byte[] text = Damage.Once(random, files);
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
}
