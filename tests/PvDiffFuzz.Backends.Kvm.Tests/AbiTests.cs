using System.Diagnostics;
using System.Globalization;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Text;

namespace PvDiffFuzz.Backends.Kvm.Tests;

/// <summary>The C compiler checks every number and layout against the host's own <c>linux/kvm.h</c>.</summary>
public sealed class AbiTests
{
    private static readonly Dictionary<string, string> Spelling = new(StringComparer.Ordinal)
    {
        ["SizeOfXsave"] = "offsetof(struct kvm_xsave, extra)",
        ["SizeOfXcrs"] = "sizeof(struct kvm_xcrs)",
        ["SizeOfEnableCap"] = "sizeof(struct kvm_enable_cap)",
        ["OffsetOfEnableArguments"] = "offsetof(struct kvm_enable_cap, args)",
        ["SizeOfEvents"] = "sizeof(struct kvm_vcpu_events)",
        ["OffsetOfTripleFault"] = "offsetof(struct kvm_vcpu_events, triple_fault.pending)",
        ["OffsetOfEventFlags"] = "offsetof(struct kvm_vcpu_events, flags)",
        ["OffsetOfNmiMasked"] = "offsetof(struct kvm_vcpu_events, nmi.masked)",
    };

    private static readonly (Type Type, string Name, string LastField, string CField)[] Structures =
    [
        (typeof(KvmRegs), "kvm_regs", nameof(KvmRegs.Rflags), "rflags"),
        (typeof(KvmSegment), "kvm_segment", nameof(KvmSegment.Unusable), "unusable"),
        (typeof(KvmDtable), "kvm_dtable", nameof(KvmDtable.Limit), "limit"),
        (typeof(KvmSregs), "kvm_sregs", nameof(KvmSregs.ApicBase), "apic_base"),
        (typeof(KvmUserspaceMemoryRegion), "kvm_userspace_memory_region", nameof(KvmUserspaceMemoryRegion.UserspaceAddr), "userspace_addr"),
        (typeof(KvmMsrEntry), "kvm_msr_entry", nameof(KvmMsrEntry.Data), "data"),
        (typeof(KvmGuestDebug), "kvm_guest_debug", nameof(KvmGuestDebug.Pad), "pad"),
        (typeof(KvmDebugregs), "kvm_debugregs", nameof(KvmDebugregs.Flags), "flags"),
    ];

    private static readonly (int Offset, string Field)[] RunFields =
    [
        (KvmRunLayout.RequestInterruptWindow, "request_interrupt_window"), (KvmRunLayout.ImmediateExit, "immediate_exit"), (KvmRunLayout.ExitReason, "exit_reason"), (KvmRunLayout.Cr8, "cr8"), (KvmRunLayout.IoPort, "io.port"), (KvmRunLayout.MmioAddress, "mmio.phys_addr"),
        (KvmRunLayout.InternalSuberror, "internal.suberror"), (KvmRunLayout.FailEntryReason, "fail_entry.hardware_entry_failure_reason"),
        (KvmRunLayout.ValidRegs, "kvm_valid_regs"), (KvmRunLayout.SyncRegs, "s.regs.regs"), (KvmRunLayout.SyncSregs, "s.regs.sregs"), (KvmRunLayout.SyncEvents, "s.regs.events"),
    ];

    [CompilerFact]
    public void NumbersAndLayoutsMatchTheHeader()
    {
        StringBuilder source = new("#include <stddef.h>\n#include <sys/ioctl.h>\n#include <linux/kvm.h>\n");
        int count = 0;
        foreach (FieldInfo field in typeof(KvmAbi).GetFields().Where(f => f.IsLiteral))
        {
            string value = Convert.ToUInt64(field.GetRawConstantValue(), CultureInfo.InvariantCulture).ToString(CultureInfo.InvariantCulture);
            source.AppendLine($"_Static_assert({Spelling.GetValueOrDefault(field.Name, field.Name)} == {value}ULL, \"{field.Name}\");");
            count++;
        }

        foreach ((Type type, string name, string last, string field) in Structures)
        {
            source.AppendLine($"_Static_assert(sizeof(struct {name}) == {Marshal.SizeOf(type)}, \"{name}\");");
            source.AppendLine($"_Static_assert(offsetof(struct {name}, {field}) == {Marshal.OffsetOf(type, last)}, \"{name}.{field}\");");
        }

        foreach ((int offset, string field) in RunFields)
        {
            source.AppendLine($"_Static_assert(offsetof(struct kvm_run, {field}) == {offset}, \"{field}\");");
        }

        Assert.True(count > 30, $"only {count} constants were found");
        Assert.Equal(string.Empty, Compile(source.ToString()));
    }

    private static string Compile(string source)
    {
        ProcessStartInfo start = new(CompilerFactAttribute.Compiler, ["-x", "c", "-fsyntax-only", "-"]) { RedirectStandardInput = true, RedirectStandardError = true, UseShellExecute = false };
        using Process gcc = Process.Start(start)!;
        gcc.StandardInput.Write(source);
        gcc.StandardInput.Close();
        string errors = gcc.StandardError.ReadToEnd();
        gcc.WaitForExit();
        return gcc.ExitCode == 0 ? string.Empty : errors;
    }
}

/// <summary>A fact that needs the C compiler and the header: skipped, with the reason, where one is missing.</summary>
[AttributeUsage(AttributeTargets.Method)]
internal sealed class CompilerFactAttribute : FactAttribute
{
    public const string Compiler = "/usr/bin/gcc";
    private const string Header = "/usr/include/linux/kvm.h";

    public CompilerFactAttribute() => Skip = !File.Exists(Compiler) ? $"{Compiler} is missing; install gcc" : !File.Exists(Header) ? $"{Header} is missing; install the kernel's headers" : null;
}
