/* SPDX-License-Identifier: Apache-2.0 */
/* harden.c: prctl and rlimit. */
#include "lib/harden.h"

#include <sys/prctl.h>
#include <sys/resource.h>

bool harden_process(struct err *err)
{
	const struct rlimit none = {0, 0};
	if (!HARDEN_SANITIZED && prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0)
		return err_errno(err, "making the process not dumpable");
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
		return err_errno(err, "setting no_new_privs");
	if (setrlimit(RLIMIT_CORE, &none) != 0)
		return err_errno(err, "forbidding core dumps");
	return true;
}
