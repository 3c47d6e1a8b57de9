using System.Collections.Immutable;
using PvDiffFuzz.Core;
using PvDiffFuzz.Models.Pvm.Events;
using PvDiffFuzz.Models.X86;

namespace PvDiffFuzz.Models.Pvm;

/// <content>Where targets have their agent: entries, the stub after supervisor code, and the answers that it gives.</content>
internal sealed partial class PvmRun<TAbi>
{
    /// <summary>A SYSCALL.</summary>
    private const ushort SyscallBytes = 0x050f;

    /// <summary>Entries are state of the case. Their pages belong to the agent unless the case has pages there.</summary>
    private void SetDoors(TestCase testCase)
    {
        _supervisorDoors = 0;
        if (testCase.Start == GuestMode.Supervisor)
        {
            _doors[_supervisorDoors++] = new Door(testCase.Code.End, StubLength);
        }

        if (testCase.System.TryGet(SystemRegister.PvmEventEntry, out ulong entry))
        {
            AddEntry(testCase, entry);
            AddEntry(testCase, entry + 256);
            AddEntry(testCase, entry + 512);
        }

        if (testCase.System.TryGet(SystemRegister.Lstar, out ulong lstar))
        {
            AddEntry(testCase, lstar);
        }

        // User code can reach the stub where its page is executable for it as well.
        PageLayout user = TAbi.SwitchesRoots ? testCase.UserPages : testCase.Layout;
        _userDoors = testCase.Start == GuestMode.Supervisor && (user.AccessAt(testCase.Code.End) & PageAccess.Execute) != 0 ? 1 : 0;
        if (_userDoors != 0)
        {
            _doors[_supervisorDoors] = _doors[0];
        }
    }

    private void AddEntry(TestCase testCase, ulong entry)
    {
        bool mapped = testCase.Layout.AccessAt(entry) != PageAccess.None;
        _doors[_supervisorDoors++] = mapped ? new Door(entry, 1) : new Door(entry & ~0xfffUL, PageLayout.PageSize);
    }

    /// <summary>RIP is where no payload is.</summary>
    private void AtDoor(ref CpuState cpu)
    {
        if (cpu.Rip - vcpu.Case.Code.Address < (ulong)vcpu.Case.Code.Bytes.Length)
        {
            vcpu.End(Verdict.Unsupported, "an instruction of the payload reaches into the jump stub of targets");
        }
        else if (vcpu.UserMode || vcpu.Root != 0 || cpu.Rip - vcpu.Case.Code.End - 1 < StubLength - 1)
        {
            vcpu.End(Verdict.Unsupported, "the payload runs into the jump stub or an entry of targets where these are not reached as they should be");
        }
        else if (vcpu.Case.Start == GuestMode.Supervisor && cpu.Rip == vcpu.Case.Code.End)
        {
            if (UnderlyingStates.HasSupervisorSegments(ref cpu, vcpu))
            {
                _final = UnderlyingStates.Capture<TAbi>(ref cpu, vcpu);
                vcpu.End(Verdict.ReachedEnd);
            }
        }
        else
        {
            vcpu.End(Verdict.Unsupported, "the payload jumps to an entry by itself");
        }
    }

    /// <summary>After a delivery: an event where it came to an entry of the case, else the payload goes on there.</summary>
    private void Land(ref CpuState cpu)
    {
        EntryPoint? entry = vcpu.Entry;
        vcpu.Entry = null;
        if (vcpu.Verdict != Verdict.Running || entry is not EntryPoint door || !IsStated(cpu.Rip, door))
        {
            return;
        }

        if (vcpu.Root != 0)
        {
            vcpu.End(Verdict.Unsupported, "an event comes in under a root that does not have the agent of a target");
            return;
        }

        Event what = new(_what.Kind, _what.Vector, _what.Error, _what.Cr2, door, UnderlyingStates.Capture<TAbi>(ref cpu, vcpu)) { Frame = FrameAt(ref cpu, door) };
        _events.Add(what);
        bool atEnd = vcpu.Case.Start == GuestMode.User && what.Cr2 == vcpu.Case.Code.End && vcpu.InterruptedRip == vcpu.Case.Code.End
            && door == EntryPoint.PvmUser && (what.ErrorCode & PageFault.Fetch) != 0;
        if (atEnd)
        {
            vcpu.End(Verdict.ReachedEnd);
        }
        else if (_answered == vcpu.Case.Responses.Length)
        {
            vcpu.End(Verdict.Event);
        }
        else
        {
            Answer(ref cpu, what, vcpu.Case.Responses[_answered++]);
        }
    }

    private bool IsStated(ulong rip, EntryPoint door)
    {
        (SystemRegister register, ulong offset) = door switch
        {
            EntryPoint.Lstar => (SystemRegister.Lstar, 0UL),
            EntryPoint.PvmUser => (SystemRegister.PvmEventEntry, 0UL),
            EntryPoint.PvmSupervisor when TAbi.SwitchesRoots => (SystemRegister.PvmEventEntry, 256UL),
            _ => (SystemRegister.PvmEventEntry, 512UL),
        };
        return vcpu.Case.System.TryGet(register, out ulong stated) && stated + offset == rip;
    }

    /// <summary>The interrupted context: on the stack for low vectors of supervisor mode where there is such a frame, else in the structure.</summary>
    private ImmutableArray<byte> FrameAt(ref CpuState cpu, EntryPoint door)
    {
        if (door != EntryPoint.PvmSupervisor || !TAbi.SwitchesRoots)
        {
            return vcpu.Pvcs<TAbi>().ToFrame();
        }

        byte[] frame = new byte[ReturnSupervisor.FrameWords * sizeof(ulong)];
        ulong at = cpu.Read<ulong>(X86.Gpr.Rsp);
        for (int i = 0; i < ReturnSupervisor.FrameWords; i++)
        {
            BitConverter.TryWriteBytes(frame.AsSpan(i * sizeof(ulong)), vcpu.Memory.Read<ulong>(at + ((ulong)i * sizeof(ulong))));
        }

        return ImmutableArray.Create(frame);
    }

    /// <summary>What the supervisor does after an event: hypercalls, patches, the return, with something from outside pending perhaps.</summary>
    private void Answer(ref CpuState cpu, Event what, Response response)
    {
        CallHypervisor(ref cpu, what, response);
        if (vcpu.Verdict != Verdict.Running)
        {
            return;
        }

        switch (response.Return)
        {
            case ReturnKind.Eretu:
                PatchStructure(ref cpu, response);
                if (vcpu.Verdict == Verdict.Running && HasReturn(SystemRegister.PvmRetuRip))
                {
                    Return(ref cpu, user: true);
                }

                break;
            case ReturnKind.Erets:
                AnswerErets(ref cpu, what, response);
                break;
            default:
                AnswerIretq(ref cpu, response);
                break;
        }

        if (response.Inject is Injection injection)
        {
            Injections.Add(vcpu, injection);
        }
    }

    /// <summary>Each call is an event of its own, with the registers after it. The agent puts back what calls clobber; what they do to GS and the MSRs stays.</summary>
    private void CallHypervisor(ref CpuState cpu, Event what, Response response)
    {
        if (response.Hypercalls.IsEmpty)
        {
            return;
        }

        RegisterFile saved = cpu.Gpr;
        foreach (Hypercall call in response.Hypercalls)
        {
            cpu.Gpr = saved;
            cpu.Write(X86.Gpr.Rax, call.Number);
            ReadOnlySpan<byte> places = [X86.Gpr.Rbx, 10 * 8, X86.Gpr.Rdx];
            for (int i = 0; i < call.Arguments.Length; i++)
            {
                cpu.Write(places[i], call.Arguments[i]);
            }

            cpu.Write(X86.Gpr.R11, UnderlyingStates.EntryRflags);
            Hypercalls.Execute<TAbi>(ref cpu, vcpu);
            if (vcpu.Verdict is Verdict.Running or Verdict.Halt)
            {
                RegisterState registers = UnderlyingStates.Capture<TAbi>(ref cpu, vcpu);
                _events.Add(new Event(EventKind.Hypercall, 0, null, null, EntryPoint.HypercallReturn, registers));
                _final = vcpu.Verdict == Verdict.Halt ? registers : null;
            }

            if (vcpu.Verdict != Verdict.Running)
            {
                return;
            }

            if (vcpu.Root != 0 || (vcpu.LooksOutside && Injections.CanTake<TAbi>(vcpu)))
            {
                vcpu.End(Verdict.Unsupported, "a hypercall of a response lets something in, or takes the agent's root away, while the agent of a target runs");
                return;
            }
        }

        cpu.Gpr = saved;
    }

    /// <summary>What EVENT_RETURN_USER loads is patched in the structure, everything else in place.</summary>
    private void PatchStructure(ref CpuState cpu, Response response)
    {
        Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
        foreach ((Register register, ulong value) in response.Patches)
        {
            switch (register)
            {
                case Register.Rip:
                    pvcs[SystemRegister.PvcsRip] = value;
                    break;
                case Register.Rflags:
                    pvcs[SystemRegister.PvcsEflags] = value;
                    break;
                case Register.Rsp when TAbi.SwitchesRoots:
                    pvcs[SystemRegister.PvcsRsp] = value;
                    break;
                case Register.Rcx:
                    pvcs[SystemRegister.PvcsRcx] = value;
                    break;
                case Register.R11:
                    pvcs[SystemRegister.PvcsR11] = value;
                    break;
                case Register.Cs:
                    pvcs[SystemRegister.PvcsUserCs] = value;
                    break;
                case Register.Ss:
                    pvcs[SystemRegister.PvcsUserSs] = value;
                    break;
                case Register.GsBase:
                    pvcs[SystemRegister.PvcsUserGsBase] = value;
                    break;
                case Register.Pkru:
                    pvcs[SystemRegister.PvcsPkru] = value;
                    break;
                default:
                    PatchInPlace(ref cpu, register, value);
                    break;
            }
        }
    }

    private void PatchInPlace(ref CpuState cpu, Register register, ulong value)
    {
        switch (register)
        {
            case <= Register.R15:
                cpu.Gpr[(int)register] = value;
                break;
            case Register.FsBase or Register.GsBase when cpu.Canonical(value):
                cpu.SegmentBase[register == Register.FsBase ? Seg.Fs : Seg.Gs] = value;
                break;
            case Register.Ds or Register.Es or Register.Fs or Register.Gs when (value & 0xfffc) == 0 || (value | 3) == Selectors.UserData:
                cpu.Selector[register switch { Register.Ds => Seg.Ds, Register.Es => Seg.Es, Register.Fs => Seg.Fs, _ => Seg.Gs }] = (ushort)value;
                break;
            default:
                vcpu.End(Verdict.Unsupported, "a response loads a register with a value that the agent of a target cannot load");
                break;
        }
    }

    /// <summary>By the frame on the stack where the event pushed one, else by one that the agent makes of the context in the structure.</summary>
    private void AnswerErets(ref CpuState cpu, Event what, Response response)
    {
        // The frame lies where it was pushed just now, so it can be read and written.
        Span<ulong> frame = stackalloc ulong[ReturnSupervisor.FrameWords];
        bool pushed = what.Entry == EntryPoint.PvmSupervisor;
        ulong at = cpu.Read<ulong>(X86.Gpr.Rsp);
        Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
        ReadOnlySpan<SystemRegister> fields =
        [
            SystemRegister.PvcsEventErrcode, SystemRegister.PvcsRip, SystemRegister.PvcsUserCs, SystemRegister.PvcsEflags, SystemRegister.PvcsRsp, SystemRegister.PvcsUserSs,
            SystemRegister.PvcsRcx, SystemRegister.PvcsR11,
        ];
        for (int i = 0; i < frame.Length; i++)
        {
            frame[i] = pushed ? vcpu.Memory.Read<ulong>(at + ((ulong)i * sizeof(ulong))) : pvcs[fields[i]];
        }

        foreach ((Register register, ulong value) in response.Patches)
        {
            int slot = register switch
            {
                Register.Rip => 1,
                Register.Cs => 2,
                Register.Rflags => 3,
                Register.Rsp => 4,
                Register.Ss => 5,
                Register.Rcx => 6,
                Register.R11 => 7,
                _ => -1,
            };
            if (slot < 0)
            {
                PatchInPlace(ref cpu, register, value);
                continue;
            }

            frame[slot] = value;
            if (pushed)
            {
                vcpu.Memory.Write(at + ((ulong)slot * sizeof(ulong)), value);
            }
        }

        if (vcpu.Verdict == Verdict.Running && HasReturn(SystemRegister.PvmRetsRip))
        {
            ReturnSupervisor.Load<TAbi>(ref cpu, vcpu, frame);
            CheckTarget(ref cpu);
        }
    }

    /// <summary>IRETQ at CPL3 from a frame that the agent makes of the context in the structure and of RSP, which events do not change. The structure is free again.</summary>
    private void AnswerIretq(ref CpuState cpu, Response response)
    {
        Pvcs<TAbi> pvcs = vcpu.Pvcs<TAbi>();
        ulong rip = pvcs[SystemRegister.PvcsRip];
        ulong rflags = pvcs[SystemRegister.PvcsEflags];
        cpu.Write(X86.Gpr.Rcx, pvcs[SystemRegister.PvcsRcx]);
        cpu.Write(X86.Gpr.R11, pvcs[SystemRegister.PvcsR11]);
        ushort cs = Selectors.UserCode64;
        ushort ss = Selectors.UserData;
        foreach ((Register register, ulong value) in response.Patches)
        {
            switch (register)
            {
                case Register.Rip:
                    rip = value;
                    break;
                case Register.Rflags:
                    rflags = value;
                    break;
                case Register.Cs:
                    cs = (ushort)value;
                    break;
                case Register.Ss:
                    ss = (ushort)value;
                    break;
                default:
                    PatchInPlace(ref cpu, register, value);
                    break;
            }
        }

        if (!cpu.Canonical(rip) || cs != Selectors.UserCode64 || ss != Selectors.UserData)
        {
            vcpu.End(Verdict.Unsupported, "the IRETQ of a response faults in the agent of a target");
        }

        pvcs[SystemRegister.PvcsEventVector] = 0;
        cpu.Rip = rip;
        Delivery.Resume(ref cpu, UnderlyingStates.Standardize(rflags));
    }

    private void Return(ref CpuState cpu, bool user)
    {
        if (user)
        {
            TAbi.ReturnUser(ref cpu, vcpu);
        }

        CheckTarget(ref cpu);
    }

    /// <summary>Responses return by the SYSCALL that the case had at first; the payload may have moved the address or the instruction, or made a return to user mode of the one to supervisor mode.</summary>
    private bool HasReturn(SystemRegister register)
    {
        ulong address = vcpu.Case.System[register];
        bool other = register == SystemRegister.PvmRetsRip && vcpu[SystemRegister.PvmRetuRip] == address;
        if (vcpu[register] == address && !other && vcpu.Memory.CanRead(address, sizeof(ushort), out _, out _) && vcpu.Memory.Read<ushort>(address) == SyscallBytes)
        {
            return true;
        }

        vcpu.End(Verdict.Unsupported, "the payload took away the SYSCALL by which responses return");
        return false;
    }
}
