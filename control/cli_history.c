/* SPDX-License-Identifier: Apache-2.0 */
/* cli_history.c: `weft history`, `weft rollback`, `weft diff`: what changed, back to what was, and what would change. */
#include "control/cli.h"
#include "control/diff.h"
#include "control/document.h"
#include "control/kind.h"
#include "control/yaml_out.h"
#include "lib/mem.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

static const char *text_of(const json_t *o, const char *field)
{
	const char *v = json_string_value(json_object_get(o, field));

	return v ? v : "-";
}

/* --- differences --- */

/* An object (or null) as YAML; free(). */
static char *yaml_of(json_t *v)
{
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	MUST(out);
	if (json_is_object(v))
		yaml_write(out, &v, 1);
	fclose(out);
	return text;
}

/* One of {kind, namespace, name, result, before, after}. */
static void print_difference(const json_t *o)
{
	const struct diff_colours colours = {cli_red(), cli_green(), cli_plain()};
	char *before = yaml_of(json_object_get(o, "before")), *after = yaml_of(json_object_get(o, "after"));

	printf("--- %s %s/%s%s\n", text_of(o, "kind"), text_of(o, "namespace"), text_of(o, "name"),
	       *before ? "" : " (not there)");
	printf("+++ %s %s/%s%s\n", text_of(o, "kind"), text_of(o, "namespace"), text_of(o, "name"),
	       *after ? "" : " (deleted)");
	diff_print(stdout, before, after, &colours);
	free(before);
	free(after);
}

/* Returns how many objects differ. */
static size_t print_differences(const json_t *objects)
{
	size_t i, n = 0;
	json_t *o;

	json_array_foreach((json_t *)(uintptr_t)objects, i, o)
	{
		if (!json_object_get(o, "before") && !json_object_get(o, "after"))
			continue;
		print_difference(o);
		n++;
	}
	return n;
}

/* As kubectl diff: 0 nothing, 1 something, more: failed. */
enum cli_exit cli_diff(struct cli *c, struct err *err)
{
	struct documents d = {0};
	json_t *answer = NULL;
	json_int_t about = -1;

	if (c->words.len || c->files.len == 0) {
		err_set(err, ERR_INVALID, "diff: %s; see `weft diff --help`",
			c->words.len ? "files are named with -f" : "-f FILE is missing");
		return CLI_USAGE;
	}
	json_t *objects = cli_read_files(c, &d, err) ? cli_checked_objects(c, &d) : NULL;
	if (objects) {
		json_t *body = json_pack("{s:o, s:b, s:b}", "objects", objects, "dryRun", 1, "bodies", 1);
		if (!cli_call(c, "POST", "/v1/apply", body, &answer, &about, err) && about >= 0 &&
		    (size_t)about < d.len)
			err_prefix(err, "%s", d.v[about].file);
		json_decref(body);
	}
	documents_done(&d);
	if (!answer)
		return CLI_USAGE;
	size_t n = print_differences(json_object_get(answer, "objects"));
	json_decref(answer);
	return n ? CLI_FAILED : CLI_OK;
}

/* --- history --- */

static bool number_ok(const char *text, uint64_t *ret)
{
	return str_to_u64(str_of(text), INT64_MAX - 1, ret);
}

static void print_history(const json_t *items)
{
	static const char *const heads[] = {"REVISION", "AGE", "CHANGED", "WHAT", "WHO"};
	struct cli_table t = {.heads = heads, .columns = ARRAY_LEN(heads)};
	size_t i;
	json_t *r;

	json_array_foreach((json_t *)(uintptr_t)items, i, r)
	{
		char id[24], age[16], changed[24];
		snprintf(id, sizeof(id), "%lld", (long long)json_integer_value(json_object_get(r, "revision")));
		snprintf(changed, sizeof(changed), "%lld",
			 (long long)json_integer_value(json_object_get(r, "changed")));
		cli_age((int64_t)time(NULL) * 1000 - json_integer_value(json_object_get(r, "atMs")), age, sizeof(age));
		const char *cells[] = {id, age, changed, text_of(r, "what"), text_of(r, "who")};
		cli_table_row(&t, cells);
	}
	if (t.rows)
		cli_table_print(&t);
	else
		cli_say("there are no revisions");
}

static void print_revision(const json_t *r)
{
	char when[40] = "";
	time_t at = (time_t)(json_integer_value(json_object_get(r, "atMs")) / 1000);
	struct tm tm;

	if (localtime_r(&at, &tm))
		strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S %z", &tm);
	printf("revision %lld, %s, by %s: %s\n", (long long)json_integer_value(json_object_get(r, "revision")), when,
	       text_of(r, "who"), text_of(r, "what"));
	cli_print_results(r);
	print_differences(json_object_get(r, "objects"));
	if (json_is_true(json_object_get(r, "bodiesLeftOut")))
		cli_say("it is too large to show all of its objects");
}

/* NULL and err: wrong usage. */
static char *history_path(const struct cli *c, struct err *err)
{
	uint64_t n, limit = 50;
	const struct kind *kind;

	if (c->words.len == 1 && number_ok(c->words.v[0], &n))
		return mem_printf("/v1/revisions/%llu", (unsigned long long)n);
	if (c->limit && (!number_ok(c->limit, &limit) || limit < 1 || limit > 1000)) {
		err_set(err, ERR_INVALID, "--limit %.40s: expected 1 to 1000", c->limit);
		return NULL;
	}
	if (c->words.len == 0)
		return c->ns ? mem_printf("/v1/revisions?limit=%llu&namespace=%s", (unsigned long long)limit, c->ns)
			     : mem_printf("/v1/revisions?limit=%llu", (unsigned long long)limit);
	if (c->words.len != 2) {
		err_set(err, ERR_INVALID,
			"history: expected nothing, a REVISION, or KIND NAME; see `weft history --help`");
		return NULL;
	}
	if (!(kind = kind_find(c->words.v[0], err)) || !cli_name_ok(c->words.v[1], err))
		return NULL;
	return mem_printf("/v1/revisions?limit=%llu&kind=%s&namespace=%s&name=%s", (unsigned long long)limit,
			  kind->name, c->ns ? c->ns : "default", c->words.v[1]);
}

enum cli_exit cli_history(struct cli *c, struct err *err)
{
	json_t *answer = NULL;

	if (!cli_output_ok(c, err) || (c->ns && !cli_name_ok(c->ns, err)))
		return CLI_USAGE;
	char *path = history_path(c, err);
	if (!path)
		return CLI_USAGE;
	bool ok = cli_call(c, "GET", path, NULL, &answer, NULL, err);
	mem_free(path);
	if (!ok)
		return CLI_FAILED;
	if (cli_print_as(c->output, answer))
		;
	else if (json_object_get(answer, "items"))
		print_history(json_object_get(answer, "items"));
	else
		print_revision(answer);
	json_decref(answer);
	return CLI_OK;
}

/* --- rollback --- */

enum cli_exit cli_rollback(struct cli *c, struct err *err)
{
	const struct kind *kind = NULL;
	json_t *answer = NULL;
	uint64_t revision;

	if ((c->words.len != 1 && c->words.len != 3) || !number_ok(c->words.v[0], &revision)) {
		err_set(err, ERR_INVALID,
			"rollback: expected REVISION or REVISION KIND NAME; `weft history` lists revisions");
		return CLI_USAGE;
	}
	if (c->words.len == 3 && (!(kind = kind_find(c->words.v[1], err)) || !cli_name_ok(c->words.v[2], err)))
		return CLI_USAGE;
	json_t *body =
	    json_pack("{s:I, s:b, s:b}", "revision", (json_int_t)revision, "dryRun", c->dry_run, "bodies", c->dry_run);
	if (kind) {
		json_object_set_new(body, "kind", json_string(kind->name));
		json_object_set_new(body, "name", json_string(c->words.v[2]));
	}
	if (kind || c->ns)
		json_object_set_new(body, "namespace", json_string(c->ns ? c->ns : "default"));
	bool ok = cli_call(c, "POST", "/v1/rollback", body, &answer, NULL, err);
	json_decref(body);
	if (!ok)
		return CLI_FAILED;
	cli_print_results(answer);
	if (c->dry_run)
		print_differences(json_object_get(answer, "objects"));
	else if (json_array_size(json_object_get(answer, "objects")) == 0)
		cli_say("nothing changed since revision %llu", (unsigned long long)revision);
	json_decref(answer);
	return CLI_OK;
}
