/* SPDX-License-Identifier: Apache-2.0 */
/* text_test.c: str, utf8, err, arena, reason: the small parts. */
#include "lib/arena.h"
#include "lib/err.h"
#include "lib/reason.h"
#include "lib/utf8.h"

#include <check.h>
#include <errno.h>

START_TEST(numbers_are_digits_only_and_bounded)
{
	static const char *const bad[] = {
	    "", "+1", "-1", " 1", "1 ", "0x1", "1.0", "65536", "18446744073709551616", "99999999999999999999"};
	uint64_t v = 7;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(!str_to_u64(str_of(bad[i]), 65535, &v), "%s", bad[i]);
	ck_assert_uint_eq(v, 7);
	ck_assert(str_to_u64(STR("18446744073709551615"), UINT64_MAX, &v) && v == UINT64_MAX);
	ck_assert(str_to_u64(STR("0"), 0, &v) && v == 0);
}
END_TEST

START_TEST(durations_need_a_unit)
{
	static const char *const bad[] = {"", "10", "ms", "1.5s", "-1s", "1 s", "1S", "300000000000d", "1sm"};
	uint64_t v = 7;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(!str_to_ms(str_of(bad[i]), &v), "%s", bad[i]);
	ck_assert_uint_eq(v, 7);
	ck_assert(str_to_ms(STR("250ms"), &v) && v == 250);
	ck_assert(str_to_ms(STR("5m"), &v) && v == 300000);
	ck_assert(str_to_ms(STR("7d"), &v) && v == 604800000);
}
END_TEST

START_TEST(sizes_have_binary_units)
{
	static const char *const bad[] = {"", "M", "1m", "64MB", "-1", "1 M", "64MiB", "18446744073709551615K"};
	uint64_t v = 7;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		ck_assert_msg(!str_to_bytes(str_of(bad[i]), &v), "%s", bad[i]);
	ck_assert_uint_eq(v, 7);
	ck_assert(str_to_bytes(STR("4096"), &v) && v == 4096);
	ck_assert(str_to_bytes(STR("3K"), &v) && v == 3072);
	ck_assert(str_to_bytes(STR("64M"), &v) && v == 64 << 20);
	ck_assert(str_to_bytes(STR("2Gi"), &v) && v == (uint64_t)2 << 30);
}
END_TEST

START_TEST(texts_are_cut_trimmed_and_compared)
{
	struct str head, rest;

	ck_assert(str_cut(STR("a:b:c"), ':', &head, &rest) && str_is(head, "a") && str_is(rest, "b:c"));
	ck_assert(!str_cut(STR("abc"), ':', &head, &rest) && str_is(head, "abc") && rest.len == 0);
	ck_assert(str_is(str_trim(STR(" \t a b\t ")), "a b") && str_trim(STR(" \t")).len == 0);
	ck_assert(str_ieq(STR("Content-LENGTH"), STR("content-length")) && !str_ieq(STR("a["), STR("a{")));
	ck_assert(str_starts(STR("abc"), STR("")) && !str_starts(STR("ab"), STR("abc")));
	ck_assert(str_is_dns_label(STR("a-1")) && !str_is_dns_label(STR("-a")) && !str_is_dns_label(STR("A")));
	ck_assert(!str_is_dns_label(str_of("a123456789012345678901234567890123456789012345678901234567890123")));
}
END_TEST

START_TEST(only_well_formed_utf8_counts)
{
	static const struct {
		const char *text;
		size_t len;
	} rows[] = {
	    {"a", 1},        {"\xc3\xa4", 2},         {"\xe2\x82\xac", 3}, {"\xf0\x9f\x98\x80", 4},
	    {"\xc0\x80", 0}, {"\xe0\x80\x80", 0},     {"\xed\xa0\x80", 0}, {"\xf4\x90\x80\x80", 0},
	    {"\xe2\x82", 0}, {"\xf0\x80\x80\x80", 0}, {"\x80", 0},         {"\xff", 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		ck_assert_uint_eq(utf8_len(rows[i].text, strlen(rows[i].text)), rows[i].len);
	ck_assert_uint_eq(utf8_len("", 0), 0);
	ck_assert_uint_eq(utf8_cut("ab\xe2\x82\xac", 4), 2);
	ck_assert_uint_eq(utf8_cut("ab\xe2\x82\xac", 5), 5);
	ck_assert_uint_eq(utf8_cut("abc", 3), 3);
}
END_TEST

START_TEST(errors_are_one_clean_line)
{
	char big[2000];
	struct err err = {0};

	ck_assert(!err_set(&err, ERR_DENIED, "peer said \"%s\"", "a\r\nb\x1b\xff"));
	ck_assert_str_eq(err.text, "peer said \"a??b??\"");
	ck_assert_int_eq(err.code, ERR_DENIED);
	ck_assert(!err_prefix(&err, "%s", "orders.yaml"));
	ck_assert_str_eq(err.text, "orders.yaml: peer said \"a??b??\"");
	errno = ENOENT;
	ck_assert(!err_errno(&err, "cannot open %s", "x"));
	ck_assert_str_eq(err.text, "cannot open x: No such file or directory");
	for (size_t i = 0; i + 2 < sizeof(big); i += 2)
		memcpy(big + i, "\xc3\xa4", 3);
	ck_assert(!err_set(&err, ERR_LIMIT, "%s", big));
	ck_assert_uint_lt(strlen(err.text), ERR_TEXT_MAX);
	ck_assert_uint_gt(strlen(err.text), ERR_TEXT_MAX - 8);
	ck_assert_str_eq(err.text + strlen(err.text) - 5, "\xc3\xa4...");
	ck_assert(!err_set(NULL, ERR_LIMIT, "nobody listens") && !err_prefix(NULL, "x") && !err_errno(NULL, "x"));
	for (enum err_code c = 0; c < ERR_COUNT; c++)
		ck_assert_ptr_nonnull(err_code_text(c));
}
END_TEST

START_TEST(an_arena_gives_aligned_bytes_up_to_its_cap)
{
	struct arena a;

	arena_init(&a, 100000);
	for (size_t n = 0; n < 300; n++) {
		uint8_t *p = arena_alloc(&a, n);
		ck_assert_uint_eq((uintptr_t)p % 16, 0);
		memset(p, 0xab, n);
	}
	ck_assert_ptr_null(arena_alloc(&a, 100000));
	ck_assert_ptr_null(arena_alloc(&a, SIZE_MAX));
	ck_assert_ptr_nonnull(arena_alloc(&a, 40000)); /* larger than any block */
	ck_assert_ptr_null(arena_str(&a, str_make("", 40000)).p);
	arena_done(&a);
	arena_init(&a, 64);
	ck_assert(str_is(arena_str(&a, STR("abc")), "abc"));
	struct str printed = arena_printf(&a, "%d-%s", 5, "x");
	ck_assert(str_is(printed, "5-x") && printed.p[printed.len] == 0);
	ck_assert_ptr_null(arena_printf(&a, "%0200d", 1).p);
	arena_done(&a);
}
END_TEST

START_TEST(every_reason_is_found_by_its_label)
{
	enum reason r;

	for (enum reason i = 0; i < REASON_COUNT; i++) {
		ck_assert(reason_from_label(reason_row(i)->label, &r) && r == i);
		ck_assert_uint_le(reason_row(i)->h2_code, 13);
		ck_assert_uint_le(reason_row(i)->grpc_status, 16);
	}
	ck_assert(!reason_from_label("", &r));
}
END_TEST

Suite *text_suite(void);
Suite *text_suite(void)
{
	Suite *s = suite_create("text");
	TCase *t = tcase_create("text");

	tcase_add_test(t, numbers_are_digits_only_and_bounded);
	tcase_add_test(t, durations_need_a_unit);
	tcase_add_test(t, sizes_have_binary_units);
	tcase_add_test(t, texts_are_cut_trimmed_and_compared);
	tcase_add_test(t, only_well_formed_utf8_counts);
	tcase_add_test(t, errors_are_one_clean_line);
	tcase_add_test(t, an_arena_gives_aligned_bytes_up_to_its_cap);
	tcase_add_test(t, every_reason_is_found_by_its_label);
	suite_add_tcase(s, t);
	return s;
}
