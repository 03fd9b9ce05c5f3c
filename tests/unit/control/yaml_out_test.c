/* SPDX-License-Identifier: Apache-2.0 */
/* yaml_out_test.c: what is written is read back as the same, whatever the text looks like. */
#include "control/yaml_out.h"

#include "control/document.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

static char *written(json_t *const *roots, size_t n)
{
	char *text = NULL;
	size_t len = 0;
	FILE *f = open_memstream(&text, &len);

	ck_assert(yaml_write(f, roots, n));
	fclose(f);
	return text;
}

START_TEST(every_text_comes_back_as_text)
{
	static const char *const texts[] = {"",          "null",       "~",         "true",
					    "yes",       "No",         "on",        "12",
					    "0x1f",      "1e3",        "010",       "1_000",
					    "12:30",     "1.5",        ".5",        "-",
					    "- a",       "a: b",       "a #b",      "#",
					    "{a}",       "[b]",        "*x",        "&y",
					    "!z",        "|",          ">",         "'q'",
					    "\"dq\"",    "%d",         "@at",       "two\nlines\n",
					    " lead",     "trail ",     "tab\there", "\xc3\xbc\xe2\x82\xac",
					    "=",         "<<",         ".inf",      "fd77:6566:7400:1::1",
					    "240.0.0.1", "---",        "...",       "2001-12-14",
					    "? q",       "back\\slash"};
	json_t *list = json_array();
	struct documents docs = {0};
	struct err err;

	for (size_t i = 0; i < ARRAY_LEN(texts); i++) {
		json_array_append_new(list, json_string(texts[i]));
		json_array_append_new(list, json_pack("{s:i}", texts[i], 1));
	}
	char *text = written(&list, 1);
	ck_assert_msg(documents_add_text(&docs, "out.yaml", str_of(text), &err), "%s\n%s", err.text, text);
	ck_assert_uint_eq(docs.len, 1);
	ck_assert_msg(json_equal(docs.v[0].root, list), "%s", text);
	documents_done(&docs);
	json_decref(list);
	free(text);
}
END_TEST

START_TEST(several_trees_are_several_documents)
{
	json_t *roots[] = {json_pack("{s:i, s:b, s:n, s:f}", "a", 1, "b", 1, "c", "d", 1.5),
			   json_pack("{s:{s:[]}, s:{}}", "x", "y", "z")};
	struct documents docs = {0};
	struct err err;

	char *text = written(roots, 2);
	ck_assert_msg(documents_add_text(&docs, "out.yaml", str_of(text), &err), "%s", err.text);
	ck_assert_uint_eq(docs.len, 2);
	for (size_t i = 0; i < 2; i++) {
		ck_assert(json_equal(docs.v[i].root, roots[i]));
		json_decref(roots[i]);
	}
	documents_done(&docs);
	free(text);
}
END_TEST

Suite *yaml_out_suite(void)
{
	Suite *s = suite_create("yaml_out");
	TCase *tc = tcase_create("yaml_out");

	tcase_add_test(tc, every_text_comes_back_as_text);
	tcase_add_test(tc, several_trees_are_several_documents);
	suite_add_tcase(s, tc);
	return s;
}
