using System.Globalization;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Output;

/// <summary>What a Xen guest has registered, and how its payload is entered.</summary>
internal static class XenView
{
    /// <summary>Shapes it for programs.</summary>
    public static object Of(XenState xen) => new
    {
        version = xen.Version?.ToString(),
        iretFlags = xen.IretFlags is ulong flags ? Hex(flags) : null,
        handlers = xen.Traps.Base is ulong first ? new { at = Hex(first), cs = Hex(xen.Traps.Cs) } : null,
        traps = xen.Traps.Overrides.Select(trap => new { vector = trap.Vector, dpl = trap.Dpl, mask = Masks(trap), cs = Hex(trap.Cs), at = trap.Address == 0 ? null : Hex(trap.Address) }),
        callbacks = xen.Callbacks.Select(callback => new { kind = callback.Kind.Text(), mask = callback.MaskEvents, cs = Hex(callback.Cs), at = Hex(callback.Address) }),
        gdt = xen.Gdt.ToDictionary(descriptor => Hex(descriptor.Key), descriptor => Hex(descriptor.Value), StringComparer.Ordinal),
    };

    /// <summary>How the payload is entered and which release the case is about, for the end of a line.</summary>
    public static string Entry(XenState xen) =>
        (xen.IretFlags is ulong flags ? $" by HYPERVISOR_iret with flags {flags:x}" : "") + (xen.Version is XenVersion version ? $", Xen {version}" : "");

    /// <summary>Lines for a person.</summary>
    public static IEnumerable<string> Lines(XenState xen)
    {
        yield return xen.Traps.Base is ulong first ? $"traps   all from {first:x}, cs {xen.Traps.Cs:x}" : "traps   none";
        foreach (XenTrap trap in xen.Traps.Overrides)
        {
            yield return $"trap    {trap.Vector:x2} {(trap.Address == 0 ? "none" : $"dpl {trap.Dpl}{(Masks(trap) ? ", masks events" : "")}, {trap.Cs:x}:{trap.Address:x}")}";
        }

        foreach (XenCallback callback in xen.Callbacks)
        {
            yield return $"entry   {callback.Kind.Text()} {callback.Cs:x}:{callback.Address:x}{(callback.MaskEvents ? ", masks events" : "")}";
        }

        foreach ((ushort selector, ulong descriptor) in xen.Gdt)
        {
            yield return $"gdt     {selector:x} = {descriptor:x16}";
        }
    }

    private static bool Masks(XenTrap trap) => (trap.Flags & XenTrap.MaskEvents) != 0;

    private static string Hex(ulong value) => value.ToString("x", CultureInfo.InvariantCulture);
}
