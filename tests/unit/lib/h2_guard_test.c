/* SPDX-License-Identifier: Apache-2.0 */
/* h2_guard_test.c: what the codec counts beside the library, without a connection: budgets, stream numbers, frames' ends. */
#include "lib/http/h2_guard.h"
#include "lib/http/h2_ids.h"
#include "lib/http/h2_track.h"
#include "tests/unit/lib/h2_raw.h"

START_TEST(the_guard_refills_by_the_clock)
{
	struct h2_guard g;
	h2_guard_init(&g, 0, 0, 1000);
	for (int i = 0; i < 200; i++)
		ck_assert(h2_guard_odd(&g, H2_ODD_RESET, 1000));
	ck_assert(!h2_guard_odd(&g, H2_ODD_RESET, 1000));
	/* 20 a second, in however small steps */
	h2_guard_init(&g, 0, 0, 1000);
	for (int i = 0; i < 200; i++)
		ck_assert(h2_guard_odd(&g, H2_ODD_RESET, 1000));
	unsigned taken = 0;
	for (uint64_t ms = 1001; ms <= 2000; ms++)
		if (ms % 50 == 0)
			taken += h2_guard_odd(&g, H2_ODD_RESET, ms);
	ck_assert_uint_eq(taken, 20);
}
END_TEST

START_TEST(streams_that_end_in_order_give_resets_back)
{
	struct h2_guard g;
	h2_guard_init(&g, 0, 0, 1000);
	for (int i = 0; i < 200; i++)
		ck_assert(h2_guard_odd(&g, H2_ODD_RESET, 1000));
	for (int i = 0; i < 1000; i++) {
		h2_guard_good(&g);
		ck_assert(h2_guard_odd(&g, H2_ODD_RESET, 1000));
	}
	for (int i = 0; i < 1000; i++) /* never more than the whole bucket */
		h2_guard_good(&g);
	for (int i = 0; i < 200; i++)
		ck_assert(h2_guard_odd(&g, H2_ODD_RESET, 1000));
	ck_assert(!h2_guard_odd(&g, H2_ODD_RESET, 1000));
}
END_TEST

START_TEST(a_larger_budget_of_resets_is_kept_to)
{
	struct h2_guard g;
	h2_guard_init(&g, 10000, 1000, 1000);
	for (int i = 0; i < 10000; i++)
		ck_assert(h2_guard_odd(&g, H2_ODD_RESET, 1000));
	ck_assert(!h2_guard_odd(&g, H2_ODD_RESET, 1000));
	for (int i = 0; i < 500; i++)
		ck_assert(h2_guard_odd(&g, H2_ODD_RESET, 1500));
	ck_assert(!h2_guard_odd(&g, H2_ODD_RESET, 1500));
}
END_TEST

START_TEST(a_ping_for_each_data_frame_is_free)
{
	struct h2_guard g;
	h2_guard_init(&g, 0, 0, 1000);
	g.data_sent = 5000;
	for (int i = 0; i < 5100; i++)
		ck_assert(h2_guard_odd(&g, H2_ODD_PING, 1000));
	ck_assert(!h2_guard_odd(&g, H2_ODD_PING, 1000));
}
END_TEST

static enum h2_ids_says frame_on(struct h2_ids *ids, uint8_t type, uint32_t id, uint8_t flags)
{
	struct h2_frame_head f = {.type = type, .stream = id, .flags = flags, .length = 1};
	return h2_ids_frame(ids, &f);
}

START_TEST(frames_on_streams_that_their_sender_ended_are_seen)
{
	struct h2_ids ids = {0};
	ck_assert_int_eq(frame_on(&ids, HEADERS, 1, END_HEADERS), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, DATA, 1, 0), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, HEADERS, 1, END_STREAM | END_HEADERS), H2_IDS_FINE); /* trailers */
	ck_assert_int_eq(frame_on(&ids, DATA, 1, 0), H2_IDS_CLOSED);
	ck_assert_int_eq(frame_on(&ids, HEADERS, 1, 0), H2_IDS_CLOSED);
	ck_assert_int_eq(frame_on(&ids, HEADERS, 3, END_HEADERS), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, RST_STREAM, 3, 0), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, RST_STREAM, 3, 0), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, WINDOW_UPDATE, 3, 0), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, DATA, 3, END_STREAM), H2_IDS_CLOSED);
	/* of what has been forgotten nothing is said */
	for (uint32_t id = 5; id < 5 + 2 * H2_IDS_ENDED; id += 2)
		ck_assert_int_eq(frame_on(&ids, HEADERS, id, END_STREAM | END_HEADERS), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, DATA, 1, 0), H2_IDS_FINE);
}
END_TEST

START_TEST(streams_that_were_passed_over_are_not_opened_any_more)
{
	struct h2_ids ids = {0};
	ck_assert_int_eq(frame_on(&ids, HEADERS, 5, END_HEADERS), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, HEADERS, 3, END_HEADERS), H2_IDS_UNUSED);
	ck_assert_int_eq(frame_on(&ids, HEADERS, 5, END_STREAM), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, HEADERS, 7, END_HEADERS), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, HEADERS, 0x7fffffff, END_HEADERS), H2_IDS_FINE);
	ck_assert_int_eq(frame_on(&ids, HEADERS, 0x7ffffffd, END_HEADERS), H2_IDS_UNUSED);
	ck_assert_int_eq(frame_on(&ids, DATA, 7, 0), H2_IDS_FINE);
}
END_TEST

START_TEST(frame_boundaries_are_followed_byte_by_byte)
{
	static const uint8_t bytes[] = {0, 0, 1, HEADERS, 0, 0, 0, 0, 1, 'h', 0, 0, 0, CONTINUATION, 4, 0, 0, 0, 1};
	struct h2_frame_head f;
	struct h2_track t;
	unsigned heads = 0;
	bool head;
	h2_track_init(&t, true);
	for (int i = 0; i < 24; i++)
		ck_assert_uint_eq(h2_track_step(&t, (const uint8_t *)"x", 1, &head, &f), 1);
	for (size_t i = 0; i < sizeof(bytes); i++) {
		ck_assert_uint_eq(h2_track_step(&t, bytes + i, 1, &head, &f), 1);
		heads += head;
		ck_assert_int_eq(t.in_block, i >= 8 && i + 1 < sizeof(bytes));
	}
	ck_assert_uint_eq(heads, 2);
}
END_TEST

Suite *h2_guard_suite(void);
Suite *h2_guard_suite(void)
{
	Suite *s = suite_create("h2_guard");
	TCase *t = tcase_create("server");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, the_guard_refills_by_the_clock);
	tcase_add_test(t, streams_that_end_in_order_give_resets_back);
	tcase_add_test(t, a_larger_budget_of_resets_is_kept_to);
	tcase_add_test(t, a_ping_for_each_data_frame_is_free);
	tcase_add_test(t, frames_on_streams_that_their_sender_ended_are_seen);
	tcase_add_test(t, streams_that_were_passed_over_are_not_opened_any_more);
	tcase_add_test(t, frame_boundaries_are_followed_byte_by_byte);
	suite_add_tcase(s, t);
	return s;
}
