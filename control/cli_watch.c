/* SPDX-License-Identifier: Apache-2.0 */
/* cli_watch.c: `weft get -w`: what there is, then each change as it comes, until it is interrupted. */
#include "control/cli.h"
#include "control/kind.h"
#include "lib/mem.h"

#include <stdlib.h>
#include <string.h>

#define CALL_S 20 /* that one call may wait; less than what a call may take in all */

static const char *meta_of(const json_t *object, const char *field)
{
	const char *v = json_string_value(json_object_get(json_object_get(object, "metadata"), field));

	return v ? v : "-";
}

struct watch {
	const struct cli *c;
	const struct kind *kind;
	bool begun; /* the headings have been printed */
};

static void print_json(const char *type, json_t *object)
{
	json_t *line = json_pack("{s:s, s:O}", "type", type, "object", object);

	json_dumpf(line, stdout, JSON_COMPACT);
	putchar('\n');
	json_decref(line);
}

static void print_row(struct watch *w, const char *type, json_t *object)
{
	const struct kind *kind = w->kind;
	bool wide = w->c->output && strcmp(w->c->output, "wide") == 0;
	const char *heads[KIND_COLUMNS_MAX + 3] = {"EVENT", "NAMESPACE", "NAME"}, *cells[KIND_COLUMNS_MAX + 3];
	char text[KIND_COLUMNS_MAX][256];
	size_t n = 0;

	for (; n < KIND_COLUMNS_MAX && kind->columns[n] && (wide || n < kind->columns_short); n++) {
		heads[3 + n] = kind->columns[n];
		kind->cell(object, n, text[n], sizeof(text[n]));
		cells[3 + n] = text[n];
	}
	struct cli_table t = {.heads = heads, .columns = 3 + n, .bare = w->begun};
	cells[0] = type;
	cells[1] = meta_of(object, "namespace");
	cells[2] = meta_of(object, "name");
	cli_table_row(&t, cells);
	cli_table_print(&t);
	w->begun = true;
}

static void print_one(struct watch *w, const char *type, json_t *object)
{
	const char *output = w->c->output ? w->c->output : "table";

	if (w->c->words.len == 2 && strcmp(meta_of(object, "name"), w->c->words.v[1]) != 0)
		return;
	if (strcmp(output, "json") == 0)
		print_json(type, object);
	else if (strcmp(output, "name") == 0)
		printf("%s %s/%s\n", type, w->kind->plural, meta_of(object, "name"));
	else
		print_row(w, type, object);
}

/* What there is now; *ret_revision is where changes go on from. */
static bool print_list(struct watch *w, const char *query, uint64_t *ret_revision, struct err *err)
{
	char *path = mem_printf("/v1/objects/%s%s%s", w->kind->plural, *query ? "?" : "", query);
	json_t *answer = NULL, *o;
	size_t i;

	bool ok = cli_call(w->c, "GET", path, NULL, &answer, NULL, err);
	mem_free(path);
	if (!ok)
		return false;
	json_array_foreach(json_object_get(answer, "items"), i, o) print_one(w, "added", o);
	const char *version =
	    json_string_value(json_object_get(json_object_get(answer, "metadata"), "resourceVersion"));
	ok = version && str_to_u64(str_of(version), INT64_MAX, ret_revision);
	json_decref(answer);
	return ok || err_set(err, ERR_UNSUPPORTED, "this weftd cannot be watched: it is older than this weft");
}

static bool print_changes(struct watch *w, const char *query, uint64_t *revision, struct err *err)
{
	char *path = mem_printf("/v1/watch/%s?revision=%llu&seconds=%d%s%s", w->kind->plural,
				(unsigned long long)*revision, CALL_S, *query ? "&" : "", query);
	json_t *answer = NULL, *change;
	size_t i;

	bool ok = cli_call(w->c, "GET", path, NULL, &answer, NULL, err);
	mem_free(path);
	if (!ok)
		return false;
	json_array_foreach(json_object_get(answer, "changes"), i, change)
	    print_one(w, json_string_value(json_object_get(change, "type")), json_object_get(change, "object"));
	*revision = (uint64_t)json_integer_value(json_object_get(answer, "revision"));
	json_decref(answer);
	return true;
}

enum cli_exit cli_watch_kind(const struct cli *c, const struct kind *kind, struct err *err)
{
	struct watch w = {.c = c, .kind = kind};
	uint64_t revision = 0;
	char *query = c->all ? mem_strdup("") : mem_printf("namespace=%s", c->ns ? c->ns : "default");

	bool ok = print_list(&w, query, &revision, err);
	/* whoever read along may have gone */
	while (ok && fflush(stdout) == 0)
		ok = print_changes(&w, query, &revision, err);
	mem_free(query);
	return ok ? CLI_OK : CLI_FAILED;
}
