using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace PvDiffFuzz.Backends.Interop.Tests;

/// <summary>Files in memory, mappings and pipes.</summary>
public sealed class DescriptorTests
{
    /// <summary>A sealed file keeps its contents: writing to it fails.</summary>
    [LinuxFact]
    public void ASealedFileCannotBeChanged()
    {
        using SafeFileHandle file = Memfd.CreateSealed("sealed", [1, 2, 3]);

        Assert.Throws<UnauthorizedAccessException>(() => RandomAccess.Write(file, [4], 0));
        byte[] bytes = new byte[4];
        Assert.Equal(3, RandomAccess.Read(file, bytes, 0));
        Assert.Equal([1, 2, 3, 0], bytes);
    }

    /// <summary>A shared mapping and its file are the same memory.</summary>
    [LinuxFact]
    public void ASharedMappingIsTheFile()
    {
        using SafeFileHandle file = Memfd.Create("shared", executable: false);
        Memfd.Resize(file, 0x2000);
        using SafeMapping mapping = SafeMapping.Shared(file, 0x2000);

        Marshal.WriteByte(mapping.DangerousGetHandle(), 0x1fff, 7);

        byte[] last = new byte[1];
        Assert.Equal(1, RandomAccess.Read(file, last, 0x1fff));
        Assert.Equal(7, last[0]);
    }

    /// <summary>Mapping nothing is refused, with call and error number in the message.</summary>
    [LinuxFact]
    public void AFailingCallNamesItself()
    {
        using SafeFileHandle file = Memfd.Create("empty", executable: false);

        PosixException e = Assert.Throws<PosixException>(() => SafeMapping.Shared(file, 0));
        Assert.Equal(("mmap", 22), (e.Call, e.Error));
        Assert.Contains("errno 22", e.Message, StringComparison.Ordinal);
    }

    /// <summary>A word goes through a pipe whole; an empty pipe is not readable; a closed one gives null.</summary>
    [LinuxFact]
    public void WordsGoThroughPipes()
    {
        (SafeFileHandle read, SafeFileHandle write) = Fd.Pipe();
        using (read)
        {
            Assert.False(Fd.WaitReadable(read, 0));
            Assert.Equal(0, Fd.WriteWord(write, 0x1122_3344_5566_7788));
            Assert.True(Fd.WaitReadable(read, 0));
            Assert.Equal(0x1122_3344_5566_7788UL, Fd.ReadWord(read));
            write.Dispose();
            Assert.True(Fd.WaitReadable(read, 0));
            Assert.Null(Fd.ReadWord(read));
        }
    }

    /// <summary>Writing to a pipe that nobody reads is an error number, not a dead process.</summary>
    [LinuxFact]
    public void WritingToAClosedPipeIsAnError()
    {
        (SafeFileHandle read, SafeFileHandle write) = Fd.Pipe();
        read.Dispose();
        using (write)
        {
            Assert.Equal(32, Fd.WriteWord(write, 1)); // EPIPE
        }
    }

    /// <summary>A closed handle is refused.</summary>
    [LinuxFact]
    public void ClosedHandlesAreRefused()
    {
        (SafeFileHandle read, SafeFileHandle write) = Fd.Pipe();
        read.Dispose();
        write.Dispose();

        Assert.Throws<ObjectDisposedException>(() => Fd.ReadWord(read));
    }
}
