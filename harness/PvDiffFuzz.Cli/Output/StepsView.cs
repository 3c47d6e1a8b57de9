using System.Globalization;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Output;

/// <summary>The system side of a case: where it starts, what the ABI keeps, and what the supervisor does after each event.</summary>
internal static class StepsView
{
    /// <summary>Shapes it for programs.</summary>
    public static object Of(TestCase testCase) => new
    {
        abi = testCase.Abi.Text(),
        start = testCase.Start.Text(),
        path = testCase.Pvm?.Path.Text(),
        xen = testCase.Xen is XenState xen ? XenView.Of(xen) : null,
        system = Values(testCase.System),
        inject = testCase.Inject is Injection i ? Shape(i) : null,
        responses = testCase.Responses.Select(response => new
        {
            @return = response.Return.Text(),
            flags = response.Return == ReturnKind.XenIret ? Hex(response.Flags) : null,
            patches = response.Patches.ToDictionary(patch => OutcomeView.Name(patch.Key), patch => Hex(patch.Value), StringComparer.Ordinal),
            hypercalls = response.Hypercalls.Select(call => new { number = call.Number, arguments = call.Arguments }),
            inject = response.Inject is Injection pending ? Shape(pending) : null,
        }),
    };

    /// <summary>Registers of the system side by name, those that are not stated left out.</summary>
    public static Dictionary<string, string> Values(SystemState state) => state.Values.ToDictionary(v => v.Key.Text(), v => Hex(v.Value), StringComparer.Ordinal);

    /// <summary>Prints it for a person; nothing of it for a plain x86 case but its responses.</summary>
    public static void Print(TestCase testCase)
    {
        if (testCase.Abi != Abi.X86)
        {
            string how = testCase.Pvm is PvmState pvm ? $", roots {pvm.Path.Text()}, structure at {pvm.PvcsAddress:x}" : testCase.Xen is XenState xen ? XenView.Entry(xen) : "";
            Console.WriteLine($"start   {testCase.Start.Text()}{how}");
            Console.WriteLine($"sys     {string.Join(' ', Values(testCase.System).Select(v => $"{v.Key}={v.Value}"))}");
            foreach (string line in testCase.Xen is null ? [] : XenView.Lines(testCase.Xen))
            {
                Console.WriteLine(line);
            }
        }

        if (testCase.Inject is Injection inject)
        {
            Console.WriteLine($"pending {Text(inject)}");
        }

        for (int i = 0; i < testCase.Responses.Length; i++)
        {
            Console.WriteLine($"answer {i} {Text(testCase.Responses[i])}");
        }
    }

    private static string Text(Response response)
    {
        List<string> steps = [.. response.Hypercalls.Select(call => $"hypercall {call.Number:x} ({string.Join(' ', call.Arguments.Select(Hex))})")];
        if (!response.Patches.IsEmpty)
        {
            steps.Add(string.Join(' ', response.Patches.Select(patch => $"{OutcomeView.Name(patch.Key)}={patch.Value:x}")));
        }

        if (response.Inject is Injection inject)
        {
            steps.Add($"{Text(inject)} pending");
        }

        steps.Add(response.Flags == 0 ? response.Return.Text() : $"{response.Return.Text()} with flags {response.Flags:x}");
        return string.Join(", ", steps);
    }

    private static string Text(Injection injection) => injection.Kind == InjectionKind.Upcall ? injection.Kind.Text() : $"{injection.Kind.Text()} {injection.Vector:x2}";

    private static object Shape(Injection injection) => new { kind = injection.Kind.Text(), vector = injection.Vector };

    private static string Hex(ulong value) => value.ToString("x", CultureInfo.InvariantCulture);
}
