/* SPDX-License-Identifier: Apache-2.0 */
/* cli_wait.c: `weft wait`: asks weftd, again and again until the time is over, whether every proxy that holds something has applied it. */
#include "control/cli.h"
#include "control/document.h"
#include "lib/mem.h"

#include <string.h>
#include <time.h>

#define CALL_S     20 /* that one call may wait */
#define LINES_MAX  20 /* of proxies that have not applied it */
#define TIMEOUT_MS 30000

static const char *text_of(const json_t *o, const char *field)
{
	const char *v = json_string_value(json_object_get(o, field));

	return v ? v : "-";
}

static uint64_t now_ms(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static void print_behind(const json_t *behind)
{
	size_t i, shown = 0;
	json_t *b;

	json_array_foreach((json_t *)(uintptr_t)behind, i, b)
	{
		if (shown++ < LINES_MAX)
			cli_say("  %s: %s %s: %s%s", text_of(b, "proxy"), text_of(b, "type"), text_of(b, "name"),
				json_is_true(json_object_get(b, "refused")) ? "refused: " : "", text_of(b, "why"));
	}
	if (shown > LINES_MAX)
		cli_say("  and %zu more", shown - LINES_MAX);
}

static enum cli_exit conclude(const json_t *answer)
{
	const json_t *behind = json_object_get(answer, "behind");
	size_t i, resources = json_array_size(json_object_get(answer, "resources"));
	json_t *away;

	json_array_foreach(json_object_get(answer, "notConnected"), i, away)
	    cli_say("%s is not connected: what it holds is not known", json_string_value(away));
	if (json_array_size(behind)) {
		cli_say("not applied by all:");
		print_behind(behind);
		return CLI_FAILED;
	}
	if (resources)
		printf("applied by every proxy that holds it (%zu resource%s)\n", resources, resources == 1 ? "" : "s");
	else
		printf("no proxy holds it\n");
	return CLI_OK;
}

/* What to wait for; NULL and err. */
static json_t *question(struct cli *c, enum cli_exit *ret_code, struct err *err)
{
	struct documents d = {0};
	json_t *objects = NULL;
	uint64_t revision;

	*ret_code = CLI_USAGE;
	if ((c->files.len > 0) + (c->words.len > 0) + (c->revision != NULL) > 1 || c->words.len == 1) {
		err_set(err, ERR_INVALID, "wait: one of -f FILE, KIND NAME and --revision N; see `weft wait --help`");
		return NULL;
	}
	if (c->revision) {
		if (str_to_u64(str_of(c->revision), INT64_MAX - 1, &revision))
			return json_pack("{s:I}", "revision", (json_int_t)revision);
		err_set(err, ERR_INVALID, "--revision %.40s: expected a number; `weft history` lists them",
			c->revision);
		return NULL;
	}
	if (c->words.len)
		objects = cli_named_objects(c, 0, err);
	else if (!c->files.len)
		return json_object();
	else {
		*ret_code = CLI_FAILED;
		objects = cli_read_files(c, &d, err) ? cli_filed_objects(c, &d, err) : NULL;
		documents_done(&d);
	}
	return objects ? json_pack("{s:o}", "objects", objects) : NULL;
}

enum cli_exit cli_wait(struct cli *c, struct err *err)
{
	uint64_t timeout_ms = TIMEOUT_MS, end;
	enum cli_exit code;

	if (c->timeout && !str_to_ms(str_of(c->timeout), &timeout_ms)) {
		err_set(err, ERR_INVALID, "--timeout %.40s: expected a time like 10s", c->timeout);
		return CLI_USAGE;
	}
	json_t *body = question(c, &code, err), *answer = NULL;
	if (!body)
		return code;
	c->timeout = NULL; /* that of one call is another */
	end = now_ms() + timeout_ms;
	for (;;) {
		uint64_t now = now_ms(), left_s = now < end ? (end - now + 999) / 1000 : 0;
		json_object_set_new(body, "seconds", json_integer((json_int_t)MIN(left_s, CALL_S)));
		json_decref(answer);
		answer = NULL;
		if (!cli_call(c, "POST", "/v1/wait", body, &answer, NULL, err)) {
			code = CLI_FAILED;
			break;
		}
		if (left_s == 0 || json_integer_value(json_object_get(answer, "waiting")) == 0) {
			code = conclude(answer);
			break;
		}
	}
	json_decref(body);
	json_decref(answer);
	return code;
}
