using PvDiffFuzz.Backends.Agents;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>
/// What takes the host itself down where its processor is emulated, or makes another one of it: each row was seen to kill or to hang a host under QEMU 10 when the case ran alone, or to let cases behind it differ.
/// No processor does any of it.
/// </summary>
internal static class EmulatorEscapes
{
    private const ulong Virtual = RflagsBits.VIF | RflagsBits.VIP;

    /// <summary>Why the host cannot be used any more behind a case that <see cref="HasSpoilt"/> is true for.</summary>
    public const string Spoilt = "the emulator has carried out a return to virtual-8086 mode, and the host keeps VIF and VIP of its frame";

    /// <summary>True when a case shows VIF or VIP that it does not state: an IRETD with VM in its frame has set them, and since nothing but another one clears them, all cases behind it have them.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="outcome">What it has shown.</param>
    public static bool HasSpoilt(TestCase testCase, Outcome outcome)
    {
        ulong shown = outcome.Registers?.Rflags ?? 0;
        foreach (Event e in outcome.Events)
        {
            shown |= e.Registers.Rflags;
        }

        return (shown & Virtual) != 0 && !StatesVirtual(testCase);
    }

    private static bool StatesVirtual(TestCase testCase)
    {
        ulong stated = testCase.Registers.Rflags | (testCase.System.TryGet(SystemRegister.PvcsEflags, out ulong flags) ? flags : 0);
        foreach (Response response in testCase.Responses)
        {
            foreach ((Register register, ulong value) in response.Patches)
            {
                stated |= register == Register.Rflags ? value : 0;
            }
        }

        return (stated & Virtual) != 0;
    }

    /// <summary>Tells why a case must not run under an emulator.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="vendor">Maker of the emulated processor.</param>
    /// <returns>Null when nothing is known against it.</returns>
    public static string? Trouble(TestCase testCase, CpuVendor vendor)
    {
        if (testCase.Registers.Debug is not null)
        {
            return "breakpoints of a guest can hang a host whose processor is emulated";
        }

        if (Trouble(testCase.Code.Bytes.AsSpan(), vendor) is string inCode)
        {
            return inCode;
        }

        if (ArmsBreakpoints(testCase.Code.Bytes.AsSpan()) && ReturnsToZeroAbove4GiB(testCase))
        {
            return "the emulator recurses for ever at a breakpoint on the lower half of an RIP of compatibility mode";
        }

        foreach (MemoryContents contents in testCase.Contents)
        {
            ulong last = contents.Address + (ulong)contents.Bytes.Length - 1;
            PageAccess access = testCase.UserPages.AccessAt(contents.Address) | testCase.UserPages.AccessAt(last) | testCase.Layout.AccessAt(contents.Address) | testCase.Layout.AccessAt(last);
            if ((access & PageAccess.Execute) != 0 && Trouble(contents.Bytes.AsSpan(), vendor) is string inContents)
            {
                return inContents;
            }
        }

        return null;
    }

    /// <summary>Looks at every byte: a jump can land anywhere, and which mode comes to it is not known beforehand.</summary>
    private static string? Trouble(ReadOnlySpan<byte> code, CpuVendor vendor)
    {
        if (vendor == CpuVendor.Amd && code.IndexOf((ReadOnlySpan<byte>)[0x0f, 0x34]) >= 0)
        {
            return "an emulated AMD processor executes SYSENTER in compatibility mode, which enters the kernel of the host itself";
        }

        int loaded = SegmentLoads.Numbers(code);
        return (loaded & (1 << SegmentLoads.Cs)) != 0 ? "the emulator loads CS by MOV, with whatever privilege the selector has"
            : loaded >> SegmentLoads.LocalTable != 0 ? "the emulator's MOV to a segment register that does not exist overwrites the host's LDTR, task register or more"
            : null;
    }

    /// <summary>True for a MOV to DR5 or DR7 anywhere: which bits it sets is not known beforehand.</summary>
    private static bool ArmsBreakpoints(ReadOnlySpan<byte> code)
    {
        while (code.IndexOf((ReadOnlySpan<byte>)[0x0f, 0x23]) is int at and >= 0)
        {
            code = code[(at + 2)..];
            if (!code.IsEmpty && (code[0] & 0x28) == 0x28)
            {
                return true;
            }
        }

        return false;
    }

    /// <summary>True when a return of the case goes where its lower half is an address that debug registers hold from the start, 0.</summary>
    private static bool ReturnsToZeroAbove4GiB(TestCase testCase)
    {
        if (testCase.System.TryGet(SystemRegister.PvcsRip, out ulong first) && IsZeroAbove(first))
        {
            return true;
        }

        foreach (Response response in testCase.Responses)
        {
            foreach ((Register register, ulong value) in response.Patches)
            {
                if (register == Register.Rip && IsZeroAbove(value))
                {
                    return true;
                }
            }
        }

        return false;
    }

    private static bool IsZeroAbove(ulong rip) => rip != 0 && (uint)rip == 0;
}
