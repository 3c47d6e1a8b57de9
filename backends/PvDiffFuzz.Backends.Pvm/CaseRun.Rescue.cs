using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <content>The way out of user mode for a processor whose guest has shut down there.</content>
internal sealed partial class CaseRun
{
    /// <summary>Brings the processor back to supervisor mode, where ioctls can load everything.</summary>
    /// <returns>False when it cannot be brought back; the virtual machine is to be replaced then.</returns>
    /// <remarks>
    /// No ioctl changes the mode, but a delivery does: with a structure and an entry that work, user mode faults at its next fetch and the hypervisor delivers the fault to the agent. That is
    /// a thousand times quicker than a new virtual machine.
    /// </remarks>
    public async ValueTask<bool> TryRescueAsync()
    {
        _state.Forget();
        _warmFor = null;
        try
        {
            machine.Vcpu.WantsInterruptWindow = false;

            // An IN of the payload is completed at the next run, whoever's that is.
            machine.Vcpu.ImmediateExit = true;
            await machine.Vcpu.RunAsync(RunReads.Registers).ConfigureAwait(false);
            machine.Vcpu.ImmediateExit = false;
            machine.Vcpu.SetNmiMask(false);
            machine.Vcpu.GetSregs(out KvmSregs sregs);
            if (sregs.Cs.Dpl == 0)
            {
                return true;
            }

            sregs.Cr3 = (ulong)machine.Plan.SupervisorRoot;
            machine.Vcpu.SetSregs(in sregs);
            _state.LoadMsrs(
                (SystemRegister.PvmVcpuStruct, (ulong)machine.Plan.VcpuStruct),
                (SystemRegister.PvmEventEntry, GuestMap.AgentAddress + AgentCode.WarmEntry),
                (SystemRegister.PvmSwitchCr3, (ulong)machine.Plan.SupervisorRoot));
            machine.Pvcs.Clear();
            KvmRegs regs = new() { Rip = GuestMap.AgentDataAddress, Rflags = Core.RflagsBits.Fixed1 };
            machine.Vcpu.SetRegs(in regs);
            bool back = await WaitAsync(returning: null, RunReads.Registers).ConfigureAwait(false) == Stop.Port && machine.Vcpu.IoPort == (ushort)AgentPort.UserEntry && IsInSupervisorMode();

            // A delivery from user mode replaces the segments, too.
            _crashed &= !back;
            return back;
        }
        catch (KvmException)
        {
            return false;
        }
    }
}
