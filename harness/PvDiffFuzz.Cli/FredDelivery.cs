using PvDiffFuzz.Core;
using PvDiffFuzz.Models.Xen;

namespace PvDiffFuzz.Cli;

/// <summary>The model of Xen answering cases of <see cref="Abi.XenPv64"/> as Xen does under FRED delivery, so that the two deliveries can be compared case by case.</summary>
/// <param name="model">The model, which this owns.</param>
internal sealed class FredDelivery(XenModel model) : ITarget
{
    /// <inheritdoc/>
    public TargetInfo Info { get; } = model.Info with { Name = "model.xen-fred", Abis = [Abi.XenPv64] };

    /// <inheritdoc/>
    public Outcome Run(TestCase testCase)
    {
        ArgumentNullException.ThrowIfNull(testCase);
        return testCase.Abi == Abi.XenPv64
            ? model.Run(testCase with { Abi = Abi.XenPv64Fred })
            : Outcome.Unsupported($"{Info.Name} answers cases of {Abi.XenPv64.Text()} as under FRED, not of {testCase.Abi.Text()}");
    }

    /// <inheritdoc/>
    public void Dispose() => model.Dispose();
}
