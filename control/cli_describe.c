/* SPDX-License-Identifier: Apache-2.0 */
/* cli_describe.c: `weft describe`: one object in words: its fields, where it is served, who holds it, its conditions. */
#include "control/cli.h"
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

static long long number_of(const json_t *o, const char *field)
{
	return json_integer_value(json_object_get(o, field));
}

static void line(const char *name, const char *text)
{
	printf("%-14s %s\n", name, text);
}

static void print_map(const char *title, const json_t *map)
{
	const char *key;
	json_t *v;
	bool first = true;

	json_object_foreach((json_t *)(uintptr_t)map, key, v)
	{
		printf("%-14s %s=%s\n", first ? title : "", key, json_string_value(v));
		first = false;
	}
}

/* "CLUSTER-IP" -> "Cluster-ip:" */
static void print_columns(const struct kind *kind, const json_t *object)
{
	for (size_t i = 0; i < KIND_COLUMNS_MAX && kind->columns[i]; i++) {
		char text[256], name[32];
		size_t n = 0;
		for (; kind->columns[i][n] && n + 2 < sizeof(name); n++)
			name[n] =
			    (char)(n && kind->columns[i][n] >= 'A' ? kind->columns[i][n] | 0x20 : kind->columns[i][n]);
		name[n] = ':';
		name[n + 1] = 0;
		kind->cell(object, i, text, sizeof(text));
		line(name, text);
	}
}

/* Everything beside metadata and status, indented. */
static void print_spec(const struct kind *kind, const json_t *object)
{
	json_t *spec = json_object();
	char *text = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&text, &len);

	MUST(out);
	for (size_t i = 0; kind->fields[i]; i++) {
		json_t *v = json_object_get(object, kind->fields[i]);
		if (v)
			json_object_set(spec, kind->fields[i], v);
	}
	yaml_write(out, &spec, 1);
	fclose(out);
	printf("As applied:\n");
	for (struct str head, rest = str_of(text); rest.len;) {
		str_cut(rest, '\n', &head, &rest);
		printf("  " STR_FMT "\n", STR_ARG(head));
	}
	free(text);
	json_decref(spec);
}

static void lease_of(const json_t *e, char *out, size_t size)
{
	char age[16];

	if (!json_object_get(e, "lease_ms"))
		snprintf(out, size, "-");
	else if (number_of(e, "lease_ms") == 0)
		snprintf(out, size, "over, kept by the guard");
	else if (json_is_false(json_object_get(e, "linked")))
		snprintf(out, size, "not connected, ends in %s", cli_age(number_of(e, "lease_ms"), age, sizeof(age)));
	else
		snprintf(out, size, "alive");
}

static void print_endpoints(const json_t *endpoints)
{
	static const char *const heads[] = {"  ADDRESS", "PORTS", "WORKLOAD", "IDENTITY", "LEASE"};
	struct cli_table t = {.heads = heads, .columns = ARRAY_LEN(heads)};
	size_t i, k;
	json_t *e, *p;

	json_array_foreach((json_t *)(uintptr_t)endpoints, i, e)
	{
		char address[80], ports[120] = "-", lease[64];
		size_t at = 0;
		snprintf(address, sizeof(address), "  %s", text_of(e, "address"));
		json_array_foreach(json_object_get(e, "ports"), k, p) if (at < sizeof(ports)) at +=
		    (size_t)snprintf(ports + at, sizeof(ports) - at, "%s%lld>%lld", k ? "," : "",
				     number_of(p, "servicePort"), number_of(p, "port"));
		lease_of(e, lease, sizeof(lease));
		const char *cells[] = {
		    address, ports, text_of(e, "workload"),
		    json_is_true(json_object_get(e, "meshed")) ? text_of(e, "identity") : "outside the mesh", lease};
		cli_table_row(&t, cells);
	}
	printf("Endpoints:     %s\n", t.rows ? "" : "none");
	if (t.rows)
		cli_table_print(&t);
}

static void print_holders(const json_t *resources)
{
	static const char *const heads[] = {"  PROXY", "RESOURCE", "VERSION", "STATE"};
	struct cli_table t = {.heads = heads, .columns = ARRAY_LEN(heads)};
	size_t i, k;
	json_t *r, *h;

	json_array_foreach((json_t *)(uintptr_t)resources, i, r)
	{
		json_array_foreach(json_object_get(r, "holders"), k, h)
		{
			char proxy[160], resource[400], state[400];
			const char *why = json_string_value(json_object_get(h, "why"));
			const char *version = text_of(h, "version");
			snprintf(proxy, sizeof(proxy), "  %s", text_of(h, "proxy"));
			snprintf(resource, sizeof(resource), "%s %s", text_of(r, "type"), text_of(r, "name"));
			snprintf(state, sizeof(state), "%s%s%s", text_of(h, "state"), why ? ": " : "", why ? why : "");
			const char *cells[] = {proxy, resource, *version ? version : "-", state};
			cli_table_row(&t, cells);
		}
	}
	printf("Held by:       %s\n", t.rows ? "" : "no proxy");
	if (t.rows)
		cli_table_print(&t);
}

static void add_conditions(struct cli_table *t, const json_t *conditions)
{
	size_t i;
	json_t *o;

	json_array_foreach((json_t *)(uintptr_t)conditions, i, o)
	{
		char type[120];
		snprintf(type, sizeof(type), "  %s", text_of(o, "type"));
		const char *cells[] = {type, text_of(o, "status"), text_of(o, "reason"), text_of(o, "message")};
		cli_table_row(t, cells);
	}
}

/* Of the object, or of each parent that a route is attached to. */
static void print_conditions(const json_t *status)
{
	static const char *const heads[] = {"  TYPE", "STATUS", "REASON", "MESSAGE"};
	struct cli_table t = {.heads = heads, .columns = ARRAY_LEN(heads)};
	const json_t *parents = json_object_get(status, "parents");

	add_conditions(&t, json_object_get(status, "conditions"));
	for (size_t i = 0; i < json_array_size(parents); i++)
		add_conditions(&t, json_object_get(json_array_get(parents, i), "conditions"));
	if (!t.rows)
		return;
	printf("Conditions:\n");
	cli_table_print(&t);
}

static void print_all(const struct kind *kind, const json_t *d)
{
	const json_t *object = json_object_get(d, "object"), *meta = json_object_get(object, "metadata");
	int64_t now = (int64_t)time(NULL) * 1000;
	char text[128], created[16], changed[16];

	line("Name:", text_of(meta, "name"));
	line("Namespace:", text_of(meta, "namespace"));
	line("Kind:", kind->name);
	print_map("Labels:", json_object_get(meta, "labels"));
	print_map("Annotations:", json_object_get(meta, "annotations"));
	snprintf(text, sizeof(text), "%lld, %s ago; created %s ago", number_of(d, "revision"),
		 cli_age(now - number_of(d, "changedMs"), changed, sizeof(changed)),
		 cli_age(now - number_of(d, "createdMs"), created, sizeof(created)));
	line("Revision:", text);
	print_columns(kind, object);
	print_spec(kind, object);
	print_endpoints(json_object_get(d, "endpoints"));
	print_holders(json_object_get(d, "resources"));
	print_conditions(json_object_get(object, "status"));
}

enum cli_exit cli_describe(struct cli *c, struct err *err)
{
	const struct kind *kind;
	json_t *answer = NULL;
	const char *ns = c->ns ? c->ns : "default";

	if (c->words.len != 2) {
		err_set(err, ERR_INVALID, "describe: expected KIND NAME; see `weft describe --help`");
		return CLI_USAGE;
	}
	if (!cli_output_ok(c, err) || !(kind = kind_find(c->words.v[0], err)) || !cli_name_ok(c->words.v[1], err) ||
	    !cli_name_ok(ns, err))
		return CLI_USAGE;
	char *path = mem_printf("/v1/describe/%s/%s/%s", kind->plural, ns, c->words.v[1]);
	bool ok = cli_call(c, "GET", path, NULL, &answer, NULL, err);
	mem_free(path);
	if (!ok)
		return CLI_FAILED;
	if (!cli_print_as(c->output, answer))
		print_all(kind, answer);
	json_decref(answer);
	return CLI_OK;
}
