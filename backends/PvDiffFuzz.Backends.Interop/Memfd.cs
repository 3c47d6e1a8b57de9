using System.Text;
using Microsoft.Win32.SafeHandles;
using static Tmds.Linux.LibC;

namespace PvDiffFuzz.Backends.Interop;

/// <summary>Anonymous files in memory.</summary>
public static unsafe class Memfd
{
    /// <summary>Makes an empty file that is closed on exec.</summary>
    /// <param name="name">Name shown in /proc, at most 249 characters.</param>
    /// <param name="executable">True when the file itself will be executed.</param>
    /// <exception cref="PosixException">The kernel has no memfd_create(2) or refuses it.</exception>
    public static SafeFileHandle Create(string name, bool executable)
    {
        byte[] bytes = Encoding.ASCII.GetBytes(name + '\0');
        uint flags = MFD_CLOEXEC | MFD_ALLOW_SEALING;

        // SAFETY: the name ends in a zero byte and lives across the calls.
        fixed (byte* text = bytes)
        {
            int fd = executable ? memfd_create(text, flags | LinuxAbi.MFD_EXEC) : -1;
            if (fd < 0)
            {
                // Kernels before 6.3 do not know MFD_EXEC and make every such file executable.
                fd = (int)PosixException.Check(memfd_create(text, flags), nameof(memfd_create));
            }

            return new SafeFileHandle(fd, ownsHandle: true);
        }
    }

    /// <summary>Makes a file with contents that nobody can change any more.</summary>
    /// <exception cref="PosixException">A call failed.</exception>
    public static SafeFileHandle CreateSealed(string name, ReadOnlySpan<byte> contents)
    {
        SafeFileHandle file = Create(name, executable: true);
        try
        {
            RandomAccess.Write(file, contents, 0);
            PosixException.Check(fcntl(Fd.Of(file), F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE), "fcntl(F_ADD_SEALS)");
            return file;
        }
        catch
        {
            file.Dispose();
            throw;
        }
    }

    /// <summary>Sets the length of a file; new bytes are zero and take no memory until they are used.</summary>
    /// <exception cref="PosixException">The call failed.</exception>
    public static void Resize(SafeFileHandle file, long length) => PosixException.Check(ftruncate(Fd.Of(file), length), nameof(ftruncate));

    /// <summary>Sets the length of a file for good: writes behind it fail, as on a device that is full.</summary>
    /// <exception cref="PosixException">A call failed.</exception>
    public static void SealSize(SafeFileHandle file, long length)
    {
        Resize(file, length);
        PosixException.Check(fcntl(Fd.Of(file), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW), "fcntl(F_ADD_SEALS)");
    }
}
