namespace PvDiffFuzz.Core;

/// <content>What a Xen guest has registered.</content>
internal sealed partial class CaseFileWriter
{
    private void Xen(XenState xen)
    {
        Line("xen", $"version={xen.Version?.ToString() ?? "any"} iret={(xen.IretFlags is ulong flags ? $"{flags:x}" : "none")}");
        Line("traps", xen.Traps.Base is ulong first ? $"at={first:x} cs={xen.Traps.Cs:x}" : "none");
        foreach (XenTrap trap in xen.Traps.Overrides)
        {
            bool mask = (trap.Flags & XenTrap.MaskEvents) != 0;
            Line("trap", trap.Address == 0 ? $"{trap.Vector:x2} none" : $"{trap.Vector:x2} dpl={trap.Dpl} mask={(mask ? 1 : 0)} cs={trap.Cs:x} at={trap.Address:x}");
        }

        foreach (XenCallback callback in xen.Callbacks)
        {
            Line("callback", $"{CaseFileWords.Callbacks[(int)callback.Kind]} mask={(callback.MaskEvents ? 1 : 0)} cs={callback.Cs:x} at={callback.Address:x}");
        }

        List("gdt", xen.Gdt.Select(g => $"{g.Key:x}={g.Value:x}"));
    }
}
