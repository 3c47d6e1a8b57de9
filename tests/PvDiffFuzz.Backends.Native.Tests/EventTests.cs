using PvDiffFuzz.Core;
using static PvDiffFuzz.Backends.Native.Tests.Payload;

namespace PvDiffFuzz.Backends.Native.Tests;

/// <summary>One hand-checkable fact for each class of event.</summary>
public sealed class EventTests : IDisposable
{
    private readonly NativeTarget _target = new();

    public void Dispose() => _target.Dispose();

    /// <summary>MOV RAX,RBX; the fetch after the code faults with CR2 = RIP = end and error code user, fetch.</summary>
    [NativeFact]
    public void RunningOffTheEndIsTheLastEvent()
    {
        Outcome outcome = _target.Run(Case("48 89 d8", (Register.Rbx, 0x1234_5678_9abc_def0)));

        Assert.Equal("", Describe(outcome));
    }
}
