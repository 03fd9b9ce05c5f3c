/* SPDX-License-Identifier: Apache-2.0 */
/* harden.h: the proxy takes every system call from itself that it does not need. Dumps and new privileges are gone before (lib/harden.h), and
 * capabilities too (weft-capture); nothing here needs one. */
#ifndef WEFT_PROXY_HARDEN_H
#define WEFT_PROXY_HARDEN_H

#include "lib/err.h"

/* The filter of harden.tbl.h on all threads, for good. Before threads are started and after everything is set up. A sanitizer build
 * needs calls of its own and goes without: false is only returned when the kernel refuses. */
bool harden_syscalls(bool supervisor, struct err *err);

#endif
