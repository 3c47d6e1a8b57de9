using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Xen.Hypercalls;

/// <summary>Calls to Xen of the guest's kernel: which one it is, its arguments, its result.</summary>
internal static class Dispatcher
{
    /// <summary>Most arguments of a hypercall.</summary>
    private const int MaximumArguments = 6;

    /// <summary>Carries a hypercall out. All of RAX is the number, and RAX is the result.</summary>
    [Spec("Xen hypercall ABI", "Registers")]
    [Spec("Xen hypercall ABI", "Parameters")]
    public static void Execute<TGuest>(ref CpuState cpu, Vcpu vcpu)
        where TGuest : struct, IXenGuest
    {
        bool narrow = TGuest.PointerSize == sizeof(uint);
        ulong number = narrow ? cpu.Read<uint>(Gpr.Rax) : cpu.Read<ulong>(Gpr.Rax);
        if (number == HypercallNumbers.Iret)
        {
            TGuest.ReturnByStack(ref cpu, vcpu);
            return;
        }

        Span<ulong> arguments = stackalloc ulong[MaximumArguments];
        ReadOnlySpan<byte> registers = TGuest.ArgumentRegisters();
        for (int i = 0; i < registers.Length; i++)
        {
            arguments[i] = narrow ? cpu.Read<uint>(registers[i]) : cpu.Read<ulong>(registers[i]);
        }

        long result = Call<TGuest>(ref cpu, vcpu, number, arguments);
        if (vcpu.Verdict is not (Verdict.Running or Verdict.Halt))
        {
            return;
        }

        if (narrow)
        {
            cpu.Write(Gpr.Rax, (uint)result);
        }
        else
        {
            cpu.Write(Gpr.Rax, (ulong)result);
        }

        if (vcpu.Release.Version.Debug && result != Errno.ENOSYS)
        {
            Poison<TGuest>(ref cpu, HypercallNumbers.ArgumentsOf(number, narrow));
        }
    }

    /// <summary>Carries a hypercall out, whether from registers or from a list.</summary>
    /// <returns>Its result; of no meaning when the run has ended.</returns>
    [Spec("Xen facts", "Hypercall ABI: arguments of 32 bits")]
    public static long Call<TGuest>(ref CpuState cpu, Vcpu vcpu, ulong number, scoped ReadOnlySpan<ulong> arguments)
        where TGuest : struct, IXenGuest
    {
        switch (number)
        {
            case HypercallNumbers.SetTrapTable:
                return TrapTable.Set<TGuest>(ref cpu, vcpu, arguments[0]);
            case HypercallNumbers.SetGdt:
                return DescriptorTables.SetGdt<TGuest>(ref cpu, vcpu, arguments[0], arguments[1]);
            case HypercallNumbers.StackSwitch:
                return Stacks.Switch<TGuest>(vcpu, arguments[0], arguments[1]);
            case HypercallNumbers.SetCallbacks:
                return Callbacks.SetAll<TGuest>(ref cpu, vcpu, arguments);
            case HypercallNumbers.FpuTaskswitch:
                return Fpu.Taskswitch(vcpu, (uint)arguments[0]);
            case HypercallNumbers.SchedOpCompat:
                return Scheduling.ExecuteCompat(vcpu, arguments[0], arguments[1]);
            case HypercallNumbers.SetDebugreg:
                return DebugRegisterFile.Set<TGuest>(ref cpu, vcpu, (uint)arguments[0], arguments[1]);
            case HypercallNumbers.GetDebugreg:
                return DebugRegisterFile.Get(vcpu, (uint)arguments[0]);
            case HypercallNumbers.UpdateDescriptor:
                return DescriptorTables.Update<TGuest>(vcpu, arguments);
            case HypercallNumbers.Multicall:
                return Multicall.Execute<TGuest>(ref cpu, vcpu, arguments[0], arguments[1]);
            case HypercallNumbers.XenVersion:
                return Version.Execute(vcpu, arguments[0], arguments[1]);
            case HypercallNumbers.ConsoleIo:
                return Console.Execute<TGuest>(ref cpu, vcpu, arguments[0], arguments[1], arguments[2]);
            case HypercallNumbers.VmAssist:
                return Assists.Execute<TGuest>(vcpu, arguments[0], arguments[1]);
            case HypercallNumbers.VcpuOp:
                return Scheduling.ExecuteVcpuOp(vcpu, arguments[0], arguments[1]);
            case HypercallNumbers.SetSegmentBase when TGuest.PointerSize == sizeof(ulong):
                return SegmentBases.Set(ref cpu, vcpu, (uint)arguments[0], arguments[1]);
            case HypercallNumbers.NmiOp:
                return Callbacks.ExecuteNmiOp<TGuest>(ref cpu, vcpu, (uint)arguments[0], arguments[1]);
            case HypercallNumbers.SchedOp:
                return Scheduling.Execute<TGuest>(ref cpu, vcpu, arguments[0], arguments[1]);
            case HypercallNumbers.CallbackOp:
                return Callbacks.Execute<TGuest>(ref cpu, vcpu, (uint)arguments[0], arguments[1]);
            case HypercallNumbers.PhysdevOp:
                return PhysicalDevices.Execute<TGuest>(ref cpu, vcpu, arguments[0], arguments[1]);
            default:
                return Other<TGuest>(vcpu, number);
        }
    }

    /// <summary>Debug builds write over the arguments that a call takes, since it may clobber them.</summary>
    [Spec("Xen hypercall ABI", "Parameters: debug builds poison the parameter registers")]
    [Spec("Xen facts", "Hypercall ABI: debug builds")]
    private static void Poison<TGuest>(ref CpuState cpu, int count)
        where TGuest : struct, IXenGuest
    {
        foreach (byte register in TGuest.ArgumentRegisters()[..Math.Min(count, TGuest.ArgumentRegisters().Length)])
        {
            cpu.Write(register, TGuest.Poison);
        }
    }

    /// <summary>Numbers that no release has, or this one has not, are -ENOSYS. The rest is about memory, devices and other domains, which are no part of a case.</summary>
    [Spec("Xen facts", "Hypercall numbers")]
    [Spec("Xen facts", "Version table: xenoprof")]
    private static long Other<TGuest>(Vcpu vcpu, ulong number)
        where TGuest : struct, IXenGuest
    {
        if (HypercallNumbers.ArgumentsOf(number, TGuest.PointerSize == sizeof(uint)) < 0 || (number == HypercallNumbers.XenoprofOp && !vcpu.Release.HasXenoprof))
        {
            return Errno.ENOSYS;
        }

        return NotModelled(vcpu, "a hypercall about memory, devices or other domains, which are no part of a case");
    }

    /// <summary>Ends the run where the result is no part of the case.</summary>
    public static long NotModelled(Vcpu vcpu, string reason)
    {
        vcpu.End(Verdict.Unsupported, reason);
        return 0;
    }
}
