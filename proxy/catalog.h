/* SPDX-License-Identifier: Apache-2.0 */
/* catalog.h: the resources that this proxy holds, by type and name, each at its last good version, and what they amount to:
 * a service becomes visible, or changes, only when its manifest is complete. It does not know addresses that are asked for,
 * waiters or snapshots (config.c), nor the protocol that brings resources (subscribe.c). */
#ifndef WEFT_PROXY_CATALOG_H
#define WEFT_PROXY_CATALOG_H

#include "proxy/resource.h"

struct catalog;

struct catalog *catalog_new(void);
void catalog_free(struct catalog **c);

/* Holds r (takes the reference over) instead of the version before. False when it is the very version held already. */
bool catalog_put(struct catalog *c, struct resource *r);
/* `version` of this resource was refused: where a manifest lists it, the last good one counts. */
void catalog_refused(struct catalog *c, enum resource_type t, struct str name, struct str version);
void catalog_remove(struct catalog *c, enum resource_type t, struct str name);
/* Removes what is held of this type at an address. */
void catalog_remove_at(struct catalog *c, enum resource_type t, const struct ip *ip);
/* It is known that no Endpoints are at this address: a service there is complete without. */
void catalog_no_endpoints(struct catalog *c, const struct ip *ip);
/* Drops every resource of the types followed on demand that is not `followed`. */
void catalog_drop_unfollowed(struct catalog *c, bool (*followed)(void *ctx, const struct resource *r), void *ctx);

/* What a manifest lists beside its own service, each with the Endpoints of a Service; and what all that are held or in force
 * list (a name may come more than once). fn may not change the catalog. */
void catalog_listed(const struct resource *manifest, void (*fn)(void *ctx, enum resource_type t, const char *name),
		    void *ctx);
void catalog_each_listed(const struct catalog *c, void (*fn)(void *ctx, enum resource_type t, const char *name),
			 void *ctx);

/* Builds what has changed since the last call: complete services and workloads. True when something did. */
bool catalog_settle(struct catalog *c);

const struct resource *catalog_get(const struct catalog *c, enum resource_type t,
				   struct str name); /* last good, or NULL */
size_t catalog_len(const struct catalog *c);
/* In the order in which they came. fn may not change the catalog. */
void catalog_each(const struct catalog *c, void (*fn)(void *ctx, const struct resource *r), void *ctx);

/* The same for what the data path goes by: services only as far as they are visible, with
 * the manifest that made them so and what it lists. Manifests come first; a resource may come more than once. */
void catalog_each_in_force(const struct catalog *c, void (*fn)(void *ctx, const struct resource *r), void *ctx);

/* What is visible after catalog_settle(), oldest first; arrays by mem_free, what they point to is borrowed. */
struct service **catalog_services(const struct catalog *c, size_t *ret_n);
struct workload **catalog_workloads(const struct catalog *c, size_t *ret_n);
/* Why a held service is not visible at its held version, for operators: "" when it is. */
const char *catalog_pending(const struct catalog *c, const struct resource *r);

#endif
