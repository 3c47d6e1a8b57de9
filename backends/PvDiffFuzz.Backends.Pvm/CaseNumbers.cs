using System.Buffers.Binary;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Which numbers of the ABI a case may use. One that makes a number by arithmetic is not found.</summary>
internal static class CaseNumbers
{
    /// <summary>The hypercall that loads the processor's descriptors for thread-local storage, which no ioctl resets.</summary>
    public const uint LoadTls = 0x1708_8209;

    /// <summary>MSR_PVM_VCPU_STRUCT.</summary>
    public const uint VcpuStructMsr = 0x4b56_4df1;

    /// <summary>True when code, contents, registers, patches or hypercalls of a case have a number.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="number">The number.</param>
    public static bool Mentions(TestCase testCase, uint number)
    {
        Span<byte> bytes = stackalloc byte[sizeof(uint)];
        BinaryPrimitives.WriteUInt32LittleEndian(bytes, number);
        if (testCase.Code.Bytes.AsSpan().IndexOf(bytes) >= 0)
        {
            return true;
        }

        foreach (MemoryContents contents in testCase.Contents)
        {
            if (contents.Bytes.AsSpan().IndexOf(bytes) >= 0)
            {
                return true;
            }
        }

        for (int i = 0; i < GprFile.Count; i++)
        {
            if ((uint)testCase.Registers.Gpr[i] == number)
            {
                return true;
            }
        }

        foreach (Response response in testCase.Responses)
        {
            foreach ((_, ulong value) in response.Patches)
            {
                if ((uint)value == number)
                {
                    return true;
                }
            }

            foreach (Hypercall call in response.Hypercalls)
            {
                if ((uint)call.Number == number || (call.Arguments is [ulong first, ..] && (uint)first == number))
                {
                    return true;
                }
            }
        }

        return false;
    }
}
