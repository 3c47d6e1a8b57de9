using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Generate;

/// <summary>Initial memory of one case: a few aligned runs of 64 bytes around the places that operands were aimed at.</summary>
internal sealed class ContentsBuilder
{
    /// <summary>Bytes in a run.</summary>
    public const int RunLength = 64;

    /// <summary>Runs that operands may ask for; places that need certain bytes may add a few more.</summary>
    private const int Wanted = 7;
    private const int Capacity = 24;

    private readonly ulong[] _addresses = new ulong[Capacity];
    private readonly byte[] _bytes = new byte[Capacity * RunLength];
    private readonly (ulong Address, int Instruction, int Size)[] _codeAddresses = new (ulong, int, int)[Capacity];
    private int _count;
    private int _codeAddressCount;
    private bool _system;
    private bool _userRoot;
    private ulong _limit;

    /// <summary>Forgets everything.</summary>
    /// <param name="system">True when the slots of a supervisor may have contents too: those of <see cref="PvmMap"/> and of <see cref="XenMap"/>, which lie at the same places.</param>
    /// <param name="userRoot">True when there is a user root of its own, which has a slot more.</param>
    /// <param name="limit">Pages from here on hold nothing.</param>
    public void Clear(bool system = false, bool userRoot = false, ulong limit = ulong.MaxValue)
    {
        _count = 0;
        _codeAddressCount = 0;
        _system = system;
        _userRoot = userRoot;
        _limit = limit;
    }

    /// <summary>True when bytes that must be there, and an address of the code in them, find room.</summary>
    public bool HasRoom => _count <= Capacity - 4 && _codeAddressCount < Capacity;

    /// <summary>Gives an access something to read, if there is room left and its page has contents.</summary>
    public void Touch(ref CounterRandom random, ulong target, int size, ulong block)
    {
        if (_count >= Wanted)
        {
            return;
        }

        ulong first = target & ~(ulong)(RunLength - 1);
        ulong last = (target + (ulong)size - 1) & ~(ulong)(RunLength - 1);
        Find(ref random, first, block);
        if (last != first)
        {
            Find(ref random, last, block);
        }
    }

    /// <summary>Puts bytes somewhere. Bytes that fall on places without contents are dropped.</summary>
    public void Poke(ref CounterRandom random, ulong target, ReadOnlySpan<byte> bytes, ulong block)
    {
        for (int i = 0; i < bytes.Length; i++)
        {
            ulong address = target + (ulong)i;
            int run = Find(ref random, address & ~(ulong)(RunLength - 1), block);
            if (run >= 0)
            {
                _bytes[(run * RunLength) + (int)(address % RunLength)] = bytes[i];
            }
        }
    }

    /// <summary>Puts the address of an instruction somewhere, once it is known.</summary>
    public void PokeCodeAddress(ref CounterRandom random, ulong target, int instruction, int size, ulong block)
    {
        if (_codeAddressCount < Capacity)
        {
            Find(ref random, target & ~(ulong)(RunLength - 1), block);
            _codeAddresses[_codeAddressCount++] = (target, instruction, size);
        }
    }

    /// <summary>Writes the addresses of instructions.</summary>
    public void Resolve(ref CounterRandom random, CodeWriter code, ulong address, ulong block)
    {
        Span<byte> bytes = stackalloc byte[8];
        for (int i = 0; i < _codeAddressCount; i++)
        {
            (ulong target, int instruction, int size) = _codeAddresses[i];
            BinaryPrimitives.WriteUInt64LittleEndian(bytes, address + (ulong)code.BoundaryFrom(instruction));
            Poke(ref random, target, bytes[..size], block);
        }
    }

    /// <summary>The runs in address order, joined where they touch, without excluded instructions in executable pages.</summary>
    public ImmutableArray<MemoryContents> ToContents(CpuMode mode, CpuProfile profile)
    {
        if (_count == 0)
        {
            return [];
        }

        Span<int> order = stackalloc int[Capacity];
        for (int i = 0; i < _count; i++)
        {
            int at = i;
            while (at > 0 && _addresses[order[at - 1]] > _addresses[i])
            {
                order[at] = order[at - 1];
                at--;
            }

            order[at] = i;
        }

        int joined = 1;
        for (int i = 1; i < _count; i++)
        {
            joined += _addresses[order[i]] == _addresses[order[i - 1]] + RunLength ? 0 : 1;
        }

        MemoryContents[] contents = new MemoryContents[joined];
        int next = 0;
        for (int i = 0; i < _count;)
        {
            int length = 1;
            while (i + length < _count && _addresses[order[i + length]] == _addresses[order[i]] + (ulong)(length * RunLength))
            {
                length++;
            }

            byte[] bytes = GC.AllocateUninitializedArray<byte>(length * RunLength);
            for (int k = 0; k < length; k++)
            {
                _bytes.AsSpan(order[i + k] * RunLength, RunLength).CopyTo(bytes.AsSpan(k * RunLength));
            }

            if (IsWritableCode(_addresses[order[i]]))
            {
                Disarm(bytes, mode, profile);
            }

            contents[next++] = new MemoryContents(_addresses[order[i]], ImmutableCollectionsMarshal.AsImmutableArray(bytes));
            i += length;
        }

        return ImmutableCollectionsMarshal.AsImmutableArray(contents);
    }

    /// <summary>Executable contents must not hold excluded instructions either.</summary>
    private static void Disarm(Span<byte> bytes, CpuMode mode, CpuProfile profile)
    {
        while (Exclusions.FindAnywhere(bytes, mode, profile, out int offset) is not null)
        {
            bytes[offset] = 0x90;
        }
    }

    private int Find(ref CounterRandom random, ulong address, ulong block)
    {
        for (int i = 0; i < _count; i++)
        {
            if (_addresses[i] == address)
            {
                return i;
            }
        }

        if (_count == Capacity || address >= _limit || !MayHold(address))
        {
            return -1;
        }

        _addresses[_count] = address;
        Fill(ref random, _bytes.AsSpan(_count * RunLength, RunLength), address, block);
        return _count++;
    }

    /// <summary>Contents may stand in any present page but those of the code.</summary>
    private bool MayHold(ulong address)
    {
        ulong inBlock = address & ~0xf_ffffUL;
        if (inBlock is AddressMap.LowBlock or AddressMap.HighBlock)
        {
            ulong offset = address & 0xf_ffff;
            ulong last = offset & 0xffff;
            return last < 0x2000 && (offset is >= AddressMap.Data and < AddressMap.Supervisor || (_system && MayHoldSystem(offset & 0xf_0000, last)));
        }

        ulong page = address & ~0xfffUL;
        return page is AddressMap.Lowest or AddressMap.Highest or AddressMap.SignEdge or (AddressMap.SignEdge + 0x1000) or AddressMap.FourGigabyteEdge
            or (AddressMap.FourGigabyteEdge + 0x1000);
    }

    /// <summary>The slots that cases with a supervisor have besides, but for its code and what else is not free.</summary>
    private bool MayHoldSystem(ulong slot, ulong offset) =>
        slot is PvmMap.Stack or PvmMap.Data || (slot == PvmMap.UserOnly && _userRoot) || (slot is PvmMap.SupervisorInBoth or PvmMap.WritableForSupervisor && offset < PageLayout.PageSize);

    private static bool IsWritableCode(ulong address) =>
        (address & ~0xf_ffffUL) is AddressMap.LowBlock or AddressMap.HighBlock && (address & 0xf_0000) == AddressMap.WritableCode;

    private static void Fill(ref CounterRandom random, Span<byte> run, ulong address, ulong block)
    {
        Span<ulong> words = MemoryMarshal.Cast<byte, ulong>(run);
        ulong kinds = random.Next();
        for (int i = 0; i < words.Length; i++)
        {
            ulong bits = random.Next();
            words[i] = ((kinds >> (i * 4)) & 15) switch
            {
                < 6 => bits,
                < 11 => EdgeValues.Operands[(int)((bits >> 32) % (uint)EdgeValues.Operands.Length)],
                < 14 => block + AddressMap.Data + (bits & 0x1ff8),
                _ => 0,
            };
        }

        if (IsWritableCode(address))
        {
            // Something that can be executed for a while: one-byte instructions that only touch registers and flags.
            ReadOnlySpan<byte> harmless = [0x90, 0xf8, 0xf9, 0xf5, 0xfc, 0x98, 0x99, 0x90, 0x91, 0x92, 0x93, 0xc3, 0x9f, 0x9e, 0x97, 0xcc];
            for (int i = 0; i < 32; i++)
            {
                run[i] = harmless[(int)((kinds >> (i & 31)) & 15)];
            }
        }
    }
}
