/* SPDX-License-Identifier: Apache-2.0 */
/* json_test.c: documents that are wrong, and what is said of them. */
#include "lib/json.h"

#include <check.h>
#include <stdlib.h>

START_TEST(only_one_clean_document_is_read)
{
	static const char *const bad[] = {
	    "", "{", "{}x", "{\"a\":1,\"a\":2}", "{\"a\":\"\\u0000\"}", "1", "{\"a\":01}", "{\"a\":\"\xff\"}"};
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		ck_assert_msg(!json_read(str_of(bad[i]), &err), "%s", bad[i]);
		ck_assert(str_starts(str_of(err.text), STR("line 1, column ")));
	}
	json_t *ok = json_read(STR("{\"a\":[1,\"[[[\\\"{{{\"]}"), &err);
	ck_assert_ptr_nonnull(ok);
	json_decref(ok);
}
END_TEST

START_TEST(depth_is_bounded_before_parsing)
{
	static char deep[2000000];
	struct err err;
	json_t *ok;

	memset(deep, '[', sizeof(deep));
	ck_assert_ptr_null(json_read(str_make(deep, sizeof(deep)), &err));
	ck_assert_int_eq(err.code, ERR_LIMIT);
	memset(deep + JSON_DEPTH_MAX, ']', JSON_DEPTH_MAX);
	ok = json_read(str_make(deep, 2 * JSON_DEPTH_MAX), &err);
	ck_assert_ptr_nonnull(ok);
	json_decref(ok);
}
END_TEST

START_TEST(errors_name_path_value_and_way_out)
{
	static const char *const names[] = {"port", "name", "up", NULL};
	struct jpath spec = {.field = "spec"}, ports = {.up = &spec, .field = "ports"}, at = {.up = &ports, .index = 1};
	struct err err;
	json_t *o = json_read(STR("{\"prot\":1,\"port\":70000,\"name\":null,\"up\":1.5,\"list\":[1,2,3]}"), &err),
	       *sub = NULL;
	int64_t n = 7;
	bool flag = true;
	const char *s = "kept";

	ck_assert(!json_fields_known(o, names, &at, &err));
	ck_assert_str_eq(err.text, "spec.ports[1].prot: unknown field; did you mean \"port\"?");
	ck_assert(!json_get_int(o, "port", true, 1, 65535, &at, &n, &err));
	ck_assert_str_eq(err.text, "spec.ports[1].port: 70000 is not in 1 to 65535");
	ck_assert(!json_get_int(o, "up", true, 1, 5, &at, &n, &err));
	ck_assert_str_eq(err.text, "spec.ports[1].up: must be a whole number, not a number");
	ck_assert(!json_get_str(o, "name", true, &at, &s, &err));
	ck_assert_str_eq(err.text, "spec.ports[1].name: is required");
	ck_assert(json_get_str(o, "name", false, &at, &s, &err) && strcmp(s, "kept") == 0);
	ck_assert(!json_get_bool(o, "port", false, NULL, &flag, &err));
	ck_assert_str_eq(err.text, "port: must be a boolean, not a number");
	ck_assert(!json_get_array(o, "list", false, 2, NULL, &sub, &err));
	ck_assert_str_eq(err.text, "list: has 3 elements, at most 2 are allowed");
	ck_assert(json_get_array(o, "list", false, 3, NULL, &sub, &err) && json_array_size(sub) == 3);
	ck_assert(!json_get_object(o, "list", false, NULL, &sub, &err));
	ck_assert(n == 7 && flag);
	json_decref(o);
}
END_TEST

START_TEST(a_long_path_is_cut)
{
	struct jpath a = {.field = "aaaaaaaaaa"}, b = {.up = &a, .field = "bbbbbbbbbb"};
	char out[16];

	ck_assert_str_eq(jpath_text(&b, out, sizeof(out)), "aaaaaaaaaa.b...");
	ck_assert_str_eq(jpath_text(NULL, out, sizeof(out)), "");
}
END_TEST

Suite *json_suite(void);
Suite *json_suite(void)
{
	Suite *s = suite_create("json");
	TCase *t = tcase_create("json");

	tcase_add_test(t, only_one_clean_document_is_read);
	tcase_add_test(t, depth_is_bounded_before_parsing);
	tcase_add_test(t, errors_name_path_value_and_way_out);
	tcase_add_test(t, a_long_path_is_cut);
	suite_add_tcase(s, t);
	return s;
}
