using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;
using MemoryOperand = PvDiffFuzz.Isa.MemoryOperand;

namespace PvDiffFuzz.Harness.Generate;

/// <summary>What has to be prepared so that a form does something worth watching.</summary>
internal enum Plan : byte
{
    /// <summary>Nothing.</summary>
    None,

    /// <summary>A shift count in CL.</summary>
    Count,

    /// <summary>A dividend that fits.</summary>
    Divide,

    /// <summary>Pointers, and a count where there is a repeat prefix.</summary>
    String,

    /// <summary>RBP points into the stack.</summary>
    Frame,

    /// <summary>RBX points to a table.</summary>
    Table,

    /// <summary>A selector in the source.</summary>
    SelectorMove,

    /// <summary>A selector on the stack.</summary>
    SelectorPop,

    /// <summary>A far pointer in memory that loads a data segment.</summary>
    FarLoad,

    /// <summary>Flags on the stack.</summary>
    PopFlags,

    /// <summary>A bit offset in a register that reaches beyond the memory operand.</summary>
    BitOffset,

    /// <summary>An address only.</summary>
    AddressOnly,

    /// <summary>A displacement to an instruction.</summary>
    NearBranch,

    /// <summary>An address in a register or in memory.</summary>
    IndirectBranch,

    /// <summary>A return address.</summary>
    NearReturn,

    /// <summary>Selector and address in memory or in the instruction.</summary>
    FarBranch,

    /// <summary>A frame for RETF or IRET.</summary>
    FarReturn,

    /// <summary>A canonical address in the source.</summary>
    SegmentBase,

    /// <summary>A vector.</summary>
    Interrupt,

    /// <summary>RSP points into the stack.</summary>
    Stack,
}

/// <summary>A form that may be chosen, with what the generator must know about it.</summary>
/// <param name="Template">How to encode it.</param>
/// <param name="Plan">What to prepare.</param>
/// <param name="Counted">Its flag effect depends on a count.</param>
internal sealed record Candidate(FormTemplate Template, Plan Plan, bool Counted)
{
    /// <summary>True for far transfers: they are many, and most end the case.</summary>
    public bool Scarce { get; } = Plan is Plan.FarBranch or Plan.FarReturn;
}

/// <summary>The forms of one mode that a generator may choose from, by family and weight.</summary>
internal sealed class FormPools
{
    private const int RareOneIn = 256;
    private const int ScarceOneIn = 6;

    private readonly Candidate[][] _common = new Candidate[Enum.GetValues<Family>().Length][];
    private readonly Candidate[][] _rare = new Candidate[Enum.GetValues<Family>().Length][];
    private readonly byte[] _families = new byte[4096];
    private readonly Candidate[][] _final;
    private readonly Candidate[] _body;
    private readonly Candidate[] _all;

    /// <summary>Makes the pools.</summary>
    /// <param name="mode">Mode of the code.</param>
    /// <param name="options">Families and their weights.</param>
    /// <param name="profile">The processor.</param>
    /// <param name="without">Forms that are left out besides the excluded ones; null for none.</param>
    public FormPools(CpuMode mode, GeneratorOptions options, CpuProfile profile, Predicate<FormTemplate>? without = null)
    {
        ILookup<Family, Candidate> byFamily = InstructionForms.Templates(mode)
            .Where(t => Exclusions.Find(t.Code, mode, profile) is null && !HidesExcluded(t, profile) && without?.Invoke(t) != true)
            .ToLookup(t => t.Family, t => new Candidate(t, PlanOf(t), FlagEffects.HasCount(t.Code)));
        List<(Family Family, int Weight)> weights = [];
        foreach (Family family in Enum.GetValues<Family>())
        {
            _common[(int)family] = [.. byFamily[family].Where(c => IsCommon(c.Template, profile))];
            _rare[(int)family] = [.. byFamily[family].Where(c => !IsCommon(c.Template, profile))];
            int weight = options.Weights.GetValueOrDefault(family);
            if (weight > 0 && byFamily[family].Any())
            {
                weights.Add((family, weight));
            }
        }

        if (weights.Count == 0)
        {
            throw new ArgumentException($"no form of the chosen families exists in mode {mode}", nameof(options));
        }

        FillTable(weights);
        _all = [.. weights.SelectMany(w => byFamily[w.Family])];
        _final = [.. weights.Where(w => w.Family is Family.Entry or Family.Privileged)
            .SelectMany(w => _common[(int)w.Family])
            .GroupBy(c => c.Template.Code.Mnemonic())
            .Select(g => g.ToArray())];
        _body = [.. weights.Where(w => w.Family is Family.Arithmetic or Family.Logic or Family.Move or Family.Bit)
            .SelectMany(w => _common[(int)w.Family])
            .Where(c => c.Plan == Plan.None && c.Template.RmField is RmField.Either or RmField.None && (c.Template.ImplicitWrite & 2) == 0)];
    }

    /// <summary>True when there are forms to end a case with.</summary>
    public bool HasFinal => _final.Length > 0;

    /// <summary>True when there are forms for the body of a loop.</summary>
    public bool HasBody => _body.Length > 0;

    /// <summary>A form of a family chosen by weight.</summary>
    public Candidate Pick(ref CounterRandom random)
    {
        int family = _families[random.Next() >> 52];
        Candidate[] common = _common[family];
        Candidate[] rare = _rare[family];
        ulong bits = random.Next();
        if (common.Length == 0 || (rare.Length > 0 && (bits & (RareOneIn - 1)) == 0))
        {
            return rare[random.Below(rare.Length)];
        }

        Candidate candidate = common[Scale(bits, common.Length)];
        return candidate.Scarce && random.Below(ScarceOneIn) != 0 ? common[random.Below(common.Length)] : candidate;
    }

    /// <summary>Any form of the chosen families, each as likely as the others.</summary>
    public Candidate PickEvenly(ref CounterRandom random) => _all[random.Below(_all.Length)];

    private static int Scale(ulong bits, int bound) => (int)(((bits >> 32) * (uint)bound) >> 32);

    /// <summary>A form of the entry or privileged family: the mnemonic evenly, then the form.</summary>
    public Candidate PickFinal(ref CounterRandom random)
    {
        Candidate[] forms = _final[random.Below(_final.Length)];
        return forms[random.Below(forms.Length)];
    }

    /// <summary>A form without memory, branch or fault.</summary>
    public Candidate PickBody(ref CounterRandom random) => _body[random.Below(_body.Length)];

    /// <summary>True for a form whose bytes without the first prefix are an excluded one, such as CLWB, which is XSAVEOPT to a jump that lands behind its prefix.</summary>
    private static bool HidesExcluded(FormTemplate template, CpuProfile profile)
    {
        Span<byte> bytes = stackalloc byte[TemplateEncoder.MaximumLength];
        OperandChoice choice = new() { IsMemory = template.RmField == RmField.Memory, Memory = new MemoryOperand(3, MemoryOperand.None, 0, 0) };
        int length = TemplateEncoder.Encode(template, in choice, bytes, out _);
        return Exclusions.FindAnywhere(bytes[..length], template.Mode, profile, out _) is not null;
    }

    /// <summary>Forms whose feature the processor lacks raise #UD and end the case, and reserved no-ops are many: both are chosen rarely.</summary>
    private static bool IsCommon(FormTemplate template, CpuProfile profile)
    {
        if (template.Code.Mnemonic() == Mnemonic.Reservednop)
        {
            return false;
        }

        foreach (string feature in template.Features)
        {
            if (!feature.StartsWith("INTEL", StringComparison.Ordinal) && feature is not ("X64" or "MSR" or "SMM") && !profile.Has(feature))
            {
                return false;
            }
        }

        return true;
    }

    private void FillTable(List<(Family Family, int Weight)> weights)
    {
        long total = weights.Sum(w => (long)w.Weight);
        long sum = 0;
        int filled = 0;
        foreach ((Family family, int weight) in weights)
        {
            sum += weight;
            int until = (int)(sum * _families.Length / total);
            until = Math.Max(until, Math.Min(filled + 1, _families.Length));
            while (filled < until)
            {
                _families[filled++] = (byte)family;
            }
        }
    }

    private static Plan PlanOf(FormTemplate template)
    {
        Mnemonic mnemonic = template.Code.Mnemonic();
        bool readsCl = FlagEffects.HasCount(template.Code) && template.ImmediateBytes == 0 && (template.ImplicitRead & 2) != 0;
        return mnemonic switch
        {
            _ when readsCl => Plan.Count,
            Mnemonic.Div or Mnemonic.Idiv => Plan.Divide,
            Mnemonic.Leave or Mnemonic.Enter => Plan.Frame,
            Mnemonic.Xlatb => Plan.Table,
            Mnemonic.Lss or Mnemonic.Lfs or Mnemonic.Lgs or Mnemonic.Lds or Mnemonic.Les => Plan.FarLoad,
            Mnemonic.Popf or Mnemonic.Popfd or Mnemonic.Popfq => Plan.PopFlags,
            Mnemonic.Bt or Mnemonic.Bts or Mnemonic.Btr or Mnemonic.Btc when template.RegField == RegField.General => Plan.BitOffset,
            Mnemonic.Lea or Mnemonic.Nop or Mnemonic.Reservednop => template.RmField == RmField.None ? Plan.None : Plan.AddressOnly,
            Mnemonic.Ret => Plan.NearReturn,
            Mnemonic.Retf or Mnemonic.Iret or Mnemonic.Iretd or Mnemonic.Iretq => Plan.FarReturn,
            Mnemonic.Wrfsbase or Mnemonic.Wrgsbase => Plan.SegmentBase,
            Mnemonic.Int => Plan.Interrupt,
            Mnemonic.Mov when template.RegField == RegField.Segment && template.RmAccess == Access.Read => Plan.SelectorMove,
            Mnemonic.Pop when template.Family == Family.Segment => Plan.SelectorPop,
            Mnemonic.Jmp or Mnemonic.Call when template.BranchBytes == 0 =>
                template.RmField == RmField.Either ? Plan.IndirectBranch : Plan.FarBranch,
            _ when template.BranchBytes != 0 => Plan.NearBranch,
            _ when template.IsString => Plan.String,
            _ when template.StackDelta != 0 => Plan.Stack,
            _ => Plan.None,
        };
    }
}
