/* SPDX-License-Identifier: Apache-2.0 */
/* api_call.c: finds the row of api.tbl.h and does what it says. */
#include "control/api_call.h"

#include "certs/token.h"
#include "control/api_impl.h"
#include "control/kind.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#define TTL_DEFAULT_S (24 * 3600)
#define TTL_MAX_S     (365 * 24 * 3600)

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

unsigned api_error(const struct err *err, json_t **ret)
{
	json_t *text = json_string(err->text);

	*ret = json_pack("{s:{s:s, s:o}}", "error", "code", codes[err->code].name, "text",
			 text ? text : json_string("(not UTF-8)"));
	return codes[err->code].status;
}

/* --- objects --- */

struct batch {
	json_t *objects;
	bool dry_run, bodies;
	const char *what;
};

static bool read_batch(struct call *c, struct batch *b)
{
	static const char *const fields[] = {"objects", "dryRun", "bodies", "what", NULL};

	return json_fields_known(c->body, fields, NULL, c->err) &&
	       json_get_array(c->body, "objects", true, API_OBJECTS_MAX, NULL, &b->objects, c->err) &&
	       json_get_bool(c->body, "dryRun", false, NULL, &b->dry_run, c->err) &&
	       json_get_bool(c->body, "bodies", false, NULL, &b->bodies, c->err) &&
	       json_get_str(c->body, "what", false, NULL, &b->what, c->err);
}

static const char *result_text(enum store_result r)
{
	static const char *const texts[] = {[STORE_CREATED] = "created",
					    [STORE_CHANGED] = "changed",
					    [STORE_UNCHANGED] = "unchanged",
					    [STORE_DELETED] = "deleted"};
	return texts[r];
}

/* The item that failed is found by its name in the error. */
static bool batch_failed(struct call *c, const struct store_item *items, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		char name[STORE_NS_MAX + STORE_NAME_MAX + 80];
		int len = snprintf(name, sizeof(name), "%s %s/%s:", items[i].kind, items[i].ns, items[i].name);
		if (strncmp(c->err->text, name, (size_t)len) == 0)
			c->object = (json_int_t)i;
	}
	return false;
}

static json_t *item_json(const struct store_item *it, bool bodies)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:s}", "kind", it->kind, "namespace", it->ns, "name", it->name, "result",
			      result_text(it->result));

	if (bodies && it->result != STORE_UNCHANGED) {
		json_object_set_new(o, "before", it->before ? json_incref(it->before) : json_null());
		json_object_set_new(o, "after", it->body ? json_incref(it->body) : json_null());
	}
	return o;
}

bool api_batch(struct call *c, struct store_item *items, size_t n, const char *what, bool dry_run, bool bodies)
{
	char line[256];
	uint64_t revision = 0;

	for (size_t i = 0; i < n; i++)
		items[i].want_before = bodies;
	snprintf(line, sizeof(line), "%.200s", what);
	bool ok = store_apply(c->cfg->store, items, n, c->rq->who, line, dry_run, &revision, c->err) ||
		  batch_failed(c, items, n);
	json_t *results = json_array();
	for (size_t i = 0; i < n; i++) {
		if (ok)
			json_array_append_new(results, item_json(&items[i], bodies));
		json_decref(items[i].before);
	}
	c->answer =
	    json_pack("{s:I, s:b, s:o}", "revision", (json_int_t)revision, "dryRun", dry_run, "objects", results);
	return ok;
}

static bool apply(struct call *c)
{
	struct batch b = {.what = "apply"};

	if (!read_batch(c, &b))
		return false;
	size_t n = json_array_size(b.objects), checked = 0;
	struct object *o = mem_zalloc((n + 1) * sizeof(*o));
	struct store_item *items = mem_zalloc((n + 1) * sizeof(*items));
	bool ok = true;
	for (; ok && checked < n; checked += ok) {
		ok = object_check(json_array_get(b.objects, checked), "default", &o[checked], c->err);
		if (ok)
			items[checked] = (struct store_item){.kind = o[checked].kind->name,
							     .ns = o[checked].ns,
							     .name = o[checked].name,
							     .body = o[checked].body,
							     .admit = o[checked].kind->admit};
		else
			c->object = (json_int_t)checked;
	}
	ok = ok && api_batch(c, items, n, b.what, b.dry_run, b.bodies);
	for (size_t i = 0; i < checked; i++)
		json_decref(o[i].body);
	mem_free(items);
	mem_free(o);
	return ok;
}

/* {kind, namespace, name}, or a whole object as it was applied. */
static bool name_of(const json_t *in, struct store_item *ret, struct err *err)
{
	const json_t *meta = json_object_get(in, "metadata");
	const char *kind_name = json_string_value(json_object_get(in, "kind"));
	const char *ns = json_string_value(json_object_get(meta ? meta : in, "namespace"));
	const char *name = json_string_value(json_object_get(meta ? meta : in, "name"));

	if (!kind_name || !name)
		return err_set(err, ERR_INVALID, "an object to delete needs kind and name");
	const struct kind *kind = kind_find(kind_name, err);
	*ret = (struct store_item){.kind = kind ? kind->name : "",
				   .ns = ns ? ns : "default",
				   .name = name,
				   .admit = kind ? kind->admit : NULL};
	return kind != NULL;
}

static bool remove_many(struct call *c)
{
	struct batch b = {.what = "delete"};
	bool ok = true;

	if (!read_batch(c, &b))
		return false;
	size_t n = json_array_size(b.objects);
	struct store_item *items = mem_zalloc((n + 1) * sizeof(*items));
	for (size_t i = 0; ok && i < n; i++) {
		ok = name_of(json_array_get(b.objects, i), &items[i], c->err);
		if (!ok)
			c->object = (json_int_t)i;
	}
	ok = ok && api_batch(c, items, n, b.what, b.dry_run, b.bodies);
	mem_free(items);
	return ok;
}

static bool remove_one(struct call *c)
{
	const struct kind *kind = kind_find(c->args[0], c->err);

	if (!kind)
		return false;
	struct store_item it = {.kind = kind->name, .ns = c->args[1], .name = c->args[2], .admit = kind->admit};
	return api_batch(c, &it, 1, "delete", false, false);
}

/* What weftd says of it goes with it. */
static void add_status(struct store *s, const struct kind *kind, json_t *object)
{
	if (kind->status)
		json_object_set_new(object, "status", kind->status(s, object));
}

struct listing {
	struct store *store;
	const struct kind *kind;
	json_t *items;
};

static bool append_object(void *ctx, const struct store_row *row)
{
	struct listing *l = ctx;

	add_status(l->store, l->kind, row->body);
	json_array_append(l->items, row->body);
	return true;
}

static bool list(struct call *c)
{
	const struct kind *kind = kind_find(c->args[0], c->err);

	if (!kind)
		return false;
	json_t *items = json_array();
	uint64_t revision = 0;
	struct listing l = {c->cfg->store, kind, items};
	c->answer = json_pack("{s:s, s:s, s:o}", "apiVersion", "v1", "kind", "List", "items", items);
	if (!store_revision(c->cfg->store, &revision, c->err) ||
	    !store_each(c->cfg->store, kind->name, c->ns[0] ? c->ns : NULL, append_object, &l, c->err))
		return false;
	/* where a watch goes on from */
	json_object_set_new(c->answer, "metadata",
			    json_pack("{s:o}", "resourceVersion", json_sprintf("%llu", (unsigned long long)revision)));
	return true;
}

static bool get(struct call *c)
{
	const struct kind *kind = kind_find(c->args[0], c->err);

	if (!kind || !store_get(c->cfg->store, kind->name, c->args[1], c->args[2], &c->answer, NULL, c->err))
		return false;
	add_status(c->cfg->store, kind, c->answer);
	return true;
}

/* --- status --- */

static bool version(struct call *c)
{
	struct timespec t;

	clock_gettime(CLOCK_REALTIME, &t);
	c->answer = json_pack("{s:s, s:I}", "version", WEFT_VERSION, "nowMs",
			      (json_int_t)t.tv_sec * 1000 + t.tv_nsec / 1000000);
	return true;
}

struct tally {
	struct store *store;
	const struct kind *kind;
	json_int_t n;
	json_t *conditions; /* of objects that are not as they should be */
};

/* Every condition of its status that is not true, once. */
static void add_conditions(struct tally *t, const struct store_row *row)
{
	size_t i, k;
	json_t *parent, *c, *status = t->kind->status(t->store, row->body), *seen = json_object();
	json_array_foreach(json_object_get(status, "parents"), i, parent)
	{
		json_array_foreach(json_object_get(parent, "conditions"), k, c)
		{
			const char *message = json_string_value(json_object_get(c, "message"));
			if (strcmp(json_string_value(json_object_get(c, "status")), "True") == 0 ||
			    json_object_get(seen, message))
				continue;
			json_object_set_new(seen, message, json_true());
			json_array_append_new(t->conditions, json_pack("{s:s, s:s, s:s, s:O, s:O, s:O}", "kind",
								       row->kind, "namespace", row->ns, "name",
								       row->name, "type", json_object_get(c, "type"),
								       "reason", json_object_get(c, "reason"),
								       "message", json_object_get(c, "message")));
		}
	}
	json_decref(seen);
	json_decref(status);
}

static bool count_object(void *ctx, const struct store_row *row)
{
	struct tally *t = ctx;

	t->n++;
	if (t->kind->status)
		add_conditions(t, row);
	return true;
}

static bool status(struct call *c)
{
	struct store_mesh mesh;
	uint64_t revision = 0;
	json_t *objects = json_object(), *conditions = json_array();
	bool ok = store_mesh_get(c->cfg->store, &mesh, c->err) && store_revision(c->cfg->store, &revision, c->err);

	for (size_t i = 0; ok && kind_at(i); i++) {
		struct tally t = {c->cfg->store, kind_at(i), 0, conditions};
		ok = store_each(c->cfg->store, kind_at(i)->name, NULL, count_object, &t, c->err);
		json_object_set_new(objects, kind_at(i)->plural, json_integer(t.n));
	}
	if (!ok) {
		json_decref(objects);
		json_decref(conditions);
		return false;
	}
	c->answer = json_pack("{s:s, s:I, s:s, s:o, s:o}", "version", WEFT_VERSION, "revision", (json_int_t)revision,
			      "trustDomain", mesh.trust_domain, "objects", objects, "conditions", conditions);
	json_t *more = c->cfg->status ? c->cfg->status(c->cfg->ctx) : NULL;
	json_object_update_missing(c->answer, more);
	json_decref(more);
	return true;
}

/* --- workloads --- */

static bool append_workload(void *ctx, const struct store_instance *i)
{
	json_array_append_new(ctx,
			      json_pack("{s:s, s:s, s:s, s:O?, s:O?, s:O?, s:s, s:s, s:I, s:I}", "namespace", i->ns,
					"name", i->name, "serviceAccount", i->sa, "labels", i->labels, "ports",
					i->ports, "addresses", i->addresses, "zone", i->zone, "version", i->version,
					"joinedMs", (json_int_t)i->joined_ms, "leaseMs", (json_int_t)i->lease_ms));
	return true;
}

static bool workloads(struct call *c)
{
	json_t *items = json_array();

	if (!store_instance_each(c->cfg->store, append_workload, items, c->err)) {
		json_decref(items);
		return false;
	}
	c->answer = json_pack("{s:o}", "items", items);
	return true;
}

static bool workload_remove(struct call *c)
{
	c->answer = json_object();
	return store_instance_delete(c->cfg->store, c->args[0], c->args[1], c->err);
}

/* --- tokens --- */

static bool random_id(char out[static 33], struct err *err)
{
	uint8_t raw[16];

	if (RAND_bytes(raw, sizeof(raw)) != 1)
		return err_set(err, ERR_SYSTEM, "no random bytes from OpenSSL");
	for (size_t i = 0; i < sizeof(raw); i++)
		snprintf(out + 2 * i, 3, "%02x", raw[i]);
	return true;
}

static void sha256(const char *text, uint8_t out[static STORE_HASH_LEN])
{
	MUST(EVP_Digest(text, strlen(text), out, NULL, EVP_sha256(), NULL) == 1);
}

static bool take_label(const char *name, const char *value, char *out, size_t size, struct err *err)
{
	if (!str_is_dns_label(str_of(value)))
		return err_set(err, ERR_INVALID,
			       "%s: \"%.80s\" is not a name (1 to 63 of a-z, 0-9 and -, no - at the ends)", name,
			       value);
	snprintf(out, size, "%s", value);
	return true;
}

/* Patterns: a label's value, with "*" at the end or alone. */
static bool take_patterns(const json_t *labels, struct err *err)
{
	static const struct jpath at = {.field = "labels"};
	json_t *plain = json_object();
	const char *key;
	json_t *v;

	json_object_foreach((json_t *)(uintptr_t)labels, key, v)
	{
		size_t len = json_string_length(v);
		bool star = len && json_string_value(v)[len - 1] == '*';
		/* what stands before the star may end in "-" or "." */
		json_object_set_new(plain, key,
				    star ? json_sprintf("%.*sx", (int)len - 1, json_string_value(v)) : json_incref(v));
	}
	bool ok = labels_check(plain, &at, err);
	json_decref(plain);
	return ok;
}

static void join_cidrs(const struct store_mesh *mesh, char *out, size_t size)
{
	size_t at = 0;

	for (size_t i = 0; i < mesh->cidrs_len && at < size; i++) {
		char ip[IP_TEXT_MAX];
		at += (size_t)snprintf(out + at, size - at, "%s%s/%u", i ? "," : "", ip_text(&mesh->cidrs[i].ip, ip),
				       mesh->cidrs[i].bits);
	}
}

struct token_wish {
	const char *ns, *sa, *server;
	json_t *labels;
	int64_t ttl_s;
};

static bool read_wish(struct call *c, struct token_wish *w)
{
	static const char *const fields[] = {"namespace", "serviceAccount", "labels", "ttlSeconds", "server", NULL};

	return json_fields_known(c->body, fields, NULL, c->err) &&
	       json_get_str(c->body, "namespace", false, NULL, &w->ns, c->err) &&
	       json_get_str(c->body, "serviceAccount", true, NULL, &w->sa, c->err) &&
	       json_get_object(c->body, "labels", false, NULL, &w->labels, c->err) &&
	       json_get_int(c->body, "ttlSeconds", false, 1, TTL_MAX_S, NULL, &w->ttl_s, c->err) &&
	       json_get_str(c->body, "server", false, NULL, &w->server, c->err) && take_patterns(w->labels, c->err);
}

static bool make_token(struct call *c, const struct token_wish *w, struct token *t, struct store_token *row)
{
	struct store_mesh mesh;

	if (!store_mesh_get(c->cfg->store, &mesh, c->err) ||
	    !take_label("namespace", w->ns, t->ns, sizeof(t->ns), c->err) ||
	    !take_label("serviceAccount", w->sa, t->sa, sizeof(t->sa), c->err) || !random_id(t->id, c->err) ||
	    !token_secret_new(t->secret, c->err))
		return false;
	memcpy(t->root_hash, c->cfg->root_hash, sizeof(t->root_hash));
	memcpy(t->trust_domain, mesh.trust_domain, sizeof(t->trust_domain));
	join_cidrs(&mesh, t->cidrs, sizeof(t->cidrs));
	t->not_after = time(NULL) + w->ttl_s;
	const char *server = w->server ? w->server : mesh.server;
	if (strlen(server) >= sizeof(t->server))
		return err_set(c->err, ERR_INVALID, "server: longer than %zu bytes", sizeof(t->server) - 1);
	memcpy(t->server, server, strlen(server) + 1);
	memcpy(row->id, t->id, sizeof(row->id));
	memcpy(row->ns, t->ns, sizeof(row->ns));
	memcpy(row->sa, t->sa, sizeof(row->sa));
	row->labels = w->labels;
	row->not_after = t->not_after;
	snprintf(row->created_by, sizeof(row->created_by), "%.255s", c->rq->who);
	token_secret_hash(t->secret, row->secret_hash);
	return true;
}

static bool token_create(struct call *c)
{
	struct token_wish w = {.ns = "default", .ttl_s = TTL_DEFAULT_S};
	struct token t = {.not_after = 0};
	struct store_token row = {.labels = NULL};
	char text[TOKEN_TEXT_MAX];

	bool ok = read_wish(c, &w) && make_token(c, &w, &t, &row) && token_format(&t, text, c->err) &&
		  store_token_add(c->cfg->store, &row, c->err);
	if (ok)
		c->answer =
		    json_pack("{s:s, s:s, s:I}", "id", t.id, "token", text, "notAfter", (json_int_t)t.not_after);
	mem_wipe(&t, sizeof(t));
	mem_wipe(text, sizeof(text));
	return ok;
}

static bool append_token(void *ctx, const struct store_token *t)
{
	json_array_append_new(ctx, json_pack("{s:s, s:s, s:s, s:O?, s:I, s:s, s:I, s:I}", "id", t->id, "namespace",
					     t->ns, "serviceAccount", t->sa, "labels", t->labels, "notAfter",
					     (json_int_t)t->not_after, "createdBy", t->created_by, "createdMs",
					     (json_int_t)t->created_ms, "uses", (json_int_t)t->uses));
	return true;
}

static bool tokens(struct call *c)
{
	json_t *items = json_array();

	if (!store_token_each(c->cfg->store, append_token, items, c->err)) {
		json_decref(items);
		return false;
	}
	c->answer = json_pack("{s:o}", "items", items);
	return true;
}

static bool token_remove(struct call *c)
{
	c->answer = json_object();
	return store_token_delete(c->cfg->store, c->args[0], c->err);
}

static bool bearer_create(struct call *c)
{
	static const char *const fields[] = {"name", "ttlSeconds", NULL};
	const char *name = NULL;
	char label[64], secret[65], text[sizeof(secret) + 8];
	uint8_t hash[STORE_HASH_LEN];
	int64_t ttl_s = TTL_DEFAULT_S;

	if (!json_fields_known(c->body, fields, NULL, c->err) ||
	    !json_get_str(c->body, "name", true, NULL, &name, c->err) ||
	    !json_get_int(c->body, "ttlSeconds", false, 1, TTL_MAX_S, NULL, &ttl_s, c->err) ||
	    !take_label("name", name, label, sizeof(label), c->err) || !token_secret_new(secret, c->err))
		return false;
	snprintf(text, sizeof(text), "weftapi.%s", secret);
	sha256(text, hash);
	int64_t not_after = time(NULL) + ttl_s;
	bool ok = store_bearer_add(c->cfg->store, hash, label, not_after, c->err);
	if (ok)
		c->answer = json_pack("{s:s, s:I}", "token", text, "notAfter", (json_int_t)not_after);
	mem_wipe(secret, sizeof(secret));
	mem_wipe(text, sizeof(text));
	return ok;
}

/* --- which call it is --- */

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
	c->body = json_read(c->rq->body, c->err);
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
		if (str_is(c->rq->method, rows[i].method))
			return &rows[i];
		*ret_status = 405;
	}
	return NULL;
}

void api_later(struct call *c)
{
	c->later = c->rq->may_wait && c->seconds > 0;
}

unsigned api_call(const struct api_cfg *cfg, const struct api_request *rq, json_t **ret, unsigned *ret_seconds)
{
	struct err err = {.code = ERR_NONE};
	struct call c = {.cfg = cfg, .rq = rq, .object = -1, .err = &err};
	struct str path = rq->path, query = {NULL, 0};
	unsigned status_code;

	str_cut(rq->path, '?', &path, &query);
	const struct row *row = find_row(&c, path, &status_code);
	if (!row) {
		err_set(&err, ERR_NOT_FOUND, STR_FMT " " STR_FMT ": there is no such call", STR_ARG(rq->method),
			(int)MIN(path.len, 200), path.p);
		api_error(&err, ret);
		return status_code;
	}
	bool ok = take_query(&c, row->queries, query) && take_body(&c, row) && row->run(&c);
	json_decref(c.body);
	if (ok && !c.later) {
		*ret = c.answer;
		return 200;
	}
	json_decref(c.answer);
	if (ok) {
		*ret = NULL;
		*ret_seconds = (unsigned)c.seconds;
		return API_LATER;
	}
	status_code = api_error(&err, ret);
	if (c.object >= 0)
		json_object_set_new(json_object_get(*ret, "error"), "object", json_integer(c.object));
	return status_code;
}
