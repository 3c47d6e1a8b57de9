using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Import;

/// <summary>Records of PV guests of Xen as case files.</summary>
internal static class XenImport
{
    private const string Lineage = "tcg";
    private const string Host = "impl";

    /// <summary>Imports a file of records. The same records always give the same files.</summary>
    /// <param name="path">Path of the file.</param>
    /// <exception cref="CaseFileException">A record is bad; the message has file, line and what would be right.</exception>
    public static Imported Of(string path) => Imported.Of(XenObservationReader.Read(path), XenLeftOut.ReasonFor, record => record.CaseId, FileOf, HostOf);

    /// <summary>Which host an imported case was observed on, such as <c>4.17-amd</c>.</summary>
    public static string HostOf(CaseFile file) => file.Outcomes[0].Fingerprint.Facts.First(fact => fact.Key == Host).Value;

    private static CaseFile FileOf(XenObservation record)
    {
        TestCase testCase = XenCaseMaker.Make(record);
        Outcome outcome = XenOutcomeMaker.Make(record, testCase);
        Fingerprint fingerprint = new([KeyValuePair.Create(Host, record.HostName), KeyValuePair.Create("version", record.Version.ToString()), KeyValuePair.Create("cpu", record.Cpu), KeyValuePair.Create("qemu", record.Emulator)]);
        CaseFile file = new()
        {
            Comment = Comment(record),
            Id = record.CaseId,
            Found = $"observed on Xen {record.Version} {record.Cpu}: {record.Name}",
            Case = testCase,
            CodeComments = [.. Session.Disassemble(testCase).Select(instruction => instruction.Text)],
            Outcomes = [new RecordedOutcome($"xen:{record.Version.Major}.{record.Version.Minor}", TargetKind.Hypervisor, Lineage, fingerprint, outcome)],
        };
        return file.Check() is CaseProblem problem ? throw record.Bad($"makes no case: {problem.Field}: {problem.Message}") : file;
    }

    private static string Comment(XenObservation record)
    {
        string what = record.Mode switch
        {
            XenObservedMode.User => record.Context.Cs == XenMap.FlatCode32 ? "32-bit user code" : "user code",
            XenObservedMode.KernelViaIret => "the guest kernel, entered by HYPERVISOR_iret",
            _ => "the guest kernel",
        };
        return $"What Xen {record.Version} did under an emulated {(record.Cpu == XenHostState.AmdCpu ? "AMD" : "Intel")} processor: {what}.";
    }
}
