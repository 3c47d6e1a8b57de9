using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;

namespace PvDiffFuzz.Cli.Output;

/// <summary>The one JSON style of the product: camelCase, 64-bit numbers as hexadecimal strings, enums by name. Every key is there; what has no value is null.</summary>
internal static class Json
{
    private static readonly JsonSerializerOptions Options = new()
    {
        PropertyNamingPolicy = JsonNamingPolicy.CamelCase,
        WriteIndented = true,
        Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping,
        Converters = { new HexadecimalConverter(), new JsonStringEnumConverter(JsonNamingPolicy.CamelCase) },
    };

    /// <summary>Prints one object on stdout.</summary>
    public static void Print<T>(T value) => Console.WriteLine(JsonSerializer.Serialize(value, Options));

    /// <summary>Numbers of 64 bits do not survive JSON readers that use doubles.</summary>
    private sealed class HexadecimalConverter : JsonConverter<ulong>
    {
        public override ulong Read(ref Utf8JsonReader reader, Type typeToConvert, JsonSerializerOptions options) =>
            ulong.Parse(reader.GetString()!, System.Globalization.NumberStyles.AllowHexSpecifier);

        public override void Write(Utf8JsonWriter writer, ulong value, JsonSerializerOptions options) => writer.WriteStringValue(value.ToString("x"));
    }
}
