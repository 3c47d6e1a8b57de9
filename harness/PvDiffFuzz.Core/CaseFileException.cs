namespace PvDiffFuzz.Core;

/// <summary>A case file cannot be used. The message reads <c>file:line: what is wrong; what would be right</c>.</summary>
public sealed class CaseFileException : Exception
{
    /// <summary>Makes the exception.</summary>
    /// <param name="file">The file's name as the caller gave it.</param>
    /// <param name="line">Line from 1; 1 too for trouble with the file as a whole.</param>
    /// <param name="problem">What is wrong, a semicolon, and what would be right.</param>
    /// <param name="inner">What the system said.</param>
    public CaseFileException(string file, int line, string problem, Exception? inner = null)
        : base($"{file}:{line}: {problem}", inner)
    {
        File = file;
        Line = line;
    }

    /// <summary>The file's name as the caller gave it.</summary>
    public string File { get; }

    /// <summary>Line from 1.</summary>
    public int Line { get; }
}
