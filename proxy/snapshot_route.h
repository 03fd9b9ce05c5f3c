/* SPDX-License-Identifier: Apache-2.0 */
/* snapshot_route.h: the routes of one service as the snapshot holds them: every match of every rule of every route attached to it, in the
 * order of precedence of the Gateway API. Immutable and counted; a service has one table, or none. route.h asks them. */
#ifndef WEFT_PROXY_SNAPSHOT_ROUTE_H
#define WEFT_PROXY_SNAPSHOT_ROUTE_H

#include "lib/arena.h"
#include "lib/proto/weft.pb-c.h"
#include "proxy/snapshot.h"

#include <jansson.h>

struct route_backend {
	const struct service *service;   /* the table holds a reference; NULL: missing */
	const struct service_port *port; /* of that service; NULL: missing */
	uint32_t weight;
};

struct route_rule {
	const char *route; /* "namespace/name" */
	uint64_t total;    /* of the weights */
	size_t n_backends;
	struct route_backend *backends;
};

struct route_field {
	struct str name, value;
};

struct route_match {
	uint16_t port;     /* of the service; 0: any */
	bool exact;        /* the whole path; else its first segments */
	struct str path;   /* a prefix has no "/" at its end, so "/" is "" */
	struct str method; /* empty: any */
	size_t n_headers, n_query;
	struct route_field *headers, *query;
	const struct route_rule *rule;
	int64_t created; /* seconds; for the order only */
	size_t order;    /* as it came */
};

struct route_table {
	unsigned refs;
	struct arena arena; /* all of it but the services */
	size_t n_matches, n_backends;
	struct route_match *matches; /* what goes first stands first */
	struct service **backends;
};
struct route_table *route_table_ref(struct route_table *t);
void route_table_unref(struct route_table **t);

/* Whether any route speaks of this port: it is HTTP then, whatever the client's first bytes. */
bool route_has_port(const struct route_table *t, uint16_t port);
/* Every match in the order in which they are tried, with where it leads: for operators. A new reference. */
json_t *route_table_dump(const struct route_table *t);

struct route_part {
	const char *name; /* of the resource */
	const Weft__V1__Route *route;
};
/* Of the routes those rules that are attached to the service. backends: every service that they may lead to; what is not among
 * them is missing. All is copied, but the services, which get a reference. NULL: nothing is attached. */
struct route_table *route_table_new(const char *service, const struct route_part *routes, size_t n,
				    struct service *const *backends, size_t n_backends);

#endif
