using System.Diagnostics;
using System.Globalization;
using PvDiffFuzz.FuzzTargets;
using PvDiffFuzz.Instrument;
using PvDiffFuzz.Tests;

// TARGET --count N [--seed HEX] [--corpus FOLDER] [--out FOLDER]: fuzzes in this process. Built with SharpFuzz, TARGET --afl and TARGET --libfuzzer serve these fuzzers.
string usage = $"usage: TARGET --count N [--seed HEX] [--corpus FOLDER] [--out FOLDER]\n       TARGET FILE...            runs the target on files\n       TARGET --afl | --libfuzzer  (built with -p:UseSharpFuzz=true)\ntargets: {string.Join(", ", FuzzTarget.All.Keys)}";
if (args.Length < 2 || !FuzzTarget.All.ContainsKey(args[0]))
{
    Console.Error.WriteLine(usage);
    return 64;
}

string name = args[0];
#if SHARPFUZZ
// Made in the first run: before that, SharpFuzz's probes have no map to write to.
Lazy<Action<byte[]>> served = new(() => FuzzTarget.Bind(name));
if (args[1] is "--afl")
{
    SharpFuzz.Fuzzer.OutOfProcess.Run(stream =>
    {
        using MemoryStream input = new();
        stream.CopyTo(input);
        served.Value(input.ToArray());
    });
    return 0;
}

if (args[1] is "--libfuzzer")
{
    SharpFuzz.Fuzzer.LibFuzzer.Run(input => served.Value(input.ToArray()));
    return 0;
}
#endif

Dictionary<string, string> options = new(StringComparer.Ordinal);
if (!args[1].StartsWith("--", StringComparison.Ordinal))
{
    Action<byte[]> target = FuzzTarget.Bind(name);
    foreach (string file in args.AsSpan(1))
    {
        target(File.ReadAllBytes(file));
    }

    Console.WriteLine($"{args.Length - 1} files, no promise broken");
    return 0;
}

for (int i = 1; i + 1 < args.Length; i += 2)
{
    options[args[i]] = args[i + 1];
}

if (args.Length % 2 == 0 || options.Keys.Except(["--count", "--seed", "--corpus", "--out"], StringComparer.Ordinal).Any() || !long.TryParse(options.GetValueOrDefault("--count"), NumberStyles.None, CultureInfo.InvariantCulture, out long count)
    || !ulong.TryParse(options.GetValueOrDefault("--seed", "1"), NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong seed))
{
    Console.Error.WriteLine(usage);
    return 64;
}

string corpus = options.GetValueOrDefault("--corpus") ?? Checkout.PathOf("corpus", "regressions");
IsolatedProgram program = IsolatedProgram.Load(typeof(FuzzTarget).Assembly);
FuzzLoop loop = new(program.Bind<Action<byte[]>>(typeof(FuzzTarget), nameof(FuzzTarget.Bind), name), program.Edges, program.Restart, seed);
long start = Stopwatch.GetTimestamp();
(byte[] Input, Exception Trouble)? broken = loop.Run(
    Directory.EnumerateFiles(corpus, "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal).Select(File.ReadAllBytes),
    count,
    done => Console.Error.WriteLine(loop.Describe(done, Stopwatch.GetElapsedTime(start))));
if (options.GetValueOrDefault("--out") is string folder)
{
    Directory.CreateDirectory(folder);
    for (int i = 0; i < loop.Corpus.Count; i++)
    {
        File.WriteAllBytes(Path.Combine(folder, string.Create(CultureInfo.InvariantCulture, $"{i:d6}")), loop.Corpus[i]);
    }
}

if (broken is (byte[] input, Exception trouble))
{
    string file = Path.Combine(options.GetValueOrDefault("--out", "."), $"crash-{name}");
    File.WriteAllBytes(file, input);
    Console.WriteLine($"{name}: {trouble.GetType().Name}: {trouble.Message}\ninput saved as {file}");
    return 1;
}

Console.WriteLine($"{name}: {loop.Describe(count, Stopwatch.GetElapsedTime(start))}; no promise broken");
return 0;
