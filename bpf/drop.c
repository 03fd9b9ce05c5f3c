/* SPDX-License-Identifier: Apache-2.0 */
/* drop.c: see drop.h. */
#include "bpf/drop.h"

#include "bpf/abi.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* The kernel says where its capabilities end: EINVAL. */
static bool empty_bounding_set(struct err *err)
{
	for (unsigned long cap = 0; cap < 64; cap++) {
		if (prctl(PR_CAPBSET_READ, cap) < 0)
			return cap > 0 || err_errno(err, "the bounding set cannot be read");
		if (prctl(PR_CAPBSET_DROP, cap, 0, 0, 0))
			return err_errno(err, "the bounding set cannot be emptied (CAP_SETPCAP)");
	}
	return true;
}

static bool become_nobody(struct err *err)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct none[2] = {{0}};

	if (prctl(PR_SET_KEEPCAPS, 0, 0, 0, 0) || prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0))
		return err_errno(err, "prctl");
	if (syscall(SYS_setgroups, 0, NULL))
		return err_errno(err, "the groups cannot be dropped (CAP_SETGID)");
	if (setresgid(WEFT_UID, WEFT_UID, WEFT_UID) || setresuid(WEFT_UID, WEFT_UID, WEFT_UID))
		return err_errno(err, "UID %d cannot be taken (CAP_SETUID, CAP_SETGID)", WEFT_UID);
	if (syscall(SYS_capset, &head, none))
		return err_errno(err, "capset");
	return true;
}

static bool harden(struct err *err)
{
	struct rlimit none = {0, 0};

	if (setrlimit(RLIMIT_CORE, &none) || prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) ||
	    prctl(PR_SET_DUMPABLE, 0, 0, 0, 0))
		return err_errno(err, "prctl");
	return true;
}

/* Not what the calls said: what is. */
static bool is_dropped(void)
{
	struct __user_cap_header_struct head = {.version = _LINUX_CAPABILITY_VERSION_3};
	struct __user_cap_data_struct now[2], none[2] = {{0}};
	uid_t r, e, s;
	gid_t rg, eg, sg;

	if (syscall(SYS_capget, &head, now) || memcmp(now, none, sizeof(none)))
		return false;
	if (getresuid(&r, &e, &s) || r != WEFT_UID || e != WEFT_UID || s != WEFT_UID)
		return false;
	if (getresgid(&rg, &eg, &sg) || rg != WEFT_UID || eg != WEFT_UID || sg != WEFT_UID)
		return false;
	for (unsigned long cap = 0; cap < 64; cap++) {
		if (prctl(PR_CAPBSET_READ, cap) == 1)
			return false;
	}
	return getgroups(0, NULL) == 0 && prctl(PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1;
}

bool drop_privileges(struct err *err)
{
	if (!empty_bounding_set(err) || !become_nobody(err) || !harden(err))
		return false;
	return is_dropped() || err_set(err, ERR_DENIED, "privileges are left after dropping them; nothing was started");
}
