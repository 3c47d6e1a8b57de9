using Microsoft.Win32.SafeHandles;
using PvDiffFuzz.Backends.Interop;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>A descriptor that speaks ioctl. Each kind has a type of its own, so that no call can go to the wrong one.</summary>
internal abstract unsafe class KvmDescriptor : SafeHandleMinusOneIsInvalid
{
    /// <summary>Takes over a descriptor.</summary>
    protected KvmDescriptor(int fd, KernelPort kernel)
        : base(ownsHandle: true)
    {
        Kernel = kernel;
        SetHandle(fd);
    }

    /// <summary>The kernel whose descriptor it is.</summary>
    public KernelPort Kernel { get; }

    /// <summary>The number of the descriptor.</summary>
    protected int Number => (int)handle;

    /// <summary>Makes a call.</summary>
    /// <param name="request">Its number.</param>
    /// <param name="argument">A number, or the address of a structure.</param>
    /// <param name="name">Its name in the headers, for messages.</param>
    /// <returns>What the kernel answered, 0 or more.</returns>
    /// <exception cref="KvmException">The kernel refused.</exception>
    protected int Call(ulong request, void* argument, string name)
    {
        int result = TryCall(request, argument);
        return result >= 0 ? result : throw new KvmException(name, -result);
    }

    /// <summary>Makes a call that may be refused.</summary>
    /// <returns>0 or more, or a negative error number.</returns>
    protected int TryCall(ulong request, void* argument)
    {
        ObjectDisposedException.ThrowIf(IsClosed, this);

        // SAFETY: the caller passes what the request takes; the kernel does not keep the pointer.
        return Kernel.Ioctl((int)handle, request, argument);
    }

    /// <inheritdoc/>
    protected override bool ReleaseHandle() => Kernel.Close((int)handle);
}

/// <summary>KVM refused a call.</summary>
internal sealed class KvmException : IOException
{
    /// <summary>Makes the exception.</summary>
    /// <param name="call">Name of the ioctl.</param>
    /// <param name="error">Its error number.</param>
    public KvmException(string call, int error)
        : base($"{call}: {PosixException.Describe(error)} (errno {error})")
    {
        Call = call;
        Error = error;
    }

    /// <summary>Name of the ioctl.</summary>
    public string Call { get; }

    /// <summary>Error number.</summary>
    public int Error { get; }

    /// <summary>What a person can do about it.</summary>
    public string Cure => Call switch
    {
        "KVM_CREATE_VM" => "look whether another hypervisor uses the processor's virtualisation, and at the kernel's messages (dmesg)",
        "KVM_SET_SREGS" or "KVM_SET_XCRS" => "this KVM does not take the state that cases need (long mode with FSGSBASE); use a newer kernel or another host",
        "KVM_CREATE_VCPU" or "KVM_SET_USER_MEMORY_REGION" => "free memory, or raise the limits of this process",
        _ => "use a kernel whose KVM has this call; see the kernel's messages (dmesg)",
    };
}
