/* SPDX-License-Identifier: Apache-2.0 */
/* The level of memory: marks, hysteresis, what counts between two measurements. */
#include "lib/pressure.h"

#include "lib/chunk.h"

#include <check.h>
#include <pthread.h>
#include <semaphore.h>

#define LIMIT   ((size_t)100 << 20)
#define RESERVE ((size_t)512 << 10)
#define PCT(n)  ((LIMIT - RESERVE) / 100 * (n)) /* what the marks are of */

static void teardown(void)
{
	pressure_set_limit(0);
	pressure_measured(0, NULL);
	chunk_trip(SIZE_MAX, NULL);
}

START_TEST(without_a_limit_there_is_no_pressure)
{
	ck_assert(!pressure_measured(SIZE_MAX / 2, NULL));
	ck_assert_int_eq(pressure_level(), PRESSURE_NONE);
	ck_assert_uint_eq(pressure_excess(), 0);
	ck_assert_uint_eq(pressure_share(25, 1000), 1000);
}
END_TEST

START_TEST(each_mark_is_entered_at_its_figure_and_left_beneath_another)
{
	static const struct {
		unsigned percent;
		enum pressure then;
	} way[] = {
	    {84, PRESSURE_NONE},  {85, PRESSURE_SHED},   {94, PRESSURE_SHED},   {95, PRESSURE_CLOSE},
	    {97, PRESSURE_CLOSE}, {98, PRESSURE_REFUSE}, {94, PRESSURE_REFUSE}, {93, PRESSURE_CLOSE},
	    {97, PRESSURE_CLOSE}, {90, PRESSURE_CLOSE},  {89, PRESSURE_SHED},   {94, PRESSURE_SHED},
	    {80, PRESSURE_SHED},  {79, PRESSURE_NONE},   {84, PRESSURE_NONE},   {99, PRESSURE_REFUSE},
	    {10, PRESSURE_NONE},
	};
	enum pressure last = PRESSURE_NONE, from;
	pressure_set_limit(LIMIT);
	for (size_t i = 0; i < ARRAY_LEN(way); i++) {
		bool news = pressure_measured(PCT(way[i].percent), &from);
		ck_assert_msg(pressure_level() == way[i].then, "step %zu: %s", i, pressure_name(pressure_level()));
		ck_assert(news == (last != way[i].then));
		ck_assert(!news || from == last);
		last = way[i].then;
	}
}
END_TEST

START_TEST(a_small_limit_keeps_a_sixteenth_of_it)
{
	const size_t small = (size_t)1 << 20, usable = small - small / 16;
	pressure_set_limit(small);
	pressure_measured(usable / 100 * 98, NULL);
	ck_assert_int_eq(pressure_level(), PRESSURE_REFUSE);
	pressure_measured(usable / 100 * 70, NULL);
	ck_assert_int_eq(pressure_level(), PRESSURE_NONE);
	pressure_measured(usable / 100 * 85 - 1, NULL);
	ck_assert_int_eq(pressure_level(), PRESSURE_NONE);
}
END_TEST

START_TEST(what_was_admitted_counts_until_it_is_measured)
{
	pressure_set_limit(LIMIT);
	pressure_measured(PCT(97), NULL);
	ck_assert_int_eq(pressure_level(), PRESSURE_CLOSE);
	for (int i = 0; i < 11; i++)
		pressure_admit();
	ck_assert_int_eq(pressure_level(), PRESSURE_REFUSE);
	pressure_measured(PCT(97), NULL);
	ck_assert_int_eq(pressure_level(), PRESSURE_CLOSE);
}
END_TEST

START_TEST(excess_is_what_lies_above_the_point_where_shedding_stops)
{
	pressure_set_limit(LIMIT);
	pressure_measured(PCT(84), NULL);
	ck_assert_uint_eq(pressure_excess(), 0);
	pressure_measured(PCT(90), NULL);
	ck_assert_uint_eq(pressure_excess(), PCT(10));
	ck_assert_uint_eq(pressure_share(25, SIZE_MAX), LIMIT / 100 * 25);
	ck_assert_uint_eq(pressure_share(25, 1000), 1000);
}
END_TEST

static unsigned tripped;

static void on_trip(void)
{
	tripped++;
}

START_TEST(a_burst_of_buffers_counts_at_once_and_trips_once)
{
	void *held[100];
	size_t before = chunk_total();
	pressure_set_limit(LIMIT);
	pressure_measured(PCT(84) + 900000, NULL);
	tripped = 0;
	chunk_trip(1000000, on_trip);
	for (size_t i = 0; i < ARRAY_LEN(held); i++)
		held[i] = chunk_get(CHUNK_16K);
	ck_assert_uint_ge(chunk_total() - before, 100 * 16384);
	ck_assert_int_eq(pressure_level(), PRESSURE_SHED);
	ck_assert(chunk_tripped());
	ck_assert_uint_eq(tripped, 1);
	for (size_t i = 0; i < ARRAY_LEN(held); i++)
		chunk_put(held[i], CHUNK_16K);
	chunk_trim();
	ck_assert_uint_le(chunk_total(), before);
	ck_assert(!chunk_tripped());
	ck_assert_int_eq(pressure_level(), PRESSURE_NONE);
	chunk_hold();
	void *p = chunk_get(CHUNK_2K);
	ck_assert(chunk_tripped());
	chunk_put(p, CHUNK_2K);
	ck_assert_uint_eq(tripped, 1);
}
END_TEST

/* 1.6 MB each, taken and given back. */
static void *take_and_give(void *arg)
{
	void *held[100];
	for (size_t i = 0; i < ARRAY_LEN(held); i++)
		held[i] = chunk_get(CHUNK_16K);
	for (size_t i = 0; i < ARRAY_LEN(held); i++)
		chunk_put(held[i], CHUNK_16K);
	sem_post(arg);
	sem_wait((sem_t *)arg + 1); /* it lives on, and its heap with it */
	chunk_trim();
	return NULL;
}

START_TEST(what_one_thread_gave_back_is_no_memory_for_another)
{
	sem_t sems[4];
	pthread_t id[2];
	chunk_trim();
	size_t total = chunk_total(), footprint = chunk_footprint();
	pressure_set_limit(LIMIT);
	pressure_measured(0, NULL);
	tripped = 0;
	chunk_trip(2500000, on_trip); /* none of them takes as much */
	for (size_t i = 0; i < ARRAY_LEN(sems); i++)
		sem_init(&sems[i], 0, 0);
	for (size_t i = 0; i < ARRAY_LEN(id); i++) {
		pthread_create(&id[i], NULL, take_and_give, &sems[2 * i]);
		sem_wait(&sems[2 * i]);
	}
	ck_assert_uint_le(chunk_total(), total + 2 * 64 * (16384 + CHUNK_HEADER)); /* what caches keep at most */
	ck_assert_uint_ge(chunk_footprint() - footprint, 2 * 100 * 16384);
	ck_assert(chunk_tripped());
	ck_assert_uint_eq(tripped, 1);
	for (size_t i = 0; i < ARRAY_LEN(id); i++) {
		sem_post(&sems[2 * i + 1]);
		pthread_join(id[i], NULL);
	}
	ck_assert_uint_eq(chunk_footprint(), footprint); /* trimmed */
	ck_assert(!chunk_tripped());
}
END_TEST

Suite *pressure_suite(void)
{
	Suite *s = suite_create("pressure");
	TCase *c = tcase_create("level");
	tcase_add_checked_fixture(c, NULL, teardown);
	tcase_add_test(c, without_a_limit_there_is_no_pressure);
	tcase_add_test(c, each_mark_is_entered_at_its_figure_and_left_beneath_another);
	tcase_add_test(c, a_small_limit_keeps_a_sixteenth_of_it);
	tcase_add_test(c, what_was_admitted_counts_until_it_is_measured);
	tcase_add_test(c, excess_is_what_lies_above_the_point_where_shedding_stops);
	tcase_add_test(c, a_burst_of_buffers_counts_at_once_and_trips_once);
	tcase_add_test(c, what_one_thread_gave_back_is_no_memory_for_another);
	suite_add_tcase(s, c);
	return s;
}
