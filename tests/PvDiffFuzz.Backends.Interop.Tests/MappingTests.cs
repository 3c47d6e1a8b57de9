using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace PvDiffFuzz.Backends.Interop.Tests;

/// <summary>Mapped files.</summary>
public sealed class MappingTests
{
    private const int Page = 4096;

    [LinuxFact]
    public void PagesOfAFileLieInTheOrderThatIsAskedFor()
    {
        using SafeFileHandle file = Memfd.Create("pvdf-test", executable: false);
        Memfd.Resize(file, 4 * Page);
        for (int i = 0; i < 4; i++)
        {
            RandomAccess.Write(file, [(byte)(i + 1)], i * Page);
        }

        using (SafeMapping mapping = SafeMapping.Pages(file, [2 * Page, 3 * Page, 0]))
        {
            nint start = mapping.DangerousGetHandle();
            Assert.Equal([3, 4, 1], new[] { 0, Page, 2 * Page }.Select(at => (int)Marshal.ReadByte(start, at)));
            Marshal.WriteByte(start, Page, 9);
        }

        byte[] read = new byte[1];
        RandomAccess.Read(file, read, 3 * Page);
        Assert.Equal(9, read[0]);
    }
}
