using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Harness.Generate;

/// <summary>What builders of paravirtual cases share: actions that the instruction families do not cover, or not with telling operands.</summary>
internal abstract class ParavirtualCaseBuilder(GeneratorOptions options, CpuProfile profile) : CaseBuilder(options, profile)
{
    private readonly SystemForms _forms64 = new(CpuMode.Long64);
    private readonly SystemForms _forms32 = new(CpuMode.Compatibility32);

    /// <summary>The forms of the mode.</summary>
    private protected SystemForms Forms => Long64 ? _forms64 : _forms32;

    /// <summary>Values of registers are no longer what the straight path says.</summary>
    private protected void Forget(ReadOnlySpan<byte> registers)
    {
        foreach (byte register in registers)
        {
            _known &= ~(1 << register);
        }
    }

    /// <summary>Writes a form with its operands, and follows what it does.</summary>
    private protected void WriteForm(FormTemplate form, in OperandChoice choice)
    {
        DefineFlagsFor(form.FlagsRead);
        Write(form, in choice, Plan.None);
        Track(form, in choice, null);
        _inside = true;
    }

    /// <summary>PUSHF, or POPF with flags chosen for it.</summary>
    private protected void FlagsOnStack()
    {
        EnsureStack();
        if (_random.Percent(40))
        {
            DefineFlagsFor(RflagsBits.Status);
            AddSetup([0x9c]);
            _value[Rsp] -= Long64 ? 8UL : 4UL;
            return;
        }

        uint flags = FlagsValue();
        Push((_random.Next() & 1) == 0 ? flags : flags & ~(uint)RflagsBits.IF);
        AddSetup([0x9d]);
        _value[Rsp] += Long64 ? 8UL : 4UL;
        _undefined = 0;
    }

    /// <summary>RDFSBASE, RDGSBASE, WRFSBASE or WRGSBASE.</summary>
    private protected void SegmentBase()
    {
        int form = _random.Below(4);
        OperandChoice choice = default;
        if (form < 2)
        {
            choice.Rm = ScratchRegister();
        }
        else
        {
            PrepareBase(Forms.SegmentBases[form], ref choice);
        }

        WriteForm(Forms.SegmentBases[form], in choice);
    }

    /// <summary>A division by zero or with a quotient too large.</summary>
    private protected void DivideError()
    {
        bool zero = _random.Percent(60);
        SetRegister(Rdx, zero ? 0UL : 0x7fff_fffe);
        SetRegister(Rcx, zero ? 0UL : (ulong)(1 + _random.Below(3)));
        ReadOnlySpan<byte> bytes = _random.Below(3) switch
        {
            0 => [0xf7, 0xf1],                              // DIV ECX
            1 => [0xf7, 0xf9],                              // IDIV ECX
            _ => [0xf6, 0xf1],                              // DIV CL: AX may fit
        };
        AddSetup(bytes);
        Forget([Rax, Rdx]);
        _undefined = RflagsBits.Status;
    }

    /// <summary>PUSHF, OR of TF, POPF: the trap comes after the instruction behind it.</summary>
    private protected void SingleStep()
    {
        EnsureStack();
        DefineFlagsFor(RflagsBits.Status);
        AddSetup([0x9c]);
        AddSetup([0x81, 0x0c, 0x24, 0x00, 0x01, 0x00, 0x00]);
        AddSetup([0x9d]);
    }
}
