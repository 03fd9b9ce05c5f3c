/* SPDX-License-Identifier: Apache-2.0 */
/* map_test.c: many keys in and out, iteration that deletes, binary keys. */
#include "lib/map.h"

#include <check.h>
#include <stdio.h>

struct item {
	struct map_node node;
	char key[24];
	unsigned seen;
};

static struct map m;
static struct item items[5000];

static void fill(size_t n)
{
	map_init(&m);
	for (size_t i = 0; i < n; i++) {
		items[i].seen = 0;
		snprintf(items[i].key, sizeof(items[i].key), "k%zu", i);
		map_put(&m, &items[i].node, str_of(items[i].key));
	}
}

START_TEST(what_was_put_is_found_until_deleted)
{
	fill(ARRAY_LEN(items));
	for (size_t i = 0; i < ARRAY_LEN(items); i++)
		ck_assert_ptr_eq(map_get(&m, str_of(items[i].key)), &items[i].node);
	ck_assert_ptr_null(map_get(&m, STR("k5000")));
	for (size_t i = 0; i < ARRAY_LEN(items); i += 2)
		map_del(&m, &items[i].node);
	ck_assert_uint_eq(m.len, ARRAY_LEN(items) / 2);
	for (size_t i = 0; i < ARRAY_LEN(items); i++)
		ck_assert(map_get(&m, str_of(items[i].key)) == (i % 2 ? &items[i].node : NULL));
	map_done(&m);
}
END_TEST

START_TEST(an_empty_map_has_nothing)
{
	map_init(&m);
	ck_assert_ptr_null(map_get(&m, STR("")));
	ck_assert_ptr_null(map_next(&m, NULL));
	map_done(&m);
}
END_TEST

START_TEST(iteration_sees_each_once_and_may_delete)
{
	size_t n = 0;

	fill(1000);
	map_for_each (it, &m) {
		CONTAINER_OF(it, struct item, node)->seen++;
		map_del(&m, it);
		n++;
	}
	ck_assert_uint_eq(n, 1000);
	ck_assert_uint_eq(m.len, 0);
	for (size_t i = 0; i < 1000; i++)
		ck_assert_uint_eq(items[i].seen, 1);
	map_done(&m);
}
END_TEST

START_TEST(keys_are_bytes)
{
	struct map_node a, b, c;

	map_init(&m);
	map_put(&m, &a, str_make("x\0y", 3));
	map_put(&m, &b, str_make("x\0z", 3));
	map_put(&m, &c, str_make(NULL, 0));
	ck_assert_ptr_eq(map_get(&m, str_make("x\0z", 3)), &b);
	ck_assert_ptr_eq(map_get(&m, STR("")), &c);
	ck_assert_ptr_null(map_get(&m, STR("x")));
	map_done(&m);
}
END_TEST

Suite *map_suite(void);
Suite *map_suite(void)
{
	Suite *s = suite_create("map");
	TCase *t = tcase_create("map");

	tcase_add_test(t, what_was_put_is_found_until_deleted);
	tcase_add_test(t, an_empty_map_has_nothing);
	tcase_add_test(t, iteration_sees_each_once_and_may_delete);
	tcase_add_test(t, keys_are_bytes);
	suite_add_tcase(s, t);
	return s;
}
