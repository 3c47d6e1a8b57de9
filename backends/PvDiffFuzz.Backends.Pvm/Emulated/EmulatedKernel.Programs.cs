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

    /// <summary>Adds a run, and what is to be read after it.</summary>
    private int AddRun(int descriptor, byte* run, RunReads reads)
    {
        _ahead.Clear();
        int mirror = (int)(run - _scratch!.Start);
        int at = Add(ServerPage.Run, (ulong)descriptor, _runs.Find(r => r.Mirror == (nint)run).Run, _scratch.Address + (ulong)mirror);
        _ahead.Add((descriptor, KvmAbi.KVM_GET_REGS, mirror + KvmRunLayout.SyncRegs, Known));
        _ahead.Add((descriptor, KvmAbi.KVM_GET_SREGS, mirror + KvmRunLayout.SyncSregs, Known));
        _ahead.Add((descriptor, KvmAbi.KVM_GET_VCPU_EVENTS, mirror + KvmRunLayout.SyncEvents, Known));
        if (reads == RunReads.All)
        {
            ReadAhead(descriptor, KvmAbi.KVM_GET_MSRS);
            ReadAhead(descriptor, KvmAbi.KVM_GET_DEBUGREGS);
        }

        return at;
    }

    /// <summary>In place of an operation: what KVM has stored by itself.</summary>
    private const int Known = -1;

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

    /// <summary>Answers for a list of model-specific registers by the one that was read.</summary>
    /// <returns>How many were answered for; -1 when one of them was not read.</returns>
    private int AnswerRegisters(void* wanted, int place, int read)
    {
        // A list is its length in 8 bytes and its entries.
        KvmMsrEntry* entries = (KvmMsrEntry*)((byte*)wanted + sizeof(ulong));
        Span<KvmMsrEntry> known = new(_scratch!.Start + place + sizeof(ulong), read);
        int count = *(int*)wanted;
        for (int i = 0; i < count; i++)
        {
            uint index = entries[i].Index;
            int at = i < read && known[i].Index == index ? i : -1;
            for (int k = 0; at < 0 && k < read; k++)
            {
                at = known[k].Index == index ? k : -1;
            }

            if (at < 0)
            {
                return -1;
            }

            entries[i].Data = known[at].Data;
        }

        return count;
    }

    private bool TryReadAhead(int descriptor, ulong request, void* argument, int size, out int result)
    {
        foreach ((int of, ulong what, int place, int at) in _ahead)
        {
            if (of != descriptor || what != request)
            {
                continue;
            }

            if (request == KvmAbi.KVM_GET_MSRS)
            {
                result = AnswerRegisters(argument, place, (int)ResultOf(at));
                return result >= 0;
            }

            Buffer.MemoryCopy(_scratch!.Start + place, argument, size, size);
            result = at == Known ? 0 : (int)ResultOf(at);
            return true;
        }

        result = 0;
        return false;
    }

    private long Call(int number, params ReadOnlySpan<ulong> arguments)
    {
        int at = Add(number, arguments);
        Submit();
        return ResultOf(at);
    }

    /// <summary>For clean-up: a host that is gone has nothing to clean up.</summary>
    private long TryCall(int number, params ReadOnlySpan<ulong> arguments)
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
        if (_count > 0)
        {
            Submit();
        }

        _ahead.Clear();
    }

    private int Add(int number, params ReadOnlySpan<ulong> arguments)
    {
        if (_count == ServerPage.MostOperations)
        {
            throw new InvalidOperationException($"a program of the server has at most {ServerPage.MostOperations} operations");
        }

        ulong* operation = (ulong*)(_page + ServerPage.Operations + (_count * ServerPage.OperationSize));
        operation[0] = (uint)number;
        for (int i = 0; i < 6; i++)
        {
            operation[i + 1] = i < arguments.Length ? arguments[i] : 0;
        }

        return _count++;
    }

    private long ResultOf(int operation) => *(long*)(_page + ServerPage.Operations + (operation * ServerPage.OperationSize) + ServerPage.Result);

    private ulong ArgumentOf(int operation, int argument) => *(ulong*)(_page + ServerPage.Operations + (operation * ServerPage.OperationSize) + (argument * sizeof(ulong)));

    /// <summary>Has the server carry out what was added.</summary>
    private void Ask()
    {
        *(ulong*)(_page + ServerPage.Count) = (ulong)_count;
        foreach ((int operation, ulong _, int expected) in _waiting)
        {
            *(int*)(_page + ServerPage.Operations + (operation * ServerPage.OperationSize) + ServerPage.Needed) = expected + 1;
        }

        _count = 0;
        _scratchUsed = 0;
        Volatile.Write(ref *(ulong*)(_page + ServerPage.Asked), ++_asked);
    }

    /// <summary>Address of the page whose program the server carries out; 0 for none.</summary>
    private ulong Current => Volatile.Read(ref *(ulong*)(_page + ServerPage.Current));

    private bool IsDone => Volatile.Read(ref *(ulong*)(_page + ServerPage.Done)) == _asked;

    /// <summary>Looks at the results without which the server has not gone on.</summary>
    /// <exception cref="KvmException">KVM refused a call.</exception>
    private void CheckResults()
    {
        foreach ((int operation, ulong request, int expected) in _waiting)
        {
            long result = ResultOf(operation);
            if (result != expected)
            {
                _waiting.Clear();
                _ahead.Clear();
                throw new KvmException(KvmArgument.NameOf(request) + RegisterOf(operation, request, result), result < 0 ? (int)-result : EINVAL);
            }
        }

        _waiting.Clear();
    }

    /// <summary>The register that KVM did not take of a list, as words.</summary>
    private string RegisterOf(int operation, ulong request, long result)
    {
        if (request != KvmAbi.KVM_SET_MSRS || result < 0)
        {
            return "";
        }

        // The list is still where it was asked for from: its length in 8 bytes, then its entries.
        byte* list = _scratch!.Start + (ArgumentOf(operation, 3) - _scratch.Address);
        return $", register {((KvmMsrEntry*)(list + sizeof(ulong)))[result].Index:x}";
    }

    /// <summary>Has the server carry out what was added, and waits for it.</summary>
    private void Submit()
    {
        Ask();
        for (int waits = 0; !IsDone; waits++)
        {
            _machine.Rest(waits);
        }

        CheckResults();
    }
}
