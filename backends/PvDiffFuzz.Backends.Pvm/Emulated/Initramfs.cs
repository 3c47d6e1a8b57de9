using System.Text;

namespace PvDiffFuzz.Backends.Pvm.Emulated;

/// <summary>Writes the file system that an emulated host boots into: a cpio archive in the format "newc" (Linux, Documentation/driver-api/early-userspace/buffer-format).</summary>
internal static class Initramfs
{
    private const int Folder = 0x4000;
    private const int Program = 0x8000;
    private const int Device = 0x2000;

    /// <summary>The archive: the server as <c>/init</c>, the console, the device of KVM, and a place for <c>/proc</c>.</summary>
    /// <param name="server">The server's ELF file.</param>
    public static byte[] Write(ReadOnlySpan<byte> server)
    {
        using MemoryStream archive = new();
        Add(archive, "dev", Folder | 0x1ed, []);
        Add(archive, "proc", Folder | 0x1ed, []);
        Add(archive, "dev/console", Device | 0x180, [], major: 5, minor: 1);
        Add(archive, "dev/kvm", Device | 0x180, [], major: 10, minor: 232);
        Add(archive, "init", Program | 0x1ed, server);
        Add(archive, "TRAILER!!!", 0, []);
        return archive.ToArray();
    }

    private static void Add(MemoryStream archive, string name, int mode, ReadOnlySpan<byte> contents, int major = 0, int minor = 0)
    {
        // Magic, inode, mode, user, group, links, time, size, device of the file (2), device that it is (2), length of the name, checksum.
        archive.Write("070701"u8);
        foreach (int field in (ReadOnlySpan<int>)[0, mode, 0, 0, 1, 0, contents.Length, 0, 0, major, minor, name.Length + 1, 0])
        {
            archive.Write(Encoding.ASCII.GetBytes(field.ToString("x8")));
        }

        archive.Write(Encoding.ASCII.GetBytes(name + '\0'));
        Pad(archive);
        archive.Write(contents);
        Pad(archive);
    }

    private static void Pad(MemoryStream archive)
    {
        while ((archive.Length & 3) != 0)
        {
            archive.WriteByte(0);
        }
    }
}
