using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Runtime.InteropServices;
using Iced.Intel;
using PvDiffFuzz.Core;
using Register = PvDiffFuzz.Core.Register;

namespace PvDiffFuzz.Harness;

/// <summary>An instruction that code is made of.</summary>
/// <param name="Bytes">Its bytes, at least one.</param>
/// <param name="End">The address right after it where it comes from; what it holds that is relative was computed for that.</param>
/// <param name="Origin">Index of the instruction of the case that it is or replaces, or -1 when it comes from another case.</param>
public readonly record struct CodePiece(ImmutableArray<byte> Bytes, ulong End, int Origin);

/// <summary>Edits the code of a case while everything that names a place in it keeps its meaning.</summary>
/// <remarks>
/// The end of the code stays where it is, since nothing is mapped there, so code shrinks from the front. Relative branches and RIP-relative operands are corrected; so is
/// every address in the code that stands in an operand, in initial memory, in a general or debug register, in RIP at entry, in a register of the system side that holds addresses, or in a
/// response and its calls. What cannot be corrected makes the edit impossible. Since the end stays, so does the room that supervisor code leaves for a target's jump stub.
/// </remarks>
public static class CodeEdit
{
    /// <summary>The one-byte NOP.</summary>
    public const byte Nop = 0x90;

    /// <summary>True for a legacy prefix, and in 64-bit mode for REX.</summary>
    public static bool IsPrefix(byte b, CpuMode mode) =>
        b is 0x26 or 0x2e or 0x36 or 0x3e or 0x64 or 0x65 or 0x66 or 0x67 or 0xf0 or 0xf2 or 0xf3 || (mode == CpuMode.Long64 && b is >= 0x40 and <= 0x4f);

    /// <summary>Decodes the first instruction in some bytes; an invalid one is a value.</summary>
    public static Instruction DecodeOne(ReadOnlySpan<byte> bytes, ulong address, CpuMode mode, CpuVendor vendor) =>
        Decode(bytes, address, mode, vendor, out _);

    /// <summary>The instructions of a case as byte strings.</summary>
    public static ImmutableArray<ImmutableArray<byte>> Pieces(CodeBlock code)
    {
        ImmutableArray<ImmutableArray<byte>>.Builder pieces = ImmutableArray.CreateBuilder<ImmutableArray<byte>>(code.Lengths.Length);
        int at = 0;
        foreach (byte length in code.Lengths)
        {
            pieces.Add(code.Bytes.Slice(at, length));
            at += length;
        }

        return pieces.MoveToImmutable();
    }

    /// <summary>Number of instructions that are no padding: all but one-byte NOPs, and at least 1.</summary>
    public static int CountWithoutPadding(CodeBlock code) => Math.Max(1, Pieces(code).Count(piece => piece.AsSpan() is not [Nop]));

    /// <summary>Overwrites instructions with one-byte NOPs; no address changes.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="replace">Says by index which instructions go.</param>
    public static TestCase WithNops(TestCase testCase, Func<int, bool> replace)
    {
        CodeBlock code = testCase.Code;
        byte[] bytes = [.. code.Bytes];
        ImmutableArray<byte>.Builder lengths = ImmutableArray.CreateBuilder<byte>();
        int at = 0;
        for (int i = 0; i < code.Lengths.Length; i++)
        {
            int length = code.Lengths[i];
            if (replace(i))
            {
                bytes.AsSpan(at, length).Fill(Nop);
                lengths.AddRange(Enumerable.Repeat((byte)1, length));
            }
            else
            {
                lengths.Add((byte)length);
            }

            at += length;
        }

        return testCase with { Code = new CodeBlock(code.Address, ImmutableArray.Create(bytes), lengths.ToImmutable()) };
    }

    /// <summary>Replaces instructions by shorter ones or by nothing.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="pieces">For each instruction its new bytes, default to keep it, or empty to drop it.</param>
    /// <param name="vendor">Whose decoder.</param>
    /// <returns>The edited case, or null when nothing would be left, the code would grow, or a displacement does not reach.</returns>
    public static TestCase? Replace(TestCase testCase, IReadOnlyList<ImmutableArray<byte>> pieces, CpuVendor vendor)
    {
        CodePiece[] own = PiecesOf(testCase.Code);
        CodePiece[] edited = [.. own.Select((piece, i) => pieces[i].IsDefault ? piece : piece with { Bytes = pieces[i] }).Where(piece => !piece.Bytes.IsEmpty)];
        return edited.Sum(piece => piece.Bytes.Length) > testCase.Code.Bytes.Length ? null : Arrange(testCase, edited, vendor);
    }

    /// <summary>The instructions of a case, for <see cref="Arrange"/>.</summary>
    public static CodePiece[] PiecesOf(CodeBlock code)
    {
        CodePiece[] pieces = new CodePiece[code.Lengths.Length];
        int at = 0;
        for (int i = 0; i < pieces.Length; i++)
        {
            int length = code.Lengths[i];
            pieces[i] = new CodePiece(code.Bytes.Slice(at, length), code.Address + (ulong)(at + length), i);
            at += length;
        }

        return pieces;
    }

    /// <summary>Makes the code of a case anew from instructions of it, in any order and number, and of other cases.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="pieces">The new code, without empty pieces. An instruction of the case that is missing has its place where the next one that is left goes.</param>
    /// <param name="vendor">Whose decoder.</param>
    /// <returns>The edited case, or null when nothing would be left, the code would be longer than any, or a displacement does not reach.</returns>
    public static TestCase? Arrange(TestCase testCase, ReadOnlySpan<CodePiece> pieces, CpuVendor vendor)
    {
        CodeBlock code = testCase.Code;
        int size = 0;
        foreach (CodePiece piece in pieces)
        {
            size += piece.Bytes.Length;
        }

        if (size is 0 or > CodeBlock.MaximumLength)
        {
            return null;
        }

        Move move = new(code, pieces, code.End - (ulong)size);
        byte[] bytes = new byte[size];
        byte[] lengths = new byte[pieces.Length];
        int to = 0;
        for (int i = 0; i < pieces.Length; i++)
        {
            CodePiece piece = pieces[i];
            Span<byte> place = bytes.AsSpan(to, piece.Bytes.Length);
            piece.Bytes.CopyTo(place);
            if (!Correct(place, in piece, move.Address + (ulong)to, testCase.Mode, vendor, move))
            {
                return null;
            }

            lengths[i] = (byte)piece.Bytes.Length;
            to += piece.Bytes.Length;
        }

        return testCase with
        {
            Code = new CodeBlock(move.Address, ImmutableCollectionsMarshal.AsImmutableArray(bytes), ImmutableCollectionsMarshal.AsImmutableArray(lengths)),
            Registers = move.Registers(testCase.Registers),
            Contents = [.. testCase.Contents.Select(move.Contents)],
            Responses = [.. testCase.Responses.Select(move.Response)],
            System = move.System(testCase.System),
        };
    }

    private static Instruction Decode(ReadOnlySpan<byte> bytes, ulong address, CpuMode mode, CpuVendor vendor, out ConstantOffsets offsets)
    {
        Decoder decoder = Decoder.Create(
            mode == CpuMode.Long64 ? 64 : 32,
            new ByteArrayCodeReader(bytes[..Math.Min(bytes.Length, 15)].ToArray()),
            vendor == CpuVendor.Amd ? DecoderOptions.AMD : DecoderOptions.None);
        decoder.IP = address;
        decoder.Decode(out Instruction instruction);
        offsets = decoder.GetConstantOffsets(in instruction);
        return instruction;
    }

    // Rewrites what is relative to the instruction's own end. The old end counts: the displacement in the bytes was computed for it.
    private static bool Correct(Span<byte> bytes, in CodePiece piece, ulong newAddress, CpuMode mode, CpuVendor vendor, Move move)
    {
        Instruction instruction = Decode(bytes, piece.End - (ulong)bytes.Length, mode, vendor, out ConstantOffsets offsets);
        if (instruction.IsInvalid)
        {
            return true;
        }

        if (piece.Origin < 0)
        {
            // Data lies where it lies in every case; branches of another case's code keep their distance.
            return !instruction.IsIPRelativeMemoryOperand
                || Patch(bytes, offsets.DisplacementOffset, offsets.DisplacementSize, instruction.IPRelativeMemoryAddress - (newAddress + (ulong)bytes.Length));
        }

        // Both can stand in one instruction: MOV [RIP + x], imm32.
        bool branch = instruction.Op0Kind is OpKind.NearBranch16 or OpKind.NearBranch32 or OpKind.NearBranch64;
        ulong end = newAddress + (ulong)bytes.Length;
        return (instruction.IsIPRelativeMemoryOperand
                ? Patch(bytes, offsets.DisplacementOffset, offsets.DisplacementSize, move.Of(instruction.IPRelativeMemoryAddress) - end)
                : PatchAddress(bytes, offsets.DisplacementOffset, offsets.DisplacementSize, move))
            && (branch
                ? Patch(bytes, offsets.ImmediateOffset, offsets.ImmediateSize, move.Of(instruction.NearBranchTarget) - end)
                : PatchAddress(bytes, offsets.ImmediateOffset, offsets.ImmediateSize, move));
    }

    // An operand that is as wide as an address and has the value of one in the code.
    private static bool PatchAddress(Span<byte> bytes, int offset, int size, Move move)
    {
        if (size is 4 or 8)
        {
            move.Correct(bytes.Slice(offset, size));
        }

        return true;
    }

    private static bool Patch(Span<byte> bytes, int offset, int size, ulong relative)
    {
        long value = (long)relative;
        switch (size)
        {
            case 1 when value is >= sbyte.MinValue and <= sbyte.MaxValue:
                bytes[offset] = (byte)value;
                return true;
            case 2:
                BinaryPrimitives.WriteInt16LittleEndian(bytes[offset..], (short)value);
                return true;
            case 4 when value is >= int.MinValue and <= int.MaxValue:
                BinaryPrimitives.WriteInt32LittleEndian(bytes[offset..], (int)value);
                return true;
            default:
                return false;
        }
    }

    /// <summary>Where each old address in the code goes.</summary>
    private sealed class Move
    {
        private readonly CodeBlock _old;
        private readonly ulong[] _starts;
        private readonly bool[] _kept;

        public Move(CodeBlock old, ReadOnlySpan<CodePiece> pieces, ulong address)
        {
            _old = old;
            Address = address;
            _starts = new ulong[old.Lengths.Length];
            _kept = new bool[old.Lengths.Length];
            foreach (CodePiece piece in pieces)
            {
                if (piece.Origin >= 0 && !_kept[piece.Origin])
                {
                    _starts[piece.Origin] = address;
                    _kept[piece.Origin] = true;
                }

                address += (ulong)piece.Bytes.Length;
            }

            for (int i = _starts.Length - 1; i >= 0; i--)
            {
                address = _starts[i] = _kept[i] ? _starts[i] : address;
            }
        }

        public ulong Address { get; }

        /// <summary>New place of an address; outside the code nothing moves. A dropped instruction's place is the next one's.</summary>
        public ulong Of(ulong address)
        {
            if (address < _old.Address || address >= _old.End)
            {
                return address;
            }

            ulong start = _old.Address;
            int i = 0;
            while (address >= start + _old.Lengths[i])
            {
                start += _old.Lengths[i++];
            }

            return _kept[i] ? _starts[i] + (address - start) : _starts[i];
        }

        public RegisterState Registers(RegisterState registers)
        {
            GprFile gpr = registers.Gpr;
            for (int i = 0; i < GprFile.Count; i++)
            {
                gpr[i] = Of(gpr[i]);
            }

            DebugRegisters? debug = registers.Debug is { } d ? new DebugRegisters(Of(d.Dr0), Of(d.Dr1), Of(d.Dr2), Of(d.Dr3), d.Dr7) : null;
            return registers with { Gpr = gpr, Rip = Of(registers.Rip), Debug = debug };
        }

        /// <summary>Initial memory with the addresses in it corrected, such as those that a return takes from the stack.</summary>
        public MemoryContents Contents(MemoryContents run)
        {
            int size = _old.End <= uint.MaxValue ? 4 : 8;
            byte[] bytes = [.. run.Bytes];
            for (int at = 0; at + size <= bytes.Length; at++)
            {
                Correct(bytes.AsSpan(at, size));
            }

            return run.Bytes.AsSpan().SequenceEqual(bytes) ? run : run with { Bytes = ImmutableArray.Create(bytes) };
        }

        /// <summary>Corrects four or eight bytes if they are an address in the code.</summary>
        public void Correct(Span<byte> bytes)
        {
            if (bytes.Length == 4)
            {
                BinaryPrimitives.WriteUInt32LittleEndian(bytes, (uint)Of(BinaryPrimitives.ReadUInt32LittleEndian(bytes)));
            }
            else
            {
                BinaryPrimitives.WriteUInt64LittleEndian(bytes, Of(BinaryPrimitives.ReadUInt64LittleEndian(bytes)));
            }
        }

        /// <summary>A response with the addresses in its patches and in the arguments of its calls corrected.</summary>
        public Response Response(Response response) => response with
        {
            Patches = [.. response.Patches.Select(p => p.Key <= Register.R15 || p.Key == Register.Rip ? new KeyValuePair<Register, ulong>(p.Key, Of(p.Value)) : p)],
            Hypercalls = [.. response.Hypercalls.Select(call => call with { Arguments = [.. call.Arguments.Select(Of)] })],
        };

        /// <summary>The system side with the addresses in it corrected.</summary>
        public SystemState System(SystemState system) =>
            system.Values.IsEmpty ? system : SystemState.OfSorted([.. system.Values.Select(v => HoldsAddress(v.Key) ? KeyValuePair.Create(v.Key, Of(v.Value)) : v)]);

        private static bool HoldsAddress(SystemRegister register) => register
            is SystemRegister.Cr2 or SystemRegister.Lstar or SystemRegister.Cstar or SystemRegister.SysenterEip or SystemRegister.SysenterEsp or SystemRegister.KernelGsBase
            or SystemRegister.PvmSupervisorRsp or SystemRegister.PvmEventEntry or SystemRegister.PvmRetuRip or SystemRegister.PvmRetsRip or SystemRegister.PvcsCr2
            or SystemRegister.PvcsUserGsBase or SystemRegister.PvcsRip or SystemRegister.PvcsRsp or SystemRegister.PvcsRcx or SystemRegister.PvcsR11;
    }
}
