namespace PvDiffFuzz.Core;

/// <summary>Which ABI a case speaks. A system with several revisions has a member for each; there is no PVM without a revision.</summary>
public enum Abi
{
    /// <summary>The processor alone: user code at CPL3 under any system that reports what the IDT delivered.</summary>
    X86,

    /// <summary>PVM as its first specification states it (RFC series of February 2024).</summary>
    PvmRfc1,

    /// <summary>PVM as the newest public branch has it (on Linux 6.12).</summary>
    Pvm612,

    /// <summary>PVM of a later rework that numbers its ABI. Constants and layouts only; no behaviour is claimed.</summary>
    PvmAbi1,

    /// <summary>Xen, 64-bit PV guest, events delivered by IDT.</summary>
    XenPv64,

    /// <summary>Xen, 64-bit PV guest, events delivered by FRED.</summary>
    XenPv64Fred,

    /// <summary>Xen, 32-bit PV guest.</summary>
    XenPv32,
}

/// <summary>Questions about an <see cref="Abi"/>.</summary>
public static class AbiExtensions
{
    /// <summary>True for every revision of PVM.</summary>
    public static bool IsPvm(this Abi abi) => abi is Abi.PvmRfc1 or Abi.Pvm612 or Abi.PvmAbi1;

    /// <summary>True for every kind of Xen PV guest.</summary>
    public static bool IsXen(this Abi abi) => abi is Abi.XenPv64 or Abi.XenPv64Fred or Abi.XenPv32;

    /// <summary>The name in case files, signatures and reports, such as <c>x86</c>, <c>pvm-rfc1</c> or <c>xen-pv64</c>.</summary>
    public static string Text(this Abi abi) => CaseFileWords.Abis[(int)abi];
}

/// <summary>Which side of a paravirtual guest runs.</summary>
public enum GuestMode
{
    /// <summary>The guest's applications.</summary>
    User,

    /// <summary>The guest's kernel.</summary>
    Supervisor,
}
