using PvDiffFuzz.Instrument;

// Run by the build (Instrument.targets): instruments each assembly into a file of the same name in a folder.
if (args.Length < 2)
{
    Console.Error.WriteLine("usage: PvDiffFuzz.Instrument FOLDER ASSEMBLY...");
    return 64;
}

try
{
    Directory.CreateDirectory(args[0]);
    foreach (string assembly in args.AsSpan(1))
    {
        using MemoryStream result = new();
        ModelRewriter.Rewrite(assembly, result);
        File.WriteAllBytes(Path.Combine(args[0], Path.GetFileName(assembly)), result.ToArray());
    }

    return 0;
}
catch (Exception trouble) when (trouble is IOException or UnauthorizedAccessException or BadImageFormatException)
{
    Console.Error.WriteLine($"PvDiffFuzz.Instrument: {trouble.Message}");
    return 2;
}
