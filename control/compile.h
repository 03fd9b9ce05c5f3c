/* SPDX-License-Identifier: Apache-2.0 */
/* compile.h: from what users applied and what workloads registered to the resources that are pushed. Incremental: a change
 * touches what depends on it and nothing else; what changed since the last time is compiled once, in compile_flush(). Knows no
 * proxies, no store and no streams. */
#ifndef WEFT_CONTROL_COMPILE_H
#define WEFT_CONTROL_COMPILE_H

#include "control/pushed.h"
#include "control/registry.h"

#define COMPILE_ENDPOINTS_MAX      10000  /* of one service; proxies take no more */
#define COMPILE_ENDPOINT_PORTS_MAX 100000 /* of all endpoints of a service together */

struct compile;

struct compile_hooks {
	/* New, or perhaps changed; res is borrowed. */
	void (*set)(void *ctx, struct pushed *res);
	void (*remove)(void *ctx, enum pushed_type type, const char *key);
	/* Something is odd and was left out; text names it. */
	void (*warn)(void *ctx, const char *text);
	/* Call compile_flush() at the end of this turn. May come more than once a turn. */
	void (*on_dirty)(void *ctx);
};

struct compile *compile_new(const struct compile_hooks *hooks, void *ctx);
void compile_free(struct compile **c); /* says nothing of what it made */

/* An object of the store as it is now; body NULL: deleted. Keeps a reference. Other kinds are none of its business. False and
 * err: not to be read (a store written by a later version); what it was before stays in force. */
bool compile_object(struct compile *c, const char *kind, const char *ns, const char *name, json_t *body,
		    struct err *err);
/* A workload is new or has changed. w is borrowed until compile_workload_gone(). */
void compile_workload(struct compile *c, const struct registry_workload *w);
void compile_workload_gone(struct compile *c, const struct registry_workload *w);
/* roots: DER. */
void compile_mesh(struct compile *c, const char *trust_domain, const struct cidr *cidrs, size_t n_cidrs,
		  const struct str *roots, size_t n_roots);

/* Compiles for about so many microseconds. False: there is more to do, call it in another turn; what was handed to the hooks by then
 * is a part of the whole and not to be pushed. Changes may come in between; after 100 calls in a row that left something, the next one
 * leaves nothing, however long it takes. */
bool compile_flush(struct compile *c, uint64_t budget_us);

size_t compile_services(const struct compile *c);

#endif
