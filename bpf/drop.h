/* SPDX-License-Identifier: Apache-2.0 */
/* drop.h: gives every privilege away, for good, and proves it. */
#ifndef WEFT_BPF_DROP_H
#define WEFT_BPF_DROP_H

#include "lib/err.h"

/* UID and GID 4800, no groups, all capability sets and the bounding set empty, no_new_privs, no core dumps, not dumpable (execve makes a
 * process dumpable again: the proxy repeats that). On false the process may be anything in between and must end. */
bool drop_privileges(struct err *err);

#endif
