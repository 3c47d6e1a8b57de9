namespace PvDiffFuzz.Cli;

/// <summary>Finds the files that a corpus is made of.</summary>
internal static class CorpusFiles
{
    /// <summary>Files as they are named, and the case files of folders in the order of their names.</summary>
    /// <param name="paths">Files, or folders that are searched for <c>*.case</c>.</param>
    /// <exception cref="UsageException">A path does not exist, or no case is in any.</exception>
    public static IReadOnlyList<string> Find(IEnumerable<string> paths)
    {
        List<string> files = [];
        foreach (string path in paths)
        {
            if (Directory.Exists(path))
            {
                files.AddRange(Directory.EnumerateFiles(path, "*.case", SearchOption.AllDirectories).Order(StringComparer.Ordinal));
            }
            else if (File.Exists(path))
            {
                files.Add(path);
            }
            else
            {
                throw new UsageException($"{path}: there is no such file or folder");
            }
        }

        // Work on nothing must not look like work that found nothing.
        return files.Count > 0 || !paths.Any() ? files : throw new UsageException($"{string.Join(", ", paths)}: there is no *.case in it");
    }
}
