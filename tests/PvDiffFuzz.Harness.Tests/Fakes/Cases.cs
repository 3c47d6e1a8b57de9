using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>Builds cases for tests.</summary>
internal static class Cases
{
    /// <summary>A case at the standard place from instructions in hexadecimal, one string each.</summary>
    public static TestCase Of(params string[] instructions)
    {
        byte[][] bytes = [.. instructions.Select(i => Convert.FromHexString(i.Replace(" ", "", StringComparison.Ordinal)))];
        byte[] code = [.. bytes.SelectMany(b => b)];
        GprFile gpr = default;
        gpr[(int)Register.Rsp] = AddressMap.LowBlock + AddressMap.Stack + 0x1000;
        ulong address = AddressMap.LowBlock + AddressMap.CodeEnd - (ulong)code.Length;
        return new TestCase
        {
            Code = new CodeBlock(address, [.. code], [.. bytes.Select(b => (byte)b.Length)]),
            Registers = new RegisterState { Gpr = gpr, Rip = address, Rflags = 0x202 },
            Layout = AddressMap.Standard,
        };
    }

    /// <summary>The same case with one register changed.</summary>
    public static TestCase With(this TestCase testCase, Register register, ulong value) =>
        testCase with { Registers = testCase.Registers.With(register, value) };

    /// <summary>An outcome with one event, as most are.</summary>
    public static Outcome Fault(byte vector = 13, ulong rip = 0x401ff0, ulong rflags = 0x202, uint? error = 0, ulong? cr2 = null, ulong rax = 0)
    {
        GprFile gpr = default;
        gpr[0] = rax;
        RegisterState registers = new() { Gpr = gpr, Rip = rip, Rflags = rflags };
        return new Outcome
        {
            End = EndKind.Event,
            Events = [new Event(Event.KindOf(vector), vector, error, cr2, EntryPoint.Idt, registers)],
            Registers = registers,
        };
    }

    /// <summary>A target description.</summary>
    public static TargetInfo Info(string name, string? lineage = null, params TargetMask[] masks) =>
        new(name, name.StartsWith("model", StringComparison.Ordinal) ? TargetKind.Model : TargetKind.Hardware, lineage ?? name, Capabilities.None, Fingerprint.Empty) { Masks = [.. masks] };
}
