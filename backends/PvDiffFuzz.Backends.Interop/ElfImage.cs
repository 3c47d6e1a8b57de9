using System.Buffers.Binary;

namespace PvDiffFuzz.Backends.Interop;

/// <summary>Writes a static ELF64 executable with one loadable segment of code (System V ABI, AMD64 supplement).</summary>
public static class ElfImage
{
    /// <summary>Bytes before the code: ELF header and two program headers, rounded up.</summary>
    public const int HeaderSize = 0x100;

    private const int ElfHeaderSize = 64;
    private const int ProgramHeaderSize = 56;
    private const uint PtLoad = 1;
    private const uint PtGnuStack = 0x6474_e551;

    /// <summary>Makes the file.</summary>
    /// <param name="address">Page-aligned address of the first byte of the file; code begins <see cref="HeaderSize"/> later.</param>
    /// <param name="code">The code; its first byte is the entry point.</param>
    public static byte[] Write(ulong address, ReadOnlySpan<byte> code)
    {
        byte[] file = new byte[HeaderSize + code.Length];
        code.CopyTo(file.AsSpan(HeaderSize));

        Span<byte> header = file;
        ReadOnlySpan<byte> identification = [0x7f, (byte)'E', (byte)'L', (byte)'F', 2, 1, 1];
        identification.CopyTo(header);
        BinaryPrimitives.WriteUInt16LittleEndian(header[16..], 2);                          // ET_EXEC
        BinaryPrimitives.WriteUInt16LittleEndian(header[18..], 62);                         // EM_X86_64
        BinaryPrimitives.WriteUInt32LittleEndian(header[20..], 1);                          // EV_CURRENT
        BinaryPrimitives.WriteUInt64LittleEndian(header[24..], address + HeaderSize);       // entry
        BinaryPrimitives.WriteUInt64LittleEndian(header[32..], ElfHeaderSize);              // program headers
        BinaryPrimitives.WriteUInt16LittleEndian(header[52..], ElfHeaderSize);
        BinaryPrimitives.WriteUInt16LittleEndian(header[54..], ProgramHeaderSize);
        BinaryPrimitives.WriteUInt16LittleEndian(header[56..], 2);

        WriteProgramHeader(header[ElfHeaderSize..], PtLoad, flags: 5, address, (ulong)file.Length);

        // Without this header Linux would make every readable page executable (READ_IMPLIES_EXEC).
        WriteProgramHeader(header[(ElfHeaderSize + ProgramHeaderSize)..], PtGnuStack, flags: 6, 0, 0);
        return file;
    }

    private static void WriteProgramHeader(Span<byte> header, uint type, uint flags, ulong address, ulong size)
    {
        BinaryPrimitives.WriteUInt32LittleEndian(header, type);
        BinaryPrimitives.WriteUInt32LittleEndian(header[4..], flags);
        BinaryPrimitives.WriteUInt64LittleEndian(header[16..], address);
        BinaryPrimitives.WriteUInt64LittleEndian(header[24..], address);
        BinaryPrimitives.WriteUInt64LittleEndian(header[32..], size);
        BinaryPrimitives.WriteUInt64LittleEndian(header[40..], size);
        BinaryPrimitives.WriteUInt64LittleEndian(header[48..], 4096);
    }
}
