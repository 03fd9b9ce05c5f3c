/* SPDX-License-Identifier: Apache-2.0 */
/* document_test.c: files of users become trees, hostile ones a short refusal with a place. */
#include "control/document.h"

#include "lib/buf.h"
#include "lib/mem.h"

#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static struct documents docs;
static struct err err;

static void clear(void)
{
	documents_done(&docs);
}

static bool read_as(const char *name, const char *text)
{
	documents_done(&docs);
	return documents_add_text(&docs, name, str_of(text), &err);
}

static const json_t *field(const char *name)
{
	ck_assert_uint_eq(docs.len, 1);
	return json_object_get(docs.v[0].root, name);
}

/* unit repeated n times */
static char *many(const char *unit, size_t n)
{
	size_t len = strlen(unit);
	char *p = mem_alloc(len * n + 1);

	for (size_t i = 0; i < n; i++)
		memcpy(p + i * len, unit, len);
	p[len * n] = 0;
	return p;
}

static void refused(const char *text, const char *expect)
{
	ck_assert_msg(!read_as("f.yaml", text), "accepted: %.60s", text);
	ck_assert_msg(strstr(err.text, expect) != NULL, "%s", err.text);
}

START_TEST(scalars_follow_the_core_schema)
{
	ck_assert_msg(read_as("f.yaml",
			      "a: 8080\nb: \"8080\"\nc: true\nd: ~\ne: 1.5\nf: yes\ng: 0x1f\nh: 1e3\ni: v1.2.3\nj: -7\n"
			      "k:\nl: !!str 12\nm: |\n  two\n  lines\nn: '0o17'\no: 0o17\n"),
		      "%s", err.text);
	ck_assert_int_eq(json_integer_value(field("a")), 8080);
	ck_assert_str_eq(json_string_value(field("b")), "8080");
	ck_assert(json_is_true(field("c")));
	ck_assert(json_is_null(field("d")));
	ck_assert_double_eq(json_real_value(field("e")), 1.5);
	ck_assert_str_eq(json_string_value(field("f")), "yes");
	ck_assert_int_eq(json_integer_value(field("g")), 31);
	ck_assert_double_eq(json_real_value(field("h")), 1000);
	ck_assert_str_eq(json_string_value(field("i")), "v1.2.3");
	ck_assert_int_eq(json_integer_value(field("j")), -7);
	ck_assert(json_is_null(field("k")));
	ck_assert_str_eq(json_string_value(field("l")), "12");
	ck_assert_str_eq(json_string_value(field("m")), "two\nlines\n");
	ck_assert_str_eq(json_string_value(field("n")), "0o17");
	ck_assert_int_eq(json_integer_value(field("o")), 15);
}
END_TEST

START_TEST(many_documents_keep_their_places)
{
	ck_assert_msg(read_as("f.yaml", "# nothing\n---\na: 1\n---\n---\n# empty\n---\nb: [2, {c: 3}]\n...\n"), "%s",
		      err.text);
	ck_assert_uint_eq(docs.len, 2);
	ck_assert_uint_eq(docs.v[0].line, 3);
	ck_assert_uint_eq(docs.v[1].line, 8);
	ck_assert_str_eq(docs.v[1].file, "f.yaml");
}
END_TEST

START_TEST(a_list_is_taken_apart)
{
	ck_assert(read_as("f.yaml", "kind: List\nitems:\n- a: 1\n- a: 2\n"));
	ck_assert_uint_eq(docs.len, 2);
	ck_assert(read_as("f.json", "{\"kind\":\"List\",\"items\":[{\"a\":1}]}"));
	ck_assert_uint_eq(docs.len, 1);
}
END_TEST

START_TEST(errors_name_file_line_and_column)
{
	refused("a: 1\nb: [1, 2\nc: 3\n", "f.yaml:3:");
	refused("a: 1\na: 2\n", "f.yaml:2:1: the field \"a\" is there twice");
	refused("a: 010\n", "f.yaml:1:4: 010 is octal to some");
	refused("a: 99999999999999999999\n", "too large a number");
	refused("a: .nan\n", "not a number that a policy");
	refused("a: !!binary aGk=\n", "f.yaml:1:4: tags are not supported");
	refused("a: !thing {}\n", "tags are not supported");
	refused("? [a]\n: b\n", "a field's name must be text");
	refused("a: \"x\\0y\"\n", "a NUL byte");
	refused("a: \xff\xfe\n", "f.yaml:1:");
	ck_assert(!read_as("f.json", "{\"a\":1,\n \"a\":2}"));
	ck_assert_msg(strncmp(err.text, "f.json: ", 8) == 0, "%s", err.text);
}
END_TEST

START_TEST(an_alias_bomb_is_refused_at_the_first_alias)
{
	refused("a: &a [x, x]\nb: &b [*a, *a]\nc: [*b, *b]\n", "f.yaml:2:8: aliases");
	refused("a: &a {x: 1}\nb:\n  <<: *a\n", "aliases");
	refused("&a {*a : 1}", "aliases");
}
END_TEST

START_TEST(deep_nesting_is_refused_quickly)
{
	static const char *const units[] = {"[", "{a: ", "- ", "[{a: "};
	struct timespec from, to;

	clock_gettime(CLOCK_MONOTONIC, &from);
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		char *text = many(units[i], 100000);
		refused(text, "deeper than 64");
		mem_free(text);
	}
	char *json = many("[", 100000);
	ck_assert(!read_as("f.json", json));
	mem_free(json);
	clock_gettime(CLOCK_MONOTONIC, &to);
	ck_assert_int_lt(to.tv_sec - from.tv_sec, 5);
	char *open = many("[", 64), *close = many("]", 64), *whole = mem_printf("%s%s", open, close);
	ck_assert_msg(read_as("f.yaml", whole), "%s", err.text);
	mem_free(open);
	mem_free(close);
	mem_free(whole);
}
END_TEST

START_TEST(too_many_values_and_documents_are_refused)
{
	char *values = many("- 1\n", DOCUMENT_NODES_MAX + 1), *documents = many("--- {a: 1}\n", DOCUMENTS_MAX + 1);

	refused(values, "more than 400000 values");
	refused(documents, "more than 10000 documents");
	mem_free(values);
	mem_free(documents);
}
END_TEST

START_TEST(a_large_file_is_refused_unread)
{
	char path[] = "/tmp/weft-doc-XXXXXX";
	int fd = mkstemp(path);

	ck_assert_int_ge(fd, 0);
	ck_assert_int_eq(ftruncate(fd, 100 * 1024 * 1024), 0);
	close(fd);
	bool ok = documents_add_path(&docs, path, &err);
	unlink(path);
	ck_assert(!ok);
	ck_assert_int_eq(err.code, ERR_LIMIT);
	ck_assert_ptr_nonnull(strstr(err.text, "104857600 bytes"));
}
END_TEST

START_TEST(an_endless_file_is_refused_at_the_limit)
{
	ck_assert(!documents_add_path(&docs, "/dev/zero", &err));
	ck_assert_int_eq(err.code, ERR_LIMIT);
}
END_TEST

START_TEST(a_directory_is_read_in_order)
{
	char dir[] = "/tmp/weft-docs-XXXXXX", path[64], command[64];
	static const char *const names[] = {"b.yaml", "a.json", "notes.txt", ".hidden.yaml"};
	static const char *const texts[] = {"b: 1\n", "{\"a\": 1}", "not: [yaml", "h: 1\n"};

	ck_assert_ptr_nonnull(mkdtemp(dir));
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, names[i]);
		FILE *f = fopen(path, "w");
		fputs(texts[i], f);
		fclose(f);
	}
	bool ok = documents_add_path(&docs, dir, &err);
	snprintf(command, sizeof(command), "rm -rf %s", dir);
	ck_assert_int_eq(system(command), 0);
	ck_assert_msg(ok, "%s", err.text);
	ck_assert_uint_eq(docs.len, 2);
	ck_assert_ptr_nonnull(json_object_get(docs.v[0].root, "a"));
	ck_assert(!documents_add_path(&docs, "/nonexistent/x.yaml", &err));
	ck_assert_ptr_nonnull(strstr(err.text, "/nonexistent/x.yaml"));
}
END_TEST

Suite *document_suite(void)
{
	Suite *s = suite_create("document");
	TCase *tc = tcase_create("document");

	tcase_add_checked_fixture(tc, NULL, clear);
	tcase_set_timeout(tc, 60);
	tcase_add_test(tc, scalars_follow_the_core_schema);
	tcase_add_test(tc, many_documents_keep_their_places);
	tcase_add_test(tc, a_list_is_taken_apart);
	tcase_add_test(tc, errors_name_file_line_and_column);
	tcase_add_test(tc, an_alias_bomb_is_refused_at_the_first_alias);
	tcase_add_test(tc, deep_nesting_is_refused_quickly);
	tcase_add_test(tc, too_many_values_and_documents_are_refused);
	tcase_add_test(tc, a_large_file_is_refused_unread);
	tcase_add_test(tc, an_endless_file_is_refused_at_the_limit);
	tcase_add_test(tc, a_directory_is_read_in_order);
	suite_add_tcase(s, tc);
	return s;
}
