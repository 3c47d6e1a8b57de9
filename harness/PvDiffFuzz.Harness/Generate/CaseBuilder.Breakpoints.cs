using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Generate;

/// <content>Debug registers: breakpoints on instructions, operands and stack of the case, and answers that let it go on behind them.</content>
internal partial class CaseBuilder
{
    private const ulong UserEnd = 0x7fff_ffff_f000;
    private const ulong AlwaysOne = 0x400;

    /// <summary>The operands aimed at last, most recent at <c>_aimCount - 1</c>.</summary>
    private readonly ulong[] _aims = new ulong[16];
    private protected int _aimCount;

    private protected void RememberAim(ulong target) => _aims[_aimCount++ & 15] = target;

    /// <summary>One to four breakpoints, most of them where the case will come by.</summary>
    private protected DebugRegisters Debug(CodeBlock code, bool executes)
    {
        Span<ulong> addresses = stackalloc ulong[4];
        ulong dr7 = AlwaysOne | (_random.Next() & 0x300);
        ulong enables = _random.Next() | (3UL << (_random.Below(4) * 2));
        for (int i = 0; i < 4; i++)
        {
            // 0 executes, 1 writes, 3 reads or writes; lengths 1, 2, 4, and 8 in 64-bit mode.
            ulong kind = _random.Pick<byte>(executes ? [0, 0, 1, 3] : [1, 1, 3, 3]);
            int log = kind == 0 ? 0 : _random.Below(Long64 ? 4 : 3);
            ulong target = kind == 0 ? ExecutionTarget(code) : AccessTarget(1 << log);
            addresses[i] = (Long64 ? target : (uint)target) & ~((1UL << log) - 1);
            if (addresses[i] >= UserEnd)
            {
                // Systems keep kernel addresses to themselves, and refuse to watch them even while disabled.
                addresses[i] = _block + AddressMap.Data;
            }

            ulong length = log switch { 0 => 0UL, 1 => 1, 2 => 3, _ => 2 };
            dr7 |= (kind | (length << 2)) << (16 + (i * 4));
            dr7 |= enables & (3UL << (i * 2));
        }

        return new DebugRegisters(addresses[0], addresses[1], addresses[2], addresses[3], dr7);
    }

    /// <summary>Mostly the first byte of an instruction, else one inside of it, or the address after the code.</summary>
    private ulong ExecutionTarget(CodeBlock code)
    {
        int kind = _random.Below(16);
        int offset = Math.Min(_code.OffsetOf(_random.Below(_code.Count)), code.Bytes.Length - 1);
        return kind switch
        {
            < 2 => code.Address + (ulong)_random.Below(code.Bytes.Length),
            2 => code.End,
            3 => _block + AddressMap.WritableCode + (_random.Next() & 0x1fc0),
            _ => code.Address + (ulong)offset,
        };
    }

    /// <summary>Mostly near an operand that the case aims at, else on the stack, or anywhere.</summary>
    private ulong AccessTarget(int size)
    {
        int kind = _random.Below(16);
        ulong near = (ulong)(long)(_random.Below(24) - 8);
        return kind switch
        {
            < 10 when _aimCount > 0 => _aims[_random.Below(Math.Min(_aimCount, _aims.Length))] + (kind < 6 ? 0 : near),
            < 14 => _initial[Rsp] - (ulong)_random.Below(64) + 8,
            14 => _block + _codeEnd - (_random.Next() & 0xff) - 1,
            _ => Aim.Valid(ref _random, _block, size, writes: true, _hot),
        };
    }

    /// <summary>Answers that mostly just go on: behind a trap, or with RF set behind an instruction breakpoint, as debuggers do.</summary>
    /// <remarks>Systems may show RF set at an instruction breakpoint, so that an answer there should choose RFLAGS itself.</remarks>
    private ImmutableArray<Response> BreakpointResponses(CodeBlock code, bool executes)
    {
        Response[] responses = new Response[1 + _random.Below(8)];
        int from = 0;
        for (int i = 0; i < responses.Length; i++)
        {
            List<KeyValuePair<Register, ulong>> patches = [];
            int kind = _random.Below(16);
            if (kind < 3)
            {
                // Forward only, so that a case does not run the same code for ever.
                from += _random.Below(Math.Max(1, (code.Lengths.Length - from) / 2)) + 1;
                patches.Add(KeyValuePair.Create(Register.Rip, code.Address + (ulong)Math.Min(_code.BoundaryFrom(from), code.Bytes.Length)));
            }

            if (executes ? kind != 0 : kind is 2 or 3 or 4)
            {
                ulong changing = RflagsBits.Status | RflagsBits.DF | RflagsBits.ID | RflagsBits.RF | RflagsBits.TF;
                ulong resume = kind < 12 ? RflagsBits.RF : 0;
                patches.Add(KeyValuePair.Create(Register.Rflags, RflagsBits.Fixed1 | RflagsBits.IF | resume | (_random.Next() & changing)));
            }

            responses[i] = new Response([.. patches]);
        }

        return ImmutableCollectionsMarshal.AsImmutableArray(responses);
    }
}
