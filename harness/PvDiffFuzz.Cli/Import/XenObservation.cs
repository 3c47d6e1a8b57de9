using System.Collections.Immutable;
using System.Text;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Import;

/// <summary>In what way a record's code was entered.</summary>
internal enum XenObservedMode
{
    /// <summary>The guest kernel is simply there.</summary>
    Kernel,

    /// <summary>The guest kernel, by <c>HYPERVISOR_iret</c>.</summary>
    KernelViaIret,

    /// <summary>User code, by <c>HYPERVISOR_iret</c>.</summary>
    User,
}

/// <summary>What a record shows of the delivery that ended it.</summary>
/// <param name="Entry">The door.</param>
/// <param name="Vector">Vector of a trap table's entry, else 0.</param>
/// <param name="Registers">General registers at entry.</param>
/// <param name="Rflags">RFLAGS at entry.</param>
/// <param name="Cs">CS at entry.</param>
/// <param name="Ss">SS at entry.</param>
/// <param name="Selectors">DS, ES, FS and GS at entry, 16 bits each from the lowest.</param>
/// <param name="Stack">Eight quadwords from RSP: the frame, then what lies above it.</param>
/// <param name="Cr2">Field cr2 of the vcpu_info.</param>
/// <param name="VcpuInfo">The first eight bytes of the vcpu_info.</param>
internal sealed record XenDelivery(
    EntryPoint Entry, byte Vector, ImmutableArray<ulong> Registers, ulong Rflags, ushort Cs, ushort Ss, ulong Selectors, ImmutableArray<ulong> Stack, ulong Cr2, ulong VcpuInfo);

/// <summary>One record of what a PV guest of Xen did with a few instructions, as read; docs/xen-recordings.md has every field.</summary>
internal sealed record XenObservation
{
    /// <summary>The file and the line it was read from, for messages.</summary>
    public required (string File, int Line) Place { get; init; }

    /// <summary>Name of the record, such as <c>int 0x40 dpl2</c>.</summary>
    public required string Name { get; init; }

    /// <summary>How the code was entered.</summary>
    public required XenObservedMode Mode { get; init; }

    /// <summary>The release of Xen.</summary>
    public required XenVersion Version { get; init; }

    /// <summary>Release and accelerator of the emulator, such as <c>10.0.2 tcg</c>.</summary>
    public required string Emulator { get; init; }

    /// <summary>The emulated processor: <c>qemu64</c> or <c>Skylake-Client</c>.</summary>
    public required string Cpu { get; init; }

    /// <summary>Machine code with its terminator.</summary>
    public required ImmutableArray<byte> Code { get; init; }

    /// <summary>Where the code lies.</summary>
    public required ulong CodeAddress { get; init; }

    /// <summary>General registers at the start, in encoding order.</summary>
    public required ImmutableArray<ulong> Registers { get; init; }

    /// <summary>RIP, RFLAGS, CS and SS at the start, or of the frame by which the code was entered.</summary>
    public required (ulong Rip, ulong Rflags, ushort Cs, ushort Ss) Context { get; init; }

    /// <summary>The flags word of that frame.</summary>
    public required ulong IretFlags { get; init; }

    /// <summary>Stack pointer of the guest kernel for events of user mode.</summary>
    public required ulong KernelSp { get; init; }

    /// <summary>The bytes evtchn_upcall_pending and evtchn_upcall_mask at the start; a return makes the mask anew.</summary>
    public required (byte Pending, byte Mask) Upcall { get; init; }

    /// <summary>Entries of the trap table that differ from those of all records: vector, flags, and whether there is a handler.</summary>
    public required ImmutableArray<(byte Vector, byte Flags, bool Present)> Traps { get; init; }

    /// <summary>Calls of the guest kernel before the code ran.</summary>
    public required ImmutableArray<Hypercall> CallsBefore { get; init; }

    /// <summary>What the calls returned.</summary>
    public required ImmutableArray<ulong> CallResults { get; init; }

    /// <summary>Memory that was written before the calls.</summary>
    public required ImmutableArray<MemoryContents> Memory { get; init; }

    /// <summary>DS, ES, FS and GS, and field cr2 of the vcpu_info, which the record before left behind.</summary>
    public required (ulong Selectors, ulong Cr2) Before { get; init; }

    /// <summary>The delivery that ended it; null when Xen crashed the domain.</summary>
    public XenDelivery? Delivery { get; init; }

    /// <summary>Name of the case that is made of it, such as <c>xen-4.17-amd-user-int-0x40-dpl2</c>.</summary>
    public string CaseId
    {
        get
        {
            StringBuilder id = new($"xen-{HostName}-{(Mode == XenObservedMode.KernelViaIret ? "iret" : Mode.ToString().ToLowerInvariant())}-");
            foreach (char c in Name.ToLowerInvariant())
            {
                if (char.IsAsciiLetterOrDigit(c))
                {
                    id.Append(c);
                }
                else if (id[^1] != '-')
                {
                    id.Append('-');
                }
            }

            return id.ToString().TrimEnd('-');
        }
    }

    /// <summary>Which host it was observed on, such as <c>4.17-amd</c>.</summary>
    public string HostName => $"{Version.Major}.{Version.Minor}-{XenHostState.VendorOf(Cpu)}";

    /// <summary>A complaint about this record.</summary>
    public CaseFileException Bad(string problem) => new(Place.File, Place.Line, $"{Name}: {problem}");
}
