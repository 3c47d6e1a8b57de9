using System.Collections.Immutable;
using Iced.Intel;
using Register = PvDiffFuzz.Core.Register;

namespace PvDiffFuzz.Isa;

/// <summary>What one row made of one instruction left undefined, as far as nothing has defined it since.</summary>
/// <param name="Row">Id of the row in <see cref="UndefinedTable"/>.</param>
/// <param name="Form">The instruction's form.</param>
/// <param name="Target">Flags and register destinations have a <paramref name="Register"/>; memory and everything have none.</param>
/// <param name="Register">The register, RFLAGS included; null for memory and for everything.</param>
/// <param name="Bits">Its undefined bits; 0 without a register.</param>
/// <param name="Bytes">For memory: how many adjacent bytes one execution may have left undefined.</param>
/// <param name="BelowStack">For memory: the bytes lie right below the stack pointer at a fault. Otherwise nobody traced where they lie.</param>
/// <param name="Times">For memory that nobody traced: executions.</param>
public sealed record UndefinedPart(
    string Row, Code Form, UndefinedTarget Target, Register? Register, ulong Bits, int Bytes = 0, bool BelowStack = false, int Times = 1);

/// <summary>Follows who left what undefined. Of several instructions that leave the same bit undefined the last one counts.</summary>
/// <param name="resumes">True when an instruction in the middle may have faulted: then none takes the place of an earlier one.</param>
internal sealed class UndefinedParts(bool resumes)
{
    private readonly List<UndefinedPart> _parts = [];

    /// <summary>A row left bits of a register undefined.</summary>
    public void Undefine(UndefinedRow row, Code form, Register register, ulong bits)
    {
        UndefinedPart part = new(row.Id, form, row.Target, register, bits);
        if (!resumes)
        {
            Define(register, bits);
            _parts.Add(part);
        }
        else if (!_parts.Contains(part))
        {
            _parts.Add(part);
        }
    }

    /// <summary>A row left bytes of memory undefined.</summary>
    public void UndefineMemory(UndefinedRow row, Code form, int bytes, bool belowStack)
    {
        int at = _parts.FindIndex(p => p.Form == form && p.Bytes == bytes && p.BelowStack == belowStack && p.Row == row.Id);
        if (at < 0)
        {
            _parts.Add(new UndefinedPart(row.Id, form, row.Target, null, 0, bytes, belowStack));
        }
        else
        {
            _parts[at] = _parts[at] with { Times = _parts[at].Times + 1 };
        }
    }

    /// <summary>Something got a value by the manuals.</summary>
    public void Define(Register register, ulong bits)
    {
        for (int i = _parts.Count - 1; i >= 0; i--)
        {
            UndefinedPart part = _parts[i];
            if (part.Register != register || (part.Bits & bits) == 0)
            {
                continue;
            }

            if ((part.Bits & ~bits) == 0)
            {
                _parts.RemoveAt(i);
            }
            else
            {
                _parts[i] = part with { Bits = part.Bits & ~bits };
            }
        }
    }

    /// <summary>RFLAGS was copied into a register.</summary>
    public void CopyFlagsTo(Register register)
    {
        if (!resumes)
        {
            Define(register, ulong.MaxValue);
        }

        _parts.AddRange([.. _parts.Where(p => p.Register == Register.Rflags).Select(p => p with { Register = register })]);
    }

    /// <summary>From here on nothing is defined, and only this row is to blame.</summary>
    public void UndefineEverything(UndefinedRow row, Code form)
    {
        _parts.Clear();
        _parts.Add(new UndefinedPart(row.Id, form, row.Target, null, 0));
    }

    /// <summary>An undefined bit was read: what differs from here on says nothing about any one row.</summary>
    public void Clear() => _parts.Clear();

    /// <summary>What is left.</summary>
    public ImmutableArray<UndefinedPart> ToImmutable() => [.. _parts];
}
