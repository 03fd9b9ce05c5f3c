/* SPDX-License-Identifier: Apache-2.0 */
/* store_object.c: objects and their revisions. A batch is one transaction; what did not change leaves no trace. */
#include "control/store_db.h"

#include "lib/event.h"
#include "lib/mem.h"

#include <stdlib.h>

static bool seen_before(json_t *seen, const struct store_item *it)
{
	char *key = mem_printf("%s %s/%s", it->kind, it->ns, it->name);
	bool twice = json_object_get(seen, key) != NULL;

	json_object_set_new(seen, key, json_true());
	mem_free(key);
	return twice;
}

/* The body in force, NULL when there is none. */
static bool before_of(struct store *s, const struct store_item *it, json_t **ret, int64_t *ret_created, struct err *err)
{
	sqlite3_stmt *st =
	    db_query(s, err, "SELECT body, created_ms FROM objects WHERE kind = ? AND ns = ? AND name = ?", "sss",
		     it->kind, it->ns, it->name);
	if (!st)
		return false;
	int rc = db_step(s, st, err);
	bool ok = rc != 1 || db_json(st, 0, ret);
	if (rc == 1)
		*ret_created = sqlite3_column_int64(st, 1);
	db_done(s, st);
	if (!ok)
		return db_corrupt(s, err, "an object's body");
	return rc >= 0;
}

/* text: the new body as the store keeps it; NULL: deleted. */
static bool write_text(struct store *s, const struct store_item *it, const json_t *before, const char *text,
		       int64_t created_ms, int64_t revision, struct err *err)
{
	int64_t now = db_now_ms();

	if (text && strlen(text) > STORE_BODY_MAX)
		return err_set(err, ERR_LIMIT, "it is larger than %d KiB", STORE_BODY_MAX / 1024);
	if (!db_exec(s, err, "INSERT INTO revision_objects VALUES (?, ?, ?, ?, ?, ?)", "isssjs", revision, it->kind,
		     it->ns, it->name, before, text))
		return false;
	if (!text)
		return db_exec(s, err, "DELETE FROM objects WHERE kind = ? AND ns = ? AND name = ?", "sss", it->kind,
			       it->ns, it->name);
	return db_exec(s, err, "INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?, ?)", "ssssiii", it->kind,
		       it->ns, it->name, text, revision, before ? created_ms : now, now);
}

/* The body becomes text once: of an apply of many objects that is what takes longest. */
static bool write_item(struct store *s, const struct store_item *it, const json_t *before, int64_t created_ms,
		       int64_t revision, struct err *err)
{
	char *text = it->body ? json_dumps(it->body, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	bool ok = !it->body || text || err_set(err, ERR_SYSTEM, "its body cannot be written as JSON");

	ok = ok && write_text(s, it, before, text, created_ms, revision, err);
	free(text);
	return ok;
}

static bool apply_item(struct store *s, struct store_item *it, int64_t revision, struct err *err)
{
	json_t *before = NULL;
	int64_t created_ms = 0;
	bool ok = before_of(s, it, &before, &created_ms, err);

	if (ok && !it->body && !before)
		ok = err_set(err, ERR_NOT_FOUND, "there is no such object");
	ok = ok && (!it->admit || it->admit(s, it, before, it->body, err));
	if (ok && it->body && before && json_equal(before, it->body))
		it->result = STORE_UNCHANGED;
	else if (ok) {
		it->result = !it->body ? STORE_DELETED : before ? STORE_CHANGED : STORE_CREATED;
		ok = write_item(s, it, before, created_ms, revision, err);
	}
	if (ok && it->want_before)
		it->before = json_incref(before);
	json_decref(before);
	return ok || err_prefix(err, "%s %s/%s", it->kind, it->ns, it->name);
}

static bool apply_all(struct store *s, struct store_item *items, size_t n, int64_t revision, size_t *ret_changed,
		      struct err *err)
{
	json_t *seen = json_object();
	size_t changed = 0;
	bool ok = true;

	for (size_t i = 0; ok && i < n; i++) {
		if (seen_before(seen, &items[i]))
			ok = err_set(err, ERR_INVALID, "%s %s/%s: it is there twice", items[i].kind, items[i].ns,
				     items[i].name);
		ok = ok && apply_item(s, &items[i], revision, err);
		if (ok && items[i].result != STORE_UNCHANGED)
			changed++;
	}
	json_decref(seen);
	*ret_changed = changed;
	return ok;
}

/* How many objects there are once the items are written. Counted once: SQLite reads every body to count. */
static bool count_objects(struct store *s, const struct store_item *items, size_t n, int64_t *ret, struct err *err)
{
	int64_t count = s->file->objects;

	if (count < 0)
		return db_int(s, err, ret, "SELECT count(*) FROM objects", "");
	for (size_t i = 0; i < n; i++)
		count += (items[i].result == STORE_CREATED) - (items[i].result == STORE_DELETED);
	*ret = count;
	return true;
}

static bool note_revision(struct store *s, int64_t revision, const char *who, const char *what, int64_t count,
			  struct err *err)
{
	int64_t oldest = revision - STORE_REVISION_MAX;

	if (count > STORE_OBJECTS_MAX)
		return err_set(err, ERR_LIMIT, "that would make %lld objects; the store takes %d", (long long)count,
			       STORE_OBJECTS_MAX);
	return db_exec(s, err, "INSERT INTO revisions VALUES (?, ?, ?, ?)", "iiss", revision, db_now_ms(), who, what) &&
	       (oldest <= 0 || (db_exec(s, err, "DELETE FROM revisions WHERE id <= ?", "i", oldest) &&
				db_exec(s, err, "DELETE FROM revision_objects WHERE revision <= ?", "i", oldest)));
}

void store_tell(struct store *s, uint64_t revision, const struct store_change *changes, size_t n)
{
	list_for_each_safe (w, &s->watches, struct store_watch, node)
		w->on_change(w, revision, changes, n);
}

static void tell(struct store *s, const struct store_item *items, size_t n, size_t changed, uint64_t revision)
{
	struct store_change *c = mem_zalloc(changed * sizeof(*c));
	size_t k = 0;

	for (size_t i = 0; i < n; i++)
		if (items[i].result != STORE_UNCHANGED)
			c[k++] = (struct store_change){items[i].kind, items[i].ns, items[i].name, items[i].body};
	MUST(k == changed);
	store_tell(s, revision, c, k);
	mem_free(c);
}

bool store_apply(struct store *s, struct store_item *items, size_t n, const char *who, const char *what, bool dry_run,
		 uint64_t *ret_revision, struct err *err)
{
	uint64_t current = 0;
	int64_t count = 0;
	size_t changed = 0;

	MUST_BE(s, STORE_MAGIC);
	if (!db_begin(s, err))
		return false;
	bool ok = store_revision(s, &current, err);
	int64_t revision = (int64_t)current + 1;
	ok = ok && apply_all(s, items, n, revision, &changed, err) &&
	     (changed == 0 ||
	      (count_objects(s, items, n, &count, err) && note_revision(s, revision, who, what, count, err)));
	if (!ok || dry_run || changed == 0) {
		db_rollback(s);
		if (ok && ret_revision)
			*ret_revision = current;
		return ok;
	}
	s->file->objects = count;
	if (!db_commit(s, err))
		return false;
	if (ret_revision)
		*ret_revision = (uint64_t)revision;
	event(EV_REVISION, "revision=%lld who=\"%s\" what=\"%s\" objects=%zu", (long long)revision, who, what, changed);
	tell(s, items, n, changed, (uint64_t)revision);
	return true;
}

bool store_revision(struct store *s, uint64_t *ret, struct err *err)
{
	int64_t revision = 0;

	if (!db_int(s, err, &revision, "SELECT coalesce(max(id), 0) FROM revisions", ""))
		return false;
	*ret = (uint64_t)revision;
	return true;
}

bool store_get(struct store *s, const char *kind, const char *ns, const char *name, json_t **ret_body,
	       uint64_t *ret_revision, struct err *err)
{
	json_t *body = NULL;
	uint64_t revision = 0;
	sqlite3_stmt *st = db_query(s, err, "SELECT body, revision FROM objects WHERE kind = ? AND ns = ? AND name = ?",
				    "sss", kind, ns, name);

	if (!st)
		return false;
	int rc = db_step(s, st, err);
	bool ok = rc == 1 && db_json(st, 0, &body) && body;
	if (rc == 1)
		revision = (uint64_t)sqlite3_column_int64(st, 1);
	db_done(s, st);
	if (rc < 0)
		return false;
	if (rc == 0)
		return err_set(err, ERR_NOT_FOUND, "%s %s/%s: there is no such object", kind, ns, name);
	if (!ok)
		return db_corrupt(s, err, "an object's body");
	*ret_body = body;
	if (ret_revision)
		*ret_revision = revision;
	return true;
}

bool store_each(struct store *s, const char *kind, const char *ns, bool (*each)(void *ctx, const struct store_row *row),
		void *ctx, struct err *err)
{
	sqlite3_stmt *st = db_query(s, err,
				    "SELECT ns, name, body, revision, created_ms, changed_ms FROM objects"
				    " WHERE kind = ? AND (?2 IS NULL OR ns = ?2) ORDER BY ns, name",
				    "ss", kind, ns);
	int rc;
	bool go = true;

	if (!st)
		return false;
	while ((rc = db_step(s, st, err)) == 1 && go) {
		struct store_row row = {.kind = kind};
		row.ns = (const char *)sqlite3_column_text(st, 0);
		row.name = (const char *)sqlite3_column_text(st, 1);
		row.revision = (uint64_t)sqlite3_column_int64(st, 3);
		row.created_ms = sqlite3_column_int64(st, 4);
		row.changed_ms = sqlite3_column_int64(st, 5);
		if (!row.ns || !row.name || !db_json(st, 2, &row.body) || !row.body) {
			db_done(s, st);
			return db_corrupt(s, err, "an object");
		}
		go = each(ctx, &row);
		json_decref(row.body);
	}
	db_done(s, st);
	return rc >= 0;
}

void store_watch(struct store *s, struct store_watch *w)
{
	list_push(&s->watches, &w->node);
}

void store_unwatch(struct store_watch *w)
{
	list_remove(&w->node);
}
