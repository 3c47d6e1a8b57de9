using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>Writes cases as <see cref="Record"/>s into shared memory.</summary>
internal unsafe ref struct CaseEncoder
{
    /// <summary>End of code that has none which a fetch could tell: no fetch of an address that is not canonical is a #PF.</summary>
    private const ulong NoEnd = 1UL << 63;

    /// <summary>What stands behind kernel-mode code: JMP through the quadword that follows it, to the agent. No register or flag changes.</summary>
    private static readonly ImmutableArray<byte> Stub = [0xff, 0x25, 0, 0, 0, 0, .. BitConverter.GetBytes(GuestMap.At(GuestMap.End))];

    private readonly LayoutMap _map;
    private byte* _at;
    private uint* _run;
    private uint _runEnd;
    private uint _runs;

    private CaseEncoder(LayoutMap map, byte* at)
    {
        _map = map;
        _at = at;
        _runEnd = uint.MaxValue;
    }

    /// <summary>Most bytes that a case can take.</summary>
    public static int Bound(TestCase testCase, GuestState state)
    {
        // A piece of contents on one page takes up to 8 bytes of header and 14 of padding.
        const int perPiece = 24;
        int size = Record.FirstHypercall + (state.Room(testCase) * Record.HypercallSize) + GuestState.DataBound + testCase.Code.Bytes.Length + Stub.Length + (5 * perPiece) + 8;
        foreach (MemoryContents contents in testCase.Contents)
        {
            size += contents.Bytes.Length + (((contents.Bytes.Length >> 12) + 2) * perPiece);
        }

        XenState xen = testCase.Xen!;
        size += (1 + xen.Traps.Overrides.Length + xen.Callbacks.Length) * Record.EntrySize;
        foreach (Response response in testCase.Responses)
        {
            size += Record.ResponseHead + (response.Patches.Length * Record.PatchSize);
            foreach (Hypercall call in response.Hypercalls)
            {
                size += Record.CallHead + (call.Arguments.Length * sizeof(ulong));
            }
        }

        return size;
    }

    /// <summary>Writes a case.</summary>
    /// <param name="testCase">A well-formed case with this layout.</param>
    /// <param name="map">Its layout.</param>
    /// <param name="state">What the guest has when the case begins.</param>
    /// <param name="frames">The guest's frames.</param>
    /// <param name="at">Where to write; <see cref="Bound"/> bytes are free there.</param>
    /// <param name="address">The same place in the guest.</param>
    /// <param name="exact">True to state every entry of the trap table.</param>
    /// <param name="effects">What the case may do.</param>
    /// <returns>The first byte after it.</returns>
    public static byte* Encode(TestCase testCase, LayoutMap map, GuestState state, GuestFrames frames, byte* at, ulong address, bool exact, out Effects effects)
    {
        // SAFETY: every write below lies within Bound(testCase) bytes from `at`.
        effects = Payload.Of(testCase);
        RecordWriter writer = new(at, address, state.Room(testCase));
        state.Prepare(ref writer, testCase, effects, frames, exact);
        *(ulong*)(at + Record.End) = testCase.Start == GuestMode.User ? testCase.Code.End : NoEnd;
        RecordFlags flags = WriteEntry(testCase, effects, at);

        CaseEncoder encoder = new(map, writer.At);
        *(uint*)(at + Record.RunsAt) = (uint)(encoder._at - at);
        encoder.WriteMemory(testCase);
        *(uint*)(at + Record.Runs) = encoder._runs;
        *(uint*)(at + Record.ResponsesAt) = (uint)(encoder._at - at);
        *(int*)(at + Record.Responses) = testCase.Responses.Length;
        foreach (Response response in testCase.Responses)
        {
            encoder.WriteResponse(response);
        }

        if (!testCase.Responses.IsEmpty)
        {
            *(uint*)(at + Record.EntriesAt) = (uint)(encoder._at - at);
            encoder.WriteEntries(testCase.Xen!);
        }

        writer.Advance((int)(encoder._at - writer.At));
        return writer.Finish(flags);
    }

    private static RecordFlags WriteEntry(TestCase testCase, Effects effects, byte* at)
    {
        RegisterState registers = testCase.Registers;
        SystemState system = testCase.System;
        bool simplyThere = testCase.Xen!.IretFlags is null;
        ulong mask = system[SystemRegister.XenUpcallMask];

        // A jump cannot load these flags. The return can, and with a mask that it can make nothing else differs.
        bool byIret = !simplyThere || (registers.Rflags & XenRules.NotByJump) != 0;
        ulong rflags = simplyThere && byIret ? FrameFlags(testCase) : registers.Rflags;
        ulong* vcpuInfo = (ulong*)(at + Record.VcpuInfo);
        vcpuInfo[0] = system[SystemRegister.XenUpcallPending] | ((byIret ? 1 : mask) << 8) | (system[SystemRegister.XenVcpuInfoPad] << 16);
        vcpuInfo[1] = 0;
        vcpuInfo[2] = system[SystemRegister.Cr2];
        *(ulong*)(at + Record.Cr4) = system[SystemRegister.Cr4];

        GprFile gpr = registers.Gpr;
        byte* initial = at + Record.Initial;
        ulong* words = (ulong*)initial;
        for (int i = 0; i < GprFile.Count; i++)
        {
            words[i] = gpr[i];
        }

        *(ulong*)(initial + Initial.Rax) = gpr[(int)Register.Rax];
        *(ulong*)(initial + Initial.Rcx) = gpr[(int)Register.Rcx];
        *(ulong*)(initial + Initial.R11) = gpr[(int)Register.R11];
        *(ulong*)(initial + Initial.Flags) = testCase.Xen.IretFlags ?? 0;
        *(ulong*)(initial + Initial.Rip) = registers.Rip;
        *(ulong*)(initial + Initial.Cs) = simplyThere ? registers.Cs & ~3UL : registers.Cs;
        *(ulong*)(initial + Initial.Rflags) = rflags;
        *(ulong*)(initial + Initial.Rsp) = gpr[(int)Register.Rsp];
        *(ulong*)(initial + Initial.Ss) = registers.Ss;
        *(ushort*)(initial + Initial.Ds) = registers.Ds;
        *(ushort*)(initial + Initial.Es) = registers.Es;
        *(ushort*)(initial + Initial.Fs) = registers.Fs;
        *(ushort*)(initial + Initial.Gs) = registers.Gs;
        *(ulong*)(initial + Initial.FsBase) = registers.FsBase;
        *(ulong*)(initial + Initial.GsBase) = testCase.Start == GuestMode.User ? system[SystemRegister.KernelGsBase] : registers.GsBase;

        bool switched = (effects & Effects.ChangesTaskSwitched) != 0 || (system[SystemRegister.Cr0] & GuestState.Cr0TaskSwitched) != 0;

        // The calls for debug registers look at CR4.DE. One whose number is not known may be any of them: a case without CR4 then has the guest's own.
        bool ownCr4 = system.TryGet(SystemRegister.Cr4, out _) && (effects & (Effects.SeesCr4 | Effects.ReadsDebug | Effects.ChangesDebug)) != 0;
        return (byIret ? RecordFlags.ByIret : RecordFlags.None)
            | (switched ? RecordFlags.ClearTaskSwitched : RecordFlags.None)
            | ((effects & Effects.UserMode) != 0 ? RecordFlags.UserMode : RecordFlags.None)
            | (ownCr4 ? RecordFlags.OwnCr4 : RecordFlags.None)
            | (GuestState.MayHaveBreakpoints(testCase, effects) ? RecordFlags.Breakpoints : RecordFlags.None)
            | ((effects & Effects.ReadsCr2) != 0 ? RecordFlags.LoadCr2 : RecordFlags.None);
    }

    /// <summary>RFLAGS of a frame that leaves the upcall mask and the virtual IOPL as the case states them.</summary>
    private static ulong FrameFlags(TestCase testCase)
    {
        SystemState system = testCase.System;
        ulong flags = testCase.Registers.Rflags & ~RflagsBits.IF;
        flags |= system[SystemRegister.XenUpcallMask] == 0 ? RflagsBits.IF : 0;
        return (system[SystemRegister.XenVmAssist] & GuestState.ArchitecturalIopl) != 0 ? (flags & ~RflagsBits.IOPL) | (system[SystemRegister.XenIopl] << 12) : flags;
    }

    private void WriteMemory(TestCase testCase)
    {
        CodeBlock code = testCase.Code;
        bool codeWritten = false;
        foreach (MemoryContents contents in testCase.Contents)
        {
            if (!codeWritten && contents.Address > code.Address)
            {
                WriteCode(testCase);
                codeWritten = true;
            }

            Write(contents.Address, contents.Bytes.AsSpan());
        }

        if (!codeWritten)
        {
            WriteCode(testCase);
        }
    }

    private void WriteCode(TestCase testCase)
    {
        Write(testCase.Code.Address, testCase.Code.Bytes.AsSpan());
        if (testCase.Start == GuestMode.Supervisor)
        {
            Write(testCase.Code.End, Stub.AsSpan());
        }
    }

    /// <summary>Writes bytes as runs of aligned quadwords, one a page; bytes around them are zero, as all memory is before a case.</summary>
    private void Write(ulong address, ReadOnlySpan<byte> bytes)
    {
        while (!bytes.IsEmpty)
        {
            int offset = _map.OffsetOf(address);
            if (offset < 0)
            {
                throw new InvalidOperationException($"{address:x}: no page of the case; the case was not checked");
            }

            int length = Math.Min(bytes.Length, (int)(PageLayout.PageSize - (address & 0xfff)));
            WritePiece((uint)offset, bytes[..length]);
            bytes = bytes[length..];
            address += (uint)length;
        }
    }

    private void WritePiece(uint offset, ReadOnlySpan<byte> bytes)
    {
        uint lead = offset & 7;
        uint first = offset - lead;
        uint words = (lead + (uint)bytes.Length + 7) / 8;

        // SAFETY: as in Encode. A piece that begins in the last quadword of the run before continues that run.
        bool joins = first + 8 == _runEnd;
        ulong* data;
        if (joins)
        {
            data = (ulong*)(_at - 8);
            _run[1] += words - 1;
            if (words > 1)
            {
                data[words - 1] = 0;
            }
        }
        else
        {
            _run = (uint*)_at;
            _run[0] = first;
            _run[1] = words;
            _runs++;
            data = (ulong*)(_at + Record.RunHead);
            data[0] = 0;
            data[words - 1] = 0;
        }

        bytes.CopyTo(new Span<byte>((byte*)data + lead, bytes.Length));
        _at = (byte*)(data + words);
        _runEnd = first + (words * 8);
    }

    private void WriteResponse(Response response)
    {
        // SAFETY: as in Encode.
        *(ulong*)_at = response.Inject is { Kind: InjectionKind.Upcall } ? 1UL : 0;
        *(ulong*)(_at + 8) = response.Flags;
        *(int*)(_at + 16) = response.Patches.Length;
        *(int*)(_at + 20) = response.Hypercalls.Length;
        _at += Record.ResponseHead;
        foreach ((Register register, ulong value) in response.Patches)
        {
            (int place, int width) = PlaceOf(register);
            *(int*)_at = place;
            *(int*)(_at + 4) = width;
            *(ulong*)(_at + 8) = value;
            _at += Record.PatchSize;
        }

        foreach (Hypercall call in response.Hypercalls)
        {
            *(ulong*)_at = call.Number;
            *(ulong*)(_at + 8) = (ulong)call.Arguments.Length;
            _at += Record.CallHead;
            foreach (ulong argument in call.Arguments)
            {
                *(ulong*)_at = argument;
                _at += sizeof(ulong);
            }
        }
    }

    /// <summary>Writes where entries lie.</summary>
    private void WriteEntries(XenState xen)
    {
        // SAFETY: as in Encode.
        ulong* item = (ulong*)_at;
        (item[0], item[1]) = (xen.Traps.Base ?? 0, (ulong)(xen.Traps.Overrides.Length + xen.Callbacks.Length));
        foreach (XenTrap trap in xen.Traps.Overrides)
        {
            item += 2;
            (item[0], item[1]) = (trap.Vector, trap.Address);
        }

        foreach (XenCallback callback in xen.Callbacks)
        {
            item += 2;
            (item[0], item[1]) = (EntryNumber.FirstCallback + (ulong)callback.Kind, callback.Address);
        }

        _at = (byte*)(item + 2);
    }

    /// <summary>Where the return takes a register from, and how many bytes of it: 2 or 8.</summary>
    private static (int Place, int Width) PlaceOf(Register register) => register switch
    {
        Register.Rax => (Initial.Rax, 8),
        Register.Rcx => (Initial.Rcx, 8),
        Register.R11 => (Initial.R11, 8),
        Register.Rsp => (Initial.Rsp, 8),
        <= Register.R15 => (Initial.Gpr + ((int)register * 8), 8),
        Register.Rip => (Initial.Rip, 8),
        Register.Rflags => (Initial.Rflags, 8),
        Register.Cs => (Initial.Cs, 8),
        Register.Ss => (Initial.Ss, 8),
        Register.Ds => (Initial.Ds, 2),
        Register.Es => (Initial.Es, 2),
        Register.Fs => (Initial.Fs, 2),
        Register.Gs => (Initial.Gs, 2),
        Register.FsBase => (Initial.FsBase, 8),
        Register.GsBase => (Initial.GsBase, 8),
        _ => throw new InvalidOperationException($"{register}: cannot be patched; the case was not checked"),
    };
}
