/* SPDX-License-Identifier: Apache-2.0 */
/* kind.h: the kinds of objects that users apply: a row each in kind.tbl.h, a `const struct kind` each in kind_*.c. From a
 * JSON object as a file or the API gave it to one that is checked and normalised, or to an error with field path, value
 * and what was expected. Kinds that Weft will have but does not have yet are refused by name. Includes no transport. */
#ifndef WEFT_CONTROL_KIND_H
#define WEFT_CONTROL_KIND_H

#include "control/store.h"
#include "lib/err.h"

#include <jansson.h>

#define KIND_COLUMNS_MAX 10

struct kind {
	const char *name;        /* "Service" */
	const char *plural;      /* "services", as `weft get` and the API say */
	const char *short_name;  /* "svc" */
	const char *api_version; /* "v1", "discovery.k8s.io/v1" */
	/* Fields beside apiVersion, kind and metadata, NULL-terminated. */
	const char *const *fields;
	/* Checks `in` (whole object) and adds the normalised fields to `out`, which has apiVersion, kind and metadata. */
	bool (*check)(const json_t *in, json_t *out, struct err *err);
	/* What weftd says of an object (its `status`), from what the store has now; NULL: nothing. A new reference. */
	json_t *(*status)(struct store *s, const json_t *object);
	store_admit_fn *admit; /* NULL: nothing to complete within the store's transaction */
	/* `weft get`: headings (NULL-terminated) behind NAMESPACE and NAME; the first `columns_short` without -o wide. */
	const char *const *columns;
	size_t columns_short;
	void (*cell)(const json_t *object, size_t column, char *out, size_t out_size);
};

extern const struct kind kind_service, kind_endpointslice, kind_httproute;

/* NULL and err: "not supported yet" for a known name of the future, else "unknown kind" with the nearest name. By kind,
 * plural or short name, any case. */
const struct kind *kind_find(const char *name, struct err *err);
const struct kind *kind_at(size_t i); /* NULL behind the last */

/* A checked object: strings point into body. */
struct object {
	const struct kind *kind;
	const char *ns, *name;
	json_t *body; /* normalised; json_decref by the caller */
};
/* default_ns: for objects that name none ("default"). Errors begin with "Kind ns/name: field path: ...". */
bool object_check(const json_t *in, const char *default_ns, struct object *ret, struct err *err);
/* metadata.<map> (labels, annotations) of a normalised object; NULL when absent. Borrowed. */
const json_t *object_meta(const json_t *object, const char *map);
/* Checks a map of label keys and values ("app.kubernetes.io/name": "orders"); at names it in errors. */
struct jpath;
bool labels_check(const json_t *labels, const struct jpath *at, struct err *err);

#endif
