using static PvDiffFuzz.Backends.Kvm.KvmAbi;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>A virtual machine.</summary>
internal sealed unsafe class KvmVm : KvmDescriptor
{
    private readonly int _vcpuMappingSize;

    /// <summary>Takes over the descriptor of a new machine.</summary>
    /// <param name="fd">The descriptor.</param>
    /// <param name="vcpuMappingSize">Bytes of <c>struct kvm_run</c> and what follows it.</param>
    /// <param name="kernel">The kernel whose descriptor it is.</param>
    public KvmVm(int fd, int vcpuMappingSize, KernelPort kernel)
        : base(fd, kernel) => _vcpuMappingSize = vcpuMappingSize;

    /// <summary>Lets programs see and forget a shutdown that is pending.</summary>
    /// <returns>False where KVM has no such event (Linux before 6.1).</returns>
    public bool TryEnableTripleFaultEvent()
    {
        byte* capability = stackalloc byte[SizeOfEnableCap];
        new Span<byte>(capability, SizeOfEnableCap).Clear();
        *(uint*)capability = KVM_CAP_X86_TRIPLE_FAULT_EVENT;
        *(ulong*)(capability + OffsetOfEnableArguments) = 1;

        // SAFETY: the kernel reads one structure.
        return TryCall(KVM_ENABLE_CAP, capability) >= 0;
    }

    /// <summary>Makes the only virtual processor.</summary>
    /// <param name="tripleFaultEvent">What <see cref="TryEnableTripleFaultEvent"/> has answered.</param>
    /// <exception cref="KvmException">The kernel refused.</exception>
    public KvmVcpu CreateVcpu(bool tripleFaultEvent = false) =>
        new(Call(KVM_CREATE_VCPU, null, nameof(KVM_CREATE_VCPU)), _vcpuMappingSize, Kernel) { HasTripleFaultEvent = tripleFaultEvent };

    /// <summary>Reserves three pages of guest memory, which KVM wants on older Intel processors.</summary>
    /// <exception cref="KvmException">The kernel refused.</exception>
    public void SetTssAddress(ulong guestAddress) => Call(KVM_SET_TSS_ADDR, (void*)guestAddress, nameof(KVM_SET_TSS_ADDR));

    /// <summary>Gives the guest memory from address 0 on, or takes it away.</summary>
    /// <param name="memory">First byte in this process, mapped as long as the machine has it.</param>
    /// <param name="size">Bytes; 0 takes the memory away.</param>
    /// <exception cref="KvmException">The kernel refused.</exception>
    public void SetMemory(byte* memory, ulong size) => SetMemory((ulong)memory, size);

    /// <summary>Gives the guest memory from address 0 on, or takes it away.</summary>
    /// <param name="memory">Address of the first byte as the kernel is to be told, mapped as long as the machine has it.</param>
    /// <param name="size">Bytes; 0 takes the memory away.</param>
    /// <exception cref="KvmException">The kernel refused.</exception>
    public void SetMemory(ulong memory, ulong size)
    {
        // SAFETY: the kernel reads one structure; the caller keeps the memory mapped.
        KvmUserspaceMemoryRegion region = new() { Slot = 0, GuestPhysAddr = 0, MemorySize = size, UserspaceAddr = memory };
        Call(KVM_SET_USER_MEMORY_REGION, &region, nameof(KVM_SET_USER_MEMORY_REGION));
    }
}
