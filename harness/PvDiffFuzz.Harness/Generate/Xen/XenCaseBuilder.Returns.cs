using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Harness.Generate.Xen;

/// <content>HYPERVISOR_iret: with a frame of the payload, and as the answer to events, up to eight deep.</content>
internal sealed partial class XenCaseBuilder
{
    private const int MostPatches = 16;

    /// <summary>Frames lie side by side in the lower page of the stack, below what pushes and events reach.</summary>
    private const ulong FirstFrame = 0x400;

    private const int FrameDistance = 0x80;
    private const int MostFrames = 16;

    private readonly KeyValuePair<Register, ulong>[] _patches = new KeyValuePair<Register, ulong>[MostPatches];
    private int _patchCount;
    private int _frames;

    /// <summary>A return by the payload: to user code, or to what comes next.</summary>
    private void EmitReturn()
    {
        if (!_kernel)
        {
            SystemCall();
            return;
        }

        if (_frames == MostFrames || !_contents.HasRoom)
        {
            // A return without its frame would take whatever is there, and the guest with it.
            AddSetup([0x90]);
            return;
        }

        bool toUser = _random.Percent(55);
        ulong frame = _block + XenMap.Stack + FirstFrame + (ulong)(_frames++ * FrameDistance) + (_random.Below(8) == 0 ? _random.Next() & 0x38 : 0);
        bool odd = _random.Percent(_xen.OddFramePercent);
        ulong rip = toUser ? odd && _random.Percent(30) ? OddRip() : Snippet(kernel: false) : 0;
        ulong flags = FrameFlags(StartFlags());
        ulong rsp = toUser ? UserStack() : KernelStack();
        if (Narrow)
        {
            Span<uint> words = [(uint)_random.Next(), (uint)rip, FrameCs(toUser, odd), (uint)flags, (uint)rsp, FrameSs(toUser, odd)];
            _contents.Poke(ref _random, frame, MemoryMarshal.AsBytes(words), _block);
        }
        else
        {
            Span<ulong> words = [OperandValue(), OperandValue(), OperandValue(), _random.Pick(XenEdges.IretFlags), rip, FrameCs(toUser, odd), flags, rsp, FrameSs(toUser, odd)];
            _contents.Poke(ref _random, frame, MemoryMarshal.AsBytes(words), _block);
        }

        SetRegister(Rsp, _hazard == Hazard.Frame && !Narrow ? LostStack() : frame);
        Enter(XenCall.Iret);
        if (!toUser)
        {
            _contents.PokeCodeAddress(ref _random, frame + (ulong)((Narrow ? 1 : 4) * PointerSize), _code.Count + (_random.Percent(80) ? 0 : Ahead()), PointerSize, _block);
        }

        Forget([Rax, Rcx, R11, Rsp]);
        if (toUser)
        {
            return;
        }

        if (Narrow)
        {
            // A return within the kernel leaves the stack above the frame.
            SetRegister(Rsp, KernelStack());
        }
        else
        {
            (_value[Rsp], _known) = (rsp, _known | (1 << Rsp));
        }
    }

    /// <summary>CS of a frame. RPL 3 returns to user code, any other to the kernel.</summary>
    private ushort FrameCs(bool toUser, bool odd)
    {
        ulong bits = _random.Next();
        if (Narrow)
        {
            return toUser ? XenMap.UserCode32 : _hazard == Hazard.Frame ? (ushort)(XenMap.KernelCode32 & ~3) : XenMap.KernelCode32;
        }

        ushort flat = !toUser || Long64 ? XenMap.FlatCode64 : XenMap.FlatCode32;
        ushort usual = toUser ? flat : (ushort)((flat & ~3) | (bits & 15) switch { 0 => 1, 1 => 2, _ => 0 });
        return !odd || (bits >> 8 & 3) != 0 ? usual
            : toUser ? _random.Pick<ushort>([0xe02b, 0x0033, 0x002b, 0xe013, 0x0003, 0xfff3, 0xe037, 0x1003])
            : _random.Pick<ushort>([0xe028, 0x0030, 0x0000, 0xe010, 0xfff0]);
    }

    private ushort FrameSs(bool toUser, bool odd)
    {
        ulong bits = _random.Next();
        if (Narrow && !toUser)
        {
            // A return within the kernel takes no SS, and events need the one that is there.
            return XenMap.KernelData32;
        }

        ushort usual = !Narrow ? XenMap.FlatData : XenMap.UserData32;
        return (bits & 7) == 0 ? (ushort)(usual & ~3) : !odd || (bits >> 8 & 3) != 0 ? usual : _random.Pick<ushort>([0, 3, 0xe033, 0x002b, 0xe013, 0xffff, 0xe02f, 0x1003]);
    }

    private ulong UserStack()
    {
        ulong bits = _random.Next();
        ulong start = _block + AddressMap.Stack;
        ulong near = (bits >> 8) & 0x3f;
        ulong rsp = (bits & 15) switch
        {
            < 9 => start + Page + ((bits >> 8) & 0x3f8),
            9 => start + Page + near,
            10 => start + (near & 7),
            11 => start + (2 * Page) - near,
            12 => NonCanonical + near,
            13 => bits | 0x4000_0000_0000_0000,
            14 => _block + XenMap.Stack + Page + near,
            _ => near,
        };
        return Long64 ? rsp : (uint)rsp;
    }

    /// <summary>Flags as a guest could store them in a frame: mostly what its code may have, IF or not, else with what a return must clear or set.</summary>
    private ulong FrameFlags(ulong flags)
    {
        ulong bits = _random.Next();
        flags = (bits & 3) == 0 ? flags & ~RflagsBits.IF : flags;
        if ((bits >> 8 & 0xff) < 40)
        {
            flags ^= (bits >> 16 & 15) switch
            {
                0 or 1 => RflagsBits.IF | RflagsBits.Fixed1,
                2 or 3 or 4 => (1 + (bits >> 24) % 3) << 12,
                5 => RflagsBits.VM,
                6 => RflagsBits.VIF,
                7 => RflagsBits.VIP,
                8 => RflagsBits.NT,
                9 => RflagsBits.RF,
                10 or 11 => RflagsBits.TF,
                12 => RflagsBits.AC | RflagsBits.ID,
                13 => 0x8028,
                14 => 0xffc0_0000,
                _ => (bits >> 28) & 0x3f_7fff,
            };
        }

        // Virtual-8086 mode is nothing that the model follows.
        return (uint)(Narrow ? flags & ~RflagsBits.VM : flags);
    }

    /// <summary>Answers to the first events.</summary>
    private ImmutableArray<Response> Answers(CodeBlock code)
    {
        Response[] responses = new Response[_random.Pick<byte>([1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 8])];
        bool step = _random.Percent(12);
        _rflags |= step ? RflagsBits.TF : 0;
        bool user = !_kernel;
        int from = 0;
        for (int i = 0; i < responses.Length; i++)
        {
            bool toUser = user ? !_random.Percent(8) : _random.Percent(20);
            _patchCount = 0;
            Patch(code, user, toUser, step, ref from);
            responses[i] = new Response(_patchCount == 0 ? [] : ImmutableArray.Create(_patches.AsSpan(0, _patchCount)))
            {
                Return = ReturnKind.XenIret,
                Flags = Narrow || _random.Percent(60) ? 0 : _random.Pick(XenEdges.IretFlags),
                Hypercalls = !_raw && _random.Percent(_xen.ResponseHypercallPercent) ? Calls() : [],
                Inject = _random.Percent(_xen.ResponsePendingPercent) ? new Injection(InjectionKind.Upcall, 0) : null,
            };
            user = toUser;
        }

        return ImmutableCollectionsMarshal.AsImmutableArray(responses);
    }

    private void Set(Register register, ulong value) => _patches[_patchCount++] = KeyValuePair.Create(register, value);

    /// <summary>Changes to the delivered frame, in register order. A return to the other side gets a whole context.</summary>
    private void Patch(CodeBlock code, bool fromUser, bool toUser, bool step, ref int from)
    {
        ulong bits = _random.Next();
        bool whole = fromUser != toUser;
        bool odd = _random.Percent(_xen.OddFramePercent);
        ulong? rip = whole || (!step && (bits >> 8) % 100 < 65) ? TargetRip(code, toUser, odd && (bits >> 16 & 3) == 0, ref from) : null;
        if (!_kernel && (bits >> 24 & 31) == 0)
        {
            Set(Register.Rax, Narrowed(OperandValue()));
        }

        if ((bits >> 29 & 15) == 0)
        {
            Set(Register.Rcx, Narrowed(OperandValue()));
        }

        if (whole || (odd && toUser && (bits >> 33 & 1) == 0))
        {
            Set(Register.Rsp, toUser ? UserStack() : KernelStack());
        }

        if (Long64 && (bits >> 34 & 15) == 0)
        {
            Set(Register.R11, OperandValue());
        }

        if (rip is { } target)
        {
            Set(Register.Rip, target);
        }

        if (whole || (bits >> 38) % 100 < (step ? 5u : 30u))
        {
            Set(Register.Rflags, FrameFlags(StartFlags()));
        }

        if (whole || (odd && toUser && (bits >> 46 & 3) == 0))
        {
            Set(Register.Cs, FrameCs(toUser, odd));
            Set(Register.Ss, FrameSs(toUser, odd));
        }
    }

    private ulong Narrowed(ulong value) => Long64 ? value : (uint)value;

    /// <summary>Where the guest goes on: forward in the code where that is the side's, else in a piece of code made for it.</summary>
    private ulong TargetRip(CodeBlock code, bool toUser, bool odd, ref int from)
    {
        if (odd)
        {
            return Narrowed(OddRip());
        }

        if (toUser != _kernel)
        {
            // Forward only, so that a case does not run the same code for ever.
            from += _random.Below(Math.Max(1, (code.Lengths.Length - from) / 2)) + 1;
            return code.Address + (ulong)Math.Min(_code.BoundaryFrom(from), code.Bytes.Length);
        }

        return Snippet(kernel: !toUser);
    }
}
