using System.Runtime.InteropServices;

namespace PvDiffFuzz.Backends.Pvm;

/// <content>What harness and agent tell each other about a case.</content>
internal sealed partial class CaseRun
{
    private static ulong RecordAt => GuestMap.BatchLinear(GuestMap.Request);

    private static ulong ResultAt => GuestMap.BatchLinear(GuestMap.Results);

    private ReadOnlySpan<byte> Results => machine.Memory.Slice(GuestMap.Results, GuestMap.ResultsSize);

    /// <summary>Number of contexts that the agent has recorded.</summary>
    private int EventCount => MemoryMarshal.Read<int>(Results[Result.Events..]);

    private bool AtEnd => (MemoryMarshal.Read<uint>(Results[Result.Status..]) & Result.AtEnd) != 0;

    /// <summary>True while the agent makes a hypercall.</summary>
    private bool InCall => MemoryMarshal.Read<int>(machine.Memory[(GuestMap.MailboxPage + Mailbox.Calling)..]) != 0;

    /// <summary>Writes the responses where the agent finds them, and opens an empty result.</summary>
    private void OpenResult()
    {
        Span<byte> record = machine.Memory.Slice(GuestMap.Request, GuestMap.RequestSize);
        RecordEncoder.EncodeAnswers(_case, machine.Pages, agent, record);
        machine.Memory.Slice(GuestMap.Results, Result.HeaderSize).Clear();
        Word(Mailbox.Alone) = 1;
        Word(Mailbox.Batch.Record) = RecordAt;
        Word(Mailbox.Batch.Header) = ResultAt;
        Word(Mailbox.Batch.Result) = ResultAt + Result.HeaderSize;
        Word(Mailbox.Batch.ResponsesLeft) = (ulong)_case.Responses.Length;
        Word(Mailbox.Batch.NextResponse) = RecordAt + MemoryMarshal.Read<uint>(record[Record.ResponsesAt..]);
        Word(Mailbox.Structure) = machine.Plan.VcpuStructAddress;
        Word(Mailbox.CallsLeft) = 0;
        Word(Mailbox.EventEntry) = machine.Plan.EventEntry ?? 0;
        Word(Mailbox.Lstar) = machine.Plan.Lstar ?? 0;
    }

    /// <summary>Why the agent did not go on; null when nothing kept it from that.</summary>
    private string? Refusal()
    {
        uint status = MemoryMarshal.Read<uint>(Results[Result.Status..]);
        return (status & Result.TakenAway) != 0 ? "the payload took away the SYSCALL by which responses return"
            : (status & Result.Refused) != 0 ? "something comes while the target's agent runs"
            : null;
    }

    /// <summary>Reads what the agent has recorded so far.</summary>
    /// <returns>False when it does not tell what came.</returns>
    private bool ReadEvents()
    {
        _events.Clear();
        ContextReader reader = new(_case, machine.Plan);
        int next = 0;
        for (int i = 0; i < EventCount; i++)
        {
            byte? injected = null;
            for (; next < _injected.Count && _injected[next].Event <= i; next++)
            {
                injected = _injected[next].Vector;
            }

            _events.Add(reader.Read(Results.Slice(Result.HeaderSize + (i * Context.Size), Context.Size), injected));
        }

        return !reader.IsHidden;
    }

    private ref ulong Word(int field) => ref MemoryMarshal.AsRef<ulong>(machine.Memory.Slice(GuestMap.MailboxPage + field, sizeof(ulong)));
}
