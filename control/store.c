/* SPDX-License-Identifier: Apache-2.0 */
/* store.c: the file: making it, opening it with its checks, its schema, and what stands in `meta`. */
#include "control/store_db.h"

#include "certs/ca.h"
#include "lib/event.h"
#include "lib/mem.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define APPLICATION_ID 0x57656674 /* "Weft" */
#define SCHEMA_VERSION 1
#define BUSY_MS        1000

const char store_schema[] =
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE objects (kind TEXT, ns TEXT, name TEXT, body TEXT NOT NULL, revision INTEGER NOT NULL,"
    "  created_ms INTEGER NOT NULL, changed_ms INTEGER NOT NULL, PRIMARY KEY (kind, ns, name)) WITHOUT ROWID;"
    "CREATE TABLE revisions (id INTEGER PRIMARY KEY, at_ms INTEGER NOT NULL, who TEXT NOT NULL, what TEXT NOT NULL);"
    "CREATE TABLE revision_objects (revision INTEGER, kind TEXT, ns TEXT, name TEXT, before TEXT, after TEXT,"
    "  PRIMARY KEY (revision, kind, ns, name)) WITHOUT ROWID;"
    "CREATE TABLE tokens (id TEXT PRIMARY KEY, secret_hash BLOB NOT NULL, ns TEXT NOT NULL, sa TEXT NOT NULL, labels "
    "TEXT,"
    "  not_after INTEGER NOT NULL, created_by TEXT NOT NULL, created_ms INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE token_uses (token TEXT, instance TEXT, at_ms INTEGER NOT NULL,"
    "  PRIMARY KEY (token, instance)) WITHOUT ROWID;"
    "CREATE TABLE instances (ns TEXT, name TEXT, sa TEXT NOT NULL, token TEXT NOT NULL, allowed_labels TEXT, rejoin "
    "BLOB,"
    "  rejoin_prev BLOB, labels TEXT, ports TEXT, addresses TEXT, zone TEXT, version TEXT, joined_ms INTEGER NOT NULL,"
    "  PRIMARY KEY (ns, name)) WITHOUT ROWID;"
    "CREATE INDEX instances_rejoin ON instances (rejoin);"
    "CREATE INDEX instances_rejoin_prev ON instances (rejoin_prev);"
    "CREATE TABLE leases (ns TEXT, name TEXT, until_ms INTEGER NOT NULL, PRIMARY KEY (ns, name)) WITHOUT ROWID;"
    "CREATE TABLE vips (ip BLOB PRIMARY KEY, family INTEGER NOT NULL, place INTEGER, service TEXT NOT NULL,"
    "  freed_ms INTEGER) WITHOUT ROWID;"
    "CREATE INDEX vips_place ON vips (family, place);"
    "CREATE INDEX vips_service ON vips (service, family);"
    "CREATE INDEX vips_freed ON vips (freed_ms) WHERE freed_ms IS NOT NULL;"
    "CREATE TABLE bearers (hash BLOB PRIMARY KEY, who TEXT NOT NULL, not_after INTEGER NOT NULL,"
    "  created_ms INTEGER NOT NULL) WITHOUT ROWID;";

static bool pragma(struct store *s, const char *sql, struct err *err)
{
	return db_exec(s, err, sql, "");
}

/* How every connection works. Writers take turns in db_begin(); BUSY_MS is for a program of the system that looks into the file. */
static bool configure(struct store *s, struct err *err)
{
	sqlite3_busy_timeout(s->db, BUSY_MS);
	return pragma(s, "PRAGMA trusted_schema = OFF", err) && pragma(s, "PRAGMA secure_delete = ON", err) &&
	       pragma(s, "PRAGMA journal_mode = WAL", err) && pragma(s, "PRAGMA synchronous = FULL", err) &&
	       pragma(s, "PRAGMA cell_size_check = ON", err);
}

static void file_drop(struct store_file *f)
{
	if (--f->connections)
		return;
	if (f->lock >= 0)
		close(f->lock);
	pthread_mutex_destroy(&f->turn);
	mem_free(f->path);
	mem_free(f);
}

static struct store_file *file_new(const char *path)
{
	struct store_file *f = NEW(struct store_file);

	f->path = mem_strdup(path);
	f->lock = -1;
	f->objects = -1;
	f->connections = 1; /* who makes it drops it, when it has opened what it wants */
	MUST(pthread_mutex_init(&f->turn, NULL) == 0);
	return f;
}

/* Root's would stay behind, and weftd's own user could not open it: it is whose the store is, where root may give it away. */
static void give_lock(const struct store_file *f)
{
	struct stat store, lock;

	if (geteuid() != 0 || stat(f->path, &store) != 0 || fstat(f->lock, &lock) != 0 || lock.st_uid == store.st_uid)
		return;
	if (!S_ISREG(lock.st_mode) || lock.st_nlink != 1) /* a name of a file of somebody else */
		return;
	int rc = fchown(f->lock, store.st_uid, store.st_gid);
	(void)rc;
}

/* Not on the file itself: closing any descriptor of it would drop SQLite's own locks. The lock's file stays, it is empty. */
static bool file_lock(struct store_file *f, struct err *err)
{
	char *path = mem_printf("%s.lock", f->path);
	bool ok = false;

	f->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (f->lock < 0)
		err_errno(err, "store %s: its lock %s", f->path, path);
	else if (flock(f->lock, LOCK_EX | LOCK_NB) == 0) {
		give_lock(f);
		ok = true;
	} else if (errno == EWOULDBLOCK)
		err_set(err, ERR_STORE, "store %s: another weftd has it open; nothing was changed", f->path);
	else
		err_errno(err, "store %s: its lock %s", f->path, path);
	mem_free(path);
	return ok;
}

static struct store *store_new(struct store_file *file, struct err *err)
{
	struct store *s = NEW(struct store);

	s->magic = STORE_MAGIC;
	s->file = file;
	file->connections++;
	list_init(&s->watches);
	if (sqlite3_open_v2(file->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOFOLLOW, NULL) != SQLITE_OK) {
		db_failed(s, err, "open");
		store_free(&s);
		return NULL;
	}
	sqlite3_extended_result_codes(s->db, 1);
	return s;
}

void store_free(struct store **sp)
{
	struct store *s = *sp;

	if (!s)
		return;
	MUST_BE(s, STORE_MAGIC);
	db_forget(s);
	sqlite3_close(s->db);
	file_drop(s->file);
	s->magic = 0;
	mem_free(s);
	*sp = NULL;
}

static bool check_file(const char *path, struct err *err)
{
	struct stat st;

	if (lstat(path, &st) != 0) {
		if (errno == ENOENT)
			return err_set(err, ERR_NOT_FOUND, "store %s: there is none; make it with `weftd init`", path);
		return err_errno(err, "store %s", path);
	}
	if (!S_ISREG(st.st_mode))
		return err_set(err, ERR_STORE, "store %s: it is not a regular file", path);
	if (st.st_mode & 077)
		return err_set(err, ERR_DENIED,
			       "store %s: it holds keys and others may read it (mode %03o); chmod 600 it", path,
			       st.st_mode & 0777);
	return true;
}

static bool check_content(struct store *s, struct err *err)
{
	int64_t id = 0, version = 0;
	char answer[256] = "no answer";

	if (!db_int(s, err, &id, "PRAGMA application_id", "") || !db_int(s, err, &version, "PRAGMA user_version", ""))
		return false;
	if (id != APPLICATION_ID)
		return err_set(err, ERR_STORE, "store %s: it is not a store of Weft (application id %lld)",
			       s->file->path, (long long)id);
	if (version != SCHEMA_VERSION)
		return err_set(err, ERR_STORE, "store %s: its schema is version %lld, this weftd (%s) knows %d",
			       s->file->path, (long long)version, WEFT_VERSION, SCHEMA_VERSION);
	sqlite3_stmt *st = db_query(s, err, "PRAGMA quick_check(1)", "");
	if (!st)
		return false;
	int rc = db_step(s, st, err);
	bool ok = rc == 1 && db_text(st, 0, answer, sizeof(answer)) && strcmp(answer, "ok") == 0;
	db_done(s, st);
	if (rc < 0)
		return false;
	if (!ok) {
		char what[300];
		snprintf(what, sizeof(what), "its content (%s)", answer);
		return db_corrupt(s, err, what);
	}
	return true;
}

struct store *store_open(const char *path, struct err *err)
{
	if (!check_file(path, err))
		return NULL;
	/* No sums of memory: every allocation of every thread would take their one lock. Refused, and of no use, once SQLite has begun. */
	(void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
	struct store_file *f = file_new(path);
	struct store *s = file_lock(f, err) ? store_new(f, err) : NULL;
	/* The empty transaction shows now rather than at the first write that it can be written. */
	if (s && (!configure(s, err) || !db_begin(s, err) || !db_commit(s, err) || !check_content(s, err)))
		store_free(&s);
	file_drop(f);
	return s;
}

struct store *store_open_beside(struct store *first, struct err *err)
{
	MUST_BE(first, STORE_MAGIC);
	struct store *s = store_new(first->file, err);

	if (s && !configure(s, err))
		store_free(&s);
	return s;
}

/* --- meta --- */

static bool meta_put(struct store *s, const char *key, const void *p, size_t n, struct err *err)
{
	return db_exec(s, err, "INSERT INTO meta (key, value) VALUES (?, ?)", "sb", key, p, n);
}

/* *ret is a copy with a NUL behind it, wiped and freed by the caller. */
static bool meta_get(struct store *s, const char *key, uint8_t **ret, size_t *ret_len, struct err *err)
{
	sqlite3_stmt *st = db_query(s, err, "SELECT value FROM meta WHERE key = ?", "s", key);
	if (!st)
		return false;
	int rc = db_step(s, st, err);
	if (rc == 1) {
		size_t n = (size_t)sqlite3_column_bytes(st, 0);
		uint8_t *copy = mem_alloc(n + 1);
		if (n)
			memcpy(copy, sqlite3_column_blob(st, 0), n);
		copy[n] = 0;
		*ret = copy;
		*ret_len = n;
	}
	db_done(s, st);
	return rc == 0 ? db_corrupt(s, err, key) : rc == 1;
}

static bool meta_text(struct store *s, const char *key, char *out, size_t out_size, struct err *err)
{
	uint8_t *value;
	size_t len;

	if (!meta_get(s, key, &value, &len, err))
		return false;
	bool ok = len < out_size && !memchr(value, 0, len);
	if (ok)
		memcpy(out, value, len + 1);
	mem_free(value);
	return ok || db_corrupt(s, err, key);
}

static bool mesh_put(struct store *s, const struct store_mesh *m, struct err *err)
{
	char cidrs[STORE_CIDRS_MAX * (IP_TEXT_MAX + 5)] = "";
	size_t at = 0;

	for (size_t i = 0; i < m->cidrs_len; i++) {
		char ip[IP_TEXT_MAX];
		at += (size_t)snprintf(cidrs + at, sizeof(cidrs) - at, "%s%s/%u", i ? "," : "",
				       ip_text(&m->cidrs[i].ip, ip), m->cidrs[i].bits);
	}
	return meta_put(s, "trust_domain", m->trust_domain, strlen(m->trust_domain), err) &&
	       meta_put(s, "cidrs", cidrs, at, err) && meta_put(s, "server", m->server, strlen(m->server), err);
}

bool store_mesh_get(struct store *s, struct store_mesh *ret, struct err *err)
{
	struct store_mesh m = {.cidrs_len = 0};
	char cidrs[STORE_CIDRS_MAX * (IP_TEXT_MAX + 5)];
	struct str head, rest;

	if (!meta_text(s, "trust_domain", m.trust_domain, sizeof(m.trust_domain), err) ||
	    !meta_text(s, "server", m.server, sizeof(m.server), err) ||
	    !meta_text(s, "cidrs", cidrs, sizeof(cidrs), err))
		return false;
	for (rest = str_of(cidrs); rest.len;) {
		str_cut(rest, ',', &head, &rest);
		if (m.cidrs_len == STORE_CIDRS_MAX || !cidr_parse(head, &m.cidrs[m.cidrs_len++]))
			return db_corrupt(s, err, "the list of mesh CIDRs");
	}
	*ret = m;
	return true;
}

static bool ca_put(struct store *s, const struct ca_material *ca, struct err *err)
{
	return meta_put(s, "ca_root_cert", ca->root_cert, ca->root_cert_len, err) &&
	       meta_put(s, "ca_root_key", ca->root_key, ca->root_key_len, err) &&
	       meta_put(s, "ca_issuer_cert", ca->issuer_cert, ca->issuer_cert_len, err) &&
	       meta_put(s, "ca_issuer_key", ca->issuer_key, ca->issuer_key_len, err);
}

bool store_ca_get(struct store *s, struct ca_material *ret, struct err *err)
{
	struct ca_material m = {0};

	if (!meta_get(s, "ca_root_cert", &m.root_cert, &m.root_cert_len, err) ||
	    !meta_get(s, "ca_root_key", &m.root_key, &m.root_key_len, err) ||
	    !meta_get(s, "ca_issuer_cert", &m.issuer_cert, &m.issuer_cert_len, err) ||
	    !meta_get(s, "ca_issuer_key", &m.issuer_key, &m.issuer_key_len, err)) {
		ca_material_done(&m);
		return false;
	}
	*ret = m;
	return true;
}

/* --- making a store: written beside its place, then linked there, so that there is a whole one or none --- */

static bool fill(const char *path, const struct store_mesh *mesh, const struct ca_material *ca, struct err *err)
{
	char version[128];
	struct store_file *f = file_new(path);
	struct store *s = store_new(f, err);

	file_drop(f);
	if (!s)
		return false;
	snprintf(version, sizeof(version), "PRAGMA application_id = %d; PRAGMA user_version = %d;", APPLICATION_ID,
		 SCHEMA_VERSION);
	bool ok = configure(s, err) && db_begin(s, err);
	if (ok && sqlite3_exec(s->db, store_schema, NULL, NULL, NULL) != SQLITE_OK)
		ok = db_failed(s, err, "make the tables");
	ok = ok && mesh_put(s, mesh, err) && ca_put(s, ca, err);
	if (ok && sqlite3_exec(s->db, version, NULL, NULL, NULL) != SQLITE_OK)
		ok = db_failed(s, err, "mark the file");
	ok = ok && db_commit(s, err);
	/* The last connection's close writes the WAL back and removes it: the file alone is the store. */
	if (ok && sqlite3_wal_checkpoint_v2(s->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) != SQLITE_OK)
		ok = db_failed(s, err, "write the journal back");
	store_free(&s);
	return ok;
}

static bool sync_dir(const char *path, struct err *err)
{
	char *copy = mem_strdup(path);
	int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	mem_free(copy);

	if (fd < 0 || fsync(fd) != 0) {
		err_errno(err, "store %s: its directory cannot be synced", path);
		if (fd >= 0)
			close(fd);
		return false;
	}
	close(fd);
	return true;
}

bool store_create(const char *path, const struct store_mesh *mesh, const struct ca_material *ca, struct err *err)
{
	MUST(mesh->cidrs_len <= STORE_CIDRS_MAX);
	if (access(path, F_OK) == 0)
		return err_set(err, ERR_EXISTS, "store %s: it exists already; nothing was changed", path);
	char *temp = mem_printf("%s.new.XXXXXX", path);
	int fd = mkstemp(temp); /* mode 0600 */
	if (fd < 0) {
		err_errno(err, "store %s", path);
		mem_free(temp);
		return false;
	}
	close(fd);
	bool ok = fill(temp, mesh, ca, err);
	if (ok && link(temp, path) != 0) {
		if (errno == EEXIST)
			ok = err_set(err, ERR_EXISTS, "store %s: it exists already; nothing was changed", path);
		else
			ok = err_errno(err, "store %s", path);
	}
	unlink(temp);
	ok = ok && sync_dir(path, err);
	mem_free(temp);
	return ok;
}
