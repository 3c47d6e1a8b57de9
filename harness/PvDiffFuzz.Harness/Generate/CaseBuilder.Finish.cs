using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Generate;

/// <content>From instructions to a case: final addresses, contents, responses, and the check for excluded instructions.</content>
internal sealed partial class CaseBuilder
{
    private TestCase? Finish()
    {
        ulong address = _block + AddressMap.CodeEnd - (ulong)_code.Length;
        _code.Resolve(address);
        if (Exclusions.FindAnywhere(_code.Bytes, _mode, _profile, out _) is not null)
        {
            return null;
        }

        return Assemble(new CodeBlock(address, ImmutableCollectionsMarshal.AsImmutableArray(_code.Bytes.ToArray()), _code.Lengths()));
    }

    private TestCase Assemble(CodeBlock code)
    {
        _contents.Resolve(ref _random, _code, code.Address, _block);
        ImmutableArray<Response> responses = _options.ResponsePercent > 0 && _random.Percent(_options.ResponsePercent) ? Responses(code) : [];
        DebugRegisters? debug = _options.DebugPercent > 0 && _random.Percent(_options.DebugPercent) ? Debug(code) : null;
        ulong selectors = _random.Next();
        return new TestCase
        {
            Code = code,
            Layout = AddressMap.Standard,
            Contents = _contents.ToContents(_mode, _profile),
            Responses = responses,
            Registers = new RegisterState
            {
                Gpr = _initial,
                Rip = code.Address,
                Rflags = _rflags,
                Cs = Long64 ? Selectors.UserCode64 : Selectors.UserCode32,
                Ds = DataSelector(selectors),
                Es = DataSelector(selectors >> 8),
                Fs = (selectors & 0x70_0000) == 0 ? Selectors.UserData : (ushort)0,
                Gs = (selectors & 0x7000_0000) == 0 ? Selectors.UserData : (ushort)0,
                FsBase = _startFsBase,
                GsBase = _startGsBase,
                Debug = debug,
            },
        };
    }

    /// <summary>32-bit code needs DS and ES; 64-bit code usually runs with null selectors.</summary>
    private ushort DataSelector(ulong bits) => !Long64 || (bits & 3) == 0 ? Selectors.UserData : (ushort)0;

    /// <summary>One to four answers that go on somewhere in the code.</summary>
    private ImmutableArray<Response> Responses(CodeBlock code)
    {
        Response[] responses = new Response[1 + _random.Below(4)];
        bool step = _random.Percent(25);
        if (step)
        {
            _rflags |= RflagsBits.TF;
        }

        int from = 0;
        for (int i = 0; i < responses.Length; i++)
        {
            List<KeyValuePair<Register, ulong>> patches = [];
            int kind = _random.Below(16);
            if (kind == 0)
            {
                patches.Add(KeyValuePair.Create(Register.Rax, Long64 ? OperandValue() : (uint)OperandValue()));
            }

            if (!step && kind < 13)
            {
                // Forward only, so that a case does not run the same code for ever.
                from += _random.Below(Math.Max(1, (code.Lengths.Length - from) / 2)) + 1;
                patches.Add(KeyValuePair.Create(Register.Rip, code.Address + (ulong)Math.Min(_code.BoundaryFrom(from), code.Bytes.Length)));
            }

            if (kind is 1 or 2 or 3)
            {
                ulong flags = RflagsBits.Fixed1 | RflagsBits.IF | (_random.Next() & (RflagsBits.Status | RflagsBits.DF | RflagsBits.ID));
                patches.Add(KeyValuePair.Create(Register.Rflags, kind == 1 ? flags | RflagsBits.TF : flags));
            }

            responses[i] = new Response([.. patches]);
        }

        return ImmutableCollectionsMarshal.AsImmutableArray(responses);
    }

    private DebugRegisters Debug(CodeBlock code)
    {
        Span<ulong> addresses = stackalloc ulong[4];
        ulong dr7 = 0x400;
        for (int i = 0; i < 4; i++)
        {
            // 0 executes, 1 writes, 3 reads or writes; lengths 1, 2, 4, and 8 in 64-bit mode.
            ulong kind = _random.Pick<byte>([0, 0, 1, 3]);
            int log = kind == 0 ? 0 : _random.Below(Long64 ? 4 : 3);
            ulong target = kind == 0
                ? code.Address + (ulong)_code.OffsetOf(_random.Below(_code.Count))
                : ChooseTarget(1 << log, writes: true);
            addresses[i] = (Long64 ? target & 0x7fff_ffff_ffff : (uint)target) & ~((1UL << log) - 1);
            ulong length = log switch { 0 => 0UL, 1 => 1, 2 => 3, _ => 2 };
            dr7 |= (kind | (length << 2)) << (16 + (i * 4));
            dr7 |= (_random.Next() & 1) << (i * 2);
        }

        return new DebugRegisters(addresses[0], addresses[1], addresses[2], addresses[3], dr7);
    }
}
