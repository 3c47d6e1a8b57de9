using System.Collections.Immutable;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Models.Xen.Tests;

/// <summary>What Xen gives a guest before its first instruction: hypercall pages, registers, descriptors.</summary>
public sealed class StaticTests
{
    [Theory]
    [InlineData(HypercallPageKind.Pv64, 3, "51 41 53 B8 03 00 00 00 0F 05 41 5B 59 C3 CC")]
    [InlineData(HypercallPageKind.Pv64, 23, "51 41 53 50 B8 17 00 00 00 0F 05 CC")]
    [InlineData(HypercallPageKind.Pv32, 127, "B8 7F 00 00 00 CD 82 C3 CC")]
    [InlineData(HypercallPageKind.Pv32, 23, "50 B8 17 00 00 00 CD 82 CC")]
    [InlineData(HypercallPageKind.HvmIntel, 0, "B8 00 00 00 00 0F 01 C1 C3 CC")]
    [InlineData(HypercallPageKind.HvmAmd, 1, "B8 01 00 00 00 0F 01 D9 C3 CC")]
    [InlineData(HypercallPageKind.HvmIntel, 23, "0F 0B CC")]
    [InlineData(HypercallPageKind.HvmAmd, 23, "0F 0B CC")]
    public void HypercallPages(HypercallPageKind kind, int index, string bytes)
    {
        ImmutableArray<byte> page = HypercallPage.Create(kind);
        byte[] stub = Convert.FromHexString(bytes.Replace(" ", "", StringComparison.Ordinal));

        Assert.Equal(4096, page.Length);
        Assert.Equal(stub, page.AsSpan(index * 32, stub.Length).ToArray());
        Assert.All(page.AsSpan(index * 32, 32)[stub.Length..].ToArray(), b => Assert.Equal(0xcc, b));
    }

    /// <summary>The stubs work: a call through the page of a 64-bit guest keeps RCX and R11.</summary>
    [Fact]
    public void AStubKeepsRcxAndR11()
    {
        const ulong page = AddressMap.LowBlock + XenMap.Code;
        ImmutableArray<byte> stub = HypercallPage.Create(HypercallPageKind.Pv64).Slice(3 * 32, 32);
        RegisterState end = Payload.Kernel("FF D3", (Register.Rbx, page), (Register.Rcx, 0x11), (Register.R11, 0xbb), (Register.Rsi, 0x1234)).With(page, stub.AsSpan()).RunToEnd().Registers!;

        Assert.Equal((0UL, 0x11UL, 0xbbUL, Payload.Stack), (end.Gpr[0], end.Gpr[1], end.Gpr[11], end.Gpr[4]));
    }

    [Fact]
    public void A64BitGuestStarts()
    {
        InitialState start = InitialState.Of64(0xffff_ffff_8100_0000, 0xffff_ffff_8120_1000, 0xffff_ffff_8120_0000);
        RegisterState r = start.Registers;

        Assert.Equal((0xe033, 0xe02b, 0, 0, 0, 0), (r.Cs, r.Ss, r.Ds, r.Es, r.Fs, r.Gs));
        Assert.Equal((0xffff_ffff_8100_0000, 0xffff_ffff_8120_1000, 0xffff_ffff_8120_0000, 0x202UL), (r.Rip, r.Gpr[4], r.Gpr[6], r.Rflags));
        Assert.Equal(0UL, Enumerable.Range(0, 16).Where(i => i is not (4 or 6)).Aggregate(0UL, (sum, i) => sum | r.Gpr[i]));
        Assert.Equal((1UL, r.Gpr[4], 0xe02bUL, 0UL), (start.System[SystemRegister.XenUpcallMask], start.System[SystemRegister.XenKernelSp], start.System[SystemRegister.XenKernelSs], start.System[SystemRegister.XenIopl]));
        Assert.Equal((0xffff_0ff0UL, 0x400UL), (start.System[SystemRegister.Dr6], start.System[SystemRegister.Dr7]));
    }

    [Fact]
    public void A32BitGuestStarts()
    {
        RegisterState r = InitialState.Of32(0xc010_0000, 0xc020_1000, 0xc020_0000).Registers;

        Assert.Equal((0xe019, 0xe021, 0xe021, 0xe021, 0xe021, 0xe021), (r.Cs, r.Ss, r.Ds, r.Es, r.Fs, r.Gs));
        Assert.Equal((0xc010_0000UL, 0xc020_1000UL, 0xc020_0000UL), (r.Rip, r.Gpr[4], r.Gpr[6]));
    }

    /// <summary>LAR shows Xen's descriptors: flat, accessed, of ring 3 for a 64-bit guest.</summary>
    [Theory]
    [InlineData(0xe033, 0xaf_fb00)]
    [InlineData(0xe023, 0xcf_fb00)]
    [InlineData(0xe02b, 0xcf_f300)]
    public void DescriptorsOf64BitGuests(ulong selector, ulong rights) =>
        Assert.Equal(rights, Payload.User("0F 02 C1", (Register.Rcx, selector)).RunToEnd().Registers!.Gpr[0]);

    [Theory]
    [InlineData(0xe019, 0xcf_bb00)]
    [InlineData(0xe021, 0xcf_b300)]
    [InlineData(0xe02b, 0xcf_fb00)]
    [InlineData(0xe033, 0xcf_f300)]
    public void DescriptorsOf32BitGuests(ulong selector, ulong rights) =>
        Assert.Equal(rights, Payload.Make(Abi.XenPv32, GuestMode.Supervisor, "0F 02 C1", (Register.Rcx, selector)).RunToEnd().Registers!.Gpr[0]);

    /// <summary>The audit: what is not present passes, DPL is raised, call gates lose theirs to the selector, other system descriptors and 64-bit code of a 32-bit guest are refused.</summary>
    [Theory]
    [InlineData(0x1234, 3, true, 0x1234)]
    [InlineData(0x00cf_9300_0000_ffff, 3, true, 0x00cf_f300_0000_ffff)]
    [InlineData(0x00cf_9300_0000_ffff, 1, true, 0x00cf_b300_0000_ffff)]
    [InlineData(0x00cf_f300_0000_ffff, 1, true, 0x00cf_f300_0000_ffff)]
    [InlineData(0x0000_ec00_e030_1234, 3, true, 0x0000_8c00_e033_1234)]
    [InlineData(0x0000_ac00_e018_1234, 1, true, 0x0000_8c00_e019_1234)]
    [InlineData(0x0000_8b00_0000_0067, 3, false, 0)]
    [InlineData(0x0000_8e00_0008_1234, 3, false, 0)]
    [InlineData(0x00af_fb00_0000_ffff, 3, true, 0x00af_fb00_0000_ffff)]
    [InlineData(0x00af_fb00_0000_ffff, 1, false, 0)]
    public void DescriptorsAreAudited(ulong wanted, int ring, bool accepted, ulong stored)
    {
        Assert.Equal(accepted, GuestDescriptors.TryAudit(wanted, ring, out ulong result));
        Assert.True(!accepted || result == stored, $"{result:x}");
    }

    /// <summary>A call gate of a 64-bit guest faults: nothing emulates it.</summary>
    [Fact]
    public void CallGatesOf64BitGuestsFault()
    {
        TestCase start = Payload.User("FF 18", (Register.Rax, AddressMap.LowBlock + AddressMap.Data)).With(AddressMap.LowBlock + AddressMap.Data, 0, 0, 0, 0, 0x13, 0);
        start = start with { Xen = start.Xen! with { Gdt = [new(0x10, 0x0000_ec00_e030_1234)] } };

        Assert.Equal((13, (uint?)0x10), (start.RunToEvent().Vector, start.RunToEvent().ErrorCode));
    }

    /// <summary>A case with a descriptor that Xen refuses cannot be.</summary>
    [Fact]
    public void RefusedDescriptorsMakeNoCase()
    {
        TestCase start = Payload.User("CC");

        Assert.Equal(EndKind.Unsupported, (start with { Xen = start.Xen! with { Gdt = [new(0x10, 0x0000_8b00_0000_0067)] } }).RunAny().End);
    }

    /// <summary>Every rule names one of the documents of docs/xen-readings.md, or the manual of the processor.</summary>
    [Fact]
    public void RulesCiteKnownDocuments()
    {
        Assert.Equal(
            ["SDM", "Xen FRED", "Xen PV segments", "Xen PV traps", "Xen facts", "Xen hypercall ABI", "xen-readings"],
            XenRules.All.Select(rule => rule.Document).Distinct(StringComparer.Ordinal).Order(StringComparer.Ordinal));
        Assert.InRange(XenRules.All.Length, 130, 400);
    }
}
