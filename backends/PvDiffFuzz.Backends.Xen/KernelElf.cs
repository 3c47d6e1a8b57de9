using System.Buffers.Binary;
using System.Text;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Writes the kernel as Xen loads it: an ELF64 file with one loadable segment and the notes by which Xen knows a PV guest.</summary>
/// <remarks>Layout by the System V ABI and its AMD64 supplement; notes by Xen's <c>public/elfnote.h</c>.</remarks>
internal static class KernelElf
{
    private const int ElfHeaderSize = 64;
    private const int ProgramHeaderSize = 56;
    private const int SegmentAt = 0x1000;
    private const uint Load = 1;
    private const uint Note = 4;

    /// <summary>Types of notes.</summary>
    private enum NoteType : uint
    {
        Entry = 1,
        HypercallPage = 2,
        VirtBase = 3,
        PhysicalOffset = 4,
        XenVersion = 5,
        GuestOs = 6,
        Loader = 8,
    }

    /// <summary>Makes the file.</summary>
    /// <param name="address">Linear address of the image's first byte; Xen puts the guest's first frame there.</param>
    /// <param name="image">The bytes from there on.</param>
    /// <param name="size">Bytes in memory, not less than the image; the rest is zero.</param>
    /// <param name="entry">Where execution begins.</param>
    /// <param name="hypercallPage">Linear address of the page that Xen fills with its stubs.</param>
    public static byte[] Write(ulong address, ReadOnlySpan<byte> image, ulong size, ulong entry, ulong hypercallPage)
    {
        byte[] notes =
        [
            .. NoteOf(NoteType.GuestOs, "pvdf"),
            .. NoteOf(NoteType.XenVersion, "xen-3.0"),
            .. NoteOf(NoteType.Loader, "generic"),
            .. NoteOf(NoteType.VirtBase, address),
            .. NoteOf(NoteType.PhysicalOffset, 0),
            .. NoteOf(NoteType.Entry, entry),
            .. NoteOf(NoteType.HypercallPage, hypercallPage),
        ];
        const int notesAt = ElfHeaderSize + (2 * ProgramHeaderSize);
        byte[] file = new byte[SegmentAt + image.Length];
        notes.CopyTo(file, notesAt);
        image.CopyTo(file.AsSpan(SegmentAt));

        Span<byte> header = file;
        ReadOnlySpan<byte> identification = [0x7f, (byte)'E', (byte)'L', (byte)'F', 2, 1, 1];
        identification.CopyTo(header);
        BinaryPrimitives.WriteUInt16LittleEndian(header[16..], 2);              // ET_EXEC
        BinaryPrimitives.WriteUInt16LittleEndian(header[18..], 62);             // EM_X86_64
        BinaryPrimitives.WriteUInt32LittleEndian(header[20..], 1);              // EV_CURRENT
        BinaryPrimitives.WriteUInt64LittleEndian(header[24..], entry);
        BinaryPrimitives.WriteUInt64LittleEndian(header[32..], ElfHeaderSize);  // program headers
        BinaryPrimitives.WriteUInt16LittleEndian(header[52..], ElfHeaderSize);
        BinaryPrimitives.WriteUInt16LittleEndian(header[54..], ProgramHeaderSize);
        BinaryPrimitives.WriteUInt16LittleEndian(header[56..], 2);

        WriteProgramHeader(header[ElfHeaderSize..], Load, flags: 7, SegmentAt, address, (ulong)image.Length, size);
        WriteProgramHeader(header[(ElfHeaderSize + ProgramHeaderSize)..], Note, flags: 4, notesAt, address, (ulong)notes.Length, (ulong)notes.Length);
        return file;
    }

    private static void WriteProgramHeader(Span<byte> header, uint type, uint flags, ulong offset, ulong address, ulong fileSize, ulong memorySize)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(header, type);
        BinaryPrimitives.WriteUInt32LittleEndian(header[4..], flags);
        BinaryPrimitives.WriteUInt64LittleEndian(header[8..], offset);
        BinaryPrimitives.WriteUInt64LittleEndian(header[16..], address);

        // Guest-physical: the first byte lies at 0, as PhysicalOffset and VirtBase say.
        BinaryPrimitives.WriteUInt64LittleEndian(header[24..], 0);
        BinaryPrimitives.WriteUInt64LittleEndian(header[32..], fileSize);
        BinaryPrimitives.WriteUInt64LittleEndian(header[40..], memorySize);
        BinaryPrimitives.WriteUInt64LittleEndian(header[48..], type == Load ? 4096UL : 4);
    }

    private static byte[] NoteOf(NoteType type, ulong value)
    {
        byte[] bytes = new byte[sizeof(ulong)];
        BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
        return NoteOf(type, bytes);
    }

    private static byte[] NoteOf(NoteType type, string text) => NoteOf(type, Encoding.ASCII.GetBytes(text + '\0'));

    private static byte[] NoteOf(NoteType type, ReadOnlySpan<byte> description)
    {
        ReadOnlySpan<byte> name = "Xen\0"u8;
        byte[] note = new byte[12 + name.Length + ((description.Length + 3) & ~3)];
        BinaryPrimitives.WriteInt32LittleEndian(note, name.Length);
        BinaryPrimitives.WriteInt32LittleEndian(note.AsSpan(4), description.Length);
        BinaryPrimitives.WriteUInt32LittleEndian(note.AsSpan(8), (uint)type);
        name.CopyTo(note.AsSpan(12));
        description.CopyTo(note.AsSpan(12 + name.Length));
        return note;
    }
}
