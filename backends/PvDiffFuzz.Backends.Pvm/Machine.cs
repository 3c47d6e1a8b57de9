using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>A virtual machine with one processor whose memory has the page tables and the agent of a plan. Between cases its pool is zero.</summary>
internal sealed unsafe class Machine : IDisposable
{
    // SAFETY: pointers go into _memory only, at places that the plan has laid out within its length, and are not kept beyond it.
    private readonly GuestMemory _memory;
    private readonly List<(int Start, byte[] Bytes)> _own = [];
    private KvmVm _vm;

    private Machine(GuestPlan plan, KvmVm vm, KvmVcpu vcpu, GuestMemory memory)
    {
        Plan = plan;
        _vm = vm;
        Vcpu = vcpu;
        _memory = memory;
        Pages = CasePages.Create(plan.Supervisor, plan.UserPages);
        Code = new CodeChanges(memory, Pages);
    }

    /// <summary>What it was built for.</summary>
    public GuestPlan Plan { get; }

    /// <summary>The processor.</summary>
    public KvmVcpu Vcpu { get; private set; }

    /// <summary>The pages of the case.</summary>
    public CasePages Pages { get; }

    /// <summary>What of the guest's code has changed.</summary>
    public CodeChanges Code { get; }

    /// <summary>All memory of the guest.</summary>
    public Span<byte> Memory => new(_memory.Start, GuestMap.Size);

    /// <summary>The pages of the case, in the order of <see cref="Pages"/>.</summary>
    public Span<byte> Pool => Memory.Slice(GuestMap.Pool, Pages.Count * PageLayout.PageSize);

    /// <summary>The bytes of the per-VCPU structure.</summary>
    public Span<byte> Pvcs => Memory.Slice(Plan.VcpuStruct, PvcsLayout.Size);

    /// <summary>Writes into the guest's memory behind all that the processor was asked for.</summary>
    /// <param name="place">Where, guest-physical.</param>
    /// <param name="bytes">What.</param>
    public void Store(int place, ReadOnlySpan<byte> bytes) => Vcpu.Kernel.Store(_memory, place, bytes);

    /// <summary>Builds a machine.</summary>
    /// <param name="system">The device.</param>
    /// <param name="cpuid">What CPUID shows.</param>
    /// <param name="plan">What it is for.</param>
    /// <param name="agent">The guest's supervisor.</param>
    /// <exception cref="KvmException">KVM refused a call.</exception>
    /// <exception cref="PosixException">Memory could not be had.</exception>
    public static Machine Create(KvmSystem system, byte[] cpuid, GuestPlan plan, GuestAgent agent)
    {
        GuestMemory? memory = null;
        try
        {
            memory = system.Kernel.Allocate("pvdf-pvm-guest", GuestMap.Size);
            (KvmVm vm, KvmVcpu vcpu) = Processor(system, cpuid, memory);
            Machine machine = new(plan, vm, vcpu, memory);
            int tables = Write(machine.Memory, plan, machine.Pages, agent);
            foreach ((int start, int length) in (ReadOnlySpan<(int, int)>)
                [(plan.SupervisorRoot, PageLayout.PageSize), (plan.UserRoot, PageLayout.PageSize), (GuestMap.Tables, tables - GuestMap.Tables), (GuestMap.EntryPages, GuestMap.AgentData - GuestMap.EntryPages), (GuestMap.AgentProgram, GuestMap.AgentProgramSize)])
            {
                machine._own.Add((start, machine.Memory.Slice(start, length).ToArray()));
            }

            return machine;
        }
        catch
        {
            memory?.Dispose();
            throw;
        }
    }

    /// <summary>Replaces the virtual machine; its memory, page tables and agent stay. The pool is to be cleared by the caller.</summary>
    /// <param name="system">The device.</param>
    /// <param name="cpuid">What CPUID shows.</param>
    /// <exception cref="KvmException">KVM refused a call; the machine has to go.</exception>
    public void Renew(KvmSystem system, byte[] cpuid)
    {
        Vcpu.Dispose();
        _vm.Dispose();
        (_vm, Vcpu) = Processor(system, cpuid, _memory);
    }

    /// <summary>Writes page tables and agent.</summary>
    /// <param name="memory">The guest's memory, all zero.</param>
    /// <param name="plan">What it is for.</param>
    /// <param name="pages">Where the pages of the case lie.</param>
    /// <param name="agent">The agent.</param>
    /// <returns>End of the page tables.</returns>
    public static int Write(Span<byte> memory, GuestPlan plan, CasePages pages, GuestAgent agent)
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
        foreach ((ulong page, int physical) in plan.EntryPages())
        {
            tables.Map(plan.SupervisorRoot, page, physical, code);
        }

        foreach ((AgentPort port, ulong address) in plan.Pads())
        {
            WriteEntry(memory, plan, address, AgentCode.Jump(port));
            agent.Landing(port).CopyTo(memory[AgentCode.LandingOf(port)..]);
        }

        agent.Bytes.CopyTo(memory[GuestMap.AgentProgram..]);
        agent.Landing(AgentPort.End).CopyTo(memory[AgentCode.LandingOf(AgentPort.End)..]);
        for (int at = GuestMap.MailboxPage; at < GuestMap.Size; at += PageLayout.PageSize)
        {
            tables.Map(plan.SupervisorRoot, GuestMap.BatchLinear(at), at, at is >= GuestMap.AgentProgram and < GuestMap.Request ? code : data);
        }

        for (int at = 0; at < pages.Count * PageLayout.PageSize; at += PageLayout.PageSize)
        {
            tables.Map(plan.SupervisorRoot, GuestMap.PoolAddress + (ulong)at, GuestMap.Pool + at, data);
        }

        return tables.End;
    }

    /// <summary>Puts page tables, entries and agent back where the guest has written over them, or had the hypervisor do so, which translates by them no longer: the processor has to be replaced then.</summary>
    /// <returns>True when something was changed.</returns>
    public bool Restore()
    {
        bool changed = false;
        foreach ((int start, byte[] bytes) in _own)
        {
            Span<byte> now = Memory.Slice(start, bytes.Length);
            if (!now.SequenceEqual(bytes))
            {
                changed = true;
                bytes.CopyTo(now);
                _memory.Written(start, bytes.Length);
            }
        }

        return changed;
    }

    private static void WriteEntry(Span<byte> memory, GuestPlan plan, ulong address, byte[] jump)
    {
        for (int i = 0; i < jump.Length; i++)
        {
            ulong at = address + (ulong)i;
            memory[plan.EntryPages().First(p => p.Page == (at & ~0xfffUL)).Physical + (int)(at & 0xfff)] = jump[i];
        }
    }

    private static (KvmVm Vm, KvmVcpu Vcpu) Processor(KvmSystem system, byte[] cpuid, GuestMemory memory)
    {
        KvmVm? vm = null;
        KvmVcpu? vcpu = null;
        try
        {
            vm = system.CreateVm();
            vm.SetMemory(memory.Address, GuestMap.Size);
            vcpu = vm.CreateVcpu(vm.TryEnableTripleFaultEvent());
            vcpu.SetCpuid(cpuid);
            vcpu.SetSignalMask(RunTimer.BlockedWhileRunning);
            return (vm, vcpu);
        }
        catch
        {
            vcpu?.Dispose();
            vm?.Dispose();
            throw;
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
