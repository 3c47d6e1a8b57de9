using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <content>The first steps of a new processor.</content>
internal sealed partial class CaseRun
{
    private bool _untouched = true;

    /// <summary>
    /// Reads and executes in every page of the case, so that the hypervisor has them all in its page tables. Where it has to put one there first, it enters the guest again with RF set, and what the
    /// case saves would depend on the cases before it.
    /// </summary>
    /// <param name="testCase">A case of the plan, for its control registers. The pool is zero.</param>
    private async ValueTask TouchAsync(TestCase testCase)
    {
        _case = testCase;
        _untouched = false;
        _loading = true;
        try
        {
            _state.LoadControl(testCase, gsBase: 0, freshRoots: false);
            LoadOwnEntries();
            await TouchAsync(machine.Plan.UserPages, user: true).ConfigureAwait(false);
            await TouchAsync(machine.Plan.Supervisor, user: false).ConfigureAwait(false);
            if (!IsInSupervisorMode())
            {
                await TryRescueAsync().ConfigureAwait(false);
            }
        }
        catch (KvmException)
        {
            // Whether KVM takes what the case states is for the case to show.
        }

        machine.Pool.Clear();
        machine.Code.ChangedEverywhere();
        machine.Pvcs.Clear();
        _state.Forget();
    }

    /// <summary>
    /// The pages of one root. A MOV at the end of one with code reads from each; behind it, and in each page with code, are zeros, which are ADD of AL, 0, to the byte at RAX, until there is no page. A
    /// host that shows anything else than that fault is not asked further.
    /// </summary>
    private async ValueTask TouchAsync(PageLayout layout, bool user)
    {
        ReadOnlyMemory<byte> move = new byte[] { 0x8a, 0x00 };
        ulong[] code = [.. PagesOf(layout, PageAccess.Execute)];
        if (code.Length == 0)
        {
            return;
        }

        ulong end = code[^1] + PageLayout.PageSize - (ulong)move.Length;
        move.Span.CopyTo(machine.Pool[((machine.Pages.IndexOf(end) * PageLayout.PageSize) + (int)(end & 0xfff))..]);
        machine.Code.ChangedEverywhere();
        foreach (ulong page in PagesOf(layout, PageAccess.Read))
        {
            if (!await FaultsAsync(end, page, user).ConfigureAwait(false))
            {
                return;
            }
        }

        foreach (ulong page in code)
        {
            if (!await FaultsAsync(page, 0, user).ConfigureAwait(false))
            {
                return;
            }
        }
    }

    private async ValueTask<bool> FaultsAsync(ulong rip, ulong rax, bool user)
    {
        WriteOwnStructure(rip);
        machine.Vcpu.SetRegs(new KvmRegs { Rip = user ? GuestMap.AgentAddress + AgentCode.WarmReturn : rip, Rax = rax, Rsp = GuestMap.BatchAddress + Mailbox.StackTop, Rflags = RflagsBits.Fixed1 });
        return await WaitAsync(returning: null, RunReads.Registers).ConfigureAwait(false) == Stop.Port
            && (AgentPort)machine.Vcpu.IoPort is AgentPort.UserEntry or AgentPort.SupervisorEntry or AgentPort.HighEntry;
    }

    private static IEnumerable<ulong> PagesOf(PageLayout layout, PageAccess access) =>
        layout.Ranges.Where(range => (range.Access & access) != 0).SelectMany(range => Enumerable.Range(0, range.Pages).Select(i => range.Address + ((ulong)i * PageLayout.PageSize)));
}
