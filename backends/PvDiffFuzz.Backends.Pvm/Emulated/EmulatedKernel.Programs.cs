using System.Diagnostics;
using PvDiffFuzz.Backends.Interop;
using PvDiffFuzz.Backends.Kvm;
using static PvDiffFuzz.Backends.Interop.LinuxAbi;

namespace PvDiffFuzz.Backends.Pvm.Emulated;

/// <content>Programs for the server: what is asked for together, and the wait for it.</content>
// SAFETY: operations lie in the page and structures in the scratch memory, both mapped as long as this object lives; what is added is counted against their sizes.
internal sealed unsafe partial class EmulatedKernel
{
    /// <summary>Adds an ioctl whose structure lies in the scratch memory.</summary>
    private int AddIoctl(int descriptor, ulong request, void* argument, int size)
    {
        if (size == 0)
        {
            return Add(SYS_ioctl, (ulong)descriptor, request, (ulong)argument);
        }

        int place = _scratchUsed;
        Buffer.MemoryCopy(argument, _scratch!.Start + place, ScratchSize - place, size);
        _scratchUsed += (size + 15) & ~15;
        return Add(SYS_ioctl, (ulong)descriptor, request, _scratch.Address + (ulong)place);
    }

    /// <summary>Has the server write what is there already, which the emulator sees.</summary>
    private void Touch(ulong address, int length)
    {
        if (_count >= ServerPage.MostOperations - 8)
        {
            Submit();
        }

        Add(ServerPage.Copy, address, address, (ulong)length);
    }

    /// <summary>Asks along for what will be asked for next.</summary>
    private void ReadAhead(int descriptor, ulong request)
    {
        int size = request == KvmAbi.KVM_GET_MSRS ? _registers.Length : KvmArgument.SizeOf(request, 0);
        if (size == 0)
        {
            return;
        }

        int place = _scratchUsed;
        if (request == KvmAbi.KVM_GET_MSRS)
        {
            _registers.CopyTo(new Span<byte>(_scratch!.Start + place, size));
        }

        _scratchUsed += (size + 15) & ~15;
        _ahead.Add((descriptor, request, place, Add(SYS_ioctl, (ulong)descriptor, request, _scratch!.Address + (ulong)place)));
    }

    /// <summary>True when a list of model-specific registers names the same ones as one that was read.</summary>
    private bool SameRegisters(void* wanted, int place, int size)
    {
        if (size != _registers.Length)
        {
            return false;
        }

        // A list is its length in 8 bytes and its entries.
        KvmMsrEntry* entries = (KvmMsrEntry*)((byte*)wanted + sizeof(ulong));
        KvmMsrEntry* others = (KvmMsrEntry*)(_scratch!.Start + place + sizeof(ulong));
        for (int i = 0; i < *(int*)wanted; i++)
        {
            if (entries[i].Index != others[i].Index)
            {
                return false;
            }
        }

        return true;
    }

    private bool TryReadAhead(int descriptor, ulong request, void* argument, int size, out int result)
    {
        foreach ((int of, ulong what, int place, int at) in _ahead)
        {
            if (of == descriptor && what == request && (request != KvmAbi.KVM_GET_MSRS || SameRegisters(argument, place, size)))
            {
                Buffer.MemoryCopy(_scratch!.Start + place, argument, size, size);
                result = (int)ResultOf(at);
                return true;
            }
        }

        result = 0;
        return false;
    }

    private long Call(long number, params ReadOnlySpan<ulong> arguments)
    {
        int at = Add(number, arguments);
        Submit();
        return ResultOf(at);
    }

    /// <summary>For clean-up: a host that is gone has nothing to clean up.</summary>
    private long TryCall(long number, params ReadOnlySpan<ulong> arguments)
    {
        try
        {
            return Call(number, arguments);
        }
        catch (EmulatedHostException)
        {
            return -1;
        }
    }

    /// <summary>Has what waits carried out and forgets what was read along, so that the scratch memory can be written from its start.</summary>
    private void FreeScratch()
    {
        Settle();
        _ahead.Clear();
    }

    private int Add(long number, params ReadOnlySpan<ulong> arguments)
    {
        if (_count == ServerPage.MostOperations)
        {
            throw new InvalidOperationException($"a program of the server has at most {ServerPage.MostOperations} operations");
        }

        ulong* operation = (ulong*)(_page + ServerPage.Operations + (_count * ServerPage.OperationSize));
        operation[0] = (ulong)number;
        for (int i = 0; i < 6; i++)
        {
            operation[i + 1] = i < arguments.Length ? arguments[i] : 0;
        }

        return _count++;
    }

    private long ResultOf(int operation) => *(long*)(_page + ServerPage.Operations + (operation * ServerPage.OperationSize) + ServerPage.Result);

    private ulong ArgumentOf(int operation, int argument) => *(ulong*)(_page + ServerPage.Operations + (operation * ServerPage.OperationSize) + (argument * sizeof(ulong)));

    /// <summary>Has the server carry out what was added, and waits for it: awake where each host and each harness thread can have a processor.</summary>
    private void Submit()
    {
        *(ulong*)(_page + ServerPage.Count) = (ulong)_count;
        _count = 0;
        _scratchUsed = 0;
        Volatile.Write(ref *(ulong*)(_page + ServerPage.Asked), ++_asked);
        ref ulong done = ref *(ulong*)(_page + ServerPage.Done);
        int mostSpins = 2 * Volatile.Read(ref _hosts) <= Environment.ProcessorCount ? MostSpins : 0;
        for (int spins = 0; Volatile.Read(ref done) != _asked; spins++)
        {
            if (spins > mostSpins)
            {
                WaitLong(ref done);
                break;
            }

            Thread.SpinWait(20);
        }

        foreach ((int operation, ulong request, int expected) in _waiting)
        {
            long result = ResultOf(operation);
            if (result != expected)
            {
                _waiting.Clear();
                throw new KvmException(KvmArgument.NameOf(request), result < 0 ? (int)-result : EINVAL);
            }
        }

        _waiting.Clear();
    }

    private void WaitLong(ref ulong done)
    {
        long begin = Stopwatch.GetTimestamp();
        for (int waits = 1; Volatile.Read(ref done) != _asked; waits++)
        {
            if ((waits & 0xff) == 0)
            {
                if (_machine.Ended is string end)
                {
                    throw new EmulatedHostException($"the emulated host is gone, QEMU {end}; its console ends: {_machine.Console().Trim()}");
                }

                if (Stopwatch.GetElapsedTime(begin) > LongestSilence)
                {
                    throw new EmulatedHostException($"the emulated host did not answer for {LongestSilence.TotalSeconds} s; its console ends: {_machine.Console().Trim()}");
                }
            }

            LibCMore.usleep(20);
        }
    }
}
