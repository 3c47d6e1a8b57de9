using System.Buffers.Binary;

namespace PvDiffFuzz.Core;

/// <summary>Takes numbers and bytes of a value in a fixed order, for a hash of it.</summary>
internal interface IDigestSink
{
    /// <summary>Takes one number.</summary>
    void Add(ulong value);

    /// <summary>Takes bytes. Their number is taken before them by the caller.</summary>
    void Add(ReadOnlySpan<byte> bytes);
}

/// <summary>Fast 64-bit digests of cases and outcomes, the same in every run and on every machine. Not for adversaries.</summary>
/// <remarks>Equal values have equal digests. Nothing is allocated for cases without a profile.</remarks>
public struct Digest64 : IDigestSink
{
    private const ulong Prime1 = 0x9e37_79b1_85eb_ca87;
    private const ulong Prime2 = 0xc2b2_ae3d_27d4_eb4f;
    private const ulong Prime3 = 0x1656_67b1_9e37_79f9;

    private ulong _state;

    /// <summary>Digest of an input.</summary>
    public static ulong Of(TestCase testCase)
    {
        ArgumentNullException.ThrowIfNull(testCase);
        Digest64 digest = default;
        DigestWalk.Visit(ref digest, testCase);
        return digest.Value;
    }

    /// <summary>Digest of an answer, with its detail.</summary>
    public static ulong Of(Outcome outcome)
    {
        ArgumentNullException.ThrowIfNull(outcome);
        Digest64 digest = default;
        DigestWalk.Visit(ref digest, outcome);
        return digest.Value;
    }

    /// <summary>The digest of everything added so far, in order.</summary>
    public readonly ulong Value
    {
        get
        {
            ulong value = _state ^ (_state >> 33);
            value *= Prime2;
            value ^= value >> 29;
            value *= Prime3;
            return value ^ (value >> 32);
        }
    }

    /// <summary>Takes one number, such as the digest of the next case of a campaign.</summary>
    public void Add(ulong value) => _state = ulong.RotateLeft(_state ^ (ulong.RotateLeft(value * Prime2, 31) * Prime1), 27) * Prime1 + Prime3;

    /// <summary>Takes bytes. Different splits of the same bytes give different digests.</summary>
    public void Add(ReadOnlySpan<byte> bytes)
    {
        while (bytes.Length >= 8)
        {
            Add(BinaryPrimitives.ReadUInt64LittleEndian(bytes));
            bytes = bytes[8..];
        }

        // The last word carries the number of bytes in it, so that a shorter tail never equals a longer one with zeros.
        ulong tail = (ulong)bytes.Length << 56;
        for (int i = 0; i < bytes.Length; i++)
        {
            tail |= (ulong)bytes[i] << (i * 8);
        }

        Add(tail);
    }
}

/// <summary>Walks the fields of cases and outcomes in one fixed order, every list after its length.</summary>
internal static class DigestWalk
{
    /// <summary>Visits an input.</summary>
    public static void Visit<TSink>(ref TSink sink, TestCase testCase)
        where TSink : struct, IDigestSink
    {
        sink.Add((ulong)testCase.Abi);
        sink.Add(testCase.Code.Address);
        Visit(ref sink, testCase.Code.Bytes.AsSpan());
        Visit(ref sink, testCase.Code.Lengths.AsSpan());
        Visit(ref sink, testCase.Registers);
        Visit(ref sink, testCase.Layout);
        sink.Add((ulong)testCase.Contents.Length);
        foreach (MemoryContents run in testCase.Contents)
        {
            sink.Add(run.Address);
            Visit(ref sink, run.Bytes.AsSpan());
        }

        sink.Add((ulong)testCase.Responses.Length);
        foreach (Response response in testCase.Responses)
        {
            sink.Add((ulong)response.Patches.Length);
            foreach ((Register register, ulong value) in response.Patches)
            {
                sink.Add((ulong)register);
                sink.Add(value);
            }
        }

        sink.Add((ulong)testCase.Limits.Instructions);
        Visit(ref sink, testCase.Profile);
        if (testCase.Abi != Abi.X86)
        {
            VisitSystemSide(ref sink, testCase);
        }
    }

    /// <summary>What only paravirtual cases have, so that the digests of the others stay as they were.</summary>
    private static void VisitSystemSide<TSink>(ref TSink sink, TestCase testCase)
        where TSink : struct, IDigestSink
    {
        sink.Add((ulong)testCase.Start | (Pending(testCase.Inject) << 8));
        Visit(ref sink, testCase.System);
        foreach (Response response in testCase.Responses)
        {
            sink.Add((ulong)response.Return | (Pending(response.Inject) << 8) | ((ulong)response.Hypercalls.Length << 32));
            foreach (Hypercall call in response.Hypercalls)
            {
                sink.Add(call.Number);
                sink.Add((ulong)call.Arguments.Length);
                foreach (ulong argument in call.Arguments)
                {
                    sink.Add(argument);
                }
            }
        }

        if (testCase.Xen is XenState xen)
        {
            Visit(ref sink, xen);
            foreach (Response response in testCase.Responses)
            {
                sink.Add(response.Flags);
            }
        }

        if (testCase.Pvm is PvmState pvm)
        {
            sink.Add(pvm.PvcsAddress | (ulong)pvm.Path);
            sink.Add(pvm.UserLayout is null ? 0UL : 1);
            if (pvm.UserLayout is PageLayout user)
            {
                Visit(ref sink, user);
            }
        }
    }

    private static void Visit<TSink>(ref TSink sink, XenState xen)
        where TSink : struct, IDigestSink
    {
        XenTrapTable traps = xen.Traps;
        ulong given = (traps.Base is null ? 0u : 1) | (xen.IretFlags is null ? 0u : 2) | (xen.UserLayout is null ? 0u : 4) | (xen.Version is null ? 0u : 8);
        sink.Add(given | ((ulong)traps.Cs << 16) | ((ulong)traps.Overrides.Length << 32));
        sink.Add(traps.Base ?? 0);
        foreach (XenTrap trap in traps.Overrides)
        {
            sink.Add(trap.Vector | ((ulong)trap.Flags << 8) | ((ulong)trap.Cs << 16));
            sink.Add(trap.Address);
        }

        sink.Add((ulong)xen.Callbacks.Length);
        foreach (XenCallback callback in xen.Callbacks)
        {
            sink.Add((ulong)callback.Kind | (callback.MaskEvents ? 1UL << 8 : 0) | ((ulong)callback.Cs << 16));
            sink.Add(callback.Address);
        }

        sink.Add((ulong)xen.Gdt.Length);
        foreach ((ushort selector, ulong descriptor) in xen.Gdt)
        {
            sink.Add(selector);
            sink.Add(descriptor);
        }

        sink.Add(xen.IretFlags ?? 0);
        if (xen.Version is XenVersion version)
        {
            sink.Add((uint)version.Major | ((ulong)(uint)version.Minor << 16) | ((ulong)(uint)version.Patch << 32) | (version.Debug ? 1UL << 63 : 0));
        }

        if (xen.UserLayout is PageLayout user)
        {
            Visit(ref sink, user);
        }
    }

    private static void Visit<TSink>(ref TSink sink, PageLayout layout)
        where TSink : struct, IDigestSink
    {
        sink.Add((ulong)layout.Ranges.Length);
        foreach (PageRange range in layout.Ranges)
        {
            sink.Add(range.Address | (ulong)range.Access);
            sink.Add((ulong)range.Pages);
        }
    }

    private static ulong Pending(Injection? injection) => injection is Injection i ? 1 | ((ulong)i.Kind << 8) | ((ulong)i.Vector << 16) : 0;

    private static void Visit<TSink>(ref TSink sink, SystemState state)
        where TSink : struct, IDigestSink
    {
        sink.Add((ulong)state.Values.Length);
        foreach ((SystemRegister register, ulong value) in state.Values)
        {
            sink.Add((ulong)register);
            sink.Add(value);
        }
    }

    /// <summary>Visits an answer.</summary>
    public static void Visit<TSink>(ref TSink sink, Outcome outcome)
        where TSink : struct, IDigestSink
    {
        sink.Add((ulong)outcome.End);
        sink.Add((ulong)outcome.Events.Length);
        foreach (Event e in outcome.Events)
        {
            ulong given = (e.ErrorCode is null ? 0u : 1) | (e.Cr2 is null ? 0u : 2);
            sink.Add((ulong)e.Kind | ((ulong)e.Vector << 8) | ((ulong)e.Entry << 16) | (given << 24) | ((ulong)(e.ErrorCode ?? 0) << 32));
            sink.Add(e.Cr2 ?? 0);
            Visit(ref sink, e.Registers);
            if (e.Entry != EntryPoint.Idt && !e.Frame.IsEmpty)
            {
                Visit(ref sink, e.Frame.AsSpan());
            }
        }

        sink.Add(outcome.Registers is null ? 0UL : 1);
        if (outcome.Registers is RegisterState registers)
        {
            Visit(ref sink, registers);
        }

        sink.Add((ulong)outcome.Memory.Length);
        foreach (MemoryWord word in outcome.Memory)
        {
            sink.Add(word.Address);
            sink.Add(word.Value);
        }

        if (!outcome.System.Values.IsEmpty)
        {
            Visit(ref sink, outcome.System);
        }

        Visit(ref sink, outcome.Detail);
    }

    private static void Visit<TSink>(ref TSink sink, RegisterState r)
        where TSink : struct, IDigestSink
    {
        for (int i = 0; i < GprFile.Count; i++)
        {
            sink.Add(r.Gpr[i]);
        }

        sink.Add(r.Rip);
        sink.Add(r.Rflags);
        sink.Add(r.Cs | ((ulong)r.Ss << 16) | ((ulong)r.Ds << 32) | ((ulong)r.Es << 48));
        ulong given = (r.Pkru is null ? 0u : 1) | (r.Debug is null ? 0u : 2);
        sink.Add(r.Fs | ((ulong)r.Gs << 16) | (given << 32));
        sink.Add(r.FsBase);
        sink.Add(r.GsBase);
        sink.Add(r.Pkru ?? 0);
        if (r.Debug is DebugRegisters d)
        {
            sink.Add(d.Dr0);
            sink.Add(d.Dr1);
            sink.Add(d.Dr2);
            sink.Add(d.Dr3);
            sink.Add(d.Dr7);
        }
    }

    private static void Visit<TSink>(ref TSink sink, CpuProfile? profile)
        where TSink : struct, IDigestSink
    {
        sink.Add(profile is null ? 0UL : 1);
        if (profile is null)
        {
            return;
        }

        sink.Add((ulong)profile.Vendor);
        sink.Add((ulong)profile.Family);
        sink.Add((ulong)profile.LinearBits);
        sink.Add(profile.GdtLimit);
        sink.Add((ulong)profile.Features.Count);
        foreach (string feature in profile.Features.Order(StringComparer.Ordinal))
        {
            Visit(ref sink, feature);
        }

        sink.Add((ulong)profile.UserGates.Count);
        foreach (byte gate in profile.UserGates.Order())
        {
            sink.Add(gate);
        }

        sink.Add((ulong)profile.Descriptors.Length);
        foreach (SegmentDescriptor d in profile.Descriptors)
        {
            ReadOnlySpan<bool> flags = [d.System, d.Present, d.Long, d.Big, d.Granular, d.Available];
            ulong bits = 0;
            for (int i = 0; i < flags.Length; i++)
            {
                bits |= flags[i] ? 1UL << i : 0;
            }

            sink.Add((ulong)d.Index);
            sink.Add(d.Type | ((ulong)d.Dpl << 8) | (bits << 16));
            sink.Add(d.Base | ((ulong)d.Limit << 32));
        }

        foreach ((Reading reading, ulong value) in profile.Readings)
        {
            sink.Add((ulong)reading);
            sink.Add(value);
        }

        foreach (CpuidLeaf l in profile.Cpuid)
        {
            sink.Add(l.Leaf | ((ulong)(l.Subleaf ?? 0) << 32));
            sink.Add(l.Subleaf is null ? 1UL : 0);
            sink.Add(l.Eax | ((ulong)l.Ebx << 32));
            sink.Add(l.Ecx | ((ulong)l.Edx << 32));
        }
    }

    private static void Visit<TSink>(ref TSink sink, string? text)
        where TSink : struct, IDigestSink
    {
        sink.Add(text is null ? ulong.MaxValue : (ulong)text.Length);
        foreach (char c in text ?? "")
        {
            sink.Add(c);
        }
    }

    private static void Visit<TSink>(ref TSink sink, ReadOnlySpan<byte> bytes)
        where TSink : struct, IDigestSink
    {
        sink.Add((ulong)bytes.Length);
        sink.Add(bytes);
    }
}
