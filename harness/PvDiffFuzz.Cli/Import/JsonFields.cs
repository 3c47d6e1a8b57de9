using System.Globalization;
using System.Text.Json;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Cli.Import;

/// <summary>The fields of one JSON object, each of which must be asked for: what nobody asks for is an error, so that nothing of a record is dropped unnoticed.</summary>
internal sealed class JsonFields
{
    private readonly string _file;
    private readonly int _line;
    private readonly string _path;
    private readonly Dictionary<string, JsonElement> _left = new(StringComparer.Ordinal);

    private JsonFields(string file, int line, string path, JsonElement value)
    {
        (_file, _line, _path) = (file, line, path);
        if (value.ValueKind != JsonValueKind.Object)
        {
            throw Bad(path, $"is {value.ValueKind}; an object is expected");
        }

        foreach (JsonProperty property in value.EnumerateObject())
        {
            if (!_left.TryAdd(property.Name, property.Value))
            {
                throw Bad(property.Name, "is given twice; give it once");
            }
        }
    }

    /// <summary>Parses one line.</summary>
    /// <param name="file">Name for messages.</param>
    /// <param name="line">Line from 1.</param>
    /// <param name="text">The line's text.</param>
    /// <exception cref="CaseFileException">It is no JSON object.</exception>
    public static JsonFields Parse(string file, int line, string text)
    {
        try
        {
            using JsonDocument document = JsonDocument.Parse(text);
            return new JsonFields(file, line, "", document.RootElement.Clone());
        }
        catch (JsonException trouble)
        {
            throw new CaseFileException(file, line, $"not JSON: {trouble.Message}; each line is one object", trouble);
        }
    }

    /// <summary>True when a field is there and was not asked for yet.</summary>
    public bool Has(string name) => _left.ContainsKey(name);

    /// <summary>Text.</summary>
    public string Text(string name)
    {
        JsonElement value = Take(name);
        return value.ValueKind == JsonValueKind.String ? value.GetString()! : throw Bad(name, $"is {value.ValueKind}; text is expected");
    }

    /// <summary>Text, or null when the field is missing.</summary>
    public string? OptionalText(string name) => Has(name) ? Text(name) : null;

    /// <summary>A hexadecimal number of at most 64 bits.</summary>
    public ulong Hex(string name) => ParseHex(name, Text(name));

    /// <summary>A hexadecimal number, or null when the field is missing.</summary>
    public ulong? OptionalHex(string name) => Has(name) ? Hex(name) : null;

    /// <summary>A small decimal number.</summary>
    public int Number(string name)
    {
        JsonElement value = Take(name);
        return value.ValueKind == JsonValueKind.Number && value.TryGetInt32(out int number) ? number : throw Bad(name, "is no number; a small decimal number is expected");
    }

    /// <summary>True or false.</summary>
    public bool Flag(string name)
    {
        JsonElement value = Take(name);
        return value.ValueKind is JsonValueKind.True or JsonValueKind.False ? value.GetBoolean() : throw Bad(name, $"is {value.ValueKind}; true or false is expected");
    }

    /// <summary>Bytes, two hexadecimal digits each.</summary>
    public byte[] Bytes(string name)
    {
        string text = Text(name);
        try
        {
            return Convert.FromHexString(text);
        }
        catch (FormatException)
        {
            throw Bad(name, $"'{text}' are no bytes; two hexadecimal digits a byte are expected");
        }
    }

    /// <summary>Hexadecimal numbers; none when the field is missing.</summary>
    public ulong[] HexList(string name)
    {
        if (!Has(name))
        {
            return [];
        }

        JsonElement value = Take(name);
        return value.ValueKind == JsonValueKind.Array && value.EnumerateArray().All(item => item.ValueKind == JsonValueKind.String)
            ? [.. value.EnumerateArray().Select(item => ParseHex(name, item.GetString()!))]
            : throw Bad(name, "is no list of texts; hexadecimal numbers are expected");
    }

    /// <summary>Objects; none when the field is missing.</summary>
    public JsonFields[] List(string name)
    {
        if (!Has(name))
        {
            return [];
        }

        JsonElement value = Take(name);
        return value.ValueKind == JsonValueKind.Array
            ? [.. value.EnumerateArray().Select((item, i) => new JsonFields(_file, _line, $"{_path}{name}[{i}].", item))]
            : throw Bad(name, $"is {value.ValueKind}; a list of objects is expected");
    }

    /// <summary>An object.</summary>
    public JsonFields Object(string name) => new(_file, _line, $"{_path}{name}.", Take(name));

    /// <summary>Skips fields that are documented as of no use, whether they are there or not.</summary>
    public void Skip(params ReadOnlySpan<string> names)
    {
        foreach (string name in names)
        {
            _left.Remove(name);
        }
    }

    /// <summary>Demands that every field was asked for.</summary>
    /// <exception cref="CaseFileException">One was not.</exception>
    public void End()
    {
        if (_left.Count > 0)
        {
            throw Bad(_left.Keys.Order(StringComparer.Ordinal).First(), "is not a field that the importer knows; teach it what the field means, or that it is of no use");
        }
    }

    /// <summary>A complaint about a field.</summary>
    public CaseFileException Bad(string name, string what) => new(_file, _line, $"{_path}{name} {what}");

    private JsonElement Take(string name) => _left.Remove(name, out JsonElement value) ? value : throw Bad(name, "is missing; every record has it");

    private ulong ParseHex(string name, string text) =>
        ulong.TryParse(text, NumberStyles.AllowHexSpecifier, CultureInfo.InvariantCulture, out ulong value)
            ? value
            : throw Bad(name, $"'{text}' is no number; up to sixteen hexadecimal digits are expected");
}
