using System.Runtime.InteropServices;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Writes a case as a <see cref="Record"/>.</summary>
internal ref struct BatchEncoder
{
    private readonly Span<byte> _bytes;
    private readonly CasePages _pages;
    private int _at;
    private int _runs;

    private BatchEncoder(Span<byte> bytes, CasePages pages)
    {
        _bytes = bytes;
        _pages = pages;
    }

    /// <summary>Most bytes that a case can take.</summary>
    public static int Bound(TestCase testCase)
    {
        // A piece on one page takes 8 bytes of header and up to 7 of padding.
        const int perPiece = 16;
        int size = Record.FirstRun + testCase.Code.Bytes.Length + (4 * perPiece) + BatchAgent.Stub.Length;
        foreach (MemoryContents contents in testCase.Contents)
        {
            size += contents.Bytes.Length + (((contents.Bytes.Length >> 12) + 2) * perPiece);
        }

        foreach (Response response in testCase.Responses)
        {
            size += 16 + (response.Patches.Length * Record.PatchSize);
        }

        return size;
    }

    /// <summary>Writes a case.</summary>
    /// <param name="testCase">A case that <see cref="BatchRules"/> allows.</param>
    /// <param name="pages">Where its pages lie.</param>
    /// <param name="agent">The agent.</param>
    /// <param name="linear">Linear address of the record.</param>
    /// <param name="bytes">Room for <see cref="Bound"/> bytes.</param>
    /// <returns>The length of the record.</returns>
    public static int Encode(TestCase testCase, CasePages pages, BatchAgent agent, ulong linear, Span<byte> bytes)
    {
        bytes[..Record.FirstRun].Clear();
        bool user = testCase.Start == GuestMode.User;
        SystemState system = testCase.System;
        BatchEncoder encoder = new(bytes, pages) { _at = Record.FirstRun };
        encoder.Put(Record.End, user ? testCase.Code.End : Record.NoEnd);
        encoder.Put(Record.KernelGsBase, system[SystemRegister.KernelGsBase]);
        encoder.Put(Record.Redzone, system[SystemRegister.PvmSupervisorRedzone]);
        encoder.PutRegisters(testCase, user ? system[SystemRegister.KernelGsBase] : testCase.Registers.GsBase);
        StructureImage.Write(testCase, bytes.Slice(Record.Structure, PvcsLayout.Size));
        if (user)
        {
            encoder.Put(Record.Initial + Context.Target, system[SystemRegister.PvmRetuRip]);
            if (testCase.Abi == Abi.PvmRfc1)
            {
                encoder.Put(Record.Initial + Context.GprAt(4), system[SystemRegister.PvmSupervisorRsp]);
            }
        }
        else
        {
            encoder.Put(Record.Initial + Context.Target, agent.InterruptReturn);
            encoder.Put(Record.Initial + Context.GprAt(4), linear + Record.StartFrame);
            ReadOnlySpan<ulong> frame = [testCase.Registers.Rip, Selectors.UserCode64, testCase.Registers.Rflags, testCase.Registers.Gpr[4], Selectors.UserData];
            MemoryMarshal.AsBytes(frame).CopyTo(bytes[Record.StartFrame..]);
        }

        encoder.PutMemory(testCase);
        encoder.Put(Record.Runs, (uint)encoder._runs);
        encoder.Put(Record.ResponsesAt, (uint)encoder._at);
        encoder.Put(Record.Responses, (uint)testCase.Responses.Length);
        foreach (Response response in testCase.Responses)
        {
            encoder.PutResponse(testCase, response);
        }

        encoder.Put(Record.Length, (uint)encoder._at);
        return encoder._at;
    }

    private readonly void Put<T>(int at, T value) where T : unmanaged => MemoryMarshal.Write(_bytes[at..], in value);

    private readonly void PutRegisters(TestCase testCase, ulong gsBase)
    {
        RegisterState registers = testCase.Registers;
        for (int i = 0; i < GprFile.Count; i++)
        {
            Put(Record.Initial + Context.GprAt(i), registers.Gpr[i]);
        }

        Put(Record.Initial + Context.Ds, registers.Ds);
        Put(Record.Initial + Context.Es, registers.Es);
        Put(Record.Initial + Context.Fs, registers.Fs);
        Put(Record.Initial + Context.Gs, registers.Gs);
        Put(Record.Initial + Context.FsBase, registers.FsBase);
        Put(Record.Initial + Context.GsBase, gsBase);
    }

    private void PutMemory(TestCase testCase)
    {
        PutRun(testCase.Code.Address, testCase.Code.Bytes.AsSpan());
        if (testCase.Start == GuestMode.Supervisor)
        {
            PutRun(testCase.Code.End, BatchAgent.Stub);
        }

        foreach (MemoryContents contents in testCase.Contents)
        {
            PutRun(contents.Address, contents.Bytes.AsSpan());
        }
    }

    private void PutRun(ulong address, ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            int index = _pages.IndexOf(address);
            int offset = (int)(address & 0xfff);
            int length = Math.Min(bytes.Length, PageLayout.PageSize - offset);
            if (index < 0)
            {
                throw new InvalidOperationException($"{address:x}: no page of the case; the case was not checked");
            }

            Put(_at, (uint)((index * PageLayout.PageSize) + offset));
            Put(_at + 4, (uint)length | (index < _pages.Writable ? 0 : Record.ReadOnlyRun));
            bytes[..length].CopyTo(_bytes[(_at + 8)..]);
            _at += 8 + ((length + 7) & ~7);
            _runs++;
            bytes = bytes[length..];
            address += (ulong)length;
        }
    }

    private void PutResponse(TestCase testCase, Response response)
    {
        Put(_at, (ulong)response.Patches.Length);
        Put(_at + 8, testCase.System[SystemRegister.PvmRetuRip]);
        _at += 16;
        foreach ((Register register, ulong value) in response.Patches)
        {
            (int place, bool structure, int width) = StructureImage.FieldOf(testCase.Abi, register) is SystemRegister field
                ? OfStructure(testCase.Abi, field)
                : register switch
                {
                    <= Register.R15 => (Context.GprAt((int)register), false, 8),
                    Register.Ds => (Context.Ds, false, 2),
                    Register.Es => (Context.Es, false, 2),
                    Register.Fs => (Context.Fs, false, 2),
                    Register.Gs => (Context.Gs, false, 2),
                    Register.FsBase => (Context.FsBase, false, 8),
                    _ => throw new InvalidOperationException($"{register}: cannot be patched; the case was not checked"),
                };
            Put(_at, place);
            Put(_at + 4, (ushort)(structure ? 1 : 0));
            Put(_at + 6, (ushort)width);
            Put(_at + 8, value);
            _at += Record.PatchSize;
        }
    }

    private static (int Place, bool Structure, int Width) OfStructure(Abi revision, SystemRegister register)
    {
        foreach (PvcsField field in PvcsLayout.Of(revision))
        {
            if (field.Register == register)
            {
                return (field.Offset, true, field.Width);
            }
        }

        throw new InvalidOperationException($"{register}: no field of this revision");
    }
}
