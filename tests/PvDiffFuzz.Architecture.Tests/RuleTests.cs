using System.Reflection;
using System.Text.RegularExpressions;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Architecture.Tests;

/// <summary>No rule of a model without its source.</summary>
public sealed partial class RuleTests
{
    // Lower bounds only grow: raise them when a family is added, so that a search that stops finding is noticed.
    private const int FewestOperations = 13;
    private const int FewestHandlers = 30;
    private const int FewestCitations = 500;
    private const int FewestReadings = 20;

    /// <summary>What the page of the 612 revision is cited as.</summary>
    private const string Pvm612 = "PVM 612";

    /// <summary>What the page of Xen's source is cited as.</summary>
    private const string XenFacts = "Xen facts";

    private const BindingFlags AllMembers = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Static | BindingFlags.Instance | BindingFlags.DeclaredOnly;

    private static readonly Type[] Types =
    [
        .. Repository.Production.Where(p => p.Name.StartsWith("Models.", StringComparison.Ordinal)).SelectMany(p => ArrowTests.Load(p).GetTypes()),
    ];

    /// <summary>Every struct that says what an operation does: it implements an interface of a model named <c>I...Op</c>, such as <c>IBinaryOp</c>.</summary>
    [Fact]
    public void EveryOperationCitesItsSource()
    {
        Type[] operations = [.. Types.Where(type => type.IsValueType && OperationInterfaces(type).Any())];

        Repository.AssertNone(operations.Where(type => !Cites(type)).Select(type => $"{type.FullName} has no [Spec]"), operations.Length, FewestOperations);
    }

    /// <summary>Every method that the operation table can hold: it, its class, or the operation given as its type argument cites a source.</summary>
    [Fact]
    public void EveryHandlerOfAnInstructionCitesItsSource()
    {
        MethodInfo[] handlers =
        [
            .. Types.Where(type => type.Namespace?.EndsWith(".Instructions", StringComparison.Ordinal) == true)
                .SelectMany(type => type.GetMethods(AllMembers))
                .Where(IsHandler),
        ];

        Repository.AssertNone(
            handlers.Where(method => !Cites(method) && !Cites(method.DeclaringType!) && !TakesOperation(method)).Select(method => $"{method.DeclaringType!.FullName}.{method.Name} has no [Spec]"),
            handlers.Length,
            FewestHandlers);
    }

    /// <summary>Every static class that holds event rules: it lies in a namespace that ends with <c>.Events</c> or its name ends with <c>Delivery</c>, and cites for itself or in a member.</summary>
    [Fact]
    public void EveryEventRuleCitesItsSource()
    {
        Type[] rules =
        [
            .. Types.Where(type => type.IsAbstract && type.IsSealed && !type.IsNested
                && (type.Namespace!.EndsWith(".Events", StringComparison.Ordinal) || type.Name.EndsWith("Delivery", StringComparison.Ordinal))),
        ];

        Repository.AssertNone(
            rules.Where(type => !Cites(type) && !type.GetMembers(AllMembers).Any(Cites)).Select(type => $"{type.FullName} has no [Spec] on itself or a member"), rules.Length, 1);
    }

    [Fact]
    public void EveryCitationNamesDocumentAndSection()
    {
        SpecAttribute[] citations = Citations();

        Repository.AssertNone(
            citations.Where(c => string.IsNullOrWhiteSpace(c.Document) || string.IsNullOrWhiteSpace(c.Section)).Select(c => $"[Spec(\"{c.Document}\", \"{c.Section}\")]"),
            citations.Length,
            FewestCitations);
    }

    /// <summary>A rule that the manuals or the specification leave open says so: it cites a row of the page of readings, and each row there is what some rule does.</summary>
    /// <param name="page">The document of the choices that the other documents do not make; its page is of the same name.</param>
    [Theory]
    [InlineData("x86-readings")]
    [InlineData("pvm-readings")]
    [InlineData("xen-readings")]
    public void EveryReadingIsOneRowOfItsPageAndEveryRowIsCited(string page)
    {
        string[] rows =
        [
            .. File.ReadLines(Path.Combine(Repository.Root, "docs", page + ".md"))
                .Select(line => Row().Match(line))
                .Where(match => match.Success)
                .Select(match => match.Groups["id"].Value),
        ];
        string[] cited = [.. Citations().Where(c => c.Document == page).Select(c => c.Section).Distinct(StringComparer.Ordinal)];

        Repository.AssertNone(
            cited.Except(rows, StringComparer.Ordinal).Select(id => $"[Spec(\"{page}\", \"{id}\")] names no row of docs/{page}.md")
                .Concat(rows.Except(cited, StringComparer.Ordinal).Select(id => $"docs/{page}.md: no rule cites `{id}`"))
                .Concat(rows.GroupBy(id => id, StringComparer.Ordinal).Where(group => group.Count() > 1).Select(group => $"docs/{page}.md has `{group.Key}` twice")),
            cited.Length,
            FewestReadings);
    }

    /// <summary>The 612 revision has no document but a page here: rules cite its headings, and each heading has a rule.</summary>
    [Fact]
    public void EveryHeadingOfThe612PageIsCitedAndNothingElse()
    {
        string[] headings =
        [
            .. File.ReadLines(Path.Combine(Repository.Root, "docs", "pvm-612.md")).Where(line => line.StartsWith("## ", StringComparison.Ordinal)).Select(line => line[3..]).Order(StringComparer.Ordinal),
        ];

        Assert.Equal(headings, Citations().Where(c => c.Document == Pvm612).Select(c => c.Section).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal));
        Assert.NotEmpty(headings);
    }

    /// <summary>What only Xen's source describes has a page here: rules cite a heading of it, mostly with an item, and each heading has a rule.</summary>
    [Fact]
    public void EveryHeadingOfTheXenFactsIsCitedAndNothingElse()
    {
        string[] headings =
        [
            .. File.ReadLines(Path.Combine(Repository.Root, "docs", "xen-facts.md")).Where(line => line.StartsWith("## ", StringComparison.Ordinal)).Select(line => line[3..]).Order(StringComparer.Ordinal),
        ];

        Assert.Equal(headings, Citations().Where(c => c.Document == XenFacts).Select(c => c.Section.Split(':')[0]).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal));
        Assert.NotEmpty(headings);
    }

    [GeneratedRegex(@"^\| `(?<id>[a-z0-9-]+)` \|", RegexOptions.ExplicitCapture, 10_000)]
    private static partial Regex Row();

    private static SpecAttribute[] Citations() =>
        [.. Types.SelectMany(type => type.GetMembers(AllMembers).Prepend(type)).SelectMany(member => member.GetCustomAttributes<SpecAttribute>())];

    private static bool Cites(MemberInfo member) => member.IsDefined(typeof(SpecAttribute), inherit: false);

    private static IEnumerable<Type> OperationInterfaces(Type type) =>
        type.GetInterfaces().Where(IsOperation);

    private static bool IsOperation(Type type) =>
        type.Namespace?.StartsWith("PvDiffFuzz.Models.", StringComparison.Ordinal) == true && type.Name.Split('`')[0].EndsWith("Op", StringComparison.Ordinal);

    private static bool TakesOperation(MethodInfo method) =>
        method.IsGenericMethodDefinition && method.GetGenericArguments().Any(argument => argument.GetGenericParameterConstraints().Any(IsOperation));

    private static bool IsHandler(MethodInfo method) =>
        method.IsStatic && method.ReturnType == typeof(void)
        && method.GetParameters() is [{ ParameterType: { IsByRef: true } state }, { ParameterType: { IsByRef: true } operation, IsIn: true }]
        && state.Name == "CpuState&" && operation.Name == "MicroOp&";
}
