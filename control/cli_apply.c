/* SPDX-License-Identifier: Apache-2.0 */
/* cli_apply.c: `weft apply` and `weft delete`: files become checked objects here (with the place of what is wrong), then one call
 * to weftd, which checks again and does all or nothing. */
#include "control/cli.h"
#include "control/document.h"
#include "control/kind.h"
#include "lib/mem.h"

#include <string.h>
#include <stdio.h>

#define ERRORS_SHOWN 20 /* of one apply */

bool cli_read_files(const struct cli *c, struct documents *d, struct err *err)
{
	for (size_t i = 0; i < c->files.len; i++)
		if (!documents_add_path(d, c->files.v[i], err))
			return false;
	return d->len > 0 || err_set(err, ERR_INVALID, "%s: there is no object in it", c->files.v[0]);
}

/* -n names the namespace of objects that name none; those that name another are refused, as kubectl does. */
static bool check_one(const struct cli *c, const struct document *doc, struct object *ret, struct err *err)
{
	const json_t *name = json_object_get(json_object_get(doc->root, "metadata"), "name");

	if (!object_check(doc->root, c->ns ? c->ns : "default", ret,
			  err)) /* without a name the line tells which it is */
		return json_is_string(name) ? err_prefix(err, "%s", doc->file)
					    : err_prefix(err, "%s:%u", doc->file, doc->line);
	if (!c->ns || strcmp(ret->ns, c->ns) == 0)
		return true;
	err_set(err, ERR_INVALID, "%s: %s %s/%s: metadata.namespace: it is not that of -n %s", doc->file,
		ret->kind->name, ret->ns, ret->name, c->ns);
	json_decref(ret->body);
	return false;
}

/* Checks every document and says everything that is wrong, so that one run shows all of it. */
json_t *cli_checked_objects(const struct cli *c, const struct documents *d)
{
	json_t *objects = json_array();
	size_t wrong = 0;

	for (size_t i = 0; i < d->len; i++) {
		struct object o;
		struct err err;
		if (check_one(c, &d->v[i], &o, &err))
			json_array_append_new(objects, o.body);
		else if (++wrong <= ERRORS_SHOWN)
			cli_say("%s", err.text);
	}
	if (wrong == 0)
		return objects;
	if (wrong > ERRORS_SHOWN)
		cli_say("and %zu more", wrong - ERRORS_SHOWN);
	json_decref(objects);
	return NULL;
}

void cli_print_results(const json_t *answer)
{
	bool dry_run = json_is_true(json_object_get(answer, "dryRun"));
	size_t i;
	json_t *o;

	json_array_foreach(json_object_get(answer, "objects"), i, o)
	    printf("%s %s/%s %s%s\n", json_string_value(json_object_get(o, "kind")),
		   json_string_value(json_object_get(o, "namespace")), json_string_value(json_object_get(o, "name")),
		   json_string_value(json_object_get(o, "result")), dry_run ? " (dry run)" : "");
}

/* objects is taken over. docs NULL: they came from no file. */
static enum cli_exit send_batch(const struct cli *c, const char *path, const char *verb, json_t *objects,
				const struct documents *docs, struct err *err)
{
	char what[200];
	json_int_t about = -1;
	json_t *answer = NULL;

	snprintf(what, sizeof(what), "%s %s", verb, c->files.len ? c->files.v[0] : "by name");
	json_t *name = json_string(what);
	json_t *body = json_pack("{s:o, s:b, s:o}", "objects", objects, "dryRun", c->dry_run, "what",
				 name ? name : json_string(verb));
	bool ok = cli_call(c, "POST", path, body, &answer, &about, err);
	json_decref(body);
	if (!ok) {
		if (docs && about >= 0 && (size_t)about < docs->len)
			err_prefix(err, "%s", docs->v[about].file);
		return CLI_FAILED;
	}
	cli_print_results(answer);
	json_decref(answer);
	return CLI_OK;
}

enum cli_exit cli_apply(struct cli *c, struct err *err)
{
	struct documents d = {0};
	enum cli_exit code = CLI_FAILED;

	if (c->words.len || c->files.len == 0) {
		err_set(err, ERR_INVALID, "apply: %s; see `weft apply --help`",
			c->words.len ? "files are named with -f" : "-f FILE is missing");
		return CLI_USAGE;
	}
	json_t *objects = cli_read_files(c, &d, err) ? cli_checked_objects(c, &d) : NULL;
	if (objects)
		code = send_batch(c, "/v1/apply", "apply", objects, &d, err);
	documents_done(&d);
	return code;
}

json_t *cli_named_objects(const struct cli *c, size_t first, struct err *err)
{
	const struct kind *kind = kind_find(c->words.v[first], err);
	json_t *objects = kind ? json_array() : NULL;

	for (size_t i = first + 1; kind && i < c->words.len; i++) {
		json_t *o = json_pack("{s:s, s:s, s:s}", "kind", kind->name, "namespace", c->ns ? c->ns : "default",
				      "name", c->words.v[i]);
		if (o)
			json_array_append_new(objects, o);
		else {
			err_set(err, ERR_INVALID, "a name is not UTF-8");
			json_decref(objects);
			return NULL;
		}
	}
	return objects;
}

/* Only kind and names count: a file that was valid for an older weft can still be deleted by. */
json_t *cli_filed_objects(const struct cli *c, const struct documents *d, struct err *err)
{
	json_t *objects = json_array();

	for (size_t i = 0; i < d->len; i++) {
		const json_t *meta = json_object_get(d->v[i].root, "metadata");
		json_t *kind = json_object_get(d->v[i].root, "kind"), *name = json_object_get(meta, "name"),
		       *ns = json_object_get(meta, "namespace");
		if (!json_is_string(kind) || !json_is_string(name)) {
			err_set(err, ERR_INVALID, "%s:%u: an object needs kind and metadata.name", d->v[i].file,
				d->v[i].line);
			json_decref(objects);
			return NULL;
		}
		json_t *o = json_pack("{s:O, s:O}", "kind", kind, "name", name);
		json_object_set_new(o, "namespace",
				    json_is_string(ns) ? json_incref(ns) : json_string(c->ns ? c->ns : "default"));
		json_array_append_new(objects, o);
	}
	return objects;
}

enum cli_exit cli_delete(struct cli *c, struct err *err)
{
	struct documents d = {0};
	json_t *objects = NULL;

	if ((c->files.len > 0) == (c->words.len > 0) || c->words.len == 1) {
		err_set(err, ERR_INVALID, "delete: either KIND and NAME, or -f FILE; see `weft delete --help`");
		return CLI_USAGE;
	}
	if (c->words.len)
		objects = cli_named_objects(c, 0, err);
	else if (cli_read_files(c, &d, err))
		objects = cli_filed_objects(c, &d, err);
	enum cli_exit code =
	    objects ? send_batch(c, "/v1/delete", "delete", objects, c->files.len ? &d : NULL, err) : CLI_FAILED;
	documents_done(&d);
	return code;
}
