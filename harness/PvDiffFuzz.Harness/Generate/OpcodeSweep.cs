using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Isa;

namespace PvDiffFuzz.Harness.Generate;

/// <summary>Every opcode with every prefix that gives it another meaning, one instruction a case: what random cases meet late, or never.</summary>
/// <remarks>
/// Opcodes of one, two and three bytes; x87 opcodes and the groups of system instructions with each of the 256 ModR/M bytes, other ones with eight operands for each value of the middle field; nine prefixes or pairs of them; in
/// 64-bit mode and, unless the share of compatibility mode is 0, there too; once with eight NOPs behind and once right at the end of the page. All else is the same in every case of a mode: user code, general
/// registers that point to data, a stack. An instance belongs to one thread.
/// </remarks>
public sealed class OpcodeSweep : ICaseSource
{
    /// <summary>Changes whenever the same index gives another case.</summary>
    public const int Version = 1;

    private const int Tail = 8;
    private const byte Nop = 0x90;
    private const ulong SearchedCases = 4096;
    private const int BytesPerRegister = 8;

    private static readonly byte[][] Prefixes = [[], [0x66], [0xf2], [0xf3], [0x48], [0x67], [0xf0], [0x66, 0xf3], [0x66, 0xf2]];

    /// <summary>Opcodes that are prefixes or lead to another map.</summary>
    private static ReadOnlySpan<byte> NoOpcodes => [0x0f, 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65, 0x66, 0x67, 0xf0, 0xf2, 0xf3];

    /// <summary>Second bytes of groups in which each ModR/M byte can be an instruction of its own.</summary>
    private static ReadOnlySpan<byte> Groups => [0x00, 0x01, 0xae, 0xc7];

    /// <summary>Opcode and ModR/M byte of each encoding, without prefixes.</summary>
    private static readonly ImmutableArray<ImmutableArray<byte>> Encodings = AllEncodings();

    private readonly GeneratorOptions _options;
    private readonly CpuProfile _profile;
    private readonly ImmutableArray<TestCase> _bases;

    /// <summary>Prepares a sweep.</summary>
    /// <param name="options">ABI and modes of the cases; of the rest only what gives the first cases of the generator.</param>
    /// <param name="profile">Processor on which the cases are to run.</param>
    /// <param name="seed">Where the state comes from in which the instructions run.</param>
    /// <exception cref="ArgumentException">An option is out of range, or no generated case is one of user code that can be swept.</exception>
    public OpcodeSweep(GeneratorOptions options, CpuProfile profile, ulong seed)
    {
        (_options, _profile) = (options, profile);
        Generator generator = new(options, profile);
        CpuMode[] modes = options.CompatibilityPercent == 0 ? [CpuMode.Long64] : [CpuMode.Long64, CpuMode.Compatibility32];
        _bases = [.. modes.Select(mode => BaseOf(generator, seed, mode))];
    }

    /// <summary>Cases of one pass; later indices begin it anew.</summary>
    public ulong Count => (ulong)(Encodings.Length * Prefixes.Length * _bases.Length * 2);

    /// <inheritdoc/>
    public TestCase Generate(ulong index)
    {
        TestCase like = _bases[(int)(index % (ulong)_bases.Length)];
        (ulong half, ulong tail) = ulong.DivRem(index / (ulong)_bases.Length, 2);
        ImmutableArray<byte> encoding = Encodings[(int)(half % (ulong)Encodings.Length)];
        byte[] prefix = Prefixes[half / (ulong)Encodings.Length % (ulong)Prefixes.Length];
        byte[] code = [.. prefix, .. encoding, .. Enumerable.Repeat(Nop, tail == 0 ? Tail : 0)];
        return With(like, IsExcluded(code, like.Mode) ? [Nop] : [.. code]);
    }

    private bool IsExcluded(ReadOnlySpan<byte> code, CpuMode mode) =>
        (_options.Abi.IsXen() ? XenExclusions.FindAnywhere(code, mode, _profile, out _)
            : _options.Abi.IsPvm() ? PvmExclusions.FindAnywhere(code, mode, _profile, out _)
            : Exclusions.FindAnywhere(code, mode, _profile, out _)) is not null;

    /// <summary>The first generated case of user code that goes on after nothing and waits for nothing.</summary>
    private static TestCase BaseOf(Generator generator, ulong seed, CpuMode mode)
    {
        const ulong unwanted = RflagsBits.TF | RflagsBits.AC | RflagsBits.RF;
        for (ulong index = 0; index < SearchedCases; index++)
        {
            TestCase one = generator.Generate(seed, index);
            if (one.Start == GuestMode.User && one.Mode == mode && one.Responses.IsEmpty && one.Inject is null && one.Registers.Debug is null && (one.Registers.Rflags & unwanted) == 0)
            {
                RegisterState registers = one.Registers;
                for (Register register = Register.Rax; register <= (mode == CpuMode.Long64 ? Register.R15 : Register.Rdi); register++)
                {
                    ulong data = AddressMap.LowBlock + AddressMap.Data + 0x800 + ((ulong)register * BytesPerRegister);
                    registers = registers.With(register, register == Register.Rsp ? AddressMap.LowBlock + AddressMap.Stack + 0x1000 : data);
                }

                TestCase like = With(one with { Registers = registers }, [.. Enumerable.Repeat(Nop, Tail)]);
                if (like.Check() is null)
                {
                    return like;
                }
            }
        }

        throw new ArgumentException($"sweep: none of the first {SearchedCases} cases of this seed is plain user code in {(mode == CpuMode.Long64 ? "64-bit" : "compatibility")} mode; take another seed or --compat-percent 0", nameof(seed));
    }

    private static TestCase With(TestCase like, ImmutableArray<byte> code)
    {
        ulong address = AddressMap.LowBlock + AddressMap.CodeEnd - (ulong)code.Length;
        return like with { Code = new CodeBlock(address, code, [(byte)code.Length]), Registers = like.Registers with { Rip = address } };
    }

    private static ImmutableArray<ImmutableArray<byte>> AllEncodings()
    {
        byte[] all = [.. Enumerable.Range(0, 256).Select(modRm => (byte)modRm)];

        // [rax], a SIB byte, RIP-relative or absolute, both displacements, and three registers.
        byte[] usual = [.. all.Where(modRm => (modRm >> 6, modRm & 7) is (0, 0) or (0, 4) or (0, 5) or (1, 1) or (2, 2) or (3, 0) or (3, 1) or (3, 4))];

        // The three-byte maps are full of vector instructions: one operand of each kind for two values of the middle field.
        byte[] few = [.. all.Where(modRm => (modRm >> 6, modRm & 7) is (0, 0) or (3, 1) && (modRm >> 3 & 7) is 0 or 5)];
        ImmutableArray<ImmutableArray<byte>>.Builder encodings = ImmutableArray.CreateBuilder<ImmutableArray<byte>>();
        foreach (byte opcode in all)
        {
            Add(NoOpcodes.Contains(opcode) ? [] : opcode >> 3 == 0xd8 >> 3 ? all : usual, opcode);
            Add(Groups.Contains(opcode) ? all : usual, 0x0f, opcode);
            Add(few, 0x0f, 0x38, opcode);
            Add(few, 0x0f, 0x3a, opcode);
        }

        return encodings.ToImmutable();

        void Add(byte[] modRms, params byte[] opcode) => encodings.AddRange(modRms.Select(modRm => ImmutableArray.Create([.. opcode, modRm])));
    }
}
