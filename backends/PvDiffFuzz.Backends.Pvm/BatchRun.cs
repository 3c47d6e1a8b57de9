using System.Runtime.InteropServices;
using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Kvm.KvmAbi;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Runs many cases an entry: the agent in the guest takes them from shared memory and leaves when it is done.</summary>
/// <param name="machine">The machine.</param>
/// <param name="single">Loads the state that the cases of a batch have in common.</param>
/// <param name="agent">The agent.</param>
/// <param name="timer">Runs.</param>
internal sealed class BatchRun(Machine machine, CaseRun single, GuestAgent agent, IRunTimer timer)
{
    private const int ResultPerEvent = Context.Size;

    private readonly BatchDecoder _decoder = new(machine);

    /// <summary>Runs cases from the first on.</summary>
    /// <param name="cases">Cases with one <see cref="BatchKey"/>; at least one.</param>
    /// <param name="outcomes">Room for as many outcomes. Null stays where a case has to run alone.</param>
    /// <returns>How many were dealt with; less than all when the results are full, or when a case did not come back: then the machine is to be renewed.</returns>
    /// <exception cref="KvmException">KVM refused a call.</exception>
    public async ValueTask<BatchEnd> RunAsync(ReadOnlyMemory<TestCase> cases, Memory<Outcome?> outcomes)
    {
        TestCase first = cases.Span[0];
        if (WorstResult() > GuestMap.ResultsSize || RecordEncoder.Bound(first) > GuestMap.RequestSize)
        {
            return new BatchEnd(1, Broken: false);
        }

        if (await single.PrepareAsync(first).ConfigureAwait(false) is not SystemState system)
        {
            return new BatchEnd(1, Broken: false);
        }

        int encoded = Encode(cases.Span, out int end);
        Word(Mailbox.Batch.Record) = GuestMap.BatchLinear(GuestMap.Request);
        Word(Mailbox.Batch.RequestEnd) = GuestMap.BatchLinear(GuestMap.Request + end);
        Word(Mailbox.Batch.Result) = GuestMap.BatchLinear(GuestMap.Results);
        Word(Mailbox.Batch.ResultLimit) = GuestMap.BatchLinear(GuestMap.Results + GuestMap.ResultsSize) - (ulong)WorstResult();
        Word(Mailbox.Batch.ScanEnd) = GuestMap.PoolAddress + (ulong)(machine.Pages.Writable * PageLayout.PageSize);
        Word(Mailbox.Alone) = 0;
        Word(Mailbox.Structure) = machine.Plan.VcpuStructAddress;
        Word(Mailbox.KernelGsBase) = first.System[SystemRegister.KernelGsBase];
        Word(Mailbox.Redzone) = first.System[SystemRegister.PvmSupervisorRedzone];
        KvmRegs regs = new() { Rip = agent.Start, Rflags = RflagsBits.Fixed1, Rsp = GuestMap.BatchAddress + Mailbox.StackTop };
        machine.Vcpu.SetRegs(in regs);
        bool done = await WaitAsync().ConfigureAwait(false);
        int finished = Decode(cases.Span[..encoded], system, outcomes.Span);
        if (done)
        {
            return new BatchEnd(finished, Broken: false);
        }

        // The case that did not come back runs alone.
        machine.Pool.Clear();
        machine.Code.ChangedEverywhere();
        return new BatchEnd(finished + 1, Broken: true);
    }

    /// <summary>Bytes that the largest result takes.</summary>
    private int WorstResult() => Result.HeaderSize + ((TestCase.MaximumResponses + 2) * ResultPerEvent) + (machine.Pages.Writable * PageLayout.PageSize * 2) + PageLayout.PageSize;

    private int Encode(ReadOnlySpan<TestCase> cases, out int end)
    {
        Span<byte> request = machine.Memory.Slice(GuestMap.Request, GuestMap.RequestSize);
        end = 0;
        int count = 0;
        foreach (TestCase testCase in cases)
        {
            if (count > 0 && RecordEncoder.Bound(testCase) > request.Length - end)
            {
                break;
            }

            end += RecordEncoder.Encode(testCase, machine.Pages, agent, GuestMap.BatchLinear(GuestMap.Request + end), request[end..]);
            count++;
        }

        return count;
    }

    /// <summary>Reads the results of the cases that came to their end.</summary>
    private int Decode(ReadOnlySpan<TestCase> cases, SystemState system, Span<Outcome?> outcomes)
    {
        ReadOnlySpan<byte> memory = machine.Memory;
        ulong record = GuestMap.BatchLinear(GuestMap.Request);
        ulong result = GuestMap.BatchLinear(GuestMap.Results);
        ulong reached = Word(Mailbox.Batch.Record);
        int i = 0;
        for (; i < cases.Length && record < reached; i++)
        {
            ulong resultEnd = MemoryMarshal.Read<ulong>(memory[(Place(result) + Result.EndAt)..]);
            outcomes[i] = _decoder.Decode(cases[i], system, memory.Slice(Place(result), (int)(resultEnd - result)));
            record += MemoryMarshal.Read<uint>(memory[(Place(record) + Record.Length)..]);
            result = resultEnd;
        }

        return i;
    }

    private static int Place(ulong linear) => (int)(linear - GuestMap.BatchAddress) + GuestMap.MailboxPage;

    private async ValueTask<bool> WaitAsync()
    {
        machine.Code.Tell();
        ulong record = 0;
        long begin = 0;
        while (!KvmVcpu.Left(await machine.Vcpu.RunAsync(RunReads.Registers).ConfigureAwait(false)))
        {
            timer.Consume();
            long now = timer.Nanoseconds;
            if (Word(Mailbox.Batch.Record) != record || begin == 0)
            {
                (record, begin) = (Word(Mailbox.Batch.Record), now);
            }
            else if (now - begin >= single.LongestRun)
            {
                return false;
            }
        }

        return machine.Vcpu.ExitReason == KVM_EXIT_IO && machine.Vcpu.IoPort == (ushort)AgentPort.Done;
    }

    private ref ulong Word(int field) => ref MemoryMarshal.AsRef<ulong>(machine.Memory.Slice(GuestMap.MailboxPage + field, sizeof(ulong)));
}

/// <summary>How a batch ended.</summary>
/// <param name="Cases">Cases that were dealt with.</param>
/// <param name="Broken">True when the last of them did not come back, so that the machine is to be renewed.</param>
internal readonly record struct BatchEnd(int Cases, bool Broken);
