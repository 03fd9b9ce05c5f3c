/* SPDX-License-Identifier: Apache-2.0 */
/* Small blocks: sizes, what is kept, another thread's. */
#include "lib/mem.h"
#include "lib/small.h"

#include <check.h>
#include <pthread.h>
#include <string.h>

static bool filled(const uint8_t *p, size_t len, uint8_t with)
{
	for (size_t i = 0; i < len; i++)
		if (p[i] != with)
			return false;
	return true;
}

START_TEST(blocks_of_every_size_hold_what_is_put_in_and_grow_with_it)
{
	void *v[3000];
	for (size_t i = 0; i < ARRAY_LEN(v); i++) {
		v[i] = small_alloc(i);
		ck_assert_uint_eq((uintptr_t)v[i] % 16, 0);
		memset(v[i], (int)i & 0xff, i);
	}
	for (size_t i = 0; i < ARRAY_LEN(v); i++)
		v[i] = small_realloc(v[i], i * 2);
	for (size_t i = 0; i < ARRAY_LEN(v); i++) {
		ck_assert(filled(v[i], i, (uint8_t)i));
		small_free(v[i]);
	}
	uint8_t *z = small_zalloc(200);
	ck_assert(filled(z, 200, 0));
	z = small_realloc(z, 10);
	small_free(z);
	small_free(small_realloc(NULL, 5));
	small_free(NULL);
}
END_TEST

static void *free_all(void *arg)
{
	void **v = arg;
	for (size_t i = 0; i < 1000; i++)
		small_free(v[i]);
	return NULL;
}

START_TEST(another_thread_may_give_a_block_back_and_keeps_nothing_past_its_end)
{
	void *v[1000];
	pthread_t t;
	for (size_t i = 0; i < ARRAY_LEN(v); i++)
		v[i] = small_alloc(i % 1500);
	ck_assert_int_eq(pthread_create(&t, NULL, free_all, v), 0);
	ck_assert_int_eq(pthread_join(t, NULL), 0); /* what it kept would be a leak */
}
END_TEST

Suite *small_suite(void);
Suite *small_suite(void)
{
	Suite *s = suite_create("small");
	TCase *tc = tcase_create("small");
	tcase_add_test(tc, blocks_of_every_size_hold_what_is_put_in_and_grow_with_it);
	tcase_add_test(tc, another_thread_may_give_a_block_back_and_keeps_nothing_past_its_end);
	suite_add_tcase(s, tc);
	return s;
}
