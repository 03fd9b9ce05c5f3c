/* SPDX-License-Identifier: Apache-2.0 */
/* fdtable.h: room for descriptors. The kernel doubles a process's table of them when a descriptor does not fit any more, and where several
 * threads share it the one that opened it waits for all processors to have left the old one (expand_fdtable() in fs/file.c: synchronize_rcu()), 10
 * to 30 ms. */
#ifndef WEFT_LIB_FDTABLE_H
#define WEFT_LIB_FDTABLE_H

#include "lib/base.h"

/* Makes room for `n` descriptors, or for as many as RLIMIT_NOFILE allows: to be called before the first thread is made. Costs 8 bytes of the
 * kernel's memory for each. Without it, or when the kernel refuses, the table grows as it must. */
void fdtable_reserve(unsigned n);

#endif
