using System.Buffers.Binary;
using System.Text;

namespace PvDiffFuzz.Backends.Xen.Tests;

/// <summary>The files that QEMU and Xen read.</summary>
public sealed class FileTests
{
    private const ulong Address = 0x7e00_0000_0000;

    /// <summary>ELF64, for AMD64, executable: the identification of the System V ABI, and the entry.</summary>
    [Fact]
    public void TheKernelIsAnElfFile()
    {
        byte[] file = KernelElf.Write(Address, [1, 2, 3], 0x5000, Address + 0x10, Address + 0x2000);

        Assert.Equal([0x7f, (byte)'E', (byte)'L', (byte)'F', 2, 1, 1], file[..7]);
        Assert.Equal(2, BinaryPrimitives.ReadUInt16LittleEndian(file.AsSpan(16)));
        Assert.Equal(62, BinaryPrimitives.ReadUInt16LittleEndian(file.AsSpan(18)));
        Assert.Equal(Address + 0x10, BinaryPrimitives.ReadUInt64LittleEndian(file.AsSpan(24)));
    }

    /// <summary>The loadable segment: the image is in the file, the rest of memory is not, and guest-physical memory begins with it.</summary>
    [Fact]
    public void TheKernelHasOneSegmentThatIsLargerInMemory()
    {
        byte[] file = KernelElf.Write(Address, [1, 2, 3], 0x5000, Address, Address);

        ReadOnlySpan<byte> header = file.AsSpan((int)BinaryPrimitives.ReadUInt64LittleEndian(file.AsSpan(32)));
        Assert.Equal(1u, BinaryPrimitives.ReadUInt32LittleEndian(header));
        ulong offset = BinaryPrimitives.ReadUInt64LittleEndian(header[8..]);
        Assert.Equal(Address, BinaryPrimitives.ReadUInt64LittleEndian(header[16..]));
        Assert.Equal(0UL, BinaryPrimitives.ReadUInt64LittleEndian(header[24..]));
        Assert.Equal(3UL, BinaryPrimitives.ReadUInt64LittleEndian(header[32..]));
        Assert.Equal(0x5000UL, BinaryPrimitives.ReadUInt64LittleEndian(header[40..]));
        Assert.Equal([1, 2, 3], file[(int)offset..]);
    }

    /// <summary>Notes by Xen's public/elfnote.h: ENTRY 1, HYPERCALL_PAGE 2, VIRT_BASE 3, PADDR_OFFSET 4, XEN_VERSION 5, GUEST_OS 6, LOADER 8.</summary>
    [Fact]
    public void TheKernelHasTheNotesOfAPvGuest()
    {
        SortedDictionary<uint, byte[]> notes = Notes(KernelElf.Write(Address, [1], 0x1000, Address + 0x10, Address + 0x2000));

        Assert.Equal([1u, 2u, 3u, 4u, 5u, 6u, 8u], notes.Keys);
        Assert.Equal(Address + 0x10, BinaryPrimitives.ReadUInt64LittleEndian(notes[1]));
        Assert.Equal(Address + 0x2000, BinaryPrimitives.ReadUInt64LittleEndian(notes[2]));
        Assert.Equal(Address, BinaryPrimitives.ReadUInt64LittleEndian(notes[3]));
        Assert.Equal(0UL, BinaryPrimitives.ReadUInt64LittleEndian(notes[4]));
        Assert.Equal("xen-3.0\0", Encoding.ASCII.GetString(notes[5]));
    }

    /// <summary>The agent's word that it runs must not be in the file, which lies in memory as well.</summary>
    [Fact]
    public void TheKernelFileDoesNotHoldTheAgentsMagicWord()
    {
        byte[] magic = new byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(magic, Mailbox.MagicValue);

        byte[] file = KernelImage.Build(AgentCode.Assemble(segmentBases: true));

        Assert.Equal(-1, file.AsSpan().IndexOf(magic));
    }

    /// <summary>Entries are as far apart as a trap table with a base has them, and none runs into the next one.</summary>
    [Theory]
    [InlineData(0)]
    [InlineData(0xff)]
    [InlineData(EntryNumber.End)]
    public void AnEntryFitsIntoItsPlace(int number)
    {
        AgentCode agent = AgentCode.Assemble(segmentBases: true);

        byte[] entry = agent.EntryAt(number, GuestMap.At(GuestMap.Entries + (number * Core.XenTrap.HandlerSize)));

        Assert.InRange(entry.Length, 1, Core.XenTrap.HandlerSize);
    }

    /// <summary>The header by docs/interop/qcow2.txt: magic, version 3, 64 KiB clusters, tables at clusters that lie in the file.</summary>
    [Fact]
    public void TheSnapshotImageIsAnEmptyQcow2()
    {
        byte[] image = Qcow2Image.Empty();

        Assert.Equal([(byte)'Q', (byte)'F', (byte)'I', 0xfb], image[..4]);
        Assert.Equal(3u, BinaryPrimitives.ReadUInt32BigEndian(image.AsSpan(4)));
        Assert.Equal(16u, BinaryPrimitives.ReadUInt32BigEndian(image.AsSpan(20)));
        ulong refcounts = BinaryPrimitives.ReadUInt64BigEndian(image.AsSpan(48));
        ulong block = BinaryPrimitives.ReadUInt64BigEndian(image.AsSpan((int)refcounts));
        int clusters = image.Length >> 16;
        for (int i = 0; i < clusters; i++)
        {
            Assert.Equal(1, BinaryPrimitives.ReadUInt16BigEndian(image.AsSpan((int)block + (i * 2))));
        }

        Assert.Equal(0, BinaryPrimitives.ReadUInt16BigEndian(image.AsSpan((int)block + (clusters * 2))));
    }

    private static SortedDictionary<uint, byte[]> Notes(byte[] file)
    {
        ReadOnlySpan<byte> header = file.AsSpan((int)BinaryPrimitives.ReadUInt64LittleEndian(file.AsSpan(32)) + 56);
        Assert.Equal(4u, BinaryPrimitives.ReadUInt32LittleEndian(header));
        ReadOnlySpan<byte> notes = file.AsSpan((int)BinaryPrimitives.ReadUInt64LittleEndian(header[8..]), (int)BinaryPrimitives.ReadUInt64LittleEndian(header[32..]));
        SortedDictionary<uint, byte[]> found = [];
        while (!notes.IsEmpty)
        {
            int name = BinaryPrimitives.ReadInt32LittleEndian(notes);
            int length = BinaryPrimitives.ReadInt32LittleEndian(notes[4..]);
            Assert.Equal("Xen\0", Encoding.ASCII.GetString(notes.Slice(12, name)));
            found[BinaryPrimitives.ReadUInt32LittleEndian(notes[8..])] = notes.Slice(12 + name, length).ToArray();
            notes = notes[(12 + name + ((length + 3) & ~3))..];
        }

        return found;
    }
}
