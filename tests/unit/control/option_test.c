/* SPDX-License-Identifier: Apache-2.0 */
/* option_test.c: command lines as rows. */
#include "control/option.h"

#include "control/nearest.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

struct values {
	bool flag;
	const char *text;
	struct option_list list;
};

static const struct option rows[] = {
    {OPTION_FLAG, offsetof(struct values, flag), "dry-run", 'd', NULL, "TEST_OPTION_FLAG", "a flag"},
    {OPTION_TEXT, offsetof(struct values, text), "namespace", 'n', "NS", "TEST_OPTION_TEXT", "a text"},
    {OPTION_LIST, offsetof(struct values, list), "label", 0, "K=V", "TEST_OPTION_LIST", "a list"},
};

static struct values values;
static struct option_list words;
static struct err err;

/* Splits line at spaces. */
static bool read_line(const char *line)
{
	static char copy[256];
	char *argv[32], *rest = copy;
	int argc = 0;

	memset(&values, 0, sizeof(values));
	strcpy(copy, line);
	for (char *word; (word = strsep(&rest, " "));)
		if (*word)
			argv[argc++] = word;
	return options_read(rows, ARRAY_LEN(rows), argc, argv, &values, &words, &err);
}

START_TEST(every_spelling_is_read)
{
	static const char *const lines[] = {"a -n shop --dry-run b --label x=1 --label=y=2",
					    "--namespace=shop -d a b --label x=1 --label y=2",
					    "a b -nshop --label x=1 --label y=2 -d"};

	for (size_t i = 0; i < ARRAY_LEN(lines); i++) {
		ck_assert_msg(read_line(lines[i]), "%s", err.text);
		ck_assert(values.flag);
		ck_assert_str_eq(values.text, "shop");
		ck_assert_uint_eq(values.list.len, 2);
		ck_assert_str_eq(values.list.v[1], "y=2");
		ck_assert_uint_eq(words.len, 2);
		ck_assert_str_eq(words.v[1], "b");
	}
}
END_TEST

START_TEST(two_dashes_end_the_options_and_one_is_a_word)
{
	ck_assert(read_line("-d - -- -n --label"));
	ck_assert_ptr_null(values.text);
	ck_assert_uint_eq(words.len, 3);
	ck_assert_str_eq(words.v[0], "-");
	ck_assert_str_eq(words.v[2], "--label");
}
END_TEST

START_TEST(wrong_ones_are_named)
{
	ck_assert(!read_line("--namespce x"));
	ck_assert_str_eq(err.text, "unknown option --namespce; did you mean --namespace?");
	ck_assert(!read_line("-x"));
	ck_assert_str_eq(err.text, "unknown option -x");
	ck_assert(!read_line("--dry-run=yes"));
	ck_assert_str_eq(err.text, "--dry-run takes no value");
	ck_assert(!read_line("-n"));
	ck_assert_str_eq(err.text, "--namespace wants a value: NS");
}
END_TEST

START_TEST(the_environment_counts_when_the_option_is_not_given)
{
	setenv("TEST_OPTION_TEXT", "env", 1);
	setenv("TEST_OPTION_LIST", "a=1,b=2", 1);
	setenv("TEST_OPTION_FLAG", "1", 1);
	ck_assert(read_line(""));
	ck_assert_str_eq(values.text, "env");
	ck_assert_uint_eq(values.list.len, 2);
	ck_assert(values.flag);
	ck_assert(read_line("-n given --label c=3"));
	ck_assert_str_eq(values.text, "given");
	ck_assert_uint_eq(values.list.len, 1);
	unsetenv("TEST_OPTION_TEXT");
	unsetenv("TEST_OPTION_LIST");
	unsetenv("TEST_OPTION_FLAG");
}
END_TEST

static const char *name_at(size_t i)
{
	static const char *const names[] = {"get", "delete", "apply", NULL};

	return names[i];
}

START_TEST(near_names_are_found_and_far_ones_not)
{
	ck_assert_str_eq(nearest("gte", name_at), "get");
	ck_assert_str_eq(nearest("aply", name_at), "apply");
	ck_assert_str_eq(nearest("DELTE", name_at), "delete");
	ck_assert_ptr_null(nearest("frobnicate", name_at));
	ck_assert_ptr_null(nearest("", name_at));
	char large[300];
	memset(large, 'a', sizeof(large) - 1);
	large[sizeof(large) - 1] = 0;
	ck_assert_ptr_null(nearest(large, name_at));
}
END_TEST

Suite *option_suite(void)
{
	Suite *s = suite_create("option");
	TCase *tc = tcase_create("option");

	tcase_add_test(tc, every_spelling_is_read);
	tcase_add_test(tc, two_dashes_end_the_options_and_one_is_a_word);
	tcase_add_test(tc, wrong_ones_are_named);
	tcase_add_test(tc, the_environment_counts_when_the_option_is_not_given);
	tcase_add_test(tc, near_names_are_found_and_far_ones_not);
	suite_add_tcase(s, tc);
	return s;
}
