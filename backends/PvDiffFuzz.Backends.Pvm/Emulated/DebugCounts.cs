using PvDiffFuzz.Backends.Kvm;
using PvDiffFuzz.Backends.Interop;
namespace PvDiffFuzz.Backends.Pvm.Emulated;
internal static unsafe class DebugCounts
{
    private static readonly Dictionary<ulong, List<long>> _ops = [];
    private static readonly List<long> _guest = [];
    private static readonly List<long> _wait = [];
    private static long _last;
    private static readonly List<long> _between = [];
    public static void Program(byte* page, int count, long waited)
    {
        long prev = *(long*)(page + 0x38);
        long first = prev;
        for (int i = 0; i < count; i++)
        {
            byte* op = page + ServerPage.Operations + (i * 64);
            long number = *(long*)op;
            ulong key = number == LinuxAbi.SYS_ioctl ? *(ulong*)(op + 16) : (ulong)number;
            long now = *(long*)(op + 48);
            if (!_ops.TryGetValue(key, out List<long>? l)) { _ops[key] = l = []; }
            l.Add(now - prev);
            prev = now;
        }
        _guest.Add(prev - first);
        _wait.Add((long)(waited * 2.6));
        long t = System.Diagnostics.Stopwatch.GetTimestamp();
        _between.Add((long)((t - waited - _last) * 2.6));
        _last = t;
    }
    private static string Row(string name, List<long> l)
    {
        l.Sort();
        double us(double t) => t / 2596;
        return $"{name,-24} n {l.Count,8} median {us(l[l.Count / 2]),8:f1} us p25 {us(l[l.Count / 4]),8:f1} p75 {us(l[l.Count * 3 / 4]),8:f1} p90 {us(l[(int)(l.Count * 0.9)]),8:f1} mean {us(l.Average()),8:f1} mean<p90 {us(l.Take((int)(l.Count*0.9)+1).Average()),8:f1} sum {us(l.Sum())/1000,8:f1} ms";
    }
    public static void Print()
    {
        Console.Error.WriteLine(Row("guest", _guest));
        Console.Error.WriteLine(Row("wait", _wait));
        Console.Error.WriteLine(Row("between", _between));
        foreach ((ulong key, List<long> l) in _ops.OrderByDescending(o => o.Value.Sum())) { Console.Error.WriteLine(Row((long)key < 0 ? $"own {(long)key}" : $"{key:x}", l)); }
    }
}
