using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Reads results of the agent as outcomes.</summary>
/// <param name="machine">The machine that they come from.</param>
internal sealed class BatchDecoder(Machine machine)
{
    private const byte PageFaultVector = 14;

    private readonly List<MemoryWord> _words = [];
    private readonly SortedDictionary<int, ulong> _initial = [];

    /// <summary>Reads one result.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="system">The system side before the batch, as the host showed it.</param>
    /// <param name="result">The result, header first, without anything behind it.</param>
    /// <returns>Null when the case has to run alone.</returns>
    public Outcome? Decode(TestCase testCase, SystemState system, ReadOnlySpan<byte> result)
    {
        int count = MemoryMarshal.Read<int>(result[Result.Events..]);
        uint status = MemoryMarshal.Read<uint>(result[Result.Status..]);
        if ((status & Result.Refused) != 0)
        {
            return null;
        }

        List<Event> events = new(count);
        RegisterState? last = null;
        ReadOnlySpan<byte> context = default;
        bool ended = false;
        ulong? cr2 = null;
        ulong? supervisorRsp = null;
        ContextReader reader = new(testCase, machine.Plan);
        for (int i = 0; i < count; i++)
        {
            context = result.Slice(Result.HeaderSize + (i * Context.Size), Context.Size);
            AgentPort port = ContextReader.PortOf(context);
            ended = port == AgentPort.End;
            if (ended)
            {
                last = reader.Registers(context, testCase.Code.End);
                break;
            }

            Event what = reader.Read(context, injected: null);
            last = what.Registers;
            events.Add(what);
            cr2 = what.Vector == PageFaultVector && what.Cr2 is ulong address ? address : cr2;
            supervisorRsp = port is AgentPort.UserEntry or AgentPort.Lstar ? last.Gpr[4] : supervisorRsp;
        }

        if (reader.IsHidden)
        {
            return null;
        }

        ImmutableArray<MemoryWord> memory = Memory(testCase, result[(Result.HeaderSize + (count * Context.Size))..], out bool intact);
        if (!intact)
        {
            return Outcome.Unsupported("the payload overwrites the jump stub of the target");
        }

        ulong? dr6 = (status & Result.Debug) != 0 ? MemoryMarshal.Read<ulong>(result[Result.Dr6..]) : null;
        return new Outcome
        {
            End = ended || (status & Result.AtEnd) != 0 ? EndKind.ReachedEnd : EndKind.Event,
            Events = [.. events],
            Registers = last!,
            Memory = memory,
            System = System(testCase, system, ContextReader.StructureOf(context), cr2, supervisorRsp, dr6),
        };
    }

    /// <summary>What the host showed before the batch, with what the case has of its own and what its events changed.</summary>
    private static SystemState System(TestCase testCase, SystemState before, ReadOnlySpan<byte> pvcs, ulong? cr2, ulong? supervisorRsp, ulong? dr6)
    {
        List<KeyValuePair<SystemRegister, ulong>> values = [];
        foreach ((SystemRegister register, ulong value) in before.Values)
        {
            bool own = register is SystemRegister.KernelGsBase or SystemRegister.Cstar or SystemRegister.SyscallMask or SystemRegister.SysenterCs or SystemRegister.SysenterEip
                or SystemRegister.SysenterEsp or SystemRegister.PvmSupervisorRsp or SystemRegister.PvmSupervisorRedzone or SystemRegister.Cr2;
            ulong now = own ? testCase.System[register] : value;
            now = register switch
            {
                SystemRegister.Cr2 => cr2 ?? now,
                SystemRegister.PvmSupervisorRsp => supervisorRsp ?? now,
                SystemRegister.Dr6 => dr6 ?? now,
                _ => now,
            };
            values.Add(new(register, now));
        }

        for (int i = 0; i < values.Count; i++)
        {
            if (values[i].Key is >= SystemRegister.PvcsEventFlags and <= SystemRegister.PvcsR11)
            {
                values[i] = new(values[i].Key, EventReader.Field(testCase.Abi, values[i].Key, pvcs));
            }
        }

        return SystemState.Of(values);
    }

    /// <summary>The words that differ from the initial ones, in address order.</summary>
    private ImmutableArray<MemoryWord> Memory(TestCase testCase, ReadOnlySpan<byte> words, out bool stubIntact)
    {
        _initial.Clear();
        _words.Clear();
        Add(testCase.Code.Address, testCase.Code.Bytes.AsSpan());
        foreach (MemoryContents contents in testCase.Contents)
        {
            Add(contents.Address, contents.Bytes.AsSpan());
        }

        bool supervisor = testCase.Start == GuestMode.Supervisor;
        if (supervisor)
        {
            Add(testCase.Code.End, GuestAgent.Stub);
        }

        stubIntact = true;
        for (; !words.IsEmpty; words = words[16..])
        {
            int offset = (int)MemoryMarshal.Read<ulong>(words);
            ulong value = MemoryMarshal.Read<ulong>(words[8..]);
            if (!_initial.Remove(offset, out ulong initial) || initial != value)
            {
                _words.Add(new MemoryWord(AddressOf(offset), value));
            }
        }

        foreach ((int offset, ulong value) in _initial)
        {
            if (value != 0)
            {
                _words.Add(new MemoryWord(AddressOf(offset), 0));
            }
        }

        foreach (MemoryWord word in _words)
        {
            stubIntact &= !supervisor || word.Address + 7 < testCase.Code.End || word.Address >= testCase.Code.End + (ulong)GuestAgent.Stub.Length;
        }

        _words.Sort((a, b) => a.Address.CompareTo(b.Address));
        return ImmutableArray.Create(CollectionsMarshal.AsSpan(_words));
    }

    private ulong AddressOf(int offset) => machine.Pages.AddressOf(offset >> 12) + (ulong)(offset & 0xfff);

    /// <summary>Notes bytes of writable pages as parts of quadwords.</summary>
    private void Add(ulong address, ReadOnlySpan<byte> bytes)
    {
        for (int i = 0; i < bytes.Length; i++)
        {
            ulong at = address + (ulong)i;
            int index = machine.Pages.IndexOf(at);
            if (index < 0 || index >= machine.Pages.Writable)
            {
                i += (int)(PageLayout.PageSize - 1 - (at & 0xfff));
                continue;
            }

            int offset = (index * PageLayout.PageSize) + (int)(at & 0xff8);
            ulong word = _initial.GetValueOrDefault(offset);
            int first = (int)(at & 7);
            for (; first < 8 && i < bytes.Length; first++, i++)
            {
                word |= (ulong)bytes[i] << (8 * first);
            }

            i--;
            _initial[offset] = word;
        }
    }
}
