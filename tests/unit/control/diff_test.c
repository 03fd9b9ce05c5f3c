/* SPDX-License-Identifier: Apache-2.0 */
/* diff_test.c: what diff.c prints is what diff -u prints. */
#include "control/diff.h"

#include "lib/mem.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

static const struct diff_colours none = {"", "", ""};

static void expect(const char *before, const char *after, size_t changed, const char *text)
{
	char *got = NULL;
	size_t len = 0;
	FILE *out = open_memstream(&got, &len);

	ck_assert_uint_eq(diff_print(out, before, after, &none), changed);
	fclose(out);
	ck_assert_str_eq(got, text);
	free(got);
}

START_TEST(equal_texts_print_nothing)
{
	expect("", "", 0, "");
	expect("a\nb\n", "a\nb\n", 0, "");
}
END_TEST

START_TEST(one_changed_line_has_three_around_it)
{
	expect("1\n2\n3\n4\n5\n6\n7\n8\n9\n", "1\n2\n3\n4\nx\n6\n7\n8\n9\n", 2,
	       "@@ -2,7 +2,7 @@\n 2\n 3\n 4\n-5\n+x\n 6\n 7\n 8\n");
}
END_TEST

START_TEST(what_is_far_apart_makes_two_hunks)
{
	expect("a\n1\n2\n3\n4\n5\n6\n7\nb\n", "A\n1\n2\n3\n4\n5\n6\n7\nB\n", 4,
	       "@@ -1,4 +1,4 @@\n-a\n+A\n 1\n 2\n 3\n@@ -6,4 +6,4 @@\n 5\n 6\n 7\n-b\n+B\n");
}
END_TEST

START_TEST(from_and_to_nothing)
{
	expect("", "a\nb\n", 2, "@@ -0,0 +1,2 @@\n+a\n+b\n");
	expect("a\nb\n", "", 2, "@@ -1,2 +0,0 @@\n-a\n-b\n");
}
END_TEST

START_TEST(lines_put_in_and_taken_out)
{
	expect("a\nb\nc\n", "a\nx\nb\n", 2, "@@ -1,3 +1,3 @@\n a\n+x\n b\n-c\n");
}
END_TEST

START_TEST(texts_too_different_for_a_table_are_all_replaced)
{
	size_t n = 3000;
	char *a = mem_zalloc(n * 8), *b = mem_zalloc(n * 8), *got = NULL;
	size_t len = 0;

	for (size_t i = 0; i < n; i++) {
		sprintf(a + strlen(a), "a%zu\n", i);
		sprintf(b + strlen(b), "b%zu\n", i);
	}
	FILE *out = open_memstream(&got, &len);
	ck_assert_uint_eq(diff_print(out, a, b, &none), 2 * n);
	fclose(out);
	ck_assert(strncmp(got, "@@ -1,3000 +1,3000 @@\n-a0\n", 26) == 0);
	free(got);
	mem_free(a);
	mem_free(b);
}
END_TEST

Suite *diff_suite(void)
{
	Suite *s = suite_create("diff");
	TCase *t = tcase_create("diff");
	tcase_add_test(t, equal_texts_print_nothing);
	tcase_add_test(t, one_changed_line_has_three_around_it);
	tcase_add_test(t, what_is_far_apart_makes_two_hunks);
	tcase_add_test(t, from_and_to_nothing);
	tcase_add_test(t, lines_put_in_and_taken_out);
	tcase_add_test(t, texts_too_different_for_a_table_are_all_replaced);
	suite_add_tcase(s, t);
	return s;
}
