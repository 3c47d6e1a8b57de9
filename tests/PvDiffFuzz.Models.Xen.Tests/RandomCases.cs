using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Tests;

/// <summary>Random cases that get somewhere: pieces of code that do something with the system side, registers that point at things, odd state.</summary>
internal static class RandomCases
{
    private static readonly string[] Pieces =
    [
        "90", "CC", "CD80", "CD04", "CD40", "66CD40", "CD82", "0F0B", "0F0B78656E0FA2", "0F05", "480F05", "0F34", "FA", "FB", "F4", "9C", "9D", "0F32", "0F30", "0F20C0", "0F22C0", "0F20D8", "0F20E0", "0F22E0",
        "0F23F8", "0F21F0", "0F23C0", "48CF", "CB", "8ED8", "8ED0", "8EE0", "E480", "E680", "F36C", "6E", "0F06", "0F09", "0F01D1", "B800000000", "B803000000", "B80D000000", "B817000000", "B819000000",
        "B81E000000", "B821000000", "31C0", "31FF", "F1", "D9EE", "CE", "C8000000", "50", "58", "FFE0", "488B00", "488900", "B91B000000", "F3480FAEC0",
    ];

    private static readonly ulong[] Values =
    [
        0, 1, 2, 3, 6, 7, 0x10, 0x80, 0x202, 0x302, 0xe02b, 0xe033, 0xe030, 0xe019, 0xe021, 0xc000_0100, 0xc000_0082, Payload.Data, Payload.Data + 0xfff, Payload.Stack, Payload.Stack + 5, Payload.KernelStack,
        XenMap.Handlers, XenMap.PrivateFirst, XenMap.PrivateLast + 0x20, AddressMap.LowBlock + AddressMap.Data, AddressMap.LowBlock + XenMap.UserOnly, 0x7fff_ffff_ffff, 0x8000_0000_0000, ulong.MaxValue, 0x8005_003b,
    ];

    /// <summary>Well-formed cases of a kind of guest.</summary>
    public static IEnumerable<TestCase> Draw(Abi abi, int seed, int count)
    {
        Random random = new(seed);
        while (count > 0)
        {
            TestCase testCase = DrawOne(random, abi);
            if (testCase.Check() is null)
            {
                count--;
                yield return testCase;
            }
        }
    }

    private static TestCase DrawOne(Random random, Abi abi)
    {
        bool narrow = abi == Abi.XenPv32;
        GuestMode mode = random.Next(2) == 0 ? GuestMode.User : GuestMode.Supervisor;
        string code = string.Concat(Enumerable.Range(0, random.Next(1, 8)).Select(_ => Pieces[random.Next(Pieces.Length)]));
        (Register, ulong)[] registers = [.. Enumerable.Range(0, 8).Where(i => i != 4 || random.Next(4) == 0).Select(i => ((Register)i, Limit(Values[random.Next(Values.Length)], narrow)))];
        TestCase testCase = Payload.Make(abi, mode, code, registers);
        if (mode == GuestMode.User || random.Next(2) == 0)
        {
            testCase = testCase.ByIret(random.Next(2) == 0 ? 0UL : 0x100);
            ulong flags = 2 | ((ulong)random.Next(0x40_0000) & (random.Next(3) == 0 ? ulong.MaxValue : 0xfd7) & ~(narrow ? RflagsBits.VM : 0));
            testCase = testCase with { Registers = testCase.Registers with { Rflags = flags } };
        }

        if (random.Next(4) == 0)
        {
            ushort cs = (ushort)((Values[random.Next(Values.Length)] & 0xfffc) | (mode == GuestMode.User ? 3u : narrow ? 1u : 0u));
            testCase = testCase with { Registers = testCase.Registers with { Cs = testCase.Xen!.IretFlags is null ? testCase.Registers.Cs : cs } };
        }

        byte vector = (byte)(random.Next(2) == 0 ? 0x40 : random.Next(256));
        testCase = testCase.Trap(vector, (byte)random.Next(8));
        testCase = random.Next(4) == 0 ? testCase.Without((byte)random.Next(20)) : testCase;
        testCase = random.Next(4) == 0 ? testCase.Without((XenCallbackKind)random.Next(5)) : testCase;
        testCase = testCase.With(
            (SystemRegister.XenUpcallPending, random.Next(4) == 0 ? 1u : 0u), (SystemRegister.XenIopl, (ulong)random.Next(4)), (SystemRegister.XenVmAssist, random.Next(2) == 0 ? 0x10u : 0u),
            (SystemRegister.XenKernelSp, random.Next(4) == 0 ? Limit(Values[random.Next(Values.Length)], narrow) : Payload.KernelStack));
        ulong word = Values[random.Next(Values.Length)];
        testCase = testCase.WithWords(Payload.Data, word, Values[random.Next(Values.Length)], 0, 0, Values[random.Next(Values.Length)], 0xe033, 0x202, Payload.UserStack, 0xe02b);
        return testCase.Answer([.. Enumerable.Range(0, random.Next(3)).Select(_ => DrawAnswer(random))]);
    }

    private static Response DrawAnswer(Random random)
    {
        Response response = random.Next(2) == 0 ? Payload.Back() : Payload.Back((Register.Rflags, 2 | (ulong)random.Next(0x1000)), (Register.Rip, AddressMap.LowBlock + AddressMap.Code));
        response = random.Next(4) == 0 ? response with { Inject = new Injection(InjectionKind.Upcall, 0) } : response;
        return random.Next(4) == 0 ? response with { Hypercalls = [new Hypercall((ulong)random.Next(60), [Values[random.Next(Values.Length)], Payload.Data])], Flags = 0x100 } : response;
    }

    private static ulong Limit(ulong value, bool narrow) => narrow ? (uint)value : value;
}
