namespace PvDiffFuzz.Core;

/// <summary>Names the statement of a published document that the annotated rule implements.</summary>
/// <param name="document">Short document name with its revision where there are several, such as <c>SDM</c>, <c>APM</c> or <c>PVM rfc1</c>.</param>
/// <param name="section">Where in the document, such as <c>vol.2A ADC</c>.</param>
[AttributeUsage(AttributeTargets.Class | AttributeTargets.Struct | AttributeTargets.Method | AttributeTargets.Field, AllowMultiple = true)]
public sealed class SpecAttribute(string document, string section) : Attribute
{
    /// <summary>Short document name.</summary>
    public string Document { get; } = document;

    /// <summary>Section within the document.</summary>
    public string Section { get; } = section;
}
