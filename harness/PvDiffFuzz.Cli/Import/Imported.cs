using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Import;

/// <summary>Records of hosts as case files.</summary>
/// <param name="Files">One a record that is a case, in the order of the records.</param>
/// <param name="LeftOut">Ids of the other records by reason.</param>
/// <param name="FolderOf">Name of the folder for a file: which host it was observed on.</param>
internal sealed record Imported(ImmutableArray<CaseFile> Files, ImmutableSortedDictionary<string, ImmutableArray<string>> LeftOut, Func<CaseFile, string> FolderOf)
{
    /// <summary>Makes files of the records that are cases.</summary>
    /// <typeparam name="T">What a record is.</typeparam>
    /// <param name="records">The records in their order.</param>
    /// <param name="leftOut">Why a record is no case, or null when it is one.</param>
    /// <param name="name">The id of a record.</param>
    /// <param name="make">Makes the file of a record.</param>
    /// <param name="folderOf">See <see cref="FolderOf"/>.</param>
    public static Imported Of<T>(IEnumerable<T> records, Func<T, string?> leftOut, Func<T, string> name, Func<T, CaseFile> make, Func<CaseFile, string> folderOf)
    {
        ImmutableArray<CaseFile>.Builder files = ImmutableArray.CreateBuilder<CaseFile>();
        SortedDictionary<string, ImmutableArray<string>> reasons = new(StringComparer.Ordinal);
        foreach (T record in records)
        {
            if (leftOut(record) is string reason)
            {
                reasons[reason] = reasons.GetValueOrDefault(reason, []).Add(name(record));
            }
            else
            {
                files.Add(make(record));
            }
        }

        return new Imported(files.ToImmutable(), reasons.ToImmutableSortedDictionary(StringComparer.Ordinal), folderOf);
    }
}
