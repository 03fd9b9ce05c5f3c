/* SPDX-License-Identifier: Apache-2.0 */
/* buf_test.c: chains of chunks against a plain array, at the edges and by chance. */
#include "lib/buf.h"

#include <check.h>
#include <stdlib.h>
#include <sys/uio.h>

#define MODEL_MAX (256u << 10)

static uint8_t model[MODEL_MAX];
static size_t model_len;
static struct buf b;
static uint8_t next_byte;

static void setup(void)
{
	buf_init(&b, 1000);
	model_len = 0;
	next_byte = 0;
}

static void teardown(void)
{
	buf_done(&b);
	ck_assert_uint_eq(b.len, 0);
}

static void same(const struct buf *have)
{
	struct iovec iov[256];
	size_t n = buf_iov(have, iov, 256), at = 0;

	ck_assert_uint_eq(have->len, model_len);
	for (size_t i = 0; i < n; i++) {
		ck_assert_uint_gt(iov[i].iov_len, 0);
		ck_assert_int_eq(memcmp(model + at, iov[i].iov_base, iov[i].iov_len), 0);
		at += iov[i].iov_len;
	}
	ck_assert_uint_eq(at, model_len);
}

static void add(size_t n)
{
	uint8_t block[60000];

	for (size_t i = 0; i < n; i++)
		model[model_len++] = block[i] = (uint8_t)(next_byte++ * 7);
	buf_add(&b, block, n);
}

static void drain(size_t n)
{
	buf_drain(&b, n);
	memmove(model, model + n, model_len - n);
	model_len -= n;
}

START_TEST(bytes_come_out_as_they_went_in)
{
	static const size_t sizes[] = {1, 4095, 1, 4096, 16384, 16383, 2, 40000};

	for (size_t i = 0; i < ARRAY_LEN(sizes); i++) {
		add(sizes[i]);
		same(&b);
		drain(sizes[i] / 2);
		same(&b);
	}
	drain(model_len);
	ck_assert_ptr_null(b.head);
	ck_assert_ptr_null(buf_peek(&b).p);
}
END_TEST

START_TEST(full_is_from_the_mark_on)
{
	add(999);
	ck_assert(!buf_full(&b));
	add(1);
	ck_assert(buf_full(&b));
}
END_TEST

START_TEST(a_reserve_that_comes_to_nothing_leaves_nothing)
{
	size_t room;

	ck_assert_ptr_nonnull(buf_reserve(&b, 1, &room));
	ck_assert_uint_eq(room, 4096); /* the first is small */
	buf_commit(&b, 0);
	ck_assert_ptr_null(b.head);
	add(4000);
	ck_assert_ptr_nonnull(buf_reserve(&b, 16384, &room));
	ck_assert_uint_ge(room, 16384);
	buf_commit(&b, 0);
	same(&b);
	add(10);
	same(&b);
}
END_TEST

START_TEST(pullup_makes_pieces_contiguous)
{
	add(4096);
	drain(100);
	add(30000);
	for (size_t n = 0; n <= 16384; n += 4096) {
		struct str got = buf_pullup(&b, n);
		ck_assert_uint_eq(got.len, n);
		ck_assert(n == 0 || memcmp(got.p, model, n) == 0);
		same(&b);
	}
	drain(16384);
	add(5000);
	ck_assert_uint_eq(buf_pullup(&b, 16384).len, 16384);
	same(&b);
}
END_TEST

START_TEST(moving_takes_whole_chunks_and_parts)
{
	struct buf to;

	buf_init(&to, 1);
	add(50000);
	const char *first = buf_peek(&b).p;
	buf_move(&to, &b, 50000 - 3);
	ck_assert_ptr_eq(buf_peek(&to).p, first); /* not copied */
	ck_assert_uint_eq(b.len, 3);
	buf_move(&to, &b, 3);
	ck_assert_ptr_null(b.head);
	same(&to);
	buf_move(&b, &to, 0);
	buf_done(&to);
}
END_TEST

START_TEST(long_prints_are_whole)
{
	char text[3000];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = 0;
	buf_printf(&b, "%d-%s", 5, text);
	ck_assert_uint_eq(b.len, 2 + sizeof(text) - 1);
	ck_assert(str_starts(buf_pullup(&b, b.len), STR("5-xxx")));
}
END_TEST

START_TEST(chance_finds_no_difference_to_an_array)
{
	struct buf other;

	buf_init(&other, 1);
	srand(4711);
	for (int i = 0; i < 4000; i++) {
		size_t n = (size_t)rand() % ((rand() & 3) ? 300 : 20000);
		switch (rand() % 5) {
		case 0:
		case 1:
			if (model_len + n < MODEL_MAX)
				add(n);
			break;
		case 2:
			drain(MIN(n, model_len));
			break;
		case 3:
			buf_pullup(&b, MIN(MIN(n, model_len), 16384));
			break;
		default: /* there and back */
			buf_move(&other, &b, MIN(n, b.len));
			buf_move(&other, &b, b.len);
			buf_move(&b, &other, other.len);
		}
		same(&b);
	}
	buf_done(&other);
}
END_TEST

Suite *buf_suite(void);
Suite *buf_suite(void)
{
	Suite *s = suite_create("buf");
	TCase *t = tcase_create("buf");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 30);
	tcase_add_test(t, bytes_come_out_as_they_went_in);
	tcase_add_test(t, full_is_from_the_mark_on);
	tcase_add_test(t, a_reserve_that_comes_to_nothing_leaves_nothing);
	tcase_add_test(t, pullup_makes_pieces_contiguous);
	tcase_add_test(t, moving_takes_whole_chunks_and_parts);
	tcase_add_test(t, long_prints_are_whole);
	tcase_add_test(t, chance_finds_no_difference_to_an_array);
	suite_add_tcase(s, t);
	return s;
}
