using PvDiffFuzz.Benchmarks;

SortedDictionary<string, Action> benchmarks = new(StringComparer.Ordinal)
{
    ["debug"] = NativeBenchmark.Debug,
    ["generate"] = GeneratorBenchmark.Run,
    ["guide"] = GuideBenchmark.Run,
    ["kvm"] = KvmBenchmark.Run,
    ["loop"] = LoopBenchmark.Run,
    ["model"] = ModelBenchmark.Run,
    ["native"] = NativeBenchmark.Run,
    ["plants"] = PlantRace.Run,
    ["rules"] = RuleRace.Run,
    ["rules-pvm"] = RuleRace.RunPvm,
    ["rules-xen"] = RuleRace.RunXen,
    ["pvm"] = ModelBenchmark.RunPvm,
    ["pvm-live"] = PvmBenchmark.Run,
    ["xen"] = ModelBenchmark.RunXen,
    ["xen-live"] = XenBenchmark.Run,
};
string[] wanted = args is ["all"] ? [.. benchmarks.Keys] : args;
if (wanted.Length == 0 || Array.Find(wanted, name => !benchmarks.ContainsKey(name)) is not null)
{
    Console.Error.WriteLine($"say what to measure: all, or some of {string.Join(", ", benchmarks.Keys)}");
    return 64;
}

foreach (string name in wanted)
{
    benchmarks[name]();
}

return 0;
