using System.Buffers.Binary;
using PvDiffFuzz.Core;

namespace PvDiffFuzz.Backends.Pvm.Tests;

/// <summary>Which cases may be batched, and what they look like in shared memory.</summary>
public sealed class BatchFormatTests
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
        Assert.InRange(length, Record.FirstRun, BatchEncoder.Bound(User));
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
        Assert.True(record.AsSpan().IndexOf(BatchAgent.Stub) > Record.FirstRun);
    }

    private const ulong Linear = GuestMap.BatchAddress + 0x8000;

    private static TestCase Warm(TestCase testCase) => testCase with { Pvm = testCase.Pvm! with { Path = HostPath.Warm } };

    private static BatchKey? KeyOf(TestCase testCase) => BatchRules.KeyOf(testCase, GuestPlan.Of(testCase, out _)!);

    private static byte[] Encode(TestCase testCase, out int length)
    {
        GuestPlan plan = GuestPlan.Of(testCase, out _)!;
        byte[] record = new byte[BatchEncoder.Bound(testCase)];
        length = BatchEncoder.Encode(testCase, CasePages.Create(plan.Supervisor, plan.UserPages), BatchAgent.Assemble(testCase.Abi), Linear, record);
        return record;
    }

    private static ulong Word(byte[] record, int at) => BinaryPrimitives.ReadUInt64LittleEndian(record.AsSpan(at));
}
