/* SPDX-License-Identifier: Apache-2.0 */
/* h2_flood_test.c: peers that ask for much: floods and the budgets that end them, and how many requests begin in a turn. */
#include "lib/turns.h"
#include "tests/unit/lib/h2_raw.h"

#include <sys/socket.h>

/* --- floods: each ends with GOAWAY(ENHANCE_YOUR_CALM) and its own reason --- */

enum flood {
	FLOOD_PING,
	FLOOD_SETTINGS,
	FLOOD_PRIORITY,
	FLOOD_WINDOW_UPDATE,
	FLOOD_EMPTY_DATA,
	FLOOD_EMPTY_CONTINUATION,
	FLOOD_UNKNOWN,
	FLOOD_RESET,
	FLOOD_MADE_BAD_HEAD,
	FLOOD_MADE_BAD_LENGTH,
	FLOOD_MADE_WINDOW,
	FLOOD_CONTINUATION,
	FLOOD_PADDED_DATA,
	FLOOD_GOAWAY,
	FLOOD_BOMB,
	FLOOD_OVER_STREAMS,
	FLOOD_MANY_SETTINGS,
	FLOOD_COUNT
};

/* The block of FLOOD_BOMB: a field of 4,000 bytes into the dynamic table, then its index 20 times. */
static size_t bomb(uint8_t *block)
{
	size_t n = raw_hpack(block, raw_good_head);
	memcpy(block + n, "\x40\x01x\x7f", 4);
	n += 4;
	block[n++] = (4000 - 127) % 128 + 128;
	block[n++] = (4000 - 127) / 128;
	memset(block + n, 'y', 4000);
	n += 4000;
	memset(block + n, 0x80 | 62, 20);
	return n + 20;
}

static void one_of_a_flood(enum flood kind, uint32_t i)
{
	static const uint8_t eight[8], one_more[4] = {0, 0, 0, 1}, most[4] = {0x7f, 0xff, 0xff, 0xff};
	static const uint8_t prio[5] = {0, 0, 0, 0, 16}, cancel[4] = {0, 0, 0, 8};
	static const char *const bad[] = {PSEUDO("x"), NULL};
	static const char *const five[] = {PSEUDO("/sum"), "content-length", "5", NULL};
	uint32_t id = 2 * i + 1;
	switch (kind) {
	case FLOOD_PING:
		raw_frame(PING, 0, 0, eight, 8);
		break;
	case FLOOD_SETTINGS:
		raw_frame(SETTINGS, 0, 0, NULL, 0);
		break;
	case FLOOD_PRIORITY:
		raw_frame(PRIORITY, 0, 3, prio, 5);
		break;
	case FLOOD_WINDOW_UPDATE:
		raw_frame(WINDOW_UPDATE, 0, 0, one_more, 4);
		break;
	case FLOOD_EMPTY_DATA:
		if (i == 0)
			raw_headers(1, END_HEADERS, raw_stall_head);
		raw_frame(DATA, 0, 1, NULL, 0);
		break;
	case FLOOD_EMPTY_CONTINUATION:
	case FLOOD_CONTINUATION:
		if (i == 0)
			raw_headers(1, 0, raw_hold_head);
		raw_frame(CONTINUATION, 0, 1, "\0\1x\1y", kind == FLOOD_CONTINUATION ? 5 : 0);
		break;
	case FLOOD_UNKNOWN:
		raw_frame(0xbe, 0, 0, NULL, 0);
		break;
	case FLOOD_RESET:
		raw_headers(id, END_STREAM | END_HEADERS, raw_hold_head);
		raw_frame(RST_STREAM, 0, id, cancel, 4);
		break;
	case FLOOD_MADE_BAD_HEAD:
		raw_headers(id, END_STREAM | END_HEADERS, bad);
		break;
	case FLOOD_MADE_BAD_LENGTH:
		raw_headers(id, END_HEADERS, five);
		raw_frame(DATA, END_STREAM, id, "x", 1);
		break;
	case FLOOD_MADE_WINDOW:
		raw_headers(id, END_STREAM | END_HEADERS, raw_hold_head);
		raw_frame(WINDOW_UPDATE, 0, id, most, 4);
		break;
	case FLOOD_PADDED_DATA:
		if (i == 0)
			raw_headers(1, END_HEADERS, raw_stall_head);
		raw_frame(DATA, 8, 1, "\x03\0\0\0", 4); /* PADDED: a length and three bytes of padding */
		break;
	case FLOOD_GOAWAY:
		if (i == 0)
			raw_headers(1, END_HEADERS, raw_stall_head);
		raw_frame(GOAWAY, 0, 0, eight, 8);
		break;
	case FLOOD_BOMB: {
		uint8_t block[8192];
		raw_frame(HEADERS, END_STREAM | END_HEADERS, id, block, bomb(block));
		break;
	}
	case FLOOD_OVER_STREAMS: /* before SETTINGS are acknowledged nghttp2 refuses, later it ends the connection */
		raw_headers(id, END_HEADERS, raw_stall_head);
		break;
	case FLOOD_MANY_SETTINGS: {
		static const uint8_t many[33 * 6];
		raw_frame(SETTINGS, 0, 0, many, sizeof(many));
		break;
	}
	case FLOOD_COUNT:
		break;
	}
}

START_TEST(floods_end_the_connection)
{
	static const struct {
		uint32_t enough;
		enum reason reason;
	} floods[FLOOD_COUNT] = {
	    [FLOOD_PING] = {130, REASON_FLOOD_PING},
	    [FLOOD_SETTINGS] = {130, REASON_FLOOD_SETTINGS},
	    [FLOOD_PRIORITY] = {300, REASON_FLOOD_PRIORITY},
	    [FLOOD_WINDOW_UPDATE] = {200, REASON_FLOOD_WINDOW},
	    [FLOOD_EMPTY_DATA] = {20, REASON_FLOOD_EMPTY},
	    [FLOOD_EMPTY_CONTINUATION] = {15, REASON_FLOOD_EMPTY},
	    [FLOOD_UNKNOWN] = {130, REASON_FLOOD_UNKNOWN},
	    [FLOOD_RESET] = {400, REASON_FLOOD_RESET},
	    [FLOOD_MADE_BAD_HEAD] = {400, REASON_FLOOD_MADE_RESET},
	    [FLOOD_MADE_BAD_LENGTH] = {400, REASON_FLOOD_MADE_RESET},
	    [FLOOD_MADE_WINDOW] = {400, REASON_FLOOD_MADE_RESET},
	    [FLOOD_CONTINUATION] = {20, REASON_FLOOD_CONTINUATION},
	    [FLOOD_PADDED_DATA] = {20, REASON_FLOOD_EMPTY},
	    [FLOOD_GOAWAY] = {130, REASON_FLOOD_GOAWAY},
	    [FLOOD_BOMB] = {20, REASON_FLOOD_HEAD},
	    [FLOOD_OVER_STREAMS] = {400, REASON_FLOOD_MADE_RESET},
	    [FLOOD_MANY_SETTINGS] = {1, REASON_FLOOD_SETTINGS},
	};
	struct world w;
	raw_start(&w, HTTP_SERVER, NULL);
	/* In pieces, as a peer would that waits a little for answers: never more than a hundred streams at once. */
	for (uint32_t i = 0; i < floods[_i].enough && !w.server_closed; i++) {
		one_of_a_flood((enum flood)_i, i);
		if (i % 50 == 49) {
			struct raw_pump p = {&w, 0, no_servings, &w};
			raw_pump(&p);
			run_ms(&w, 3);
			raw_pump(&p);
			raw_out.n = 0;
		}
	}
	raw_until(&w, server_gone, &w);
	ck_assert_int_eq(w.server_reason, floods[_i].reason);
	ck_assert_uint_eq(raw_goaway_code(), 11);
	ck_assert(no_servings(&w));
	world_done(&w);
}
END_TEST

static bool answered_179(void *arg)
{
	return raw_came(HEADERS, 179) != NULL;
}

static bool answered_31(void *arg)
{
	return raw_came(HEADERS, 31) != NULL;
}

static bool answered_1001(void *arg)
{
	return raw_came(HEADERS, 1001) != NULL;
}

struct seen {
	struct world *w;
	unsigned n;
};

/* As its peer becomes known: sixteen requests, all served. */
static void get_known(struct world *w)
{
	for (uint32_t i = 0; i < 16; i++)
		raw_headers(2 * i + 1, END_STREAM | END_HEADERS, raw_good_head);
	raw_until(w, answered_31, NULL);
	ck_assert(until(w, no_servings, w));
	w->most_a_turn = 0;
}

static bool seen_so_many(void *arg)
{
	const struct seen *s = arg;
	return s->w->streams_seen >= s->n;
}

/* A share as they come, then what turns.h lets one alone begin. */
START_TEST(requests_that_come_at_once_begin_in_turns_and_all_are_served)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.heads_a_turn = _i ? 64 : 0;
	raw_start(&w, HTTP_SERVER, &lim);
	get_known(&w);
	for (uint32_t i = 16; i < 90; i++)
		raw_headers(2 * i + 1, END_STREAM | END_HEADERS, raw_good_head);
	raw_until(&w, answered_179, NULL);
	ck_assert_uint_eq(w.streams_seen, 90);
	ck_assert_uint_le(w.most_a_turn, TURNS_POINTS);
	ck_assert_uint_ge(w.most_a_turn, TURNS_POINTS - 2); /* all that is unpacked is a point or two */
	world_done(&w);
}
END_TEST

START_TEST(a_stranger_begins_fewer_in_a_turn)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.heads_a_turn = 64;
	raw_start(&w, HTTP_SERVER, &lim);
	for (uint32_t i = 0; i < 90; i++)
		raw_headers(2 * i + 1, END_STREAM | END_HEADERS, raw_hold_head);
	raw_until(&w, seen_so_many, &(struct seen){&w, 90});
	ck_assert_uint_le(w.most_a_turn, TURNS_POINTS / 8);
	world_done(&w);
}
END_TEST

/* 28 KB each, out of a few bytes: within every limit, and not for the price of a small one. */
START_TEST(heads_count_by_what_they_unpack_to)
{
	struct world w;
	uint8_t block[8192];
	raw_start(&w, HTTP_SERVER, NULL);
	get_known(&w);
	for (uint32_t i = 0; i < 40; i++) {
		size_t n = i == 0 ? bomb(block) - 14 : raw_hpack(block, raw_good_head);
		memset(block + n, 0x80 | 62, 7);
		raw_frame(HEADERS, END_STREAM | END_HEADERS, 2 * (i + 16) + 1, block, i == 0 ? n : n + 7);
	}
	raw_until(&w, seen_so_many, &(struct seen){&w, 56});
	ck_assert_uint_le(w.most_a_turn, TURNS_POINTS / 8 + 4); /* a share is over before it is known what it cost */
	ck_assert(!w.server_closed);
	world_done(&w);
}
END_TEST

/* Each moves the windows of 48 streams at least. */
START_TEST(settings_count_by_the_streams_whose_windows_they_move)
{
	static const uint8_t window[6] = {0, 4, 0, 1, 0, 0};
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.heads_a_turn = 64;
	raw_start(&w, HTTP_SERVER, &lim);
	get_known(&w);
	for (uint32_t i = 16; i < 64; i++)
		raw_headers(2 * i + 1, END_STREAM | END_HEADERS, raw_hold_head);
	raw_until(&w, seen_so_many, &(struct seen){&w, 64});
	w.most_a_turn = 0;
	for (uint32_t i = 64; i < 114; i++) {
		raw_frame(SETTINGS, 0, 0, window, sizeof(window));
		raw_headers(2 * i + 1, END_STREAM | END_HEADERS, raw_hold_head);
	}
	raw_until(&w, seen_so_many, &(struct seen){&w, 114});
	ck_assert_uint_le(w.most_a_turn, TURNS_POINTS / 4);
	world_done(&w);
}
END_TEST

static bool sixty_seen(void *arg)
{
	return ((struct world *)arg)->streams_seen >= 60;
}

/* Given up, all of them, and more: from then on it begins an eighth of that. */
START_TEST(who_gives_up_many_requests_begins_fewer_in_a_turn)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.heads_a_turn = 64;
	lim.resets_burst = 10000;
	raw_start(&w, HTTP_SERVER, &lim);
	for (uint32_t i = 0; i < 60; i++)
		one_of_a_flood(FLOOD_RESET, i);
	raw_until(&w, sixty_seen, &w);
	w.most_a_turn = 0;
	for (uint32_t i = 60; i < 160; i++)
		one_of_a_flood(FLOOD_RESET, i);
	raw_headers(2 * 500 + 1, END_STREAM | END_HEADERS, raw_good_head);
	raw_until(&w, answered_1001, NULL);
	ck_assert_uint_eq(w.streams_seen, 161);
	ck_assert_uint_le(w.most_a_turn, TURNS_POINTS / 8);
	world_done(&w);
}
END_TEST

#define OWED 10

/* What it owes is paid by the clock, not by turns: each time more than the pace has in store. */
START_TEST(a_stranger_is_paced_by_the_clock)
{
	struct taker other = {.stranger = true, .paced = true};
	struct world w;
	raw_start(&w, HTTP_SERVER, NULL);
	uint64_t began = loop_clock_us();
	for (uint32_t i = 0; i < 8 * OWED; i++) {
		if (i % 8 == 0)
			turns_owe(loop_turns(w.loop), &other, TURNS_DEBT_MAX);
		raw_headers(2 * i + 1, END_STREAM | END_HEADERS, raw_hold_head);
		if (i % 8 == 7)
			raw_until(&w, seen_so_many, &(struct seen){&w, i + 1});
	}
	uint64_t took = (loop_clock_us() - began) / 1000;
	/* The loop's clock had stood still before the first. */
	ck_assert_uint_ge(took + 1, (OWED - 1) * (TURNS_DEBT_MAX - TURNS_PACE_MAX) / TURNS_PACE);
	world_done(&w);
}
END_TEST

/* Each ms another stranger owes more than the pace has in store: who is paced gets nothing. */
static bool seen_in_spite_of_debt(void *arg)
{
	const struct seen *s = arg;
	struct taker other = {.stranger = true, .paced = true};
	turns_owe(loop_turns(s->w->loop), &other, TURNS_PACE_MAX + TURNS_POINTS);
	return seen_so_many(arg);
}

START_TEST(a_stranger_that_paces_itself_is_not_paced_again)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.paces_itself = true;
	raw_start(&w, HTTP_SERVER, &lim);
	for (uint32_t i = 0; i < 90; i++)
		raw_headers(2 * i + 1, END_STREAM | END_HEADERS, raw_hold_head);
	raw_until(&w, seen_in_spite_of_debt, &(struct seen){&w, 90});
	world_done(&w);
}
END_TEST

/* What raw_came with the end, and waits for its turn, is served before the end counts. */
START_TEST(requests_before_the_end_of_the_connection_all_begin)
{
	struct world w;
	raw_start(&w, HTTP_SERVER, NULL);
	for (uint32_t i = 0; i < 90; i++)
		raw_headers(2 * i + 1, END_STREAM | END_HEADERS, raw_good_head);
	struct raw_pump p = {&w, 0, no_servings, &w};
	raw_pump(&p);
	shutdown(w.raw, SHUT_WR);
	raw_out.n = 0;
	raw_until(&w, server_gone, &w);
	ck_assert_uint_eq(w.streams_seen, 90);
	world_done(&w);
}
END_TEST

START_TEST(what_honest_peers_send_is_no_flood)
{
	struct world w;
	raw_start(&w, HTTP_SERVER, NULL);
	for (uint32_t i = 0; i < 90; i++) {
		one_of_a_flood(FLOOD_PING, i);
		one_of_a_flood(FLOOD_SETTINGS, i);
		one_of_a_flood(FLOOD_PRIORITY, i);
		one_of_a_flood(FLOOD_WINDOW_UPDATE, i);
	}
	for (uint32_t i = 0; i < 20; i++)
		one_of_a_flood(FLOOD_UNKNOWN, i);
	one_of_a_flood(FLOOD_PADDED_DATA, 0);
	raw_frame(DATA, END_STREAM, 1, NULL, 0); /* that empty one is how a body ends */
	raw_headers(3, END_STREAM | END_HEADERS, raw_good_head);
	raw_until(&w, raw_answered_3, NULL);
	ck_assert(!w.server_closed);
	ck_assert(!raw_came(GOAWAY, 0));
	world_done(&w);
}
END_TEST

START_TEST(an_upstream_that_floods_is_left_with_a_reason_that_the_client_can_be_told)
{
	struct world w;
	struct call c;
	raw_start(&w, HTTP_CLIENT, NULL);
	raw_until(&w, is_ready, &w);
	call_start(&w, &c, "GET", "/x", 0);
	raw_until(&w, raw_sent_request, (void *)1);
	for (uint32_t i = 0; i < 130; i++)
		one_of_a_flood((enum flood)_i, i);
	raw_until(&w, client_gone, &w);
	ck_assert_int_eq(w.client_reason, REASON_UPSTREAM_FLOOD);
	ck_assert_int_eq(c.why.reason, REASON_UPSTREAM_FLOOD);
	ck_assert_uint_eq(reason_row(c.why.reason)->http_status, 502);
	call_done(&c);
	world_done(&w);
}
END_TEST

Suite *h2_flood_suite(void);
Suite *h2_flood_suite(void)
{
	Suite *s = suite_create("h2_flood");
	TCase *t = tcase_create("server");
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, floods_end_the_connection, 0, FLOOD_COUNT);
	tcase_add_test(t, what_honest_peers_send_is_no_flood);
	tcase_add_loop_test(t, requests_that_come_at_once_begin_in_turns_and_all_are_served, 0, 2);
	tcase_add_test(t, who_gives_up_many_requests_begins_fewer_in_a_turn);
	tcase_add_test(t, a_stranger_begins_fewer_in_a_turn);
	tcase_add_test(t, a_stranger_is_paced_by_the_clock);
	tcase_add_test(t, a_stranger_that_paces_itself_is_not_paced_again);
	tcase_add_test(t, heads_count_by_what_they_unpack_to);
	tcase_add_test(t, settings_count_by_the_streams_whose_windows_they_move);
	tcase_add_test(t, requests_before_the_end_of_the_connection_all_begin);
	suite_add_tcase(s, t);
	t = tcase_create("client");
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, an_upstream_that_floods_is_left_with_a_reason_that_the_client_can_be_told, FLOOD_PING,
			    FLOOD_SETTINGS + 1);
	suite_add_tcase(s, t);
	return s;
}
