using System.Buffers.Binary;
using PvDiffFuzz.Backends.Interop;

namespace PvDiffFuzz.Backends.Native;

/// <summary>Addresses right after the SYSCALL instructions of the agent, where seccomp sees them.</summary>
/// <param name="Calls">The loop that makes listed calls: here only mapping and unmapping payload pages.</param>
/// <param name="Read">Reading a command.</param>
/// <param name="Write">Writing a reply.</param>
/// <param name="Return">Returning from a signal handler.</param>
/// <param name="Exit">Leaving.</param>
internal readonly record struct SyscallSites(ulong Calls, ulong Read, ulong Write, ulong Return, ulong Exit);

/// <summary>Builds the filter under which the child lives: each system call instruction of the agent may do its one job, everything else is SIGSYS.</summary>
/// <remarks>
/// The judgement is by instruction pointer, so a SYSCALL or INT 0x80 of the payload traps whatever its number, and a payload that jumps onto one of the
/// agent's instructions can still do no more than that instruction's job (seccomp(2)).
/// </remarks>
internal sealed class SeccompFilter
{
    private const ushort Load = 0x20;          // BPF_LD | BPF_W | BPF_ABS
    private const ushort JumpIfEqual = 0x15;   // BPF_JMP | BPF_JEQ | BPF_K
    private const ushort JumpIfAbove = 0x25;   // BPF_JMP | BPF_JGT | BPF_K
    private const ushort Return = 0x06;        // BPF_RET | BPF_K

    private const uint Number = 0;
    private const uint Architecture = 4;
    private const uint InstructionLow = 8;
    private const uint InstructionHigh = 12;

    private readonly List<ulong> _instructions = [];

    private SeccompFilter()
    {
    }

    /// <summary>Descriptors of the child.</summary>
    internal const int CommandFd = 0, ReplyFd = 1, LeashFd = 2, MemoryFd = 3;

    /// <summary>The flags with which the agent maps payload pages.</summary>
    internal const uint MapFlags = 0x8011; // MAP_SHARED | MAP_FIXED | MAP_POPULATE

    /// <summary>Builds the filter.</summary>
    /// <param name="sites">The agent's system call instructions; all in one 4 GiB range.</param>
    /// <param name="word">Address of the agent's command and reply word.</param>
    /// <returns>Its instructions as <c>struct sock_filter</c>.</returns>
    public static byte[] Build(SyscallSites sites, ulong word)
    {
        uint agentHigh = (uint)(sites.Calls >> 32);
        SeccompFilter filter = new();
        filter.Require(Architecture, LinuxAbi.AUDIT_ARCH_X86_64);
        filter.Require(InstructionHigh, agentHigh);

        filter.Allow(sites.Read, LinuxAbi.SYS_read, f => f.RequireArguments(CommandFd, word, sizeof(ulong)));
        filter.Allow(sites.Write, LinuxAbi.SYS_write, f => f.RequireArguments(ReplyFd, word, sizeof(ulong)));
        filter.Allow(sites.Return, LinuxAbi.SYS_rt_sigreturn, _ => { });
        filter.Allow(sites.Exit, LinuxAbi.SYS_exit_group, _ => { });
        filter.Allow(sites.Calls, LinuxAbi.SYS_munmap, f => f.Forbid(Argument(0) + 4, agentHigh));
        filter.Allow(sites.Calls, LinuxAbi.SYS_mmap, f =>
        {
            f.Forbid(Argument(0) + 4, agentHigh);
            f.RequireAtMost(Argument(2), 7);
            f.Require(Argument(3), MapFlags);
            f.Require(Argument(4), MemoryFd);
        });
        filter.Emit(Return, 0, 0, LinuxAbi.SECCOMP_RET_TRAP);

        byte[] bytes = new byte[filter._instructions.Count * 8];
        for (int i = 0; i < filter._instructions.Count; i++)
        {
            BinaryPrimitives.WriteUInt64LittleEndian(bytes.AsSpan(i * 8), filter._instructions[i]);
        }

        return bytes;
    }

    private static uint Argument(int index) => 16 + (8 * (uint)index);

    private void Allow(ulong site, uint number, Action<SeccompFilter> conditions)
    {
        SeccompFilter block = new();
        conditions(block);
        block.Emit(Return, 0, 0, LinuxAbi.SECCOMP_RET_ALLOW);
        Emit(Load, 0, 0, InstructionLow);
        Emit(JumpIfEqual, 0, (byte)(2 + block._instructions.Count), (uint)site);
        Emit(Load, 0, 0, Number);
        Emit(JumpIfEqual, 0, (byte)block._instructions.Count, number);
        _instructions.AddRange(block._instructions);
    }

    private void RequireArguments(uint descriptor, ulong address, uint length)
    {
        Require(Argument(0), descriptor);
        Require(Argument(1), (uint)address);
        Require(Argument(1) + 4, (uint)(address >> 32));
        Require(Argument(2), length);
        Require(Argument(2) + 4, 0);
    }

    private void Require(uint field, uint value)
    {
        Emit(Load, 0, 0, field);
        Emit(JumpIfEqual, 1, 0, value);
        Emit(Return, 0, 0, LinuxAbi.SECCOMP_RET_TRAP);
    }

    private void Forbid(uint field, uint value)
    {
        Emit(Load, 0, 0, field);
        Emit(JumpIfEqual, 0, 1, value);
        Emit(Return, 0, 0, LinuxAbi.SECCOMP_RET_TRAP);
    }

    private void RequireAtMost(uint field, uint value)
    {
        Emit(Load, 0, 0, field);
        Emit(JumpIfAbove, 0, 1, value);
        Emit(Return, 0, 0, LinuxAbi.SECCOMP_RET_TRAP);
    }

    private void Emit(ushort code, byte ifTrue, byte ifFalse, uint value) =>
        _instructions.Add(code | ((ulong)ifTrue << 16) | ((ulong)ifFalse << 24) | ((ulong)value << 32));
}
