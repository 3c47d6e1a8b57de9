using System.Runtime.InteropServices;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm;

/// <summary>Writes a case as a <see cref="Record"/>.</summary>
internal ref struct RecordEncoder
{
    /// <summary>A hypercall takes RBX, R10 and RDX.</summary>
    private const int PassedArguments = 3;

    private readonly Span<byte> _bytes;
    private readonly CasePages _pages;
    private int _at;
    private int _runs;

    private RecordEncoder(Span<byte> bytes, CasePages pages)
    {
        _bytes = bytes;
        _pages = pages;
    }

    /// <summary>Most bytes that a case can take.</summary>
    public static int Bound(TestCase testCase)
    {
        // A piece on one page takes 8 bytes of header and up to 7 of padding.
        const int perPiece = 16;
        int size = Record.FirstRun + testCase.Code.Bytes.Length + (4 * perPiece) + GuestAgent.Stub.Length;
        foreach (MemoryContents contents in testCase.Contents)
        {
            size += contents.Bytes.Length + (((contents.Bytes.Length >> 12) + 2) * perPiece);
        }

        foreach (Response response in testCase.Responses)
        {
            size += Answer.HeaderSize + (response.Hypercalls.Length * Answer.CallSize) + (response.Patches.Length * Record.PatchSize);
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
    public static int Encode(TestCase testCase, CasePages pages, GuestAgent agent, ulong linear, Span<byte> bytes)
    {
        bytes[..Record.FirstRun].Clear();
        bool user = testCase.Start == GuestMode.User;
        SystemState system = testCase.System;
        RecordEncoder encoder = new(bytes, pages) { _at = Record.FirstRun };
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
        return encoder.PutResponses(testCase, agent);
    }

    /// <summary>Writes what the agent has to know of a case that is loaded without it: where it ends, and its responses.</summary>
    /// <param name="testCase">A case.</param>
    /// <param name="pages">Where its pages lie.</param>
    /// <param name="agent">The agent.</param>
    /// <param name="bytes">Room for <see cref="Bound"/> bytes.</param>
    public static void EncodeAnswers(TestCase testCase, CasePages pages, GuestAgent agent, Span<byte> bytes)
    {
        bytes[..Record.FirstRun].Clear();
        RecordEncoder encoder = new(bytes, pages) { _at = Record.FirstRun };
        encoder.Put(Record.End, testCase.Start == GuestMode.User ? testCase.Code.End : Record.NoEnd);
        encoder.Put(Record.AsksStructure, ContextReader.AsksStructure(testCase) ? 1UL : 0);
        encoder.PutResponses(testCase, agent);
    }

    private int PutResponses(TestCase testCase, GuestAgent agent)
    {
        Put(Record.Runs, (uint)_runs);
        Put(Record.ResponsesAt, (uint)_at);
        Put(Record.Responses, (uint)testCase.Responses.Length);
        bool steady = BatchRules.IsSteady(testCase);
        foreach (Response response in testCase.Responses)
        {
            PutResponse(testCase, response, agent, steady);
        }

        Put(Record.Length, (uint)_at);
        return _at;
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
            PutRun(testCase.Code.End, GuestAgent.Stub);
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

    private void PutResponse(TestCase testCase, Response response, GuestAgent agent, bool steady)
    {
        int header = _at;
        Put(header, 0UL);
        Put(header + Answer.Return, (byte)response.Return);
        Put(header + Answer.Calls, (byte)response.Hypercalls.Length);
        Put(header + Answer.Injects, (byte)(response.Inject is null ? 0 : 1));
        Put(header + Answer.Checked, (byte)(steady || response.Return == ReturnKind.Iretq ? 0 : 1));
        Put(header + Answer.Target, TargetOf(testCase, response, agent));
        _at += Answer.HeaderSize;
        foreach (Hypercall call in response.Hypercalls)
        {
            _bytes.Slice(_at, Answer.CallSize).Clear();
            Put(_at, call.Number);
            int given = Math.Min(call.Arguments.Length, PassedArguments);
            Put(_at + 8, (ulong)given);
            for (int i = 0; i < given; i++)
            {
                Put(_at + 16 + (i * sizeof(ulong)), call.Arguments[i]);
            }

            _at += Answer.CallSize;
        }

        uint patches = 0;
        foreach ((Register register, ulong value) in response.Patches)
        {
            if (PlaceOf(testCase.Abi, response.Return, register) is not (int place, int where, int width))
            {
                continue;
            }

            Put(_at, place);
            Put(_at + 4, (ushort)where);
            Put(_at + 6, (ushort)width);
            Put(_at + 8, value);
            _at += Record.PatchSize;
            patches++;
        }

        Put(header, patches);
    }

    /// <summary>The instruction that returns: the SYSCALL that the case has for it, or the agent's own IRETQ.</summary>
    public static ulong TargetOf(TestCase testCase, Response response, GuestAgent agent) => response.Return switch
    {
        ReturnKind.Eretu => testCase.System[SystemRegister.PvmRetuRip],
        ReturnKind.Erets => testCase.System[SystemRegister.PvmRetsRip],
        _ => agent.InterruptReturn,
    };

    /// <summary>Where a patch goes; null where the return takes the register from nowhere.</summary>
    private static (int Place, int Where, int Width)? PlaceOf(Abi revision, ReturnKind kind, Register register)
    {
        if (kind == ReturnKind.Eretu && StructureImage.FieldOf(revision, register) is SystemRegister field)
        {
            return OfStructure(revision, field);
        }

        int slot = (kind, register) switch
        {
            (ReturnKind.Erets, Register.Rip) => 1,
            (ReturnKind.Erets, Register.Cs) => 2,
            (ReturnKind.Erets, Register.Rflags) => 3,
            (ReturnKind.Erets, Register.Rsp) => 4,
            (ReturnKind.Erets, Register.Ss) => 5,
            (ReturnKind.Erets, Register.Rcx) => 6,
            (ReturnKind.Erets, Register.R11) => 7,
            (ReturnKind.Iretq, Register.Rip) => 0,
            (ReturnKind.Iretq, Register.Cs) => 1,
            (ReturnKind.Iretq, Register.Rflags) => 2,
            (ReturnKind.Iretq, Register.Ss) => 4,
            _ => -1,
        };
        if (slot >= 0)
        {
            return (slot * sizeof(ulong), Record.OfFrame, sizeof(ulong));
        }

        return register switch
        {
            <= Register.R15 => (Context.GprAt((int)register), Record.OfContext, 8),
            Register.Ds => (Context.Ds, Record.OfContext, 2),
            Register.Es => (Context.Es, Record.OfContext, 2),
            Register.Fs => (Context.Fs, Record.OfContext, 2),
            Register.Gs => (Context.Gs, Record.OfContext, 2),
            Register.FsBase => (Context.FsBase, Record.OfContext, 8),
            Register.GsBase => (Context.GsBase, Record.OfContext, 8),
            _ => null,
        };
    }

    private static (int Place, int Where, int Width) OfStructure(Abi revision, SystemRegister register)
    {
        foreach (PvcsField field in PvcsLayout.Of(revision))
        {
            if (field.Register == register)
            {
                return (field.Offset, Record.OfStructure, field.Width);
            }
        }

        throw new InvalidOperationException($"{register}: no field of this revision");
    }
}
