using System.Text.Json.Nodes;

namespace PvDiffFuzz.Cli.Tests;

/// <summary>Records as the kernel of a Xen guest writes them: INT3 of the guest kernel, and changes to it.</summary>
internal static class XenRecordText
{
    private const string Int3 = """
        {"name":"int3","mode":"kernel","xen":"4.17.7","qemu":"10.0.2 tcg","cpu":"qemu64","code":"90","terminator":"cc",
         "handlers":"default: all 256 vectors registered (cs e033, flags 3 for vectors 3 and 4, else 0), callbacks event, failsafe, syscall, sysenter, syscall32, nmi registered with flags 0; kernel_ss e02b",
         "initial":{"registers":{"rax":"a","rcx":"c","rdx":"d","rbx":"b","rsp":"ffffffff801bdfc0","rbp":"bb","rsi":"51","rdi":"d1","r8":"8","r9":"9","r10":"10","r11":"11","r12":"12","r13":"13","r14":"14","r15":"15"},
          "rip":"ffffffff801c0000","rflags":"202","cs":"e030","ss":"e02b","iret_flags":"0","code_at":"ffffffff801c0000","kernel_sp":"ffffffff801bbfc0","upcall_pending":0,"upcall_mask":1,
          "trap_overrides":[],"hypercalls_before":[],"memory":[]},
         "observed":{"end":"event","entry":"vector","vector":3,
          "stack_words_from_rsp":["c","11","ffffffff801c0002","10000e030","2","ffffffff801bdfc0","e02b","5a5a"],
          "registers":{"rax":"a","rcx":"ffffffff80102030","rdx":"d","rbx":"b","rsp":"ffffffff801bdf88","rbp":"bb","rsi":"51","rdi":"d1","r8":"8","r9":"9","r10":"10","r11":"202","r12":"12","r13":"13","r14":"14","r15":"15"},
          "rflags":"202","cs_ss":"e02be033","data_selectors":"0","vcpu_cr2":"0","vcpu_info_first8":"100","hypercall_results":[]}}
        """;

    /// <summary>One line: the record with fields set, such as <c>("observed.vector", 13)</c>. A null value removes a field.</summary>
    public static string Line(params (string Path, JsonNode? Value)[] changes)
    {
        JsonObject record = JsonNode.Parse(Int3)!.AsObject();
        foreach ((string path, JsonNode? value) in changes)
        {
            string[] names = path.Split('.');
            JsonObject at = names[..^1].Aggregate(record, (o, name) => o[name]!.AsObject());
            if (value is null)
            {
                at.Remove(names[^1]);
            }
            else
            {
                at[names[^1]] = value;
            }
        }

        return record.ToJsonString();
    }

    /// <summary>Words as a record lists them.</summary>
    public static JsonArray Words(params string[] words) => [.. words.Select(word => JsonValue.Create(word))];
}
