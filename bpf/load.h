/* SPDX-License-Identifier: Apache-2.0 */
/* load.h: the eBPF programs in the kernel, and the links that keep them attached. A link is pinned under its program's name; when a later
 * build brings another program the link is switched over atomically, so there is no moment without one. */
#ifndef WEFT_BPF_LOAD_H
#define WEFT_BPF_LOAD_H

#include "bpf/node.h"

#include <bpf/libbpf.h>

struct weft_bpf; /* the skeleton */

/* Loads every program for the network namespace `cookie`; shared maps are made and pinned, or taken from their pins. The objects go with
 * load_close(), what was pinned stays. */
struct weft_bpf *load_open(const struct node *n, uint64_t cookie, struct err *err);
void load_close(struct weft_bpf **s);

bool load_attach_shared(struct weft_bpf *s, const struct node *n, struct err *err);
/* The steering of one namespace (this process's). */
bool load_attach_netns(struct weft_bpf *s, const struct node *n, uint64_t cookie, struct err *err);
/* The proxy's socket options, on its cgroup. */
bool load_attach_proxy(struct weft_bpf *s, const struct node *n, uint64_t cookie, int cgroup, struct err *err);
bool load_set_listener(struct weft_bpf *s, int fd, struct err *err); /* where inbound connections go */

/* What a pinned link says of itself; false: no such pin. */
struct load_link {
	uint32_t prog_id;
	uint8_t tag[8];
	bool attached; /* false: its namespace or cgroup is gone */
};
bool load_link_read(const char *pin, struct load_link *ret);

extern const char *const load_shared_names[]; /* NULL-terminated */

#endif
