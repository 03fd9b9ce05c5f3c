/* SPDX-License-Identifier: Apache-2.0 */
/* json.h: bounded reading of JSON (jansson) with the path of what is wrong in the error. For policy files, tokens, the
 * API, -f. Unknown fields are refused: "a field that is not understood" must never mean "match all". */
#ifndef WEFT_LIB_JSON_H
#define WEFT_LIB_JSON_H

#include "lib/err.h"
#include "lib/str.h"

#include <jansson.h>

#define JSON_DEPTH_MAX 64

/* Parses one document: duplicate keys refused, depth at most JSON_DEPTH_MAX, nothing behind it. The caller has capped the
 * length. NULL and err with line and column. Free with json_decref. */
json_t *json_read(struct str text, struct err *err);

/* A place within a document, for error texts: "spec.ports[1].port". Lives on the stack of the reader. */
struct jpath {
	const struct jpath *up;
	const char *field; /* NULL: index counts */
	size_t index;
};
/* "spec.ports[1].port" into out, cut with "..." */
const char *jpath_text(const struct jpath *p, char *out, size_t out_size);

/* One field of an object, for json_object_check: every allowed name. */
/* Refuses every field of obj that is not in names (NULL-terminated), naming path, field and the nearest allowed name. */
bool json_fields_known(const json_t *obj, const char *const *names, const struct jpath *at, struct err *err);
/* Typed getters: absent (or null) leaves *ret untouched and returns true, unless `required`. Wrong type or range is
 * refused: "spec.ports[0].port: 70000 is not in 1 to 65535". */
bool json_get_str(const json_t *obj, const char *name, bool required, const struct jpath *at, const char **ret,
		  struct err *err);
bool json_get_int(const json_t *obj, const char *name, bool required, int64_t min, int64_t max, const struct jpath *at,
		  int64_t *ret, struct err *err);
bool json_get_bool(const json_t *obj, const char *name, bool required, const struct jpath *at, bool *ret,
		   struct err *err);
bool json_get_object(const json_t *obj, const char *name, bool required, const struct jpath *at, json_t **ret,
		     struct err *err);
bool json_get_array(const json_t *obj, const char *name, bool required, size_t max_len, const struct jpath *at,
		    json_t **ret, struct err *err);

#endif
