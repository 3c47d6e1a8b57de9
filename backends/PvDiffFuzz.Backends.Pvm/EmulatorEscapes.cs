using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>What takes the host itself down where its processor is emulated: each row was seen to kill or to hang a host under QEMU 10 when the case ran alone. No processor does any of it.</summary>
internal static class EmulatorEscapes
{
    private const byte MovToSegment = 0x8e;
    private const int Cs = 1;
    private const int TaskRegister = 7;

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

        for (int i = code.IndexOf(MovToSegment); i >= 0 && i + 1 < code.Length; i++)
        {
            if (code[i] != MovToSegment)
            {
                continue;
            }

            // /1 names CS; /7 and what REX.R makes 8 and more, which a processor ignores, is what the emulator has behind its segment registers: the task register, descriptor tables.
            int named = code[i + 1] >> 3 & 7;
            if (named == Cs)
            {
                return "the emulator loads CS by MOV, with whatever privilege the selector has";
            }

            if (named == TaskRegister || HasRexR(code[..i]))
            {
                return "the emulator's MOV to a segment register that does not exist overwrites the host's task register or more";
            }
        }

        return null;
    }

    /// <summary>True when one of the prefixes at the end is REX with R, be it the last or not: the emulator lets it count in any case.</summary>
    private static bool HasRexR(ReadOnlySpan<byte> before)
    {
        for (int i = before.Length - 1; i >= 0 && IsPrefix(before[i]); i--)
        {
            if (before[i] >> 4 == 4 && (before[i] & 4) != 0)
            {
                return true;
            }
        }

        return false;
    }

    private static bool IsPrefix(byte value) => value is 0x26 or 0x2e or 0x36 or 0x3e or (>= 0x40 and <= 0x4f) or (>= 0x64 and <= 0x67) or 0xf0 or 0xf2 or 0xf3;

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
