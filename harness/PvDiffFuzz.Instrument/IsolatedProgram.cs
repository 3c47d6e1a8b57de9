using System.Reflection;

namespace PvDiffFuzz.Instrument;

/// <summary>A second copy of a whole program, in which everything that the build has instrumented has probes. For fuzzing more of it than a model.</summary>
public sealed class IsolatedProgram
{
    private readonly Assembly _program;
    private readonly ProbedContext _context;

    private IsolatedProgram(Assembly program, ProbedContext context) => (_program, _context) = (program, context);

    /// <summary>The map of <see cref="EdgeTrace"/>.</summary>
    public byte[] Edges => _context.Edges;

    /// <summary>Loads a program's assembly once more, with what it references of ours: instrumented where there is such a file, else plain.</summary>
    /// <param name="program">The assembly.</param>
    public static IsolatedProgram Load(Assembly program)
    {
        ArgumentNullException.ThrowIfNull(program);
        string ours = program.GetName().Name!.Split('.')[0] + ".";
        ProbedContext context = new(
            $"isolated {program.GetName().Name}",
            name => !name.StartsWith(ours, StringComparison.Ordinal) ? null
                : Array.Find([Path.Combine(AppContext.BaseDirectory, InstrumentedModel.Folder, name + ".dll"), Path.Combine(AppContext.BaseDirectory, name + ".dll")], File.Exists));
        return new IsolatedProgram(context.Add(program.Location), context);
    }

    /// <summary>Calls a static method of the copy that takes a text and gives something of the runtime's.</summary>
    /// <typeparam name="T">What it gives.</typeparam>
    /// <param name="type">The type in the program.</param>
    /// <param name="method">The method.</param>
    /// <param name="argument">The text.</param>
    public T Bind<T>(Type type, string method, string argument)
    {
        ArgumentNullException.ThrowIfNull(type);
        return (T)_program.GetType(type.FullName!, throwOnError: true)!.GetMethod(method)!.Invoke(null, [argument])!;
    }

    /// <summary>A run begins.</summary>
    public void Restart() => _context.Restart();
}
