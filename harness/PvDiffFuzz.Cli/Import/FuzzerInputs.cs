using System.Globalization;
using System.Security.Cryptography;
using System.Text;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;

namespace PvDiffFuzz.Cli.Import;

/// <summary>How AFL++ and libFuzzer keep inputs, and what our fuzz targets take as one: the text of a case, or bare code for the predecoder.</summary>
internal static class FuzzerInputs
{
    /// <summary>Names of the fuzzers.</summary>
    public static string[] Formats { get; } = ["afl", "libfuzzer"];

    /// <summary>The files of a corpus: an output folder of AFL++ with its queues, one queue, or a folder of libFuzzer. What AFL++ keeps beside inputs is left out.</summary>
    /// <exception cref="UsageException">There is none.</exception>
    public static string[] Find(string folder)
    {
        if (!Directory.Exists(folder))
        {
            throw new UsageException($"{folder}: there is no such folder");
        }

        string[] queues = [.. Directory.EnumerateDirectories(folder, "queue", SearchOption.AllDirectories).Order(StringComparer.Ordinal)];
        string[] files = [.. (queues.Length > 0 ? queues : [folder]).SelectMany(queue => Directory.EnumerateFiles(queue)).Where(file => !Path.GetFileName(file).StartsWith('.')).Order(StringComparer.Ordinal)];
        return files.Length > 0 ? files : throw new UsageException($"{folder}: there is no input in it");
    }

    /// <summary>The case that an input is, or null.</summary>
    /// <param name="input">The input.</param>
    /// <param name="code">True when inputs are bare code.</param>
    public static TestCase? ToCase(byte[] input, bool code)
    {
        if (code)
        {
            return CodeInput.ToCase(input);
        }

        try
        {
            return CaseFile.Parse(input, "input", lenient: true).Case;
        }
        catch (CaseFileException)
        {
            return null;
        }
    }

    /// <summary>The input that a case is, or null when it has none.</summary>
    public static byte[]? OfCase(CaseFile file, bool code) => code ? CodeInput.OfCase(file.Case) : Encoding.UTF8.GetBytes(file.Write());

    /// <summary>The name under which a fuzzer keeps an input.</summary>
    /// <param name="format">One of <see cref="Formats"/>.</param>
    /// <param name="number">Number of the input.</param>
    /// <param name="id">Id of the case.</param>
    /// <param name="input">The input.</param>
    public static string NameOf(string format, int number, string id, byte[] input) =>
        format == "afl" ? string.Create(CultureInfo.InvariantCulture, $"id:{number:d6},orig:{id}") : Convert.ToHexStringLower(SHA256.HashData(input))[..40];
}
