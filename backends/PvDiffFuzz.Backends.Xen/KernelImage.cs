using System.Buffers.Binary;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>The kernel as a file: the agent, its entries, and what it finds in memory at the start.</summary>
internal static class KernelImage
{
    private const ushort DefaultControlWord = 0x37f;
    private const uint DefaultMxcsr = 0x1f80;

    /// <summary>Makes the file.</summary>
    /// <param name="agent">The agent.</param>
    public static byte[] Build(AgentCode agent)
    {
        byte[] image = new byte[GuestMap.End + XenTrap.HandlerSize];
        agent.Bytes.CopyTo(image, GuestMap.Agent);
        for (int number = 0; number <= EntryNumber.End; number++)
        {
            // Callbacks have the page after that of the 256 vectors, so that all entries follow each other.
            int offset = GuestMap.Entries + (number * XenTrap.HandlerSize);
            agent.EntryAt(number, GuestMap.At(offset)).CopyTo(image, offset);
        }

        Span<byte> mailbox = image.AsSpan(GuestMap.MailboxPage);
        mailbox[Mailbox.Canary..(Mailbox.StackTop - Mailbox.StackSize)].Fill(CanaryByte);
        BinaryPrimitives.WriteUInt64LittleEndian(mailbox[Mailbox.Slot..], GuestMap.At(GuestMap.MailboxPage) + Mailbox.FirstSlot);
        BinaryPrimitives.WriteUInt64LittleEndian(mailbox[Mailbox.Patience..], Patience);
        BinaryPrimitives.WriteUInt64LittleEndian(mailbox[Mailbox.Flush..], XenAbi.MMUEXT_TLB_FLUSH_LOCAL);

        // The layout of FXRSTOR: control word at 0, MXCSR at 24 (SDM vol.2A FXSAVE).
        Span<byte> clean = image.AsSpan(GuestMap.CleanState);
        BinaryPrimitives.WriteUInt16LittleEndian(clean, DefaultControlWord);
        BinaryPrimitives.WriteUInt32LittleEndian(clean[24..], DefaultMxcsr);
        return KernelElf.Write(GuestMap.Base, image, GuestMap.Size, GuestMap.At(GuestMap.Agent), GuestMap.At(GuestMap.HypercallPage));
    }

    /// <summary>What fills the bytes of the mailbox that nobody writes.</summary>
    public const byte CanaryByte = 0xa5;

    /// <summary>Looks at a slot before the agent sleeps: some hundred microseconds under emulation.</summary>
    private const ulong Patience = 40_000;
}
