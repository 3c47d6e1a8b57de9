
/*
 * What follows is the same in every exported test. The case has page tables of its own, with this agent in one page of them. It enters the payload, and each
 * entry of the case jumps back to it.
 */

struct agent_data {
	u64 gpr[16], rflags, jump, cr3;		/* what the payload starts with */
	u64 seen[16], seen_rflags, entry;	/* what the event showed */
	u64 own_cr3, own_rsp;
	u64 stack[16];
};

extern u8 agent_start[], agent_end[], agent_enter[], agent_entry[], agent_data[];

asm(".pushsection .text\n"
    ".balign 16\n"
    "agent_start:\n"
    "agent_enter:\n"
    "	push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "	mov %rsp, agent_data+304(%rip)\n"
    "	mov %cr3, %rax\n"
    "	mov %rax, agent_data+296(%rip)\n"
    "	mov agent_data+144(%rip), %rax\n"
    "	mov %rax, %cr3\n"
    "	lea agent_data+440(%rip), %rsp\n"
    "	push agent_data+128(%rip)\n"
    "	popf\n"
    "	mov agent_data+0(%rip), %rax\n"
    "	mov agent_data+8(%rip), %rcx\n"
    "	mov agent_data+16(%rip), %rdx\n"
    "	mov agent_data+24(%rip), %rbx\n"
    "	mov agent_data+32(%rip), %rsp\n"
    "	mov agent_data+40(%rip), %rbp\n"
    "	mov agent_data+48(%rip), %rsi\n"
    "	mov agent_data+56(%rip), %rdi\n"
    "	mov agent_data+64(%rip), %r8\n"
    "	mov agent_data+72(%rip), %r9\n"
    "	mov agent_data+80(%rip), %r10\n"
    "	mov agent_data+88(%rip), %r11\n"
    "	mov agent_data+96(%rip), %r12\n"
    "	mov agent_data+104(%rip), %r13\n"
    "	mov agent_data+112(%rip), %r14\n"
    "	mov agent_data+120(%rip), %r15\n"
    "	jmp *agent_data+136(%rip)\n"
    ".balign 16\n"
    "agent_entry:\n"			/* one every 16 bytes, by number */
    ".set n, 0\n"
    ".rept 5\n"
    "	movl $n, agent_data+288(%rip)\n"
    "	jmp 1f\n"
    "	.balign 16\n"
    "	.set n, n+1\n"
    ".endr\n"
    "1:	mov %rax, agent_data+152(%rip)\n"
    "	mov %rcx, agent_data+160(%rip)\n"
    "	mov %rdx, agent_data+168(%rip)\n"
    "	mov %rbx, agent_data+176(%rip)\n"
    "	mov %rsp, agent_data+184(%rip)\n"
    "	mov %rbp, agent_data+192(%rip)\n"
    "	mov %rsi, agent_data+200(%rip)\n"
    "	mov %rdi, agent_data+208(%rip)\n"
    "	mov %r8, agent_data+216(%rip)\n"
    "	mov %r9, agent_data+224(%rip)\n"
    "	mov %r10, agent_data+232(%rip)\n"
    "	mov %r11, agent_data+240(%rip)\n"
    "	mov %r12, agent_data+248(%rip)\n"
    "	mov %r13, agent_data+256(%rip)\n"
    "	mov %r14, agent_data+264(%rip)\n"
    "	mov %r15, agent_data+272(%rip)\n"
    "	lea agent_data+440(%rip), %rsp\n"
    "	pushf\n"
    "	pop agent_data+280(%rip)\n"
    "	push $2\n"
    "	popf\n"
    "	mov agent_data+296(%rip), %rax\n"
    "	mov %rax, %cr3\n"
    "	mov agent_data+304(%rip), %rsp\n"
    "	pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "	ret\n"
    ".balign 8\n"
    "agent_data:\n"
    "	.skip 440\n"
    "agent_end:\n"
    ".popsection\n");

static pgd_t *supervisor_root, *user_root;
static u8 *agent;

static struct agent_data *shared(void)
{
	return (void *)(agent + (agent_data - agent_start));
}

/* The frame of a page, which both roots share, or 0. */
static phys_addr_t frame_of(pgd_t *root, u64 va)
{
	pteval_t *pte = get_pte(root, (void *)va);

	return pte && (*pte & PT_PRESENT_MASK) ? *pte & PT_ADDR_MASK : 0;
}

static void *map(u64 va, const struct case_page *page)
{
	phys_addr_t frame = frame_of(supervisor_root, va) ?: frame_of(user_root, va);
	void *memory = frame ? phys_to_virt(frame) : alloc_page();

	if (!frame)
		memset(memory, 0, PAGE_SIZE);
	install_pte(page->user_root ? user_root : supervisor_root, 1, (void *)va, virt_to_phys(memory) | page->flags | PT_AD_MASK, NULL);
	return memory;
}

static void put(u64 va, const void *bytes, size_t size)
{
	const u8 *from = bytes;

	for (size_t i = 0; i < size; i++) {
		phys_addr_t frame = frame_of(supervisor_root, va + i) ?: frame_of(user_root, va + i);

		((u8 *)phys_to_virt(frame))[(va + i) & 4095] = from[i];
	}
}

/* Puts jmp *0(%rip) with its target where an entry is. */
static void put_jump(u64 va, int number)
{
	u8 code[14] = { 0xff, 0x25 };
	u64 target = AGENT + (agent_entry - agent_start) + 16 * number;

	memcpy(code + 6, &target, sizeof(target));
	put(va, code, sizeof(code));
}

static void set_up(void)
{
	static const struct case_page own = { .flags = PT_PRESENT_MASK | PT_WRITABLE_MASK };
	static const u64 entries[] = { CASE_ENTRY, CASE_ENTRY + 256, CASE_ENTRY + 512, CASE_LSTAR };

	supervisor_root = alloc_page();
	user_root = alloc_page();
	memset(supervisor_root, 0, PAGE_SIZE);
	memset(user_root, 0, PAGE_SIZE);
	for (int i = 0; i < ARRAY_SIZE(case_pages); i++)
		for (u64 va = case_pages[i].va; va < case_pages[i].va + case_pages[i].bytes; va += PAGE_SIZE)
			map(va, &case_pages[i]);
	agent = map(AGENT, &own);
	memcpy(agent, agent_start, agent_end - agent_start);
	for (int i = 0; i < ARRAY_SIZE(entries); i++) {
		if (!frame_of(supervisor_root, entries[i] & ~4095ull))
			map(entries[i] & ~4095ull, &own);
		put_jump(entries[i], i);
	}
	for (int i = 0; i < ARRAY_SIZE(case_contents); i++)
		put(case_contents[i].va, case_contents[i].bytes, case_contents[i].size);
#ifdef CASE_END
	put_jump(CASE_END, ENTRY_END);
#endif
}

static void check(const char *what, u64 expected, u64 got)
{
	report(expected == got, "%s: expected %" PRIx64 ", got %" PRIx64, what, expected, got);
}

int main(void)
{
	static const char *const names[16] = {
		"rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15",
	};
	struct agent_data *data;
	void *structure;
	u64 kept = 0;

	/* Some hosts ignore MSRs that they do not know, and read them as 0. */
	if (wrmsr_safe(MSR_PVM_EVENT_ENTRY, CASE_ENTRY) || rdmsr_safe(MSR_PVM_EVENT_ENTRY, &kept) || kept != CASE_ENTRY) {
		report_skip("this host has no PVM: MSR %x does not keep what is written", MSR_PVM_EVENT_ENTRY);
		return report_summary();
	}

	setup_vm();
	set_up();
	structure = map(CASE_STRUCT, &(struct case_page){ .flags = PT_PRESENT_MASK | PT_WRITABLE_MASK });
	for (int i = 0; i < ARRAY_SIZE(case_fields); i++)
		memcpy(structure + case_fields[i].offset, &case_fields[i].value, case_fields[i].width);
	for (int i = 0; i < ARRAY_SIZE(case_msrs); i++)
		wrmsr(case_msrs[i].index, case_msrs[i].value);
	wrmsr(MSR_PVM_VCPU_STRUCT, virt_to_phys(structure));
	if (MSR_PVM_SWITCH_CR3)
		wrmsr(MSR_PVM_SWITCH_CR3, virt_to_phys(user_root));
	data = shared();
	memcpy(data->gpr, case_gpr, sizeof(case_gpr));
	data->rflags = CASE_RFLAGS;
	data->jump = CASE_JUMP;
	data->cr3 = virt_to_phys(supervisor_root);

	/* The agent is seen at its own address here, too, so that changing the root does not pull the page away. */
	install_pte(current_page_table(), 1, (void *)AGENT, virt_to_phys(agent) | PT_PRESENT_MASK | PT_WRITABLE_MASK | PT_AD_MASK, NULL);
	((void (*)(void))(AGENT + (agent_enter - agent_start)))();

	report_info("expected is what %s answered", EXPECT_TARGET);
	check("entry", EXPECT_ENTRY, (u32)data->entry);
	for (int i = 0; i < 16; i++)
		check(names[i], expected_gpr[i], data->seen[i]);
	check("rflags without IF", EXPECT_RFLAGS & ~X86_EFLAGS_IF, data->seen_rflags & ~X86_EFLAGS_IF);
	for (int i = 0; i < ARRAY_SIZE(expected_frame); i++) {
		const struct expected_field *field = &expected_frame[i];
		u64 got = 0;

		if (!field->width)
			continue;
		if (EXPECT_ON_STACK) {
			for (int b = 0; b < field->width; b++) {
				u64 va = data->seen[4] + field->offset + b;

				got |= (u64)((u8 *)phys_to_virt(frame_of(supervisor_root, va)))[va & 4095] << (8 * b);
			}
		} else {
			memcpy(&got, structure + field->offset, field->width);
		}
		check(field->name, field->value, got);
	}
	return report_summary();
}
