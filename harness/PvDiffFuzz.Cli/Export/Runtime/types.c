typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;

enum { SYS_MMAP = 9, SYS_MUNMAP = 11, SYS_WRITE = 1, SYS_SIGACTION = 13, SYS_EXIT = 60, SYS_SIGALTSTACK = 131, SYS_PRCTL = 157, SYS_ARCH_PRCTL = 158, SYS_SETITIMER = 38 };
enum { SIGILL = 4, SIGTRAP = 5, SIGBUS = 7, SIGFPE = 8, SIGSEGV = 11, SIGALRM = 14, SIGSYS = 31 };
enum { ARCH_GET_FS = 0x1003, ARCH_GET_GS = 0x1004 };

/* Registers in the order of what is printed; ENTER below knows the offsets. */
struct registers {
    u64 gpr[16], rip, rflags, cs, ss, ds, es, fs, gs, fsbase, gsbase, xstate;
};

struct range { u64 address, bytes, protection; };
struct contents { u64 address, bytes; const u8 *data; };
struct patch { u32 event, reg; u64 value; };
struct answer { const char *target, *text; };
