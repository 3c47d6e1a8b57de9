using System.Collections.Frozen;
using Iced.Intel;

namespace PvDiffFuzz.Isa;

/// <summary>Which <see cref="Family"/> a mnemonic belongs to. The only place that says so.</summary>
internal static class Families
{
    private static readonly FrozenDictionary<Mnemonic, Family> Named = Build();

    /// <summary>The family of a form.</summary>
    public static Family Of(OpCodeInfo form)
    {
        // A few mnemonics mean different families by form: moves of control, debug and segment registers, pushes of segment registers.
        for (int i = 0; i < form.OpCount; i++)
        {
            switch (form.GetOpKind(i))
            {
                case OpCodeOperandKind.cr_reg or OpCodeOperandKind.dr_reg or OpCodeOperandKind.tr_reg:
                    return Family.Privileged;
                case OpCodeOperandKind.seg_reg or OpCodeOperandKind.es or OpCodeOperandKind.cs or OpCodeOperandKind.ss or OpCodeOperandKind.ds
                    or OpCodeOperandKind.fs or OpCodeOperandKind.gs:
                    return Family.Segment;
            }
        }

        if (Named.TryGetValue(form.Mnemonic, out Family family))
        {
            return family;
        }

        string name = form.Mnemonic.ToString();
        if (name.StartsWith("Cmov", StringComparison.Ordinal))
        {
            return Family.Move;
        }

        if (name.StartsWith("Set", StringComparison.Ordinal) && form.Mnemonic != Mnemonic.Setssbsy)
        {
            return Family.Bit;
        }

        if (form.Code.FlowControl() is FlowControl.ConditionalBranch or FlowControl.UnconditionalBranch)
        {
            return Family.Branch;
        }

        if (name.EndsWith("xadd", StringComparison.Ordinal))
        {
            return Family.Atomic;
        }

        return form.IsPrivileged || form.MustBeCpl0 ? Family.Privileged : Family.Misc;
    }

    private static FrozenDictionary<Mnemonic, Family> Build()
    {
        Dictionary<Mnemonic, Family> named = [];
        Add(Family.Arithmetic, Mnemonic.Add, Mnemonic.Adc, Mnemonic.Sub, Mnemonic.Sbb, Mnemonic.Cmp, Mnemonic.Inc, Mnemonic.Dec, Mnemonic.Neg, Mnemonic.Adcx, Mnemonic.Adox,
            Mnemonic.Aaa, Mnemonic.Aas, Mnemonic.Aad, Mnemonic.Aam, Mnemonic.Daa, Mnemonic.Das);
        Add(Family.Logic, Mnemonic.And, Mnemonic.Or, Mnemonic.Xor, Mnemonic.Not, Mnemonic.Test);
        Add(Family.Shift, Mnemonic.Rol, Mnemonic.Ror, Mnemonic.Rcl, Mnemonic.Rcr, Mnemonic.Shl, Mnemonic.Shr, Mnemonic.Sal, Mnemonic.Sar, Mnemonic.Shld, Mnemonic.Shrd);
        Add(Family.Multiply, Mnemonic.Mul, Mnemonic.Imul, Mnemonic.Div, Mnemonic.Idiv, Mnemonic.Mulx);
        Add(Family.Move, Mnemonic.Mov, Mnemonic.Movsx, Mnemonic.Movsxd, Mnemonic.Movzx, Mnemonic.Movnti, Mnemonic.Lea, Mnemonic.Bswap, Mnemonic.Xlatb, Mnemonic.Cbw,
            Mnemonic.Cwde, Mnemonic.Cdqe, Mnemonic.Cwd, Mnemonic.Cdq, Mnemonic.Cqo, Mnemonic.Movdiri, Mnemonic.Movdir64b);
        Add(Family.Stack, Mnemonic.Push, Mnemonic.Pop, Mnemonic.Pusha, Mnemonic.Pushad, Mnemonic.Popa, Mnemonic.Popad, Mnemonic.Enter, Mnemonic.Leave, Mnemonic.Pushf,
            Mnemonic.Pushfd, Mnemonic.Pushfq, Mnemonic.Popf, Mnemonic.Popfd, Mnemonic.Popfq);
        Add(Family.Branch, Mnemonic.Jmp, Mnemonic.Call, Mnemonic.Ret, Mnemonic.Retf, Mnemonic.Iret, Mnemonic.Iretd, Mnemonic.Iretq, Mnemonic.Loop, Mnemonic.Loope,
            Mnemonic.Loopne, Mnemonic.Jcxz, Mnemonic.Jecxz, Mnemonic.Jrcxz);
        Add(Family.Bit, Mnemonic.Bt, Mnemonic.Bts, Mnemonic.Btr, Mnemonic.Btc, Mnemonic.Bsf, Mnemonic.Bsr);
        Add(Family.String, Mnemonic.Movsb, Mnemonic.Movsw, Mnemonic.Movsd, Mnemonic.Movsq, Mnemonic.Cmpsb, Mnemonic.Cmpsw, Mnemonic.Cmpsd, Mnemonic.Cmpsq, Mnemonic.Stosb,
            Mnemonic.Stosw, Mnemonic.Stosd, Mnemonic.Stosq, Mnemonic.Lodsb, Mnemonic.Lodsw, Mnemonic.Lodsd, Mnemonic.Lodsq, Mnemonic.Scasb, Mnemonic.Scasw, Mnemonic.Scasd,
            Mnemonic.Scasq);
        Add(Family.Flags, Mnemonic.Clc, Mnemonic.Stc, Mnemonic.Cmc, Mnemonic.Cld, Mnemonic.Std, Mnemonic.Lahf, Mnemonic.Sahf, Mnemonic.Salc);
        Add(Family.Entry, Mnemonic.Int, Mnemonic.Int1, Mnemonic.Int3, Mnemonic.Into, Mnemonic.Ud0, Mnemonic.Ud1, Mnemonic.Ud2, Mnemonic.Bound, Mnemonic.Syscall,
            Mnemonic.Sysenter, Mnemonic.Hlt, Mnemonic.Cli, Mnemonic.Sti, Mnemonic.In, Mnemonic.Out, Mnemonic.Insb, Mnemonic.Insw, Mnemonic.Insd, Mnemonic.Outsb, Mnemonic.Outsw,
            Mnemonic.Outsd);
        Add(Family.Privileged, Mnemonic.Vmcall, Mnemonic.Vmmcall, Mnemonic.Vmlaunch, Mnemonic.Vmresume, Mnemonic.Vmfunc, Mnemonic.Vmgexit, Mnemonic.Monitor, Mnemonic.Mwait,
            Mnemonic.Getsec, Mnemonic.Getsecq, Mnemonic.Rsm, Mnemonic.Sysret, Mnemonic.Sysretq, Mnemonic.Sysexit, Mnemonic.Sysexitq, Mnemonic.Clac, Mnemonic.Stac);
        Add(Family.Segment, Mnemonic.Les, Mnemonic.Lds, Mnemonic.Lss, Mnemonic.Lfs, Mnemonic.Lgs, Mnemonic.Arpl, Mnemonic.Lar, Mnemonic.Lsl, Mnemonic.Verr, Mnemonic.Verw,
            Mnemonic.Sldt, Mnemonic.Str, Mnemonic.Sgdt, Mnemonic.Sidt, Mnemonic.Smsw, Mnemonic.Rdfsbase, Mnemonic.Rdgsbase, Mnemonic.Wrfsbase, Mnemonic.Wrgsbase);
        Add(Family.Atomic, Mnemonic.Xchg, Mnemonic.Xadd, Mnemonic.Cmpxchg, Mnemonic.Cmpxchg8b, Mnemonic.Cmpxchg16b, Mnemonic.Aadd, Mnemonic.Aand, Mnemonic.Aor, Mnemonic.Axor);
        Add(Family.Bmi, Mnemonic.Andn, Mnemonic.Blsr, Mnemonic.Blsmsk, Mnemonic.Blsi, Mnemonic.Bzhi, Mnemonic.Pext, Mnemonic.Pdep, Mnemonic.Bextr, Mnemonic.Shlx, Mnemonic.Sarx,
            Mnemonic.Shrx, Mnemonic.Rorx, Mnemonic.Blcfill, Mnemonic.Blsfill, Mnemonic.Blcs, Mnemonic.Tzmsk, Mnemonic.Blcic, Mnemonic.Blsic, Mnemonic.T1mskc, Mnemonic.Blcmsk,
            Mnemonic.Blci, Mnemonic.Lzcnt, Mnemonic.Tzcnt, Mnemonic.Popcnt, Mnemonic.Crc32, Mnemonic.Movbe);
        Add(Family.Nop, Mnemonic.Nop, Mnemonic.Reservednop, Mnemonic.Pause, Mnemonic.Prefetch, Mnemonic.Prefetchw, Mnemonic.Prefetchwt1, Mnemonic.Prefetchnta, Mnemonic.Prefetcht0,
            Mnemonic.Prefetcht1, Mnemonic.Prefetcht2, Mnemonic.Prefetchit0, Mnemonic.Prefetchit1, Mnemonic.Cldemote, Mnemonic.Endbr32, Mnemonic.Endbr64, Mnemonic.Lfence,
            Mnemonic.Mfence, Mnemonic.Sfence, Mnemonic.Clflush, Mnemonic.Clflushopt, Mnemonic.Clwb, Mnemonic.Clzero, Mnemonic.Serialize, Mnemonic.Wait);
        return named.ToFrozenDictionary();

        void Add(Family family, params ReadOnlySpan<Mnemonic> mnemonics)
        {
            foreach (Mnemonic mnemonic in mnemonics)
            {
                named.Add(mnemonic, family);
            }
        }
    }
}
