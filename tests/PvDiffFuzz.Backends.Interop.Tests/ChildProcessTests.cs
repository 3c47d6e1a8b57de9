using System.Text;
using Microsoft.Win32.SafeHandles;

namespace PvDiffFuzz.Backends.Interop.Tests;

/// <summary>Children are started, told apart by how they end, and never left behind.</summary>
public sealed class ChildProcessTests
{
    /// <summary>The exit code of a program.</summary>
    [LinuxFact("/bin/false")]
    public void AnExitCodeIsReported()
    {
        using SafeFileHandle image = File.OpenHandle("/bin/false");
        using ChildProcess child = ChildProcess.Spawn(image);

        Assert.Equal("exited with code 1", child.Ended(wait: true));
        Assert.Equal("exited with code 1", child.Ended(wait: false));
    }

    /// <summary>cat copies what it reads: the descriptors of the child are those it was given, in order.</summary>
    [LinuxFact("/bin/cat")]
    public void TheChildGetsItsDescriptorsInOrder()
    {
        (SafeFileHandle childIn, SafeFileHandle input) = Fd.Pipe();
        (SafeFileHandle output, SafeFileHandle childOut) = Fd.Pipe();
        using SafeFileHandle image = File.OpenHandle("/bin/cat");
        using ChildProcess child = ChildProcess.Spawn(image, childIn, childOut, childOut);
        childIn.Dispose();
        childOut.Dispose();

        Assert.Equal(0, Fd.WriteWord(input, 99));
        Assert.True(Fd.WaitReadable(output, 10_000));
        Assert.Equal(99UL, Fd.ReadWord(output));
        input.Dispose();
        Assert.Equal("exited with code 0", child.Ended(wait: true));
        output.Dispose();
    }

    /// <summary>A child that waits is killed when its handle goes, and leaves no zombie.</summary>
    [LinuxFact("/bin/cat")]
    public void DisposeKillsAndReaps()
    {
        (SafeFileHandle childIn, SafeFileHandle input) = Fd.Pipe();
        using SafeFileHandle image = File.OpenHandle("/bin/cat");
        ChildProcess child = ChildProcess.Spawn(image, childIn);
        int id = child.Id;
        Assert.Null(child.Ended(wait: false));

        child.Dispose();

        Assert.False(Directory.Exists($"/proc/{id}"));
        childIn.Dispose();
        input.Dispose();
    }

    /// <summary>The leash: when the last write end of a pipe closes, the child gets SIGIO, which ends it.</summary>
    [LinuxFact("/bin/cat")]
    public void AClosedLeashEndsTheChild()
    {
        (SafeFileHandle childIn, SafeFileHandle input) = Fd.Pipe();
        (SafeFileHandle childLeash, SafeFileHandle leash) = Fd.Pipe();
        using SafeFileHandle image = File.OpenHandle("/bin/cat");
        using ChildProcess child = ChildProcess.Spawn(image, childIn, childIn, childLeash);
        Fd.SignalWhenClosed(childLeash, child.Id);
        childLeash.Dispose();
        Assert.Null(child.Ended(wait: false));

        leash.Dispose();

        Assert.Equal($"killed by signal {LinuxAbi.SIGIO}", child.Ended(wait: true));
        childIn.Dispose();
        input.Dispose();
    }

    /// <summary>A leash for programs that take SIGIO for something else: the child is killed.</summary>
    [LinuxFact("/bin/sleep")]
    public void AClosedLeashKillsTheChild()
    {
        (SafeFileHandle childLeash, SafeFileHandle leash) = Fd.Pipe();
        using SafeFileHandle nothing = File.OpenHandle("/dev/null");
        using ChildProcess child = ChildProcess.Spawn("/bin/sleep", ["sleep", "60"], ["LANG=C"], nothing, nothing, nothing, childLeash);
        Fd.KillWhenClosed(childLeash, child.Id);
        childLeash.Dispose();
        Assert.Null(child.Ended(wait: false));

        leash.Dispose();

        Assert.Equal("killed by signal 9", child.Ended(wait: true));
    }

    /// <summary>Arguments and environment arrive as they were given, in the order that they were given in.</summary>
    [LinuxFact("/bin/sh")]
    public void ArgumentsAndEnvironmentArrive()
    {
        (SafeFileHandle output, SafeFileHandle childOut) = Fd.Pipe();
        using SafeFileHandle nothing = File.OpenHandle("/dev/null");
        using ChildProcess child = ChildProcess.Spawn("/bin/sh", ["sh", "-c", "printf '%s|%s|%s' \"$1\" \"$2\" \"$GIVEN\"", "sh", "one", "two words"], ["GIVEN=Ä"], nothing, childOut);
        childOut.Dispose();
        byte[] bytes = new byte[100];

        Assert.Equal("exited with code 0", child.Ended(wait: true));
        Assert.Equal("one|two words|Ä", Encoding.UTF8.GetString(bytes, 0, Fd.Read(output, bytes)));
        output.Dispose();
    }

    /// <summary>What one end of a pair of sockets writes, the other reads; after its end is closed there is nothing.</summary>
    [LinuxFact]
    public void APairOfSocketsIsConnected()
    {
        (SafeFileHandle one, SafeFileHandle other) = Fd.SocketPair();
        byte[] bytes = new byte[10];

        Fd.Write(one, [1, 2, 3]);

        Assert.Equal([1, 2, 3], bytes[..Fd.Read(other, bytes)]);
        one.Dispose();
        Assert.Equal(0, Fd.Read(other, bytes));
        other.Dispose();
    }

    /// <summary>A file that is no program cannot be started.</summary>
    [LinuxFact]
    public void AFileThatIsNoProgramIsRefused()
    {
        using SafeFileHandle image = Memfd.CreateSealed("junk", [0x7f, (byte)'E', (byte)'L', (byte)'F', 0, 0, 0, 0]);

        PosixException e = Assert.Throws<PosixException>(() => ChildProcess.Spawn(image).Dispose());
        Assert.Equal(("posix_spawn", 8), (e.Call, e.Error)); // ENOEXEC
    }
}
