/* SPDX-License-Identifier: Apache-2.0 */
/* h2_wire_test.c: codec_h2 against frames written by hand: protocol errors, silence, and what no library sends to clients. */
#include "tests/unit/lib/h2_raw.h"

#include <sys/socket.h>

/* --- protocol errors and silence --- */

START_TEST(what_is_not_http2_closes_the_connection)
{
	struct world w;
	world_raw(&w, HTTP_SERVER, NULL);
	raw_out.n = raw_in.n = 0;
	raw_bytes("GET / HTTP/1.1\r\nhost: a\r\n\r\n", 27);
	raw_until(&w, server_gone, &w);
	ck_assert_int_eq(w.server_reason, REASON_PEER_PROTOCOL);
	world_done(&w);
}
END_TEST

START_TEST(a_frame_error_is_answered_with_its_code)
{
	struct world w;
	raw_start(&w, HTTP_SERVER, NULL);
	raw_headers(1, END_STREAM | END_HEADERS, raw_hold_head);
	raw_frame(PING, 0, 0, "short", 5);
	raw_until(&w, server_gone, &w);
	ck_assert_int_eq(w.server_reason, REASON_PEER_PROTOCOL);
	ck_assert_uint_eq(raw_goaway_code(), 6); /* FRAME_SIZE_ERROR */
	ck_assert(no_servings(&w));
	world_done(&w);
}
END_TEST

START_TEST(silence_before_the_preface_ends)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.preface_ms = 50;
	world_raw(&w, HTTP_SERVER, &lim);
	raw_out.n = raw_in.n = 0;
	raw_bytes("PRI * HTTP/2.0\r\n", 16);
	raw_until(&w, server_gone, &w);
	ck_assert_int_eq(w.server_reason, REASON_HEAD_TIMEOUT);
	world_done(&w);
}
END_TEST

START_TEST(a_header_block_that_does_not_end_ends)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.head_timeout_ms = 50;
	raw_start(&w, HTTP_SERVER, &lim);
	raw_headers(1, 0, raw_hold_head);
	raw_until(&w, server_gone, &w);
	ck_assert_int_eq(w.server_reason, REASON_HEAD_TIMEOUT);
	world_done(&w);
}
END_TEST

START_TEST(a_frame_that_does_not_end_ends)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.head_timeout_ms = 50;
	raw_start(&w, HTTP_SERVER, &lim);
	if (_i == 0)
		raw_bytes("\0\0\x08\x06\0", 5); /* a part of a frame's head */
	else
		raw_bytes("\0\0\x08\x06\0\0\0\0\0abcd", 13); /* PING with half of its bytes */
	raw_until(&w, server_gone, &w);
	ck_assert_int_eq(w.server_reason, REASON_HEAD_TIMEOUT);
	world_done(&w);
}
END_TEST

/* Cut in the midst of a frame each time, but another one: that is progress. And DATA may take as long as it likes. */
START_TEST(frames_that_do_end_may_be_cut_anywhere)
{
	struct http_limits lim = http_limits_default;
	struct raw_pump p;
	struct world w;
	lim.head_timeout_ms = 200;
	raw_start(&w, HTTP_SERVER, &lim);
	raw_bytes("\0\0\x08\x06\0\0\0\0\0abcd", 13);
	for (int i = 0; i < 10; i++) {
		p = (struct raw_pump){&w, 0, no_servings, &w};
		raw_pump(&p);
		run_ms(&w, 50);
		raw_out.n = 0;
		raw_bytes("efgh\0\0\x08\x06\0\0\0\0\0abcd", 17);
	}
	raw_bytes("efgh", 4);
	raw_headers(1, END_HEADERS, raw_stall_head);
	raw_bytes("\0\0\x08\0\0\0\0\0\x01"
		  "abcd",
		  13);
	p = (struct raw_pump){&w, 0, no_servings, &w};
	raw_pump(&p);
	run_ms(&w, 400);
	ck_assert(!w.server_closed);
	world_done(&w);
}
END_TEST

START_TEST(a_dead_peer_is_found_by_ping)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.ping_ms = 50;
	raw_start(&w, HTTP_SERVER, &lim);
	raw_headers(1, END_STREAM | END_HEADERS, raw_hold_head);
	raw_until(&w, server_gone, &w);
	ck_assert(raw_came(PING, 0) != NULL);
	ck_assert_int_eq(w.server_reason, REASON_CLIENT_GONE);
	ck_assert_int_eq(w.server_reset.reason, REASON_CLIENT_GONE);
	world_done(&w);
}
END_TEST

START_TEST(a_dead_peer_is_found_after_the_silence_and_one_ping)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.ping_ms = 400;
	raw_start(&w, HTTP_SERVER, &lim);
	uint64_t began = loop_now_ms(w.loop);
	raw_headers(1, END_STREAM | END_HEADERS, raw_hold_head);
	raw_until(&w, server_gone, &w);
	ck_assert_uint_lt(loop_now_ms(w.loop) - began, 3 * lim.ping_ms - 50);
	world_done(&w);
}
END_TEST

/* --- as a client --- */

static bool asked(void *arg)
{
	(void)arg;
	return raw_came(PING, 0) != NULL;
}

static bool told(void *arg)
{
	struct world *w = arg;
	return w->readies > 1;
}

/* A client that doubts after 50 ms, whose peer has taken a request and said nothing for that long. */
static void doubt_start(struct world *w, struct call *c)
{
	struct http_limits lim = http_limits_default;
	lim.doubt_ms = 50;
	raw_start(w, HTTP_CLIENT, &lim);
	raw_until(w, is_ready, w);
	call_start(w, c, "POST", "/x", BODY_OPEN);
	raw_until(w, raw_sent_request, (void *)1);
	ck_assert_int_eq(codec_h2.peer(w->client), HTTP_PEER_HEARD);
	run_ms(w, 60);
	ck_assert_uint_eq(w->readies, 1);
	ck_assert(!asked(NULL));
	ck_assert_int_eq(codec_h2.peer(w->client), HTTP_PEER_ASKED);
}

static void doubt_end(struct world *w, struct call *c)
{
	codec_h2.reset(c->st, REASON_CLIENT_GONE, false);
	call_done(c);
	world_done(w);
}

START_TEST(a_peer_that_answers_ping_while_its_application_is_slow_is_trusted)
{
	struct world w;
	struct call c;
	doubt_start(&w, &c);
	raw_until(&w, asked, NULL);
	raw_frame(PING, 1, 0, raw_came(PING, 0) + 9, 8);
	raw_until(&w, told, &w);
	ck_assert_int_eq(codec_h2.peer(w.client), HTTP_PEER_HEARD);
	run_ms(&w, 120); /* and nobody asks again before the next request */
	ck_assert_int_eq(codec_h2.peer(w.client), HTTP_PEER_HEARD);
	ck_assert_uint_eq(w.readies, 2);
	doubt_end(&w, &c);
}
END_TEST

START_TEST(a_peer_that_does_not_answer_ping_is_silent_until_something_comes)
{
	struct world w;
	struct call c;
	doubt_start(&w, &c);
	raw_until(&w, told, &w);
	ck_assert_int_eq(codec_h2.peer(w.client), HTTP_PEER_SILENT);
	run_ms(&w, 120);
	ck_assert_int_eq(codec_h2.peer(w.client), HTTP_PEER_SILENT);
	ck_assert_uint_eq(w.readies, 2);
	raw_frame(HEADERS, END_HEADERS, 1, "\x88", 1); /* a byte of whatever kind */
	w.readies = 1;
	raw_until(&w, told, &w);
	ck_assert_int_eq(codec_h2.peer(w.client), HTTP_PEER_HEARD);
	doubt_end(&w, &c);
}
END_TEST

START_TEST(goaway_tells_which_streams_were_never_processed)
{
	static const uint8_t last_is_1[8] = {0, 0, 0, 1, 0, 0, 0, 0};
	struct world w;
	struct call a, b;
	raw_start(&w, HTTP_CLIENT, NULL);
	raw_until(&w, is_ready, &w);
	call_start(&w, &a, "POST", "/x", BODY_OPEN);
	call_start(&w, &b, "POST", "/x", BODY_OPEN);
	raw_until(&w, raw_sent_request, (void *)3);
	raw_frame(GOAWAY, 0, 0, last_is_1, 8);
	raw_until(&w, is_over, &b);
	ck_assert(b.reset && b.why.unprocessed);
	ck_assert_int_eq(b.why.reason, REASON_REFUSED);
	ck_assert(!is_over(&a));
	ck_assert(w.client_draining);
	ck_assert_uint_eq(codec_h2.room(w.client), 0);
	/* The one that it knows goes on: 200 with END_STREAM, and nothing more is wanted of us. */
	raw_frame(HEADERS, END_STREAM | END_HEADERS, 1, "\x88", 1);
	raw_until(&w, is_over, &a);
	ck_assert_uint_eq(a.status, 200);
	codec_h2.send_end(a.st, NULL);
	codec_h2.close(a.st);
	raw_until(&w, client_gone, &w);
	ck_assert_int_eq(w.client_reason, REASON_NONE);
	call_done(&a);
	call_done(&b);
	world_done(&w);
}
END_TEST

static const struct {
	const char *what;
	const char *kv[10];
	uint8_t flags;
} bad_answers[] = {
    {"101", {":status", "101"}, END_HEADERS},
    {"two digits", {":status", "20"}, END_HEADERS},
    {"no status", {"x", "y"}, END_HEADERS},
    {"request pseudo-field", {":status", "200", ":path", "/"}, END_HEADERS},
    {"transfer-encoding", {":status", "200", "transfer-encoding", "chunked"}, END_HEADERS},
    {"connection", {":status", "200", "connection", "close"}, END_HEADERS},
    {"1xx with END_STREAM", {":status", "103"}, END_HEADERS | END_STREAM},
    {"length without body", {":status", "200", "content-length", "5"}, END_HEADERS | END_STREAM},
};

START_TEST(malformed_answers_are_resets_of_the_upstream)
{
	struct world w;
	struct call c;
	raw_start(&w, HTTP_CLIENT, NULL);
	raw_until(&w, is_ready, &w);
	call_start(&w, &c, "GET", "/x", 0);
	raw_until(&w, raw_sent_request, (void *)1);
	raw_headers(1, bad_answers[_i].flags, bad_answers[_i].kv);
	raw_until(&w, is_over, &c);
	ck_assert_msg(c.reset && c.why.reason == REASON_UPSTREAM_PROTOCOL && !c.why.unprocessed, "%s",
		      bad_answers[_i].what);
	ck_assert(!w.client_closed);
	call_done(&c);
	world_done(&w);
}
END_TEST

START_TEST(a_head_that_never_left_is_unprocessed)
{
	struct world w;
	struct call c;
	raw_start(&w, HTTP_CLIENT, NULL);
	raw_until(&w, is_ready, &w);
	/* The peer goes in the same turn in which the request is made. */
	shutdown(w.raw, SHUT_RDWR);
	call_start(&w, &c, "POST", "/x", 1000);
	ck_assert(until(&w, client_gone, &w));
	ck_assert(c.reset && c.why.unprocessed);
	call_done(&c);
	world_done(&w);
}
END_TEST

START_TEST(push_is_refused)
{
	static const uint8_t promise[] = {0, 0, 0, 2, 0x82, 0x86, 0x84};
	struct world w;
	struct call c;
	raw_start(&w, HTTP_CLIENT, NULL);
	raw_until(&w, is_ready, &w);
	call_start(&w, &c, "GET", "/x", 0);
	raw_until(&w, raw_sent_request, (void *)1);
	/* Our SETTINGS (ENABLE_PUSH 0) are acknowledged: a promise is an error then. */
	raw_frame(SETTINGS, 1, 0, NULL, 0);
	raw_frame(PUSH_PROMISE, END_HEADERS, 1, promise, sizeof(promise));
	raw_until(&w, client_gone, &w);
	ck_assert_int_eq(w.client_reason, REASON_UPSTREAM_PROTOCOL);
	ck_assert(c.reset);
	call_done(&c);
	world_done(&w);
}
END_TEST

Suite *h2_wire_suite(void);
Suite *h2_wire_suite(void)
{
	Suite *s = suite_create("h2_wire");
	TCase *t = tcase_create("server");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, what_is_not_http2_closes_the_connection);
	tcase_add_test(t, a_frame_error_is_answered_with_its_code);
	tcase_add_test(t, silence_before_the_preface_ends);
	tcase_add_test(t, a_header_block_that_does_not_end_ends);
	tcase_add_loop_test(t, a_frame_that_does_not_end_ends, 0, 2);
	tcase_add_test(t, frames_that_do_end_may_be_cut_anywhere);
	tcase_add_test(t, a_dead_peer_is_found_by_ping);
	tcase_add_test(t, a_dead_peer_is_found_after_the_silence_and_one_ping);
	suite_add_tcase(s, t);
	t = tcase_create("client");
	tcase_add_test(t, a_peer_that_answers_ping_while_its_application_is_slow_is_trusted);
	tcase_add_test(t, a_peer_that_does_not_answer_ping_is_silent_until_something_comes);
	tcase_set_timeout(t, 60);
	tcase_add_test(t, goaway_tells_which_streams_were_never_processed);
	tcase_add_loop_test(t, malformed_answers_are_resets_of_the_upstream, 0, ARRAY_LEN(bad_answers));
	tcase_add_test(t, a_head_that_never_left_is_unprocessed);
	tcase_add_test(t, push_is_refused);
	suite_add_tcase(s, t);
	return s;
}
