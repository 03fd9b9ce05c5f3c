/* SPDX-License-Identifier: Apache-2.0 */
/* workload.h: the rows of a workload in the pinned maps. One row of `workloads` decides whether a namespace is meshed, in both directions
 * at once; every other row is read only through it. */
#ifndef WEFT_BPF_WORKLOAD_H
#define WEFT_BPF_WORKLOAD_H

#include "bpf/node.h"

enum workload_map { MAP_WORKLOADS, MAP_TOKENS, MAP_PORTS, MAP_CIDRS, MAP_DIRECT, MAP_COUNT };

struct maps {
	int fd[MAP_COUNT];
};

bool maps_open(const struct node *n, struct maps *ret, struct err *err); /* the pinned ones; close with maps_close */
void maps_close(struct maps *m);

/* Replaces what the namespace excludes and lists, and its token. Takes effect at workload_mesh() when it is not meshed yet. What is both in the
 * old and in the new description is in force throughout. */
bool workload_describe(const struct maps *m, const struct netns *ns, const struct spec *s,
		       const uint8_t token[WEFT_TOKEN_LEN], struct err *err);
/* From here on nothing enters or leaves in plaintext (in the machine's own namespace: what is listed, until deadline_ns; 0: no deadline). Counters
 * of a workload that was there go on. `list`: list_sum() of the spec. */
bool workload_mesh(const struct maps *m, const struct netns *ns, const struct spec *s, uint64_t list,
		   uint64_t deadline_ns, struct err *err);
/* The opposite; then removes every row of the namespace. *ret_rows: how many there were. */
bool workload_forget(const struct maps *m, uint64_t cookie, size_t *ret_rows, struct err *err);

/* Goes through the workloads: start with *cookie 0; false at the end. */
bool workload_next(const struct maps *m, uint64_t *cookie, struct weft_workload *ret);
/* The workload of that name, or ERR_NOT_FOUND. */
bool workload_find(const struct maps *m, const char *ns, const char *name, uint64_t *ret_cookie,
		   struct weft_workload *ret, struct err *err);
/* Declared ports of a namespace, ascending; returns how many there are (`max` are stored). */
size_t workload_ports(const struct maps *m, uint64_t cookie, uint32_t bit, uint16_t *ret, size_t max);
void workload_instance(const struct weft_workload *w, char ret[static SPEC_INSTANCE_MAX]);
/* An address as the maps hold it, and back. */
void workload_addr(const struct ip *ip, uint32_t ret[4]);
bool workload_ip(const uint32_t addr[4], struct ip *ret); /* false: none */

#endif
