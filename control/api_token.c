/* SPDX-License-Identifier: Apache-2.0 */
/* api_token.c: join tokens, and bearer tokens for this API: making, listing and revoking them. A secret is in the answer that makes it
 * and nowhere else. */
#include "control/api_impl.h"

#include "certs/token.h"
#include "control/kind.h"
#include "lib/json.h"
#include "lib/mem.h"

#include <openssl/evp.h>
#include <openssl/rand.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define TTL_DEFAULT_S (24 * 3600)
#define TTL_MAX_S     (365 * 24 * 3600)

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

	if (!store_mesh_get(c->store, &mesh, c->err) || !take_label("namespace", w->ns, t->ns, sizeof(t->ns), c->err) ||
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
	snprintf(row->created_by, sizeof(row->created_by), "%.255s", c->who);
	token_secret_hash(t->secret, row->secret_hash);
	return true;
}

bool api_token_create(struct call *c)
{
	struct token_wish w = {.ns = "default", .ttl_s = TTL_DEFAULT_S};
	struct token t = {.not_after = 0};
	struct store_token row = {.labels = NULL};
	char text[TOKEN_TEXT_MAX];

	bool ok = read_wish(c, &w) && make_token(c, &w, &t, &row) && token_format(&t, text, c->err) &&
		  store_token_add(c->store, &row, c->err);
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

bool api_tokens(struct call *c)
{
	json_t *items = json_array();

	if (!store_token_each(c->store, append_token, items, c->err)) {
		json_decref(items);
		return false;
	}
	c->answer = json_pack("{s:o}", "items", items);
	return true;
}

bool api_token_remove(struct call *c)
{
	c->answer = json_object();
	return store_token_delete(c->store, c->args[0], c->err);
}

bool api_bearer_create(struct call *c)
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
	bool ok = store_bearer_add(c->store, hash, label, not_after, c->err);
	if (ok)
		c->answer = json_pack("{s:s, s:I}", "token", text, "notAfter", (json_int_t)not_after);
	mem_wipe(secret, sizeof(secret));
	mem_wipe(text, sizeof(text));
	return ok;
}
