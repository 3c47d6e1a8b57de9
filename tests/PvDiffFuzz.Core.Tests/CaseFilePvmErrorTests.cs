using System.Text;

namespace PvDiffFuzz.Core.Tests;

/// <summary>Each kind of bad file with a system side: the line it is on, what is wrong and what would be right.</summary>
public sealed class CaseFilePvmErrorTests
{
    private const string Star = "MSR_STAR)";
    private const string Range = "MSR_PVM_LINEAR_ADDRESS_RANGE)";

    /// <summary>A piece of the PVM sample, what stands there instead, and the message. Lines are those of the second example of docs/case-format.md.</summary>
    [Theory]
    [InlineData("abi      pvm-rfc1", "abi      pvm", 9, "ABI `pvm` is not known; use one of: x86, pvm-rfc1, pvm-612, pvm-abi1")]
    [InlineData("abi      pvm-rfc1", "abi      x86", 10, "an x86 case starts in user code; leave the line out")]
    [InlineData("start    user\n", "", 29, "the case has no `start` line; add `start user` or `start supervisor`")]
    [InlineData("start    user\n", "start    user\nstart    user\n", 11, "`start` for the second time (first in line 10); say it once")]
    [InlineData("start    user", "start    kernel", 10, "start `kernel` is not known; use one of: user, supervisor")]
    [InlineData("start    user", "start    supervisor", 15, "the code touches page 401000, which is not", "map      pvm", "page     4d0000 1 r-x-")]
    [InlineData("pvm      pvcs=490000 path=warm\n", "", 12, "pages of a user root without `pvm` or `xen`; only PVM and Xen cases have two roots")]
    [InlineData("pvm      pvcs=490000 path=warm\nmap      pvm\nuser-map pvm\n", "page     401000 1 r-xu\npage     4d0000 1 r-x-\n", 9, "a case of pvm-rfc1 has no `pvm` line, which says where")]
    [InlineData("pvcs=490000 path=warm", "pvcs=490000", 11, "`pvm` has 1 of 2 named values; write pvcs=... path=...")]
    [InlineData("path=warm", "path=hot", 11, "path `hot` is not known; use one of: cold, warm")]
    [InlineData("pvcs=490000", "pvcs=490080", 11, "490080: the per-VCPU structure lies at the start of a page at a canonical address; give")]
    [InlineData("pvcs=490000", "pvcs=800000000000", 11, "800000000000: the per-VCPU structure lies at the start of a page at a canonical address; give")]
    [InlineData("pvcs=490000", "pvcs=471000", 11, "471000: the per-VCPU structure overlaps a page of the case; give the structure a page of its own")]
    [InlineData("pvcs=490000", "pvcs=4a1000", 11, "4a1000: the per-VCPU structure overlaps a page of the case; give the structure a page of its own")]
    [InlineData("map      pvm\nuser-map pvm", "page     401000 1 r-xu\npage     490000 1 ----\npage     4d0000 1 r-x-", 11, "490000: the per-VCPU structure overlaps a page of the case")]
    [InlineData("map      pvm\nuser", "map      kvm\nuser", 12, "map `kvm` is not known; use `standard`, `pvm`, or `page` lines")]
    [InlineData("user-map pvm", "user-map kvm", 13, "map `kvm` is not known; use `standard`, `pvm`, `none`, or `user-page` lines")]
    [InlineData("user-map pvm", "user-map pvm\nuser-page 400000 2 r-xu", 14, "a page beside `user-map pvm`; use one or the other")]
    [InlineData("user-map pvm", "user-page 400000 2 r-xu\nuser-page 401000 1 r-xu", 14, "these pages overlap those of line 13; name each page once")]
    [InlineData("user-map pvm", "user-page 400000 2 r-xu\nuser-page 402000 1 r--u", 16, "the code ends at 402000, where a page is mapped")]
    [InlineData("user-map pvm", "user-map none", 15, "the code touches page 401000, which is not an executable page")]
    [InlineData("sys      cr3=1000", "sys      cr9=1000", 22, "system register `cr9` is not known; use one of: cr0, cr2")]
    [InlineData("sys      cr3=1000", "sys      cr3=1000 cr3=1000", 22, "cr3 is stated twice; state each system register once")]
    [InlineData("sys      event-entry=7e0000100000", "sys      cr3=7e0000100000", 23, "cr3 is stated twice; state each system register once")]
    [InlineData("sys      cr3=1000", "sys      cr3", 22, "`cr3` is not of the form name=value; write for example")]
    [InlineData("sys      event-entry", "sys\nsys      event-entry", 23, "`sys` without a value; write system registers")]
    [InlineData("cr3=1000 star", "cr3=10000000000000000 star", 22, "cr3 `10000000000000000` is not a number of this field")]
    [InlineData("vcpu-struct=8000", "vcpu-struct=8010", 22, "vcpu-struct = 8010: it is a multiple of 1000, or 0 for none (PVM rfc1, MSR_PVM_VCPU_CTRL_STRUCT); state")]
    [InlineData("star=23001000000000", "star=33001000000000", 22, "star = 33001000000000: bits 63:48 are 23 with any RPL", Star)]
    [InlineData("star=23001000000000", "star=23001300000000", 22, "star = 23001300000000: bits 63:48 are 23 with any RPL, bits 47:32 the supervisor's CS with RPL 0", Star)]
    [InlineData("star=23001000000000", "star=23000000000000", 22, "star = 23000000000000: bits", Star)]
    [InlineData("star=23001000000000 ", "", 22, "star = 0: bits", Star)]
    [InlineData("lstar=7e0000101000", "lstar=800000000000", 22, "lstar = 800000000000: not a canonical address (PVM rfc1, MSR_LSTAR); state")]
    [InlineData("event-entry=7e0000100000", "event-entry=800000000000", 23, "event-entry = 800000000000: not a canonical address (PVM rfc1, MSR_PVM_EVENT_ENTRY); state")]
    [InlineData("event-entry=7e0000100000", "event-entry=7ffffffffe00", 23, "event-entry = 7ffffffffe00: with 512 it is not a canonical address (PVM rfc1, MSR_PVM_EVENT_ENTRY, entry")]
    [InlineData("lstar=7e0000101000", "lstar=7e0000101000 kernel-gs-base=800000000000", 22, "kernel-gs-base = 800000000000: not a canonical address (PVM rfc1, MSR_GS_BASE/MSR_KERNEL_GS_BASE); state")]
    [InlineData("lstar=7e0000101000", "lstar=7e0000101000 linear-address-range=ffffffffff93ff93", 22, "linear-address-range = ffffffffff93ff93: fields are fe00 | index with 100 <= start < end < 1ff", Range)]
    [InlineData("lstar=7e0000101000", "lstar=7e0000101000 linear-address-range=ffffffffffffff93", 22, "linear-address-range = ffffffffffffff93: fields", Range)]
    [InlineData("lstar=7e0000101000", "lstar=7e0000101000 linear-address-range=ffffffffff93fe93", 22, "linear-address-range = ffffffffff93fe93: fields", Range)]
    [InlineData("lstar=7e0000101000", "lstar=7e0000101000 linear-address-range=ffffffffffb37f93", 22, "linear-address-range = ffffffffffb37f93: fields", Range)]
    [InlineData("lstar=7e0000101000", "lstar=7e0000101000 linear-address-range=ff20ff10ffb3ff93", 22, "linear-address-range = ff20ff10ffb3ff93: fields", Range)]
    [InlineData("sys      cr3=1000", "sys      cr0=8005003b cr3=1000", 22, "cr0 = 8005003b: bits 80050033 are set and bits 6000000c clear in every mode of PVM (PVM rfc1, States or registers on PVM modes); state")]
    [InlineData("cr3=1000 star", "cr3=1000 cr4=20 star", 22, "cr4 = 20: bits 10020 are set and bits 300003 clear in every mode of PVM")]
    [InlineData("cr3=1000 star", "cr3=1000 cr4=110020 star", 22, "cr4 = 110020: bits 10020 are set and bits 300003 clear in every mode of PVM")]
    [InlineData("cr3=1000 star", "cr3=1000 efer=500 star", 22, "efer = 500: bits 501 are set and bits 0 clear in every mode of PVM")]
    [InlineData("cr3=1000 star", "cr3=1000 cr8=10 star", 22, "cr8 = 10: it is 0 to f; state")]
    [InlineData("switch-cr3=2000", "switch-cr3=2000 nmi-masked=2", 23, "nmi-masked = 2: it is 0 to 1; state")]
    [InlineData("switch-cr3=2000", "switch-cr3=2000 user-mode=1", 23, "user-mode: the mode at the start is what `start` says; state")]
    [InlineData("switch-cr3=2000", "switch-cr3=2000 pvcs.event-flags=400", 23, "pvcs.event-flags = 400: bits other than IF and IP, 300, are reserved (PVM rfc1, PVCS::event_flags); state")]
    [InlineData("switch-cr3=2000", "switch-cr3=2000 pvcs.event-vector=100000000", 23, "pvcs.event-vector = 100000000: the field has 4 bytes; state")]
    [InlineData("switch-cr3=2000", "switch-cr3=2000 pvcs.rip=1", 23, "pvcs.rip: a case that starts in user mode takes the user context from its registers; state")]
    [InlineData("retu-rip=4d0010", "retu-rip=4d0011", 23, "retu-rip = 4d0011: no bytes 0f 05 of the case lie there in an executable page of the supervisor root, and the case returns by them; state")]
    [InlineData("response eretu\n", "response erets\n", 23, "rets-rip = 471000: no bytes 0f 05 of the case lie there", "rets-rip=4d0020", "rets-rip=471000")]
    [InlineData("abi      pvm-rfc1", "abi      pvm-612", 22, "supervisor-rsp: pvm-612 has no such MSR; state what the ABI has")]
    [InlineData("supervisor-rsp=471000\nsys      event-entry=7e0000100000 retu-rip=4d0010 rets-rip=4d0020 switch-cr3=2000", "retu-rip=4d0010 pvcs.event-errcode=10000", 22, "pvcs.event-errcode = 10000: the field has 2 bytes", "abi      pvm-rfc1", "abi      pvm-612")]
    [InlineData("supervisor-rsp=471000\nsys      event-entry=7e0000100000 retu-rip=4d0010 rets-rip=4d0020 switch-cr3=2000", "retu-rip=4d0010 pvcs.rsp=1", 22, "pvcs.rsp: the per-VCPU structure of pvm-612 has no such field", "abi      pvm-rfc1", "abi      pvm-612")]
    [InlineData("supervisor-rsp=471000\nsys      event-entry=7e0000100000 retu-rip=4d0010 rets-rip=4d0020 switch-cr3=2000", "linear-address-range=ffffffffffb3ff93 retu-rip=4d0010", 22, "linear-address-range: pvm-abi1 has no such MSR", "abi      pvm-rfc1", "abi      pvm-abi1")]
    [InlineData("supervisor-rsp=471000\nsys      event-entry=7e0000100000 retu-rip=4d0010 rets-rip=4d0020 switch-cr3=2000", "retu-rip=4d0010 pvcs.event-flags=100", 22, "pvcs.event-flags = 100: bits other than IF and IP, 100000200, are reserved", "abi      pvm-rfc1", "abi      pvm-abi1")]
    [InlineData("rflags   202", "rflags   100000202", 19, "100000202: the structure keeps 32 bits of the user's flags; ")]
    [InlineData("bytes    4d000f", "inject   interrupt\nbytes    4d000f", 24, "this is nothing that comes from outside; write `inject   interrupt 41` or `inject   nmi`")]
    [InlineData("bytes    4d000f", "inject   nmi 02\nbytes    4d000f", 24, "this is nothing that comes from outside; write")]
    [InlineData("bytes    4d000f", "inject   interrupt 0f\nbytes    4d000f", 24, "an interrupt with vector 0f: no interrupt controller sends vectors below 10 (SDM vol.3A, Valid Interrupt Vectors); ")]
    [InlineData("bytes    4d000f", "inject   nmi\ninject   nmi\nbytes    4d000f", 25, "`inject` for the second time (first in line 24)")]
    [InlineData("hypercall 17088205 410000", "hypercall", 25, "a hypercall without a number, with too many arguments, or one too many before a response; write")]
    [InlineData("hypercall 17088205 410000", "hypercall 17088205 1 2 3 4 5 6 7", 25, "a hypercall without a number, with too many arguments, or one too many before a response; write")]
    [InlineData("hypercall 17088205 410000", "hypercall 17088205 0x1", 25, "argument `0x1` is not a number of this field")]
    [InlineData("response eretu\n", "hypercall 1\nhypercall 2 3 4 5 6\nhypercall 3\nresponse eretu\n", 28, "hypercall 2 has 4 arguments, and PVM passes RBX, R10 and RDX; write the number")]
    [InlineData("response eretu\n", "response eretu\nhypercall 1\n", 28, "a hypercall that belongs to no response; hypercalls stand before the `response` that makes them")]
    [InlineData("response eretu\n", "response iretq\n", 27, "iretq: pvm-rfc1 goes back by eretu or erets; ")]
    [InlineData("response eretu\n", "response none\n", 27, "iretq: pvm-rfc1 goes back by eretu or erets; ")]
    [InlineData("response eretu\n", "response eretu sysret\n", 27, "`sysret` is not of the form name=value")]
    [InlineData("inject=interrupt:41", "inject=interrupt:1", 26, "vector `1` is not a byte; use two hexadecimal digits")]
    [InlineData("inject=interrupt:41", "inject=interrupt:08", 26, "an interrupt with vector 08: no interrupt controller sends vectors below 10 (SDM vol.3A, Valid Interrupt Vectors); ")]
    [InlineData("inject=interrupt:41", "inject=smi", 26, "this is nothing that comes from outside; write `inject=interrupt:41` or `inject=nmi`")]
    [InlineData("inject=interrupt:41 rcx=77", "rcx=77 inject=interrupt:41", 26, "register `inject` is not known; use one of: rax")]
    [InlineData("rcx=77", "cs=10033", 26, "Cs = 10033: a selector has 16 bits; ")]
    [InlineData("rcx=77", "pkru=100000000", 26, "Pkru = 100000000: PKRU has 32 bits; ")]
    [InlineData("rcx=77", "rflags=100000202", 26, "Rflags = 100000202: the structure keeps 32 bits of the user's flags; ")]
    [InlineData("rcx=77", "fsbase=800000000000", 26, "FsBase = 800000000000: not a canonical address; ")]
    [InlineData("response eretu\n", "response erets gsbase=800000000000\n", 27, "GsBase = 800000000000: not a canonical address; only the structure holds others; ")]
    [InlineData("response eretu\n", "response erets pkru=0\n", 27, "Pkru: patches are in register order, once each, without debug registers, PKRU for eretu only; ")]
    public void ABadCaseIsRefusedWithItsLineAndACure(string piece, string replacement, int line, string message, string? also = null, string? instead = null)
    {
        string text = Encoding.UTF8.GetString(Samples.PvmWith(piece, replacement));
        string? rule = instead is null ? also : null;
        if (instead is not null)
        {
            Assert.Contains(also!, text, StringComparison.Ordinal);
            text = text.Replace(also!, instead, StringComparison.Ordinal);
        }

        Refused(text, line, message, rule ?? "");
    }

    /// <summary>The same for outcomes.</summary>
    [Theory]
    [InlineData("event    hypercall 00 hypercall", "event    hypercall 00 idt", 37, "`model.pvm`: no event of pvm-rfc1 comes through idt; its entries are lstar, pvm.user, pvm.supervisor, pvm.supervisor.high, hypercall")]
    [InlineData("event    hypercall 00 hypercall", "event    interrupt 00 hypercall", 37, "`model.pvm`: interrupt and hypercall; the return of a hypercall is a hypercall, and nothing else is")]
    [InlineData("event    interrupt 41 pvm.user", "event    hypercall 41 pvm.user", 38, "`model.pvm`: hypercall and pvm.user; the return of a hypercall is a hypercall, and nothing else is")]
    [InlineData("event    interrupt 41 pvm.user", "event    interrupt 41 pvm.guest", 38, "entry `pvm.guest` is not known; use one of: idt, lstar, pvm.user")]
    [InlineData("event    interrupt 41 pvm.user", "event    interrupt 41 pvm.supervisor", 39, "`model.pvm`: a frame of 128 bytes; at pvm.supervisor pvm-rfc1 stores 64 bytes")]
    [InlineData("event    hypercall 00 hypercall\n", "event    hypercall 00 hypercall\nframe    00\n", 38, "`model.pvm`: a frame of 1 bytes; at hypercall pvm-rfc1 stores nothing")]
    [InlineData("0020400000000000 0000000000000000\n", "0020400000000000 00000000000000\n", 44, "`model.pvm`: a frame of 127 bytes; at pvm.user pvm-rfc1 stores 128 bytes")]
    [InlineData("0020400000000000 0000000000000000\n", "0020400000000000 000000000000000\n", 44, "frame `000000000000000` is not bytes, or too many; use two hexadecimal digits a byte")]
    [InlineData("0020400000000000 0000000000000000\n", "0020400000000000 0000000000000000 00\n", 47, "frame `0200000000000000` is not bytes, or too many; use two hexadecimal digits a byte, in the order of memory, at most 128 bytes")]
    [InlineData("0020400000000000 0000000000000000\n", "0020400000000000 000000000000000g\n", 44, "frame `000000000000000g` is not bytes, or too many; use")]
    [InlineData("0020400000000000 0000000000000000\n", "0020400000000000 0000000000000000\nframe\n", 45, "a frame without bytes; write them, or leave the line out")]
    [InlineData("event    trap 03 pvm.user", "frame    00\nevent    trap 03 pvm.user", 31, "`frame` without an event of a paravirtual ABI before it; ")]
    [InlineData("state    cr3=1000", "frame    00\nstate    cr3=1000", 48, "frame `00` is not bytes, or too many; use")]
    [InlineData("state    cr3=1000", "final    none\nframe    00\nstate    cr3=1000", 49, "`frame` without an event of a paravirtual ABI before it; ")]
    [InlineData("state    cr3=1000", "state    cr3=1000 cr3=1000", 48, "cr3 is stated twice; state each system register once")]
    [InlineData("state    cr3=1000", "state    dr8=1000", 48, "system register `dr8` is not known; use one of: cr0")]
    [InlineData("pvcs.pkru=4", "pvcs.pkru=100000004", 48, "`model.pvm`: pvcs.pkru = 100000004: the field has 4 bytes; state what the ABI has, or leave it out")]
    [InlineData("pvcs.pkru=4", "pvcs.pkru=4 user-mode=2", 48, "`model.pvm`: user-mode = 2: it is 0 to 1; state what the ABI has, or leave it out")]
    [InlineData("pvcs.pkru=0\n", "pvcs.pkru=0\nmemory   490ff8=1\n", 69, "`pvm`: 490ff8 lies in the page of the per-VCPU structure; its fields are `state`, not memory")]
    [InlineData("pvcs.pkru=0\n", "pvcs.pkru=0 pvcs.flags=1\n", 68, "system register `pvcs.flags` is not known; use one of: cr0")]
    public void ABadOutcomeIsRefusedWithItsLineAndACure(string piece, string replacement, int line, string message)
    {
        string text = Samples.Pvm.Write();
        int at = text.IndexOf(piece, StringComparison.Ordinal);
        Assert.True(at >= 0, $"the sample has no `{piece}`");
        Refused(string.Concat(text.AsSpan(0, at), replacement, text.AsSpan(at + piece.Length)), line, message, "");
    }

    /// <summary>What an x86 case has not, at the line that says it.</summary>
    [Theory]
    [InlineData("rflags   203", "rflags   203\nsys      cr3=0", 18, "an x86 case starts in user code and has neither system state nor anything pending; state")]
    [InlineData("limit    ", "inject   nmi\nlimit    ", 20, "an x86 case starts in user code and has neither system state nor anything pending; leave")]
    [InlineData("map      standard", "pvm      pvcs=490000 path=cold\nmap      standard", 11, "x86 has no hypervisor; only PVM cases have a `pvm` line, and only Xen cases a `xen` line; ")]
    [InlineData("map      standard", "map      pvm", 11, "map `pvm` is not known; use `standard`, or `page` lines")]
    [InlineData("map      standard", "map      standard\nuser-map pvm", 12, "pages of a user root without `pvm` or `xen`; only PVM and Xen cases have two roots")]
    [InlineData("limit    ", "response eretu\nlimit    ", 20, "the supervisor of an x86 case returns by iretq, without hypercalls and with nothing pending; ")]
    [InlineData("limit    ", "response none\nresponse inject=nmi\nlimit    ", 21, "the supervisor of an x86 case returns by iretq, without hypercalls and with nothing pending; ")]
    [InlineData("limit    ", "hypercall 1\nresponse none\nlimit    ", 21, "the supervisor of an x86 case returns by iretq, without hypercalls and with nothing pending; ")]
    [InlineData("limit    ", "response iretq\nlimit    ", 20, "not in canonical form; this line should read `response none`")]
    [InlineData("memory   410000=ffffffffffffad00\n\noutcome", "state    cr3=0\nmemory   410000=ffffffffffffad00\n\noutcome", 27, "`native`: cr3: the system side of an x86 case is not stated; ")]
    [InlineData("event    fault 0e idt error=14 cr2=402000\nregs     rax=0 rip=402000 rflags=10257", "event    fault 0e pvm.user error=14 cr2=402000\nregs     rax=0 rip=402000 rflags=10257", 25, "`native`: no event of x86 comes through pvm.user; its entries are idt, lstar")]
    [InlineData("event    fault 0e idt error=14 cr2=402000\nregs     rax=0 rip=402000 rflags=10257", "event    fault 0e lstar error=14 cr2=402000\nregs     rax=0 rip=402000 rflags=10257\nframe    00", 27, "`native`: a frame of 1 bytes; at lstar x86 stores nothing")]
    [InlineData("event    fault 0e idt error=14 cr2=402000\nregs     rax=0 rip=402000 rflags=10257", "event    fault 0e idt error=14 cr2=402000\nframe    00\nregs     rax=0 rip=402000 rflags=10257", 26, "`frame` without an event of a paravirtual ABI before it; ")]
    public void WhatAnX86CaseHasNotIsRefused(string piece, string replacement, int line, string message) =>
        Refused(Encoding.UTF8.GetString(Samples.AdcWith(piece, replacement)), line, message, "");

    private static void Refused(string text, int line, string message, string rule)
    {
        CaseFileException refused = Assert.Throws<CaseFileException>(() => CaseFile.Parse(Encoding.UTF8.GetBytes(text), "dir/x.case"));

        Assert.StartsWith($"dir/x.case:{line}: {message}", refused.Message, StringComparison.Ordinal);
        Assert.Contains(rule, refused.Message, StringComparison.Ordinal);
        Assert.Contains("; ", refused.Message, StringComparison.Ordinal);
    }
}
