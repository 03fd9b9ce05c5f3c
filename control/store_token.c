/* SPDX-License-Identifier: Apache-2.0 */
/* store_token.c: join tokens (what each allows, who used it) and the API's bearer tokens. Only hashes of secrets are here. */
#include "control/store_db.h"

#include "lib/mem.h"

#define TOKENS_MAX  10000 /* join tokens at once; expired ones are dropped first */
#define BEARERS_MAX 1000

#define TOKEN_COLUMNS                                                         \
	"id, secret_hash, ns, sa, labels, not_after, created_by, created_ms," \
	" (SELECT count(*) FROM token_uses WHERE token = id)"

void store_token_done(struct store_token *t)
{
	json_decref(t->labels);
	mem_wipe(t, sizeof(*t));
}

/* Expired tokens are kept for a day, so that "expired" can be said of them, then dropped with what used them. */
static bool drop_old(struct store *s, struct err *err)
{
	int64_t limit = db_now_ms() / 1000 - 24 * 3600;

	return db_exec(s, err, "DELETE FROM token_uses WHERE token IN (SELECT id FROM tokens WHERE not_after < ?)", "i",
		       limit) &&
	       db_exec(s, err, "DELETE FROM tokens WHERE not_after < ?", "i", limit);
}

static bool below(struct store *s, const char *count_sql, int64_t max, const char *what, struct err *err)
{
	int64_t n = 0;

	if (!db_int(s, err, &n, count_sql, ""))
		return false;
	return n < max || err_set(err, ERR_LIMIT, "there are %lld %s already; delete some", (long long)n, what);
}

bool store_token_add(struct store *s, const struct store_token *t, struct err *err)
{
	MUST_BE(s, STORE_MAGIC);
	if (!db_begin(s, err))
		return false;
	bool ok =
	    drop_old(s, err) && below(s, "SELECT count(*) FROM tokens", TOKENS_MAX, "join tokens", err) &&
	    db_exec(s, err, "INSERT INTO tokens VALUES (?, ?, ?, ?, ?, ?, ?, ?)", "sbssjisi", t->id, t->secret_hash,
		    (size_t)STORE_HASH_LEN, t->ns, t->sa, t->labels, t->not_after, t->created_by, db_now_ms());
	if (!ok) {
		db_rollback(s);
		return false;
	}
	return db_commit(s, err);
}

static bool read_row(sqlite3_stmt *st, struct store_token *t)
{
	if (sqlite3_column_bytes(st, 1) != STORE_HASH_LEN || !sqlite3_column_blob(st, 1))
		return false;
	memcpy(t->secret_hash, sqlite3_column_blob(st, 1), STORE_HASH_LEN);
	t->not_after = sqlite3_column_int64(st, 5);
	t->created_ms = sqlite3_column_int64(st, 7);
	t->uses = (uint64_t)sqlite3_column_int64(st, 8);
	return db_text(st, 0, t->id, sizeof(t->id)) && db_text(st, 2, t->ns, sizeof(t->ns)) &&
	       db_text(st, 3, t->sa, sizeof(t->sa)) && db_json(st, 4, &t->labels) &&
	       db_text(st, 6, t->created_by, sizeof(t->created_by));
}

bool store_token_get(struct store *s, const char *id, struct store_token *ret, struct err *err)
{
	struct store_token t = {.labels = NULL};
	sqlite3_stmt *st = db_query(s, err, "SELECT " TOKEN_COLUMNS " FROM tokens WHERE id = ?", "s", id);

	if (!st)
		return false;
	int rc = db_step(s, st, err);
	bool ok = rc == 1 && read_row(st, &t);
	db_done(s, st);
	if (ok) {
		*ret = t;
		return true;
	}
	store_token_done(&t);
	if (rc == 0)
		return err_set(err, ERR_NOT_FOUND, "join token %.33s: there is none, or it was deleted", id);
	return rc == 1 ? db_corrupt(s, err, "a join token") : false;
}

bool store_token_each(struct store *s, bool (*each)(void *ctx, const struct store_token *t), void *ctx, struct err *err)
{
	sqlite3_stmt *st = db_query(s, err, "SELECT " TOKEN_COLUMNS " FROM tokens ORDER BY created_ms, id", "");
	bool go = true, ok = true;
	int rc = 0;

	if (!st)
		return false;
	while (go && ok && (rc = db_step(s, st, err)) == 1) {
		struct store_token t = {.labels = NULL};
		ok = read_row(st, &t) || db_corrupt(s, err, "a join token");
		go = ok && each(ctx, &t);
		store_token_done(&t);
	}
	db_done(s, st);
	return ok && rc >= 0;
}

bool store_token_delete(struct store *s, const char *id, struct err *err)
{
	MUST_BE(s, STORE_MAGIC);
	if (!db_begin(s, err))
		return false;
	bool ok = db_exec(s, err, "DELETE FROM token_uses WHERE token = ?", "s", id) &&
		  db_exec(s, err, "DELETE FROM tokens WHERE id = ?", "s", id);
	if (ok && sqlite3_changes(s->db) == 0)
		ok = err_set(err, ERR_NOT_FOUND, "join token %.33s: there is none, or it was deleted", id);
	if (!ok) {
		db_rollback(s);
		return false;
	}
	return db_commit(s, err);
}

static bool label_matches(const char *pattern, const char *value)
{
	size_t len = strlen(pattern);

	if (len && pattern[len - 1] == '*')
		return strncmp(pattern, value, len - 1) == 0;
	return strcmp(pattern, value) == 0;
}

bool store_labels_allowed(const json_t *allowed, const json_t *labels, struct err *err)
{
	const char *key;
	json_t *value;

	json_object_foreach((json_t *)(uintptr_t)labels, key, value)
	{
		const char *pattern = json_string_value(json_object_get(allowed, key));
		const char *text = json_string_value(value);
		if (!text)
			return err_set(err, ERR_INVALID, "label %s is not text", key);
		if (!pattern)
			return err_set(err, ERR_DENIED, "label %s=%s is not allowed by the join token", key, text);
		if (!label_matches(pattern, text))
			return err_set(err, ERR_DENIED,
				       "label %s=%s is not allowed by the join token (it allows %s=%s)", key, text, key,
				       pattern);
	}
	return true;
}

/* --- the API's bearer tokens --- */

bool store_bearer_add(struct store *s, const uint8_t hash[static STORE_HASH_LEN], const char *who, int64_t not_after,
		      struct err *err)
{
	MUST_BE(s, STORE_MAGIC);
	if (!db_begin(s, err))
		return false;
	bool ok = db_exec(s, err, "DELETE FROM bearers WHERE not_after < ?", "i", db_now_ms() / 1000) &&
		  below(s, "SELECT count(*) FROM bearers", BEARERS_MAX, "bearer tokens", err) &&
		  db_exec(s, err, "INSERT INTO bearers VALUES (?, ?, ?, ?)", "bsii", hash, (size_t)STORE_HASH_LEN, who,
			  not_after, db_now_ms());
	if (!ok) {
		db_rollback(s);
		return false;
	}
	return db_commit(s, err);
}

bool store_bearer_find(struct store *s, const uint8_t hash[static STORE_HASH_LEN], char *ret_who, size_t who_size,
		       struct err *err)
{
	sqlite3_stmt *st = db_query(s, err, "SELECT who FROM bearers WHERE hash = ? AND not_after > ?", "bi", hash,
				    (size_t)STORE_HASH_LEN, db_now_ms() / 1000);
	if (!st)
		return false;
	int rc = db_step(s, st, err);
	bool ok = rc == 1 && db_text(st, 0, ret_who, who_size);
	db_done(s, st);
	if (rc == 0)
		return err_set(err, ERR_DENIED, "the bearer token is not known, or it expired");
	return rc < 0 ? false : ok || db_corrupt(s, err, "a bearer token");
}
