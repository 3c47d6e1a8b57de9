using System.Threading.Tasks.Sources;
using PvDiffFuzz.Backends.Kvm;

namespace PvDiffFuzz.Backends.Pvm.Emulated;

/// <content>Runs that are waited for together with those of other lanes.</content>
internal sealed partial class EmulatedKernel : IValueTaskSource<int>
{
    private ManualResetValueTaskSourceCore<int> _run;
    private int _runOperation;
    private bool _running;

    /// <inheritdoc/>
    public override bool IsRunning => _running;

    /// <inheritdoc/>
    public override bool IsBusy => _main.Current == PageAddress;

    /// <inheritdoc/>
    public override bool Advance()
    {
        if (!_running || !IsDone)
        {
            return false;
        }

        _running = false;
        try
        {
            CheckResults();
        }
        catch (KvmException e)
        {
            _run.SetException(e);
            return true;
        }

        _run.SetResult((int)ResultOf(_runOperation));
        return true;
    }

    /// <inheritdoc/>
    public override void Abandon(IOException reason)
    {
        if (_running)
        {
            _running = false;
            _run.SetException(reason);
        }
    }

    /// <inheritdoc/>
    public override void Rest(int waits) => _machine.Rest(waits);

    int IValueTaskSource<int>.GetResult(short token) => _run.GetResult(token);

    ValueTaskSourceStatus IValueTaskSource<int>.GetStatus(short token) => _run.GetStatus(token);

    void IValueTaskSource<int>.OnCompleted(Action<object?> continuation, object? state, short token, ValueTaskSourceOnCompletedFlags flags) =>
        _run.OnCompleted(continuation, state, token, flags);

    private ValueTask<int> Started(int operation)
    {
        _run.Reset();
        _runOperation = operation;
        _running = true;
        Ask();
        return new ValueTask<int>(this, _run.Version);
    }
}
