/* SPDX-License-Identifier: Apache-2.0 */
/* cli_get.c: `weft get`: objects by kind as table, JSON, YAML, names or a hosts file; workloads and tokens as lists. */
#include "control/cli.h"
#include "control/kind.h"
#include "control/yaml_out.h"
#include "lib/mem.h"

#include <string.h>
#include <strings.h>
#include <time.h>

static const char *text_of(const json_t *o, const char *field)
{
	const char *v = json_string_value(json_object_get(o, field));

	return v ? v : "-";
}

static const char *meta_of(const json_t *object, const char *field)
{
	return text_of(json_object_get(object, "metadata"), field);
}

/* --- objects --- */

static void print_table(const struct kind *kind, const json_t *items, bool wide, bool with_ns)
{
	const char *heads[KIND_COLUMNS_MAX + 2], *cells[KIND_COLUMNS_MAX + 2];
	char text[KIND_COLUMNS_MAX][256];
	size_t first = 0, n = 0, i;
	json_t *o;

	if (with_ns)
		heads[first++] = "NAMESPACE";
	heads[first++] = "NAME";
	while (kind->columns[n] && n < KIND_COLUMNS_MAX && (wide || n < kind->columns_short)) {
		heads[first + n] = kind->columns[n];
		n++;
	}
	struct cli_table t = {.heads = heads, .columns = first + n};
	json_array_foreach((json_t *)(uintptr_t)items, i, o)
	{
		if (with_ns)
			cells[0] = meta_of(o, "namespace");
		cells[first - 1] = meta_of(o, "name");
		for (size_t k = 0; k < n; k++) {
			kind->cell(o, k, text[k], sizeof(text[k]));
			cells[first + k] = text[k];
		}
		cli_table_row(&t, cells);
	}
	cli_table_print(&t);
}

/* One line an address: the whole name always, the short ones as far as they are unambiguous. */
static void print_hosts(const json_t *items, bool one_ns)
{
	size_t i, k;
	json_t *o, *ip;

	json_array_foreach((json_t *)(uintptr_t)items, i, o)
	{
		const char *ns = meta_of(o, "namespace"), *name = meta_of(o, "name");
		json_array_foreach(json_object_get(json_object_get(o, "spec"), "clusterIPs"), k,
				   ip) if (strcmp(json_string_value(ip), "None") != 0)
		    printf("%s %s.%s.mesh %s.%s%s%s\n", json_string_value(ip), name, ns, name, ns, one_ns ? " " : "",
			   one_ns ? name : "");
	}
}

static void print_names(const struct kind *kind, const json_t *items)
{
	size_t i;
	json_t *o;

	json_array_foreach((json_t *)(uintptr_t)items, i, o)
	{
		printf("%s/%s\n", kind->plural, meta_of(o, "name"));
	}
}

static bool print_yaml(const json_t *items)
{
	size_t n = json_array_size(items);
	json_t **roots = mem_zalloc((n + 1) * sizeof(*roots));

	for (size_t i = 0; i < n; i++)
		roots[i] = json_array_get(items, i);
	bool ok = n == 0 || yaml_write(stdout, roots, n);
	mem_free(roots);
	return ok;
}

static bool output_known(const char *output, const char *const *all, struct err *err)
{
	char list[120] = "";

	for (size_t i = 0; all[i]; i++) {
		if (strcmp(output, all[i]) == 0)
			return true;
		size_t len = strlen(list);
		snprintf(list + len, sizeof(list) - len, "%s%s", i ? ", " : "", all[i]);
	}
	return err_set(err, ERR_INVALID, "-o %.40s: expected %s", output, list);
}

/* Names go into a path: what cannot be one is not asked for. */
bool cli_name_ok(const char *name, struct err *err)
{
	size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789.-");

	return (len > 0 && !name[len] && len < STORE_NAME_MAX) ||
	       err_set(err, ERR_INVALID, "\"%.80s\" cannot be a name (a-z, 0-9, - and .)", name);
}

static char *path_of(const struct cli *c, const struct kind *kind)
{
	const char *ns = c->ns ? c->ns : "default";

	if (c->words.len == 2)
		return mem_printf("/v1/objects/%s/%s/%s", kind->plural, ns, c->words.v[1]);
	return c->all ? mem_printf("/v1/objects/%s", kind->plural)
		      : mem_printf("/v1/objects/%s?namespace=%s", kind->plural, ns);
}

static void print_objects(const struct cli *c, const struct kind *kind, json_t *answer, const char *output)
{
	json_t *items = c->words.len == 2 ? json_pack("[O]", answer) : json_incref(json_object_get(answer, "items"));

	if (strcmp(output, "json") == 0)
		cli_print_as(output, answer);
	else if (strcmp(output, "yaml") == 0)
		print_yaml(items);
	else if (strcmp(output, "name") == 0)
		print_names(kind, items);
	else if (strcmp(output, "hosts") == 0)
		print_hosts(items, !c->all);
	else if (json_array_size(items) == 0 && c->all)
		cli_say("there are no %s", kind->plural);
	else if (json_array_size(items) == 0)
		cli_say("there are no %s in namespace %s (-A shows all)", kind->plural, c->ns ? c->ns : "default");
	else
		print_table(kind, items, strcmp(output, "wide") == 0, c->all);
	json_decref(items);
}

static enum cli_exit get_objects(struct cli *c, struct err *err)
{
	static const char *const outputs[] = {"table", "wide", "json", "yaml", "name", "hosts", NULL};
	const struct kind *kind = kind_find(c->words.v[0], err);
	const char *output = c->output ? c->output : "table";
	json_t *answer = NULL;

	if (!kind)
		return err->code == ERR_UNSUPPORTED ? CLI_FAILED : CLI_USAGE;
	if (!output_known(output, outputs, err) || !cli_name_ok(c->ns ? c->ns : "default", err) ||
	    (c->words.len == 2 && !cli_name_ok(c->words.v[1], err)))
		return CLI_USAGE;
	if (c->watch && (strcmp(output, "yaml") == 0 || strcmp(output, "hosts") == 0)) {
		err_set(err, ERR_INVALID, "-o %s: -w has table, wide, json and name", output);
		return CLI_USAGE;
	}
	if (strcmp(output, "hosts") == 0 && kind != &kind_service) {
		err_set(err, ERR_INVALID, "-o hosts: only services have addresses to list");
		return CLI_USAGE;
	}
	if (c->watch)
		return cli_watch_kind(c, kind, err);
	char *path = path_of(c, kind);
	bool ok = cli_call(c, "GET", path, NULL, &answer, NULL, err);
	mem_free(path);
	if (!ok)
		return CLI_FAILED;
	print_objects(c, kind, answer, output);
	json_decref(answer);
	return CLI_OK;
}

/* --- workloads and tokens: lists that are no kinds --- */

static void join(const json_t *list, const char *field, char *out, size_t size)
{
	size_t i, at = 0;
	json_t *v;

	snprintf(out, size, "-");
	json_array_foreach((json_t *)(uintptr_t)list, i, v)
	{
		const json_t *item = field ? json_object_get(v, field) : v;
		if (at >= size)
			return;
		if (json_is_integer(item))
			at += (size_t)snprintf(out + at, size - at, "%s%lld", i ? "," : "",
					       (long long)json_integer_value(item));
		else
			at += (size_t)snprintf(out + at, size - at, "%s%s", i ? "," : "", json_string_value(item));
	}
}

static void join_labels(const json_t *labels, char *out, size_t size)
{
	const char *key;
	json_t *v;
	size_t at = 0;

	snprintf(out, size, "-");
	json_object_foreach((json_t *)(uintptr_t)labels, key, v)
	{
		if (at < size)
			at +=
			    (size_t)snprintf(out + at, size - at, "%s%s=%s", at ? "," : "", key, json_string_value(v));
	}
}

static int64_t now_ms(void)
{
	return (int64_t)time(NULL) * 1000;
}

static void add_workload(struct cli_table *t, const json_t *w)
{
	char addresses[120], ports[80], labels[160], lease[48], age[16];
	int64_t until = json_integer_value(json_object_get(w, "leaseMs"));

	join(json_object_get(w, "addresses"), NULL, addresses, sizeof(addresses));
	join(json_object_get(w, "ports"), "port", ports, sizeof(ports));
	join_labels(json_object_get(w, "labels"), labels, sizeof(labels));
	if (until == 0)
		snprintf(lease, sizeof(lease), "stopped");
	else if (until < now_ms())
		snprintf(lease, sizeof(lease), "expired %s ago", cli_age(now_ms() - until, age, sizeof(age)));
	else
		snprintf(lease, sizeof(lease), "alive");
	const char *cells[] = {
	    text_of(w, "namespace"), text_of(w, "name"), text_of(w, "serviceAccount"), addresses, ports, lease, labels};
	cli_table_row(t, cells);
}

static void add_token(struct cli_table *t, const json_t *k)
{
	char labels[160], until[32], age[16], uses[24];
	int64_t left = json_integer_value(json_object_get(k, "notAfter")) * 1000 - now_ms();

	join_labels(json_object_get(k, "labels"), labels, sizeof(labels));
	snprintf(until, sizeof(until), "%s%s", left > 0 ? "in " : "expired",
		 left > 0 ? cli_age(left, age, sizeof(age)) : "");
	snprintf(uses, sizeof(uses), "%lld", (long long)json_integer_value(json_object_get(k, "uses")));
	const char *cells[] = {
	    text_of(k, "id"), text_of(k, "namespace"), text_of(k, "serviceAccount"), until, uses, labels};
	cli_table_row(t, cells);
}

static const char *const workload_heads[] = {"NAMESPACE", "NAME",  "SERVICE-ACCOUNT", "ADDRESSES",
					     "PORTS",     "LEASE", "LABELS"};
static const char *const token_heads[] = {"ID", "NAMESPACE", "SERVICE-ACCOUNT", "EXPIRES", "USES", "LABELS"};

static const struct listing {
	const char *name, *path;
	const char *const *heads;
	size_t columns;
	void (*add)(struct cli_table *t, const json_t *item);
} lists[] = {
    {"workloads", "/v1/workloads", workload_heads, ARRAY_LEN(workload_heads), add_workload},
    {"tokens", "/v1/tokens", token_heads, ARRAY_LEN(token_heads), add_token},
};

static enum cli_exit get_list(struct cli *c, const struct listing *l, struct err *err)
{
	static const char *const outputs[] = {"table", "wide", "json", "yaml", NULL};
	json_t *answer = NULL, *o;
	size_t i;

	if (c->output && !output_known(c->output, outputs, err))
		return CLI_USAGE;
	if (c->watch) {
		err_set(err, ERR_INVALID, "-w: %s cannot be watched, only objects can", l->name);
		return CLI_USAGE;
	}
	if (!cli_call(c, "GET", l->path, NULL, &answer, NULL, err))
		return CLI_FAILED;
	json_t *items = json_object_get(answer, "items");
	struct cli_table t = {.heads = l->heads, .columns = l->columns};
	if (!cli_print_as(c->output, answer)) {
		json_array_foreach(items, i, o)
		{
			if (!c->ns || strcmp(text_of(o, "namespace"), c->ns) == 0)
				l->add(&t, o);
		}
		if (t.rows)
			cli_table_print(&t);
		else
			cli_say("there are no %s", l->name);
	}
	json_decref(answer);
	return CLI_OK;
}

enum cli_exit cli_get(struct cli *c, struct err *err)
{
	if (c->words.len == 0 || c->words.len > 2 || (c->words.len == 2 && c->all)) {
		err_set(err, ERR_INVALID, "get: expected KIND [NAME]%s; see `weft get --help`",
			c->all ? " (a NAME without -A)" : "");
		return CLI_USAGE;
	}
	for (size_t i = 0; i < ARRAY_LEN(lists); i++)
		if (c->words.len == 1 && strncasecmp(c->words.v[0], lists[i].name, strlen(lists[i].name) - 1) == 0 &&
		    strlen(c->words.v[0]) + 1 >= strlen(lists[i].name))
			return get_list(c, &lists[i], err);
	return get_objects(c, err);
}

enum cli_exit cli_token_list(struct cli *c, struct err *err)
{
	return get_list(c, &lists[1], err);
}
