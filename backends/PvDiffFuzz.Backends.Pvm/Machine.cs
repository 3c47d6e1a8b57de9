using Microsoft.Win32.SafeHandles;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>A virtual machine with one processor whose memory has the page tables and the agent of a plan. Between cases its pool is zero.</summary>
internal sealed unsafe class Machine : IDisposable
{
    // SAFETY: pointers go into _memory only, at places that the plan has laid out within its length, and are not kept beyond it.
    private readonly KvmVm _vm;
    private readonly SafeMapping _memory;

    private Machine(GuestPlan plan, KvmVm vm, KvmVcpu vcpu, SafeMapping memory)
    {
        Plan = plan;
        _vm = vm;
        Vcpu = vcpu;
        _memory = memory;
        Pages = CasePages.Create(plan.Supervisor, plan.UserPages);
    }

    /// <summary>What it was built for.</summary>
    public GuestPlan Plan { get; }

    /// <summary>The processor.</summary>
    public KvmVcpu Vcpu { get; }

    /// <summary>The pages of the case.</summary>
    public CasePages Pages { get; }

    /// <summary>All memory of the guest.</summary>
    public Span<byte> Memory => new(_memory.Start, GuestMap.Size);

    /// <summary>The pages of the case, in the order of <see cref="Pages"/>.</summary>
    public Span<byte> Pool => Memory.Slice(GuestMap.Pool, Pages.Count * PageLayout.PageSize);

    /// <summary>The bytes of the per-VCPU structure.</summary>
    public Span<byte> Pvcs => Memory.Slice(Plan.VcpuStruct, PvcsLayout.Size);

    /// <summary>Builds a machine.</summary>
    /// <param name="system">The device.</param>
    /// <param name="cpuid">What CPUID shows.</param>
    /// <param name="plan">What it is for.</param>
    /// <exception cref="KvmException">KVM refused a call.</exception>
    /// <exception cref="PosixException">Memory could not be had.</exception>
    public static Machine Create(KvmSystem system, byte[] cpuid, GuestPlan plan)
    {
        using SafeFileHandle file = Memfd.Create("pvdf-pvm-guest", executable: false);
        Memfd.Resize(file, GuestMap.Size);
        SafeMapping? memory = null;
        KvmVm? vm = null;
        KvmVcpu? vcpu = null;
        try
        {
            memory = SafeMapping.Shared(file, GuestMap.Size);
            vm = system.CreateVm();
            vm.SetMemory(memory.Start, GuestMap.Size);
            vcpu = vm.CreateVcpu();
            vcpu.SetCpuid(cpuid);
            vcpu.SetSignalMask(RunTimer.BlockedWhileRunning);
            Machine machine = new(plan, vm, vcpu, memory);
            Write(machine.Memory, plan, machine.Pages);
            return machine;
        }
        catch
        {
            vcpu?.Dispose();
            vm?.Dispose();
            memory?.Dispose();
            throw;
        }
    }

    /// <summary>Writes page tables and agent.</summary>
    /// <param name="memory">The guest's memory, all zero.</param>
    /// <param name="plan">What it is for.</param>
    /// <param name="pages">Where the pages of the case lie.</param>
    public static void Write(Span<byte> memory, GuestPlan plan, CasePages pages)
    {
        const PageAccess code = PageAccess.Read | PageAccess.Execute | PageAccess.Supervisor;
        const PageAccess data = PageAccess.Read | PageAccess.Write | PageAccess.Supervisor;
        PageTables tables = new(memory);
        tables.Map(plan.SupervisorRoot, plan.Supervisor, pages);
        if (plan.User is PageLayout user)
        {
            tables.Map(plan.UserRoot, user, pages);
        }

        tables.Map(plan.SupervisorRoot, plan.VcpuStructAddress, plan.VcpuStruct, data);
        tables.Map(plan.SupervisorRoot, GuestMap.AgentAddress, GuestMap.Agent, code);
        tables.Map(plan.SupervisorRoot, GuestMap.AgentDataAddress, GuestMap.AgentData, data);
        AgentCode.Page().CopyTo(memory[GuestMap.Agent..]);
        Dictionary<ulong, int> entryPages = [];
        foreach ((AgentPort port, ulong address) in plan.Pads())
        {
            byte[] pad = AgentCode.Pad(port);
            for (int i = 0; i < pad.Length; i++)
            {
                ulong page = (address + (ulong)i) & ~0xfffUL;
                if (!entryPages.TryGetValue(page, out int physical))
                {
                    physical = GuestMap.EntryPages + (entryPages.Count * PageLayout.PageSize);
                    entryPages.Add(page, physical);
                    tables.Map(plan.SupervisorRoot, page, physical, code);
                }

                memory[physical + (int)((address + (ulong)i) & 0xfff)] = pad[i];
            }
        }
    }

    /// <inheritdoc/>
    public void Dispose()
    {
        Vcpu.Dispose();
        _vm.Dispose();
        _memory.Dispose();
    }
}
