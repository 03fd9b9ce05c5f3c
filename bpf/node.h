/* SPDX-License-Identifier: Apache-2.0 */
/* node.h: where things are on this machine: the cgroup2 root, bpffs and our pins in it, this network namespace. Mounts bpffs when it is
 * missing. Works inside `ip netns exec` too, which hides both mounts behind a fresh /sys: then they are reached through the nearest ancestor process
 * that sees them. */
#ifndef WEFT_BPF_NODE_H
#define WEFT_BPF_NODE_H

#include "bpf/spec.h"

#include <limits.h>

#define NODE_PATH_MAX 512

struct node {
	char cgroup[NODE_PATH_MAX];  /* mount point of cgroup2 */
	char proxies[NODE_PATH_MAX]; /* cgroup2 folder in which each proxy has one */
	char pins[NODE_PATH_MAX];    /* our folder in bpffs */
	int lock;                    /* folder fd holding the lock, or -1 */
};

struct netns {
	uint64_t cookie;
	uint32_t ino;
	struct ip addr4, addr6; /* own addresses outside loopback and link-local; len 0: none */
	bool ipv6;              /* ::1 can be bound */
	bool loopback;          /* lo is up: without it no captured connection arrives */
	/* The machine's own namespace, where remote logins live: why it is taken for that, or NULL. It is the kernel's first one, the one
	 * of an init process that is process 1 here (a system container), or one of which that cannot be told. */
	const char *host;
};

/* `make`: mounts bpffs and makes the pin folder when missing, and takes the lock (one weft-capture changes a node at a time; freed when
 * the process ends or execs). Without: an absent pin folder is ERR_NOT_FOUND. */
bool node_open(const struct options *o, bool make, struct node *ret, struct err *err);
bool node_find_cgroup2(char ret[static NODE_PATH_MAX]);
bool node_find_bpffs(char ret[static NODE_PATH_MAX]); /* where it is mounted, or (false) where it should be */

bool netns_read(struct netns *ret, struct err *err);

/* "<pins>/ns/<cookie>[/leaf]" */
void node_ns_path(const struct node *n, uint64_t cookie, const char *leaf, char ret[static NODE_PATH_MAX]);
/* "<proxies>/<instance>[/leaf]" */
void node_proxy_path(const struct node *n, const char *instance, const char *leaf, char ret[static NODE_PATH_MAX]);
/* Whether processes live in the proxy's cgroup. */
bool node_proxy_runs(const struct node *n, const char *instance);

bool path_join(char ret[static NODE_PATH_MAX], const char *fmt, ...) PRINTF_LIKE(2, 3); /* false: too long */
bool path_make(const char *path, unsigned mode, struct err *err);                       /* mkdir -p */

#endif
