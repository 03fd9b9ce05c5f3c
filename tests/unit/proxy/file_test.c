/* SPDX-License-Identifier: Apache-2.0 */
/* -f: a good file works, a wrong one is named by path and value. */
#include "proxy/file.h"

#include "lib/mem.h"
#include "proxy/config_build.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static struct loop *loop;
static struct config *config;
static char path[64];

static void setup(void)
{
	struct err err;
	strcpy(path, "/tmp/weft-file-XXXXXX");
	int fd = mkstemp(path);
	ck_assert_int_ge(fd, 0);
	close(fd);
	loop = loop_new(&err);
	config = config_new(loop);
}

static void teardown(void)
{
	config_free(&config);
	loop_free(&loop);
	unlink(path);
}

static void put(const char *text)
{
	FILE *f = fopen(path, "w");
	fputs(text, f);
	fclose(f);
}

static void refused(const char *text, const char *words)
{
	struct err err = {0};
	put(text);
	ck_assert(!config_file_load(path, NULL, NULL, &err));
	ck_assert_msg(strncmp(err.text, path, strlen(path)) == 0, "%s", err.text);
	ck_assert_msg(strstr(err.text, words) != NULL, "\"%s\" is not in \"%s\"", words, err.text);
}

static struct target at(const char *text)
{
	struct target t;
	struct addr to;
	ck_assert(addr_parse(str_of(text), &to));
	snapshot_find(config_snapshot(config), &to, &t);
	return t;
}

static const char good[] =
    "{\"trustDomain\": \"test.mesh\", \"cidrs\": [\"10.0.0.0/8\", \"fd00::/8\"],"
    " \"self\": {\"name\": \"client-1\", \"namespace\": \"shop\", \"ports\": [{\"port\": 9000, \"protocol\": "
    "\"http\"}]},"
    " \"services\": [{\"name\": \"orders\", \"namespace\": \"shop\", \"vips\": [\"240.0.0.1\", \"fd00::1\"],"
    "   \"ports\": [{\"name\": \"http\", \"port\": 80, \"protocol\": \"http\"}, {\"port\": 6379, \"protocol\": "
    "\"tcp\"}],"
    "   \"endpoints\": [{\"address\": \"10.1.0.2\", \"ports\": {\"80\": 8080}, \"identity\": "
    "\"spiffe://test.mesh/ns/shop/sa/orders\"},"
    "     {\"address\": \"127.0.0.1\", \"weight\": 3}]}],"
    " \"workloads\": [{\"name\": \"orders-1\", \"namespace\": \"shop\", \"addresses\": [\"10.1.0.2\"],"
    "   \"identity\": \"spiffe://test.mesh/ns/shop/sa/orders\", \"ports\": [{\"port\": 8080, \"protocol\": "
    "\"grpc\"}]}]}";

START_TEST(a_good_file_is_in_force_at_once)
{
	struct err err = {0};
	put(good);
	ck_assert_msg(config_file_load(path, NULL, NULL, &err), "%s", err.text);
	ck_assert_msg(config_file_load(path, config, NULL, &err), "%s", err.text);
	ck_assert(config_ready(config));
	struct target t = at("240.0.0.1:80");
	ck_assert_int_eq(t.kind, TARGET_SERVICE);
	ck_assert_uint_eq(t.port->endpoints->len, 2);
	ck_assert_uint_eq(t.port->endpoints->v[0].addr.port, 8080);
	ck_assert(t.port->endpoints->v[0].meshed);
	ck_assert_uint_eq(t.port->endpoints->v[1].addr.port, 80);
	ck_assert_uint_eq(t.port->endpoints->v[1].weight, 3);
	ck_assert(!t.port->endpoints->v[1].meshed);
	ck_assert_ptr_null(t.port->endpoints->v[1].identity);
	ck_assert_uint_eq(at("[fd00::1]:6379").port->endpoints->len, 1);
	t = at("10.1.0.2:8080");
	ck_assert_int_eq(t.kind, TARGET_WORKLOAD);
	ck_assert_int_eq(t.protocol, PROTOCOL_HTTP2);
	ck_assert_int_eq(at("10.7.7.7:80").kind, TARGET_UNKNOWN); /* nobody to ask */
	ck_assert_int_eq(at("192.0.2.1:80").kind, TARGET_EXTERNAL);
	ck_assert_int_eq(snapshot_inbound(config_snapshot(config), 9000)->protocol, PROTOCOL_HTTP);
}
END_TEST

START_TEST(a_wrong_file_is_named_by_path_and_value)
{
#define HEAD "{\"trustDomain\": \"test.mesh\", \"self\": {\"name\": \"a\", \"namespace\": \"b\"}"
	refused("", "line");
	refused("[]", "must be a JSON object");
	refused("{}", "trustDomain");
	refused("{\"trustDomain\": \"test.mesh\"}", "self");
	refused(HEAD ", \"servces\": []}", "servces");
	refused(HEAD ", \"cidrs\": [\"10.0.0.1/8\"]}", "cidrs[0]: \"10.0.0.1/8\"");
	refused(HEAD ", \"cidrs\": [7]}", "cidrs[0]");
	refused(HEAD ", \"services\": [7]}", "services[0]");
	refused(HEAD ", \"services\": [{\"name\": \"o\", \"namespace\": \"s\", \"ports\": [{\"port\": 70000}]}]}",
		"services[0].ports[0].port: 70000");
	refused(HEAD ", \"services\": [{\"name\": \"o\", \"namespace\": \"s\", \"ports\": [{\"port\": 1, \"protocol\": "
		     "\"udp\"}]}]}",
		"services[0].ports[0].protocol: \"udp\"");
	refused(HEAD ", \"services\": [{\"name\": \"O\", \"namespace\": \"s\", \"ports\": []}]}", "services[0]: name");
	refused(HEAD ", \"services\": [{\"name\": \"o\", \"namespace\": \"s\", \"ports\": [], \"vips\": [\"1.2.3\"]}]}",
		"services[0].vips[0]: \"1.2.3\"");
	refused(HEAD
		", \"services\": [{\"name\": \"o\", \"namespace\": \"s\", \"ports\": [{\"port\": 80}], \"endpoints\": "
		"[{\"address\": \"10.0.0.1\", \"ports\": {\"81\": 8080}}]}]}",
		"services[0].endpoints[0].ports.81");
	refused(HEAD
		", \"services\": [{\"name\": \"o\", \"namespace\": \"s\", \"ports\": [{\"port\": 80}], \"endpoints\": "
		"[{\"address\": \"10.0.0.1\", \"meshed\": true}]}]}",
		"services[0]: endpoints[0]: identity");
	refused(HEAD ", \"certificate\": \"x.pem\"}", "certificate");
	refused(HEAD ", \"certificatePem\": \"x\"}", "key: missing");
	refused(HEAD ", \"certificatePem\": \"x\", \"certificate\": \"y\", \"keyPem\": \"x\", \"rootsPem\": \"x\"}",
		"only one may");
	refused(HEAD ", \"certificatePem\": \"x\", \"keyPem\": \"x\", \"rootsPem\": \"x\"}", "certificate");
}
END_TEST

START_TEST(a_file_that_is_not_there_is_named)
{
	struct err err;
	ck_assert(!config_file_load("/nonexistent/weft.json", NULL, NULL, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/weft.json"));
	ck_assert(!config_file_load("/dev/null", NULL, NULL, &err));
	ck_assert_ptr_nonnull(strstr(err.text, "plain file"));
}
END_TEST

Suite *file_suite(void);
Suite *file_suite(void)
{
	Suite *s = suite_create("file");
	TCase *t = tcase_create("file");
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, a_good_file_is_in_force_at_once);
	tcase_add_test(t, a_wrong_file_is_named_by_path_and_value);
	tcase_add_test(t, a_file_that_is_not_there_is_named);
	suite_add_tcase(s, t);
	return s;
}
