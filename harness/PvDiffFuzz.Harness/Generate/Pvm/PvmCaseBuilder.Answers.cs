using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Harness.Generate.Pvm;

/// <content>Answers: returns of both kinds up to eight events deep, with patches, hypercalls before them, and things pending behind them.</content>
internal sealed partial class PvmCaseBuilder
{
    private const int MostPatches = 16;

    private readonly KeyValuePair<Register, ulong>[] _patches = new KeyValuePair<Register, ulong>[MostPatches];
    private int _patchCount;

    private ImmutableArray<Response> Answers(CodeBlock code)
    {
        Response[] responses = new Response[_random.Pick<byte>([1, 1, 1, 2, 2, 2, 3, 3, 4, 5, 6, 8])];
        bool step = _random.Percent(12);
        _rflags |= step ? RflagsBits.TF : 0;
        ReturnKind back = Rfc1 ? ReturnKind.Erets : ReturnKind.Iretq;
        bool user = !_supervisor;
        int from = 0;
        for (int i = 0; i < responses.Length; i++)
        {
            bool toUser = user ? !_random.Percent(8) : _random.Percent(22);
            _patchCount = 0;
            Patch(code, user, toUser, step, ref from);
            responses[i] = new Response(_patchCount == 0 ? [] : ImmutableArray.Create(_patches.AsSpan(0, _patchCount)))
            {
                Return = toUser ? ReturnKind.Eretu : back,
                Hypercalls = _random.Percent(_pvm.ResponseHypercallPercent) ? Calls() : [],
                Inject = _random.Percent(_pvm.ResponseInjectPercent) ? Pending() : null,
            };
            user = toUser;
        }

        return ImmutableCollectionsMarshal.AsImmutableArray(responses);
    }

    private void Set(Register register, ulong value) => _patches[_patchCount++] = KeyValuePair.Create(register, value);

    /// <summary>Changes to the saved context, in register order.</summary>
    /// <remarks>
    /// A return to the other mode than the one interrupted gets a whole context, and so do some returns to supervisor mode, since the events of vectors from 32 leave no frame on the
    /// stack. Later revisions push none at all, so that their IRETQ gets one always.
    /// </remarks>
    private void Patch(CodeBlock code, bool fromUser, bool toUser, bool step, ref int from)
    {
        ulong bits = _random.Next();
        bool whole = fromUser != toUser || (!toUser && (!Rfc1 || _random.Percent(30)));
        bool odd = bits % 100 < (uint)_pvm.OddFramePercent;
        ulong? rip = whole || (!step && (bits >> 8) % 100 < 65) ? TargetRip(code, toUser, odd && (bits >> 16 & 3) == 0, ref from) : null;
        ulong? flags = whole || (bits >> 20) % 100 < (step ? 5u : 25u) ? toUser ? UserFlags() : SupervisorFlags() : null;
        bool sysret = toUser && rip is not null && flags is not null && (bits >> 28 & 3) == 0;
        if ((bits >> 30 & 31) == 0)
        {
            Set(Register.Rax, Narrow(OperandValue()));
        }

        if (sysret || (bits >> 35 & 15) == 0)
        {
            Set(Register.Rcx, sysret ? rip!.Value : Narrow(OperandValue()));
        }

        if (whole || (odd && (bits >> 39 & 1) == 0))
        {
            Set(Register.Rsp, Narrow(toUser ? UserRsp() : SupervisorRspValue()));
        }

        if (Long64 && (sysret || (bits >> 40 & 15) == 0))
        {
            Set(Register.R11, sysret ? flags!.Value & 0x25_4fd7 | RflagsBits.IF : OperandValue());
        }

        if (rip is { } target)
        {
            Set(Register.Rip, target);
        }

        if (flags is { } value)
        {
            Set(Register.Rflags, value);
        }

        if (toUser)
        {
            PatchUser(bits >> 44, whole, odd);
        }
        else if (!Rfc1)
        {
            Set(Register.Cs, odd && (bits >> 44 & 7) == 0 ? UserCs() : Selectors.UserCode64);
            Set(Register.Ss, odd && (bits >> 44 & 7) == 1 ? UserSs() : Selectors.UserData);
        }
        else if (odd && (bits >> 44 & 7) == 0)
        {
            // EVENT_RETURN_SUPERVISOR ignores both.
            Set(Register.Cs, FrameSelector(0x10) & 0xffff);
            Set(Register.Ss, FrameSelector(0x18) & 0xffff);
        }
    }

    private void PatchUser(ulong bits, bool whole, bool odd)
    {
        if (whole || (odd && (bits & 7) == 0))
        {
            Set(Register.Cs, whole && _supervisor ? _compatibleContext ? Selectors.UserCode32 : Selectors.UserCode64 : Long64 ? _random.Pick<ushort>([0x33, 0x33, 0x30, 0x32]) : Selectors.UserCode32);
            Set(Register.Ss, UserSs());
        }

        if ((bits >> 3 & 7) == 0)
        {
            Set(Register.GsBase, UserGsBase());
        }

        if (_profile.Has("PKU") && (bits >> 6 & 15) == 0)
        {
            Set(Register.Pkru, PkruValue());
        }
    }

    private ulong Narrow(ulong value) => Long64 ? value : (uint)value;

    /// <summary>Where the guest goes on: forward in the code where that is the mode's, else in a piece of code that both modes can run.</summary>
    private ulong TargetRip(CodeBlock code, bool toUser, bool odd, ref int from)
    {
        if (odd)
        {
            return Narrow(OddRip());
        }

        if (toUser == !_supervisor || (!toUser && Rfc1))
        {
            // Forward only, so that a case does not run the same code for ever.
            from += _random.Below(Math.Max(1, (code.Lengths.Length - from) / 2)) + 1;
            return code.Address + (ulong)Math.Min(_code.BoundaryFrom(from), code.Bytes.Length);
        }

        return Snippet() + (ulong)(_random.Below(4) == 0 ? _random.Below(12) : 0);
    }

    private ImmutableArray<Hypercall> Calls()
    {
        Hypercall[] calls = new Hypercall[_random.Below(5) == 0 ? 2 : 1];
        Span<ulong> arguments = stackalloc ulong[3];
        for (int i = 0; i < calls.Length; i++)
        {
            ulong number = CallNumber(arguments, out int count);
            while (!MayAnswer(number, arguments))
            {
                number = CallNumber(arguments, out count);
            }

            calls[i] = new Hypercall(number, ImmutableArray.Create(arguments[..count]));
        }

        return ImmutableCollectionsMarshal.AsImmutableArray(calls);
    }

    /// <summary>False for calls that would take the ground from under the supervisor that answers: its halt, its roots, its entries, its structure.</summary>
    private static bool MayAnswer(ulong number, ReadOnlySpan<ulong> arguments) => number switch
    {
        PvmCall.Base + PvmCall.IrqHlt or PvmCall.Base + PvmCall.LoadPgtbl => false,
        PvmCall.Base + PvmCall.Wrmsr => (uint)arguments[0] is not (PvmMsr.EventEntry or PvmMsr.VcpuStruct or PvmMsr.RetuRip or PvmMsr.RetsRip or PvmMsr.SwitchCr3 or PvmMsr.Efer or PvmMsr.Lstar),
        _ => true,
    };
}
