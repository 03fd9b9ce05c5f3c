/* SPDX-License-Identifier: Apache-2.0 */
/* cgroup.h: the memory limit that the kernel sets this process. */
#ifndef WEFT_PROXY_CGROUP_H
#define WEFT_PROXY_CGROUP_H

#include "lib/base.h"

/* The smallest memory limit of the process's cgroup and those above it, as far as they are mounted: v2 (memory.max) and v1
 * (memory.limit_in_bytes), whichever is smaller where both are there. 0: none, or nothing that can be read. `root`: before /proc and before the
 * mount points, "" but in tests. */
size_t cgroup_memory_limit(const char *root);

#endif
