using System.Collections.Immutable;
using System.Globalization;

namespace PvDiffFuzz.Core;

/// <summary>A release of Xen, and whether it was built for debugging.</summary>
/// <param name="Major">As 4 in 4.17.7.</param>
/// <param name="Minor">As 17.</param>
/// <param name="Patch">As 7.</param>
/// <param name="Debug">True for a debug build, which overwrites the argument registers of hypercalls.</param>
public sealed record XenVersion(int Major, int Minor, int Patch, bool Debug = false)
{
    private const string DebugSuffix = "+debug";

    /// <summary>Reads <c>4.17.7</c> or <c>4.17.7+debug</c>.</summary>
    /// <returns>Null for anything else.</returns>
    public static XenVersion? Parse(string text)
    {
        ArgumentNullException.ThrowIfNull(text);
        bool debug = text.EndsWith(DebugSuffix, StringComparison.Ordinal);
        string[] parts = (debug ? text[..^DebugSuffix.Length] : text).Split('.');
        int[] numbers = new int[3];
        for (int i = 0; i < numbers.Length; i++)
        {
            if (parts.Length != numbers.Length || !int.TryParse(parts[i], NumberStyles.None, CultureInfo.InvariantCulture, out numbers[i]))
            {
                return null;
            }
        }

        XenVersion version = new(numbers[0], numbers[1], numbers[2], debug);
        return version.ToString() == text ? version : null;
    }

    /// <summary>As <see cref="Parse"/> reads it.</summary>
    public override string ToString() => $"{Major}.{Minor}.{Patch}{(Debug ? DebugSuffix : "")}";

    /// <summary>True for this release of its branch and later ones.</summary>
    /// <param name="minor">The branch: 17 in 4.17.</param>
    /// <param name="patch">The release of that branch.</param>
    public bool IsFrom(int minor, int patch) => Major > 4 || Minor > minor || (Minor == minor && Patch >= patch);
}

/// <summary>An entry of the trap table, as <c>HYPERVISOR_set_trap_table</c> takes it.</summary>
/// <param name="Vector">Vector.</param>
/// <param name="Flags">Bits 1:0 virtual DPL, bit 2 masks event upcalls on entry.</param>
/// <param name="Cs">Code selector of the handler. 64-bit guests are always entered with Xen's flat one.</param>
/// <param name="Address">Linear address of the handler; 0 for none.</param>
public readonly record struct XenTrap(byte Vector, byte Flags, ushort Cs, ulong Address)
{
    /// <summary>The flag that masks event upcalls on entry.</summary>
    public const byte MaskEvents = 4;

    /// <summary>Bytes from one handler to the next in a table with a base.</summary>
    public const int HandlerSize = 16;

    /// <summary>Least privileged mode, as a privilege level, that may reach the handler by <c>INT n</c>.</summary>
    public int Dpl => Flags & 3;
}

/// <summary>A guest's trap table: handlers at equal distances from a base perhaps, and the entries that differ from that.</summary>
/// <remarks>Immutable; share one instance between cases.</remarks>
public sealed class XenTrapTable : IEquatable<XenTrapTable>
{
    private XenTrapTable(ulong? @base, ushort cs, ImmutableArray<XenTrap> overrides) => (Base, Cs, Overrides) = (@base, cs, overrides);

    /// <summary>A table without handlers.</summary>
    public static XenTrapTable Empty { get; } = new(null, 0, []);

    /// <summary>Address of the handler for vector 0, from which all 256 follow every <see cref="XenTrap.HandlerSize"/> bytes; null when only <see cref="Overrides"/> exist.</summary>
    public ulong? Base { get; }

    /// <summary>Selector of the handlers at <see cref="Base"/>; 0 without one.</summary>
    public ushort Cs { get; }

    /// <summary>The entries that differ from those at <see cref="Base"/>, by vector, each once. One with address 0 is a hole.</summary>
    public ImmutableArray<XenTrap> Overrides { get; }

    /// <summary>A table with all 256 handlers: flags 3 for vectors 3 and 4, else 0.</summary>
    public static XenTrapTable At(ulong @base, ushort cs) => new(@base, cs, []);

    /// <summary>The entry of a vector; one with address 0 when there is none.</summary>
    public XenTrap this[byte vector]
    {
        get
        {
            foreach (XenTrap trap in Overrides)
            {
                if (trap.Vector >= vector)
                {
                    if (trap.Vector == vector)
                    {
                        return trap;
                    }

                    break;
                }
            }

            return Default(vector);
        }
    }

    /// <summary>A copy with one entry set.</summary>
    public XenTrapTable With(XenTrap trap)
    {
        ImmutableArray<XenTrap> others = Overrides.RemoveAll(t => t.Vector == trap.Vector);
        XenTrap stored = trap.Address == 0 ? new XenTrap(trap.Vector, 0, 0, 0) : trap;
        if (stored == Default(trap.Vector))
        {
            return new XenTrapTable(Base, Cs, others);
        }

        int at = 0;
        while (at < others.Length && others[at].Vector < trap.Vector)
        {
            at++;
        }

        return new XenTrapTable(Base, Cs, others.Insert(at, stored));
    }

    /// <summary>A copy without a handler for a vector.</summary>
    public XenTrapTable Without(byte vector) => With(new XenTrap(vector, 0, 0, 0));

    /// <inheritdoc/>
    public bool Equals(XenTrapTable? other) =>
        ReferenceEquals(this, other) || (other is not null && Base == other.Base && Cs == other.Cs && Overrides.AsSpan().SequenceEqual(other.Overrides.AsSpan()));

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as XenTrapTable);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Base, Overrides.Length);

    private XenTrap Default(byte vector) => Base is ulong first
        ? new XenTrap(vector, (byte)(vector is 3 or 4 ? 3 : 0), Cs, first + (ulong)(vector * XenTrap.HandlerSize))
        : new XenTrap(vector, 0, 0, 0);
}

/// <summary>What a guest can register an entry for by <c>HYPERVISOR_callback_op</c>.</summary>
public enum XenCallbackKind
{
    /// <summary>Event upcalls.</summary>
    Event,

    /// <summary>Faults of segment loads while Xen returns to the guest.</summary>
    Failsafe,

    /// <summary>SYSCALL of 64-bit user code.</summary>
    Syscall,

    /// <summary>SYSENTER.</summary>
    Sysenter,

    /// <summary>SYSCALL of 32-bit user code.</summary>
    Syscall32,

    /// <summary>Non-maskable interrupts. It takes the place of entry 2 of the trap table, with the flag that masks event upcalls.</summary>
    Nmi,
}

/// <summary>A registered callback.</summary>
/// <param name="Kind">What for.</param>
/// <param name="MaskEvents">True when it masks event upcalls on entry (CALLBACKF_mask_events). Event upcalls always do.</param>
/// <param name="Cs">Code selector; 64-bit guests are always entered with Xen's flat one.</param>
/// <param name="Address">Linear address, not 0.</param>
public readonly record struct XenCallback(XenCallbackKind Kind, bool MaskEvents, ushort Cs, ulong Address);

/// <summary>What a Xen case states besides registers, pages and <see cref="TestCase.System"/>.</summary>
/// <param name="Traps">The trap table.</param>
/// <param name="Callbacks">Registered callbacks in the order of their kinds, each once.</param>
/// <remarks>
/// <see cref="TestCase.Layout"/> is what the guest kernel's page tables map. The U bit separates nothing in a 64-bit guest, whose kernel runs at CPL3 as well: only a second root does.
/// In a 32-bit guest, whose kernel runs in ring 1, there is one root, and <see cref="PageAccess.Supervisor"/> separates.
/// </remarks>
public sealed record XenState(XenTrapTable Traps, ImmutableArray<XenCallback> Callbacks)
{
    /// <summary>The release that the case is about, or null for the target's own.</summary>
    public XenVersion? Version { get; init; }

    /// <summary>
    /// The flags word of the <c>HYPERVISOR_iret</c> by which the payload is entered, with RAX, RCX, R11, RIP, CS, RFLAGS, RSP and SS of <see cref="TestCase.Registers"/> in its frame and the
    /// upcall mask as it makes it. Null when the guest kernel is simply there, without having left Xen just now.
    /// </summary>
    public ulong? IretFlags { get; init; }

    /// <summary>Pages under the user root of a 64-bit guest; none at all when it has not registered such a root. Null when both roots are the same.</summary>
    public PageLayout? UserLayout { get; init; }

    /// <summary>Descriptors in the guest's part of the GDT, by selector with bits 2:0 clear, each once; all others are empty.</summary>
    public ImmutableArray<KeyValuePair<ushort, ulong>> Gdt { get; init; } = [];

    /// <summary>A callback's registration.</summary>
    /// <returns>Null when there is none.</returns>
    public XenCallback? CallbackOf(XenCallbackKind kind)
    {
        foreach (XenCallback callback in Callbacks)
        {
            if (callback.Kind == kind)
            {
                return callback;
            }
        }

        return null;
    }

    /// <inheritdoc/>
    public bool Equals(XenState? other) =>
        ReferenceEquals(this, other)
        || (other is not null && Traps.Equals(other.Traps) && Callbacks.AsSpan().SequenceEqual(other.Callbacks.AsSpan()) && Equals(Version, other.Version)
            && IretFlags == other.IretFlags && Equals(UserLayout, other.UserLayout) && Gdt.AsSpan().SequenceEqual(other.Gdt.AsSpan()));

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(Traps, Callbacks.Length, IretFlags, Gdt.Length);
}
