/* SPDX-License-Identifier: Apache-2.0 */
/* store_history.c: reads the revisions that store_object.c writes. Changes nothing. */
#include "control/store_history.h"

#include "control/store_db.h"

static bool revision_row(struct store *s, sqlite3_stmt *st, bool (*each)(void *ctx, const struct store_revision *r),
			 void *ctx, bool *ret_go, struct err *err)
{
	struct store_revision r = {.id = (uint64_t)sqlite3_column_int64(st, 0), .at_ms = sqlite3_column_int64(st, 1)};

	r.who = (const char *)sqlite3_column_text(st, 2);
	r.what = (const char *)sqlite3_column_text(st, 3);
	r.objects = (uint64_t)sqlite3_column_int64(st, 4);
	if (!r.who || !r.what)
		return db_corrupt(s, err, "a revision");
	*ret_go = each(ctx, &r);
	return true;
}

bool store_revision_each(struct store *s, const struct store_past_filter *f, uint64_t below, uint64_t limit,
			 bool (*each)(void *ctx, const struct store_revision *r), void *ctx, struct err *err)
{
	sqlite3_stmt *st;
	bool go = true, ok = true;
	int rc = 0;

	if (f->kind || f->ns || f->name)
		st = db_query(
		    s, err,
		    "SELECT id, at_ms, who, what, (SELECT count(*) FROM revision_objects o WHERE o.revision = id)"
		    " FROM revisions WHERE id < ?4 AND EXISTS (SELECT 1 FROM revision_objects o"
		    " WHERE o.revision = id AND (?1 IS NULL OR o.kind = ?1) AND (?2 IS NULL OR o.ns = ?2)"
		    " AND (?3 IS NULL OR o.name = ?3)) ORDER BY id DESC LIMIT ?5",
		    "sssii", f->kind, f->ns, f->name, below ? (int64_t)below : INT64_MAX, (int64_t)limit);
	else
		st = db_query(
		    s, err,
		    "SELECT id, at_ms, who, what, (SELECT count(*) FROM revision_objects o WHERE o.revision = id)"
		    " FROM revisions WHERE id < ?1 ORDER BY id DESC LIMIT ?2",
		    "ii", below ? (int64_t)below : INT64_MAX, (int64_t)limit);
	if (!st)
		return false;
	while (ok && go && (rc = db_step(s, st, err)) == 1)
		ok = revision_row(s, st, each, ctx, &go, err);
	db_done(s, st);
	return ok && rc >= 0;
}

bool store_revision_get(struct store *s, uint64_t id, bool (*each)(void *ctx, const struct store_revision *r),
			void *ctx, struct err *err)
{
	sqlite3_stmt *st =
	    db_query(s, err,
		     "SELECT id, at_ms, who, what, (SELECT count(*) FROM revision_objects o WHERE o.revision = id)"
		     " FROM revisions WHERE id = ?",
		     "i", (int64_t)id);
	bool go, ok = true;

	if (!st)
		return false;
	int rc = db_step(s, st, err);
	if (rc == 1)
		ok = revision_row(s, st, each, ctx, &go, err);
	db_done(s, st);
	if (rc == 0)
		return err_set(err, ERR_NOT_FOUND, "revision %llu: there is none (the newest %d are kept)",
			       (unsigned long long)id, STORE_REVISION_MAX);
	return ok && rc > 0;
}

/* Columns: revision, kind, ns, name, before, after. */
static bool past_rows(struct store *s, sqlite3_stmt *st, bool (*each)(void *ctx, const struct store_past *p), void *ctx,
		      struct err *err)
{
	bool go = true, ok = true;
	int rc = 0;

	while (ok && go && (rc = db_step(s, st, err)) == 1) {
		struct store_past p = {.revision = (uint64_t)sqlite3_column_int64(st, 0)};
		p.kind = (const char *)sqlite3_column_text(st, 1);
		p.ns = (const char *)sqlite3_column_text(st, 2);
		p.name = (const char *)sqlite3_column_text(st, 3);
		ok = p.kind && p.ns && p.name && db_json(st, 4, &p.before) && db_json(st, 5, &p.after);
		if (ok)
			go = each(ctx, &p);
		json_decref(p.before);
		json_decref(p.after);
	}
	db_done(s, st);
	return ok ? rc >= 0 : db_corrupt(s, err, "an object of a revision");
}

bool store_past_of(struct store *s, uint64_t revision, bool (*each)(void *ctx, const struct store_past *p), void *ctx,
		   struct err *err)
{
	sqlite3_stmt *st = db_query(s, err,
				    "SELECT revision, kind, ns, name, before, after FROM revision_objects"
				    " WHERE revision = ? ORDER BY kind, ns, name",
				    "i", (int64_t)revision);
	return st && past_rows(s, st, each, ctx, err);
}

/* Is every revision behind this one still there? */
static bool check_reach(struct store *s, uint64_t revision, struct err *err)
{
	int64_t oldest = 0, newest = 0;

	if (!db_int(s, err, &oldest, "SELECT coalesce(min(id), 1) FROM revisions", "") ||
	    !db_int(s, err, &newest, "SELECT coalesce(max(id), 0) FROM revisions", ""))
		return false;
	if (revision > (uint64_t)newest)
		return err_set(err, ERR_NOT_FOUND, "revision %llu: there is none yet; the newest is %lld",
			       (unsigned long long)revision, (long long)newest);
	return revision + 1 >= (uint64_t)oldest ||
	       err_set(err, ERR_NOT_FOUND, "revision %llu: what came after it is no longer kept (the oldest is %lld)",
		       (unsigned long long)revision, (long long)oldest);
}

bool store_past_since(struct store *s, uint64_t revision, const struct store_past_filter *f,
		      bool (*each)(void *ctx, const struct store_past *p), void *ctx, struct err *err)
{
	if (!check_reach(s, revision, err))
		return false;
	/* min() takes the other columns from the row that has it: `before` of the first change since. */
	sqlite3_stmt *st =
	    db_query(s, err,
		     "SELECT min(r.revision), r.kind, r.ns, r.name, r.before, o.body FROM revision_objects r"
		     " LEFT JOIN objects o ON o.kind = r.kind AND o.ns = r.ns AND o.name = r.name"
		     " WHERE r.revision > ?1 AND (?2 IS NULL OR r.kind = ?2) AND (?3 IS NULL OR r.ns = ?3)"
		     " AND (?4 IS NULL OR r.name = ?4) GROUP BY r.kind, r.ns, r.name",
		     "isss", (int64_t)revision, f->kind, f->ns, f->name);
	return st && past_rows(s, st, each, ctx, err);
}
