using Iced.Intel;

namespace PvDiffFuzz.Models.X86.Tests;

/// <summary>No encoding of a served mnemonic may be forgotten.</summary>
public sealed class FormsTests
{
    private static readonly Mnemonic[] Served =
    [
        Mnemonic.Mov, Mnemonic.Movzx, Mnemonic.Movsx, Mnemonic.Movsxd, Mnemonic.Movbe, Mnemonic.Lea, Mnemonic.Xlatb, Mnemonic.Push, Mnemonic.Pop, Mnemonic.Pusha,
        Mnemonic.Pushad, Mnemonic.Popa, Mnemonic.Popad, Mnemonic.Pushf, Mnemonic.Pushfd, Mnemonic.Pushfq, Mnemonic.Popf, Mnemonic.Popfd, Mnemonic.Popfq,
        Mnemonic.Enter, Mnemonic.Leave, Mnemonic.Ret, Mnemonic.Loop, Mnemonic.Loope, Mnemonic.Loopne, Mnemonic.Jcxz, Mnemonic.Jecxz, Mnemonic.Jrcxz, Mnemonic.Jo,
        Mnemonic.Jno, Mnemonic.Jb, Mnemonic.Jae, Mnemonic.Je, Mnemonic.Jne, Mnemonic.Jbe, Mnemonic.Ja, Mnemonic.Js, Mnemonic.Jns, Mnemonic.Jp, Mnemonic.Jnp,
        Mnemonic.Jl, Mnemonic.Jge, Mnemonic.Jle, Mnemonic.Jg, Mnemonic.Movsb, Mnemonic.Movsw, Mnemonic.Movsq, Mnemonic.Cmpsb, Mnemonic.Cmpsw, Mnemonic.Cmpsq,
        Mnemonic.Scasb, Mnemonic.Scasw, Mnemonic.Scasd, Mnemonic.Scasq, Mnemonic.Lodsb, Mnemonic.Lodsw, Mnemonic.Lodsd, Mnemonic.Lodsq, Mnemonic.Stosb,
        Mnemonic.Stosw, Mnemonic.Stosd, Mnemonic.Stosq, Mnemonic.Insb, Mnemonic.Insw, Mnemonic.Insd, Mnemonic.Outsb, Mnemonic.Outsw, Mnemonic.Outsd, Mnemonic.In,
        Mnemonic.Out, Mnemonic.Clc, Mnemonic.Stc, Mnemonic.Cmc, Mnemonic.Cld, Mnemonic.Std, Mnemonic.Lahf, Mnemonic.Sahf, Mnemonic.Cli, Mnemonic.Sti,
        Mnemonic.Xchg, Mnemonic.Xadd, Mnemonic.Cmpxchg, Mnemonic.Cmpxchg8b, Mnemonic.Cmpxchg16b, Mnemonic.Int, Mnemonic.Int3, Mnemonic.Into, Mnemonic.Int1,
        Mnemonic.Ud0, Mnemonic.Ud1, Mnemonic.Ud2, Mnemonic.Bound, Mnemonic.Syscall, Mnemonic.Sysenter, Mnemonic.Sysret, Mnemonic.Sysretq, Mnemonic.Sysexit,
        Mnemonic.Sysexitq, Mnemonic.Hlt, Mnemonic.Rsm, Mnemonic.Lds, Mnemonic.Les, Mnemonic.Lfs, Mnemonic.Lgs, Mnemonic.Lss, Mnemonic.Lar, Mnemonic.Lsl,
        Mnemonic.Verr, Mnemonic.Verw, Mnemonic.Arpl, Mnemonic.Sgdt, Mnemonic.Sidt, Mnemonic.Sldt, Mnemonic.Str, Mnemonic.Smsw, Mnemonic.Lgdt, Mnemonic.Lidt,
        Mnemonic.Lldt, Mnemonic.Ltr, Mnemonic.Lmsw, Mnemonic.Nop, Mnemonic.Reservednop, Mnemonic.Lfence, Mnemonic.Sfence, Mnemonic.Mfence, Mnemonic.Pause,
        Mnemonic.Rdfsbase, Mnemonic.Rdgsbase, Mnemonic.Wrfsbase, Mnemonic.Wrgsbase,
    ];

    /// <summary>POP CS exists on the 8086 only; far RET, JMP and CALL are not modelled.</summary>
    private static readonly Code[] Elsewhere = [Code.Popw_CS];

    /// <summary>Near forms of JMP and CALL; the string forms of MOVSD and CMPSD share their mnemonics with SSE2.</summary>
    private static readonly Code[] Single =
    [
        Code.Jmp_rel8_16, Code.Jmp_rel8_32, Code.Jmp_rel8_64, Code.Jmp_rel16, Code.Jmp_rel32_32, Code.Jmp_rel32_64, Code.Jmp_rm16, Code.Jmp_rm32, Code.Jmp_rm64,
        Code.Call_rel16, Code.Call_rel32_32, Code.Call_rel32_64, Code.Call_rm16, Code.Call_rm32, Code.Call_rm64, Code.Movsd_m32_m32, Code.Cmpsd_m32_m32,
    ];

    [Fact]
    public void EveryFormOfAServedMnemonicIsModelled()
    {
        HashSet<Mnemonic> served = [.. Served];
        IEnumerable<Code> expected = Enum.GetValues<Code>()
            .Where(code => served.Contains(code.Mnemonic())
                && code.ToOpCode() is { IsInstruction: true, Encoding: EncodingKind.Legacy, DecoderOption: DecoderOptions.None })
            .Concat(Single)
            .Except(Elsewhere);

        Assert.Equal([], expected.Where(code => !X86Model.ModelledForms.Contains(code.ToString())));
    }
}
