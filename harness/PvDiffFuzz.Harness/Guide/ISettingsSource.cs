using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>Makes cases in several settings, of which a guided campaign prefers those that show something new.</summary>
public interface ISettingsSource : ICaseSource
{
    /// <summary>How many settings there are, 1 or more. In setting 0 cases are those of <see cref="ICaseSource.Generate"/>.</summary>
    int Settings { get; }

    /// <summary>The case with an index in a setting. A pure function: equal on every thread and host.</summary>
    TestCase Generate(int setting, ulong index);
}
