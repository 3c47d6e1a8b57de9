using System.Collections.Immutable;

namespace PvDiffFuzz.Harness.Generate;

/// <summary>Choice by weights through a table: one draw, no search.</summary>
internal static class WeightTable
{
    private const int Size = 1024;
    private const int Bits = 10;

    /// <summary>Members as often as their weights say.</summary>
    /// <typeparam name="T">What is chosen.</typeparam>
    /// <param name="weights">Weights, 0 or more.</param>
    /// <param name="otherwise">What is chosen where none has a weight.</param>
    public static T[] Of<T>(IEnumerable<KeyValuePair<T, int>> weights, T otherwise)
    {
        KeyValuePair<T, int>[] positive = [.. weights.Where(w => w.Value > 0)];
        T[] table = new T[Size];
        Array.Fill(table, otherwise);
        long total = positive.Sum(w => (long)w.Value);
        long sum = 0;
        int filled = 0;
        foreach ((T member, int weight) in positive)
        {
            sum += weight;
            int until = (int)(sum * Size / total);
            table.AsSpan(filled, until - filled).Fill(member);
            filled = until;
        }

        return table;
    }

    /// <summary>Chooses a member.</summary>
    public static T Pick<T>(T[] table, ref CounterRandom random) => table[(int)(random.Next() >> (64 - Bits))];

    /// <summary>A dictionary of weights.</summary>
    public static ImmutableSortedDictionary<T, int> Weighted<T>(params ReadOnlySpan<(T Member, int Weight)> weights)
        where T : struct, Enum
    {
        ImmutableSortedDictionary<T, int>.Builder builder = ImmutableSortedDictionary.CreateBuilder<T, int>();
        foreach ((T member, int weight) in weights)
        {
            builder.Add(member, weight);
        }

        return builder.ToImmutable();
    }

    /// <summary>Checks weights that somebody gave.</summary>
    /// <param name="name">Name of the option.</param>
    /// <param name="weights">The weights.</param>
    /// <returns>Null when they are valid, else a message that names the option and the valid values.</returns>
    public static string? Check<T>(string name, ImmutableSortedDictionary<T, int> weights)
        where T : struct, Enum
    {
        foreach ((T action, int weight) in weights)
        {
            if (!Enum.IsDefined(action))
            {
                return $"{name}: action {action}: one of {string.Join(", ", Enum.GetNames<T>())}";
            }

            if (weight is < 0 or > 10_000)
            {
                return $"{name}: weight {weight} of {action}: a number from 0 to 10000";
            }
        }

        return weights.Values.Any(w => w > 0) ? null : $"{name}: every action has weight 0; give one of {string.Join(", ", Enum.GetNames<T>())} a weight from 1 to 10000";
    }
}
