
# What follows is the same in every reproducer. It uses no library: the payload may overwrite whatever one would need.
# It maps the pages, writes their contents, catches signals on a stack of its own, and enters the payload by IRETQ, the one
# instruction that takes TF, NT, RF, AC and ID as they are given. Each signal is an event; its registers are printed.

        .set    AT_RIP, 128
        .set    AT_RFLAGS, 136
        .set    AT_CS, 144
        .set    AT_SS, 152
        .set    AT_DS, 160
        .set    AT_ES, 168
        .set    AT_FS, 176
        .set    AT_GS, 184
        .set    AT_FSBASE, 192
        .set    AT_GSBASE, 200
        .set    AT_XSTATE, 208

        .macro  linux number
        mov     eax, \number
        syscall
        .endm

        .text
        .globl  _start
_start: lea     rsp, own_stack_end[rip]
        mov     edi, 0x1000             # nothing but this image stays
        lea     rsi, __executable_start[rip]
        sub     rsi, rdi
        linux   11                      # munmap
        lea     rdi, _end[rip + 0xfff]
        and     rdi, -0x1000
        movabs  rsi, 0x7ffffffff000
        sub     rsi, rdi
        linux   11

        lea     rbx, pages[rip]
1:      mov     rdi, [rbx]
        mov     rsi, [rbx + 8]
        test    rsi, rsi
        jz      2f
        mov     edx, 7
        mov     r10d, 0x32              # private, fixed, anonymous
        mov     r8, -1
        xor     r9d, r9d
        linux   9                       # mmap
        cmp     rax, [rbx]
        jne     refused
        add     rbx, 24
        jmp     1b

2:      lea     rbx, contents[rip]
3:      mov     rdi, [rbx]
        mov     rcx, [rbx + 8]
        mov     rsi, [rbx + 16]
        test    rcx, rcx
        jz      4f
        rep movsb
        add     rbx, 24
        jmp     3b

4:      lea     rbx, pages[rip]
5:      mov     rdi, [rbx]
        mov     rsi, [rbx + 8]
        mov     rdx, [rbx + 16]
        test    rsi, rsi
        jz      6f
        linux   10                      # mprotect
        add     rbx, 24
        jmp     5b

6:      lea     rdi, signal_stack[rip]
        xor     esi, esi
        linux   131                     # sigaltstack
        lea     rbx, signals[rip]
7:      movzx   edi, byte ptr [rbx]
        test    edi, edi
        jz      8f
        lea     rsi, action[rip]
        xor     edx, edx
        mov     r10d, 8
        linux   13                      # rt_sigaction
        inc     rbx
        jmp     7b

8:      mov     edi, 59                 # PR_SET_SYSCALL_USER_DISPATCH: system calls from outside this image are signals
        mov     esi, 1
        lea     rdx, __executable_start[rip]
        lea     r10, _end[rip + 0xfff]
        and     r10, -0x1000
        sub     r10, rdx
        lea     r8, dispatch[rip]
        linux   157                     # prctl
        test    rax, rax
        jnz     refused
        xor     edi, edi
        lea     rsi, one_second[rip]
        xor     edx, edx
        linux   38                      # setitimer

enter:  lea     rbx, registers[rip]
        mov     ds, [rbx + AT_DS]
        mov     es, [rbx + AT_ES]
        mov     fs, [rbx + AT_FS]
        mov     gs, [rbx + AT_GS]
        mov     rsi, [rbx + AT_FSBASE]
        wrfsbase rsi                    # arch_prctl would clear the selector
        mov     rsi, [rbx + AT_GSBASE]
        wrgsbase rsi
        mov     rcx, [rbx + AT_XSTATE]
        jrcxz   2f
        mov     eax, -1
        mov     edx, -1
        cmp     dword ptr [rcx + 464], 0x46505853
        jne     1f
        xrstor64 [rcx]
        jmp     2f
1:      fxrstor64 [rcx]
2:      push    qword ptr [rbx + AT_SS]
        push    qword ptr [rbx + 32]
        push    qword ptr [rbx + AT_RFLAGS]
        push    qword ptr [rbx + AT_CS]
        push    qword ptr [rbx + AT_RIP]
        mov     rax, [rbx]
        mov     rcx, [rbx + 8]
        mov     rdx, [rbx + 16]
        mov     rbp, [rbx + 40]
        mov     rsi, [rbx + 48]
        mov     rdi, [rbx + 56]
        mov     r8, [rbx + 64]
        mov     r9, [rbx + 72]
        mov     r10, [rbx + 80]
        mov     r11, [rbx + 88]
        mov     r12, [rbx + 96]
        mov     r13, [rbx + 104]
        mov     r14, [rbx + 112]
        mov     r15, [rbx + 120]
        mov     rbx, [rbx + 24]
        iretq

# A signal: number in RDI, siginfo in RSI, ucontext in RDX.
event:  push    2                       # NT would make the next IRETQ fault
        popfq
        lea     rbx, registers[rip]
        mov     ecx, ds
        mov     [rbx + AT_DS], rcx
        mov     ecx, es
        mov     [rbx + AT_ES], rcx
        mov     ecx, fs                 # signal frames have no room for these
        mov     [rbx + AT_FS], rcx
        mov     ecx, gs
        mov     [rbx + AT_GS], rcx
        mov     r12d, edi
        mov     r13, rsi
        lea     rbp, [rdx + 40]         # the saved registers, R8 first
        lea     rsi, order[rip]
        xor     ecx, ecx
1:      movzx   eax, byte ptr [rsi + rcx]
        mov     rax, [rbp + rax * 8]
        mov     [rbx + rcx * 8], rax
        inc     ecx
        cmp     ecx, 18                 # general registers, RIP and RFLAGS
        jne     1b
        movzx   eax, word ptr [rbp + 144]
        mov     [rbx + AT_CS], rax
        movzx   eax, word ptr [rbp + 150]
        mov     [rbx + AT_SS], rax
        mov     rax, [rbp + 184]
        mov     [rbx + AT_XSTATE], rax
        mov     edi, 0x1003             # ARCH_GET_FS
        lea     rsi, [rbx + AT_FSBASE]
        linux   158
        mov     edi, 0x1004             # ARCH_GET_GS
        lea     rsi, [rbx + AT_GSBASE]
        linux   158

        lea     rdi, output[rip]
        cmp     r12d, 14                # SIGALRM
        je      too_long
        lea     rsi, word_event[rip]
        call    put
        mov     r14, [rbp + 160]        # vector
        cmp     r12d, 31                # SIGSYS
        jne     3f
        mov     r14d, 0x80
        cmp     dword ptr [r13 + 28], 0x40000003
        je      3f
        lea     rsi, word_call[rip]
        call    put
        jmp     5f

3:      mov     rax, r14
        mov     ecx, 8
        call    put_digits
        mov     eax, 0x27d00            # vectors 8, 10 to 14 and 17 have an error code
        bt      rax, r14
        jnc     4f
        lea     rsi, word_error[rip]
        mov     rax, [rbp + 152]
        call    put_value
4:      cmp     r14d, 14
        jne     5f
        lea     rsi, word_cr2[rip]
        mov     rax, [rbp + 176]
        call    put_value
5:      call    put_end
        lea     r15, names[rip]
        xor     r14d, r14d
6:      mov     rsi, r15
        mov     rax, [rbx + r14 * 8]
        call    put_value
        add     r15, 8
        inc     r14d
        cmp     r14d, 26
        jne     6b
        call    put_end
        call    flush

        mov     rax, [rbx + AT_RIP]
        cmp     rax, code_end[rip]
        je      finish
        mov     eax, events[rip]
        cmp     eax, responses[rip]
        je      finish
        lea     rsi, patches[rip]
7:      mov     rcx, [rsi]
        cmp     rcx, -1
        je      8f
        cmp     ecx, eax
        jne     9f
        mov     rcx, [rsi + 8]
        mov     rdx, [rsi + 16]
        mov     [rbx + rcx * 8], rdx
9:      add     rsi, 24
        jmp     7b
8:      inc     dword ptr events[rip]
        jmp     enter

too_long:
        lea     rsi, word_late[rip]
        call    put
        call    flush

# Every quadword of a writable page that is not what it was.
finish: lea     rbx, pages[rip]
1:      mov     r12, [rbx]
        mov     r13, [rbx + 8]
        test    r13, r13
        jz      6f
        test    byte ptr [rbx + 16], 2
        jz      5f
        add     r13, r12
2:      xor     r14d, r14d              # what was there
        mov     ecx, 8
3:      lea     rdx, [r12 + rcx - 1]
        call    initial_byte
        shl     r14, 8
        or      r14, rax
        loop    3b
        cmp     r14, [r12]
        je      4f
        lea     rdi, output[rip]
        lea     rsi, word_memory[rip]
        call    put
        mov     rax, r12
        mov     ecx, 64
        call    put_digits
        lea     rsi, word_is[rip]
        call    put
        mov     rax, [r12]
        mov     ecx, 64
        call    put_digits
        call    put_end
        call    flush
4:      add     r12, 8
        cmp     r12, r13
        jne     2b
5:      add     rbx, 24
        jmp     1b
6:      xor     edi, edi
        linux   60

refused:
        lea     rdi, output[rip]
        lea     rsi, word_refused[rip]
        call    put
        call    flush
        mov     edi, 2
        linux   60

# The byte at RDX before the payload ran, in RAX.
initial_byte:
        lea     rsi, contents[rip]
1:      cmp     qword ptr [rsi + 8], 0
        je      2f
        mov     rax, rdx
        sub     rax, [rsi]
        cmp     rax, [rsi + 8]
        jb      3f
        add     rsi, 24
        jmp     1b
2:      xor     eax, eax
        ret
3:      add     rax, [rsi + 16]
        movzx   eax, byte ptr [rax]
        ret

# Appends to the line at RDI: the text at RSI; the name at RSI with the value RAX; the low RCX bits of RAX.
put:    mov     al, [rsi]
        test    al, al
        jz      1f
        mov     [rdi], al
        inc     rdi
        inc     rsi
        jmp     put
1:      ret

put_value:
        push    rax
        call    put
        lea     rsi, word_is[rip]
        call    put
        pop     rax
        mov     ecx, 64
put_digits:
        sub     ecx, 4
        mov     rdx, rax
        shr     rdx, cl
        and     edx, 15
        lea     rsi, digits[rip]
        mov     dl, [rsi + rdx]
        mov     [rdi], dl
        inc     rdi
        test    ecx, ecx
        jnz     put_digits
        ret

put_end:
        mov     byte ptr [rdi], 10
        inc     rdi
        ret

# Prints what was appended.
flush:  lea     rsi, output[rip]
        mov     rdx, rdi
        sub     rdx, rsi
        mov     edi, 1
        linux   1
        ret

        .data
        .balign 8
action: .quad   event, 0x4c000004, event, 0    # SIGINFO, ONSTACK, NODEFER, RESTORER
signal_stack:
        .quad   signal_stack_space, 0, 65536
one_second:
        .quad   0, 0, 1, 0
events: .long   0
dispatch:
        .byte   1
signals:
        .byte   4, 5, 7, 8, 11, 14, 31, 0
order:  .byte   13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17
digits: .ascii  "0123456789abcdef"
names:  .irp    name, rax, rcx, rdx, rbx, rsp, rbp, rsi, rdi, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags, cs, ss, ds, es, fs, gs, fsbase, gsbase
        .set    name_start, .
        .ascii  " \name"
        .skip   name_start + 8 - .
        .endr
word_event:
        .asciz  "event "
word_call:
        .asciz  "system-call"
word_error:
        .asciz  " error"
word_cr2:
        .asciz  " cr2"
word_memory:
        .asciz  "memory "
word_is:
        .asciz  "="
word_late:
        .asciz  "no end after a second\n"
word_refused:
        .asciz  "cannot run here: a page of the case cannot be mapped, or the kernel has no system call user dispatch (Linux 5.11)\n"

        .bss
        .balign 64
        .skip   16384
own_stack_end:
signal_stack_space:
        .skip   65536
output: .skip   4096
