/* SPDX-License-Identifier: Apache-2.0 */
/* compile_route.h: which routes are attached to which services, and which services they lead to. Private to compile*.c. */
#ifndef WEFT_CONTROL_COMPILE_ROUTE_H
#define WEFT_CONTROL_COMPILE_ROUTE_H

#include "control/compile_pack.h"
#include "control/kind_httproute.h"
#include "lib/list.h"
#include "lib/map.h"

#define COMPILE_ROUTES_MAX 64 /* attached to one service; the oldest count */

/* A namespace as far as selectors and routes go. */
struct space {
	struct map_node node;
	struct list services, workloads;
	char name[];
};

struct c_service {
	struct map_node node; /* compile.services, by "namespace/name" */
	struct list in_space;
	struct list dirty;   /* compile.dirty, or unlinked */
	struct list changed; /* compile.changed, or unlinked: itself */
	struct list slices;  /* c_slice.in_service; also of a service that is not there (yet) */
	struct list refs;    /* c_ref.in_service: routes that speak of it; also when it is not there (yet) */
	struct space *space;
	json_t *body;           /* NULL: only slices and routes speak of it */
	struct service s;       /* borrows from body */
	struct pushed *service; /* the resource of `s`, as far as it was made */
	bool attached;          /* its manifest may be another: itself, its routes, or where they lead */
	bool moved;             /* its endpoints */
	char key[];
};

/* That a route names a service: as a parent, as a backend, or as both. */
struct c_ref {
	struct list in_service;
	struct c_service *service;
	struct c_route *route;
	bool parent, backend;
};

struct c_route {
	struct map_node node; /* compile.routes, by "namespace/name" */
	struct list dirty;    /* compile.dirty_routes, or unlinked */
	json_t *body;
	struct httproute r;      /* borrows from body */
	struct pushed *resource; /* as far as it was made */
	struct c_ref *refs;
	size_t n_refs;
	char key[];
};

/* The service of this name in the route's namespace among those it refers to; NULL: there is none. */
const struct service *route_service(const struct c_route *route, const char *name);
/* Makes the Route resource anew. False: it is the same as before. */
bool route_pack(struct c_route *route);
/* The manifest of a service that is there. *ret_left_out: routes beyond the limit. */
struct pushed *route_manifest(const struct c_service *sv, size_t *ret_left_out);

#endif
