using System.Buffers.Binary;
using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen;

/// <summary>Who a hypercall page is for.</summary>
public enum HypercallPageKind
{
    /// <summary>A 64-bit PV guest.</summary>
    Pv64,

    /// <summary>A 32-bit PV guest.</summary>
    Pv32,

    /// <summary>An HVM guest on a processor of Intel's.</summary>
    HvmIntel,

    /// <summary>An HVM guest on a processor of AMD's.</summary>
    HvmAmd,
}

/// <summary>The page of transfer stubs that Xen writes for a guest.</summary>
public static class HypercallPage
{
    /// <summary>Bytes from one stub to the next.</summary>
    public const int StubSize = 32;

    /// <summary>Stubs in a page.</summary>
    public const int Stubs = 128;

    /// <summary>The hypercall that does not return, so that guests jump to its stub.</summary>
    public const int Iret = 23;

    private const byte Filler = 0xcc;

    /// <summary>A whole page, byte for byte.</summary>
    [Spec("Xen hypercall ABI", "Hypercall Page: stubs by index, on 32-byte boundaries")]
    [Spec("Xen facts", "Hypercall ABI: hypercall page")]
    public static ImmutableArray<byte> Create(HypercallPageKind kind)
    {
        byte[] page = new byte[Stubs * StubSize];
        Array.Fill(page, Filler);
        for (int i = 0; i < Stubs; i++)
        {
            Span<byte> stub = page.AsSpan(i * StubSize, StubSize);
            if (i == Iret)
            {
                ReturnStub(kind).CopyTo(stub);
            }
            else
            {
                Stub(kind).CopyTo(stub);
                BinaryPrimitives.WriteInt32LittleEndian(stub[Stub(kind).IndexOf((byte)0xb8)..][1..], i);
            }
        }

        return ImmutableArray.Create(page);
    }

    /// <summary>MOV of the index to EAX, the instruction that enters Xen, RET; a 64-bit PV guest keeps RCX and R11 around it.</summary>
    [Spec("Xen hypercall ABI", "Mode transfer")]
    [Spec("Xen PV segments", "Hypercall page")]
    [Spec("Xen FRED", "The hypercall page preserves RCX and R11")]
    private static ReadOnlySpan<byte> Stub(HypercallPageKind kind) => kind switch
    {
        HypercallPageKind.Pv64 => [0x51, 0x41, 0x53, 0xb8, 0, 0, 0, 0, 0x0f, 0x05, 0x41, 0x5b, 0x59, 0xc3],
        HypercallPageKind.Pv32 => [0xb8, 0, 0, 0, 0, 0xcd, 0x82, 0xc3],
        HypercallPageKind.HvmIntel => [0xb8, 0, 0, 0, 0, 0x0f, 0x01, 0xc1, 0xc3],
        _ => [0xb8, 0, 0, 0, 0, 0x0f, 0x01, 0xd9, 0xc3],
    };

    /// <summary>HYPERVISOR_iret takes its frame from the stack and does not come back. HVM guests have none.</summary>
    [Spec("Xen PV segments", "Hypercall page: iret")]
    [Spec("Xen facts", "Hypercall ABI: hypercall page")]
    private static ReadOnlySpan<byte> ReturnStub(HypercallPageKind kind) => kind switch
    {
        HypercallPageKind.Pv64 => [0x51, 0x41, 0x53, 0x50, 0xb8, Iret, 0, 0, 0, 0x0f, 0x05],
        HypercallPageKind.Pv32 => [0x50, 0xb8, Iret, 0, 0, 0, 0xcd, 0x82],
        _ => [0x0f, 0x0b],
    };
}
