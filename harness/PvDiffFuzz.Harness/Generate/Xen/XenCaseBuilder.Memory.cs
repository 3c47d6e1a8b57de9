using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Generate.Xen;

/// <content>Addresses: the slots that Xen cases have besides, stacks, and pieces of code to return to.</content>
internal sealed partial class XenCaseBuilder
{
    private const ulong NonCanonical = 0x0000_8000_0000_0000;

    /// <summary>Room that two frames need, one above the other.</summary>
    private const ulong FrameRoom = 0xa0;

    /// <summary>Pages of Xen's own range may be there, and who may read them is Xen's affair: no access is aimed at them.</summary>
    private bool IsPrivate(ulong address) => Narrow ? address >= XenMap.PrivateFirst32 - 64 : address - (XenMap.PrivateFirst - 64) <= XenMap.PrivateLast - XenMap.PrivateFirst + 64;

    private static bool IsAgent(ulong address) => address is >= AddressMap.AgentFirst - Page and <= AddressMap.AgentLast + Page;

    /// <inheritdoc/>
    private protected override ulong Faulting(int size, bool writes)
    {
        ulong target = base.Faulting(size, writes);
        target = Long64 ? target : (uint)target;
        return IsPrivate(target) ? _block + AddressMap.CodeEnd + (target & 0xff8) : target;
    }

    /// <inheritdoc/>
    private protected override ulong Valid(int size, bool writes)
    {
        ulong target = base.Valid(size, writes);
        return Narrow && (target > uint.MaxValue || IsPrivate(target)) ? _block + AddressMap.Data + (target & 0xfc0) : target;
    }

    /// <inheritdoc/>
    private protected override ulong ChooseTarget(int size, bool writes)
    {
        if (!_random.Percent(_kernel ? 25 : 15) || (Narrow && !_kernel))
        {
            return base.ChooseTarget(size, writes);
        }

        ulong target = _kernel ? KernelSlot(size, writes) : UserSlot(size);
        RememberAim(target);
        _contents.Touch(ref _random, target, size, _block);
        return target;
    }

    private ulong KernelSlot(int size, bool writes)
    {
        ulong bits = _random.Next();
        ulong detail = (bits >> 16) & 0xfc0;
        uint split = (uint)(1 + ((bits >> 40) % (uint)Math.Max(1, size - 1)));
        return _block + ((bits & 7) switch
        {
            0 or 1 => XenMap.Data + detail,
            2 => writes ? XenMap.Data + Page - (uint)size : XenMap.Data + Page - split,
            3 => writes ? XenMap.Data + detail : XenMap.Data + Page + detail,
            4 => XenMap.WritableForKernel + detail,
            5 => XenMap.Stack + Page - split,
            6 => XenMap.Stack + 0xc00 + (detail & 0x3c0),
            _ => writes ? XenMap.WritableForKernel + Page - (uint)size : XenMap.Code + detail,
        });
    }

    private ulong UserSlot(int size)
    {
        ulong bits = _random.Next();
        ulong detail = (bits >> 16) & 0xfc0;
        uint split = (uint)(1 + ((bits >> 40) % (uint)Math.Max(1, size - 1)));
        return _block + ((bits & 3) switch
        {
            0 => XenMap.UserOnly + detail,
            1 => XenMap.UserOnly + Page - split,
            _ => XenMap.WritableForKernel + detail,
        });
    }

    /// <summary>An address at which something is wrong on this side, or on the other one.</summary>
    private ulong FaultTarget()
    {
        ulong bits = _random.Next();
        ulong detail = (bits >> 16) & 0xff8;
        ulong slot = (bits & 31) switch
        {
            0 or 1 => XenMap.Data + detail,
            2 or 3 => XenMap.Data + Page + detail,
            4 => XenMap.Data + (2 * Page) - ((bits >> 40) & 7),
            5 or 6 => XenMap.UserOnly + detail,
            7 => XenMap.UserOnly + (2 * Page) - ((bits >> 40) & 7),
            8 or 9 => XenMap.WritableForKernel + detail,
            10 => XenMap.WritableForKernel + Page - ((bits >> 40) & 7),
            11 or 12 => XenMap.Stack + detail,
            13 => XenMap.Stack + (2 * Page) - ((bits >> 40) & 7),
            14 or 15 => XenMap.Code + detail,
            16 => AddressMap.CodeEnd + detail,
            _ => 0,
        };
        if (slot != 0)
        {
            return _block + slot;
        }

        return Narrow ? Faulting(8, writes: (bits >> 32 & 1) != 0) : (bits & 31) switch
        {
            17 or 18 => XenMap.UpperBlock + XenMap.Data + detail,
            19 => XenMap.PrivateLast + 1 + ((bits >> 20) & 0x3f_ffff_fff8),
            20 => 0xffff_ffff_8000_0000 + ((bits >> 20) & 0xff_fff8),
            21 => 0xffff_ffff_ffff_f000 + detail,
            22 => NonCanonical + detail,
            _ => Faulting(8, writes: (bits >> 32 & 1) != 0),
        };
    }

    /// <inheritdoc/>
    private protected override ulong StackPointer() => _kernel ? KernelStack() : base.StackPointer();

    /// <summary>A stack pointer at which two frames can be delivered: mostly in the middle of a slot, else at odd addresses, near edges, in pages that user code has too.</summary>
    private ulong KernelStack()
    {
        ulong bits = _random.Next();
        ulong near = (bits >> 8) & 0xff;
        ulong start = _block + XenMap.Stack;
        return (bits & 31) switch
        {
            < 14 => start + Page + ((bits >> 8) & 0x7f0),
            14 or 15 => start + Page + near,
            16 or 17 => start + FrameRoom + near,
            18 => start + FrameRoom,
            19 or 20 => start + (2 * Page) - (near & 0x3f),
            21 => start + Page + 0x20 + (near & 0x3f),
            22 => _block + XenMap.Data + FrameRoom + near,
            23 => _block + XenMap.Data + Page - (near & 0x3f),
            24 => _block + XenMap.WritableForKernel + 0x800 + near,
            25 or 26 => _block + AddressMap.Stack + Page + near,
            27 => _block + AddressMap.ReadOnlyThenWritable + Page + FrameRoom + near,
            28 when !Narrow => XenMap.UpperBlock + XenMap.Stack + Page + near,
            29 when !Narrow => (_block == AddressMap.LowBlock ? AddressMap.HighBlock : AddressMap.LowBlock) + XenMap.Stack + Page + near,
            _ => start + Page,
        };
    }

    /// <summary>A stack pointer at which no frame can be delivered: nowhere, read-only, too near an edge, not canonical, in Xen's range, or right around it.</summary>
    private ulong LostStack()
    {
        ulong bits = _random.Next();
        ulong near = (bits >> 8) & 0x3f;
        if (Narrow)
        {
            return (bits & 3) switch { 0 => _block + XenMap.Stack + (near & 0x1f), 1 => XenMap.PrivateFirst32 + 0x1000 + near, 2 => near, _ => _block + AddressMap.CodeEnd + 0x800 + near };
        }

        return (bits & 15) switch
        {
            0 => _block + XenMap.Stack + near,
            1 => _block + XenMap.Data + (2 * Page) - near,
            2 => _block + AddressMap.CodeEnd + 0x800 + near,
            3 => NonCanonical + 0x100 + near,
            4 => bits | 0x4000_0000_0000_0000,
            5 => XenMap.PrivateFirst,
            6 => XenMap.PrivateFirst + 16 + near,
            7 => XenMap.PrivateLast - near,
            8 => XenMap.PrivateLast + 1,
            9 => XenMap.PrivateLast + 0x40 + near,
            10 => 0xffff_82d0_4020_0000 + near,
            11 => near,
            12 => 0xffff_ffff_ffff_ff00 + near,
            13 => _block + AddressMap.Data + Page + 0x8000,
            14 => _block + XenMap.UserOnly + 0x800 + near,
            _ => 0,
        };
    }

    /// <summary>A piece of code in the writable code slot, which both sides have: a few harmless instructions and what enters the kernel, three times over.</summary>
    /// <param name="kernel">For the guest's kernel, which must not find a SYSCALL there.</param>
    private ulong Snippet(bool kernel)
    {
        ref ulong snippet = ref kernel ? ref _kernelSnippet : ref _userSnippet;
        if (snippet != 0)
        {
            return snippet;
        }

        ulong block = Long64 ? _block : AddressMap.LowBlock;
        snippet = block + AddressMap.WritableCode + Page + (ulong)(((_random.Below(28) * 2) + (kernel ? 1 : 0)) * ContentsBuilder.RunLength);
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
                4 or 5 when !kernel => [0x0f, 0x05],
                6 => [0x0f, 0x0b],
                7 => [0xf4],
                8 => [0xf1],
                9 => [0xcd, 0x40],
                _ => [0xcd, 0x03],
            };
            leaving.CopyTo(bytes[at..]);
            at += leaving.Length;
        }

        _contents.Poke(ref _random, snippet, bytes, _block);
        return snippet;
    }

    /// <summary>An instruction pointer at which nothing runs for long.</summary>
    private ulong OddRip()
    {
        ulong bits = _random.Next();
        ulong low = (bits >> 8) & 0xfff;
        ulong rip = (bits & 15) switch
        {
            0 => NonCanonical,
            1 => NonCanonical - 1,
            2 => NonCanonical + low,
            3 => 0xffff_7fff_ffff_f000 + low,
            4 => XenMap.PrivateLast + 1 + low,
            5 => XenMap.UpperBlock + XenMap.Data + low,
            6 => ulong.MaxValue - low,
            7 => bits | 0x4000_0000_0000_0000,
            8 => _block + AddressMap.CodeEnd,
            9 => low,
            10 => _block + AddressMap.Data + low,
            11 => _block + XenMap.UserOnly + low,
            12 => _block + XenMap.Data + low,
            13 => _block + AddressMap.CodeEnd + 0x8000,
            14 => _block + XenMap.WritableForKernel + low,
            _ => _block + AddressMap.WritableCode + (2 * Page) - (low & 3),
        };
        return Narrow ? (uint)rip >= XenMap.PrivateFirst32 ? low : (uint)rip : IsPrivate(rip) ? low : rip;
    }
}
