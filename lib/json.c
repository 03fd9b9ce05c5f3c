/* SPDX-License-Identifier: Apache-2.0 */
/* json.c: reading JSON that others wrote. */
#include "lib/json.h"

#include <stdio.h>

/* jansson parses by recursion: the depth is looked at before it sees the text. */
static bool too_deep(struct str text)
{
	unsigned depth = 0;
	bool quoted = false;

	for (size_t i = 0; i < text.len; i++) {
		char c = text.p[i];

		if (quoted) {
			if (c == '\\')
				i++;
			else if (c == '"')
				quoted = false;
		} else if (c == '"') {
			quoted = true;
		} else if (c == '[' || c == '{') {
			if (++depth > JSON_DEPTH_MAX)
				return true;
		} else if ((c == ']' || c == '}') && depth > 0) {
			depth--;
		}
	}
	return false;
}

json_t *json_read(struct str text, struct err *err)
{
	json_error_t je;

	if (too_deep(text)) {
		err_set(err, ERR_LIMIT, "nested deeper than %d levels", JSON_DEPTH_MAX);
		return NULL;
	}
	json_t *root = json_loadb(text.len ? text.p : "", text.len, JSON_REJECT_DUPLICATES, &je);
	if (!root)
		err_set(err, ERR_INVALID, "line %d, column %d: %s", je.line, je.column, je.text);
	return root;
}

const char *jpath_text(const struct jpath *p, char *out, size_t out_size)
{
	const struct jpath *chain[JSON_DEPTH_MAX + 2];
	size_t n = 0, len = 0;

	MUST(out_size >= sizeof("..."));
	out[0] = 0;
	for (; p && n < ARRAY_LEN(chain); p = p->up)
		chain[n++] = p;
	while (n-- > 0) {
		int got = chain[n]->field ? snprintf(out + len, out_size - len, len ? ".%s" : "%s", chain[n]->field)
					  : snprintf(out + len, out_size - len, "[%zu]", chain[n]->index);
		if (got < 0 || (size_t)got >= out_size - len) {
			memcpy(out + out_size - sizeof("..."), "...", sizeof("..."));
			break;
		}
		len += (size_t)got;
	}
	return out;
}

#define PATH_MAX_B 256
#define NAME_MAX_B 64 /* of a field's name in an error text, and for looking for a near one */

/* Levenshtein distance of two names of less than NAME_MAX_B bytes. */
static unsigned distance(const char *a, const char *b)
{
	unsigned row[NAME_MAX_B + 1];
	size_t la = strlen(a), lb = strlen(b);

	for (unsigned j = 0; j <= lb; j++)
		row[j] = j;
	for (unsigned i = 1; i <= la; i++) {
		unsigned diagonal = row[0];
		row[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			unsigned replace = diagonal + (a[i - 1] != b[j - 1]);
			diagonal = row[j];
			row[j] = MIN(replace, MIN(row[j], row[j - 1]) + 1);
		}
	}
	return row[lb];
}

static const char *nearest(const char *name, const char *const *names)
{
	const char *best = NULL;
	unsigned least = 4; /* further away is no typing mistake */

	if (strlen(name) >= NAME_MAX_B)
		return NULL;
	for (; *names; names++) {
		unsigned d = strlen(*names) < NAME_MAX_B ? distance(name, *names) : least;
		if (d < least && d < strlen(name)) {
			least = d;
			best = *names;
		}
	}
	return best;
}

static bool listed(const char *name, const char *const *names)
{
	for (; *names; names++)
		if (strcmp(name, *names) == 0)
			return true;
	return false;
}

bool json_fields_known(const json_t *obj, const char *const *names, const struct jpath *at, struct err *err)
{
	char path[PATH_MAX_B];
	const char *name;
	json_t *value;

	json_object_foreach((json_t *)obj, name, value)
	{
		if (listed(name, names))
			continue;
		struct jpath here = {.up = at, .field = name};
		const char *near = nearest(name, names);
		jpath_text(&here, path, sizeof(path));
		if (near)
			return err_set(err, ERR_INVALID, "%s: unknown field; did you mean \"%s\"?", path, near);
		return err_set(err, ERR_INVALID, "%s: unknown field", path);
	}
	return true;
}

static const char *type_text(const json_t *v)
{
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
	case JSON_REAL:
		return "a number";
	case JSON_TRUE:
	case JSON_FALSE:
		return "a boolean";
	case JSON_NULL:
		return "null";
	}
	return "unknown";
}

static bool wrong(const struct jpath *at, const char *name, struct err *err, const char *why)
{
	struct jpath here = {.up = at, .field = name};
	char path[PATH_MAX_B];

	return err_set(err, ERR_INVALID, "%s: %s", jpath_text(&here, path, sizeof(path)), why);
}

static bool wrong_type(const struct jpath *at, const char *name, const json_t *v, const char *wanted, struct err *err)
{
	char why[64];

	snprintf(why, sizeof(why), "must be %s, not %s", wanted, type_text(v));
	return wrong(at, name, err, why);
}

/* The field, or NULL when absent or null; false when it is absent though required. */
static bool field(const json_t *obj, const char *name, bool required, const struct jpath *at, json_t **ret,
		  struct err *err)
{
	json_t *v = json_object_get(obj, name);

	if (v && json_is_null(v))
		v = NULL;
	if (!v && required)
		return wrong(at, name, err, "is required");
	*ret = v;
	return true;
}

bool json_get_str(const json_t *obj, const char *name, bool required, const struct jpath *at, const char **ret,
		  struct err *err)
{
	json_t *v = NULL;

	if (!field(obj, name, required, at, &v, err))
		return false;
	if (!v)
		return true;
	if (!json_is_string(v))
		return wrong_type(at, name, v, "a string", err);
	*ret = json_string_value(v);
	return true;
}

bool json_get_int(const json_t *obj, const char *name, bool required, int64_t min, int64_t max, const struct jpath *at,
		  int64_t *ret, struct err *err)
{
	char why[96];
	json_t *v = NULL;

	if (!field(obj, name, required, at, &v, err))
		return false;
	if (!v)
		return true;
	if (!json_is_integer(v))
		return wrong_type(at, name, v, json_is_real(v) ? "a whole number" : "a number", err);
	int64_t n = json_integer_value(v);
	if (n < min || n > max) {
		snprintf(why, sizeof(why), "%lld is not in %lld to %lld", (long long)n, (long long)min, (long long)max);
		return wrong(at, name, err, why);
	}
	*ret = n;
	return true;
}

bool json_get_bool(const json_t *obj, const char *name, bool required, const struct jpath *at, bool *ret,
		   struct err *err)
{
	json_t *v = NULL;

	if (!field(obj, name, required, at, &v, err))
		return false;
	if (!v)
		return true;
	if (!json_is_boolean(v))
		return wrong_type(at, name, v, "a boolean", err);
	*ret = json_is_true(v);
	return true;
}

bool json_get_object(const json_t *obj, const char *name, bool required, const struct jpath *at, json_t **ret,
		     struct err *err)
{
	json_t *v = NULL;

	if (!field(obj, name, required, at, &v, err))
		return false;
	if (!v)
		return true;
	if (!json_is_object(v))
		return wrong_type(at, name, v, "an object", err);
	*ret = v;
	return true;
}

bool json_get_array(const json_t *obj, const char *name, bool required, size_t max_len, const struct jpath *at,
		    json_t **ret, struct err *err)
{
	char why[96];
	json_t *v = NULL;

	if (!field(obj, name, required, at, &v, err))
		return false;
	if (!v)
		return true;
	if (!json_is_array(v))
		return wrong_type(at, name, v, "an array", err);
	if (json_array_size(v) > max_len) {
		snprintf(why, sizeof(why), "has %zu elements, at most %zu are allowed", json_array_size(v), max_len);
		return wrong(at, name, err, why);
	}
	*ret = v;
	return true;
}
