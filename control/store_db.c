/* SPDX-License-Identifier: Apache-2.0 */
/* store_db.c: a thin layer over SQLite: statements, transactions, and one way to fail. Knows no tables. */
#include "control/store_db.h"

#include "lib/event.h"
#include "lib/mem.h"

#include <stdarg.h>
#include <time.h>

int64_t db_now_ms(void)
{
	struct timespec ts;
	clock_gettime(CLOCK_REALTIME, &ts);
	return (int64_t)ts.tv_sec * 1000 + ts.tv_nsec / 1000000;
}

bool db_failed(struct store *s, struct err *err, const char *doing)
{
	struct err own;
	int code = sqlite3_extended_errcode(s->db);
	const char *hint = "";

	switch (code & 0xff) {
	case SQLITE_FULL:
		hint = "; free some space on its disk";
		break;
	case SQLITE_BUSY:
		hint = "; another program has it open";
		break;
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		hint = "; restore it from a backup";
		break;
	}
	err_set(&own, ERR_STORE, "store %s: %s: %s (SQLite %d)%s; nothing was changed", s->file->path, doing,
		sqlite3_errmsg(s->db), code, hint);
	event(EV_STORE_FAILED, "error=\"%s\"", own.text);
	return err_set(err, ERR_STORE, "%s", own.text);
}

bool db_corrupt(struct store *s, struct err *err, const char *what)
{
	struct err own;

	err_set(&own, ERR_STORE, "store %s: %s is not as Weft writes it; restore the store from a backup",
		s->file->path, what);
	event(EV_STORE_FAILED, "error=\"%s\"", own.text);
	return err_set(err, ERR_STORE, "%s", own.text);
}

static int bind_json(sqlite3_stmt *st, int at, const json_t *j)
{
	if (!j)
		return sqlite3_bind_null(st, at);
	char *text = json_dumps(j, JSON_COMPACT | JSON_SORT_KEYS | JSON_ENCODE_ANY);
	if (!text)
		return SQLITE_NOMEM;
	return sqlite3_bind_text(st, at, text, -1, free);
}

static bool bind_all(sqlite3_stmt *st, const char *types, va_list ap)
{
	int rc = SQLITE_OK;

	for (int at = 1; *types && rc == SQLITE_OK; at++, types++) {
		switch (*types) {
		case 's': {
			const char *text = va_arg(ap, const char *);
			rc = text ? sqlite3_bind_text(st, at, text, -1, SQLITE_TRANSIENT) : sqlite3_bind_null(st, at);
			break;
		}
		case 'i':
			rc = sqlite3_bind_int64(st, at, va_arg(ap, int64_t));
			break;
		case 'b': {
			const void *p = va_arg(ap, const void *);
			size_t n = va_arg(ap, size_t);
			rc = p ? sqlite3_bind_blob64(st, at, p, n, SQLITE_TRANSIENT) : sqlite3_bind_null(st, at);
			break;
		}
		case 'j':
			rc = bind_json(st, at, va_arg(ap, const json_t *));
			break;
		default:
			MUST(!"a bind type of db_query");
		}
	}
	return rc == SQLITE_OK;
}

/* A kept statement of this text that nobody uses, or a new one, kept when there is room. */
static sqlite3_stmt *prepare(struct store *s, const char *sql)
{
	sqlite3_stmt *st = NULL;
	size_t i = 0;

	for (; i < STORE_KEPT && s->kept[i].sql; i++)
		if (s->kept[i].sql == sql && !s->kept[i].busy) {
			s->kept[i].busy = true;
			return s->kept[i].st;
		}
	if (sqlite3_prepare_v2(s->db, sql, -1, &st, NULL) != SQLITE_OK)
		return NULL;
	if (i < STORE_KEPT) {
		s->kept[i].sql = sql;
		s->kept[i].st = st;
		s->kept[i].busy = true;
	}
	return st;
}

static sqlite3_stmt *query_va(struct store *s, struct err *err, const char *sql, const char *types, va_list ap)
{
	sqlite3_stmt *st = prepare(s, sql);

	if (st && bind_all(st, types, ap))
		return st;
	db_failed(s, err, "prepare");
	db_done(s, st);
	return NULL;
}

sqlite3_stmt *db_query(struct store *s, struct err *err, const char *sql, const char *types, ...)
{
	va_list ap;

	va_start(ap, types);
	sqlite3_stmt *st = query_va(s, err, sql, types, ap);
	va_end(ap);
	return st;
}

int db_step(struct store *s, sqlite3_stmt *st, struct err *err)
{
	int rc = sqlite3_step(st);

	if (rc == SQLITE_ROW)
		return 1;
	if (rc == SQLITE_DONE)
		return 0;
	db_failed(s, err, sqlite3_column_count(st) ? "read" : "write");
	return -1;
}

void db_done(struct store *s, sqlite3_stmt *st)
{
	for (size_t i = 0; i < STORE_KEPT && s->kept[i].sql; i++)
		if (st && s->kept[i].st == st) {
			sqlite3_reset(st);
			sqlite3_clear_bindings(st); /* they may be secrets' hashes and large bodies */
			s->kept[i].busy = false;
			return;
		}
	sqlite3_finalize(st);
}

void db_forget(struct store *s)
{
	for (size_t i = 0; i < STORE_KEPT && s->kept[i].sql; i++) {
		MUST(!s->kept[i].busy);
		sqlite3_finalize(s->kept[i].st);
		s->kept[i].sql = NULL;
	}
}

bool db_exec(struct store *s, struct err *err, const char *sql, const char *types, ...)
{
	va_list ap;

	va_start(ap, types);
	sqlite3_stmt *st = query_va(s, err, sql, types, ap);
	va_end(ap);
	if (!st)
		return false;
	int rc = db_step(s, st, err);
	db_done(s, st);
	return rc >= 0;
}

bool db_int(struct store *s, struct err *err, int64_t *ret, const char *sql, const char *types, ...)
{
	va_list ap;

	va_start(ap, types);
	sqlite3_stmt *st = query_va(s, err, sql, types, ap);
	va_end(ap);
	if (!st)
		return false;
	int rc = db_step(s, st, err);
	if (rc == 1)
		*ret = sqlite3_column_int64(st, 0);
	db_done(s, st);
	return rc == 0 ? db_corrupt(s, err, sql) : rc == 1;
}

static void turn_taken(struct store *s)
{
	s->turns++;
	__atomic_store_n(&s->file->taken, true, __ATOMIC_RELAXED);
}

static void turn_take(struct store *s)
{
	MUST(s->turns || pthread_mutex_lock(&s->file->turn) == 0);
	turn_taken(s);
}

static void turn_give(struct store *s)
{
	MUST(s->turns);
	if (--s->turns)
		return;
	__atomic_store_n(&s->file->taken, false, __ATOMIC_RELAXED);
	MUST(pthread_mutex_unlock(&s->file->turn) == 0);
}

bool store_try_turn(struct store *s)
{
	if (s->turns == 0 && pthread_mutex_trylock(&s->file->turn) != 0)
		return false;
	turn_taken(s);
	return true;
}

void store_end_turn(struct store *s)
{
	MUST(!s->in_tx);
	turn_give(s);
}

bool store_busy(const struct store *s)
{
	return s->turns == 0 && __atomic_load_n(&s->file->taken, __ATOMIC_RELAXED);
}

bool db_begin(struct store *s, struct err *err)
{
	MUST(!s->in_tx);
	turn_take(s);
	s->in_tx = db_exec(s, err, "BEGIN IMMEDIATE", "");
	if (!s->in_tx)
		turn_give(s);
	return s->in_tx;
}

bool db_commit(struct store *s, struct err *err)
{
	MUST(s->in_tx);
	if (!db_exec(s, err, "COMMIT", "")) {
		s->file->objects = -1; /* store_object.c set what would have been */
		db_rollback(s);
		return false;
	}
	s->in_tx = false;
	turn_give(s);
	return true;
}

/* SQLite may have rolled back by itself (full disk, I/O error): then there is nothing left to do. */
void db_rollback(struct store *s)
{
	if (!sqlite3_get_autocommit(s->db))
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
	s->in_tx = false;
	s->vip_hint[0] = s->vip_hint[1] = 0;
	turn_give(s);
}

bool db_text(sqlite3_stmt *st, int col, char *out, size_t out_size)
{
	const char *text = (const char *)sqlite3_column_text(st, col);
	size_t len = (size_t)sqlite3_column_bytes(st, col);

	if (!text)
		len = 0;
	if (len >= out_size)
		return false;
	if (len)
		memcpy(out, text, len);
	out[len] = 0;
	return true;
}

bool db_json(sqlite3_stmt *st, int col, json_t **ret)
{
	*ret = NULL;
	if (sqlite3_column_type(st, col) == SQLITE_NULL)
		return true;
	const char *text = (const char *)sqlite3_column_text(st, col);
	size_t len = (size_t)sqlite3_column_bytes(st, col);
	*ret = text ? json_loadb(text, len, JSON_DECODE_ANY, NULL) : NULL;
	return *ret != NULL;
}
