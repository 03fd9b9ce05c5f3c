/* SPDX-License-Identifier: Apache-2.0 */
/* kind.c: what all kinds have in common: finding the row, apiVersion, kind, metadata. */
#include "control/kind.h"

#include "control/kind_field.h"
#include "control/nearest.h"

#include <stdio.h>
#include <strings.h>

static const struct kind *const kinds[] = {
#define KIND(symbol) &symbol,
#define KIND_LATER(name, plural)
#include "control/kind.tbl.h"
#undef KIND
#undef KIND_LATER
};

static const struct {
	const char *name, *plural;
} later[] = {
#define KIND(symbol)
#define KIND_LATER(name, plural) {name, plural},
#include "control/kind.tbl.h"
#undef KIND
#undef KIND_LATER
};

/* Set by the Kubernetes API server: of no meaning here, so that what `kubectl get -o yaml` prints can be applied. */
static const char *const metadata_fields[] = {
    "name",         "namespace",     "labels",          "annotations", "uid",        "creationTimestamp", "generation",
    "generateName", "managedFields", "resourceVersion", "selfLink",    "finalizers", "ownerReferences",   NULL};

const struct kind *kind_at(size_t i)
{
	return i < ARRAY_LEN(kinds) ? kinds[i] : NULL;
}

static const char *name_at(size_t i)
{
	if (i < ARRAY_LEN(kinds))
		return kinds[i]->name;
	return i - ARRAY_LEN(kinds) < ARRAY_LEN(later) ? later[i - ARRAY_LEN(kinds)].name : NULL;
}

const struct kind *kind_find(const char *name, struct err *err)
{
	for (size_t i = 0; i < ARRAY_LEN(kinds); i++)
		if (strcasecmp(name, kinds[i]->name) == 0 || strcasecmp(name, kinds[i]->plural) == 0 ||
		    strcasecmp(name, kinds[i]->short_name) == 0)
			return kinds[i];
	for (size_t i = 0; i < ARRAY_LEN(later); i++)
		if (strcasecmp(name, later[i].name) == 0 || strcasecmp(name, later[i].plural) == 0) {
			err_set(err, ERR_UNSUPPORTED, "kind %s is not supported yet", later[i].name);
			return NULL;
		}
	const char *near = nearest(name, name_at);
	err_set(err, ERR_INVALID, "unknown kind \"%.80s\"%s%s%s", name, near ? "; did you mean " : "", near ? near : "",
		near ? "?" : "");
	return NULL;
}

static bool check_head(const json_t *in, struct object *ret, struct err *err)
{
	const char *kind_name = NULL, *version = NULL;

	if (!json_is_object(in))
		return err_set(err, ERR_INVALID, "it is not an object with apiVersion, kind and metadata");
	if (!json_get_str(in, "kind", true, NULL, &kind_name, err))
		return false;
	ret->kind = kind_find(kind_name, err);
	if (!ret->kind)
		return false;
	if (strcmp(kind_name, ret->kind->name) != 0)
		return field_bad(NULL, "kind", err, "\"%.80s\" is spelt %s", kind_name, ret->kind->name);
	if (!json_get_str(in, "apiVersion", true, NULL, &version, err))
		return false;
	if (strcmp(version, ret->kind->api_version) != 0)
		return field_bad(NULL, "apiVersion", err, "\"%.80s\" is not the version of %s; expected %s", version,
				 ret->kind->name, ret->kind->api_version);
	return true;
}

static bool check_metadata(const json_t *in, const char *default_ns, json_t *out, struct err *err)
{
	static const struct jpath at = {.field = "metadata"};
	struct jpath labels_at = {.up = &at, .field = "labels"}, annotations_at = {.up = &at, .field = "annotations"};
	json_t *meta = NULL, *labels = NULL, *annotations = NULL;
	const char *name = NULL, *ns = default_ns;

	if (!json_get_object(in, "metadata", true, NULL, &meta, err) ||
	    !json_fields_known(meta, metadata_fields, &at, err) || !json_get_str(meta, "name", true, &at, &name, err) ||
	    !json_get_str(meta, "namespace", false, &at, &ns, err) ||
	    !json_get_object(meta, "labels", false, &at, &labels, err) ||
	    !json_get_object(meta, "annotations", false, &at, &annotations, err))
		return false;
	if (!field_subdomain(name, &at, "name", err) || !field_label(ns, &at, "namespace", err))
		return false;
	json_t *m = json_pack("{s:s, s:s}", "name", name, "namespace", ns);
	json_object_set_new(out, "metadata", m);
	if (labels && !field_labels(labels, &labels_at, err))
		return false;
	if (annotations && !field_annotations(annotations, &annotations_at, err))
		return false;
	if (json_object_size(labels))
		json_object_set_new(m, "labels", json_deep_copy(labels));
	if (json_object_size(annotations))
		json_object_set_new(m, "annotations", json_deep_copy(annotations));
	return true;
}

/* "Service shop/orders" as far as it can be told from the input. */
static bool prefix_name(const json_t *in, const char *default_ns, const struct object *o, struct err *err)
{
	const json_t *meta = json_object_get(in, "metadata");
	const char *name = json_string_value(json_object_get(meta, "name"));
	const char *ns = json_string_value(json_object_get(meta, "namespace"));
	const char *kind = o->kind ? o->kind->name : json_string_value(json_object_get(in, "kind"));

	if (!kind)
		return false;
	if (!name)
		return err_prefix(err, "%.80s", kind);
	return err_prefix(err, "%.80s %.64s/%.80s", kind, ns ? ns : default_ns, name);
}

static bool check_all(const json_t *in, const char *default_ns, struct object *o, struct err *err)
{
	const char *known[16] = {"apiVersion", "kind", "metadata", "status"};
	size_t n = 4;

	if (!check_head(in, o, err))
		return false;
	for (size_t i = 0; o->kind->fields[i]; i++) {
		MUST(n + 1 < ARRAY_LEN(known));
		known[n++] = o->kind->fields[i];
	}
	o->body = json_pack("{s:s, s:s}", "apiVersion", o->kind->api_version, "kind", o->kind->name);
	return json_fields_known(in, known, NULL, err) && check_metadata(in, default_ns, o->body, err) &&
	       o->kind->check(in, o->body, err);
}

bool object_check(const json_t *in, const char *default_ns, struct object *ret, struct err *err)
{
	struct object o = {.kind = NULL};

	if (!check_all(in, default_ns, &o, err)) {
		json_decref(o.body);
		return prefix_name(in, default_ns, &o, err);
	}
	const json_t *meta = json_object_get(o.body, "metadata");
	o.name = json_string_value(json_object_get(meta, "name"));
	o.ns = json_string_value(json_object_get(meta, "namespace"));
	*ret = o;
	return true;
}

const json_t *object_meta(const json_t *object, const char *map)
{
	return json_object_get(json_object_get(object, "metadata"), map);
}

bool labels_check(const json_t *labels, const struct jpath *at, struct err *err)
{
	return field_labels(labels, at, err);
}
