/* SPDX-License-Identifier: Apache-2.0 */
/* The store when its file fails: a VFS of SQLite that lets the nth write, sync or truncation fail, and copies of the files at that moment, as a
 * power cut would leave them. Each change is there whole or not at all, each failure is said, what was there before can still be read. */
#include "control/kind.h"
#include "control/store.h"
#include "control/vip.h"

#include "certs/ca.h"
#include "lib/mem.h"

#include <check.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define OBJECTS 12

/* --- the VFS --- */

enum op { WRITE, SYNC, TRUNCATE, OPS };

struct flaky_file {
	sqlite3_file base;
	sqlite3_file *real; /* behind this struct */
};

static sqlite3_vfs *os, flaky;
static unsigned done[OPS]; /* since arm() */
static unsigned fail_at;   /* counts from 1; 0: never */
static enum op fail_op;
static bool stays; /* every later one fails, too: a full disk */

static void arm(enum op op, unsigned at, bool and_then)
{
	memset(done, 0, sizeof(done));
	fail_op = op;
	fail_at = at;
	stays = and_then;
}

static bool fails(enum op op)
{
	done[op]++;
	return op == fail_op && fail_at != 0 && (done[op] == fail_at || (stays && done[op] > fail_at));
}

static sqlite3_file *real(sqlite3_file *f)
{
	return ((struct flaky_file *)f)->real;
}

static int f_close(sqlite3_file *f)
{
	return real(f)->pMethods != NULL ? real(f)->pMethods->xClose(real(f)) : SQLITE_OK;
}
static int f_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	return real(f)->pMethods->xRead(real(f), p, n, at);
}
/* Half of it is written: what comes after a crash must not take that for the whole. */
static int f_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	if (!fails(WRITE))
		return real(f)->pMethods->xWrite(real(f), p, n, at);
	real(f)->pMethods->xWrite(real(f), p, n / 2, at);
	return SQLITE_FULL;
}
static int f_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	return fails(TRUNCATE) ? SQLITE_IOERR_TRUNCATE : real(f)->pMethods->xTruncate(real(f), size);
}
static int f_sync(sqlite3_file *f, int flags)
{
	return fails(SYNC) ? SQLITE_IOERR_FSYNC : real(f)->pMethods->xSync(real(f), flags);
}
static int f_size(sqlite3_file *f, sqlite3_int64 *ret)
{
	return real(f)->pMethods->xFileSize(real(f), ret);
}
static int f_lock(sqlite3_file *f, int how)
{
	return real(f)->pMethods->xLock(real(f), how);
}
static int f_unlock(sqlite3_file *f, int how)
{
	return real(f)->pMethods->xUnlock(real(f), how);
}
static int f_reserved(sqlite3_file *f, int *ret)
{
	return real(f)->pMethods->xCheckReservedLock(real(f), ret);
}
static int f_control(sqlite3_file *f, int op, void *arg)
{
	return real(f)->pMethods->xFileControl(real(f), op, arg);
}
static int f_sector(sqlite3_file *f)
{
	return real(f)->pMethods->xSectorSize(real(f));
}
static int f_device(sqlite3_file *f)
{
	return real(f)->pMethods->xDeviceCharacteristics(real(f));
}
static int f_shm_map(sqlite3_file *f, int region, int size, int extend, void volatile **ret)
{
	return real(f)->pMethods->xShmMap(real(f), region, size, extend, ret);
}
static int f_shm_lock(sqlite3_file *f, int offset, int n, int flags)
{
	return real(f)->pMethods->xShmLock(real(f), offset, n, flags);
}
static void f_shm_barrier(sqlite3_file *f)
{
	real(f)->pMethods->xShmBarrier(real(f));
}
static int f_shm_unmap(sqlite3_file *f, int delete)
{
	return real(f)->pMethods->xShmUnmap(real(f), delete);
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = f_close,
    .xRead = f_read,
    .xWrite = f_write,
    .xTruncate = f_truncate,
    .xSync = f_sync,
    .xFileSize = f_size,
    .xLock = f_lock,
    .xUnlock = f_unlock,
    .xCheckReservedLock = f_reserved,
    .xFileControl = f_control,
    .xSectorSize = f_sector,
    .xDeviceCharacteristics = f_device,
    .xShmMap = f_shm_map,
    .xShmLock = f_shm_lock,
    .xShmBarrier = f_shm_barrier,
    .xShmUnmap = f_shm_unmap,
};

static int flaky_open(sqlite3_vfs *v, const char *name, sqlite3_file *f, int flags, int *ret_flags)
{
	struct flaky_file *ff = (struct flaky_file *)f;
	(void)v;
	ff->real = (sqlite3_file *)(ff + 1);
	int rc = os->xOpen(os, name, ff->real, flags, ret_flags);
	f->pMethods = ff->real->pMethods != NULL ? &methods : NULL;
	return rc;
}

static void install(void)
{
	os = sqlite3_vfs_find(NULL);
	flaky = *os;
	flaky.zName = "flaky";
	flaky.szOsFile = (int)sizeof(struct flaky_file) + os->szOsFile;
	flaky.xOpen = flaky_open;
	ck_assert_int_eq(sqlite3_vfs_register(&flaky, 1), SQLITE_OK);
}

static void uninstall(void)
{
	arm(WRITE, 0, false);
	sqlite3_vfs_unregister(&flaky);
	sqlite3_vfs_register(os, 1);
}

/* --- the store --- */

static char dir[64], path[128];
static struct store *store;
static struct err err;

static void shell(char *command)
{
	ck_assert_int_eq(system(command), 0);
	mem_free(command);
}

/* Object i as of `version`: 0 is what the store begins with. */
static struct object service(unsigned i, int version)
{
	struct object o;
	char *text = mem_printf(
	    "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"s%u\",\"namespace\":\"shop\"},"
	    "\"spec\":{\"ports\":[{\"port\":%d}]}}",
	    i, 80 + version);
	json_t *in = json_loads(text, 0, NULL);
	ck_assert_msg(in != NULL && object_check(in, "default", &o, &err), "%s", err.text);
	json_decref(in);
	mem_free(text);
	return o;
}

/* Objects 0 .. OBJECTS - 1 get this version, in one transaction. */
static bool apply(int version)
{
	struct object o[OBJECTS];
	struct store_item items[OBJECTS];
	for (unsigned i = 0; i < OBJECTS; i++) {
		o[i] = service(i, version);
		items[i] = (struct store_item){o[i].kind->name, o[i].ns,          o[i].name,
					       o[i].body,       o[i].kind->admit, STORE_UNCHANGED};
	}
	bool ok = store_apply(store, items, OBJECTS, "test", "apply", false, NULL, &err);
	for (unsigned i = 0; i < OBJECTS; i++)
		json_decref(o[i].body);
	return ok;
}

struct seen {
	unsigned n, of[3]; /* all; of each version */
};

static bool look(void *ctx, const struct store_row *row)
{
	struct seen *s = ctx;
	json_t *ports = json_object_get(json_object_get(row->body, "spec"), "ports");
	json_int_t port = json_integer_value(json_object_get(json_array_get(ports, 0), "port"));
	ck_assert(port >= 80 && port <= 82);
	s->n++;
	s->of[port - 80]++;
	return true;
}

static struct seen seen(struct store *s)
{
	struct seen r = {0};
	ck_assert_msg(store_each(s, "Service", NULL, look, &r, &err), "%s", err.text);
	return r;
}

static void make(void)
{
	struct store_mesh m = {.trust_domain = "mesh.test", .cidrs_len = 2, .server = ""};
	static uint8_t bytes[4][4] = {"abc", "def", "ghi", "jkl"};
	struct ca_material ca = {bytes[0], bytes[1], bytes[2], bytes[3], 3, 3, 3, 3};
	install();
	ck_assert(cidr_parse(STR(VIP_CIDR_V4), &m.cidrs[0]));
	ck_assert(cidr_parse(STR(VIP_CIDR_V6), &m.cidrs[1]));
	snprintf(dir, sizeof(dir), "/tmp/weft-fault-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/weft.db", dir);
	ck_assert_msg(store_create(path, &m, &ca, &err), "%s", err.text);
	store = store_open(path, &err);
	ck_assert_msg(store != NULL && apply(0), "%s", err.text);
}

static void drop(void)
{
	store_free(&store);
	uninstall();
	shell(mem_printf("rm -rf '%s'", dir));
}

/* What a machine that lost power now would find: the files as they are, opened without the faults. */
static void check_after_crash(int before, int after)
{
	char copy[160], crash[200];
	snprintf(copy, sizeof(copy), "%s-crash", dir);
	snprintf(crash, sizeof(crash), "%s/weft.db", copy);
	shell(mem_printf("rm -rf '%s' && cp -a '%s' '%s'", copy, dir, copy));
	unsigned at = fail_at;
	fail_at = 0;
	struct store *s = store_open(crash, &err);
	ck_assert_msg(s != NULL, "%s", err.text);
	struct seen r = seen(s);
	ck_assert_uint_eq(r.n, OBJECTS);
	ck_assert_msg(r.of[before] == OBJECTS || r.of[after] == OBJECTS, "%u of %d, %u of %d", r.of[before], before,
		      r.of[after], after);
	store_free(&s);
	fail_at = at;
	shell(mem_printf("rm -rf '%s'", copy));
}

static const struct {
	enum op op;
	bool stays;
	const char *name;
} faults[] = {
    {WRITE, false, "one write"},    {WRITE, true, "a full disk"},
    {SYNC, false, "one fsync"},     {SYNC, true, "a disk that syncs no more"},
    {TRUNCATE, true, "truncation"},
};

/* Until the whole change gets through without meeting the fault: then every place has been tried. */
START_TEST(whatever_fails_and_wherever_a_change_is_there_whole_or_not_at_all_and_it_is_said)
{
	int before = 0;
	unsigned failed = 0;
	for (unsigned at = 1;; at++) {
		ck_assert_uint_lt(at, 400);
		int after = before == 1 ? 2 : 1;
		arm(faults[_i].op, at, faults[_i].stays);
		bool ok = apply(after), met = done[faults[_i].op] >= at;
		check_after_crash(before, after);
		if (ok) {
			before = after;
		} else {
			failed++;
			ck_assert_int_eq(err.code, ERR_STORE);
			ck_assert_ptr_nonnull(strstr(err.text, path));
			struct seen r = seen(store);
			ck_assert_uint_eq(r.of[before], OBJECTS); /* what was there is there, not nothing */
		}
		/* The disk is well again: the same store goes on, or at least a new start does. */
		arm(faults[_i].op, 0, false);
		if (!apply(3 - after)) {
			store_free(&store);
			store = store_open(path, &err);
			ck_assert_msg(store != NULL && apply(3 - after), "%s at %u: %s", faults[_i].name, at, err.text);
		}
		before = 3 - after;
		ck_assert_uint_eq(seen(store).of[before], OBJECTS);
		if (!met)
			break;
	}
	ck_assert(failed > 0 || faults[_i].op == TRUNCATE);
}
END_TEST

/* Rows put there from outside: applying so many takes too long here. */
static void fill(unsigned n)
{
	sqlite3 *db;
	char *sql = mem_printf("WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < %u)"
			       " INSERT INTO objects SELECT 'Many', 'shop', 'full-' || i, '{}', 1, 1, 1 FROM c",
			       n);
	store_free(&store);
	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	mem_free(sql);
	store = store_open(path, &err);
	ck_assert_msg(store != NULL, "%s", err.text);
}

static bool apply_one(unsigned i)
{
	struct object o = service(i, 0);
	struct store_item it = {o.kind->name, o.ns, o.name, o.body, o.kind->admit, STORE_UNCHANGED};
	bool ok = store_apply(store, &it, 1, "test", "apply", false, NULL, &err);
	json_decref(o.body);
	return ok;
}

START_TEST(a_commit_that_failed_takes_no_place_in_a_store_that_is_nearly_full)
{
	fill(STORE_OBJECTS_MAX - 1 - OBJECTS);
	ck_assert_msg(apply(1), "%s", err.text);
	arm(SYNC, 1, false);
	ck_assert(!apply_one(OBJECTS));
	ck_assert_int_eq(err.code, ERR_STORE);
	arm(SYNC, 0, false);
	ck_assert_msg(apply_one(OBJECTS), "%s", err.text);
	ck_assert(!apply_one(OBJECTS + 1));
	ck_assert_int_eq(err.code, ERR_LIMIT);
}
END_TEST

START_TEST(a_store_that_cannot_be_read_to_its_end_is_refused_and_never_an_empty_one)
{
	store_free(&store);
	FILE *f = fopen(path, "r");
	ck_assert_ptr_nonnull(f);
	fseek(f, 0, SEEK_END);
	long size = ftell(f);
	fclose(f);
	for (long keep = size - 1; keep > 0; keep -= MAX(size / 23, 1L)) {
		char *copy = mem_printf("%s.cut", path);
		shell(mem_printf("cp -a '%s' '%s'", path, copy));
		ck_assert_int_eq(truncate(copy, keep), 0);
		struct store *s = store_open(copy, &err);
		if (s != NULL) { /* what was cut off was nothing that it needs: then all of it is there */
			ck_assert_uint_eq(seen(s).n, OBJECTS);
			store_free(&s);
		} else {
			ck_assert_msg(err.code == ERR_STORE && strstr(err.text, copy), "%s", err.text);
		}
		shell(mem_printf("rm -f '%s'*", copy));
		mem_free(copy);
	}
}
END_TEST

Suite *store_fault_suite(void);
Suite *store_fault_suite(void)
{
	Suite *s = suite_create("store_fault");
	TCase *tc = tcase_create("faults");
	tcase_set_timeout(tc, 120);
	tcase_add_checked_fixture(tc, make, drop);
	tcase_add_loop_test(tc, whatever_fails_and_wherever_a_change_is_there_whole_or_not_at_all_and_it_is_said, 0,
			    (int)ARRAY_LEN(faults));
	tcase_add_test(tc, a_commit_that_failed_takes_no_place_in_a_store_that_is_nearly_full);
	tcase_add_test(tc, a_store_that_cannot_be_read_to_its_end_is_refused_and_never_an_empty_one);
	suite_add_tcase(s, tc);
	return s;
}
