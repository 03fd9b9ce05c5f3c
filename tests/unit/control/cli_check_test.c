/* SPDX-License-Identifier: Apache-2.0 */
/* cli_check_test.c: what of `weft check` is arithmetic. */
#include "control/cli_check.h"

#include <check.h>
#include <string.h>

START_TEST(versions_are_apart_by_minor_steps)
{
	ck_assert_int_eq(check_versions_apart("0.1.0", "0.1.7"), 0);
	ck_assert_int_eq(check_versions_apart("0.1.0", "0.3"), 2);
	ck_assert_int_eq(check_versions_apart("1.4.0", "1.2.9"), 2);
	ck_assert_int_eq(check_versions_apart("1.0.0", "2.0.0"), 1000);
	ck_assert_int_eq(check_versions_apart("", "2.0.0"), -1);
	ck_assert_int_eq(check_versions_apart("1.4000000000.0", "1.0.0"), -1);
}
END_TEST

START_TEST(the_worst_of_a_checks_lines_counts)
{
	struct check_out out = {.lines = json_array()};

	check_say(&out, CHECK_GOOD, NULL, "good");
	ck_assert_int_eq(out.worst, CHECK_GOOD);
	check_say(&out, CHECK_ERROR, "do this", "bad \xff");
	check_say(&out, CHECK_WARNING, "do that", "odd");
	ck_assert_int_eq(out.worst, CHECK_ERROR);
	ck_assert_uint_eq(json_array_size(out.lines), 3);
	ck_assert_str_eq(json_string_value(json_object_get(json_array_get(out.lines, 1), "description")),
			 "(not UTF-8)");
	json_decref(out.lines);
}
END_TEST

Suite *cli_check_suite(void)
{
	Suite *s = suite_create("cli_check");
	TCase *t = tcase_create("cli_check");
	tcase_add_test(t, versions_are_apart_by_minor_steps);
	tcase_add_test(t, the_worst_of_a_checks_lines_counts);
	suite_add_tcase(s, t);
	return s;
}
