using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>What a payload may do to the state that Xen and the agent keep, by what its bytes could execute.</summary>
[Flags]
internal enum Effects
{
    /// <summary>Nothing but registers and memory of the case.</summary>
    None = 0,

    /// <summary>It can call Xen: everything that it can register may be otherwise afterwards.</summary>
    Calls = 1,

    /// <summary>It can write debug registers.</summary>
    WritesDebug = 2,

    /// <summary>It can read DR6.</summary>
    ReadsDebug = 4,

    /// <summary>It can write MSRs, that of the other GS base among them.</summary>
    WritesMsr = 8,

    /// <summary>It can change CR0.TS.</summary>
    ChangesTaskSwitched = 16,

    /// <summary>It can see or change CR4, or be told whether the instructions for segment bases are on.</summary>
    SeesCr4 = 32,

    /// <summary>It can read CR2.</summary>
    ReadsCr2 = 64,

    /// <summary>User code can run.</summary>
    UserMode = 128,

    /// <summary>It can load a selector, or the base itself, of GS.</summary>
    LoadsGs = 512,

    /// <summary>It makes, or seems to make, a call whose effects nothing but the snapshot undoes.</summary>
    Lasting = 256,
}

/// <summary>Reads effects off a case. A jump can land anywhere, so every byte counts as the beginning of an instruction.</summary>
internal static class Payload
{
    /// <summary>
    /// Hypercalls that change only what is set anew for every case, or nothing that a case sees: set_trap_table, set_gdt, stack_switch, set_callbacks, fpu_taskswitch, sched_op_compat,
    /// set_debugreg, get_debugreg, update_descriptor (without a machine address), multicall, set_timer_op, xen_version, console_io, vm_assist, iret, set_segment_base, nmi_op, sched_op,
    /// callback_op, physdev_op. What a multicall does besides is seen when the page tables are looked at.
    /// </summary>
    private const ulong Undone = (1UL << 0) | (1UL << 2) | (1UL << 3) | (1UL << 4) | (1UL << 5) | (1UL << 6) | (1UL << 8) | (1UL << 9) | (1UL << 10) | (1UL << 13) | (1UL << 15)
        | (1UL << 17) | (1UL << 18) | (1UL << 21) | (1UL << 23) | (1UL << 25) | (1UL << 28) | (1UL << 29) | (1UL << 30) | (1UL << 33);

    private const int Numbers = 56;

    /// <summary>Reads a case.</summary>
    public static Effects Of(TestCase testCase)
    {
        // Whether kernel code runs: at the start, or after a return to it.
        bool user = testCase.Start == GuestMode.User;
        bool kernel = !user;
        Effects effects = Effects.None;
        foreach (Response response in testCase.Responses)
        {
            foreach ((Register register, ulong value) in response.Patches)
            {
                effects |= register is Register.Gs or Register.GsBase ? Effects.LoadsGs : Effects.None;
                kernel |= register == Register.Cs && (value & 3) != 3;
                user |= register == Register.Cs && (value & 3) == 3;
            }

            foreach (Hypercall call in response.Hypercalls)
            {
                effects |= Effects.Calls | Effects.ChangesTaskSwitched;
                effects |= IsLasting(call.Number) ? Effects.Lasting : Effects.None;
            }
        }

        effects |= user ? Effects.UserMode : Effects.None;
        effects |= OfBytes(testCase.Code.Bytes.AsSpan(), kernel);
        foreach (MemoryContents contents in testCase.Contents)
        {
            effects |= OfBytes(contents.Bytes.AsSpan(), kernel);
        }

        if (kernel && (effects & Effects.Calls) != 0)
        {
            effects |= NamesLastingCall(testCase) ? Effects.UserMode | Effects.Lasting : Effects.UserMode;
        }

        return effects;
    }

    private static Effects OfBytes(ReadOnlySpan<byte> bytes, bool kernel)
    {
        // MOV to GS has no 0F before it.
        Effects effects = bytes.Contains((byte)0x8e) ? Effects.LoadsGs : Effects.None;
        while (bytes.IndexOf((byte)0x0f) is int at and >= 0 && at + 1 < bytes.Length)
        {
            byte second = bytes[at + 1];
            byte third = at + 2 < bytes.Length ? bytes[at + 2] : (byte)0;
            int register = (third >> 3) & 7;
            effects |= second switch
            {
                0x05 when kernel => Effects.Calls | Effects.ChangesTaskSwitched,
                0x06 when kernel => Effects.ChangesTaskSwitched,
                0x01 when kernel && register == 6 => Effects.ChangesTaskSwitched,
                0x20 when kernel => register == 4 ? Effects.SeesCr4 : register == 2 ? Effects.ReadsCr2 : Effects.None,
                0x22 when kernel => register == 4 ? Effects.SeesCr4 : register == 0 ? Effects.ChangesTaskSwitched : Effects.None,
                0x21 when kernel => Effects.ReadsDebug,
                0x23 when kernel => Effects.WritesDebug,
                0x30 when kernel => Effects.WritesMsr,
                0xae when register < 4 && third >= 0xc0 => Effects.SeesCr4 | Effects.LoadsGs,
                0xa9 or 0xb5 => Effects.LoadsGs,
                _ => Effects.None,
            };
            bytes = bytes[(at + 1)..];
        }

        return effects;
    }

    /// <summary>True when a SYSCALL of the code comes right after MOV EAX with the number of a hypercall that is not undone, or after something else and RAX is one at the start.</summary>
    private static bool NamesLastingCall(TestCase testCase)
    {
        const int loadLength = 5;
        const byte loadEax = 0xb8;
        ReadOnlySpan<byte> code = testCase.Code.Bytes.AsSpan();
        for (int i = 0; i + 1 < code.Length; i++)
        {
            if (code[i] != 0x0f || code[i + 1] != 0x05)
            {
                continue;
            }

            int load = i - loadLength;
            bool prefixed = i > 0 && code[i - 1] is (0x48 or 0x66 or 0xf2 or 0xf3);
            load = prefixed && load > 0 && code[load - 1] == loadEax ? load - 1 : load;
            ulong number = load >= 0 && code[load] == loadEax ? BitConverter.ToUInt32(code[(load + 1)..]) : testCase.Registers.Gpr[(int)Register.Rax];
            if (IsLasting(number))
            {
                return true;
            }
        }

        return false;
    }

    private static bool IsLasting(ulong number) => number < Numbers && ((Undone >> (int)number) & 1) == 0;
}
