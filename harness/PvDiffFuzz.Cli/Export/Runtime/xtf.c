
/* What follows is the same in every exported test. */

static uint8_t frames[FRAMES][PAGE_SIZE] __page_aligned_bss;
static unsigned int next_frame;
static bool failed;

/* What the event showed: assembly below knows the order. */
struct seen {
    uint64_t gpr[16];
    uint64_t rflags, entry;
} seen;
uint64_t resume_rsp;
uint64_t enter_rip;
const uint64_t enter_gpr[16] = CASE_GPR;

/* Loads the registers of the case, by an iret or directly, and comes back with the event in 'seen'. */
void enter_case(void);
asm (
    ".text\n"
    "enter_case:\n"
    "    push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "    mov %rsp, resume_rsp\n"
#ifdef CASE_IRET
    "    pushq $" STR(CASE_SS) "\n"
    "    push enter_gpr+32\n"
    "    movabs $" STR(CASE_RFLAGS) ", %rax; push %rax\n"
    "    pushq $" STR(CASE_CS) "\n"
    "    push enter_rip\n"
    "    movabs $" STR(CASE_IRET) ", %rax; push %rax\n"
    "    push enter_gpr+8\n"
    "    push enter_gpr+88\n"
    "    push enter_gpr\n"
#else
    "    movabs $" STR(CASE_RFLAGS) ", %rax; push %rax; popf\n"
    "    mov enter_gpr, %rax\n"
    "    mov enter_gpr+8, %rcx\n"
    "    mov enter_gpr+32, %rsp\n"
    "    mov enter_gpr+88, %r11\n"
#endif
    "    mov enter_gpr+16, %rdx\n"
    "    mov enter_gpr+24, %rbx\n"
    "    mov enter_gpr+40, %rbp\n"
    "    mov enter_gpr+48, %rsi\n"
    "    mov enter_gpr+56, %rdi\n"
    "    mov enter_gpr+64, %r8\n"
    "    mov enter_gpr+72, %r9\n"
    "    mov enter_gpr+80, %r10\n"
    "    mov enter_gpr+96, %r12\n"
    "    mov enter_gpr+104, %r13\n"
    "    mov enter_gpr+112, %r14\n"
    "    mov enter_gpr+120, %r15\n"
#ifdef CASE_IRET
    "    mov $23, %eax\n"
    "    syscall\n"
#else
    "    jmp *enter_rip\n"
#endif

    /* Every handler of the case pushes its number and comes here; the end of kernel code comes to case_end. */
    "case_end:\n"
    "    mov %rax, seen\n"
    "    movq $" STR(ENTRY_END) ", seen+136\n"
    "    jmp 1f\n"
    "case_event:\n"
    "    mov %rax, seen\n"
    "    pop %rax\n"
    "    mov %rax, seen+136\n"
    "1:  mov %rcx, seen+8\n"
    "    mov %rdx, seen+16\n"
    "    mov %rbx, seen+24\n"
    "    mov %rsp, seen+32\n"
    "    mov %rbp, seen+40\n"
    "    mov %rsi, seen+48\n"
    "    mov %rdi, seen+56\n"
    "    mov %r8, seen+64\n"
    "    mov %r9, seen+72\n"
    "    mov %r10, seen+80\n"
    "    mov %r11, seen+88\n"
    "    mov %r12, seen+96\n"
    "    mov %r13, seen+104\n"
    "    mov %r14, seen+112\n"
    "    mov %r15, seen+120\n"
    "    mov resume_rsp, %rsp\n"
    "    pushf\n"
    "    pop seen+128\n"
    "    cld\n"
    "    pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "    ret\n");
extern const char case_end[], case_event[];

static void set_entry(const intpte_t *where, intpte_t value)
{
    mmu_update_t update = { .ptr = virt_to_maddr(where) | MMU_NORMAL_PT_UPDATE, .val = value };

    if ( hypercall_mmu_update(&update, 1, NULL, DOMID_SELF) )
        panic("Failed to write page table entry %p\n", where);
}

static intpte_t new_table(void)
{
    void *table = frames[next_frame++];

    /* Xen takes a page as a table only when nothing maps it writable. */
    if ( hypercall_update_va_mapping(_u(table), pte_from_virt(table, PF_SYM(AD, P)), UVMF_INVLPG) )
        panic("Failed to write-protect %p\n", table);

    return pte_from_virt(table, PF_SYM(AD, U, RW, P));
}

static void map_page(uint64_t va)
{
    const intpte_t *table = maddr_to_virt(read_cr3() & PAGE_MASK);
    const intpte_t *entry;

    for ( unsigned int level = 4; level > 1; --level )
    {
        entry = &table[va >> (3 + 9 * level) & 511];
        if ( !(*entry & _PAGE_PRESENT) )
            set_entry(entry, new_table());
        table = maddr_to_virt(pte_to_paddr(*entry));
    }

    entry = &table[va >> PAGE_SHIFT & 511];
    if ( *entry & _PAGE_PRESENT )
        panic("XTF itself uses the page at %p\n", _p(va));
    set_entry(entry, pte_from_virt(frames[next_frame++], PF_SYM(AD, U, RW, P)));
}

static void protect(const struct case_page *page)
{
    for ( unsigned int i = 0; i < page->count; ++i )
    {
        uint64_t va = page->va + i * PAGE_SIZE;
        const intpte_t *table = maddr_to_virt(read_cr3() & PAGE_MASK);

        for ( unsigned int level = 4; level > 1; --level )
            table = maddr_to_virt(pte_to_paddr(table[va >> (3 + 9 * level) & 511]));
        if ( hypercall_update_va_mapping(va, pte_from_paddr(pte_to_paddr(table[va >> PAGE_SHIFT & 511]), page->flags), UVMF_INVLPG) )
            panic("Failed to protect %p\n", _p(va));
    }
}

static void put(uint64_t where, const void *bytes, size_t size)
{
    memcpy(_p(where), bytes, size);
}

/* push $entry; push $case_event; ret */
static void put_handler(uint64_t where, uint32_t entry)
{
    uint8_t code[11] = { 0x68, [5] = 0x68, [10] = 0xc3 };
    uint32_t target = _u(case_event);

    memcpy(code + 1, &entry, 4);
    memcpy(code + 6, &target, 4);
    put(where, code, sizeof(code));
}

static void check(const char *what, uint64_t expected, uint64_t got)
{
    if ( expected == got )
        return;
    failed = true;
    xtf_failure("Fail: %s: expected %p, got %p\n", what, _p(expected), _p(got));
}

static void set_up(void)
{
    for ( unsigned int i = 0; i < ARRAY_SIZE(case_pages); ++i )
        for ( unsigned int j = 0; j < case_pages[i].count; ++j )
            map_page(case_pages[i].va + j * PAGE_SIZE);
    for ( unsigned int i = 0; i < ARRAY_SIZE(case_contents); ++i )
        put(case_contents[i].va, case_contents[i].bytes, case_contents[i].size);
    for ( unsigned int i = 0; i < ARRAY_SIZE(case_traps); ++i )
        if ( case_traps[i].address )
            put_handler(case_traps[i].address, case_traps[i].vector);
    for ( int i = 0; i < CALLBACKS; ++i )
        put_handler(case_callbacks[i].address, ENTRY_CALLBACK + case_callbacks[i].type);
#ifdef CASE_END
    uint8_t jump[14] = { 0xff, 0x25 };
    uint64_t target = _u(case_end);

    memcpy(jump + 6, &target, 8);
    put(CASE_END, jump, sizeof(jump));
#endif
    for ( unsigned int i = 0; i < ARRAY_SIZE(case_pages); ++i )
        protect(&case_pages[i]);

    if ( hypercall_set_trap_table(NULL) || hypercall_set_trap_table(case_traps) )
        panic("Failed to set the trap table\n");
    for ( int i = 0; i < CALLBACKS; ++i )
        if ( hypercall_register_callback(&case_callbacks[i]) )
            panic("Failed to register a callback\n");
    for ( unsigned int i = 0; i < ARRAY_SIZE(case_unregistered); ++i )
        if ( case_unregistered[i] >= 0 )
            printk("This case has no callback %d, and XTF's stays: Xen has no way to take it back\n", case_unregistered[i]);
    if ( hypercall_stack_switch(CASE_KERNEL_SS, _p(CASE_KERNEL_SP)) )
        panic("Failed to set the kernel stack\n");
    if ( CASE_VM_ASSIST >= 0 && hypercall_vm_assist(VMASST_CMD_enable, CASE_VM_ASSIST) )
        panic("Failed to enable the assist\n");

    unsigned int iopl = CASE_IOPL;

    if ( hypercall_physdev_op(PHYSDEVOP_set_iopl, &iopl) )
        panic("Failed to set IOPL\n");
    HYPERCALL1(long, __HYPERVISOR_fpu_taskswitch, CASE_TS);
    HYPERCALL2(long, __HYPERVISOR_set_segment_base, 0, CASE_FS_BASE);
    HYPERCALL2(long, __HYPERVISOR_set_segment_base, 1, CASE_USER_GS_BASE);
    HYPERCALL2(long, __HYPERVISOR_set_segment_base, 2, CASE_KERNEL_GS_BASE);
    shared_info.vcpu_info[0].evtchn_upcall_pending = CASE_PENDING;
    shared_info.vcpu_info[0].evtchn_upcall_mask = CASE_MASK;
}

static const char *const gpr_names[16] = {
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
};

void test_main(void)
{
    set_up();
#if EXPECT_CRASH
    printk("Expected: Xen crashes this domain\n");
#endif
    enter_rip = CASE_RIP;
    enter_case();
    hypercall_set_trap_table(pv_default_trap_info);
#if EXPECT_CRASH
    xtf_failure("Fail: the domain is alive\n");
    return;
#endif
    check("entry", EXPECT_ENTRY, seen.entry);
    for ( unsigned int i = 0; i < 16; ++i )
        check(gpr_names[i], expected_gpr[i], seen.gpr[i]);
    check("rflags", EXPECT_RFLAGS, seen.rflags);
    for ( int i = 0; i < FRAME_WORDS; ++i )
        check(frame_names[i], expected_frame[i], ((const uint64_t *)seen.gpr[4])[i]);
    if ( EXPECT_ENTRY == X86_EXC_PF )
        check("cr2", EXPECT_CR2, shared_info.vcpu_info[0].arch.cr2);
    if ( EXPECT_MASK >= 0 )
        check("upcall mask", EXPECT_MASK, shared_info.vcpu_info[0].evtchn_upcall_mask);
    if ( !failed )
        xtf_success("Success: %s\n", EXPECT_TARGET);
}
