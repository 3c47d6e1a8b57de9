namespace PvDiffFuzz.Backends.Xen;

/// <summary>QEMU, or the guest in it, does not do what it should: it is gone, silent, or refuses a command.</summary>
internal sealed class QemuException : IOException
{
    /// <summary>Makes the exception.</summary>
    /// <param name="message">What happened, as a sentence without its end.</param>
    public QemuException(string message)
        : base(message)
    {
    }
}
