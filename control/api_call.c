/* SPDX-License-Identifier: Apache-2.0 */
/* api_call.c: finds the row of api.tbl.h, reads the query and the body, has its functions answer, and makes text of it. */
#include "control/api_call.h"

#include "control/api_impl.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const struct {
	const char *name;
	unsigned status;
} codes[ERR_COUNT] = {
    [ERR_NONE] = {"none", 500},
    [ERR_SYSTEM] = {"system", 500},
    [ERR_INVALID] = {"invalid", 400},
    [ERR_LIMIT] = {"limit", 400},
    [ERR_NOT_FOUND] = {"not_found", 404},
    [ERR_EXISTS] = {"exists", 409},
    [ERR_DENIED] = {"denied", 403},
    [ERR_TIMEOUT] = {"timeout", 504},
    [ERR_CLOSED] = {"closed", 500},
    [ERR_PROTOCOL] = {"protocol", 400},
    [ERR_TLS] = {"tls", 500},
    [ERR_IDENTITY] = {"identity", 401},
    [ERR_UNSUPPORTED] = {"unsupported", 400},
    [ERR_STORE] = {"store", 503},
    [ERR_CONFLICT] = {"conflict", 409},
};

static json_t *error_json(const struct err *err)
{
	json_t *text = json_string(err->text);

	return json_pack("{s:{s:s, s:o}}", "error", "code", codes[err->code].name, "text",
			 text ? text : json_string("(not UTF-8)"));
}

static char *text_of(json_t *answer, size_t *ret_len)
{
	char *text = json_dumps(answer, JSON_COMPACT);

	MUST(text);
	json_decref(answer);
	*ret_len = strlen(text);
	return text;
}

unsigned api_error(const struct err *err, char **ret, size_t *ret_len)
{
	*ret = text_of(error_json(err), ret_len);
	return codes[err->code].status;
}

static const struct row {
	const char *method, *path;
	unsigned queries;
	bool (*run)(struct call *c);
} rows[] = {
#define API(function, method, path, queries, text) {method, path, queries, function},
#include "control/api.tbl.h"
#undef API
};

/* Segments are names: nothing in them needs percent-encoding, so none is decoded. */
static bool path_matches(const char *pattern, struct str path, struct call *c)
{
	struct str p = str_of(pattern), want, have;
	size_t args = 0;
	bool more_want = true, more_have = true;

	while (more_want && more_have) {
		more_want = str_cut(p, '/', &want, &p);
		more_have = str_cut(path, '/', &have, &path);
		if (str_is(want, "{}")) {
			if (have.len == 0 || have.len >= sizeof(c->args[0]) || args == API_ARGS_MAX)
				return false;
			memcpy(c->args[args], have.p, have.len);
			c->args[args++][have.len] = 0;
		} else if (!str_eq(want, have))
			return false;
	}
	return more_want == more_have;
}

/* What may stand behind "?"; which of them a call knows is in its row. */
static const struct query {
	const char *name;
	enum api_query bit;
	bool number;
	size_t offset, size;
} queries[] = {
#define TEXT(name, bit, member)                                                                        \
	{                                                                                              \
		name, bit, false, offsetof(struct call, member), sizeof(((struct call *)NULL)->member) \
	}
#define NUMBER(name, bit, member)                                 \
	{                                                         \
		name, bit, true, offsetof(struct call, member), 0 \
	}
    TEXT("namespace", API_Q_NAMESPACE, ns),
    TEXT("kind", API_Q_KIND, kind),
    TEXT("name", API_Q_NAME, name),
    NUMBER("revision", API_Q_REVISION, revision),
    NUMBER("seconds", API_Q_SECONDS, seconds),
    NUMBER("before", API_Q_BEFORE, before),
    NUMBER("limit", API_Q_LIMIT, limit),
#undef TEXT
#undef NUMBER
};

static bool query_unknown(struct call *c, unsigned known, struct str pair)
{
	char list[120] = "";

	for (size_t i = 0; i < ARRAY_LEN(queries); i++)
		if (known & queries[i].bit) {
			size_t len = strlen(list);
			snprintf(list + len, sizeof(list) - len, "%s%s=", len ? ", " : "", queries[i].name);
		}
	return err_set(c->err, ERR_INVALID, "query \"" STR_FMT "\": %s%s", (int)MIN(pair.len, 80), pair.p,
		       list[0] ? "this call knows only " : "this call knows none", list);
}

/* Values are names and numbers: nothing in them needs percent-encoding, so none is decoded. */
static bool take_value(struct call *c, const struct query *q, struct str value)
{
	void *member = (char *)c + q->offset;
	uint64_t n = 0;

	if (q->number) {
		if (!str_to_u64(value, INT64_MAX - 1, &n))
			return err_set(c->err, ERR_INVALID, "query %s: \"" STR_FMT "\" is not a number", q->name,
				       (int)MIN(value.len, 40), value.p);
		*(int64_t *)member = (int64_t)n;
		return true;
	}
	bool ok = value.len > 0 && value.len < q->size;
	for (size_t i = 0; ok && i < value.len; i++)
		ok = (value.p[i] >= 'a' && value.p[i] <= 'z') || (value.p[i] >= 'A' && value.p[i] <= 'Z') ||
		     (value.p[i] >= '0' && value.p[i] <= '9') || value.p[i] == '-' || value.p[i] == '.';
	if (!ok)
		return err_set(c->err, ERR_INVALID, "query %s: \"" STR_FMT "\" is not a name", q->name,
			       (int)MIN(value.len, 80), value.p);
	memcpy(member, value.p, value.len);
	((char *)member)[value.len] = 0;
	return true;
}

static bool take_query(struct call *c, unsigned known, struct str query)
{
	struct str pair, name, value;

	while (query.len) {
		const struct query *q = NULL;
		str_cut(query, '&', &pair, &query);
		bool cut = str_cut(pair, '=', &name, &value);
		for (size_t i = 0; cut && i < ARRAY_LEN(queries); i++)
			if ((known & queries[i].bit) && str_is(name, queries[i].name))
				q = &queries[i];
		if (!q)
			return query_unknown(c, known, pair);
		if (!take_value(c, q, value))
			return false;
	}
	return true;
}

static bool take_body(struct call *c, const struct row *row)
{
	if (strcmp(row->method, "POST") != 0)
		return true;
	c->body = json_read(str_make(c->request, c->request_len), c->err);
	if (!c->body)
		return err_prefix(c->err, "body");
	return json_is_object(c->body) || err_set(c->err, ERR_INVALID, "body: it is not a JSON object");
}

static const struct row *find_row(struct call *c, struct str path, unsigned *ret_status)
{
	*ret_status = 404;
	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		if (!path_matches(rows[i].path, path, c))
			continue;
		if (strcmp(c->method, rows[i].method) == 0)
			return &rows[i];
		*ret_status = 405;
	}
	return NULL;
}

void api_later(struct call *c)
{
	c->later = true;
}

/* --- its steps --- */

struct call *call_new(const struct api_request *rq, void *owner)
{
	struct call *c = NEW(struct call);

	c->method = mem_strndup(rq->method.p, rq->method.len);
	c->path = mem_strndup(rq->path.p, rq->path.len);
	c->who = mem_strdup(rq->who);
	c->request = rq->body;
	c->request_len = rq->body_len;
	c->owner = owner;
	return c;
}

void *call_owner(const struct call *c)
{
	return c->owner;
}

static void forget_answer(struct call *c)
{
	json_decref(c->body);
	json_decref(c->answer);
	json_decref(c->services);
	c->body = c->answer = c->services = NULL;
	if (c->text)
		mem_wipe_free(c->text, c->text_len);
	c->text = NULL;
}

void call_free(struct call **cp)
{
	struct call *c = *cp;

	*cp = NULL;
	if (!c)
		return;
	forget_answer(c);
	mem_free(c->method);
	mem_free(c->path);
	mem_free(c->who);
	mem_free(c->request);
	mem_free(c);
}

/* No such call: 404, or 405 when it is there with another method. */
static bool call_begin(struct call *c, const struct row **ret_row)
{
	struct str path, query = {NULL, 0};

	str_cut(str_of(c->path), '?', &path, &query);
	*ret_row = find_row(c, path, &c->status);
	if (!*ret_row)
		return err_set(c->err, ERR_NOT_FOUND, "%s " STR_FMT ": there is no such call", c->method,
			       (int)MIN(path.len, 200), path.p);
	c->status = 0;
	return take_query(c, (*ret_row)->queries, query) && take_body(c, *ret_row);
}

/* c->answer, or the error, becomes the answer that goes out. */
static void call_answer(struct call *c, bool ok)
{
	unsigned status = c->status ? c->status : codes[c->err->code].status;

	if (ok) {
		c->status = 200;
	} else {
		json_decref(c->answer);
		c->answer = error_json(c->err);
		if (c->object >= 0)
			json_object_set_new(json_object_get(c->answer, "error"), "object", json_integer(c->object));
		c->status = status;
	}
	c->text = text_of(c->answer, &c->text_len);
	c->answer = NULL;
}

void call_run(struct call *c, const struct api_cfg *cfg, struct store *store)
{
	const struct row *row;

	forget_answer(c);
	c->cfg = cfg;
	c->store = store;
	c->err = &c->error;
	c->error.code = ERR_NONE;
	c->object = -1;
	c->finish = NULL;
	c->later = false;
	c->status = 0;
	bool ok = call_begin(c, &row) && row->run(c);
	json_decref(c->body);
	c->body = NULL;
	if (!ok || (!c->later && !c->finish))
		call_answer(c, ok);
}

unsigned call_finish(struct call *c, const struct api_cfg *cfg, bool may_wait, char **ret, size_t *ret_len)
{
	bool ok = true;

	if (!c->text) {
		c->cfg = cfg;
		if (c->finish) {
			c->later = false;
			ok = c->finish(c);
		}
		if (ok && c->later && may_wait && c->seconds > 0)
			return API_LATER;
		call_answer(c, ok);
	}
	*ret = c->text;
	*ret_len = c->text_len;
	c->text = NULL;
	return c->status;
}

bool call_wants_store(const struct call *c)
{
	return !c->finish;
}

unsigned call_seconds(const struct call *c)
{
	return (unsigned)c->seconds;
}
