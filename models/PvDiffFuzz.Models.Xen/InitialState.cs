using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen;

/// <summary>How the first virtual CPU of a PV guest starts.</summary>
/// <param name="Registers">Registers at the entry that the kernel's ELF note names.</param>
/// <param name="System">What Xen keeps for the virtual CPU. No handler and no callback is registered.</param>
public sealed record InitialState(RegisterState Registers, SystemState System)
{
    /// <summary>Upcalls are masked until the guest has somewhere to take them.</summary>
    private const ulong Masked = 1;

    /// <summary>A 64-bit guest: flat code and stack of ring 3, null in the other selectors, RSI at the start info.</summary>
    /// <param name="entry">Address of the first instruction.</param>
    /// <param name="stack">Top of the boot stack.</param>
    /// <param name="startInfo">Address of the start info.</param>
    [Spec("Xen PV segments", "64-bit guest")]
    [Spec("Xen facts", "Selectors and boot state: PV64")]
    [Spec("xen-readings", "boot-stack-selector")]
    public static InitialState Of64(ulong entry, ulong stack, ulong startInfo) =>
        Of(entry, stack, startInfo, XenMap.FlatCode64, XenMap.FlatData, data: 0);

    /// <summary>A 32-bit guest: flat code of ring 1, flat data of ring 1 in all other selectors, ESI at the start info.</summary>
    /// <inheritdoc cref="Of64" path="/param"/>
    [Spec("Xen PV segments", "32-bit guest")]
    [Spec("Xen facts", "Selectors and boot state: PV32")]
    public static InitialState Of32(uint entry, uint stack, uint startInfo) =>
        Of(entry, stack, startInfo, XenMap.KernelCode32, XenMap.KernelData32, XenMap.KernelData32);

    /// <summary>All other registers are 0; the stack for events is the boot stack.</summary>
    [Spec("Xen facts", "Selectors and boot state: registers")]
    private static InitialState Of(ulong entry, ulong stack, ulong startInfo, ushort code, ushort ss, ushort data)
    {
        RegisterState registers = new()
        {
            Gpr = default,
            Rip = entry,
            Rflags = RflagsBits.IF | RflagsBits.Fixed1,
            Cs = code,
            Ss = ss,
            Ds = data,
            Es = data,
            Fs = data,
            Gs = data,
        };
        SystemState system = SystemState.Of(
            new(SystemRegister.Dr6, Vcpu.ResetDr6),
            new(SystemRegister.Dr7, Vcpu.ResetDr7),
            new(SystemRegister.XenKernelSp, stack),
            new(SystemRegister.XenKernelSs, ss),
            new(SystemRegister.XenUpcallMask, Masked),
            new(SystemRegister.XenIopl, 0));
        return new InitialState(registers.With(Register.Rsp, stack).With(Register.Rsi, startInfo), system);
    }
}
