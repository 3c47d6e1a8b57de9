using System.Collections.Immutable;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Generate;

/// <content>From instructions to a case: final addresses, contents, responses, and the check for excluded instructions.</content>
internal partial class CaseBuilder
{
    private protected TestCase? Finish()
    {
        ulong address = CodeTop - (ulong)_code.Length;
        _code.Resolve(address);
        if (IsExcluded(_code.Bytes))
        {
            return null;
        }

        return Assemble(new CodeBlock(address, ImmutableCollectionsMarshal.AsImmutableArray(_code.Bytes.ToArray()), _code.Lengths()));
    }

    /// <summary>True when some byte of the code may begin an instruction that is never generated.</summary>
    private protected virtual bool IsExcluded(ReadOnlySpan<byte> code) => Exclusions.FindAnywhere(code, _mode, _profile, out _) is not null;

    private protected virtual TestCase Assemble(CodeBlock code)
    {
        _contents.Resolve(ref _random, _code, code.Address, _block);
        bool armed = _options.DebugPermille > 0 && _random.Permille(_options.DebugPermille);
        bool executes = armed && _random.Percent(50);
        ImmutableArray<Response> responses = armed && _random.Percent(75) ? BreakpointResponses(code, executes)
            : _options.ResponsePercent > 0 && _random.Percent(_options.ResponsePercent) ? Responses(code)
            : [];
        DebugRegisters? debug = armed ? Debug(code, executes) : null;
        _rflags |= armed ? _random.Pick<ulong>([0, 0, 0, RflagsBits.TF, RflagsBits.RF, RflagsBits.TF | RflagsBits.RF]) : 0;
        return new TestCase
        {
            Registers = StartState(code.Address, debug),
            Code = code,
            Layout = AddressMap.Standard,
            Contents = _contents.ToContents(_mode, _profile),
            Responses = responses,
        };
    }

    /// <summary>The registers with which the case starts.</summary>
    private protected RegisterState StartState(ulong rip, DebugRegisters? debug)
    {
        ulong selectors = _random.Next();
        return new RegisterState
        {
            Gpr = _initial,
            Rip = rip,
            Rflags = _rflags,
            Cs = FlatCode,
            Ss = FlatData,
            Ds = DataSelector(selectors),
            Es = DataSelector(selectors >> 8),
            Fs = (selectors & 0x70_0000) == 0 ? FlatData : (ushort)0,
            Gs = (selectors & 0x7000_0000) == 0 ? FlatData : (ushort)0,
            FsBase = _startFsBase,
            GsBase = _startGsBase,
            Debug = debug,
        };
    }

    /// <summary>32-bit code needs DS and ES; 64-bit code usually runs with null selectors.</summary>
    private ushort DataSelector(ulong bits) => !Long64 || (bits & 3) == 0 ? FlatData : (ushort)0;

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
}
