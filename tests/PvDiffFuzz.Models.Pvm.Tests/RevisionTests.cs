using PvDiffFuzz.Core;
using PvDiffFuzz.Models.Pvm.Instructions;

namespace PvDiffFuzz.Models.Pvm.Tests;

/// <summary>Guards the constants of each revision: the numbers stand here once more, as they are published.</summary>
public sealed class RevisionTests
{
    /// <summary>The first specification: eight MSRs from 4b564df0, pending flag bit 8.</summary>
    [Fact]
    public void ConstantsOfRfc1()
    {
        Assert.Equal(
            [
                (0x4b56_4df0, SystemRegister.PvmLinearAddressRange), (0x4b56_4df1, SystemRegister.PvmVcpuStruct), (0x4b56_4df2, SystemRegister.PvmSupervisorRsp),
                (0x4b56_4df3, SystemRegister.PvmSupervisorRedzone), (0x4b56_4df4, SystemRegister.PvmEventEntry), (0x4b56_4df5, SystemRegister.PvmRetuRip), (0x4b56_4df6, SystemRegister.PvmRetsRip),
                (0x4b56_4df7, SystemRegister.PvmSwitchCr3),
            ],
            Msrs<Rfc1>());
        Assert.Equal((Abi.PvmRfc1, 0x100UL, unchecked((ulong)-22)), (Rfc1.Revision, Rfc1.InterruptPending, Rfc1.WrmsrFailure));
    }

    /// <summary>612: four of them.</summary>
    [Fact]
    public void ConstantsOf612()
    {
        Assert.Equal(
            [
                (0x4b56_4df0, SystemRegister.PvmLinearAddressRange), (0x4b56_4df1, SystemRegister.PvmVcpuStruct), (0x4b56_4df4, SystemRegister.PvmEventEntry), (0x4b56_4df5, SystemRegister.PvmRetuRip),
            ],
            Msrs<Pvm612>());
        Assert.Equal((Abi.Pvm612, 0x100UL, unchecked((ulong)-5)), (Pvm612.Revision, Pvm612.InterruptPending, Pvm612.WrmsrFailure));
    }

    /// <summary>The numbered ABI: a block from 4b564d20, pending flag bit 32, and no behaviour.</summary>
    [Fact]
    public void ConstantsOfAbi1()
    {
        Assert.Equal([(0x4b56_4d20, SystemRegister.PvmVcpuStruct), (0x4b56_4d21, SystemRegister.PvmEventEntry), (0x4b56_4d22, SystemRegister.PvmRetuRip)], Msrs<Abi1>());
        Assert.Equal((Abi.PvmAbi1, 1UL << 32, false), (Abi1.Revision, Abi1.InterruptPending, Abi1.ClaimsBehaviour));
    }

    /// <summary>Requests from 17088200, in the order of the document.</summary>
    [Fact]
    public void NumbersOfHypercalls() => Assert.Equal(
        Enumerable.Range(0, 10).Select(i => 0x1708_8200 + (ulong)i),
        [
            Hypercalls.LoadPgtbl, Hypercalls.IrqWin, Hypercalls.IrqHlt, Hypercalls.TlbFlush, Hypercalls.TlbFlushCurrent, Hypercalls.TlbInvlpg, Hypercalls.LoadGs, Hypercalls.Rdmsr, Hypercalls.Wrmsr,
            Hypercalls.LoadTls,
        ]);

    [Fact]
    public void BytesOfTheSyntheticCpuid() => Assert.Equal("0F013C2550564DFF0FA2", Convert.ToHexString(SyntheticInstructions.CpuidBytes));

    /// <summary>A field is found at its offset in each layout: a structure whose byte n is n.</summary>
    [Fact]
    public void FieldsOfTheStructure()
    {
        byte[] bytes = [.. Enumerable.Range(0, PvcsLayout.Size).Select(i => (byte)i)];
        Pvcs<Rfc1> first = new(bytes);
        Pvcs<Pvm612> later = new(bytes);

        Payload.Same(
            [0x0706050403020100, 0x0b0a0908, 0x0f0e0d0c, 0x1716151413121110, 0x4140, 0x4342, 0x5756555453525150, 0x5b5a5958, 0x5f5e5d5c, 0x6766656463626160, 0x6f6e6d6c6b6a6968, 0x7776757473727170, 0x7f7e7d7c7b7a7978],
            [.. Fields(first)]);
        Payload.Same(
            [0x0706050403020100, 0x4544, 0x4746, 0x0f0e0d0c0b0a0908, 0x4140, 0x4342, 0x4f4e4d4c4b4a4948, 0x53525150, 0x57565554, 0x5f5e5d5c5b5a5958, 0, 0x6766656463626160, 0x6f6e6d6c6b6a6968],
            [.. Fields(later)]);
    }

    /// <summary>Flags that a guest runs with: 254fd7, of which IF and bit 1 are forced.</summary>
    [Fact]
    public void FlagsAreStandardized()
    {
        Assert.Equal(0x25_4fd7UL, UnderlyingStates.Standardize(ulong.MaxValue));
        Assert.Equal(0x202UL, UnderlyingStates.Standardize(0));
    }

    private static List<ulong> Fields<TAbi>(Pvcs<TAbi> pvcs)
        where TAbi : struct, IPvmAbi
    {
        List<ulong> values = [];
        for (SystemRegister field = SystemRegister.PvcsEventFlags; field <= SystemRegister.PvcsR11; field++)
        {
            values.Add(pvcs[field]);
        }

        return values;
    }

    private static (int, SystemRegister)[] Msrs<TAbi>()
        where TAbi : struct, IPvmAbi
    {
        List<(int, SystemRegister)> rows = [];
        foreach ((uint index, SystemRegister register) in TAbi.PvmMsrs)
        {
            rows.Add(((int)index, register));
        }

        return [.. rows];
    }
}
