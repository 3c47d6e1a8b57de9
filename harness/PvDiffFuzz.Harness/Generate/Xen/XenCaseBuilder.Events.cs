using PvDiffFuzz.Isa;
using RflagsBits = PvDiffFuzz.Core.RflagsBits;

namespace PvDiffFuzz.Harness.Generate.Xen;

/// <content>What enters the guest's kernel, or Xen, by itself.</content>
internal sealed partial class XenCaseBuilder
{
    private const byte StackSegment = 2;

    private static ReadOnlySpan<byte> Prefixes64 => [0x66, 0x2e, 0x36, 0x3e, 0x65, 0xf2, 0xf3, 0x40, 0x48, 0x4f];

    private static ReadOnlySpan<byte> Prefixes32 => [0x66, 0x67, 0x2e, 0x36, 0x3e, 0x26, 0x64, 0xf2, 0xf3];

    private void SoftwareInterrupt(bool prefixed)
    {
        Span<byte> bytes = stackalloc byte[8];
        int at = 0;
        if (prefixed)
        {
            at = Prefix(bytes);
        }

        int kind = _random.Below(20);
        if (kind < 4)
        {
            bytes[at++] = 0xcc;
        }
        else if (kind < 6 && !Long64)
        {
            DefineFlagsFor(RflagsBits.OF);
            bytes[at++] = 0xce;
        }
        else
        {
            byte vector = kind < 17 ? _random.Pick(XenEdges.Interrupts) : (byte)_random.Next();
            bytes[at++] = 0xcd;
            bytes[at++] = Narrow && _kernel && vector == 0x82 ? (byte)0x81 : vector;
        }

        AddSetup(bytes[..at]);
    }

    /// <summary>One to three prefixes, REX last.</summary>
    private int Prefix(Span<byte> bytes)
    {
        int count = 1 + (_random.Below(8) switch { 0 => 2, 1 => 1, _ => 0 });
        for (int i = 0; i < count; i++)
        {
            bytes[i] = _random.Pick(Long64 ? i + 1 < count ? Prefixes64[..7] : Prefixes64 : Prefixes32);
        }

        return count;
    }

    private void Undefined()
    {
        ReadOnlySpan<byte> bytes = _random.Below(6) switch
        {
            < 3 => [0x0f, 0x0b],
            3 => [0x0f, 0xb9, 0xc0],
            _ => [0x0f, 0xff, 0xc0],
        };
        AddSetup(bytes);
    }

    /// <summary>BOUND with an index mostly out of its bounds; in 64-bit code its opcode is EVEX's, which is invalid with what follows.</summary>
    private void Bound()
    {
        if (Long64)
        {
            AddSetup([0x62, 0x00]);
            AddSetup([0x90]);
            return;
        }

        ulong target = ChooseTarget(8, writes: false);
        byte register = ScratchRegister();
        _contents.Poke(ref _random, target, BitConverter.GetBytes(_random.Percent(70) ? 0x10UL << 32 : 0x7fff_ffff_8000_0000), _block);
        SetRegister(register, (uint)OperandValue());
        AddSetup([0x62, (byte)(5 | (register << 3)), (byte)target, (byte)(target >> 8), (byte)(target >> 16), (byte)(target >> 24)]);
    }

    /// <summary>SYSCALL of user code.</summary>
    private void SystemCall()
    {
        if (_kernel)
        {
            EmitHypercall();
            return;
        }

        Span<byte> bytes = stackalloc byte[8];
        int at = _random.Percent(25) ? Prefix(bytes) : 0;
        bytes[at++] = 0x0f;
        bytes[at++] = 0x05;
        AddSetup(bytes[..at]);
        Forget([Rcx, R11]);
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
            case 2 when !_kernel:
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
        if (_random.Percent(50))
        {
            SingleStep();
        }

        byte register = ScratchRegister();
        SetRegister(register, _random.Percent(92) ? FlatData : Selector());
        WriteForm(Forms.LoadSegment, new OperandChoice { Reg = StackSegment, Rm = register });
        ReadOnlySpan<byte> behind = _random.Below(8) switch
        {
            0 => [0xcc],
            1 => [0xcd, 0x03],
            2 => [0xcd, 0x80],
            3 => [0xf1],
            4 => [0x0f, 0x0b],
            5 => [0xfb],
            6 when !_kernel => [0x0f, 0x05],
            _ => [0x90],
        };
        AddSetup(behind);
        Forget([Rcx, R11]);
    }

    /// <summary>The forced emulation prefix and CPUID of Xen's first leaf, or an instruction that it does not force.</summary>
    private void ForcedEmulation()
    {
        bool cpuid = _random.Percent(60);
        if (cpuid)
        {
            SetRegister(Rax, XenLeaf);
            SetRegister(Rcx, _random.Percent(70) ? 0 : OperandValue());
        }

        Span<byte> bytes = [0x0f, 0x0b, 0x78, 0x65, 0x6e, 0x0f, 0xa2];
        if (!cpuid)
        {
            ReadOnlySpan<byte> other = _random.Below(4) switch { 0 => [0x90, 0x90], 1 => [0x0f, 0x0b], 2 => [0xf4, 0x90], _ => [0xcd, 0x03] };
            other.CopyTo(bytes[5..]);
        }

        AddSetup(bytes);
        _code.KeepWhole();
        Forget([Rax, Rcx, Rdx, Rbx]);
    }
}
