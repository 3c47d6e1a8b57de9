using System.Buffers.Binary;
using PvDiffFuzz.Backends.Interop;
using Tmds.Linux;

namespace PvDiffFuzz.Backends.Native;

/// <summary>A system call that the agent makes before it runs cases.</summary>
/// <param name="Name">What to call it when it fails.</param>
internal readonly record struct StartupCall(string Name);

/// <summary>What a child does to itself before it runs cases: empties its address space, takes signals, gives up its rights.</summary>
internal static class StartupCalls
{
    /// <summary>Bytes of an entry in the list: number, six arguments, and <see cref="MayFail"/>.</summary>
    public const int EntrySize = 64;

    /// <summary>Place in an entry that is not zero when older kernels may refuse the call.</summary>
    public const int MayFail = 56;

    /// <summary>One past the last byte that a process can have mapped.</summary>
    private const ulong TaskSize = 0x7fff_ffff_f000;

    private const int ActionSize = 32;

    private static readonly int[] HandledSignals =
        [LibC.SIGILL, LibC.SIGTRAP, LibC.SIGBUS, LibC.SIGFPE, LibC.SIGSEGV, LibC.SIGALRM, LibC.SIGSYS];

    /// <summary>Writes the list of calls and the structures that they read.</summary>
    /// <param name="shared">The shared memory up to the request buffer.</param>
    /// <param name="code">The agent.</param>
    /// <param name="imageAddress">Where the agent's image is.</param>
    /// <returns>The calls in order.</returns>
    public static IReadOnlyList<StartupCall> Write(Span<byte> shared, AgentCode code, ulong imageAddress)
    {
        ulong mailbox = imageAddress + Shared.DistanceFromCode;
        ulong agentEnd = mailbox + Shared.Size;
        Span<byte> list = shared[Shared.CallsAt..];
        Span<byte> data = shared[Mailbox.StartupData..Shared.CallsAt];
        ulong dataAddress = mailbox + Mailbox.StartupData;
        List<StartupCall> calls = [];

        void Add(Span<byte> to, string name, int number, params ReadOnlySpan<ulong> arguments)
        {
            AgentProcess.WriteCall(to, calls.Count, number, arguments);
            calls.Add(new StartupCall(name));
        }

        // An address space with nothing but the agent: no stack, no vDSO, and nothing that the kernel put elsewhere.
        Add(list, "munmap", LinuxAbi.SYS_munmap, 0, imageAddress);
        Add(list, "munmap", LinuxAbi.SYS_munmap, agentEnd, TaskSize - agentEnd);
        Add(list, "close_range", LinuxAbi.SYS_close_range, SeccompFilter.MemoryFd + 1, uint.MaxValue);

        ulong offset = 0;
        BinaryPrimitives.WriteUInt64LittleEndian(data, 0);
        ulong noSignals = dataAddress + offset;
        offset += 8;
        Add(list, "rt_sigprocmask", LinuxAbi.SYS_rt_sigprocmask, LinuxAbi.SIG_SETMASK, noSignals, 0, 8);

        // SIGIO comes when the harness is gone, and ends the child even in an endless loop.
        data.Slice((int)offset, ActionSize).Clear();
        Add(list, "rt_sigaction(SIGIO)", LinuxAbi.SYS_rt_sigaction, LinuxAbi.SIGIO, dataAddress + offset, 0, 8);
        offset += ActionSize;

        Span<byte> action = data.Slice((int)offset, ActionSize);
        BinaryPrimitives.WriteUInt64LittleEndian(action, code.Handler);
        BinaryPrimitives.WriteUInt64LittleEndian(
            action[8..], LinuxAbi.SA_SIGINFO | LinuxAbi.SA_ONSTACK | LinuxAbi.SA_NODEFER | LinuxAbi.SA_RESTORER);
        BinaryPrimitives.WriteUInt64LittleEndian(action[16..], code.Restorer);
        BinaryPrimitives.WriteUInt64LittleEndian(action[24..], 0);
        foreach (int signal in HandledSignals)
        {
            Add(list, $"rt_sigaction({signal})", LinuxAbi.SYS_rt_sigaction, (ulong)signal, dataAddress + offset, 0, 8);
        }

        offset += ActionSize;
        BinaryPrimitives.WriteUInt64LittleEndian(data[(int)offset..], mailbox + Shared.SignalStackAt);
        BinaryPrimitives.WriteUInt64LittleEndian(data[(int)(offset + 8)..], 0);
        BinaryPrimitives.WriteUInt64LittleEndian(data[(int)(offset + 16)..], Shared.SignalStackSize);
        Add(list, "sigaltstack", LinuxAbi.SYS_sigaltstack, dataAddress + offset, 0);
        offset += 24;

        BinaryPrimitives.WriteUInt64LittleEndian(data[(int)offset..], 0);
        BinaryPrimitives.WriteUInt64LittleEndian(data[(int)(offset + 8)..], 0);
        Add(list, "setrlimit(RLIMIT_CORE)", LinuxAbi.SYS_setrlimit, LinuxAbi.RLIMIT_CORE, dataAddress + offset);
        offset += 16;

        "pvdf-native\0"u8.CopyTo(data[(int)offset..]);
        Add(list, "prctl(PR_SET_NAME)", LinuxAbi.SYS_prctl, LinuxAbi.PR_SET_NAME, dataAddress + offset, 0, 0, 0);
        offset += 16;

        Add(list, "prctl(PR_SET_NO_NEW_PRIVS)", LinuxAbi.SYS_prctl, LinuxAbi.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);

        // Newer kernels let two system calls (uprobe, uretprobe) pass every seccomp filter. This one traps all by the place of the instruction alone;
        // kernels before 5.11 do not have it, nor those two calls.
        Add(
            list,
            "prctl(PR_SET_SYSCALL_USER_DISPATCH)",
            LinuxAbi.SYS_prctl,
            LinuxAbi.PR_SET_SYSCALL_USER_DISPATCH,
            LinuxAbi.PR_SYS_DISPATCH_ON,
            imageAddress,
            Shared.DistanceFromCode,
            0);
        BinaryPrimitives.WriteUInt64LittleEndian(list[(((calls.Count - 1) * EntrySize) + MayFail)..], 1);

        byte[] filter = SeccompFilter.Build(code.Sites, mailbox + Mailbox.Word);
        ulong program = offset;
        BinaryPrimitives.WriteUInt64LittleEndian(data[(int)program..], (ulong)(filter.Length / 8));
        BinaryPrimitives.WriteUInt64LittleEndian(data[(int)(program + 8)..], dataAddress + program + 16);
        filter.CopyTo(data[(int)(program + 16)..]);
        Add(
            list,
            "seccomp",
            LinuxAbi.SYS_seccomp,
            LinuxAbi.SECCOMP_SET_MODE_FILTER,
            LinuxAbi.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
            dataAddress + program);

        BinaryPrimitives.WriteUInt64LittleEndian(shared[Mailbox.Calls..], (ulong)calls.Count);
        return calls;
    }
}
