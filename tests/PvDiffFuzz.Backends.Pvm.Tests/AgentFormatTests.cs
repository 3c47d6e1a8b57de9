using System.Buffers.Binary;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>Which cases may be batched, and what they look like in shared memory.</summary>
public sealed class AgentFormatTests
{
    private static readonly TestCase User = Warm(Cases.Of(GuestMode.User, 0xcc));
    private static readonly TestCase Supervisor = Warm(Cases.Of(GuestMode.Supervisor, 0xb8, 0x42, 0, 0, 0));

    [Fact]
    public void CasesOfOneKindShareAKey()
    {
        Assert.NotNull(KeyOf(User));
        Assert.Equal(KeyOf(User), KeyOf(Supervisor));
        Assert.NotEqual(KeyOf(User), KeyOf(User with { System = User.System.With(SystemRegister.Star, 0x23_0018_0000_0000) }));
    }

    /// <summary>Cold roots, things from outside, calls of an answer, and returns of another kind.</summary>
    [Fact]
    public void WhatTheAgentCannotDoRunsAlone()
    {
        Response back = new([]) { Return = ReturnKind.Eretu };

        Assert.Null(KeyOf(User with { Pvm = User.Pvm! with { Path = HostPath.Cold } }));
        Assert.Null(KeyOf(User with { Inject = new Injection(InjectionKind.Interrupt, 0x40) }));
        Assert.Null(KeyOf(User with { System = User.System.With(SystemRegister.PvmVcpuStruct, 0) }));
        Assert.Null(KeyOf(User with { Responses = [back with { Hypercalls = [new Hypercall(0x1708_8203, [])] }] }));
        Assert.Null(KeyOf(User with { Responses = [back with { Return = ReturnKind.Erets }] }));
        Assert.NotNull(KeyOf(User with { Responses = [back] }));
    }

    /// <summary>Code that could change what later cases begin with, wherever a jump lands in it: here the second byte of an immediate is WRMSR.</summary>
    [Theory]
    [InlineData(new byte[] { 0x0f, 0x30 })]
    [InlineData(new byte[] { 0xb8, 0x00, 0x0f, 0x30, 0x00 })]
    [InlineData(new byte[] { 0x0f, 0x05 })]
    [InlineData(new byte[] { 0x0f, 0x22, 0xc0 })]
    [InlineData(new byte[] { 0xf4 })]
    [InlineData(new byte[] { 0xe6, 0x90 })]
    public void SupervisorCodeOfTheSystemRunsAlone(byte[] code)
    {
        Assert.Null(KeyOf(Warm(Cases.Of(GuestMode.Supervisor, code))));
        Assert.NotNull(KeyOf(Warm(Cases.Of(GuestMode.User, code))));
    }

    [Fact]
    public void AUserCaseIsEnteredByTheReturnToUserMode()
    {
        byte[] record = Encode(User with { System = User.System.With(SystemRegister.KernelGsBase, 0x1234) }, out int length);

        Assert.Equal(length, BinaryPrimitives.ReadInt32LittleEndian(record.AsSpan(Record.Length)));
        Assert.Equal(0, length % sizeof(ulong));
        Assert.InRange(length, Record.FirstRun, RecordEncoder.Bound(User));
        Assert.Equal(User.Code.End, Word(record, Record.End));
        Assert.Equal(0x1234UL, Word(record, Record.KernelGsBase));
        Assert.Equal(0x1234UL, Word(record, Record.Initial + Context.GsBase));
        Assert.Equal(PvmMap.RetuRip, Word(record, Record.Initial + Context.Target));
        Assert.Equal(User.System[SystemRegister.PvmSupervisorRsp], Word(record, Record.Initial + Context.GprAt(4)));
        Assert.Equal(User.Registers.Rip, EventReader.Field(Abi.PvmRfc1, SystemRegister.PvcsRip, record.AsSpan(Record.Structure, PvcsLayout.Size)));
    }

    [Fact]
    public void SupervisorCodeIsEnteredByAFrameInItsRecordAndHasAStubBehindIt()
    {
        byte[] record = Encode(Supervisor, out _);

        Assert.Equal(Record.NoEnd, Word(record, Record.End));
        Assert.Equal(Linear + Record.StartFrame, Word(record, Record.Initial + Context.GprAt(4)));
        Assert.Equal(Supervisor.Registers.Rip, Word(record, Record.StartFrame));
        Assert.Equal(Supervisor.Registers.Gpr[4], Word(record, Record.StartFrame + 24));
        Assert.True(record.AsSpan().IndexOf(GuestAgent.Stub) > Record.FirstRun);
    }

    /// <summary>A frame's slots, a hypercall's arguments, the structure's fields and registers in place: each patch names what it is in, where, and how wide.</summary>
    [Fact]
    public void ResponsesSayWhereEachPatchGoes()
    {
        TestCase testCase = Supervisor with
        {
            Responses =
            [
                new Response([new(Register.Rbx, 5), new(Register.Rip, 0x1234)]) { Return = ReturnKind.Erets, Hypercalls = [new Hypercall(0x1708_8207, [0x4b56_4df5])] },
                new Response([new(Register.Ds, 0x2b), new(Register.Rflags, 0x246)]) { Return = ReturnKind.Eretu, Inject = new Injection(InjectionKind.Nmi, 2) },
            ],
        };
        byte[] record = Encode(testCase, out int length);
        int first = BinaryPrimitives.ReadInt32LittleEndian(record.AsSpan(Record.ResponsesAt));
        int second = first + Answer.HeaderSize + Answer.CallSize + (2 * Record.PatchSize);

        Assert.Equal(length, second + Answer.HeaderSize + (2 * Record.PatchSize));
        Assert.Equal((2, (byte)ReturnKind.Erets, 1, 0, 1), Header(record, first));
        Assert.Equal((2, (byte)ReturnKind.Eretu, 0, 1, 1), Header(record, second));
        Assert.Equal(PvmMap.RetsRip, Word(record, first + Answer.Target));
        Assert.Equal(PvmMap.RetuRip, Word(record, second + Answer.Target));
        int call = first + Answer.HeaderSize;
        Assert.Equal((0x1708_8207UL, 1UL, 0x4b56_4df5UL), (Word(record, call), Word(record, call + 8), Word(record, call + 16)));
        Assert.Equal((Context.GprAt(3), Record.OfContext, 8, 5UL), Patch(record, call + Answer.CallSize));
        Assert.Equal((8, Record.OfFrame, 8, 0x1234UL), Patch(record, call + Answer.CallSize + Record.PatchSize));
        Assert.Equal((Context.Ds, Record.OfContext, 2, 0x2bUL), Patch(record, second + Answer.HeaderSize));
        Assert.Equal((88, Record.OfStructure, 4, 0x246UL), Patch(record, second + Answer.HeaderSize + Record.PatchSize));
    }

    /// <summary>Where neither code nor hypercalls could have changed the MSR that says where the return is, nobody asks.</summary>
    [Fact]
    public void ASteadyCaseIsNotAsked()
    {
        TestCase testCase = User with { Responses = [new Response([]) { Return = ReturnKind.Eretu }] };
        byte[] record = Encode(testCase, out _);

        Assert.Equal((0, (byte)ReturnKind.Eretu, 0, 0, 0), Header(record, BinaryPrimitives.ReadInt32LittleEndian(record.AsSpan(Record.ResponsesAt))));
    }

    private static (int Patches, byte Return, int Calls, int Injects, int Checked) Header(byte[] record, int at) =>
        (BinaryPrimitives.ReadInt32LittleEndian(record.AsSpan(at)), record[at + Answer.Return], record[at + Answer.Calls], record[at + Answer.Injects], record[at + Answer.Checked]);

    private static (int Place, int Where, int Width, ulong Value) Patch(byte[] record, int at) =>
        (BinaryPrimitives.ReadInt32LittleEndian(record.AsSpan(at)), BinaryPrimitives.ReadUInt16LittleEndian(record.AsSpan(at + 4)), BinaryPrimitives.ReadUInt16LittleEndian(record.AsSpan(at + 6)), Word(record, at + 8));

    private const ulong Linear = GuestMap.BatchAddress + 0x8000;

    private static TestCase Warm(TestCase testCase) => testCase with { Pvm = testCase.Pvm! with { Path = HostPath.Warm } };

    private static BatchKey? KeyOf(TestCase testCase) => BatchRules.KeyOf(testCase, GuestPlan.Of(testCase, out _)!);

    private static byte[] Encode(TestCase testCase, out int length)
    {
        GuestPlan plan = GuestPlan.Of(testCase, out _)!;
        byte[] record = new byte[RecordEncoder.Bound(testCase)];
        length = RecordEncoder.Encode(testCase, CasePages.Create(plan.Supervisor, plan.UserPages), GuestAgent.Assemble(testCase.Abi), Linear, record);
        return record;
    }

    private static ulong Word(byte[] record, int at) => BinaryPrimitives.ReadUInt64LittleEndian(record.AsSpan(at));
}
