/* SPDX-License-Identifier: Apache-2.0 */
/* store_test.c: the store keeps what it was given, all of it or nothing, and refuses loudly. */
#include "control/kind.h"
#include "control/store.h"
#include "control/vip.h"

#include "certs/ca.h"
#include "lib/mem.h"

#include <check.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], path[128];
static struct store *store;
static struct err err;

static struct store_mesh mesh_of(void)
{
	struct store_mesh m = {.trust_domain = "mesh.test", .cidrs_len = 3, .server = "10.0.0.1:4810"};

	ck_assert(cidr_parse(STR("10.1.0.0/16"), &m.cidrs[0]));
	ck_assert(cidr_parse(STR(VIP_CIDR_V4), &m.cidrs[1]));
	ck_assert(cidr_parse(STR(VIP_CIDR_V6), &m.cidrs[2]));
	return m;
}

static struct ca_material ca_of(void)
{
	static uint8_t bytes[4][4] = {"abc", "def", "ghi", "jkl"};

	return (struct ca_material){bytes[0], bytes[1], bytes[2], bytes[3], 3, 3, 3, 3};
}

static void make(void)
{
	struct store_mesh m = mesh_of();
	struct ca_material ca = ca_of();

	snprintf(dir, sizeof(dir), "/tmp/weft-store-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	snprintf(path, sizeof(path), "%s/weft.db", dir);
	ck_assert_msg(store_create(path, &m, &ca, &err), "%s", err.text);
	store = store_open(path, &err);
	ck_assert_msg(store != NULL, "%s", err.text);
}

static void drop(void)
{
	char command[128];

	store_free(&store);
	snprintf(command, sizeof(command), "rm -rf '%s'", dir);
	ck_assert_int_eq(system(command), 0);
}

static void reopen(void)
{
	store_free(&store);
	store = store_open(path, &err);
	ck_assert_msg(store != NULL, "%s", err.text);
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
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0600);
}
END_TEST

START_TEST(does_not_overwrite_a_store)
{
	struct store_mesh m = mesh_of();
	struct ca_material ca = ca_of();

	ck_assert(!store_create(path, &m, &ca, &err));
	ck_assert_int_eq(err.code, ERR_EXISTS);
}
END_TEST

START_TEST(a_second_process_is_refused)
{
	struct store *second = store_open(path, &err);

	ck_assert_ptr_null(second);
	ck_assert_int_eq(err.code, ERR_STORE);
	ck_assert_ptr_nonnull(strstr(err.text, "another weftd"));
}
END_TEST

/* As SQLite does with its own files: who looked into it as root once keeps weftd's own user out by nothing that stays. */
START_TEST(what_root_leaves_beside_the_file_is_its_owners)
{
	char lock[sizeof(path) + 8];
	struct stat st;

	if (geteuid() != 0)
		return;
	store_free(&store);
	snprintf(lock, sizeof(lock), "%s.lock", path);
	ck_assert_int_eq(unlink(lock), 0);
	ck_assert_int_eq(chown(path, 65534, 65533), 0);
	reopen();
	ck_assert_int_eq(stat(lock, &st), 0);
	ck_assert_uint_eq(st.st_uid, 65534);
	ck_assert_uint_eq(st.st_gid, 65533);
	ck_assert_int_eq(st.st_mode & 0777, 0600);
}
END_TEST

/* --- two connections --- */

static sem_t is_within, may_go;

static bool stay_within(struct store *s, const struct store_item *item, const json_t *before, json_t *body,
			struct err *e)
{
	sem_post(&is_within);
	while (sem_wait(&may_go) != 0)
		;
	return true;
}

/* Writes "slow" by the connection beside, and stays within its transaction until it may go. */
static void *write_slowly(void *beside)
{
	struct object o = service("slow", 80, "");
	struct store_item it = item_of(&o);

	it.admit = stay_within;
	bool ok = store_apply(beside, &it, 1, "test", "slow", false, NULL, NULL);
	json_decref(o.body);
	return ok ? beside : NULL;
}

static void *go_soon(void *unused)
{
	usleep(50000); /* the other one waits by now; if not, nothing is proved and nothing fails */
	sem_post(&may_go);
	return NULL;
}

START_TEST(who_reads_beside_a_transaction_sees_what_was_committed_and_who_writes_waits_for_its_end)
{
	struct store *beside = store_open_beside(store, &err);
	pthread_t writer, later;
	uint64_t revision;
	void *done;

	ck_assert_msg(beside != NULL, "%s", err.text);
	ck_assert(sem_init(&is_within, 0, 0) == 0 && sem_init(&may_go, 0, 0) == 0);
	ck_assert(apply_one("a", 80, "", false, NULL, NULL));
	ck_assert(!store_busy(store));
	ck_assert_int_eq(pthread_create(&writer, NULL, write_slowly, beside), 0);
	ck_assert_int_eq(sem_wait(&is_within), 0);
	ck_assert(store_busy(store));
	ck_assert(store_revision(store, &revision, &err));
	ck_assert_uint_eq(revision, 1);
	ck_assert_int_eq(pthread_create(&later, NULL, go_soon, NULL), 0);
	ck_assert(apply_one("b", 80, "", false, &revision, NULL));
	ck_assert_uint_eq(revision, 3); /* after the slow one */
	ck_assert(pthread_join(writer, &done) == 0 && done == beside);
	ck_assert_int_eq(pthread_join(later, NULL), 0);
	ck_assert(!store_busy(store));
	ck_assert(store_revision(beside, &revision, &err));
	ck_assert_uint_eq(revision, 3);
	store_free(&beside);
}
END_TEST

START_TEST(refuses_what_is_no_store)
{
	store_free(&store);
	ck_assert_int_eq(chmod(path, 0644), 0);
	ck_assert_ptr_null(store_open(path, &err));
	ck_assert_int_eq(err.code, ERR_DENIED);
	ck_assert_int_eq(chmod(path, 0600), 0);

	FILE *f = fopen(path, "w");
	fputs("this is a text file, longer than the sixteen bytes of a header of SQLite", f);
	fclose(f);
	ck_assert_ptr_null(store_open(path, &err));
	ck_assert_int_eq(err.code, ERR_STORE);

	ck_assert_int_eq(unlink(path), 0);
	ck_assert_ptr_null(store_open(path, &err));
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
	int fd = open(path, O_RDWR);
	off_t size = lseek(fd, 0, SEEK_END);
	for (off_t at = 4096 * 2; at + 4096 <= size; at += 4096 * 2)
		ck_assert_int_eq(pwrite(fd, junk, sizeof(junk), at), sizeof(junk));
	close(fd);
	ck_assert_ptr_null(store_open(path, &err));
	ck_assert_int_eq(err.code, ERR_STORE);
}
END_TEST

START_TEST(refuses_a_later_schema)
{
	sqlite3 *db;

	store_free(&store);
	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, "PRAGMA user_version = 99", NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(db);
	ck_assert_ptr_null(store_open(path, &err));
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
	ck_assert_int_eq(sqlite3_open(path, &db), SQLITE_OK);
	ck_assert_int_eq(sqlite3_exec(db, "UPDATE vips SET freed_ms = freed_ms - 86400001", NULL, NULL, NULL),
			 SQLITE_OK);
	sqlite3_close(db);
	store = store_open(path, &err);
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
	extra = mem_printf("%s-wal", path);
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

static struct store_token token_of(const char *id, const char *sa)
{
	struct store_token t = {.labels = json_pack("{s:s, s:s}", "app", "orders", "version", "v*"),
				.not_after = 4000000000};

	snprintf(t.id, sizeof(t.id), "%s", id);
	snprintf(t.ns, sizeof(t.ns), "shop");
	snprintf(t.sa, sizeof(t.sa), "%s", sa);
	snprintf(t.created_by, sizeof(t.created_by), "test");
	memset(t.secret_hash, 7, sizeof(t.secret_hash));
	return t;
}

static void add_token(const char *id, const char *sa)
{
	struct store_token t = token_of(id, sa);

	ck_assert_msg(store_token_add(store, &t, &err), "%s", err.text);
	store_token_done(&t);
}

START_TEST(tokens_come_back_as_they_were_made)
{
	struct store_token t;

	add_token("aa", "orders");
	ck_assert(store_token_get(store, "aa", &t, &err));
	ck_assert_str_eq(t.ns, "shop");
	ck_assert_str_eq(t.sa, "orders");
	ck_assert_int_eq(t.secret_hash[31], 7);
	ck_assert_str_eq(json_string_value(json_object_get(t.labels, "version")), "v*");
	store_token_done(&t);
	ck_assert(store_token_delete(store, "aa", &err));
	ck_assert(!store_token_get(store, "aa", &t, &err));
	ck_assert_int_eq(err.code, ERR_NOT_FOUND);
	ck_assert(!store_token_delete(store, "aa", &err));
}
END_TEST

START_TEST(a_token_is_spent_once_per_instance)
{
	struct store_instance i;
	struct store_token t;
	uint8_t hash[STORE_HASH_LEN] = {1}, other[STORE_HASH_LEN] = {2};

	add_token("aa", "orders");
	ck_assert_msg(store_instance_join(store, "aa", "orders-1", hash, &i, &err), "%s", err.text);
	ck_assert_str_eq(i.ns, "shop");
	ck_assert_str_eq(i.sa, "orders");
	ck_assert_str_eq(json_string_value(json_object_get(i.allowed_labels, "app")), "orders");
	store_instance_done(&i);
	ck_assert(!store_instance_join(store, "aa", "orders-1", hash, &i, &err));
	ck_assert_int_eq(err.code, ERR_EXISTS);
	ck_assert(store_instance_join(store, "aa", "orders-2", other, &i, &err));
	store_instance_done(&i);
	ck_assert(store_token_get(store, "aa", &t, &err));
	ck_assert_uint_eq(t.uses, 2);
	store_token_done(&t);
	ck_assert(!store_instance_join(store, "bb", "orders-1", hash, &i, &err));
	ck_assert_int_eq(err.code, ERR_NOT_FOUND);
}
END_TEST

START_TEST(another_account_cannot_take_a_name)
{
	struct store_instance i;
	uint8_t hash[STORE_HASH_LEN] = {1}, other[STORE_HASH_LEN] = {2};

	add_token("aa", "orders");
	add_token("bb", "evil");
	ck_assert(store_instance_join(store, "aa", "orders-1", hash, &i, &err));
	store_instance_done(&i);
	ck_assert(!store_instance_join(store, "bb", "orders-1", other, &i, &err));
	ck_assert_int_eq(err.code, ERR_DENIED);
	ck_assert(store_instance_get(store, "shop", "orders-1", &i, &err));
	ck_assert_str_eq(i.sa, "orders");
	store_instance_done(&i);
}
END_TEST

START_TEST(rejoin_secrets_rotate)
{
	struct store_instance i;
	uint8_t a[STORE_HASH_LEN] = {1}, b[STORE_HASH_LEN] = {2}, c[STORE_HASH_LEN] = {3}, d[STORE_HASH_LEN] = {4};

	add_token("aa", "orders");
	ck_assert(store_instance_join(store, "aa", "orders-1", a, &i, &err));
	store_instance_done(&i);
	ck_assert(store_instance_rejoin(store, a, b, &i, &err));
	ck_assert_str_eq(i.name, "orders-1");
	store_instance_done(&i);
	/* The answer with b was lost: a comes again and gets c; b is dead. */
	ck_assert(store_instance_rejoin(store, a, c, &i, &err));
	store_instance_done(&i);
	ck_assert(!store_instance_rejoin(store, b, d, &i, &err));
	ck_assert_int_eq(err.code, ERR_DENIED);
	/* c is used: a is dead from now on. */
	ck_assert(store_instance_rejoin(store, c, d, &i, &err));
	store_instance_done(&i);
	ck_assert(!store_instance_rejoin(store, a, b, &i, &err));
	/* Instances without a secret match no presented hash. */
	struct store_instance reg = {.ns = "shop", .name = "plain", .sa = "orders", .lease_ms = 5};
	ck_assert(store_instance_register(store, &reg, &err));
	uint8_t zero[STORE_HASH_LEN] = {0};
	ck_assert(!store_instance_rejoin(store, zero, b, &i, &err));
}
END_TEST

START_TEST(labels_are_held_against_the_token)
{
	json_t *allowed = json_pack("{s:s, s:s}", "app", "orders", "version", "v*");
	json_t *good = json_pack("{s:s, s:s}", "app", "orders", "version", "v12");
	json_t *wrong = json_pack("{s:s}", "app", "payments"), *foreign = json_pack("{s:s}", "tier", "gold");

	ck_assert(store_labels_allowed(allowed, good, &err));
	ck_assert(store_labels_allowed(allowed, NULL, &err));
	ck_assert(!store_labels_allowed(allowed, wrong, &err));
	ck_assert_int_eq(err.code, ERR_DENIED);
	ck_assert(!store_labels_allowed(allowed, foreign, &err));
	ck_assert(!store_labels_allowed(NULL, good, &err));
	json_decref(allowed);
	json_decref(good);
	json_decref(wrong);
	json_decref(foreign);
}
END_TEST

START_TEST(leases_outlive_a_restart)
{
	struct store_instance reg = {.ns = "shop", .name = "orders-1", .sa = "orders", .lease_ms = 1000, .zone = "a"},
			      i;

	reg.labels = json_pack("{s:s}", "app", "orders");
	reg.ports = json_pack("[{s:i, s:s}]", "port", 8080, "protocol", "http");
	reg.addresses = json_pack("[s]", "10.1.0.2");
	ck_assert_msg(store_instance_register(store, &reg, &err), "%s", err.text);
	struct store_lease leases[] = {{"shop", "orders-1", 2000}, {"shop", "unknown", 3000}};
	ck_assert_msg(store_lease_set(store, leases, 2, &err), "%s", err.text);
	reopen();
	ck_assert(store_instance_get(store, "shop", "orders-1", &i, &err));
	ck_assert_int_eq(i.lease_ms, 2000);
	ck_assert_str_eq(i.zone, "a");
	ck_assert(json_equal(i.ports, reg.ports));
	ck_assert(json_equal(i.addresses, reg.addresses));
	store_instance_done(&i);
	ck_assert(!store_instance_get(store, "shop", "unknown", &i, &err));
	leases[0].until_ms = 0;
	ck_assert(store_lease_set(store, leases, 1, &err));
	ck_assert(store_instance_get(store, "shop", "orders-1", &i, &err));
	ck_assert_int_eq(i.lease_ms, 0);
	store_instance_done(&i);
	store_instance_done(&reg);
	ck_assert(store_instance_delete(store, "shop", "orders-1", &err));
	ck_assert(!store_instance_delete(store, "shop", "orders-1", &err));
}
END_TEST

START_TEST(bearer_tokens_are_known_by_hash_until_they_expire)
{
	uint8_t a[STORE_HASH_LEN] = {1}, b[STORE_HASH_LEN] = {2};
	char who[64];

	ck_assert(store_bearer_add(store, a, "ci", 4000000000, &err));
	ck_assert(store_bearer_add(store, b, "old", 1000, &err));
	ck_assert(store_bearer_find(store, a, who, sizeof(who), &err));
	ck_assert_str_eq(who, "ci");
	ck_assert(!store_bearer_find(store, b, who, sizeof(who), &err));
	ck_assert_int_eq(err.code, ERR_DENIED);
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
	tcase_add_test(tc, watchers_hear_of_commits_only);
	tcase_add_test(tc, a_write_that_fails_is_said_and_changes_nothing);
	tcase_add_test(tc, tokens_come_back_as_they_were_made);
	tcase_add_test(tc, a_token_is_spent_once_per_instance);
	tcase_add_test(tc, another_account_cannot_take_a_name);
	tcase_add_test(tc, rejoin_secrets_rotate);
	tcase_add_test(tc, labels_are_held_against_the_token);
	tcase_add_test(tc, leases_outlive_a_restart);
	tcase_add_test(tc, bearer_tokens_are_known_by_hash_until_they_expire);
	suite_add_tcase(s, tc);
	return s;
}
