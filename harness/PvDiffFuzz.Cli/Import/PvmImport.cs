using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Import;

/// <summary>Records of PVM hosts as case files.</summary>
internal static class PvmImport
{
    private const string Target = "pvm";
    private const string Lineage = "tcg";
    private const string Hypervisor = "impl";
    private const string Kernel = "6.12";

    /// <summary>Imports a file of records. The same records always give the same files.</summary>
    /// <param name="path">Path of the file.</param>
    /// <exception cref="CaseFileException">A record is bad; the message has file, line and what would be right.</exception>
    public static Imported Of(string path) => Imported.Of(PvmObservationReader.Read(path), PvmLeftOut.ReasonFor, record => record.CaseId, FileOf, HypervisorOf);

    /// <summary>Which hypervisor an imported case was observed on, such as <c>rfc-port</c>.</summary>
    public static string HypervisorOf(CaseFile file) => file.Outcomes[0].Fingerprint.Facts.First(fact => fact.Key == Hypervisor).Value;

    private static CaseFile FileOf(PvmObservation record)
    {
        TestCase testCase = PvmCaseMaker.Make(record);
        Outcome outcome = PvmOutcomeMaker.Make(record, testCase);
        CaseFile file = new()
        {
            Comment = Comment(record),
            Id = record.CaseId,
            Found = $"observed on a PVM host: {record.Implementation} {record.Cpu} {record.Id}{(record.Path == HostPath.Warm ? " after both roots were used" : "")}",
            Case = testCase,
            CodeComments = [.. Session.Disassemble(testCase).Select(instruction => instruction.Text)],
            Outcomes = [new RecordedOutcome(Target, TargetKind.Hypervisor, Lineage, HostOf(record), outcome)],
        };
        return file.Check() is CaseProblem problem ? throw record.Bad($"makes no case: {problem.Field}: {problem.Message}") : file;
    }

    private static string Comment(PvmObservation record)
    {
        string what = record.Mode switch
        {
            ObservedMode.User => "64-bit user code",
            ObservedMode.Compatibility => "32-bit user code",
            ObservedMode.ReturnToSupervisor => "EVENT_RETURN_SUPERVISOR",
            _ => "supervisor code",
        };
        string path = record.Mode == ObservedMode.Supervisor ? "" : record.Path == HostPath.Warm ? ", by the direct switch" : ", through the hypervisor";
        string first = $"What {record.Implementation} did under an emulated {(record.Cpu == "tcg-amd" ? "AMD" : "Intel")} processor: {what}{path}.";
        return record.Caution is string caution ? $"{first}\nCaution: {caution}." : first;
    }

    private static Fingerprint HostOf(PvmObservation record) =>
        new([KeyValuePair.Create(Hypervisor, record.Implementation), KeyValuePair.Create("cpu", record.Cpu), KeyValuePair.Create("kernel", Kernel)]);
}
