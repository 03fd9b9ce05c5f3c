/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_build.h: how config.c makes snapshots and their counted parts. Readers use snapshot.h and nothing of this.
 * Each part is one allocation that holds copies of all its text, so that it outlives what it was made of. */
#ifndef WEFT_PROXY_SNAPSHOT_BUILD_H
#define WEFT_PROXY_SNAPSHOT_BUILD_H

#include "proxy/snapshot.h"

/* Copies n endpoints with their text. */
struct endpoint_set *endpoint_set_new(const struct endpoint *v, size_t n);
bool endpoint_set_eq(const struct endpoint_set *a, const struct endpoint_set *b);

/* Copies `like`; each port's endpoint set and the routes get one more reference. */
struct service *service_new(const struct service *like);
struct service *service_ref(struct service *s);
void service_unref(struct service **s);

struct workload *workload_new(const struct workload *like);
struct workload *workload_ref(struct workload *w);
void workload_unref(struct workload **w);

struct snapshot_parts {
	uint64_t serial;
	const char *trust_domain; /* NULL or "": not known yet */
	bool mesh_known;          /* cidrs count; false: any address may be inside */
	bool can_ask;             /* somebody can be asked about an unknown address */
	const struct cidr *cidrs;
	size_t n_cidrs;
	const struct inbound_port *inbound;
	size_t n_inbound;
	/* Where two claim one address the later one in the array wins; services go before workloads. */
	struct service *const *services;
	size_t n_services;
	struct workload *const *workloads;
	size_t n_workloads;
	const struct ip *nothing; /* addresses answered "nothing there" */
	size_t n_nothing;
};
/* Takes references of services and workloads, copies the rest. */
struct snapshot *snapshot_new(const struct snapshot_parts *p);

#endif
