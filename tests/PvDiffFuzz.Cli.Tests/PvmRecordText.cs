using System.Text.Json.Nodes;

namespace PvDiffFuzz.Cli.Tests;

/// <summary>Records as a PVM host's monitor writes them: a supervisor NOP, and changes to it.</summary>
internal static class PvmRecordText
{
    private const string Rfc = """
        {"id":"s_nop","impl":"rfc-port","cpu":"tcg-amd","mode":"S","bytes_hex":"90",
         "initial":{"rip":"10000","rsp":"22f08","rflags":"2","code":"10000","pvcs_hex":"00000000000000003412ffffeeee0000c2c2c2c2000000000000000000000000000000000000000000000000000000000000000000000000000000000000000033002b00000000000000000000000000009000000000000002020000770000000000400000000000080f4100000000000ccc0000000000000c11000000000000"},
         "observed":{"exit":"IO","port":"20","rax":"a1","rbx":"b1","rcx":"c1","rdx":"d1","rsi":"51","rdi":"d0","rsp":"22f08","rbp":"bb","r8":"8","r9":"9","r10":"10","r11":"11","r12":"12",
          "rip":"10003","rflags":"2","cs":"10","cs_dpl":0,"cs_l":1,"ss":"18","ds":"0","fs":"0","gs":"0","gs_base":"dead000","cr0":"80050033","cr2":"0","cr3":"1000","cr4":"10620","efer":"d01",
          "dr6":"ffff0ff0","dr7":"400","nmi_masked":0,"exc_inj":0,"int_inj":0,
          "pvcs":{"flags":"0","vec":"eeee","err":"ffff1234","cr2":"c2c2c2c2","cs":"33","ss":"2b","gsbase":"9000","eflags":"202","pkru":"77","rip":"400000","rcx":"cc0c","r11":"110c","rsp":"410f08"},
          "kgs":"dead000","msr_srsp":"22f08","msr_swcr3":"1000","mem23fe0":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
          "stk":["aaaaaaaaaaaaaaaa","aaaaaaaaaaaaaaaa","aaaaaaaaaaaaaaaa","aaaaaaaaaaaaaaaa","aaaaaaaaaaaaaaaa","aaaaaaaaaaaaaaaa","aaaaaaaaaaaaaaaa","aaaaaaaaaaaaaaaa"],
          "mem11000":"11111111111111112222222222222222","mem401000":"0f050000000000000000"}}
        """;

    /// <summary>The structure of revision 612 with flags 0, cr2 c2c2c2c2, CS 33, SS 2b, error code 1234, vector 0, GS base 9000, flags 202, PKRU 77, RIP 400000, RCX cc0c, R11 110c.</summary>
    private const string Image612 =
        "0000000000000000c2c2c2c200000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        + "33002b00341200000090000000000000020200007700000000004000000000000ccc0000000000000c1100000000000000000000000000000000000000000000";

    /// <summary>One line: the NOP with fields set, such as <c>("observed.rip", "10100")</c>. A null value removes a field.</summary>
    public static string Line(params (string Path, JsonNode? Value)[] changes)
    {
        JsonObject record = JsonNode.Parse(Rfc)!.AsObject();
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

    /// <summary>A record of the later revision, whose structure has another layout and no RSP.</summary>
    public static string Line612(params (string Path, JsonNode? Value)[] changes) => Line(
    [
        ("impl", "pvm-612"), ("initial.pvcs_hex", Image612), ("observed.pvcs.rsp", null), ("observed.pvcs.err", "1234"), ("observed.pvcs.vec", "0"), ("observed.cr4", "110620"),
        ("observed.msr_srsp", null), ("observed.msr_swcr3", null), .. changes,
    ]);

    /// <summary>Words of the stack as a record lists them.</summary>
    public static JsonArray Words(params string[] words) => [.. words.Select(word => (JsonNode)word)];
}
