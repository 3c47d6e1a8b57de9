namespace PvDiffFuzz.Harness.Tests;

public sealed class StoreTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("pvdf-store").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void SavingTwiceReplacesAndLeavesNoOtherFile()
    {
        int version = 0;
        FolderStore store = new(Path.Combine(_folder, "new"), _ => $"text {++version}");

        StoreResult first = store.Save(Finding());
        StoreResult second = store.Save(Finding());

        Assert.Equal((first.Path, null), (second.Path, second.Problem));
        Assert.Equal("text 2", File.ReadAllText(second.Path!));
        Assert.Single(Directory.GetFiles(Path.Combine(_folder, "new")));
    }

    [Fact]
    public void AFolderThatCannotBeMadeIsAProblemNotAnException()
    {
        string file = Path.Combine(_folder, "file");
        File.WriteAllText(file, "");

        StoreResult result = new FolderStore(Path.Combine(file, "below"), _ => "text").Save(Finding());

        Assert.Null(result.Path);
        Assert.Contains("not saved", result.Problem, StringComparison.Ordinal);
    }

    /// <summary>The name of the temporary file is taken by a folder, so writing fails as on a full disk: before anything was replaced.</summary>
    [Fact]
    public void AFailureLeavesWhatWasSavedBefore()
    {
        FolderStore store = new(_folder, _ => "old");
        string path = store.Save(Finding()).Path!;
        Directory.CreateDirectory(path + ".tmp");

        StoreResult result = new FolderStore(_folder, _ => "new").Save(Finding());

        Assert.NotNull(result.Problem);
        Assert.Equal("old", File.ReadAllText(path));
    }

    [Fact]
    public void NamesOfFindingsAreValidIdsAndDiffer()
    {
        string name = Finding().Name;

        Assert.Matches("^[a-z0-9][a-z0-9-]*-[0-9a-f]{8}$", name);
        Assert.NotEqual(name, (Finding().Signature with { Fields = "memory" }).FileName());
        Assert.NotEqual(name, (Finding().Signature with { Camps = "a/c" }).FileName());
    }

    private static Finding Finding()
    {
        using CaseRunner runner = Fakes.Runner(new FakeTarget("a", _ => Cases.Fault()), new FakeTarget("b", _ => Cases.Fault(rax: 1)));
        Divergence divergence = Fakes.Divergence(runner, Cases.Of("90"));
        return new Finding { Signature = divergence.Signature, Verdict = Verdict.New, Divergence = divergence, Seed = 1, Index = 2 };
    }
}
