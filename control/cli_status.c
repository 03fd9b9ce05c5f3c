/* SPDX-License-Identifier: Apache-2.0 */
/* cli_status.c: `weft status` and `weft version`. */
#include "control/cli.h"
#include "lib/mem.h"

#include <string.h>

static const char *text_of(const json_t *o, const char *field)
{
	const char *v = json_string_value(json_object_get(o, field));

	return v ? v : "-";
}

static long long number_of(const json_t *o, const char *field)
{
	return json_integer_value(json_object_get(o, field));
}

static void print_proxies(const json_t *proxies)
{
	static const char *const heads[] = {"PROXY", "IDENTITY", "ADDRESS", "VERSION", "APPLIED", "REFUSED", "LAG"};
	struct cli_table t = {.heads = heads, .columns = ARRAY_LEN(heads)};
	size_t i;
	json_t *p;

	json_array_foreach((json_t *)(uintptr_t)proxies, i, p)
	{
		char applied[48], refused[24], lag[32];
		snprintf(applied, sizeof(applied), "%lld of %lld", number_of(p, "acked"), number_of(p, "resources"));
		snprintf(refused, sizeof(refused), "%lld", number_of(p, "refused"));
		snprintf(lag, sizeof(lag), "%lldms", number_of(p, "lag_ms"));
		const char *cells[] = {text_of(p, "name"),
				       text_of(p, "identity"),
				       text_of(p, "address"),
				       text_of(p, "version"),
				       applied,
				       refused,
				       lag};
		cli_table_row(&t, cells);
	}
	if (t.rows) {
		printf("\n");
		cli_table_print(&t);
	} else
		printf("no proxy is connected\n");
}

/* Only what somebody refused: the rest is well. */
static size_t print_refused(const json_t *resources)
{
	size_t i, k, n = 0;
	json_t *r, *why;

	json_array_foreach((json_t *)(uintptr_t)resources, i, r)
	{
		if (number_of(r, "refused") == 0)
			continue;
		printf("%s%s%s %s: %s%s\n", n++ ? "" : "\n", cli_red(), text_of(r, "type"), text_of(r, "name"),
		       text_of(r, "summary"), cli_plain());
		json_array_foreach(json_object_get(r, "refusals"), k, why)
		    printf("  %s: %s\n", text_of(why, "proxy"), text_of(why, "reason"));
	}
	return n;
}

/* Objects that are not as they should be: what is not true of them. */
static void print_conditions(const json_t *conditions)
{
	size_t i;
	json_t *c;

	json_array_foreach((json_t *)(uintptr_t)conditions, i, c)
	    printf("%s%s%s %s/%s: %s: %s%s\n", i ? "" : "\n", cli_red(), text_of(c, "kind"), text_of(c, "namespace"),
		   text_of(c, "name"), text_of(c, "reason"), text_of(c, "message"), cli_plain());
}

static void print_status(const json_t *s)
{
	const char *kind;
	json_t *n;

	printf("weftd %s, trust domain %s, revision %lld\n", text_of(s, "version"), text_of(s, "trustDomain"),
	       number_of(s, "revision"));
	printf("objects:");
	json_object_foreach(json_object_get(s, "objects"), kind, n)
	    printf(" %s %lld", kind, (long long)json_integer_value(n));
	printf("\n");
	print_proxies(json_object_get(s, "proxies"));
	print_conditions(json_object_get(s, "conditions"));
	print_refused(json_object_get(s, "resources"));
}

static bool no_words(const struct cli *c, const char *command, struct err *err)
{
	return c->words.len == 0 ||
	       err_set(err, ERR_INVALID, "%s: it takes no arguments; see `weft %s --help`", command, command);
}

enum cli_exit cli_status(struct cli *c, struct err *err)
{
	json_t *answer = NULL;

	if (!cli_output_ok(c, err) || !no_words(c, "status", err))
		return CLI_USAGE;
	if (!cli_call(c, "GET", "/v1/status", NULL, &answer, NULL, err))
		return CLI_FAILED;
	if (!cli_print_as(c->output, answer))
		print_status(answer);
	json_decref(answer);
	return CLI_OK;
}

/* Without a configuration there is no weftd to ask, and that is no failure. */
enum cli_exit cli_version(struct cli *c, struct err *err)
{
	json_t *answer = NULL;
	char *config = NULL;
	bool ok = true;

	if (!cli_output_ok(c, err) || !no_words(c, "version", err))
		return CLI_USAGE;
	if (!c->client)
		config = cli_config_path(c, NULL);
	if (config)
		ok = cli_call(c, "GET", "/v1/version", NULL, &answer, NULL, err);
	const char *server = json_string_value(json_object_get(answer, "version"));
	json_t *both = json_pack("{s:s, s:s?}", "client", WEFT_VERSION, "server", server);
	if (!cli_print_as(c->output, both)) {
		printf("weft %s\n", WEFT_VERSION);
		if (server)
			printf("weftd %s\n", server);
	}
	json_decref(both);
	json_decref(answer);
	mem_free(config);
	return ok ? CLI_OK : CLI_FAILED;
}
