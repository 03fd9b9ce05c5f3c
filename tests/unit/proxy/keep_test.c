/* SPDX-License-Identifier: Apache-2.0 */
/* State on disk: the last good configuration and the rejoin secret. */
#include "proxy/keep.h"

#include "feed.h"
#include "lib/mem.h"
#include "proxy/config_build.h"
#include "proxy/rejoin.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static struct loop *loop;
static struct config *config;
static struct keep *keep;
static struct feed f;
static char dir[64];

static void on_ip(void *ctx, const struct ip *ip)
{
}
static void on_name(void *ctx, enum resource_type t, const char *name)
{
}

static const struct config_source source = {on_ip, on_ip, on_name, on_name};

static void open_config(void)
{
	config = config_new(loop);
	config_set_source(config, &source, NULL);
	keep = keep_new(loop, config, dir);
}

static void close_config(void)
{
	keep_free(&keep);
	config_free(&config);
}

static void setup(void)
{
	struct err err;
	strcpy(dir, "/tmp/weft-keep-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(dir));
	loop = loop_new(&err);
	open_config();
}

static void teardown(void)
{
	static const char *const names[] = {"config", ".config.new", "rejoin", ".rejoin.new"};
	char path[128];
	close_config();
	loop_free(&loop);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		unlink(path);
	}
	rmdir(dir);
}

static void apply(void)
{
	struct err err = {0};
	ck_assert_msg(config_apply(config, &f.from, &err), "%s", err.text);
}

static void fill(void)
{
	struct ip vip;
	ck_assert(ip_parse(STR("10.9.0.1"), &vip));
	config_follow(config, &vip);
	feed_mesh(&f, "v1", "test.mesh");
	apply();
	feed_self(&f, "v1");
	apply();
	feed_service(&f, "shop/orders", "s1", "10.9.0.1", PROTOCOL_HTTP);
	apply();
	feed_endpoints(&f, "shop/orders", "e1", "10.9.0.1", "10.1.0.2");
	apply();
	feed_manifest(&f, "shop/orders", "m1", "10.9.0.1", "s1", NULL);
	apply();
	config_commit(config);
}

static struct target at(const char *text)
{
	struct target t;
	struct addr to;
	ck_assert(addr_parse(str_of(text), &to));
	snapshot_find(config_snapshot(config), &to, &t);
	return t;
}

static void file_path(char out[128])
{
	snprintf(out, 128, "%s/%s", dir, KEEP_NAME);
}

START_TEST(what_was_in_force_comes_back)
{
	struct stat st;
	char path[128];
	fill();
	close_config();
	file_path(path);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0600);
	open_config();
	ck_assert(config_ready(config));
	struct target t = at("10.9.0.1:80");
	ck_assert_int_eq(t.kind, TARGET_SERVICE);
	ck_assert_str_eq(t.port->endpoints->v[0].identity, "spiffe://test.mesh/ns/shop/sa/orders");
	json_t *dump = config_dump(config);
	ck_assert_uint_eq(json_array_size(json_object_get(dump, "addresses")), 1);
	json_decref(dump);
	ck_assert_int_eq(at("192.0.2.1:1").kind, TARGET_EXTERNAL);
}
END_TEST

START_TEST(a_change_that_was_not_complete_is_not_kept)
{
	fill();
	feed_service(&f, "shop/orders", "s2", "10.9.0.1", PROTOCOL_TCP);
	apply();
	config_commit(config);
	close_config();
	open_config();
	struct target t = at("10.9.0.1:80");
	ck_assert_int_eq(t.kind, TARGET_SERVICE);
	ck_assert_int_eq(t.protocol, PROTOCOL_HTTP);
	ck_assert_str_eq(t.service->version, "s1");
}
END_TEST

static void on_timer(struct timer *t)
{
	loop_stop(t->loop);
}

START_TEST(it_is_written_while_running_too)
{
	char path[128];
	struct timer t;
	fill();
	file_path(path);
	ck_assert_int_ne(access(path, F_OK), 0);
	for (int i = 0; i < 100 && access(path, F_OK) != 0; i++) {
		timer_init(&t, loop, on_timer);
		timer_start(&t, 50);
		loop_run(loop);
	}
	ck_assert_int_eq(access(path, F_OK), 0);
}
END_TEST

START_TEST(a_damaged_file_is_as_good_as_none)
{
	char path[128];
	uint8_t bytes[8192];
	fill();
	close_config();
	file_path(path);
	FILE *file = fopen(path, "r");
	size_t len = fread(bytes, 1, sizeof(bytes), file);
	fclose(file);
	ck_assert_uint_gt(len, 100);
	for (size_t i = 0; i < len; i += 37) {
		bytes[i] ^= 0x40;
		file = fopen(path, "w");
		fwrite(bytes, 1, len, file);
		fclose(file);
		open_config();
		ck_assert(!config_ready(config));
		ck_assert_uint_eq(snapshot_services(config_snapshot(config)), 0);
		close_config();
		bytes[i] ^= 0x40;
	}
	for (size_t cut = 0; cut < len; cut += 41) {
		file = fopen(path, "w");
		fwrite(bytes, 1, cut, file);
		fclose(file);
		open_config();
		ck_assert_uint_eq(snapshot_services(config_snapshot(config)), 0);
		close_config();
	}
	open_config();
}
END_TEST

START_TEST(the_rejoin_secret_comes_back)
{
	struct rejoin r = {.trust_domain = "test.mesh", .secret = "s3cret"}, got;
	struct err err = {0};
	struct stat st;
	char path[128];
	ck_assert(!rejoin_load(dir, &got, &err));
	ck_assert_int_eq(err.code, ERR_NOT_FOUND);
	for (int i = 0; i < 32; i++)
		r.root_hash[i] = (uint8_t)(i * 9);
	ck_assert_msg(rejoin_store(dir, &r, &err), "%s", err.text);
	snprintf(path, sizeof(path), "%s/rejoin", dir);
	ck_assert_int_eq(stat(path, &st), 0);
	ck_assert_int_eq(st.st_mode & 0777, 0600);
	ck_assert_msg(rejoin_load(dir, &got, &err), "%s", err.text);
	ck_assert_str_eq(got.secret, r.secret);
	ck_assert_str_eq(got.trust_domain, r.trust_domain);
	ck_assert_mem_eq(got.root_hash, r.root_hash, 32);
	strcpy(r.secret, "next");
	ck_assert(rejoin_store(dir, &r, &err));
	ck_assert(rejoin_load(dir, &got, &err));
	ck_assert_str_eq(got.secret, "next");
}
END_TEST

START_TEST(a_damaged_rejoin_secret_is_named)
{
	static const char *const bad[] = {
	    "",
	    "weft-rejoin 2\n",
	    "weft-rejoin 1\nabc\ntest.mesh\ns\n",
	    "weft-rejoin 1\n0000000000000000000000000000000000000000000000000000000000000000\nTest Mesh\ns\n",
	    "weft-rejoin 1\n0000000000000000000000000000000000000000000000000000000000000000\ntest.mesh\n\n",
	    "weft-rejoin 1\n0000000000000000000000000000000000000000000000000000000000000000\ntest.mesh\ns\nmore\n",
	};
	struct rejoin got;
	struct err err;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert(state_write(dir, "rejoin", bad[i], strlen(bad[i]), false, &err));
		ck_assert(!rejoin_load(dir, &got, &err));
		ck_assert_int_eq(err.code, ERR_INVALID);
		ck_assert_ptr_nonnull(strstr(err.text, "damaged"));
	}
}
END_TEST

START_TEST(a_state_directory_that_is_not_there_is_named)
{
	struct err err;
	ck_assert(!state_write("/nonexistent/weft", "x", "y", 1, true, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/weft"));
}
END_TEST

Suite *keep_suite(void);
Suite *keep_suite(void)
{
	Suite *s = suite_create("keep");
	TCase *t = tcase_create("keep");
	tcase_set_timeout(t, 20);
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, what_was_in_force_comes_back);
	tcase_add_test(t, a_change_that_was_not_complete_is_not_kept);
	tcase_add_test(t, it_is_written_while_running_too);
	tcase_add_test(t, a_damaged_file_is_as_good_as_none);
	tcase_add_test(t, the_rejoin_secret_comes_back);
	tcase_add_test(t, a_damaged_rejoin_secret_is_named);
	tcase_add_test(t, a_state_directory_that_is_not_there_is_named);
	suite_add_tcase(s, t);
	return s;
}
