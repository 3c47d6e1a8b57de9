namespace Tmds.Linux;

// The C types of the package Tmds.LibC, with the conversions that our callers use. Compiled only when the package is not.

/// <summary><c>size_t</c>.</summary>
internal readonly record struct size_t
{
    private readonly ulong _value;

    private size_t(ulong value) => _value = value;

    /// <summary>The number of bytes.</summary>
    public static implicit operator ulong(size_t value) => value._value;

    /// <summary>.NET counts bytes in <c>int</c>.</summary>
    public static implicit operator size_t(int value) => new((uint)value);

    /// <summary>From a 64-bit count.</summary>
    public static explicit operator size_t(ulong value) => new(value);
}

/// <summary><c>ssize_t</c>: a number of bytes, or -1.</summary>
internal readonly record struct ssize_t
{
    private readonly long _value;

    private ssize_t(long value) => _value = value;

    /// <summary>The number of bytes, or -1.</summary>
    public static implicit operator long(ssize_t value) => value._value;

    /// <summary>Makes a value.</summary>
    public static implicit operator ssize_t(int value) => new(value);
}

/// <summary><c>off_t</c>: a place in a file.</summary>
internal readonly record struct off_t
{
    private readonly long _value;

    private off_t(long value) => _value = value;

    /// <summary>The place.</summary>
    public static implicit operator long(off_t value) => value._value;

    /// <summary>Makes a place.</summary>
    public static implicit operator off_t(long value) => new(value);
}

/// <summary><c>pid_t</c>: a process.</summary>
internal readonly record struct pid_t
{
    private readonly int _value;

    private pid_t(int value) => _value = value;

    /// <summary>The process id.</summary>
    public static implicit operator int(pid_t value) => value._value;

    /// <summary>Makes a process id.</summary>
    public static implicit operator pid_t(int value) => new(value);
}

/// <summary><c>unsigned long</c>.</summary>
internal readonly record struct ulong_t
{
    private readonly ulong _value;

    private ulong_t(ulong value) => _value = value;

    /// <summary>The number.</summary>
    public static implicit operator ulong(ulong_t value) => value._value;

    /// <summary>Makes a number.</summary>
    public static implicit operator ulong_t(int value) => new((uint)value);
}

/// <summary>An entry of <c>poll(2)</c>.</summary>
internal struct pollfd
{
    /// <summary>Descriptor.</summary>
    public int fd { get; set; }

    /// <summary>Events to wait for.</summary>
    public short events { get; set; }

    /// <summary>Events that came.</summary>
    public short revents { get; set; }
}
