using System.Buffers.Binary;
using System.Security.Cryptography;

namespace PvDiffFuzz.Core;

/// <summary>A name for an input by its content: 128 bits of SHA-256, the same in every run and on every machine.</summary>
public static class CaseDigest
{
    /// <summary>Digest of an input; equal cases have equal digests and different ones do not collide in practice.</summary>
    public static UInt128 Of(TestCase testCase)
    {
        ArgumentNullException.ThrowIfNull(testCase);
        using IncrementalHash hash = IncrementalHash.CreateHash(HashAlgorithmName.SHA256);
        ShaSink sink = new(hash);
        DigestWalk.Visit(ref sink, testCase);
        Span<byte> digest = stackalloc byte[SHA256.HashSizeInBytes];
        hash.GetHashAndReset(digest);
        return BinaryPrimitives.ReadUInt128BigEndian(digest);
    }

    /// <summary>The first digits of <see cref="Of"/> for file names.</summary>
    /// <param name="testCase">The input.</param>
    /// <param name="digits">Hexadecimal digits, 1 to 32.</param>
    public static string NameOf(TestCase testCase, int digits = 12)
    {
        ArgumentOutOfRangeException.ThrowIfLessThan(digits, 1);
        ArgumentOutOfRangeException.ThrowIfGreaterThan(digits, 32);
        return Of(testCase).ToString("x32")[..digits];
    }

    private readonly struct ShaSink(IncrementalHash hash) : IDigestSink
    {
        public void Add(ulong value)
        {
            Span<byte> bytes = stackalloc byte[sizeof(ulong)];
            BinaryPrimitives.WriteUInt64LittleEndian(bytes, value);
            hash.AppendData(bytes);
        }

        public void Add(ReadOnlySpan<byte> bytes) => hash.AppendData(bytes);
    }
}
