using Iced.Intel;
using PvDiffFuzz.Core;
using static Iced.Intel.AssemblerRegisters;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>The pages with entries of a <see cref="PortPlan"/>, and the annex by which they reach the agent, which may be further away than a jump goes.</summary>
internal static class Ports
{
    private const int AnnexRcx = 0;
    private const int AnnexRax = 8;
    private const int AnnexCode = 0x10;
    private const int AnnexTail = 0x40;

    /// <summary>Makes the pages.</summary>
    /// <param name="plan">A plan that is not empty.</param>
    /// <param name="map">The pages of the case.</param>
    /// <param name="agent">The agent.</param>
    /// <returns>Addresses and contents; the annex comes last. All of them can be written and executed.</returns>
    public static IReadOnlyList<(ulong Address, byte[] Contents)> Build(PortPlan plan, LayoutMap map, AgentCode agent)
    {
        ulong annex = plan.Annex(map);
        SortedDictionary<ulong, byte[]> pages = [];
        foreach (ulong page in plan.Pages)
        {
            pages[page] = new byte[PageLayout.PageSize];
        }

        foreach ((ulong address, int number) in plan.Entries)
        {
            byte[] entry = Entry(address, number, annex);
            for (int i = 0; i < entry.Length; i++)
            {
                ulong at = address + (ulong)i;
                pages[at & ~0xfffUL][at & 0xfff] = entry[i];
            }
        }

        byte[] last = new byte[PageLayout.PageSize];
        Tail(annex + AnnexCode, annex, agent.VectorEntry).CopyTo(last, AnnexCode);
        Tail(annex + AnnexCode + AnnexTail, annex, agent.CallbackEntry).CopyTo(last, AnnexCode + AnnexTail);
        return [.. pages.Select(p => (p.Key, p.Value)), (annex, last)];
    }

    private static byte[] Entry(ulong address, int number, ulong annex)
    {
        Assembler a = new(64);
        a.AddInstruction(Instruction.Create(Code.Mov_rm64_r64, At(annex + AnnexRcx), rcx));
        a.mov(cl, (byte)number);
        a.jmp(annex + AnnexCode + (number < EntryNumber.FirstCallback ? 0UL : AnnexTail));
        return Assemble(a, address);
    }

    /// <summary>Carries RCX over to the mailbox, by way of RAX, the one register that stores to any address.</summary>
    private static byte[] Tail(ulong address, ulong annex, ulong target)
    {
        Assembler a = new(64);
        a.AddInstruction(Instruction.Create(Code.Mov_rm64_r64, At(annex + AnnexRax), rax));
        a.AddInstruction(Instruction.Create(Code.Mov_r64_rm64, rax, At(annex + AnnexRcx)));
        a.AddInstruction(Instruction.Create(Code.Mov_moffs64_RAX, new MemoryOperand(Iced.Intel.Register.None, (long)GuestMap.At(GuestMap.MailboxPage + Mailbox.EntryRcx), 8), Iced.Intel.Register.RAX));
        a.AddInstruction(Instruction.Create(Code.Mov_r64_rm64, rax, At(annex + AnnexRax)));
        Label where = a.CreateLabel();
        a.jmp(__qword_ptr[where]);
        a.Label(ref where);
        a.dq(target);
        return Assemble(a, address);
    }

    private static MemoryOperand At(ulong address) => new(Iced.Intel.Register.RIP, (long)address, 8);

    private static byte[] Assemble(Assembler assembler, ulong address)
    {
        using MemoryStream stream = new();
        assembler.Assemble(new StreamCodeWriter(stream), address);
        return stream.ToArray();
    }
}
