using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Generate;

/// <summary>Chooses the linear addresses that operands are aimed at.</summary>
internal static class Aim
{
    private const ulong Page = PageLayout.PageSize;
    private const ulong CanonicalEnd = 0x0000_8000_0000_0000;

    /// <summary>An address at which <paramref name="size"/> bytes can be accessed.</summary>
    /// <param name="random">Stream of the case.</param>
    /// <param name="block">The block of slots to prefer.</param>
    /// <param name="size">Bytes of the access, 1 to 64.</param>
    /// <param name="writes">True when the bytes are written.</param>
    /// <param name="hot">Offsets in the data slot, multiples of 64, that this case likes to use.</param>
    public static ulong Valid(ref CounterRandom random, ulong block, int size, bool writes, ReadOnlySpan<int> hot)
    {
        ulong bits = random.Next();
        int kind = (int)(bits & 127);
        int detail = (int)(bits >> 8) & 0xffff;
        uint split = (uint)(1 + (detail % Math.Max(1, size - 1)));
        ulong last = (ulong)size;
        switch (kind)
        {
            case < 62:
                ulong inside = (uint)(detail >> 4) % 57;
                return block + AddressMap.Data + (ulong)hot[detail & 3] + ((detail & 0xc) == 0 ? inside : inside & ~7UL);
            case < 68:
                return block + AddressMap.Data + ((uint)detail % (2 * Page - last));
            case < 82:
                return block + AddressMap.Data + Page - split;
            case < 86:
                return block + AddressMap.Data + (2 * Page) - last;
            case < 88:
                return block + AddressMap.Data;
            case < 95:
                return block + AddressMap.WritableThenReadOnly + Page - (writes ? last : split);
            case < 102:
                return block + AddressMap.ReadOnlyThenWritable + Page - (writes ? 0 : split);
            case < 106:
                return block + (writes ? AddressMap.WritableThenReadOnly : AddressMap.ReadOnlyThenWritable) + ((uint)detail & 0xfc0);
            case < 111:
                return block + AddressMap.WritableCode + ((uint)detail & 0x1fc0);
            case < 116:
                return block + AddressMap.Stack + Page + ((uint)detail & 0x1f8) - 0x100;
            case < 119:
                return AddressMap.SignEdge + Page - split;
            case < 122:
                return AddressMap.FourGigabyteEdge + Page - split;
            case < 124:
                return AddressMap.Lowest + ((uint)detail & 0xfc0);
            case < 126:
                return block == AddressMap.LowBlock ? AddressMap.Lowest : AddressMap.Highest + Page - last;
            default:
                return (block == AddressMap.LowBlock ? AddressMap.HighBlock : AddressMap.LowBlock) + AddressMap.Data + ((uint)detail & 0x1fc0);
        }
    }

    /// <summary>An address at which an access faults, or, for reads of places that only writes cannot touch, may fault.</summary>
    public static ulong Faulting(ref CounterRandom random, ulong block, int size, bool writes)
    {
        ulong bits = random.Next();
        int kind = (int)(bits & 31);
        int detail = (int)(bits >> 8) & 0xffff;
        uint split = (uint)(1 + (detail % Math.Max(1, size - 1)));
        switch (kind)
        {
            case < 5:
                return block + AddressMap.Data + (2 * Page) - split;
            case < 7:
                return block + AddressMap.Data + (2 * Page) + ((uint)detail & 0xfff);
            case < 9:
                return block + AddressMap.Data - split;
            case < 12:
                return block + (writes ? AddressMap.WritableThenReadOnly : AddressMap.ReadOnlyThenWritable) + (writes ? Page : 2 * Page) - split;
            case < 14:
                return block + (writes ? AddressMap.ReadOnlyThenWritable + Page - split : AddressMap.Stack + (2 * Page) - split);
            case < 16:
                return writes ? block + AddressMap.CodeEnd - Page + ((uint)detail & 0x7f8) : block + AddressMap.CodeEnd;
            case < 18:
                return CanonicalEnd - split;
            case < 20:
                return CanonicalEnd + ((uint)detail & 7);
            case 20:
                return 0xffff_7fff_ffff_fff8 + ((uint)detail & 7);
            case < 23:
                return 0xffff_8000_0000_0000 - (ulong)((uint)detail & 1);
            case < 26:
                return random.Next() | 0x4000_0000_0000_0000;
            case 26:
                return (uint)detail & 0xfff;
            case 27:
                return AddressMap.Lowest - split;
            case 28:
                return AddressMap.Highest + Page - split;
            case 29:
                return AddressMap.SignEdge + (2 * Page) - split;
            case 30:
                return AddressMap.FourGigabyteEdge - split;
            default:
                return ulong.MaxValue - ((uint)detail & 15);
        }
    }
}
