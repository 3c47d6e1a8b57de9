namespace PvDiffFuzz.Backends.Pvm.Emulated;

/// <summary>Fields of the pages by which the server in an emulated host and this process talk. Each page has a program of its own; the server looks at one after the other.</summary>
internal static class ServerPage
{
    /// <summary>Linear address of the first page in the server; the others follow.</summary>
    public const ulong Address = 0x10_0000_0000;

    /// <summary>Bytes of a page.</summary>
    public const int Size = 4096;

    /// <summary>How many there are: one for what this process waits for at once, and one a lane.</summary>
    public const int Pages = 8;

    /// <summary>Two words by which the page is found in the RAM of the host.</summary>
    public const int Signature = 0x00;

    /// <summary>Number of the last program that was asked for, 64 bits.</summary>
    public const int Asked = 0x10;

    /// <summary>Number of the last program that was carried out, 64 bits.</summary>
    public const int Done = 0x18;

    /// <summary>Operations of the program, 64 bits.</summary>
    public const int Count = 0x20;

    /// <summary>How long the server sleeps next when nothing is asked for: a timespec. First page only, as what follows up to the operations.</summary>
    public const int Pause = 0x28;

    /// <summary>Address of the page whose program is carried out; 0 for none.</summary>
    public const int Current = 0x38;

    /// <summary>Signals that end runs, as a set, which the server takes when one has.</summary>
    public const int Signals = 0x40;

    /// <summary>A timespec that is zero.</summary>
    public const int AtOnce = 0x48;

    /// <summary>The operations, one behind the other.</summary>
    public const int Operations = 0x60;

    /// <summary>Bytes of an operation: its number, six arguments and its result, 64 bits each.</summary>
    public const int OperationSize = 64;

    /// <summary>Offset of 32 bits in a system call's operation: 0, or one more than the result without which the program ends there.</summary>
    public const int Needed = 4;

    /// <summary>Offset of the result in an operation.</summary>
    public const int Result = 56;

    /// <summary>Most operations of a program.</summary>
    public const int MostOperations = 44;

    /// <summary>Room for what operations need until there is more memory.</summary>
    public const int Data = 0xc00;

    /// <summary>Bytes of that room.</summary>
    public const int DataSize = 0x400;

    /// <summary>Number of an operation that copies: to, from, bytes. All others that are not negative are system calls.</summary>
    public const int Copy = -1;

    /// <summary>Number of an operation that executes CPUID: EAX and ECX, replaced by EAX, EBX, ECX and EDX.</summary>
    public const int CpuId = -2;

    /// <summary>Number of an operation that asks for the rights of a selector: the selector, replaced by LAR's and LSL's results; the result is 0 when it has none.</summary>
    public const int Selector = -3;

    /// <summary>Number of an operation that runs a virtual processor: its descriptor, its <c>struct kvm_run</c> and the mirror of that, whose beginning is copied there and which is written afterwards.</summary>
    public const int Run = -4;

    /// <summary>The first word of the signature. It is inverted in the code, so that only the page holds it.</summary>
    public const ulong First = 0x5d1f_c0de_9e37_79b9;

    /// <summary>The second word.</summary>
    public const ulong Second = 0x7f4a_7c15_ba5e_ba11;
}
