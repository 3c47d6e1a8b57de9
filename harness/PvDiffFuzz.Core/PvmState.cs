namespace PvDiffFuzz.Core;

/// <summary>By which of its paths the hypervisor switches between the guest's modes. A condition of the host: models ignore it, known entries may match on it.</summary>
public enum HostPath
{
    /// <summary>Through the hypervisor proper: at least one of the two roots has not been used yet.</summary>
    Cold,

    /// <summary>Directly in the switcher: both roots were used before.</summary>
    Warm,
}

/// <summary>What a PVM case states besides registers, pages and <see cref="TestCase.System"/>.</summary>
/// <param name="PvcsAddress">Linear address, a multiple of 4096, at which supervisor code sees the per-VCPU structure. Its page is writable, belongs to the supervisor root alone and is none of the case's pages.</param>
/// <param name="UserLayout">Pages under the user root. A page that both roots have is one page of memory, perhaps with different rights. Null when both roots are the same.</param>
/// <param name="Path">The hypervisor's way between the modes.</param>
/// <remarks>
/// <see cref="TestCase.Layout"/> is what the supervisor root maps. A case that starts in user mode begins with EVENT_RETURN_USER: the structure's user context is
/// taken from <see cref="TestCase.Registers"/> (RIP, RFLAGS, RSP, RCX, R11, CS, SS, GS base, PKRU), so <see cref="TestCase.System"/> does not state it.
/// One that starts in supervisor mode begins with its registers as they are; RFLAGS.IF is bit 9 of the structure's event flags.
/// </remarks>
public sealed record PvmState(ulong PvcsAddress, PageLayout? UserLayout = null, HostPath Path = HostPath.Cold);

/// <summary>Where a field of the per-VCPU structure lies.</summary>
/// <param name="Register">The field.</param>
/// <param name="Offset">Bytes from the start of the structure.</param>
/// <param name="Width">Bytes: 2, 4 or 8.</param>
public readonly record struct PvcsField(SystemRegister Register, int Offset, int Width);

/// <summary>Layouts of PVM's per-VCPU structure (<c>struct pvm_vcpu_struct</c>), by revision.</summary>
public static class PvcsLayout
{
    /// <summary>Bytes of the structure in every revision; the rest of its page means nothing.</summary>
    public const int Size = 128;

    private static readonly PvcsField[] Rfc1 =
    [
        new(SystemRegister.PvcsEventFlags, 0x00, 8), new(SystemRegister.PvcsEventErrcode, 0x08, 4), new(SystemRegister.PvcsEventVector, 0x0c, 4),
        new(SystemRegister.PvcsCr2, 0x10, 8), new(SystemRegister.PvcsUserCs, 0x40, 2), new(SystemRegister.PvcsUserSs, 0x42, 2),
        new(SystemRegister.PvcsUserGsBase, 0x50, 8), new(SystemRegister.PvcsEflags, 0x58, 4), new(SystemRegister.PvcsPkru, 0x5c, 4),
        new(SystemRegister.PvcsRip, 0x60, 8), new(SystemRegister.PvcsRsp, 0x68, 8), new(SystemRegister.PvcsRcx, 0x70, 8), new(SystemRegister.PvcsR11, 0x78, 8),
    ];

    private static readonly PvcsField[] Later =
    [
        new(SystemRegister.PvcsEventFlags, 0x00, 8), new(SystemRegister.PvcsCr2, 0x08, 8), new(SystemRegister.PvcsUserCs, 0x40, 2), new(SystemRegister.PvcsUserSs, 0x42, 2),
        new(SystemRegister.PvcsEventErrcode, 0x44, 2), new(SystemRegister.PvcsEventVector, 0x46, 2), new(SystemRegister.PvcsUserGsBase, 0x48, 8),
        new(SystemRegister.PvcsEflags, 0x50, 4), new(SystemRegister.PvcsPkru, 0x54, 4), new(SystemRegister.PvcsRip, 0x58, 8), new(SystemRegister.PvcsRcx, 0x60, 8),
        new(SystemRegister.PvcsR11, 0x68, 8),
    ];

    /// <summary>The fields that a revision has, in the order of their offsets.</summary>
    /// <exception cref="ArgumentOutOfRangeException">The ABI is no revision of PVM.</exception>
    public static ReadOnlySpan<PvcsField> Of(Abi revision) => revision switch
    {
        Abi.PvmRfc1 => Rfc1,
        Abi.Pvm612 or Abi.PvmAbi1 => Later,
        _ => throw new ArgumentOutOfRangeException(nameof(revision)),
    };

    /// <summary>True for the fields that hold the interrupted user context: CS, SS, GS base, flags, PKRU, RIP, RSP, RCX and R11.</summary>
    public static bool IsUserContext(SystemRegister register) => register is >= SystemRegister.PvcsUserCs and <= SystemRegister.PvcsR11;

    /// <summary>The register whose interrupted value a field holds, so that what is undefined there is undefined here; null for none.</summary>
    public static Register? Saves(SystemRegister field) => field switch
    {
        SystemRegister.PvcsEflags => Register.Rflags,
        SystemRegister.PvcsRip => Register.Rip,
        SystemRegister.PvcsRsp => Register.Rsp,
        SystemRegister.PvcsRcx => Register.Rcx,
        SystemRegister.PvcsR11 => Register.R11,
        _ => null,
    };
}
