using System.Collections.Immutable;
using Iced.Intel;
using PvDiffFuzz.Core;
using PvDiffFuzz.Harness;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.EndToEnd.Tests;

/// <summary>The model with one rule broken, or several: it runs a case rightly and then spoils what the broken rule made.</summary>
/// <param name="model">Owned from now on.</param>
/// <param name="host">The processor of cases that name none.</param>
/// <param name="plants">The broken rules; none for a model that is right.</param>
internal sealed class PlantedFault(X86Model model, CpuProfile host, params ImmutableArray<Plant> plants) : ITarget
{
    /// <summary>Its name.</summary>
    public const string Name = "model.planted";

    /// <inheritdoc/>
    public TargetInfo Info { get; } = model.Info with { Name = Name };

    /// <inheritdoc/>
    public Outcome Run(TestCase testCase)
    {
        Outcome outcome = model.Run(testCase);
        CpuVendor vendor = (testCase.Profile ?? host).Vendor;
        foreach (Plant plant in plants)
        {
            if (outcome.Comparable && Mentions(testCase, vendor, plant))
            {
                outcome = Spoil(testCase, outcome, plant, vendor);
            }
        }

        return outcome;
    }

    /// <inheritdoc/>
    public void Dispose() => model.Dispose();

    /// <summary>Cheap, so that a campaign does not trace every case.</summary>
    private static bool Mentions(TestCase testCase, CpuVendor vendor, Plant plant)
    {
        int at = 0;
        foreach (byte length in testCase.Code.Lengths)
        {
            Instruction instruction = CodeEdit.DecodeOne(testCase.Code.Bytes.AsSpan(at, length), testCase.Code.Address + (ulong)at, testCase.Mode, vendor);
            if (plant.Concerns(instruction))
            {
                return true;
            }

            at += length;
        }

        return false;
    }

    private Outcome Spoil(TestCase testCase, Outcome outcome, Plant plant, CpuVendor vendor)
    {
        ImmutableArray<Event>.Builder spoilt = ImmutableArray.CreateBuilder<Event>(outcome.Events.Length);
        for (int i = 0; i < outcome.Events.Length; i++)
        {
            spoilt.Add(plant.Spoil(History.Before(testCase, outcome.Events, i, model, vendor), outcome.Events[i], model));
        }

        return outcome with { Events = [.. spoilt], Registers = spoilt[^1].Registers };
    }
}
