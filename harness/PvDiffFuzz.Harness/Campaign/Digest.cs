using System.Numerics;
using System.Runtime.InteropServices;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>64-bit hashes of cases and outcomes, to show with one number that two runs were the same. Sums of them do not depend on order.</summary>
/// <remarks>
/// Depends on values only, so equal on every host. Not a defence against forgery. <see cref="Digest64"/> would do, at twice the cost: this one walks a shared layout once and
/// registers that an event and the end share once, and it is on the path of every case.
/// </remarks>
public struct Digest
{
    private ulong _state;
    private PageLayout? _layout;
    private ulong _layoutHash;

    /// <summary>Hash of everything that a case holds.</summary>
    public ulong OfCase(ulong index, TestCase testCase)
    {
        _state = index;
        Add((ulong)testCase.Abi);
        Add(testCase.Code.Address);
        Add(testCase.Code.Bytes.AsSpan());
        Add(testCase.Code.Lengths.AsSpan());
        Add(testCase.Registers);
        foreach (MemoryContents run in testCase.Contents)
        {
            Add(run.Address);
            Add(run.Bytes.AsSpan());
        }

        foreach (Response response in testCase.Responses)
        {
            Add((ulong)response.Patches.Length);
            foreach ((Register register, ulong value) in response.Patches)
            {
                Add((ulong)register);
                Add(value);
            }
        }

        Add((ulong)testCase.Limits.Instructions);
        Add(OfLayout(testCase.Layout));
        if (testCase.Abi != Abi.X86)
        {
            AddSystemSide(testCase);
        }

        return Finish();
    }

    /// <summary>Hash of an outcome of the case with a given hash.</summary>
    public ulong OfOutcome(ulong caseHash, Outcome outcome)
    {
        _state = caseHash;
        Add((ulong)outcome.End);
        RegisterState? last = null;
        foreach (Event e in outcome.Events)
        {
            Add((ulong)e.Kind | ((ulong)e.Vector << 8) | ((ulong)e.Entry << 16) | (e.ErrorCode is null ? 0 : 1UL << 24) | (e.Cr2 is null ? 0 : 1UL << 25));
            Add(e.ErrorCode ?? 0);
            Add(e.Cr2 ?? 0);
            Add(e.Registers);
            if (e.Entry != EntryPoint.Idt && !e.Frame.IsEmpty)
            {
                Add(e.Frame.AsSpan());
            }

            last = e.Registers;
        }

        // Registers shared with the last event and equal ones in an object of their own must hash the same.
        if (outcome.Registers is RegisterState registers && !ReferenceEquals(registers, last) && !registers.Equals(last))
        {
            Add(registers);
        }

        foreach (MemoryWord word in outcome.Memory)
        {
            Add(word.Address);
            Add(word.Value);
        }

        if (!outcome.System.Values.IsEmpty)
        {
            Add(outcome.System);
        }

        return Finish();
    }

    // Cases of x86 have nothing of this, and their hashes are as they were before there was any.
    private void AddSystemSide(TestCase testCase)
    {
        Add((ulong)testCase.Start);
        Add(testCase.System);
        Add(testCase.Inject);
        foreach (Response response in testCase.Responses)
        {
            Add((ulong)response.Return);
            Add(response.Inject);
            Add((ulong)response.Hypercalls.Length);
            foreach (Hypercall call in response.Hypercalls)
            {
                Add(call.Number);
                Add((ulong)call.Arguments.Length);
                foreach (ulong argument in call.Arguments)
                {
                    Add(argument);
                }
            }
        }

        if (testCase.Xen is not null)
        {
            Add(Digest64.Of(testCase));
        }

        if (testCase.Pvm is PvmState pvm)
        {
            Add(pvm.PvcsAddress);
            Add((ulong)pvm.Path);
            foreach (PageRange range in pvm.UserLayout?.Ranges ?? [])
            {
                Add(range.Address);
                Add(((ulong)range.Pages << 8) | (byte)range.Access);
            }
        }
    }

    private void Add(SystemState system)
    {
        Add((ulong)system.Values.Length);
        foreach ((SystemRegister register, ulong value) in system.Values)
        {
            Add((ulong)register);
            Add(value);
        }
    }

    private void Add(Injection? injection) => Add(injection is Injection i ? 1 | ((ulong)i.Kind << 8) | ((ulong)i.Vector << 16) : 0);

    private ulong OfLayout(PageLayout layout)
    {
        if (!ReferenceEquals(layout, _layout))
        {
            Digest own = default;
            foreach (PageRange range in layout.Ranges)
            {
                own.Add(range.Address);
                own.Add(((ulong)range.Pages << 8) | (byte)range.Access);
            }

            (_layout, _layoutHash) = (layout, own.Finish());
        }

        return _layoutHash;
    }

    private void Add(RegisterState registers)
    {
        GprFile gpr = registers.Gpr;
        foreach (ulong value in gpr)
        {
            Add(value);
        }

        Add(registers.Rip);
        Add(registers.Rflags);
        Add(registers.Cs | ((ulong)registers.Ss << 16) | ((ulong)registers.Ds << 32) | ((ulong)registers.Es << 48));
        Add(registers.Fs | ((ulong)registers.Gs << 16) | ((ulong)(registers.Pkru ?? 0) << 32));
        Add(registers.FsBase);
        Add(registers.GsBase);
        if (registers.Debug is DebugRegisters debug)
        {
            Add(debug.Dr0);
            Add(debug.Dr1);
            Add(debug.Dr2);
            Add(debug.Dr3);
            Add(debug.Dr7);
        }
    }

    private void Add(ReadOnlySpan<byte> bytes)
    {
        Add((ulong)bytes.Length);
        ReadOnlySpan<ulong> words = MemoryMarshal.Cast<byte, ulong>(bytes);
        foreach (ulong word in words)
        {
            Add(word);
        }

        ulong rest = 0;
        foreach (byte b in bytes[(words.Length * sizeof(ulong))..])
        {
            rest = (rest << 8) | b;
        }

        Add(rest);
    }

    private void Add(ulong value) => _state = (BitOperations.RotateLeft(_state, 29) ^ value) * 0x9e37_79b9_7f4a_7c15;

    private ulong Finish()
    {
        ulong mixed = (_state ^ (_state >> 32)) * 0xd6e8_feb8_6659_fd93;
        return mixed ^ (mixed >> 32);
    }
}
