using System.Collections.Immutable;

namespace PvDiffFuzz.Core;

/// <summary>State of a guest's system side that has a name in case files and reports: control registers, MSRs, and what a paravirtual ABI keeps for a virtual CPU.</summary>
/// <remarks>
/// Values are 64 bits wide; narrower fields are zero-extended. <c>Pvcs*</c> members are the fields of PVM's per-VCPU structure, whose places
/// <see cref="PvcsLayout"/> knows for each revision.
/// </remarks>
public enum SystemRegister
{
#pragma warning disable CS1591 // Each member is the register, MSR or structure field of that name.
    Cr0, Cr2, Cr3, Cr4, Cr8, Efer, Star, Lstar, Cstar, SyscallMask, SysenterCs, SysenterEip, SysenterEsp, KernelGsBase, Pkrs, Dr6, Dr7,
    PvmLinearAddressRange, PvmVcpuStruct, PvmSupervisorRsp, PvmSupervisorRedzone, PvmEventEntry, PvmRetuRip, PvmRetsRip, PvmSwitchCr3,
    PvcsEventFlags, PvcsEventErrcode, PvcsEventVector, PvcsCr2, PvcsUserCs, PvcsUserSs, PvcsUserGsBase, PvcsEflags, PvcsPkru, PvcsRip, PvcsRsp, PvcsRcx, PvcsR11,
#pragma warning restore CS1591

    /// <summary>1 in the guest's user mode, 0 in its kernel.</summary>
    PvmUserMode,

    /// <summary>1 while NMIs are held back.</summary>
    NmiMasked,

    /// <summary>Stack pointer with which Xen enters the guest kernel from user mode (HYPERVISOR_stack_switch).</summary>
    XenKernelSp,

    /// <summary>Stack selector with which Xen enters the guest kernel from user mode.</summary>
    XenKernelSs,

    /// <summary>The byte evtchn_upcall_mask of the vcpu_info.</summary>
    XenUpcallMask,

    /// <summary>The byte evtchn_upcall_pending of the vcpu_info.</summary>
    XenUpcallPending,

    /// <summary>Bytes 2 to 7 of the vcpu_info, which have no name; frames show the first three of them.</summary>
    XenVcpuInfoPad,

    /// <summary>Enabled assists, a bit each (HYPERVISOR_vm_assist).</summary>
    XenVmAssist,

    /// <summary>The guest's virtual IOPL, 0 to 3.</summary>
    XenIopl,
}

/// <summary>Values of some <see cref="SystemRegister"/>s. Immutable; what is not stated is 0 at the start of a case and not compared at its end.</summary>
public sealed class SystemState : IEquatable<SystemState>
{
    private SystemState(ImmutableArray<KeyValuePair<SystemRegister, ulong>> values) => Values = values;

    /// <summary>Nothing stated.</summary>
    public static SystemState Empty { get; } = new([]);

    /// <summary>What is stated, in register order, each once.</summary>
    public ImmutableArray<KeyValuePair<SystemRegister, ulong>> Values { get; }

    /// <summary>Value of one register; 0 when it is not stated.</summary>
    public ulong this[SystemRegister register] => TryGet(register, out ulong value) ? value : 0;

    /// <summary>Makes a state.</summary>
    /// <param name="values">In any order.</param>
    /// <exception cref="ArgumentException">A register is stated twice.</exception>
    public static SystemState Of(params IEnumerable<KeyValuePair<SystemRegister, ulong>> values)
    {
        ImmutableArray<KeyValuePair<SystemRegister, ulong>> sorted = [.. values.OrderBy(v => v.Key)];
        for (int i = 1; i < sorted.Length; i++)
        {
            if (sorted[i].Key == sorted[i - 1].Key)
            {
                throw new ArgumentException($"{sorted[i].Key} is stated twice", nameof(values));
            }
        }

        return sorted.IsEmpty ? Empty : new SystemState(sorted);
    }

    /// <summary>Makes a state from values that are in register order already, each once.</summary>
    public static SystemState OfSorted(ImmutableArray<KeyValuePair<SystemRegister, ulong>> values) => values.IsEmpty ? Empty : new SystemState(values);

    /// <summary>A copy with one value set.</summary>
    public SystemState With(SystemRegister register, ulong value)
    {
        int at = IndexOf(register);
        KeyValuePair<SystemRegister, ulong> pair = KeyValuePair.Create(register, value);
        return new SystemState(at >= 0 ? Values.SetItem(at, pair) : Values.Insert(~at, pair));
    }

    /// <summary>A copy that does not state a register.</summary>
    public SystemState Without(SystemRegister register) => IndexOf(register) is int at and >= 0 ? OfSorted(Values.RemoveAt(at)) : this;

    /// <summary>Looks a register up.</summary>
    /// <returns>False when it is not stated.</returns>
    public bool TryGet(SystemRegister register, out ulong value)
    {
        int at = IndexOf(register);
        value = at >= 0 ? Values[at].Value : 0;
        return at >= 0;
    }

    /// <inheritdoc/>
    public bool Equals(SystemState? other) => ReferenceEquals(this, other) || (other is not null && Values.AsSpan().SequenceEqual(other.Values.AsSpan()));

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as SystemState);

    /// <inheritdoc/>
    public override int GetHashCode() => Values.Length == 0 ? 0 : HashCode.Combine(Values.Length, Values[0], Values[^1]);

    private int IndexOf(SystemRegister register)
    {
        int low = 0;
        int high = Values.Length - 1;
        while (low <= high)
        {
            int middle = (low + high) >> 1;
            SystemRegister key = Values[middle].Key;
            if (key == register)
            {
                return middle;
            }

            if (key < register)
            {
                low = middle + 1;
            }
            else
            {
                high = middle - 1;
            }
        }

        return ~low;
    }
}
