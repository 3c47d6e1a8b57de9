using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>What takes the host itself down where its processor is emulated: each row was seen to kill or to hang a host under QEMU 10 when the case ran alone. No processor does any of it.</summary>
internal static class EmulatorEscapes
{
    private const byte MovToSegment = 0x8e;

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
            // /1 names CS.
            if (code[i] == MovToSegment && (code[i + 1] & 0x38) == 0x08)
            {
                return "the emulator loads CS by MOV, with whatever privilege the selector has";
            }
        }

        return null;
    }
}
