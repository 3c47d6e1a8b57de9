using PvDiffFuzz.Core;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm;

/// <summary>Runs cases of one revision.</summary>
internal interface IPvmRun
{
    /// <summary>Runs a case.</summary>
    /// <param name="testCase">A well-formed case of the revision.</param>
    /// <param name="profile">The processor, which the engine has been given.</param>
    /// <param name="trace">Receives what is executed; null when nobody asks.</param>
    Outcome Run(TestCase testCase, CpuProfile profile, Tracer? trace);
}
