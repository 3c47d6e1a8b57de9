using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Agents;

/// <summary>How a backend reads what its agent recorded of an event.</summary>
internal unsafe interface IEventReader
{
    // SAFETY: callers pass the address of a whole context, and readers look at nothing beyond it.

    /// <summary>Contexts of the agent.</summary>
    static abstract ContextLayout Layout { get; }

    /// <summary>The longest time that a case may take, in words: the detail of a case that the harness stopped.</summary>
    static abstract string TimeLimit { get; }

    /// <summary>Reads an event.</summary>
    /// <param name="context">A whole context.</param>
    /// <param name="registers">The registers that it holds.</param>
    /// <param name="trouble">The outcome of the case when this is no event; else null.</param>
    /// <returns>Null when this is no event.</returns>
    static abstract Event? Read(byte* context, RegisterState registers, out Outcome? trouble);

    /// <summary>Tells how the processor refused to enter user mode.</summary>
    /// <param name="context">The whole context of the exception, which the agent got.</param>
    static abstract string DescribeRefusal(byte* context);
}
