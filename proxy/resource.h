/* SPDX-License-Identifier: Apache-2.0 */
/* resource.h: one pushed resource, checked. What comes in is bytes of a peer (weftd, the copy on disk, -f): here every field
 * is bounded and read strictly, and an unknown field is a refusal; what comes out can be built into a snapshot without
 * further questions. It does not know which resources belong together (catalog.c). */
#ifndef WEFT_PROXY_RESOURCE_H
#define WEFT_PROXY_RESOURCE_H

#include "lib/sock.h"
#include "lib/str.h"
#include "proxy/snapshot.h"

#define RESOURCE_NAME_MAX           320 /* "namespace/name" */
#define RESOURCE_VERSION_MAX        128
#define RESOURCE_ALIASES_MAX        64
#define RESOURCE_VIPS_MAX           16
#define RESOURCE_PORTS_MAX          256
#define RESOURCE_ENDPOINTS_MAX      10000
#define RESOURCE_ENDPOINT_PORTS_MAX 100000 /* of all endpoints of a service together */
#define RESOURCE_ENTRIES_MAX        20000  /* of a manifest: 64 routes with all their backends */
#define RESOURCE_PARENTS_MAX        32
#define RESOURCE_RULES_MAX          16 /* of a route */
#define RESOURCE_MATCHES_MAX        64 /* of a rule */
#define RESOURCE_FIELDS_MAX         16 /* headers, or parameters of the query, of a match */
#define RESOURCE_BACKENDS_MAX       16 /* of a rule */
#define RESOURCE_MATCH_TEXT_MAX     4096
#define RESOURCE_CIDRS_MAX          64
#define RESOURCE_ROOTS_MAX          16
#define RESOURCE_WEIGHT_MAX         1000000

#define RESOURCE_TYPE_PREFIX        "type.googleapis.com/weft.v1."
#define RESOURCE_BY_ADDRESS         NULL /* subscribed to as "addr:IP" when something first connects there */
#define RESOURCE_BY_NAME            ""   /* subscribed to by its name when a manifest lists it */

enum resource_type {
#define RESOURCE(name, message, descriptor, followed) RESOURCE_##name,
#include "proxy/resource.tbl.h"
#undef RESOURCE
	RESOURCE_COUNT
};
const char *resource_type_name(enum resource_type t); /* "Service" */
const char *resource_type_url(enum resource_type t);  /* "type.googleapis.com/weft.v1.Service" */
const char *resource_followed(enum resource_type t);  /* the name subscribed to at once, or RESOURCE_BY_... */
bool resource_on_demand(enum resource_type t);        /* followed by address or name, not at once */
bool resource_type_parse(struct str url, enum resource_type *ret);

enum resource_origin {
	RESOURCE_PUSHED,
	RESOURCE_FILE, /* -f: what the operator of this machine wrote may also name loopback addresses */
};

struct resource { /* immutable, counted, one allocation; main thread only */
	unsigned refs;
	enum resource_type type;
	enum resource_origin origin;
	const char *name;    /* "namespace/name", "self", "mesh" */
	const char *version; /* never empty */
	size_t n_aliases;
	const struct ip *aliases; /* of "addr:IP"; other kinds of alias are dropped */
	struct str bytes;         /* the packed message, as it came */
};

struct resource_from { /* what a resource is made of; borrowed for the call */
	enum resource_type type;
	enum resource_origin origin;
	struct str name, version, bytes;
	const struct str *aliases;
	size_t n_aliases;
};
/* Checks everything. NULL and err (ERR_INVALID, ERR_LIMIT) with field, value and what was expected; the name is not in the text. */
struct resource *resource_new(const struct resource_from *from, struct err *err);
struct resource *resource_ref(struct resource *r);
void resource_unref(struct resource **r);

/* The message inside, as protobuf-c struct of its type; never NULL (it was checked). Free with resource_message_free. */
void *resource_message(const struct resource *r);
void resource_message_free(const struct resource *r, void *message);

/* "addr:IP" in its one canonical spelling. */
#define RESOURCE_ALIAS_MAX (5 + IP_TEXT_MAX)
const char *resource_alias(const struct ip *ip, char out[static RESOURCE_ALIAS_MAX]);
bool resource_alias_parse(struct str s, struct ip *ret);
bool resource_ip(const uint8_t *bytes, size_t len, struct ip *ret); /* 4 or 16 bytes, not v4-mapped */

#endif
