using System.Collections.Immutable;
using System.Text;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Export;

/// <summary>What the reproducers in C and in assembly have in common: a Linux program that has the case's address space for itself.</summary>
internal static class Reproducer
{
    /// <summary>Where the program's own image lies: where no case has pages.</summary>
    public const ulong Image = AddressMap.AgentFirst;

    private const ulong LowestPage = 0x1_0000;
    private const ulong UserEnd = 0x7fff_ffff_f000;

    /// <summary>Why a case is no program of user code, with a cure.</summary>
    public static string? Refuses(TestCase testCase)
    {
        RegisterState r = testCase.Registers;
        if (testCase.Abi != Abi.X86)
        {
            return $"the case is of {testCase.Abi.Text()}; formats c and asm are for x86 cases, xtf for Xen's and kvm-unit-test for PVM's";
        }

        if (r.Pkru is not null || r.Debug is not null)
        {
            return "the case states protection keys or debug registers, which a process cannot give itself; use `pvdf run CASE --targets native,kvm`";
        }

        foreach (PageRange page in testCase.Layout.Ranges)
        {
            bool free = page.Address >= LowestPage && page.Last < UserEnd && (page.Last < Image || page.Address > AddressMap.AgentLast);
            if (!free || (page.Access & PageAccess.Supervisor) != 0)
            {
                return $"page {page.Address:x} is none that a Linux process can have beside the program itself; use `pvdf run CASE --targets kvm`";
            }
        }

        return null;
    }

    /// <summary>Initial contents with the code among them, in address order.</summary>
    public static ImmutableArray<MemoryContents> ContentsOf(TestCase testCase) =>
        [.. testCase.Contents.Append(new MemoryContents(testCase.Code.Address, testCase.Code.Bytes)).OrderBy(c => c.Address)];

    /// <summary>Protection bits of mmap.</summary>
    public static int ProtectionOf(PageAccess access) =>
        ((access & PageAccess.Read) != 0 ? 1 : 0) | ((access & PageAccess.Write) != 0 ? 2 : 0) | ((access & PageAccess.Execute) != 0 ? 4 : 0);

    /// <summary>The lines that say what the file is, without comment marks.</summary>
    /// <param name="file">The case.</param>
    /// <param name="build">The command that builds it.</param>
    public static IEnumerable<string> Head(CaseFile file, string build)
    {
        yield return $"{file.Id}: written by pvdf export.";
        yield return string.Empty;
        foreach (string line in file.Comment.Split('\n'))
        {
            yield return line;
        }

        yield return string.Empty;
        foreach (string spec in file.Spec)
        {
            yield return $"Touches {spec}.";
        }

        if (file.Case.Profile is CpuProfile cpu)
        {
            yield return $"The case is about a processor of {cpu.Vendor}, family {cpu.Family}.";
        }

        yield return $"Build: {build}";
        yield return "It prints each event with its registers, then memory that changed. What a specification leaves undefined is printed, too.";
        yield return "It needs Linux 5.11 and a processor with FSGSBASE.";
    }

    /// <summary>The outcomes of a file that a reproducer could print.</summary>
    public static IEnumerable<RecordedOutcome> Answers(CaseFile file) => file.Outcomes.Where(o => o.Outcome.End is EndKind.ReachedEnd or EndKind.Event);

    /// <summary>Bytes in lines of sixteen, as <c>0x90, 0xcc</c>.</summary>
    public static IEnumerable<string> ByteLines(ImmutableArray<byte> bytes) => bytes.Chunk(16).Select(line => string.Join(", ", line.Select(b => $"0x{b:x2}")));

    /// <summary>Appends lines, each after a mark; an empty one is the mark alone.</summary>
    public static void Append(StringBuilder text, string mark, IEnumerable<string> lines)
    {
        foreach (string line in lines)
        {
            text.Append($"{mark} {line}".TrimEnd()).Append('\n');
        }
    }
}
