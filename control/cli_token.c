/* SPDX-License-Identifier: Apache-2.0 */
/* cli_token.c: `weft token create` and `weft token delete`. */
#include "control/cli.h"
#include "lib/mem.h"

#include <string.h>

static json_t *labels_of(const struct option_list *l, struct err *err)
{
	json_t *labels = json_object();

	for (size_t i = 0; i < l->len; i++) {
		struct str key, value;
		json_t *v = NULL;
		if (str_cut(str_of(l->v[i]), '=', &key, &value) && key.len)
			v = json_stringn(value.p, value.len);
		if (!v || json_object_setn_new(labels, key.p, key.len, v) != 0) {
			err_set(err, ERR_INVALID, "--label %.80s: expected KEY=VALUE, like app=orders or version=*",
				l->v[i]);
			json_decref(labels);
			return NULL;
		}
	}
	return labels;
}

/* *ret is NULL for the server's own default. */
static bool ttl_of(const char *text, json_t **ret, struct err *err)
{
	uint64_t ms = 0;

	*ret = NULL;
	if (!text)
		return true;
	if (!str_to_ms(str_of(text), &ms) || ms < 1000)
		return err_set(err, ERR_INVALID, "--ttl %.40s: expected a time like 30m, 24h or 7d", text);
	*ret = json_integer((json_int_t)(ms / 1000));
	return true;
}

static void set_text(json_t *o, const char *name, const char *value)
{
	if (value)
		json_object_set_new(o, name, json_string(value));
}

enum cli_exit cli_token_create(struct cli *c, struct err *err)
{
	json_t *ttl = NULL, *answer = NULL, *body = json_object();
	json_t *labels = labels_of(&c->labels, err);

	if (!labels || c->words.len || !ttl_of(c->ttl, &ttl, err)) {
		if (c->words.len)
			err_set(err, ERR_INVALID,
				"token create: it takes no arguments; see `weft token create --help`");
		json_decref(labels);
		json_decref(body);
		return CLI_USAGE;
	}
	json_object_set_new(body, "labels", labels);
	if (ttl)
		json_object_set_new(body, "ttlSeconds", ttl);
	set_text(body, "namespace", c->ns);
	set_text(body, "serviceAccount", c->sa ? c->sa : "default");
	set_text(body, "server", c->server);
	bool ok = cli_call(c, "POST", "/v1/tokens", body, &answer, NULL, err);
	json_decref(body);
	if (!ok)
		return CLI_FAILED;
	printf("%s\n", json_string_value(json_object_get(answer, "token")));
	json_decref(answer);
	return CLI_OK;
}

enum cli_exit cli_token_delete(struct cli *c, struct err *err)
{
	if (c->words.len == 0) {
		err_set(err, ERR_INVALID, "token delete: ID is missing; `weft token list` shows them");
		return CLI_USAGE;
	}
	for (size_t i = 0; i < c->words.len; i++) {
		char path[64];
		json_t *answer = NULL;
		if (strlen(c->words.v[i]) != 32 || strspn(c->words.v[i], "0123456789abcdef") != 32) {
			err_set(err, ERR_INVALID, "%.80s is not the ID of a token (32 hex digits)", c->words.v[i]);
			return CLI_USAGE;
		}
		snprintf(path, sizeof(path), "/v1/tokens/%s", c->words.v[i]);
		if (!cli_call(c, "DELETE", path, NULL, &answer, NULL, err))
			return CLI_FAILED;
		json_decref(answer);
		printf("token %s deleted\n", c->words.v[i]);
	}
	return CLI_OK;
}
