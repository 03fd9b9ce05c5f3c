/* SPDX-License-Identifier: Apache-2.0 */
/* kind_httproute.h: a normalised `gateway.networking.k8s.io/v1` HTTPRoute: to which ports of which services it is attached, and
 * whether its backends are there. Services are looked up by the caller, who has them in memory (compile.c) or in the store. */
#ifndef WEFT_CONTROL_KIND_HTTPROUTE_H
#define WEFT_CONTROL_KIND_HTTPROUTE_H

#include "control/kind_service.h"

#define HTTPROUTE_PARENTS_MAX  32 /* as the Gateway API has it */
#define HTTPROUTE_RULES_MAX    16
#define HTTPROUTE_MATCHES_MAX  64 /* of a rule */
#define HTTPROUTE_BACKENDS_MAX 16 /* of a rule */
#define HTTPROUTE_FIELDS_MAX   16 /* headers or queryParams of a match */
#define HTTPROUTE_WEIGHT_MAX   1000000

struct httproute_parent {
	const char *name;    /* of a Service of the route's namespace */
	const char *section; /* name of a port; "": none given */
	uint16_t port;       /* 0: none given */
};
struct httproute { /* borrows from the object */
	const char *ns, *name;
	int64_t created; /* seconds since 1970 */
	struct httproute_parent parents[HTTPROUTE_PARENTS_MAX];
	size_t parents_len;
	const json_t *rules; /* as normalised: every default is there */
};
/* False only for an object that object_check() and the store did not make. */
bool httproute_read(const json_t *object, struct httproute *ret, struct err *err);

/* Which ports of the service the parent means: *ret_port 0: all. s NULL: there is no such service. False and err (why not). */
bool httproute_attach(const struct httproute_parent *p, const struct service *s, uint16_t *ret_port, struct err *err);
/* Whether a backendRef leads anywhere. s: the service of its name, or NULL. */
bool httproute_resolve(const json_t *backend, const struct service *s, struct err *err);

#endif
