/* SPDX-License-Identifier: Apache-2.0 */
/* compile_pack.h: the messages of weft.proto out of what compile.c found. Same content, same bytes: lists are sorted.
 * Private to compile*.c. */
#ifndef WEFT_CONTROL_COMPILE_PACK_H
#define WEFT_CONTROL_COMPILE_PACK_H

#include "control/compile.h"
#include "control/kind.h"
#include "control/kind_endpointslice.h"
#include "control/kind_httproute.h"
#include "control/kind_service.h"

struct pushed *pack_service(const struct service *s);
/* Of what belongs together: the service's own resource, routes, services that they lead to; in the order of type and name. */
struct pushed *pack_manifest(const struct service *s, const struct pushed *const *entries, size_t n);

struct pack_parent {
	const char *service; /* its name, in the route's namespace */
	uint16_t port;       /* 0: all */
};
/* find: the service of a name in the route's namespace; NULL: there is none. */
struct pushed *pack_route(const struct httproute *r, const struct pack_parent *parents, size_t n_parents,
			  const struct service *(*find)(const void *ctx, const char *name), const void *ctx);
struct pushed *pack_workload(const struct registry_workload *w);
struct pushed *pack_self(const struct registry_workload *w);
struct pushed *pack_mesh(const char *trust_domain, const struct cidr *cidrs, size_t n_cidrs, const struct str *roots,
			 size_t n_roots);

struct pack_endpoints;
struct pack_endpoints *pack_endpoints_new(const struct service *s);
/* One address. w: the workload that registered from it, or NULL. slice and e: the slice that names it, or NULL when the
 * service's selector found w. Everything is borrowed until finish. */
void pack_endpoints_add(struct pack_endpoints *p, const struct ip *ip, const struct registry_workload *w,
			const struct slice *slice, const struct slice_endpoint *e);
/* *ret_left_out: endpoints beyond the limits. Frees p. */
struct pushed *pack_endpoints_finish(struct pack_endpoints **p, size_t *ret_left_out);

#endif
