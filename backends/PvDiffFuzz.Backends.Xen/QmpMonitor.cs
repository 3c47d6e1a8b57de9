using System.Diagnostics;
using System.Text;
using System.Text.Json;
using Microsoft.Win32.SafeHandles;
using PvDiffFuzz.Backends.Interop;

namespace PvDiffFuzz.Backends.Xen;

/// <summary>QEMU's monitor, by its machine protocol (QEMU, docs/interop/qmp-spec): one command at a time, each with a time limit.</summary>
internal sealed class QmpMonitor : IDisposable
{
    private const byte NewLine = (byte)'\n';

    private readonly SafeFileHandle _socket;
    private readonly byte[] _buffer = new byte[0x1000];
    private readonly List<byte> _pending = [];
    private bool _closed;

    /// <summary>Talks over a connected socket, which becomes this object's.</summary>
    public QmpMonitor(SafeFileHandle socket) => _socket = socket;

    /// <summary>Waits for the greeting and leaves the negotiation.</summary>
    /// <param name="limit">Longest wait.</param>
    /// <exception cref="QemuException">QEMU is gone, silent, or refuses.</exception>
    public void Greet(TimeSpan limit)
    {
        Stopwatch watch = Stopwatch.StartNew();
        using (JsonDocument greeting = ReadMessage(watch, limit))
        {
            if (!greeting.RootElement.TryGetProperty("QMP", out _))
            {
                throw new QemuException("the monitor does not greet as QEMU does");
            }
        }

        Execute("{\"execute\":\"qmp_capabilities\"}", limit);
    }

    /// <summary>Executes a command of the monitor for people, which alone has snapshots that wait.</summary>
    /// <param name="line">Such as <c>savevm ready</c>.</param>
    /// <param name="limit">Longest wait.</param>
    /// <returns>What it prints; nothing when it worked.</returns>
    /// <exception cref="QemuException">QEMU is gone, silent, or refuses.</exception>
    public string Human(string line, TimeSpan limit) =>
        Execute($"{{\"execute\":\"human-monitor-command\",\"arguments\":{{\"command-line\":{JsonSerializer.Serialize(line)}}}}}", limit);

    /// <summary>Executes a command.</summary>
    /// <param name="command">JSON.</param>
    /// <param name="limit">Longest wait.</param>
    /// <returns>The text that it returned; empty when it returned none.</returns>
    /// <exception cref="QemuException">QEMU is gone, silent, or refuses.</exception>
    public string Execute(string command, TimeSpan limit)
    {
        Stopwatch watch = Stopwatch.StartNew();
        try
        {
            Fd.Write(_socket, Encoding.UTF8.GetBytes(command + '\n'));
            while (true)
            {
                using JsonDocument message = ReadMessage(watch, limit);
                JsonElement root = message.RootElement;
                if (root.TryGetProperty("return", out JsonElement result))
                {
                    return result.ValueKind == JsonValueKind.String ? result.GetString()!.Trim() : string.Empty;
                }

                if (root.TryGetProperty("error", out JsonElement error))
                {
                    throw new QemuException($"the monitor refuses: {error.GetProperty("desc").GetString()}");
                }

                // What is left are events; nobody waits for one.
            }
        }
        catch (PosixException e)
        {
            throw new QemuException($"the monitor is gone: {e.Message}");
        }
    }

    /// <summary>Waits until QEMU has something to tell, as it has when its machine stops, or for a millisecond.</summary>
    public void Pause()
    {
        if (_closed)
        {
            Thread.Yield();
        }
        else if (Fd.WaitReadable(_socket, milliseconds: 1))
        {
            int count = Fd.Read(_socket, _buffer);
            _closed = count == 0;
            _pending.AddRange(_buffer.AsSpan(0, count));
        }
    }

    /// <inheritdoc/>
    public void Dispose() => _socket.Dispose();

    private JsonDocument ReadMessage(Stopwatch watch, TimeSpan limit)
    {
        while (true)
        {
            int end = _pending.IndexOf(NewLine);
            if (end >= 0)
            {
                byte[] line = [.. _pending.GetRange(0, end)];
                _pending.RemoveRange(0, end + 1);
                try
                {
                    return JsonDocument.Parse(line);
                }
                catch (JsonException e)
                {
                    throw new QemuException($"the monitor does not speak JSON: {e.Message}");
                }
            }

            int left = (int)(limit - watch.Elapsed).TotalMilliseconds;
            if (left <= 0)
            {
                throw new QemuException($"the monitor does not answer within {limit.TotalSeconds:0.#} s");
            }

            if (Fd.WaitReadable(_socket, left))
            {
                int count = Fd.Read(_socket, _buffer);
                if (count == 0)
                {
                    throw new QemuException("the monitor is closed");
                }

                _pending.AddRange(_buffer.AsSpan(0, count));
            }
        }
    }
}
