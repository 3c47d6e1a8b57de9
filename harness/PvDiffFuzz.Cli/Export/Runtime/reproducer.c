__attribute__((used, aligned(64))) static u8 own_stack[16384];
__attribute__((aligned(64))) static u8 signal_stack[65536];
__attribute__((used)) static u16 selectors[4];
static char text[1 << 20];
static u64 length;
static u32 events;
static volatile u8 dispatch = 1; /* System calls from outside this image are signals. */
extern u8 __executable_start[], _end[];

static long call(long number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
    register u64 r10 __asm__("r10") = d;
    register u64 r8 __asm__("r8") = e;
    register u64 r9 __asm__("r9") = f;
    __asm__ volatile("syscall" : "+a"(number) : "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9) : "rcx", "r11", "memory");
    return number;
}

static void put(const char *s)
{
    while (*s && length < sizeof text)
        text[length++] = *s++;
}

static void put_number(u64 value, int digits)
{
    while (digits-- > 0 && length < sizeof text)
        text[length++] = "0123456789abcdef"[value >> (4 * digits) & 15];
}

static void put_value(const char *name, u64 value)
{
    put(name);
    put("=");
    put_number(value, 16);
}

static void leave(int code)
{
    call(SYS_EXIT, code, 0, 0, 0, 0, 0);
    __builtin_unreachable();
}

static void fail(const char *what)
{
    length = 0;
    put("cannot run here: ");
    put(what);
    put("\n");
    call(SYS_WRITE, 2, (u64)text, length, 0, 0, 0);
    leave(2);
}

/* Loads a register file and goes on in the payload. IRETQ is the one way that takes TF, NT, RF, AC and ID as they are given. */
__attribute__((noreturn)) void enter(struct registers *to);
__asm__(
    ".globl enter\n"
    "enter:\n"
    "    mov %rdi, %rbx\n"
    "    mov 160(%rbx), %ds\n"
    "    mov 168(%rbx), %es\n"
    "    mov 176(%rbx), %fs\n"
    "    mov 184(%rbx), %gs\n"
    "    mov 192(%rbx), %rsi\n"
    "    wrfsbase %rsi\n" /* arch_prctl would clear the selector */
    "    mov 200(%rbx), %rsi\n"
    "    wrgsbase %rsi\n"
    "    mov 208(%rbx), %rcx\n"
    "    jrcxz 2f\n"
    "    mov $-1, %eax\n"
    "    mov $-1, %edx\n"
    "    cmpl $0x46505853, 464(%rcx)\n"
    "    jne 1f\n"
    "    xrstor64 (%rcx)\n"
    "    jmp 2f\n"
    "1:  fxrstor64 (%rcx)\n"
    "2:  push 152(%rbx)\n"
    "    push 32(%rbx)\n"
    "    push 136(%rbx)\n"
    "    push 144(%rbx)\n"
    "    push 128(%rbx)\n"
    "    mov 0(%rbx), %rax\n"
    "    mov 8(%rbx), %rcx\n"
    "    mov 16(%rbx), %rdx\n"
    "    mov 40(%rbx), %rbp\n"
    "    mov 48(%rbx), %rsi\n"
    "    mov 56(%rbx), %rdi\n"
    "    mov 64(%rbx), %r8\n"
    "    mov 72(%rbx), %r9\n"
    "    mov 80(%rbx), %r10\n"
    "    mov 88(%rbx), %r11\n"
    "    mov 96(%rbx), %r12\n"
    "    mov 104(%rbx), %r13\n"
    "    mov 112(%rbx), %r14\n"
    "    mov 120(%rbx), %r15\n"
    "    mov 24(%rbx), %rbx\n"
    "    iretq\n"
    ".globl on_signal\n"
    "on_signal:\n"
    "    mov %ds, selectors(%rip)\n" /* signal frames have no room for these */
    "    mov %es, selectors+2(%rip)\n"
    "    mov %fs, selectors+4(%rip)\n"
    "    mov %gs, selectors+6(%rip)\n"
    "    push $2\n" /* NT would make the next IRETQ fault */
    "    popf\n"
    "    and $-16, %rsp\n"
    "    call take_event\n"
    "    ud2\n"
    ".globl _start\n"
    "_start:\n"
    "    lea own_stack+16384(%rip), %rsp\n"
    "    call start_payload\n");
extern void on_signal(void);

static u8 initial_byte(u64 address)
{
    for (u32 i = 0; i < sizeof contents / sizeof *contents; i++)
        if (address - contents[i].address < contents[i].bytes)
            return contents[i].data[address - contents[i].address];
    return 0;
}

static void put_memory(void)
{
    for (u32 i = 0; i < sizeof pages / sizeof *pages; i++)
        for (u64 at = pages[i].address; pages[i].protection & 2 && at < pages[i].address + pages[i].bytes; at += 8) {
            u64 before = 0;
            for (int b = 7; b >= 0; b--)
                before = before << 8 | initial_byte(at + b);
            if (*(u64 *)at != before) {
                put("memory ");
                put_number(at, 16);
                put("=");
                put_number(*(u64 *)at, 16);
                put("\n");
            }
        }
}

static int same(const char *a, const char *b)
{
    while (*a && *a == *b)
        a++, b++;
    return *a == *b;
}

static void finish(void)
{
    put_memory();
    text[length - (length == sizeof text)] = 0;
    u64 observed = length;
    for (const struct answer *known = answers; known->target; known++) {
        int equal = same(text, known->text);
        put(equal ? "# equal to " : "# differs from ");
        put(known->target);
        put("\n");
        call(SYS_WRITE, 2, (u64)text + observed, length - observed, 0, 0, 0);
        length = observed;
        text[observed] = 0;
    }

    call(SYS_WRITE, 1, (u64)text, observed, 0, 0, 0);
    leave(0);
}

static struct registers now;

__attribute__((used)) static void take_event(int signal, u32 *info, u64 *context)
{
    static const u8 order[16] = { 13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7 };
    static const char *const names[26] = {
        " rax", " rcx", " rdx", " rbx", " rsp", " rbp", " rsi", " rdi", " r8", " r9", " r10", " r11", " r12", " r13", " r14", " r15",
        " rip", " rflags", " cs", " ss", " ds", " es", " fs", " gs", " fsbase", " gsbase",
    };
    u64 *saved = context + 5;
    for (int i = 0; i < 16; i++)
        now.gpr[i] = saved[order[i]];
    now.rip = saved[16];
    now.rflags = saved[17];
    now.cs = saved[18] & 0xffff;
    now.ss = saved[18] >> 48;
    now.ds = selectors[0];
    now.es = selectors[1];
    now.fs = selectors[2];
    now.gs = selectors[3];
    now.xstate = saved[23];
    call(SYS_ARCH_PRCTL, ARCH_GET_FS, (u64)&now.fsbase, 0, 0, 0, 0);
    call(SYS_ARCH_PRCTL, ARCH_GET_GS, (u64)&now.gsbase, 0, 0, 0, 0);
    u64 vector = saved[20];
    if (signal == SIGALRM) {
        put("no end after a second\n");
        finish();
    }

    put("event ");
    if (signal == SIGSYS && info[7] != 0x40000003)
        put("system-call");
    else {
        vector = signal == SIGSYS ? 0x80 : vector;
        put_number(vector, 2);
        if (vector == 8 || (vector >= 10 && vector <= 14) || vector == 17)
            put_value(" error", saved[19]);
        if (vector == 14)
            put_value(" cr2", saved[22]);
    }

    put("\n");
    for (int i = 0; i < 26; i++)
        put_value(names[i], ((u64 *)&now)[i]);
    put("\n");
    if (events >= responses || now.rip == code_end)
        finish();
    for (u32 i = 0; i < sizeof patches / sizeof *patches; i++)
        if (patches[i].event == events)
            ((u64 *)&now)[patches[i].reg] = patches[i].value;
    events++;
    enter(&now);
}

__attribute__((used)) static void start_payload(void)
{
    static const u8 signals[7] = { SIGILL, SIGTRAP, SIGBUS, SIGFPE, SIGSEGV, SIGALRM, SIGSYS };
    u64 first = (u64)__executable_start & ~0xfffUL, last = ((u64)_end + 0xfff) & ~0xfffUL;
    call(SYS_MUNMAP, 0x1000, first - 0x1000, 0, 0, 0, 0);
    call(SYS_MUNMAP, last, 0x7ffffffff000 - last, 0, 0, 0, 0);
    for (u32 i = 0; i < sizeof pages / sizeof *pages; i++)
        if (call(SYS_MMAP, pages[i].address, pages[i].bytes, 7, 0x32, -1, 0) != (long)pages[i].address)
            fail("a page of the case cannot be mapped");
    for (u32 i = 0; i < sizeof contents / sizeof *contents; i++)
        for (u64 b = 0; b < contents[i].bytes; b++)
            ((u8 *)contents[i].address)[b] = contents[i].data[b];
    for (u32 i = 0; i < sizeof pages / sizeof *pages; i++)
        call(10 /* mprotect */, pages[i].address, pages[i].bytes, pages[i].protection, 0, 0, 0);

    u64 stack[3] = { (u64)signal_stack, 0, sizeof signal_stack };
    call(SYS_SIGALTSTACK, (u64)stack, 0, 0, 0, 0, 0);
    for (u32 i = 0; i < sizeof signals; i++) {
        u64 action[4] = { (u64)on_signal, 0x4c000004 /* SIGINFO, ONSTACK, NODEFER, RESTORER */, (u64)on_signal, 0 };
        call(SYS_SIGACTION, signals[i], (u64)action, 0, 8, 0, 0);
    }

    if (call(SYS_PRCTL, 59 /* PR_SET_SYSCALL_USER_DISPATCH */, 1, first, last - first, (u64)&dispatch, 0))
        fail("the kernel has no system call user dispatch (Linux 5.11)");
    u64 second[4] = { 0, 0, 1, 0 };
    call(SYS_SETITIMER, 0, (u64)second, 0, 0, 0, 0);
    now = initial;
    enter(&now);
}
