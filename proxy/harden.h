/* SPDX-License-Identifier: Apache-2.0 */
/* harden.h: what the proxy takes away from itself: core dumps, being traced by its own user, new privileges, and every system call
 * that it does not need. Capabilities are gone already (weft-capture); nothing here needs one. */
#ifndef WEFT_PROXY_HARDEN_H
#define WEFT_PROXY_HARDEN_H

#include "lib/err.h"

/* no_new_privs, not dumpable, RLIMIT_CORE 0. prctl(2). */
bool harden_process(struct err *err);
/* The filter of harden.tbl.h on all threads, for good. Before threads are started and after everything is set up. A sanitizer build
 * needs calls of its own and goes without: false is only returned when the kernel refuses. */
bool harden_syscalls(bool supervisor, struct err *err);

#endif
