/* SPDX-License-Identifier: Apache-2.0 */
/* harden.c: seccomp (Documentation/userspace-api/seccomp_filter.rst). The filter is a plain list of comparisons: the kernel
 * caches "always allowed" calls in a bitmap (since 5.11), so its length costs nothing per call. */
#include "proxy/harden.h"

#include "lib/base.h"
#include "lib/harden.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define ARCH AUDIT_ARCH_AARCH64
#else
#error "add the audit architecture of this machine"
#endif

static const int worker_calls[] = {
#define ALLOW(call) __NR_##call,
#define ALLOW_SUPERVISOR(call)
#include "proxy/harden.tbl.h"
#undef ALLOW
#undef ALLOW_SUPERVISOR
};
static const int supervisor_calls[] = {
#define ALLOW(call)
#define ALLOW_SUPERVISOR(call) __NR_##call,
#include "proxy/harden.tbl.h"
#undef ALLOW
#undef ALLOW_SUPERVISOR
};

#define HEAD_LEN   4
#define FILTER_MAX (HEAD_LEN + 2 * (ARRAY_LEN(worker_calls) + ARRAY_LEN(supervisor_calls)) + 1)

static size_t allow(struct sock_filter *f, size_t n, const int *calls, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		f[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)calls[i], 0, 1);
		f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	return n;
}

bool harden_syscalls(bool supervisor, struct err *err)
{
	if (HARDEN_SANITIZED)
		return true;
	struct sock_filter f[FILTER_MAX] = {
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, arch)),
	    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCH, 1, 0),
	    BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
	    BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
	};
	size_t n = allow(f, HEAD_LEN, worker_calls, ARRAY_LEN(worker_calls));
	if (supervisor)
		n = allow(f, n, supervisor_calls, ARRAY_LEN(supervisor_calls));
	f[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
	struct sock_fprog prog = {.len = (unsigned short)n, .filter = f};
	if (syscall(__NR_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &prog) != 0)
		return err_errno(err, "installing the system call filter");
	return true;
}
