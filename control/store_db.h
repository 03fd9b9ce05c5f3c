/* SPDX-License-Identifier: Apache-2.0 */
/* store_db.h: SQLite as the store's own files use it (store*.c, vip.c); nobody else includes it. */
#ifndef WEFT_CONTROL_STORE_DB_H
#define WEFT_CONTROL_STORE_DB_H

#include "control/store.h"

#include <pthread.h>
#include <sqlite3.h>

#define STORE_MAGIC  0x57535452u
#define VIP_FAMILIES 2
#define STORE_KEPT   48

/* The file, which every connection to it shares. */
struct store_file {
	char *path;
	int lock; /* flock()ed beside it for as long as it is open: a second weftd is refused */
	unsigned connections;
	pthread_mutex_t turn; /* held by the connection that writes */
	bool taken;           /* atomic: somebody holds it */
	int64_t objects;      /* within a turn: how many are stored; -1: not counted yet */
};

struct store {
	uint32_t magic;
	sqlite3 *db;
	struct store_file *file;
	struct list watches; /* struct store_watch */
	unsigned turns;      /* how often it has taken the writers' turn; held until it is 0 again */
	bool in_tx;
	/* Statements to be used again, by the address of their text (literals). */
	struct {
		const char *sql;
		sqlite3_stmt *st;
		bool busy;
	} kept[STORE_KEPT];
	uint64_t vip_hint[VIP_FAMILIES]; /* vip.c: every offset below is taken; 0: not known */
};

/* A statement with its parameters bound. types: 's' const char * (NULL: null), 'i' int64_t, 'b' const void * and size_t,
 * 'j' const json_t * (NULL: null). sql is a literal: statements are kept by its address. NULL and err. db_done() it. */
sqlite3_stmt *db_query(struct store *s, struct err *err, const char *sql, const char *types, ...);
/* 1: a row, 0: no more, -1: failed (err says, the event is logged). */
int db_step(struct store *s, sqlite3_stmt *st, struct err *err);
void db_done(struct store *s, sqlite3_stmt *st);
void db_forget(struct store *s); /* finalizes what is kept, before the file is closed */
/* A statement without rows. */
bool db_exec(struct store *s, struct err *err, const char *sql, const char *types, ...);
/* One number; ERR_STORE when there is no row. */
bool db_int(struct store *s, struct err *err, int64_t *ret, const char *sql, const char *types, ...);

/* Waits for the transaction of another connection. */
bool db_begin(struct store *s, struct err *err);
bool db_commit(struct store *s, struct err *err); /* rolls back when it fails */
void db_rollback(struct store *s);
/* ERR_STORE with SQLite's words, and the event. Returns false. */
bool db_failed(struct store *s, struct err *err, const char *doing);
/* A row that no version of Weft writes: ERR_STORE. Returns false. */
bool db_corrupt(struct store *s, struct err *err, const char *what);

/* Columns. db_text copies and cuts never: false when it does not fit. */
bool db_text(sqlite3_stmt *st, int col, char *out, size_t out_size);
/* NULL column: *ret NULL. A new reference; false when it is no JSON. */
bool db_json(sqlite3_stmt *st, int col, json_t **ret);
int64_t db_now_ms(void); /* CLOCK_REALTIME */

extern const char store_schema[];

#endif
