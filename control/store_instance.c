/* SPDX-License-Identifier: Apache-2.0 */
/* store_instance.c: workload instances: how they joined, what they registered, how long their lease runs. */
#include "control/store_db.h"

#include "lib/mem.h"

#define INSTANCES_MAX   50000
#define INSTANCE_OLD_MS (7LL * 24 * 3600 * 1000) /* without a lease for so long: may go when room is needed */

#define INSTANCE_SELECT                                                                                            \
	"SELECT i.ns, i.name, i.sa, i.token, i.allowed_labels, i.labels, i.ports, i.addresses, i.zone, i.version," \
	" i.joined_ms, coalesce(l.until_ms, 0)"                                                                    \
	" FROM instances i LEFT JOIN leases l ON l.ns = i.ns AND l.name = i.name "

void store_instance_done(struct store_instance *i)
{
	json_decref(i->allowed_labels);
	json_decref(i->labels);
	json_decref(i->ports);
	json_decref(i->addresses);
	memset(i, 0, sizeof(*i));
}

static bool read_row(sqlite3_stmt *st, struct store_instance *i)
{
	i->joined_ms = sqlite3_column_int64(st, 10);
	i->lease_ms = sqlite3_column_int64(st, 11);
	return db_text(st, 0, i->ns, sizeof(i->ns)) && db_text(st, 1, i->name, sizeof(i->name)) &&
	       db_text(st, 2, i->sa, sizeof(i->sa)) && db_text(st, 3, i->token_id, sizeof(i->token_id)) &&
	       db_json(st, 4, &i->allowed_labels) && db_json(st, 5, &i->labels) && db_json(st, 6, &i->ports) &&
	       db_json(st, 7, &i->addresses) && db_text(st, 8, i->zone, sizeof(i->zone)) &&
	       db_text(st, 9, i->version, sizeof(i->version));
}

/* 1: found, 0: there is none, -1: failed. */
static int read_one(struct store *s, sqlite3_stmt *st, struct store_instance *ret, struct err *err)
{
	struct store_instance i = {.joined_ms = 0};

	if (!st)
		return -1;
	int rc = db_step(s, st, err);
	bool ok = rc == 1 && read_row(st, &i);
	db_done(s, st);
	if (ok) {
		*ret = i;
		return 1;
	}
	store_instance_done(&i);
	if (rc == 1)
		db_corrupt(s, err, "a workload instance");
	return rc == 1 ? -1 : rc;
}

static int find(struct store *s, const char *ns, const char *name, struct store_instance *ret, struct err *err)
{
	return read_one(s, db_query(s, err, INSTANCE_SELECT "WHERE i.ns = ? AND i.name = ?", "ss", ns, name), ret, err);
}

bool store_instance_get(struct store *s, const char *ns, const char *name, struct store_instance *ret, struct err *err)
{
	int rc = find(s, ns, name, ret, err);

	if (rc == 0)
		return err_set(err, ERR_NOT_FOUND, "workload %s/%s: it never joined, or was deleted", ns, name);
	return rc == 1;
}

bool store_instance_each(struct store *s, bool (*each)(void *ctx, const struct store_instance *i), void *ctx,
			 struct err *err)
{
	sqlite3_stmt *st = db_query(s, err, INSTANCE_SELECT "ORDER BY i.ns, i.name", "");
	bool go = true, ok = true;
	int rc = 0;

	if (!st)
		return false;
	while (go && ok && (rc = db_step(s, st, err)) == 1) {
		struct store_instance i = {.joined_ms = 0};
		ok = read_row(st, &i) || db_corrupt(s, err, "a workload instance");
		go = ok && each(ctx, &i);
		store_instance_done(&i);
	}
	db_done(s, st);
	return ok && rc >= 0;
}

/* --- joining --- */

static bool make_room(struct store *s, struct err *err)
{
	int64_t n = 0, limit = db_now_ms() - INSTANCE_OLD_MS;

	if (!db_int(s, err, &n, "SELECT count(*) FROM instances", ""))
		return false;
	if (n < INSTANCES_MAX)
		return true;
	if (!db_exec(s, err,
		     "DELETE FROM instances WHERE joined_ms < ?1 AND NOT EXISTS (SELECT 1 FROM leases l"
		     " WHERE l.ns = instances.ns AND l.name = instances.name AND l.until_ms > ?1)",
		     "i", limit))
		return false;
	return sqlite3_changes(s->db) > 0 ||
	       err_set(err, ERR_LIMIT, "there are %lld workload instances already", (long long)n);
}

static bool spend(struct store *s, const char *token_id, const char *name, struct err *err)
{
	int64_t used = 0;

	if (!db_int(s, err, &used, "SELECT count(*) FROM token_uses WHERE token = ? AND instance = ?", "ss", token_id,
		    name))
		return false;
	if (used)
		return err_set(err, ERR_EXISTS,
			       "join token %s was used by workload %s already; it rejoins with its own secret, or "
			       "needs a new token",
			       token_id, name);
	return db_exec(s, err, "INSERT INTO token_uses VALUES (?, ?, ?)", "ssi", token_id, name, db_now_ms());
}

/* Somebody else's name is not taken over: the same namespace holds several service accounts. */
static bool same_account(struct store *s, const struct store_token *t, const char *name, struct err *err)
{
	struct store_instance old;
	int rc = find(s, t->ns, name, &old, err);

	if (rc != 1)
		return rc == 0;
	bool same = strcmp(old.sa, t->sa) == 0;
	if (!same)
		err_set(err, ERR_DENIED,
			"workload %s/%s joined as service account %s; a token for %s cannot take its name", t->ns, name,
			old.sa, t->sa);
	store_instance_done(&old);
	return same;
}

static bool join(struct store *s, const char *token_id, const char *name, const uint8_t *rejoin_hash,
		 struct store_instance *ret, struct err *err)
{
	struct store_token t;

	if (!store_token_get(s, token_id, &t, err))
		return false;
	bool ok = spend(s, token_id, name, err) && same_account(s, &t, name, err) && make_room(s, err) &&
		  db_exec(s, err,
			  "INSERT INTO instances (ns, name, sa, token, allowed_labels, rejoin, joined_ms)"
			  " VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET token = excluded.token,"
			  " allowed_labels = excluded.allowed_labels, rejoin = excluded.rejoin, rejoin_prev = NULL,"
			  " joined_ms = excluded.joined_ms",
			  "ssssjbi", t.ns, name, t.sa, token_id, t.labels, rejoin_hash, (size_t)STORE_HASH_LEN,
			  db_now_ms()) &&
		  find(s, t.ns, name, ret, err) == 1;
	store_token_done(&t);
	return ok;
}

bool store_instance_join(struct store *s, const char *token_id, const char *name,
			 const uint8_t rejoin_hash[static STORE_HASH_LEN], struct store_instance *ret, struct err *err)
{
	struct store_instance i = {.joined_ms = 0};

	MUST_BE(s, STORE_MAGIC);
	if (!db_begin(s, err))
		return false;
	if (!join(s, token_id, name, rejoin_hash, &i, err)) {
		db_rollback(s);
		return false;
	}
	if (!db_commit(s, err)) {
		store_instance_done(&i);
		return false;
	}
	*ret = i;
	return true;
}

/* With the current secret the one presented becomes the former one. With the former one (its answer was lost) it stays the
 * former one, so that the client can come again with it; the lost one is dead. */
static bool rejoin(struct store *s, const uint8_t *presented, const uint8_t *new_hash, struct store_instance *ret,
		   struct err *err)
{
	struct store_instance i;
	int rc = read_one(s,
			  db_query(s, err, INSTANCE_SELECT "WHERE i.rejoin = ?1 OR i.rejoin_prev = ?1 LIMIT 1", "b",
				   presented, (size_t)STORE_HASH_LEN),
			  &i, err);

	if (rc == 0)
		return err_set(err, ERR_DENIED,
			       "the rejoin secret is not known (already rotated twice, or the workload was deleted);"
			       " join with a new token");
	if (rc < 0)
		return false;
	if (!db_exec(s, err, "UPDATE instances SET rejoin = ?, rejoin_prev = ? WHERE ns = ? AND name = ?", "bbss",
		     new_hash, (size_t)STORE_HASH_LEN, presented, (size_t)STORE_HASH_LEN, i.ns, i.name)) {
		store_instance_done(&i);
		return false;
	}
	*ret = i;
	return true;
}

bool store_instance_rejoin(struct store *s, const uint8_t presented[static STORE_HASH_LEN],
			   const uint8_t new_hash[static STORE_HASH_LEN], struct store_instance *ret, struct err *err)
{
	struct store_instance i = {.joined_ms = 0};

	MUST_BE(s, STORE_MAGIC);
	if (!db_begin(s, err))
		return false;
	if (!rejoin(s, presented, new_hash, &i, err)) {
		db_rollback(s);
		return false;
	}
	if (!db_commit(s, err)) {
		store_instance_done(&i);
		return false;
	}
	*ret = i;
	return true;
}

/* --- registration and leases --- */

static bool register_in(struct store *s, const struct store_instance *i, struct err *err)
{
	if (!db_exec(s, err,
		     "INSERT INTO instances (ns, name, sa, token, allowed_labels, joined_ms) VALUES (?, ?, ?, ?, ?, ?)"
		     " ON CONFLICT DO NOTHING",
		     "ssssji", i->ns, i->name, i->sa, i->token_id, i->allowed_labels, db_now_ms()))
		return false;
	if (!db_exec(s, err,
		     "UPDATE instances SET labels = ?, ports = ?, addresses = ?, zone = ?, version = ? WHERE ns = ? "
		     "AND name = ?",
		     "jjjssss", i->labels, i->ports, i->addresses, i->zone, i->version, i->ns, i->name))
		return false;
	return db_exec(s, err, "INSERT OR REPLACE INTO leases VALUES (?, ?, ?)", "ssi", i->ns, i->name, i->lease_ms);
}

bool store_instance_register(struct store *s, const struct store_instance *i, struct err *err)
{
	MUST_BE(s, STORE_MAGIC);
	if (!db_begin(s, err))
		return false;
	if (!register_in(s, i, err)) {
		db_rollback(s);
		return err_prefix(err, "workload %s/%s", i->ns, i->name);
	}
	return db_commit(s, err);
}

bool store_instance_delete(struct store *s, const char *ns, const char *name, struct err *err)
{
	MUST_BE(s, STORE_MAGIC);
	if (!db_begin(s, err))
		return false;
	bool ok = db_exec(s, err, "DELETE FROM leases WHERE ns = ? AND name = ?", "ss", ns, name) &&
		  db_exec(s, err, "DELETE FROM instances WHERE ns = ? AND name = ?", "ss", ns, name);
	if (ok && sqlite3_changes(s->db) == 0)
		ok = err_set(err, ERR_NOT_FOUND, "workload %s/%s: it never joined, or was deleted", ns, name);
	if (!ok) {
		db_rollback(s);
		return false;
	}
	return db_commit(s, err);
}

static bool set_leases(struct store *s, const struct store_lease *leases, size_t n, struct err *err)
{
	if (!db_begin(s, err))
		return false;
	for (size_t k = 0; k < n; k++)
		if (!db_exec(s, err, "UPDATE leases SET until_ms = ? WHERE ns = ? AND name = ?", "iss",
			     leases[k].until_ms, leases[k].ns, leases[k].name)) {
			db_rollback(s);
			return false;
		}
	return db_commit(s, err);
}

/* Renewals come every few seconds from everyone: they do not wait for the disk. The next commit that does takes them along. */
bool store_lease_set(struct store *s, const struct store_lease *leases, size_t n, struct err *err)
{
	bool ends = false;

	MUST_BE(s, STORE_MAGIC);
	for (size_t k = 0; k < n; k++)
		ends = ends || leases[k].until_ms == 0;
	if (!ends && !db_exec(s, err, "PRAGMA synchronous = NORMAL", ""))
		return false;
	bool ok = set_leases(s, leases, n, err);
	return (ends || db_exec(s, ok ? err : NULL, "PRAGMA synchronous = FULL", "")) && ok;
}
