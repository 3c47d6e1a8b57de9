using System.Text;

namespace PvDiffFuzz.Harness;

/// <summary>Saves each finding as one text file in a folder. A file is complete or absent, also when the program dies or the disk is full.</summary>
/// <param name="folder">Made when the first finding is saved.</param>
/// <param name="text">Writes a finding as the text of a case file.</param>
/// <param name="extension">Ending of the files, with its dot.</param>
public sealed class FolderStore(string folder, Func<Finding, string> text, string extension = ".case") : IFindingStore
{
    /// <inheritdoc/>
    public StoreResult Save(Finding finding)
    {
        string path = Path.Combine(folder, finding.Name + extension);
        try
        {
            Directory.CreateDirectory(folder);
            AtomicFile.Write(path, text(finding));
            return new StoreResult(path, null);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            return new StoreResult(null, $"{path}: not saved: {e.Message}; free space or choose another folder, the finding is kept and tried again at the end");
        }
    }
}

/// <summary>Replaces whole files.</summary>
public static class AtomicFile
{
    /// <summary>Writes a text so that the file holds either its old contents or all of the new ones.</summary>
    /// <param name="path">The file.</param>
    /// <param name="text">Written as UTF-8 without a mark.</param>
    /// <exception cref="IOException">The file could not be written; an existing one is as before.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written.</exception>
    public static void Write(string path, string text) => Write(path, stream => stream.Write(Encoding.UTF8.GetBytes(text)));

    /// <summary>Writes contents piece by piece, so that the file holds either its old contents or all of the new ones.</summary>
    /// <param name="path">The file.</param>
    /// <param name="write">Writes all of the contents. When it throws, the file stays as it was.</param>
    /// <exception cref="IOException">The file could not be written; an existing one is as before.</exception>
    /// <exception cref="UnauthorizedAccessException">The folder may not be written.</exception>
    public static void Write(string path, Action<Stream> write)
    {
        ArgumentNullException.ThrowIfNull(write);
        string temporary = path + ".tmp";
        try
        {
            using (FileStream stream = new(temporary, FileMode.Create, FileAccess.Write, FileShare.None))
            {
                write(stream);
                stream.Flush(flushToDisk: true);
            }

            File.Move(temporary, path, overwrite: true);
        }
        catch
        {
            Discard(temporary);
            throw;
        }
    }

    private static void Discard(string temporary)
    {
        try
        {
            File.Delete(temporary);
        }
        catch (IOException)
        {
            // The first trouble is the one to report; a leftover *.tmp is overwritten by the next attempt.
            return;
        }
        catch (UnauthorizedAccessException)
        {
            return;
        }
    }
}
