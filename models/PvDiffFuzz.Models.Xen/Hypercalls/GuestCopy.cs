using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Hypercalls;

/// <summary>Accesses of Xen to the structures that a guest's kernel names in hypercalls: with the kernel's page tables, never in Xen's own range.</summary>
internal static class GuestCopy
{
    /// <summary>Reads a value.</summary>
    /// <returns>False when the call fails with -EFAULT.</returns>
    [Spec("Xen facts", "Hypercall ABI: guest memory that cannot be accessed")]
    public static bool TryRead<TGuest, T>(Vcpu vcpu, ulong address, out T value)
        where TGuest : struct, IXenGuest
        where T : unmanaged
    {
        value = default;
        if (!CanRead<TGuest>(vcpu, address, System.Runtime.CompilerServices.Unsafe.SizeOf<T>()))
        {
            return false;
        }

        value = vcpu.Memory.Read<T>(address);
        return true;
    }

    /// <summary>Reads a pointer or a value as wide as one.</summary>
    /// <returns>False when the call fails with -EFAULT.</returns>
    public static bool TryReadLong<TGuest>(Vcpu vcpu, ulong address, out ulong value)
        where TGuest : struct, IXenGuest
    {
        if (TGuest.PointerSize == sizeof(ulong))
        {
            return TryRead<TGuest, ulong>(vcpu, address, out value);
        }

        bool read = TryRead<TGuest, uint>(vcpu, address, out uint narrow);
        value = narrow;
        return read;
    }

    /// <summary>Tells whether some bytes can be read.</summary>
    public static bool CanRead<TGuest>(Vcpu vcpu, ulong address, int bytes)
        where TGuest : struct, IXenGuest =>
        IsGuests<TGuest>(address, (ulong)bytes) && vcpu.Memory.CanRead(address, bytes, out _, out _);

    /// <summary>Writes a value as wide as a pointer.</summary>
    /// <returns>False when the call fails with -EFAULT.</returns>
    public static bool TryWriteLong<TGuest>(Vcpu vcpu, ulong address, ulong value)
        where TGuest : struct, IXenGuest
    {
        if (!IsGuests<TGuest>(address, (ulong)TGuest.PointerSize) || !vcpu.Memory.CanWrite(address, TGuest.PointerSize, out _, out _))
        {
            return false;
        }

        if (TGuest.PointerSize == sizeof(ulong))
        {
            vcpu.Memory.Write(address, value);
        }
        else
        {
            vcpu.Memory.Write(address, (uint)value);
        }

        return true;
    }

    private static bool IsGuests<TGuest>(ulong address, ulong bytes)
        where TGuest : struct, IXenGuest =>
        TGuest.IsGuestAddress(address) && TGuest.IsGuestAddress(address + bytes - 1) && address + bytes - 1 >= address;
}
