/* SPDX-License-Identifier: Apache-2.0 */
/* pushed.h: one resource as it goes to proxies: packed once, immutable and counted, the same bytes for everyone who may see
 * it. Made by compile.c, kept and sent by push.c. Knows neither stores nor streams. */
#ifndef WEFT_CONTROL_PUSHED_H
#define WEFT_CONTROL_PUSHED_H

#include "lib/sock.h"
#include "lib/str.h"

#define PUSHED_TYPE_PREFIX "type.googleapis.com/weft.v1."
#define PUSHED_NAME_MAX    512 /* bytes of a name or alias */
#define PUSHED_VERSION_LEN 16  /* hex digits: the first 8 bytes of a SHA-256 */
#define PUSHED_ALIAS_MAX   (5 + IP_TEXT_MAX)

enum pushed_type {
#define PUSHED(name, message) PUSHED_##name,
#include "control/pushed.tbl.h"
#undef PUSHED
	PUSHED_TYPES
};

struct pushed {
	unsigned refs;
	enum pushed_type type;
	const char *key;  /* unique within the type: the name, but for Self "namespace/instance" */
	const char *name; /* on the wire */
	const char *const *aliases;
	size_t n_aliases;
	char version[PUSHED_VERSION_LEN + 1]; /* hash of value and aliases */
	struct str packed;                    /* the xDS Resource message */
};

/* value: the packed weft.v1 message. key NULL: the name. Everything is copied. */
struct pushed *pushed_new(enum pushed_type type, const char *key, const char *name, const char *const *aliases,
			  size_t n_aliases, struct str value);
struct pushed *pushed_ref(struct pushed *r);
void pushed_unref(struct pushed **r);

const char *pushed_type_url(enum pushed_type type);
const char *pushed_type_label(enum pushed_type type); /* "Service" */
bool pushed_type_of(struct str type_url, enum pushed_type *ret);
/* "addr:10.1.0.2", in the one form that inet_ntop makes. */
const char *pushed_alias(const struct ip *ip, char out[static PUSHED_ALIAS_MAX]);

#endif
