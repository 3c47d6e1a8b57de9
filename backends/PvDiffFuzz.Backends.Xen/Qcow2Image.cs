using System.Buffers.Binary;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Writes an empty disk image in QEMU's format qcow2, which can hold snapshots of a machine (QEMU, docs/interop/qcow2.txt, version 3).</summary>
internal static class Qcow2Image
{
    private const int ClusterBits = 16;
    private const int Cluster = 1 << ClusterBits;
    private const uint Magic = 0x5146_49fb;
    private const int HeaderLength = 104;

    // One cluster each: header, refcount table, refcount block, level-1 table.
    private const int Clusters = 4;

    /// <summary>Size of the disk that the guest would see. Snapshots of a machine lie outside of it.</summary>
    public const int DiskSize = 1 << 20;

    /// <summary>Makes the file.</summary>
    public static byte[] Empty()
    {
        byte[] image = new byte[Clusters * Cluster];
        Span<byte> header = image;
        BinaryPrimitives.WriteUInt32BigEndian(header, Magic);
        BinaryPrimitives.WriteUInt32BigEndian(header[4..], 3);
        BinaryPrimitives.WriteUInt32BigEndian(header[20..], ClusterBits);
        BinaryPrimitives.WriteUInt64BigEndian(header[24..], DiskSize);
        BinaryPrimitives.WriteUInt32BigEndian(header[36..], 1);             // entries of the level-1 table
        BinaryPrimitives.WriteUInt64BigEndian(header[40..], 3 * Cluster);   // level-1 table
        BinaryPrimitives.WriteUInt64BigEndian(header[48..], 1 * Cluster);   // refcount table
        BinaryPrimitives.WriteUInt32BigEndian(header[56..], 1);             // its clusters
        BinaryPrimitives.WriteUInt32BigEndian(header[96..], 4);             // refcounts of 2^4 bits
        BinaryPrimitives.WriteUInt32BigEndian(header[100..], HeaderLength);

        BinaryPrimitives.WriteUInt64BigEndian(header[Cluster..], 2 * Cluster);
        for (int i = 0; i < Clusters; i++)
        {
            BinaryPrimitives.WriteUInt16BigEndian(header[((2 * Cluster) + (i * sizeof(ushort)))..], 1);
        }

        return image;
    }
}
