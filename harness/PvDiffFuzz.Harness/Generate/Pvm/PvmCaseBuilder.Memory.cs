using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Generate.Pvm;

/// <content>Addresses: the slots that PVM cases have besides, the address ranges of the guest, stacks, and a piece of user code to return to.</content>
internal sealed partial class PvmCaseBuilder
{
    private const ulong Page = PageLayout.PageSize;

    private static bool IsAgent(ulong address) => address is >= AddressMap.AgentFirst - Page and <= AddressMap.AgentLast + Page;

    /// <inheritdoc/>
    private protected override ulong ChooseTarget(int size, bool writes)
    {
        if (!_random.Percent(_supervisor ? 30 : 15))
        {
            return base.ChooseTarget(size, writes);
        }

        ulong target = _supervisor ? SupervisorSlot(size, writes) : UserSlot(size);
        RememberAim(target);
        _contents.Touch(ref _random, target, size, _block);
        return target;
    }

    /// <summary>What the supervisor can access and the standard map does not have.</summary>
    private ulong SupervisorSlot(int size, bool writes)
    {
        ulong bits = _random.Next();
        ulong detail = (bits >> 16) & 0xfc0;
        uint split = (uint)(1 + ((bits >> 40) % (uint)Math.Max(1, size - 1)));
        return _block + ((bits & 7) switch
        {
            0 => PvmMap.Data + detail,
            1 => writes ? PvmMap.Data + Page - (uint)size : PvmMap.Data + Page - split,
            2 => writes ? PvmMap.Data + detail : PvmMap.Data + Page + detail,
            3 => PvmMap.SupervisorInBoth + detail,
            4 => PvmMap.WritableForSupervisor + detail,
            5 => PvmMap.Stack + Page - split,
            6 => PvmMap.Stack + detail,
            _ => writes ? PvmMap.SupervisorInBoth + Page - (uint)size : PvmMap.Code + detail,
        });
    }

    /// <summary>What user code can access, or can under one of the two roots or rules.</summary>
    private ulong UserSlot(int size)
    {
        ulong bits = _random.Next();
        ulong detail = (bits >> 16) & 0xfc0;
        uint split = (uint)(1 + ((bits >> 40) % (uint)Math.Max(1, size - 1)));
        return _block + ((bits & 7) switch
        {
            < 3 => PvmMap.UserOnly + detail,
            3 => PvmMap.UserOnly + Page - split,
            4 or 5 => PvmMap.SupervisorInBoth + detail,
            _ => PvmMap.WritableForSupervisor + detail,
        });
    }

    /// <summary>An address at which something is wrong in this mode, or in the other one.</summary>
    private ulong FaultTarget()
    {
        ulong bits = _random.Next();
        ulong detail = (bits >> 16) & 0xff8;
        ulong slot = (bits & 31) switch
        {
            0 or 1 => PvmMap.Data + detail,
            2 or 3 => PvmMap.Data + Page + detail,
            4 => PvmMap.Data + (2 * Page) - ((bits >> 40) & 7),
            5 or 6 => PvmMap.UserOnly + detail,
            7 => PvmMap.UserOnly + (2 * Page) - ((bits >> 40) & 7),
            8 => PvmMap.SupervisorInBoth + detail,
            9 or 10 => PvmMap.WritableForSupervisor + detail,
            11 or 12 => PvmMap.Stack + detail,
            13 => PvmMap.Stack + (2 * Page) - ((bits >> 40) & 7),
            14 => PvmMap.Code + detail,
            15 => AddressMap.CodeEnd + detail,
            _ => 0,
        };
        return slot != 0 ? _block + slot : (bits & 31) switch
        {
            16 or 17 => PvmEdges.RangeStart + ((bits >> 20) & 0xfff_ffff_fff8),
            18 => PvmEdges.RangeStart - ((bits >> 20) & 15),
            19 => PvmEdges.RangeEnd - 8 + ((bits >> 20) & 15),
            20 or 21 => 0xffff_8000_0000_0000 + ((bits >> 20) & 0xfff_ffff_fff8),
            22 => 0xffff_ffff_8000_0000 + ((bits >> 20) & 0x7fff_ffff),
            23 => 0xffff_ffff_ffff_f000 + detail,
            24 when !_supervisor && !_oneRoot => PvmMap.RetuRip,
            25 when !_supervisor && !_oneRoot => PvmMap.PvcsAddress + (detail & 0x78),
            _ => Aim.Faulting(ref _random, _block, 8, writes: (bits >> 32 & 1) != 0),
        };
    }

    /// <inheritdoc/>
    private protected override ulong StackPointer()
    {
        if (!_supervisor || !_random.Percent(12))
        {
            return base.StackPointer();
        }

        return SupervisorRspValue();
    }

    /// <summary>A supervisor's stack pointer: mostly in the middle of its slot, else where the 64 bytes of a frame and the area above them meet an edge.</summary>
    private ulong SupervisorRspValue()
    {
        ulong bits = _random.Next();
        ulong start = _block + PvmMap.Stack;
        ulong near = (bits >> 8) & 0xff;
        return (bits & 31) switch
        {
            < 14 => start + Page + ((bits >> 8) & 0x7f0),
            14 or 15 => start + Page + near,
            16 or 17 => start + near,
            18 => start + 0x40,
            19 => start + 0xc0 + (near & 15),
            20 => start + (2 * Page) - (near & 0x3f),
            21 => start + Page + 0x20,
            22 => _block + PvmMap.Data + Page + near,
            23 => _block + PvmMap.Data + Page + 0x40 + (near & 0x38),
            24 => _block + PvmMap.SupervisorInBoth + 0x800 + (near & 0xf8),
            25 => _block + AddressMap.Stack + Page + (near & 0xf8),
            26 => _block + PvmMap.Stack + 0x8000,
            27 => 0x0000_8000_0000_0000 + (near & 0x40) - (near & 0x38),
            28 => 0xffff_8000_0000_0000 + near,
            29 => near,
            30 => bits | 0x4000_0000_0000_0000,
            _ => PvmEdges.RangeStart + 0x1000 + near,
        };
    }

    /// <summary>A piece of user code in the writable code slot: a few harmless instructions and what leaves the mode, three times over.</summary>
    private ulong Snippet()
    {
        if (_snippet != 0)
        {
            return _snippet;
        }

        bool compatibility = !Long64 || _compatibleContext;
        ulong block = compatibility ? AddressMap.LowBlock : _block;
        _snippet = block + AddressMap.WritableCode + 0x1000 + (ulong)(_random.Below(56) * ContentsBuilder.RunLength);
        Span<byte> bytes = stackalloc byte[ContentsBuilder.RunLength];
        bytes.Fill(0x90);
        ReadOnlySpan<byte> harmless = [0x90, 0xf8, 0xf9, 0xf5, 0x98, 0x99, 0x91, 0x92, 0x93, 0x9f, 0x9e, 0x97, 0xfc];
        int at = 0;
        for (int part = 0; part < 3; part++)
        {
            int count = _random.Below(4);
            for (int i = 0; i < count; i++)
            {
                bytes[at++] = _random.Pick(harmless);
            }

            ReadOnlySpan<byte> leaving = _random.Below(10) switch
            {
                0 or 1 => [0xcc],
                2 or 3 => [0xcd, 0x80],
                4 or 5 when !compatibility => [0x0f, 0x05],
                6 => [0x0f, 0x0b],
                7 => [0xf4],
                8 => [0xf1],
                9 => [0xcd, 0x04],
                _ => [0xfa],
            };
            leaving.CopyTo(bytes[at..]);
            at += leaving.Length;
        }

        _contents.Poke(ref _random, _snippet, bytes, _block);
        return _snippet;
    }
}
