using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Harness;

/// <summary>What makes two divergences the same finding.</summary>
/// <param name="Abi">The ABI of the case.</param>
/// <param name="Form">Form of the instruction at which the divergence shows.</param>
/// <param name="Event">The diverging event as the camps saw it: <c>end</c>, or vectors such as <c>#13</c> or <c>#6/#13</c>, <c>syscall</c>, <c>hypercall</c>, <c>halt</c>, <c>crash</c>.</param>
/// <param name="Fields">Classes of the differing fields, sorted, separated by commas.</param>
/// <param name="Camps">Names of the targets by camp, sorted: <c>model.x86/native</c>, members joined by <c>+</c>.</param>
public sealed record Signature(Abi Abi, string Form, string Event, string Fields, string Camps)
{
    /// <summary>One line: <c>x86 Adc_rm64_r64 end event.rflags.CF model.x86/native</c>.</summary>
    public override string ToString() => $"{Abi.Text()} {Form} {Event} {Fields} {Camps}";

    /// <summary>The signature of a divergence.</summary>
    /// <param name="abi">ABI of the case.</param>
    /// <param name="form">Form of the instruction.</param>
    /// <param name="outcomes">One outcome a target.</param>
    /// <param name="comparison">A divergence.</param>
    /// <param name="targets">The targets.</param>
    public static Signature Of(Abi abi, string form, ImmutableArray<Outcome> outcomes, Comparison comparison, ImmutableArray<TargetInfo> targets) => new(
        abi,
        form,
        EventsOf(outcomes, comparison),
        string.Join(',', comparison.Differences.Select(d => d.Field.Class).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal)),
        string.Join('/', comparison.Camps.Select(c => CampName(c, targets)).Order(StringComparer.Ordinal)));

    /// <summary>A short name for files: letters of the form and a hash of the whole signature, such as <c>adc-rm64-r64-1f83a09c</c>. An ABI other than x86 stands first.</summary>
    public string FileName()
    {
        uint hash = 2166136261;
        foreach (char c in ToString())
        {
            hash = unchecked((hash ^ c) * 16777619);
        }

        string letters = new([.. Form.ToLowerInvariant().Select(c => char.IsAsciiLetterOrDigit(c) ? c : '-')]);
        string abi = Abi == Abi.X86 ? "" : Abi.Text() + "-";
        return $"{abi}{letters[..Math.Min(letters.Length, 60)].Trim('-')}-{hash:x8}";
    }

    private static string CampName(Camp camp, ImmutableArray<TargetInfo> targets) =>
        string.Join('+', camp.Members.Select(m => targets[m].Name).Order(StringComparer.Ordinal));

    private static string EventsOf(ImmutableArray<Outcome> outcomes, Comparison comparison)
    {
        int index = comparison.FirstEvent;
        return string.Join('/', comparison.Camps.Select(c => EventOf(outcomes[c.Members[0]], index)).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal));
    }

    private static string EventOf(Outcome outcome, int index)
    {
        if (outcome.Events.IsEmpty || index < 0 || index >= outcome.Events.Length - 1)
        {
            switch (outcome.End)
            {
                case EndKind.ReachedEnd:
                    return "end";
                case EndKind.Halt:
                    return "halt";
                case EndKind.Crash:
                    return "crash";
                case EndKind.HypervisorCrash:
                    return "hypervisor-crash";
                default:
                    index = outcome.Events.Length - 1;
                    break;
            }
        }

        return index < 0 ? "none" : outcome.Events[index] switch
        {
            { Kind: EventKind.SystemCall } => "syscall",
            { Kind: EventKind.Hypercall } => "hypercall",
            Event e => $"#{e.Vector}",
        };
    }
}
