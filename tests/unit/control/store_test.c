/* SPDX-License-Identifier: Apache-2.0 */
/* store_test.c: the store keeps what it was given, all of it or nothing, and refuses loudly. */
#include "control/kind.h"
#include "control/store.h"
#include "control/vip.h"

#include "certs/ca.h"
#include "lib/mem.h"
#include "tests/unit/control/own_store.h"
#include "tests/unit/control/slow_writer.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static struct store *store;
static struct err err;

static void make(void)
{
	store = own_store_make();
}

static void drop(void)
{
	own_store_drop(&store);
}

static void reopen(void)
{
	own_store_reopen(&store);
}

/* A checked Service with one port; extra: further members of spec, as JSON text. */
static struct object service(const char *name, int port, const char *extra)
{
	char *text = mem_printf(
	    "{\"apiVersion\":\"v1\",\"kind\":\"Service\",\"metadata\":{\"name\":\"%s\",\"namespace\":\"shop\"},"
	    "\"spec\":{\"ports\":[{\"port\":%d}]%s}}",
	    name, port, extra);
	json_t *in = json_loads(text, 0, NULL);
	struct object o;

	ck_assert_ptr_nonnull(in);
	ck_assert_msg(object_check(in, "default", &o, &err), "%s", err.text);
	json_decref(in);
	mem_free(text);
	return o;
}

static struct store_item item_of(const struct object *o)
{
	return (struct store_item){o->kind->name, o->ns, o->name, o->body, o->kind->admit, STORE_UNCHANGED};
}

static bool apply_one(const char *name, int port, const char *extra, bool dry_run, uint64_t *revision,
		      enum store_result *result)
{
	struct object o = service(name, port, extra);
	struct store_item it = item_of(&o);
	bool ok = store_apply(store, &it, 1, "test", "apply", dry_run, revision, &err);

	if (result)
		*result = it.result;
	json_decref(o.body);
	return ok;
}

static bool delete_one(const char *name)
{
	struct store_item it = {.kind = "Service", .ns = "shop", .name = name, .admit = kind_service.admit};

	return store_apply(store, &it, 1, "test", "delete", false, NULL, &err);
}

/* The i-th virtual address of a service, "" when it has none. */
static const char *vip(const char *name, size_t i)
{
	static char text[64];
	json_t *body = NULL;

	ck_assert_msg(store_get(store, "Service", "shop", name, &body, NULL, &err), "%s", err.text);
	const char *v =
	    json_string_value(json_array_get(json_object_get(json_object_get(body, "spec"), "clusterIPs"), i));
	snprintf(text, sizeof(text), "%s", v ? v : "");
	json_decref(body);
	return text;
}

START_TEST(keeps_mesh_and_ca_in_a_private_file)
{
	struct store_mesh m;
	struct ca_material ca;
	struct stat st;

	reopen();
	ck_assert(store_mesh_get(store, &m, &err));
	ck_assert_str_eq(m.trust_domain, "mesh.test");
	ck_assert_str_eq(m.server, "10.0.0.1:4810");
	ck_assert_uint_eq(m.cidrs_len, 3);
	ck_assert_uint_eq(m.cidrs[2].bits, 64);
	ck_assert(store_ca_get(store, &ca, &err));
	ck_assert_uint_eq(ca.issuer_key_len, 3);
	ck_assert_mem_eq(ca.issuer_key, "jkl", 3);
	ca_material_done(&ca);
	ck_assert_int_eq(stat(own_store_path(), &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0600);
}
END_TEST

START_TEST(does_not_overwrite_a_store)
{
	struct store_mesh m = own_store_mesh();
	struct ca_material ca = own_store_ca();

	ck_assert(!store_create(own_store_path(), &m, &ca, &err));
	ck_assert_int_eq(err.code, ERR_EXISTS);
}
END_TEST

START_TEST(a_second_process_is_refused)
{
	struct store *second = store_open(own_store_path(), &err);

	ck_assert_ptr_null(second);
	ck_assert_int_eq(err.code, ERR_STORE);
	ck_assert_ptr_nonnull(strstr(err.text, "another weftd"));
}
END_TEST

/* As SQLite does with its own files: who looked into it as root once keeps weftd's own user out by nothing that stays. */
START_TEST(what_root_leaves_beside_the_file_is_its_owners)
{
	char lock[256];
	struct stat st;

	if (geteuid() != 0)
		return;
	store_free(&store);
	snprintf(lock, sizeof(lock), "%s.lock", own_store_path());
	ck_assert_int_eq(unlink(lock), 0);
	ck_assert_int_eq(chown(own_store_path(), 65534, 65533), 0);
	reopen();
	ck_assert_int_eq(stat(lock, &st), 0);
	ck_assert_uint_eq(st.st_uid, 65534);
	ck_assert_uint_eq(st.st_gid, 65533);
	ck_assert_int_eq(st.st_mode & 0777, 0600);
}
END_TEST

/* --- two connections --- */

static void *go_soon(void *unused)
{
	usleep(50000); /* the other one waits by now; if not, nothing is proved and nothing fails */
	slow_writer_let_go();
	return NULL;
}

START_TEST(who_reads_beside_a_transaction_sees_what_was_committed_and_who_writes_waits_for_its_end)
{
	pthread_t later;
	uint64_t revision;

	ck_assert(apply_one("a", 80, "", false, NULL, NULL));
	ck_assert(!store_busy(store));
	slow_writer_begin(store);
	ck_assert(store_busy(store));
	ck_assert(store_revision(store, &revision, &err));
	ck_assert_uint_eq(revision, 1);
	ck_assert_int_eq(pthread_create(&later, NULL, go_soon, NULL), 0);
	ck_assert(apply_one("b", 80, "", false, &revision, NULL));
	ck_assert_uint_eq(revision, 3); /* after the slow one */
	ck_assert_int_eq(pthread_join(later, NULL), 0);
	slow_writer_join();
	ck_assert(!store_busy(store));
}
END_TEST

START_TEST(refuses_what_is_no_store)
{
	store_free(&store);
	ck_assert_int_eq(chmod(own_store_path(), 0644), 0);
	ck_assert_ptr_null(store_open(own_store_path(), &err));
	ck_assert_int_eq(err.code, ERR_DENIED);
	ck_assert_int_eq(chmod(own_store_path(), 0600), 0);

	FILE *f = fopen(own_store_path(), "w");
	fputs("this is a text file, longer than the sixteen bytes of a header of SQLite", f);
	fclose(f);
	ck_assert_ptr_null(store_open(own_store_path(), &err));
	ck_assert_int_eq(err.code, ERR_STORE);

	ck_assert_int_eq(unlink(own_store_path()), 0);
	ck_assert_ptr_null(store_open(own_store_path(), &err));
	ck_assert_int_eq(err.code, ERR_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(err.text, "weftd init"));
}
END_TEST

START_TEST(refuses_a_corrupt_store)
{
	char name[32];
	uint8_t junk[4096];

	for (int i = 0; i < 50; i++) {
		snprintf(name, sizeof(name), "orders-%d", i);
		ck_assert_msg(apply_one(name, 80, "", false, NULL, NULL), "%s", err.text);
	}
	store_free(&store);
	memset(junk, 0xa5, sizeof(junk));
	int fd = open(own_store_path(), O_RDWR);
	off_t size = lseek(fd, 0, SEEK_END);
	for (off_t at = 4096 * 2; at + 4096 <= size; at += 4096 * 2)
		ck_assert_int_eq(pwrite(fd, junk, sizeof(junk), at), sizeof(junk));
	close(fd);
	ck_assert_ptr_null(store_open(own_store_path(), &err));
	ck_assert_int_eq(err.code, ERR_STORE);
}
END_TEST

START_TEST(refuses_a_later_schema)
{
	sqlite3 *db;

	store_free(&store);
	ck_assert_int_eq(sqlite3_open(own_store_path(), &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	ck_assert_ptr_null(store_open(own_store_path(), &err));
	ck_assert_int_eq(err.code, ERR_STORE);
	ck_assert_ptr_nonnull(strstr(err.text, "version 99"));
}
END_TEST

START_TEST(apply_is_all_or_nothing)
{
	struct object a = service("a", 80, ""), b = service("b", 80, ",\"clusterIP\":\"192.0.2.1\"");
	struct store_item items[] = {item_of(&a), item_of(&b)};
	uint64_t revision = 99;
	json_t *body;

	ck_assert(!store_apply(store, items, 2, "test", "two", false, &revision, &err));
	ck_assert_msg(strstr(err.text, "Service shop/b: spec.clusterIP: 192.0.2.1 is not inside the mesh") != NULL,
		      "%s", err.text);
	ck_assert_uint_eq(revision, 99);
	ck_assert(store_revision(store, &revision, &err));
	ck_assert_uint_eq(revision, 0);
	ck_assert(!store_get(store, "Service", "shop", "a", &body, NULL, &err));
	ck_assert_int_eq(err.code, ERR_NOT_FOUND);
	json_decref(a.body);
	json_decref(b.body);
}
END_TEST

START_TEST(unchanged_objects_make_no_revision)
{
	uint64_t revision = 0;
	enum store_result result;

	ck_assert(apply_one("orders", 80, "", false, &revision, &result));
	ck_assert_uint_eq(revision, 1);
	ck_assert_int_eq(result, STORE_CREATED);
	ck_assert(apply_one("orders", 80, "", false, &revision, &result));
	ck_assert_uint_eq(revision, 1);
	ck_assert_int_eq(result, STORE_UNCHANGED);
	ck_assert(apply_one("orders", 81, "", false, &revision, &result));
	ck_assert_uint_eq(revision, 2);
	ck_assert_int_eq(result, STORE_CHANGED);
	reopen();
	ck_assert(store_revision(store, &revision, &err));
	ck_assert_uint_eq(revision, 2);
}
END_TEST

START_TEST(dry_run_changes_nothing)
{
	uint64_t revision = 5;
	enum store_result result;
	json_t *body;

	ck_assert(apply_one("orders", 80, "", true, &revision, &result));
	ck_assert_uint_eq(revision, 0);
	ck_assert_int_eq(result, STORE_CREATED);
	ck_assert(!store_get(store, "Service", "shop", "orders", &body, NULL, &err));
}
END_TEST

START_TEST(the_same_object_twice_in_a_batch_is_refused)
{
	struct object a = service("a", 80, ""), b = service("a", 81, "");
	struct store_item items[] = {item_of(&a), item_of(&b)};

	ck_assert(!store_apply(store, items, 2, "test", "two", false, NULL, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "Service shop/a: it is there twice"));
	json_decref(a.body);
	json_decref(b.body);
}
END_TEST

START_TEST(deleting_what_is_not_there_is_an_error)
{
	ck_assert(!delete_one("ghost"));
	ck_assert_int_eq(err.code, ERR_NOT_FOUND);
	ck_assert_ptr_nonnull(strstr(err.text, "Service shop/ghost"));
}
END_TEST

START_TEST(virtual_addresses_are_the_lowest_free_and_rest_a_day)
{
	ck_assert(apply_one("a", 80, "", false, NULL, NULL));
	ck_assert(apply_one("b", 80, "", false, NULL, NULL));
	ck_assert_str_eq(vip("a", 0), "240.0.0.1");
	ck_assert_str_eq(vip("a", 1), "fd77:6566:7400:1::1");
	ck_assert_str_eq(vip("b", 0), "240.0.0.2");
	ck_assert(delete_one("a"));
	ck_assert(apply_one("c", 80, "", false, NULL, NULL));
	ck_assert_str_eq(vip("c", 0), "240.0.0.3"); /* not the one just freed */
	ck_assert(apply_one("a", 80, "", false, NULL, NULL));
	ck_assert_str_eq(vip("a", 0), "240.0.0.1"); /* its own may come back */
	ck_assert(delete_one("a"));

	/* a day later */
	store_free(&store);
	sqlite3 *db;
	ck_assert_int_eq(sqlite3_open(own_store_path(), &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, "UPDATE vips SET freed_ms = freed_ms - 86400001", NULL, NULL, NULL),
			 SQLITE_OK);
	sqlite3_close(db);
	store = store_open(own_store_path(), &err);
	ck_assert_ptr_nonnull(store);
	ck_assert(apply_one("d", 80, "", false, NULL, NULL));
	ck_assert_str_eq(vip("d", 0), "240.0.0.1");
}
END_TEST

START_TEST(a_change_keeps_the_virtual_address)
{
	ck_assert(apply_one("a", 80, "", false, NULL, NULL));
	ck_assert(apply_one("b", 80, "", false, NULL, NULL));
	ck_assert(apply_one("b", 90, "", false, NULL, NULL));
	ck_assert_str_eq(vip("b", 0), "240.0.0.2");
	ck_assert(apply_one("b", 90, ",\"ipFamilies\":[\"IPv6\"]", false, NULL, NULL));
	ck_assert_str_eq(vip("b", 0), "fd77:6566:7400:1::2");
	ck_assert_str_eq(vip("b", 1), "");
	ck_assert(apply_one("b", 90, ",\"clusterIP\":\"None\"", false, NULL, NULL));
	ck_assert_str_eq(vip("b", 0), "None");
}
END_TEST

START_TEST(an_address_in_use_is_refused_by_its_owner)
{
	ck_assert(apply_one("a", 80, ",\"clusterIP\":\"10.1.2.3\"", false, NULL, NULL));
	ck_assert_str_eq(vip("a", 0), "10.1.2.3");
	ck_assert(!apply_one("b", 80, ",\"clusterIP\":\"10.1.2.3\"", false, NULL, NULL));
	ck_assert_int_eq(err.code, ERR_CONFLICT);
	ck_assert_msg(strstr(err.text, "10.1.2.3 is the address of Service shop/a") != NULL, "%s", err.text);
	ck_assert(apply_one("b", 80, ",\"clusterIP\":\"240.0.0.9\"", false, NULL, NULL));
	ck_assert_str_eq(vip("b", 0), "240.0.0.9");
}
END_TEST

START_TEST(a_thousand_services_in_one_apply)
{
	static struct object objects[1000];
	static struct store_item items[1000];
	uint64_t revision;

	for (int i = 0; i < 1000; i++) {
		char name[32];
		snprintf(name, sizeof(name), "svc-%04d", i);
		objects[i] = service(name, 80, "");
		items[i] = item_of(&objects[i]);
	}
	ck_assert_msg(store_apply(store, items, 1000, "test", "many", false, &revision, &err), "%s", err.text);
	ck_assert_uint_eq(revision, 1);
	ck_assert_str_eq(vip("svc-0999", 0), "240.0.3.232");
	for (int i = 0; i < 1000; i++)
		json_decref(objects[i].body);
}
END_TEST

/* Rows as the store writes them, put there from outside: applying so many takes too long here. */
static void fill(int n)
{
	sqlite3 *db;
	char *sql = mem_printf("WITH RECURSIVE c (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM c WHERE i < %d)"
			       " INSERT INTO objects SELECT 'Service', 'shop', 'full-' || i, '{}', 1, 1, 1 FROM c",
			       n);

	ck_assert_int_eq(sqlite3_open(own_store_path(), &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	mem_free(sql);
}

static void refused_as_full(const char *name, bool dry_run)
{
	ck_assert(!apply_one(name, 80, "", dry_run, NULL, NULL));
	ck_assert_int_eq(err.code, ERR_LIMIT);
	ck_assert_msg(strstr(err.text, "would make 50001 objects") != NULL, "%s", err.text);
}

START_TEST(a_full_store_takes_no_further_object_and_knows_when_there_is_room_again)
{
	fill(STORE_OBJECTS_MAX - 2);
	reopen();
	ck_assert(apply_one("a", 80, "", false, NULL, NULL));
	ck_assert(apply_one("b", 80, "", true, NULL, NULL)); /* a dry run takes no place */
	ck_assert(apply_one("b", 80, "", false, NULL, NULL));
	refused_as_full("c", false);
	refused_as_full("c", true);
	ck_assert(apply_one("b", 81, "", false, NULL, NULL)); /* a change needs none */
	ck_assert(delete_one("a"));
	ck_assert(apply_one("c", 80, "", false, NULL, NULL));
	refused_as_full("d", false);
	reopen();
	refused_as_full("d", false);
}
END_TEST

struct watcher {
	struct store_watch watch;
	unsigned calls, deleted;
	uint64_t revision;
	char last[64];
};

static void on_change(struct store_watch *w, uint64_t revision, const struct store_change *changes, size_t n)
{
	struct watcher *me = CONTAINER_OF(w, struct watcher, watch);

	me->calls++;
	me->revision = revision;
	for (size_t i = 0; i < n; i++) {
		json_t *stored = NULL;
		me->deleted += !changes[i].body;
		ck_assert(store_get(store, changes[i].kind, changes[i].ns, changes[i].name, &stored, NULL, NULL) ==
			  (changes[i].body != NULL));
		ck_assert(!stored || json_equal(stored, changes[i].body));
		json_decref(stored);
		snprintf(me->last, sizeof(me->last), "%s %s/%s", changes[i].kind, changes[i].ns, changes[i].name);
	}
}

START_TEST(watchers_hear_of_commits_only)
{
	struct watcher w = {.watch = {.on_change = on_change}};

	store_watch(store, &w.watch);
	ck_assert(apply_one("a", 80, "", true, NULL, NULL));
	ck_assert_uint_eq(w.calls, 0);
	ck_assert(apply_one("a", 80, "", false, NULL, NULL));
	ck_assert_uint_eq(w.calls, 1);
	ck_assert_uint_eq(w.revision, 1);
	ck_assert_str_eq(w.last, "Service shop/a");
	ck_assert(apply_one("a", 80, "", false, NULL, NULL));
	ck_assert_uint_eq(w.calls, 1);
	ck_assert(delete_one("a"));
	ck_assert_uint_eq(w.deleted, 1);
	store_unwatch(&w.watch);
	ck_assert(apply_one("a", 80, "", false, NULL, NULL));
	ck_assert_uint_eq(w.calls, 2);
}
END_TEST

/* RLIMIT_FSIZE makes each write beyond it fail, as a full disk does. */
START_TEST(a_write_that_fails_is_said_and_changes_nothing)
{
	struct rlimit old, small;
	uint64_t revision;
	char big[60000];
	char *extra;

	ck_assert(apply_one("a", 80, "", false, NULL, NULL));
	memset(big, 'x', sizeof(big) - 1);
	big[sizeof(big) - 1] = 0;
	struct object o = service("big", 80, "");
	json_object_set_new(json_object_get(o.body, "metadata"), "annotations", json_pack("{s:s}", "a", big));
	struct store_item it = item_of(&o);

	signal(SIGXFSZ, SIG_IGN);
	ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
	extra = mem_printf("%s-wal", own_store_path());
	struct stat st;
	ck_assert_int_eq(stat(extra, &st), 0);
	small = (struct rlimit){(rlim_t)st.st_size + 4096, old.rlim_max};
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
	bool ok = store_apply(store, &it, 1, "test", "big", false, &revision, &err);
	ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
	ck_assert(!ok);
	ck_assert_int_eq(err.code, ERR_STORE);

	ck_assert(store_revision(store, &revision, &err));
	ck_assert_uint_eq(revision, 1);
	ck_assert_msg(store_apply(store, &it, 1, "test", "big", false, &revision, &err), "%s", err.text);
	ck_assert_uint_eq(revision, 2);
	mem_free(extra);
	json_decref(o.body);
}
END_TEST

Suite *store_suite(void)
{
	Suite *s = suite_create("store");
	TCase *tc = tcase_create("store");

	tcase_add_checked_fixture(tc, make, drop);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, keeps_mesh_and_ca_in_a_private_file);
	tcase_add_test(tc, does_not_overwrite_a_store);
	tcase_add_test(tc, a_second_process_is_refused);
	tcase_add_test(tc, what_root_leaves_beside_the_file_is_its_owners);
	tcase_add_test(tc, who_reads_beside_a_transaction_sees_what_was_committed_and_who_writes_waits_for_its_end);
	tcase_add_test(tc, refuses_what_is_no_store);
	tcase_add_test(tc, refuses_a_corrupt_store);
	tcase_add_test(tc, refuses_a_later_schema);
	tcase_add_test(tc, apply_is_all_or_nothing);
	tcase_add_test(tc, unchanged_objects_make_no_revision);
	tcase_add_test(tc, dry_run_changes_nothing);
	tcase_add_test(tc, the_same_object_twice_in_a_batch_is_refused);
	tcase_add_test(tc, deleting_what_is_not_there_is_an_error);
	tcase_add_test(tc, virtual_addresses_are_the_lowest_free_and_rest_a_day);
	tcase_add_test(tc, a_change_keeps_the_virtual_address);
	tcase_add_test(tc, an_address_in_use_is_refused_by_its_owner);
	tcase_add_test(tc, a_thousand_services_in_one_apply);
	tcase_add_test(tc, a_full_store_takes_no_further_object_and_knows_when_there_is_room_again);
	tcase_add_test(tc, watchers_hear_of_commits_only);
	tcase_add_test(tc, a_write_that_fails_is_said_and_changes_nothing);
	suite_add_tcase(s, tc);
	return s;
}
