namespace PvDiffFuzz.Cli;

/// <summary>Turns the first Ctrl-C into a cancellation, so that work ends with everything saved; a second one is left to the system.</summary>
internal sealed class CtrlC : IDisposable
{
    private readonly CancellationTokenSource _cancel = new();

    /// <summary>Listens until it is disposed.</summary>
    public CtrlC() => Console.CancelKeyPress += Stop;

    /// <summary>Cancelled by Ctrl-C.</summary>
    public CancellationToken Token => _cancel.Token;

    /// <inheritdoc/>
    public void Dispose()
    {
        Console.CancelKeyPress -= Stop;
        _cancel.Dispose();
    }

    private void Stop(object? sender, ConsoleCancelEventArgs pressed)
    {
        pressed.Cancel = !_cancel.IsCancellationRequested;
        _cancel.Cancel();
    }
}
