using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Agents;

/// <summary>Writes cases as <see cref="Record"/>s into the shared request buffer.</summary>
internal unsafe ref struct CaseEncoder
{
    private readonly LayoutMap _map;
    private readonly ContextLayout _layout;
    private byte* _at;
    private uint* _run;
    private uint _runEnd;
    private uint _runs;

    private CaseEncoder(LayoutMap map, ContextLayout layout, byte* at)
    {
        _map = map;
        _layout = layout;
        _at = at;
        _runEnd = uint.MaxValue;
    }

    /// <summary>Most bytes that a case can take.</summary>
    /// <param name="testCase">The case.</param>
    /// <param name="layout">Contexts of the agent.</param>
    public static int Bound(TestCase testCase, ContextLayout layout)
    {
        // A piece of contents on one page takes up to 8 bytes of header and 14 of padding.
        const int perPiece = 24;
        int size = Record.FirstRun(layout) + testCase.Code.Bytes.Length + (3 * perPiece) + 8;
        foreach (MemoryContents contents in testCase.Contents)
        {
            size += contents.Bytes.Length + (((contents.Bytes.Length >> 12) + 2) * perPiece);
        }

        foreach (Response response in testCase.Responses)
        {
            size += 8 + (response.Patches.Length * Record.PatchSize);
        }

        return size;
    }

    /// <summary>Writes a case.</summary>
    /// <param name="testCase">A well-formed case with this layout.</param>
    /// <param name="map">Its layout.</param>
    /// <param name="layout">Contexts of the agent.</param>
    /// <param name="at">Where to write; <see cref="Bound"/> bytes are free there.</param>
    /// <returns>The first byte after it.</returns>
    public static byte* Encode(TestCase testCase, LayoutMap map, ContextLayout layout, byte* at)
    {
        // SAFETY: every write below lies within Bound(testCase) bytes from `at`.
        *(ulong*)(at + Record.End) = testCase.Code.End;
        layout.Write(testCase.Registers, at + Record.Initial);

        CaseEncoder encoder = new(map, layout, at + Record.FirstRun(layout));
        encoder.WriteMemory(testCase);
        *(uint*)(at + Record.Runs(layout)) = encoder._runs;

        *(uint*)(at + Record.ResponsesAt(layout)) = (uint)(encoder._at - at);
        *(int*)(at + Record.Responses) = testCase.Responses.Length;
        foreach (Response response in testCase.Responses)
        {
            encoder.WriteResponse(response);
        }

        *(uint*)(at + Record.Length) = (uint)(encoder._at - at);
        return encoder._at;
    }

    private void WriteMemory(TestCase testCase)
    {
        CodeBlock code = testCase.Code;
        bool codeWritten = false;
        foreach (MemoryContents contents in testCase.Contents)
        {
            if (!codeWritten && contents.Address > code.Address)
            {
                Write(code.Address, code.Bytes);
                codeWritten = true;
            }

            Write(contents.Address, contents.Bytes);
        }

        if (!codeWritten)
        {
            Write(code.Address, code.Bytes);
        }
    }

    /// <summary>Writes bytes as runs of aligned quadwords, one a page; bytes around them are zero, as all memory is before a case.</summary>
    private void Write(ulong address, ImmutableArray<byte> source)
    {
        ReadOnlySpan<byte> bytes = source.AsSpan();
        while (!bytes.IsEmpty)
        {
            LayoutMap.Range range = _map.Find(address)
                ?? throw new InvalidOperationException($"{address:x}: no page of the case; the case was not checked");
            int length = Math.Min(bytes.Length, (int)(PageLayout.PageSize - (address & 0xfff)));
            uint offset = range.PoolOffset + (uint)(address - range.First);
            WritePiece(offset, range.Writable, bytes[..length]);
            bytes = bytes[length..];
            address += (uint)length;
        }
    }

    private void WritePiece(uint offset, bool writable, ReadOnlySpan<byte> bytes)
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
            _run[1] = words | (writable ? 0 : Record.ReadOnlyRun);
            _runs++;
            data = (ulong*)(_at + 8);
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
        *(ulong*)_at = (uint)response.Patches.Length;
        _at += 8;
        foreach ((Register register, ulong value) in response.Patches)
        {
            (int place, int width) = _layout.PlaceOf(register);
            *(int*)_at = place;
            *(int*)(_at + 4) = width;
            *(ulong*)(_at + 8) = value;
            _at += Record.PatchSize;
        }
    }
}
