using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Harness.Generate;

/// <content>Control transfers: mostly a few instructions ahead, so that cases end; loops only with a small count.</content>
internal partial class CaseBuilder
{
    private const int LoopBody = 3;

    /// <summary>Instructions to skip.</summary>
    private protected int Ahead() => _random.Below(8) switch { 0 => 3, 1 => 2, < 5 => 1, _ => 0 };

    private void EmitNearBranch(FormTemplate template)
    {
        OperandChoice choice = default;
        int kind = _random.Below(100);
        bool far = kind >= 98 && template.BranchBytes == 4;
        if (far)
        {
            // Beyond the code: mostly pages that are not there.
            ulong bits = _random.Next();
            long distance = 0x1_0000 + (long)((bits & 1) == 0 ? bits >> 34 : (bits >> 34) & 0xfffff);
            choice.Immediate = (ulong)((bits & 2) == 0 ? distance : -distance);
        }

        if (template.StackDelta != 0)
        {
            EnsureStack();
        }

        int prefixes = _random.Permille(_options.PrefixPermille) ? AddPrefixes(template, in choice, _buffer) : 0;
        int length = TemplateEncoder.Encode(template, in choice, _buffer.AsSpan(prefixes), out int at);
        _code.Add(_buffer.AsSpan(0, prefixes + length), _inside);
        if (!far)
        {
            int shift = kind < 4 ? 1 + _random.Below(3) : 0;
            _code.AimAhead(prefixes + at, template.BranchBytes, Ahead(), shift);
        }

        Track(template, in choice, null);
        _pinned = 0;
    }

    /// <summary>Loads the address of a later instruction into a register.</summary>
    private protected void LoadCodeAddress(int register, int ahead)
    {
        if (Long64)
        {
            AddSetup([(byte)(0x48 | ((register >> 3) << 2)), 0x8d, (byte)(5 | ((register & 7) << 3)), 0, 0, 0, 0]);
            _code.AimAhead(3, 4, ahead, 0);
        }
        else
        {
            AddSetup([(byte)(0xb8 | register), 0, 0, 0, 0]);
            _code.AddressAhead(1, 4, ahead);
        }

        _known &= ~(1 << register);
        _pinned |= 1 << register;
    }

    /// <summary>An address to jump to that is not an instruction of the case.</summary>
    private ulong StrangeTarget()
    {
        ulong target = _random.Below(8) switch
        {
            < 3 => _block + AddressMap.WritableCode + (ulong)(_random.Below(120) * ContentsBuilder.RunLength),
            < 5 => ChooseTarget(1, writes: false),
            5 => CodeTop,
            _ => Faulting(2, writes: false),
        };
        target = Long64 ? target : (uint)target;
        _contents.Touch(ref _random, target, 8, _block);
        return target;
    }

    private void EmitIndirectBranch(FormTemplate template)
    {
        OperandChoice choice = default;
        bool inside = _random.Percent(75);
        int ahead = Ahead();
        if (template.StackDelta != 0)
        {
            EnsureStack();
        }

        if (_random.Percent(40))
        {
            ulong target = _block + AddressMap.Data + (ulong)_hot[2] + (_random.Next() & 0x38);
            ulong strange = StrangeTarget();
            Express(target, ref choice);
            if (inside)
            {
                _contents.PokeCodeAddress(ref _random, target, _code.Count + 1 + ahead, Long64 ? 8 : 4, _block);
            }
            else
            {
                _contents.Poke(ref _random, target, BitConverter.GetBytes(strange), _block);
            }
        }
        else
        {
            choice.Rm = ScratchRegister();
            if (inside)
            {
                LoadCodeAddress(choice.Rm, ahead + 1);
            }
            else
            {
                SetRegister(choice.Rm, StrangeTarget());
            }
        }

        Write(template, in choice, Plan.IndirectBranch);
        Track(template, in choice, null);
        _pinned = 0;
    }

    private void EmitNearReturn(FormTemplate template)
    {
        EnsureStack();
        OperandChoice choice = new() { Immediate = _random.Next() & 0x18 };
        byte register = ScratchRegister();
        if (_random.Percent(70))
        {
            LoadCodeAddress(register, Ahead() + 2);
            PushRegister(register);
        }
        else if (_random.Percent(60))
        {
            SetRegister(register, StrangeTarget());
            PushRegister(register);
        }

        Write(template, in choice, Plan.NearReturn);
        Track(template, in choice, null);
        _pinned = 0;
    }

    private protected void EmitFarReturn(FormTemplate template)
    {
        EnsureStack();
        bool iret = template.Code.Mnemonic() is Mnemonic.Iretq or Mnemonic.Iretd or Mnemonic.Iret;
        bool natural = template.Code is Code.Iretq or Code.Retfq or Code.Retfq_imm16 || (!Long64 && template.Code is Code.Iretd or Code.Retfd or Code.Retfd_imm16);
        OperandChoice choice = new() { Immediate = _random.Next() & 0x18 };
        if (natural && _random.Percent(80))
        {
            byte register = ScratchRegister();
            if (iret)
            {
                if (Long64)
                {
                    SetRegister(register, StackPointer());
                    Push(_random.Percent(90) ? FlatData : Selector());
                    PushRegister(register);
                }

                Push(FlagsValue());
            }

            Push(_random.Percent(80) ? FlatCode : Selector());
            LoadCodeAddress(register, Ahead() + 2);
            PushRegister(register);
        }

        Write(template, in choice, Plan.FarReturn);
        Track(template, in choice, null);
        _known &= ~(1 << Rsp);
        _pinned = 0;
    }

    private void EmitFarBranch(FormTemplate template)
    {
        EnsureStack();
        OperandChoice choice = default;
        ushort selector = _random.Percent(60) ? FlatCode : Selector();
        int ahead = Ahead();
        if (template.RmField == RmField.None)
        {
            choice.Second = selector;
            choice.Immediate = _random.Next();
            int length = TemplateEncoder.Encode(template, in choice, _buffer, out int at);
            _code.Add(_buffer.AsSpan(0, length), _inside);
            _code.AddressAhead(at, template.ImmediateBytes == 2 ? 2 : 4, ahead);
        }
        else
        {
            ulong target = _block + AddressMap.Data + (ulong)_hot[3] + (_random.Next() & 0x30);
            PokeFarPointer(template, target, _random.Next(), selector);
            Express(target, ref choice);
            int width = template.MemoryBytes switch { 4 => 2, 6 => 4, _ => _profile.Vendor == CpuVendor.Amd ? 4 : 8 };
            _contents.PokeCodeAddress(ref _random, target, _code.Count + 1 + ahead, width, _block);
            Write(template, in choice, Plan.FarBranch);
        }

        Track(template, in choice, null);
        _known &= ~(1 << Rsp);
        _pinned = 0;
    }

    /// <summary>A loop of one to three plain instructions that runs a few times.</summary>
    private protected void EmitLoop()
    {
        SetRegister(Rcx, (ulong)(1 + _random.Below(5)));
        int start = _code.Length;
        int body = 1 + _random.Below(LoopBody);
        for (int i = 0; i < body; i++)
        {
            Candidate candidate = _pools.PickBody(ref _random);
            OperandChoice choice = default;
            ChooseBodyOperands(candidate.Template, ref choice);
            int length = TemplateEncoder.Encode(candidate.Template, in choice, _buffer, out _);
            _code.Add(_buffer.AsSpan(0, length), inside: true);
            Track(candidate.Template, in choice, candidate);
        }

        // What the body reads in the second round may be undefined after the first; LOOP itself reads no flag.
        byte opcode = (_undefined & RflagsBits.ZF) != 0 ? (byte)0xe2 : (byte)(0xe0 + _random.Below(3));
        _code.Add([opcode, (byte)(start - (_code.Length + 2))], inside: true);
        _known &= ~(1 << Rcx);
        _pinned = 0;
    }

    private void ChooseBodyOperands(FormTemplate template, ref OperandChoice choice)
    {
        choice.Reg = BodyRegister(template.RegBits);
        choice.Rm = BodyRegister(template.RmBits);
        choice.OpcodeReg = BodyRegister(template.OpcodeRegBits);
        choice.Immediate = OperandValue();
    }

    private byte BodyRegister(byte bits)
    {
        byte register = ScratchRegister();
        return register is Rcx or Rsp || bits == 8 ? Rax : register;
    }
}
