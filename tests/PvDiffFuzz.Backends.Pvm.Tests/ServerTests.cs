using System.Diagnostics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics.X86;
using System.Text;
using Microsoft.Win32.SafeHandles;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Backends.Pvm.Emulated;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>The server of emulated hosts, as a child of the test: it is a program of Linux like any other. And what it boots from.</summary>
public sealed class ServerTests
{
    [Fact]
    public void TheServerCarriesOutCallsCopiesAndInstructions()
    {
        using SafeFileHandle image = Memfd.CreateSealed("pvdf-server", ServerCode.Image());
        using SafeFileHandle nothing = File.OpenHandle("/dev/null", FileMode.Open, FileAccess.ReadWrite);
        using ChildProcess server = ChildProcess.Spawn(image, nothing, nothing, nothing);
        using FileStream memory = new($"/proc/{server.Id}/mem", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0);
        Wait(() => TryRead(memory, ServerPage.Signature) == ServerPage.First && TryRead(memory, ServerPage.Signature + 8) == ServerPage.Second);

        const int getpid = 39;
        const ulong data = ServerPage.Address + ServerPage.Data;
        Write(memory, ServerPage.Data, 0x1122_3344_5566_7788);
        Write(memory, ServerPage.Data + 8, 0x99);
        ulong[][] operations =
        [
            [getpid, 0, 0, 0, 0, 0, 0],
            [unchecked((ulong)ServerPage.Copy), data + 32, data, 9, 0, 0, 0],
            [unchecked((ulong)ServerPage.CpuId), 0, 0, 0, 0, 0, 0],
            [unchecked((ulong)ServerPage.Selector), Selectors.UserCode64, 0, 0, 0, 0, 0],
            [unchecked((ulong)ServerPage.Selector), 0, 0, 0, 0, 0, 0],
        ];
        for (int i = 0; i < operations.Length; i++)
        {
            for (int word = 0; word < 7; word++)
            {
                Write(memory, ServerPage.Operations + (i * ServerPage.OperationSize) + (word * 8), operations[i][word]);
            }
        }

        Write(memory, ServerPage.Count, (ulong)operations.Length);
        Write(memory, ServerPage.Asked, 1);
        Wait(() => TryRead(memory, ServerPage.Done) == 1);

        Assert.Equal((ulong)server.Id, ResultOf(memory, 0));
        Assert.Equal(0x1122_3344_5566_7788UL, TryRead(memory, ServerPage.Data + 32));
        Assert.Equal(0x99UL, TryRead(memory, ServerPage.Data + 40));
        Assert.Equal((uint)X86Base.CpuId(0, 0).Ebx, (uint)TryRead(memory, ServerPage.Operations + (2 * ServerPage.OperationSize) + 16)!);
        const ulong present = 0x8000, dpl3 = 0x6000, longMode = 0x20_0000;
        Assert.Equal(1UL, ResultOf(memory, 3));
        Assert.Equal(present | dpl3 | longMode, TryRead(memory, ServerPage.Operations + (3 * ServerPage.OperationSize) + 8) & (present | dpl3 | longMode));
        Assert.Equal(0UL, ResultOf(memory, 4));
    }

    /// <summary>Each page has a program of its own, and what depends on a call is not done when the call answers something else.</summary>
    [Fact]
    public void AProgramEndsWhereACallDoesNotAnswerWhatIsNeeded()
    {
        using SafeFileHandle image = Memfd.CreateSealed("pvdf-server", ServerCode.Image());
        using SafeFileHandle nothing = File.OpenHandle("/dev/null", FileMode.Open, FileAccess.ReadWrite);
        using ChildProcess server = ChildProcess.Spawn(image, nothing, nothing, nothing);
        using FileStream memory = new($"/proc/{server.Id}/mem", FileMode.Open, FileAccess.ReadWrite, FileShare.ReadWrite, bufferSize: 0);
        Wait(() => TryRead(memory, ServerPage.Signature + 8) == ServerPage.Second);

        const int getpid = 39, invalid = -1;
        const int second = ServerPage.Size, last = (ServerPage.Pages - 1) * ServerPage.Size;
        foreach ((int page, int needed) in (ReadOnlySpan<(int, int)>)[(second, server.Id + 1), (last, server.Id)])
        {
            Write(memory, page + ServerPage.Operations, getpid | ((ulong)(needed + 1) << (8 * ServerPage.Needed)));
            Write(memory, page + ServerPage.Operations + ServerPage.OperationSize, getpid);
            Write(memory, page + ServerPage.Operations + ServerPage.OperationSize + ServerPage.Result, unchecked((ulong)invalid));
            Write(memory, page + ServerPage.Count, 2);
            Write(memory, page + ServerPage.Asked, 7);
        }

        Wait(() => TryRead(memory, second + ServerPage.Done) == 7 && TryRead(memory, last + ServerPage.Done) == 7);
        ulong? behind = TryRead(memory, second + ServerPage.Operations + ServerPage.OperationSize + ServerPage.Result);
        Assert.Equal(((ulong)server.Id, unchecked((ulong)invalid)), (TryRead(memory, second + ServerPage.Operations + ServerPage.Result), behind));
        Assert.Equal((ulong)server.Id, TryRead(memory, last + ServerPage.Operations + ServerPage.OperationSize + ServerPage.Result));
    }

    [Fact]
    public void TheArchiveHasTheServerAndTheDevices()
    {
        byte[] archive = Initramfs.Write("server"u8);
        Dictionary<string, (int Mode, int Major, int Minor, string Contents)> entries = [];
        for (int at = 0; at < archive.Length;)
        {
            string header = Encoding.ASCII.GetString(archive, at, 110);
            Assert.StartsWith("070701", header, StringComparison.Ordinal);
            int Field(int number) => Convert.ToInt32(header.Substring(6 + (number * 8), 8), 16);
            int nameLength = Field(11);
            string name = Encoding.ASCII.GetString(archive, at + 110, nameLength - 1);
            int contents = (at + 110 + nameLength + 3) & ~3;
            entries[name] = (Field(1), Field(9), Field(10), Encoding.ASCII.GetString(archive, contents, Field(6)));
            at = (contents + Field(6) + 3) & ~3;
        }

        Assert.Equal((0x81ed, 0, 0, "server"), entries["init"]);
        Assert.Equal((0x2180, 5, 1, ""), entries["dev/console"]);
        Assert.Equal((0x2180, 10, 232, ""), entries["dev/kvm"]);
        Assert.Equal(0x41ed, entries["proc"].Mode);
        Assert.Contains("TRAILER!!!", entries.Keys);
    }

    [Fact]
    public void ArgumentsHaveTheSizesOfTheirStructures()
    {
        nint list = Marshal.AllocHGlobal(sizeof(int));
        Marshal.WriteInt32(list, 3);

        Assert.Equal(Unsafe.SizeOf<KvmRegs>(), KvmArgument.SizeOf(KvmAbi.KVM_GET_REGS, 0));
        Assert.Equal(Unsafe.SizeOf<KvmSregs>(), KvmArgument.SizeOf(KvmAbi.KVM_SET_SREGS, 0));
        Assert.Equal(8 + (3 * Unsafe.SizeOf<KvmMsrEntry>()), KvmArgument.SizeOf(KvmAbi.KVM_SET_MSRS, list));
        Assert.Equal(0, KvmArgument.SizeOf(KvmAbi.KVM_RUN, 0));
        Assert.True(KvmArgument.IsAnswered(KvmAbi.KVM_GET_SUPPORTED_CPUID));
        Assert.False(KvmArgument.IsAnswered(KvmAbi.KVM_SET_REGS));
        Assert.Equal(3, KvmArgument.Expected(KvmAbi.KVM_SET_MSRS, list));
        Marshal.FreeHGlobal(list);
    }

    /// <summary>Ranges near one another are told as one, before the guest runs; what cannot be executed is not told.</summary>
    [Fact]
    public void ChangedCodeIsTold()
    {
        TestCase testCase = Cases.Of(GuestMode.Supervisor, 0x90, 0x90);
        CasePages pages = CasePages.Create(testCase.Layout, testCase.UserPages);
        using Told memory = new();
        CodeChanges changes = new(memory, pages);

        const ulong near = AddressMap.LowBlock + PvmMap.Code + 0x40;
        changes.Changed(testCase with { Contents = [new MemoryContents(AddressMap.LowBlock + AddressMap.Data, [1, 2, 3]), new MemoryContents(near, [1]), new MemoryContents(near + 0x20, [2])] });
        changes.Tell();
        changes.Tell();

        Assert.Equal([(PlaceOf(near), 0x21), (PlaceOf(testCase.Code.Address), 2 + AgentCode.LeaveLength)], memory.Ranges);

        int PlaceOf(ulong address) => GuestMap.Pool + (pages.IndexOf(address) * PageLayout.PageSize) + (int)(address & 0xfff);
    }

    [Fact]
    public void AMissingKernelIsNamed()
    {
        TargetUnavailableException e = Assert.Throws<TargetUnavailableException>(() => new PvmTarget(new EmulatedHostOptions("pvm:none", "/nowhere/bzImage", "/bin/true")));

        Assert.Contains("/nowhere/bzImage", e.Message, StringComparison.Ordinal);
        Assert.Contains("--pvm-image", e.Cure, StringComparison.Ordinal);
    }

    [Fact]
    public void AProgramThatIsNoQemuIsNamedWithItsEnd()
    {
        string kernel = Path.GetTempFileName();
        try
        {
            TargetUnavailableException e = Assert.Throws<TargetUnavailableException>(() => new PvmTarget(new EmulatedHostOptions("pvm:none", kernel, "/bin/false")));

            Assert.Contains("exited with code 1", e.Message, StringComparison.Ordinal);
        }
        finally
        {
            File.Delete(kernel);
        }
    }

    private static void Wait(Func<bool> condition)
    {
        // Nothing tells when another process writes its memory, so this looks again and again. The limit is one against hanging, not a measurement.
        Stopwatch time = Stopwatch.StartNew();
        while (!condition() && time.Elapsed < TimeSpan.FromMinutes(2))
        {
            Thread.Sleep(1);
        }

        Assert.True(condition());
    }

    private static ulong? TryRead(FileStream memory, int at)
    {
        byte[] word = new byte[8];
        try
        {
            memory.Position = (long)ServerPage.Address + at;
            return memory.Read(word) == word.Length ? BitConverter.ToUInt64(word) : null;
        }
        catch (IOException)
        {
            return null;
        }
    }

    private static ulong? ResultOf(FileStream memory, int operation) => TryRead(memory, ServerPage.Operations + (operation * ServerPage.OperationSize) + ServerPage.Result);

    private static void Write(FileStream memory, int at, ulong value)
    {
        memory.Position = (long)ServerPage.Address + at;
        memory.Write(BitConverter.GetBytes(value));
    }

    /// <summary>Memory that notes what it is told.</summary>
    private sealed class Told() : GuestMemory(0, 0)
    {
        public List<(int Offset, int Length)> Ranges { get; } = [];

        public override bool WantsToBeTold => true;

        public override void Written(int offset, int length) => Ranges.Add((offset, length));

        public override void Dispose()
        {
        }
    }
}
