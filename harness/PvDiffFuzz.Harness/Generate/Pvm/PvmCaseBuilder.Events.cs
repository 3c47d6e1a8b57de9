using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Harness.Generate.Pvm;

/// <content>What raises events in both modes.</content>
internal sealed partial class PvmCaseBuilder
{
    private void SoftwareInterrupt()
    {
        byte vector = (byte)_random.Next();
        switch (_random.Below(20))
        {
            case < 5:
                AddSetup([0xcc]);
                break;
            case < 7:
                AddSetup([0xcd, 3]);
                break;
            case < 9 when !Long64:
                DefineFlagsFor(RflagsBits.OF);
                AddSetup([0xce]);
                break;
            case < 10:
                AddSetup([0xcd, 4]);
                break;
            case < 16:
                AddSetup([0xcd, 0x80]);
                break;
            case < 18:
                AddSetup([0xcd, (byte)(vector & 31)]);
                break;
            default:
                AddSetup([0xcd, vector]);
                break;
        }
    }

    private void Undefined()
    {
        ReadOnlySpan<byte> bytes = _random.Below(8) switch
        {
            < 3 => [0x0f, 0x0b],
            3 => [0x0f, 0xb9, 0xc0],
            4 => [0x0f, 0xff, 0xc0],
            _ => [0xf1],
        };
        AddSetup(bytes);
    }

    private void PageFault()
    {
        ulong target = FaultTarget();
        target = Long64 ? target : (uint)target;
        OperandChoice choice = default;
        switch (_random.Below(8))
        {
            case 0 when !IsAgent(target):
                // A fetch.
                byte pointer = ScratchRegister();
                SetRegister(pointer, target);
                AddSetup(pointer >= 8 ? [0x41, 0xff, (byte)(0xe0 | (pointer & 7))] : [0xff, (byte)(0xe0 | pointer)]);
                return;
            case 1 when Long64:
                // #SS where the address is not canonical.
                SetRegister(Rbp, target);
                choice.IsMemory = true;
                choice.Memory = new MemoryOperand((sbyte)Rbp, MemoryOperand.None, 0, 0);
                break;
            case 2 when Long64:
                SetRegister(Rsp, target);
                AddSetup([0x50]);
                Forget([Rsp]);
                return;
            default:
                Express(target, ref choice);
                break;
        }

        choice.Reg = ScratchRegister();
        FormTemplate form = _random.Below(8) switch { < 3 => Forms.Load, < 6 => Forms.Store, _ => Forms.Modify };
        WriteForm(form, in choice);
    }

    private void StackShadow()
    {
        bool call = Long64 && _random.Below(8) == 0;
        if (call)
        {
            SetRegister(Rax, PvmCall.Base + (ulong)_random.Below(PvmCall.Count));
        }

        // A single step would hide what becomes of a watchpoint.
        bool watched = _random.Percent(25);
        if (_random.Percent(watched ? 15 : 50))
        {
            SingleStep();
        }

        if (watched)
        {
            // From memory, so that a breakpoint can watch it: its trap is due after the instruction behind.
            OperandChoice choice = new() { Reg = StackSegment };
            _watched = ChooseTarget(2, writes: false);
            _contents.Poke(ref _random, _watched, BitConverter.GetBytes(Selectors.UserData), _block);
            Express(_watched, ref choice);
            WriteForm(Forms.LoadSegment, in choice);
        }
        else if (_random.Percent(75))
        {
            byte register = ScratchRegister();
            SetRegister(register, _random.Percent(92) ? Selectors.UserData : Selector());
            AddSetup(register >= 8 ? [0x41, 0x8e, (byte)(0xd0 | (register & 7))] : [0x8e, (byte)(0xd0 | register)]);
        }
        else if (Long64)
        {
            // MOV EDX, SS; MOV SS, EDX: POP SS exists in compatibility mode only.
            AddSetup([0x8c, 0xd2]);
            AddSetup([0x8e, 0xd2]);
            Forget([Rdx]);
        }
        else
        {
            Push(Selectors.UserData);
            AddSetup([0x17]);
            _value[Rsp] += 4;
        }

        ReadOnlySpan<byte> behind = call ? [0x0f, 0x05] : _random.Below(7) switch
        {
            0 => [0xcc],
            1 => [0xcd, 0x03],
            2 => [0xcd, 0x80],
            3 => [0xf1],
            4 => [0x0f, 0x0b],
            5 => [0xfb],
            _ => [0x90],
        };
        AddSetup(behind);
        Forget([Rax, Rcx, R10, R11]);
    }
}
