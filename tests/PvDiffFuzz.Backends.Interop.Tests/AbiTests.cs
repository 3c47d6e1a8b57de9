using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using System.Text;

namespace PvDiffFuzz.Backends.Interop.Tests;

/// <summary>The C compiler checks every number against the host's own headers.</summary>
public sealed class AbiTests
{
    private static readonly Dictionary<string, string> Spelling = new(StringComparer.Ordinal)
    {
        ["UserDebugRegisters"] = "offsetof(struct user, u_debugreg)",
        ["WALL"] = "__WALL",
        ["SizeOfSignalSet"] = "sizeof(sigset_t)",
        ["SizeOfSignalEvent"] = "sizeof(struct sigevent)",
        ["SA_RESTORER"] = "0x04000000",
        ["HWCAP2_FSGSBASE"] = "(1 << 1)",
    };

    private static readonly string[] Headers =
    [
        "stddef", "errno", "fcntl", "poll", "signal", "spawn", "time", "sys/mman", "sys/prctl", "sys/ptrace", "sys/resource", "sys/socket", "sys/syscall", "sys/user", "sys/wait",
        "sys/auxv", "linux/audit", "linux/seccomp",
    ];

    /// <summary>Numbers of the kernel's newer headers, which an older C library may lack: checked only where they are defined.</summary>
    private static readonly string[] Newer = ["MFD_EXEC", "SYS_close_range", "PR_SET_SYSCALL_USER_DISPATCH", "PR_SYS_DISPATCH_ON"];

    /// <summary>Every constant is in the headers with our value.</summary>
    [LinuxFact("/usr/bin/gcc")]
    public void ConstantsMatchTheHeaders()
    {
        StringBuilder source = new();
        source.AppendLine("#define _GNU_SOURCE");
        foreach (string header in Headers)
        {
            source.AppendLine($"#include <{header}.h>");
        }

        int count = 0;
        foreach ((string name, object value) in Constants())
        {
            string c = Spelling.GetValueOrDefault(name, name);
            string check = $"_Static_assert({c} == {Convert.ToInt64(value, CultureInfo.InvariantCulture)}LL, \"{name}\");";
            source.AppendLine(Newer.Contains(name, StringComparer.Ordinal) ? $"#ifdef {name}\n{check}\n#endif" : check);
            count++;
        }

        source.AppendLine($"_Static_assert(sizeof(posix_spawn_file_actions_t) <= {LinuxAbi.SizeOfSpawnFileActions}, \"posix_spawn_file_actions_t\");");
        source.AppendLine("_Static_assert(sizeof(struct pollfd) == 8 && sizeof(size_t) == 8 && sizeof(off_t) == 8 && sizeof(pid_t) == 4, \"types\");");

        Assert.True(count > 40, $"only {count} constants were found");
        Assert.Equal(string.Empty, Compile(source.ToString()));
    }

    private static IEnumerable<(string Name, object Value)> Constants()
    {
        Type own = typeof(LinuxAbi);
        foreach (FieldInfo field in own.GetFields().Where(f => f.IsLiteral && f.Name != nameof(LinuxAbi.SizeOfSpawnFileActions)))
        {
            yield return (field.Name, field.GetRawConstantValue()!);
        }

        // The class that the package can replace holds its constants as properties; errno is no constant, MAP_FAILED a pointer.
        Type replaceable = typeof(Tmds.Linux.LibC);
        if (replaceable.Assembly == own.Assembly)
        {
            foreach (PropertyInfo property in replaceable.GetProperties().Where(p => p.Name != "errno" && !p.PropertyType.IsPointer))
            {
                yield return (property.Name, property.GetValue(null)!);
            }
        }
        else
        {
            foreach (string name in new[] { "SIGALRM", "SIGSYS", "MAP_SHARED", "F_ADD_SEALS" })
            {
                yield return (name, replaceable.GetProperty(name)!.GetValue(null)!);
            }
        }
    }

    private static string Compile(string source)
    {
        ProcessStartInfo start = new("/usr/bin/gcc", ["-x", "c", "-fsyntax-only", "-"])
        {
            RedirectStandardInput = true,
            RedirectStandardError = true,
            UseShellExecute = false,
        };
        using Process gcc = Process.Start(start)!;
        gcc.StandardInput.Write(source);
        gcc.StandardInput.Close();
        string errors = gcc.StandardError.ReadToEnd();
        gcc.WaitForExit();
        return gcc.ExitCode == 0 ? string.Empty : errors;
    }
}
