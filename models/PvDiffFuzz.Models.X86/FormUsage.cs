using Iced.Intel;

namespace PvDiffFuzz.Models.X86;

/// <summary>Which forms models have executed. Shared by the models of a campaign; any number of threads may mark.</summary>
public sealed class FormUsage
{
    // Marks are single bytes that only ever go from 0 to 1, so that a lost race loses nothing.
    private readonly byte[] _seen;

    /// <summary>Nothing executed yet.</summary>
    public FormUsage()
        : this(new byte[Enum.GetValues<Code>().Length])
    {
    }

    /// <summary>Marks together with another one, perhaps of another copy of this assembly.</summary>
    /// <param name="marks">Its <see cref="Marks"/>.</param>
    public FormUsage(byte[] marks) => _seen = marks;

    /// <summary>One byte a form, 1 when it was executed.</summary>
    public byte[] Marks => _seen;

    /// <summary>Number of distinct forms executed so far.</summary>
    public int Count => _seen.AsSpan().Count((byte)1);

    /// <summary>True when a form was executed.</summary>
    /// <param name="form">Iced's name of it.</param>
    public bool Contains(string form) => Enum.TryParse(form, out Code code) && _seen[(int)code] != 0;

    /// <summary>Notes that a form was decoded for execution.</summary>
    internal void Mark(ushort code) => _seen[code] = 1;
}
