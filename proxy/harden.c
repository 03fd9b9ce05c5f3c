/* SPDX-License-Identifier: Apache-2.0 */
/* harden.c: seccomp (Documentation/userspace-api/seccomp_filter.rst). The filter is a plain list of comparisons: the kernel
 * caches "always allowed" calls in a bitmap (since 5.11), so its length costs nothing per call. Only calls whose arguments count run it. */
#include "proxy/harden.h"

#include "lib/base.h"
#include "lib/harden.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "add the audit architecture of this machine"
#endif

enum kind { KIND_ALLOW, KIND_SUPERVISOR, KIND_DATA, KIND_THREAD, KIND_ABSENT };

static const struct rule {
	int call;
	enum kind kind;
} rules[] = {
#define ALLOW(call)            {__NR_##call, KIND_ALLOW},
#define ALLOW_SUPERVISOR(call) {__NR_##call, KIND_SUPERVISOR},
#define ALLOW_DATA(call)       {__NR_##call, KIND_DATA},
#define ALLOW_THREAD(call)     {__NR_##call, KIND_THREAD},
#define ABSENT(call)           {__NR_##call, KIND_ABSENT},
#include "proxy/harden.tbl.h"
};

#define NAMESPACES \
	(CLONE_NEWNS | CLONE_NEWCGROUP | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET)

#define HEAD_LEN   4
#define RULE_LEN   6 /* the longest */
#define FILTER_MAX (HEAD_LEN + RULE_LEN * ARRAY_LEN(rules) + 1)

struct filter {
	struct sock_filter f[FILTER_MAX];
	size_t n;
};

static void add(struct filter *f, struct sock_filter one)
{
	MUST(f->n < ARRAY_LEN(f->f));
	f->f[f->n++] = one;
}

static void ret(struct filter *f, uint32_t what)
{
	add(f, (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, what));
}

/* What follows, `len` instructions, is for this call only. The accumulator holds the call's number, there and behind. */
static void for_call(struct filter *f, int call, uint8_t len)
{
	add(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, len));
}

/* The lower half of an argument: bits that matter are all there. */
static void load_arg(struct filter *f, unsigned i)
{
	_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "the lower half of an argument comes first");
	add(f, (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS,
					    (uint32_t)(offsetof(struct seccomp_data, args) + i * sizeof(uint64_t))));
}

/* Only where the third argument, of mmap(2) and mprotect(2), has not all bits of `never`. */
static void data(struct filter *f, uint32_t never)
{
	load_arg(f, 2);
	add(f, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, never));
	add(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, never, 0, 1));
	ret(f, SECCOMP_RET_ERRNO | EPERM);
	ret(f, SECCOMP_RET_ALLOW);
}

/* Only with these flags of clone(2) (0: any), and none that makes a namespace. */
static void thread(struct filter *f, uint32_t must)
{
	load_arg(f, 0);
	add(f, (struct sock_filter)BPF_STMT(BPF_ALU | BPF_AND | BPF_K, must | NAMESPACES));
	add(f, (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, must, 1, 0));
	ret(f, SECCOMP_RET_ERRNO | EPERM);
	ret(f, SECCOMP_RET_ALLOW);
}

static void rule(struct filter *f, const struct rule *r, bool supervisor)
{
	switch (r->kind) {
	case KIND_SUPERVISOR:
		if (!supervisor)
			break;
		/* fall through */
	case KIND_ALLOW:
		for_call(f, r->call, 1);
		ret(f, SECCOMP_RET_ALLOW);
		break;
	case KIND_ABSENT:
		for_call(f, r->call, 1);
		ret(f, SECCOMP_RET_ERRNO | ENOSYS);
		break;
	case KIND_DATA:
		for_call(f, r->call, RULE_LEN - 1);
		data(f, supervisor ? PROT_WRITE | PROT_EXEC : PROT_EXEC);
		break;
	case KIND_THREAD:
		for_call(f, r->call, RULE_LEN - 1);
		thread(f, supervisor ? 0 : CLONE_THREAD);
		break;
	}
}

bool harden_syscalls(bool supervisor, struct err *err)
{
	static const struct sock_filter head[HEAD_LEN] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};
	if (HARDEN_SANITIZED)
		return true;
	struct filter f = {.n = 0};
	for (size_t i = 0; i < HEAD_LEN; i++)
		add(&f, head[i]);
	for (size_t i = 0; i < ARRAY_LEN(rules); i++)
		rule(&f, &rules[i], supervisor);
	ret(&f, SECCOMP_RET_ERRNO | EPERM);
	struct sock_fprog prog = {.len = (unsigned short)f.n, .filter = f.f};
	if (syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog) != 0)
		return err_errno(err, "installing the system call filter");
	return true;
}
