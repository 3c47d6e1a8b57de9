using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>Which pages are there: two roots, the address ranges that a guest may use, and supervisor pages.</summary>
internal static class Paging
{
    private const ulong IndexOnes = 0xfe00_fe00_fe00_fe00;
    private const ulong IndexTops = 0x0100_0100_0100_0100;

    /// <summary>CR3 and MSR_PVM_SWITCH_CR3 change places. Nothing is flushed; the tables of a case do not change, so that no translation goes stale.</summary>
    [Spec("PVM rfc1", "MSR_PVM_SWITCH_CR3")]
    [Spec("PVM rfc1", "TLB")]
    public static void SwitchRoots(Vcpu vcpu)
    {
        vcpu.Exchange(SystemRegister.Cr3, SystemRegister.PvmSwitchCr3);
        (vcpu.Root, vcpu.SwitchRoot) = (vcpu.SwitchRoot, vcpu.Root);
    }

    /// <summary>User code may or may not use a supervisor page of its root, such as the structure's. Here it may not, and the other outcome is allowed as well.</summary>
    [Spec("PVM rfc1", "Paging")]
    public static void NoteSupervisorPage(Vcpu vcpu, ulong address)
    {
        bool structure = (vcpu.Root == 0 || vcpu.Case.Pvm!.UserLayout is null) && address - vcpu.Case.Pvm!.PvcsAddress < PageLayout.PageSize;
        if (structure || (PagesOf(vcpu).AccessAt(address) & PageAccess.Supervisor) != 0)
        {
            vcpu.Touched |= Choices.SupervisorBitIgnored;
        }
    }

    /// <summary>The pages under CR3.</summary>
    public static PageLayout PagesOf(Vcpu vcpu) => vcpu.Root == 1 ? vcpu.Case.UserPages : vcpu.Case.Layout;

    /// <summary>Tells whether MSR_PVM_LINEAR_ADDRESS_RANGE can have a value.</summary>
    /// <param name="value">The value.</param>
    /// <param name="five">True when linear addresses have 57 bits.</param>
    [Spec("PVM rfc1", "MSR_PVM_LINEAR_ADDRESS_RANGE")]
    public static bool IsRange(ulong value, bool five)
    {
        (ulong start4, ulong end4, ulong start5, ulong end5) = Split(value);
        return (value & (IndexOnes | IndexTops)) == (IndexOnes | IndexTops) && start4 < end4 && end4 < 0x1ff
            && (five ? start5 < end5 && end5 < 0x1ff : start5 == 0x1ff && end5 == 0x1ff);
    }

    /// <summary>Tells whether one value gives ranges that lie in those of another.</summary>
    [Spec("PVM rfc1", "MSR_PVM_LINEAR_ADDRESS_RANGE")]
    public static bool IsWithin(ulong inner, ulong outer)
    {
        (ulong start4, ulong end4, ulong start5, ulong end5) = Split(inner);
        (ulong first4, ulong last4, ulong first5, ulong last5) = Split(outer);
        return start4 >= first4 && end4 <= last4 && start5 >= first5 && end5 <= last5;
    }

    /// <summary>Tells whether a guest may use an address: the lower half and the ranges of MSR_PVM_LINEAR_ADDRESS_RANGE. Page tables are walked for no other.</summary>
    [Spec("PVM rfc1", "MSR_PVM_LINEAR_ADDRESS_RANGE")]
    [Spec("PVM rfc1", "Exclusive address ranges")]
    public static bool IsLegitimate(ulong range, ulong address)
    {
        (ulong start4, ulong end4, ulong start5, ulong end5) = Split(range);
        return address >> 63 == 0
            || (address >= (0x1fffe00 | start4) << 39 && address < (0x1fffe00 | end4) << 39)
            || (address >= (0xfe00 | start5) << 48 && address < (0xfe00 | end5) << 48);
    }

    /// <summary>A layout without the pages that lie outside the ranges.</summary>
    [Spec("PVM rfc1", "Exclusive address ranges")]
    public static PageLayout Confine(PageLayout layout, ulong range)
    {
        if (layout.Ranges.IsEmpty || layout.Ranges[^1].Address >> 63 == 0 || layout.Ranges.All(r => IsLegitimate(range, r.Address) && IsLegitimate(range, r.Last)))
        {
            return layout;
        }

        List<PageRange> kept = [];
        foreach (PageRange pages in layout.Ranges)
        {
            for (int i = 0; i < pages.Pages; i++)
            {
                ulong address = pages.Address + ((ulong)i * PageLayout.PageSize);
                if (IsLegitimate(range, address))
                {
                    kept.Add(new PageRange(address, 1, pages.Access));
                }
            }
        }

        return PageLayout.Create(kept);
    }

    /// <summary>Breakpoints on addresses outside the ranges are not active.</summary>
    [Spec("PVM rfc1", "Underlying states")]
    [Spec("PVM rfc1", "MSR_PVM_LINEAR_ADDRESS_RANGE")]
    public static DebugRegisters Confine(DebugRegisters debug, ulong range)
    {
        ulong dr7 = debug.Dr7;
        ReadOnlySpan<ulong> addresses = [debug.Dr0, debug.Dr1, debug.Dr2, debug.Dr3];
        for (int i = 0; i < addresses.Length; i++)
        {
            dr7 &= IsLegitimate(range, addresses[i]) ? ulong.MaxValue : ~(3UL << (2 * i));
        }

        return debug with { Dr7 = dr7 };
    }

    /// <summary>The ranges of a virtual CPU; the widest that there can be when the case does not say.</summary>
    public static ulong RangeOf(Vcpu vcpu, bool five) =>
        vcpu.Knows(SystemRegister.PvmLinearAddressRange) ? vcpu[SystemRegister.PvmLinearAddressRange] : Widest(five);

    /// <summary>The widest ranges that the constraints allow.</summary>
    public static ulong Widest(bool five) => five ? 0xfffe_ff00_fffe_ff00 : 0xffff_ffff_fffe_ff00;

    private static (ulong Start4, ulong End4, ulong Start5, ulong End5) Split(ulong value) =>
        (value & 0x1ff, value >> 16 & 0x1ff, value >> 32 & 0x1ff, value >> 48 & 0x1ff);
}
