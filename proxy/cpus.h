/* SPDX-License-Identifier: Apache-2.0 */
/* cpus.h: how many processors this process may use: what `--threads auto` means. */
#ifndef WEFT_PROXY_CPUS_H
#define WEFT_PROXY_CPUS_H

/* The quota of the cgroup, rounded up, but at most the processors that are online and that this process may run on. At least 1. */
unsigned cpus_allowed(void);
/* The quota alone: the least of this process's cgroup and those above it, version 2 (cpu.max) and version 1 (cpu.cfs_quota_us), as far as
 * they are mounted. 0: none. The files are those of proc(5): /proc/self/cgroup and /proc/self/mountinfo. */
unsigned cpus_quota(const char *cgroup, const char *mountinfo);

#endif
