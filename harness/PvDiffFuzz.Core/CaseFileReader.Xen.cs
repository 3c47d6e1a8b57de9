using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <content>What a Xen guest has registered, and how its payload is entered.</content>
internal sealed partial class CaseFileReader
{
    private readonly ImmutableArray<XenCallback>.Builder _callbacks = ImmutableArray.CreateBuilder<XenCallback>();
    private readonly ImmutableArray<KeyValuePair<ushort, ulong>>.Builder _gdt = ImmutableArray.CreateBuilder<KeyValuePair<ushort, ulong>>();
    private readonly HashSet<byte> _trapsStated = [];
    private CaseFileLine? _firstOfXen;
    private XenState? _xen;
    private XenTrapTable? _traps;

    private void TakeXen(CaseFileLine line)
    {
        if (line.Key != "xen")
        {
            _firstOfXen ??= line;
        }

        switch (line.Key)
        {
            case "xen":
                string[] values = line.Named(line.Words, ["version", "iret"]);
                _xen = new XenState(XenTrapTable.Empty, [])
                {
                    Version = values[0] == "any" ? null : XenVersion.Parse(values[0]) ?? throw line.Wrong($"{CaseFileText.Quote(values[0])} is no version of Xen", "write `any`, or a release as in 4.17.7 or 4.17.7+debug"),
                    IretFlags = values[1] == "none" ? null : line.Hex(values[1], "iret"),
                };
                break;
            case "traps":
                _traps = line.Value == "none" ? XenTrapTable.Empty : TrapsAt(line);
                break;
            case "trap":
                TakeTrap(line);
                break;
            case "callback":
                string[] words = line.Words;
                XenCallbackKind kind = (XenCallbackKind)line.OneOf(words.Length > 0 ? words[0] : "", "callback", CaseFileWords.Callbacks);
                string[] callback = line.Named(words.AsSpan(1), ["mask", "cs", "at"]);
                _callbacks.Add(new XenCallback(kind, line.Hex(callback[0], "mask", 1) == 1, (ushort)line.Hex(callback[1], "cs", ushort.MaxValue), line.Hex(callback[2], "at")));
                break;
            default:
                foreach (string word in line.Words)
                {
                    (string selector, string descriptor) = line.Pair(word);
                    _gdt.Add(new((ushort)line.Hex(selector, "selector", ushort.MaxValue), line.Hex(descriptor, selector)));
                }

                break;
        }
    }

    private static XenTrapTable TrapsAt(CaseFileLine line)
    {
        string[] values = line.Named(line.Words, ["at", "cs"]);
        return XenTrapTable.At(line.Hex(values[0], "at"), (ushort)line.Hex(values[1], "cs", ushort.MaxValue));
    }

    private void TakeTrap(CaseFileLine line)
    {
        if (_traps is null)
        {
            throw line.Wrong("`trap` without `traps`", "a line `traps none`, or one such as `traps at=7e0000200000 cs=e033`, comes first");
        }

        string[] words = line.Words;
        byte vector = line.Byte(words.Length > 0 ? words[0] : "", "vector");
        if (!_trapsStated.Add(vector))
        {
            throw line.Wrong($"vector {vector:x2} is stated twice", "state each vector once");
        }

        if (words is [_, "none"])
        {
            _traps = _traps.Without(vector);
            return;
        }

        string[] values = line.Named(words.AsSpan(1), ["dpl", "mask", "cs", "at"]);
        int flags = (int)line.Hex(values[0], "dpl", 3) | (line.Hex(values[1], "mask", 1) == 1 ? XenTrap.MaskEvents : 0);
        _traps = _traps.With(new XenTrap(vector, (byte)flags, (ushort)line.Hex(values[2], "cs", ushort.MaxValue), line.Hex(values[3], "at")));
    }

    /// <summary>What the lines say together; null for a case that is not Xen's.</summary>
    /// <param name="next">The line after the case, where missing keys are reported.</param>
    private XenState? FinishXen(CaseFileLine next)
    {
        if (_xen is null)
        {
            return _firstOfXen is CaseFileLine line ? throw line.Wrong($"`{line.Key}` without `xen`", "a line such as `xen      version=any iret=0` comes with it") : null;
        }

        XenTrapTable traps = _traps ?? throw next.Wrong("the case has no `traps` line", "add `traps none`, or one such as `traps at=7e0000200000 cs=e033`, before this line");
        return _xen with { Traps = traps, Callbacks = _callbacks.ToImmutable(), Gdt = _gdt.ToImmutable(), UserLayout = UserLayout() };
    }
}
