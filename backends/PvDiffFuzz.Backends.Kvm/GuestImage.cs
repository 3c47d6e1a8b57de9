using System.Buffers.Binary;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Kvm;

/// <summary>Writes what the processor finds in the guest's memory: descriptor tables, TSS, handlers, prepared frames, the agent.</summary>
internal static class GuestImage
{
    private const byte InterruptGate = 0x8e;
    private const byte AvailableTss = 0x9;
    private const ulong UserRflags = RflagsBits.Fixed1 | RflagsBits.IF;
    private const int TssLimit = 0x67;

    /// <summary>Writes everything.</summary>
    /// <param name="memory">The guest's memory, all zero.</param>
    /// <param name="profile">Descriptors and gates.</param>
    /// <param name="agent">The agent.</param>
    public static void Write(Span<byte> memory, CpuProfile profile, AgentCode agent)
    {
        WriteGdt(memory.Slice(GuestMap.Gdt, PageLayout.PageSize), profile);
        WriteIdt(memory.Slice(GuestMap.SingleIdt, PageLayout.PageSize), profile, GuestMap.Base + GuestMap.SingleStubs);
        WriteIdt(memory.Slice(GuestMap.BatchIdt, PageLayout.PageSize), profile, GuestMap.Base + GuestMap.BatchStubs);
        WriteTss(memory.Slice(GuestMap.Tss, PageLayout.PageSize));
        AgentCode.SingleStubs().CopyTo(memory[GuestMap.SingleStubs..]);
        AgentCode.BatchStubs().CopyTo(memory[GuestMap.BatchStubs..]);
        AgentCode.SingleLanding().CopyTo(memory[GuestMap.SingleLanding..]);
        AgentCode.SingleEntry().CopyTo(memory[GuestMap.SingleEntry..]);
        AgentCode.SingleSelectors().CopyTo(memory[GuestMap.SingleSelectors..]);
        for (int vector = 0; vector < agent.Thunks.Length; vector++)
        {
            WriteFrame(memory, vector, agent.Thunks[vector]);
        }

        WriteFrame(memory, GuestMap.SelectorsFrame, GuestMap.Base + GuestMap.SingleSelectors);

        // MXCSR is loaded from the image even where everything else is at its initial value.
        const int mxcsr = 24;
        BinaryPrimitives.WriteUInt32LittleEndian(memory[(GuestMap.CleanState + mxcsr)..], 0x1f80);
        agent.Bytes.CopyTo(memory.Slice(GuestMap.Agent, GuestMap.AgentSize));

        Span<byte> mailbox = memory.Slice(GuestMap.MailboxPage, PageLayout.PageSize);
        mailbox[Mailbox.Canary..(Mailbox.StackTop - Mailbox.StackSize)].Fill(0xa5);
    }

    /// <summary>The eight bytes of a descriptor (SDM vol.3A 3.4.5).</summary>
    public static ulong Encode(SegmentDescriptor d)
    {
        uint limit = d.Granular ? d.Limit >> 12 : d.Limit;
        ulong rights = d.Type | (d.System ? 0UL : 0x10) | ((ulong)d.Dpl << 5) | (d.Present ? 0x80UL : 0);
        ulong flags = (d.Available ? 1UL : 0) | (d.Long ? 2UL : 0) | (d.Big ? 4UL : 0) | (d.Granular ? 8UL : 0);
        return (limit & 0xffff) | ((ulong)(d.Base & 0xff_ffff) << 16) | (rights << 40) | ((ulong)((limit >> 16) & 0xf) << 48) | (flags << 52) | ((ulong)(d.Base >> 24) << 56);
    }

    /// <summary>The TSS's descriptor, as software that loads it finds it.</summary>
    private static void WriteGdt(Span<byte> gdt, CpuProfile profile)
    {
        foreach (SegmentDescriptor descriptor in profile.Descriptors)
        {
            if (((descriptor.Index + 1) * 8) - 1 <= profile.GdtLimit && descriptor.Index * 8 is not (GuestMap.TaskState or (GuestMap.TaskState + 8)))
            {
                BinaryPrimitives.WriteUInt64LittleEndian(gdt[(descriptor.Index * 8)..], Encode(descriptor));
            }
        }

        const ulong address = GuestMap.Base + GuestMap.Tss;
        SegmentDescriptor tss = new(GuestMap.TaskState / 8, AvailableTss + 2, System: true, 0, Present: true, Long: false, Big: false, Granular: false, Available: false, unchecked((uint)address), TssLimit);
        BinaryPrimitives.WriteUInt64LittleEndian(gdt[GuestMap.TaskState..], Encode(tss));
        BinaryPrimitives.WriteUInt64LittleEndian(gdt[(GuestMap.TaskState + 8)..], address >> 32);
    }

    /// <summary>Interrupt gates for all vectors; those that the profile names have DPL 3.</summary>
    private static void WriteIdt(Span<byte> idt, CpuProfile profile, ulong stubs)
    {
        for (int vector = 0; vector < 256; vector++)
        {
            ulong handler = stubs + (ulong)(vector * GuestMap.StubSize);
            ulong rights = InterruptGate | (profile.UserGates.Contains((byte)vector) ? 0x60UL : 0);
            ulong low = (handler & 0xffff) | ((ulong)GuestMap.KernelCode << 16) | (rights << 40) | (((handler >> 16) & 0xffff) << 48);
            BinaryPrimitives.WriteUInt64LittleEndian(idt[(vector * 16)..], low);
            BinaryPrimitives.WriteUInt64LittleEndian(idt[((vector * 16) + 8)..], handler >> 32);
        }
    }

    /// <summary>RSP0, and an I/O bitmap beyond the limit: no port is open.</summary>
    private static void WriteTss(Span<byte> tss)
    {
        const int rsp0 = 4;
        const int bitmap = 0x66;
        BinaryPrimitives.WriteUInt64LittleEndian(tss[rsp0..], GuestMap.Base + GuestMap.Ring0Stack + GuestMap.StackTop);
        BinaryPrimitives.WriteUInt16LittleEndian(tss[bitmap..], TssLimit + 1);
    }

    private static void WriteFrame(Span<byte> memory, int number, ulong rip)
    {
        Span<byte> frame = memory[(int)(AgentCode.FrameAddress(number) - GuestMap.Base)..];
        ReadOnlySpan<ulong> words = [rip, Selectors.UserCode64, UserRflags, GuestMap.Base + GuestMap.MailboxPage + Mailbox.StackTop, Selectors.UserData];
        for (int i = 0; i < words.Length; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(frame[(i * 8)..], words[i]);
        }
    }
}
