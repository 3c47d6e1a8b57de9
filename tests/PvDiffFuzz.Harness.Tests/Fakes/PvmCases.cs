using System.Buffers.Binary;
using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness.Tests;

/// <summary>Builds PVM cases and outcomes for tests.</summary>
internal static class PvmCases
{
    /// <summary>RSP of supervisor code at the start.</summary>
    public const ulong StackTop = AddressMap.LowBlock + PvmMap.Stack + 0x1000;

    /// <summary>The system side as generated cases state it.</summary>
    public static SystemState System { get; } = SystemState.Of(
        KeyValuePair.Create(SystemRegister.Cr3, PvmMap.SupervisorRoot),
        KeyValuePair.Create(SystemRegister.Star, PvmMap.Star),
        KeyValuePair.Create(SystemRegister.Lstar, PvmMap.Lstar),
        KeyValuePair.Create(SystemRegister.PvmVcpuStruct, PvmMap.VcpuStruct),
        KeyValuePair.Create(SystemRegister.PvmEventEntry, PvmMap.EventEntry),
        KeyValuePair.Create(SystemRegister.PvmRetuRip, PvmMap.RetuRip),
        KeyValuePair.Create(SystemRegister.PvmRetsRip, PvmMap.RetsRip),
        KeyValuePair.Create(SystemRegister.PvmSwitchCr3, PvmMap.UserRoot));

    /// <summary>A case of supervisor code of the first revision.</summary>
    public static TestCase Supervisor(params string[] instructions)
    {
        TestCase user = Cases.Of(instructions);
        ulong address = AddressMap.LowBlock + PvmMap.CodeEnd - (ulong)user.Code.Bytes.Length;
        return user with
        {
            Abi = Abi.PvmRfc1,
            Start = GuestMode.Supervisor,
            Code = user.Code with { Address = address },
            Registers = (user.Registers with { Rip = address, Rflags = RflagsBits.Fixed1 }).With(Register.Rsp, StackTop),
            Layout = PvmMap.SupervisorLayout,
            Pvm = new PvmState(PvmMap.PvcsAddress, PvmMap.UserLayout),
            System = System,
            Contents = [PvmMap.ReturnInstructions],
        };
    }

    /// <summary>A case of user code of the first revision.</summary>
    public static TestCase User(params string[] instructions) => Cases.Of(instructions) with
    {
        Abi = Abi.PvmRfc1,
        Layout = PvmMap.SupervisorLayout,
        Pvm = new PvmState(PvmMap.PvcsAddress, PvmMap.UserLayout),
        System = System,
        Contents = [PvmMap.ReturnInstructions],
    };

    /// <summary>A general-protection fault of supervisor code, its frame of 64 bytes on the stack and nowhere else in memory.</summary>
    public static Event Fault(ulong rip = 0x461ff0, ulong rflags = 0x2, ulong rax = 0) => new(EventKind.Fault, 13, 0, null, EntryPoint.PvmSupervisor, AtEntry(StackTop - 64, rax))
    {
        Frame = Frame(Abi.PvmRfc1, EntryPoint.PvmSupervisor, 64, ("vector", 13), ("rip", rip), ("cs", 0x10), ("rflags", rflags), ("rsp", StackTop), ("ss", 0x18)),
    };

    /// <summary>A breakpoint of user code; its frame is the per-VCPU structure.</summary>
    public static Event UserTrap(ulong rip = 0x401ff1, ulong rflags = 0x202, Abi abi = Abi.PvmRfc1) => new(EventKind.Trap, 3, null, null, EntryPoint.PvmUser, AtEntry(StackTop, 0))
    {
        Frame = Frame(abi, EntryPoint.PvmUser, PvcsLayout.Size, ("event-vector", 3), ("rip", rip), ("user-cs", 0x33), ("eflags", rflags), ("user-ss", 0x2b)),
    };

    /// <summary>The return of a hypercall.</summary>
    public static Event Call(ulong rax = 0) => new(EventKind.Hypercall, 0, null, null, EntryPoint.HypercallReturn, AtEntry(StackTop, rax));

    /// <summary>An outcome that ends with the last of some events.</summary>
    public static Outcome Ends(params ImmutableArray<Event> events) => new() { End = EndKind.Event, Events = events, Registers = events[^1].Registers };

    /// <summary>What the frames of an outcome leave in memory, as a real target would report it.</summary>
    public static Outcome WithFramesInMemory(this Outcome outcome)
    {
        SortedDictionary<ulong, ulong> words = [];
        foreach (Event e in outcome.Events.Where(e => e.Entry == EntryPoint.PvmSupervisor))
        {
            for (int i = 0; i < e.Frame.Length; i += 8)
            {
                words[e.Registers[Register.Rsp] + (ulong)i] = BinaryPrimitives.ReadUInt64LittleEndian(e.Frame.AsSpan(i, 8));
            }
        }

        return outcome with { Memory = [.. words.Where(w => w.Value != 0).Select(w => new MemoryWord(w.Key, w.Value))] };
    }

    /// <summary>A frame with some of its parts set.</summary>
    public static ImmutableArray<byte> Frame(Abi abi, EntryPoint entry, int length, params (string Part, ulong Value)[] parts)
    {
        ImmutableArray<byte> frame = [.. new byte[length]];
        foreach ((string part, ulong value) in parts)
        {
            frame = Set(frame, FrameLayout.Of(abi, entry, length).ToArray().Single(f => f.Name == part), value);
        }

        return frame;
    }

    /// <summary>A frame with one part changed.</summary>
    public static ImmutableArray<byte> Set(ImmutableArray<byte> frame, FrameField field, ulong value)
    {
        byte[] bytes = [.. frame];
        for (int i = 0; i < field.Width; i++)
        {
            bytes[field.Offset + i] = (byte)(value >> (8 * i));
        }

        return [.. bytes];
    }

    private static RegisterState AtEntry(ulong rsp, ulong rax)
    {
        GprFile gpr = default;
        gpr[0] = rax;
        gpr[1] = PvmMap.EventEntry;
        gpr[4] = rsp;
        gpr[11] = 0x202;
        return new RegisterState { Gpr = gpr, Rip = PvmMap.EventEntry, Rflags = 0x2 };
    }
}
