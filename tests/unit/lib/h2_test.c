/* SPDX-License-Identifier: Apache-2.0 */
/* h2_test.c: codec_h2 against itself over a real socket pair: many streams, flow control, trailers, resets, drain. */
#include "tests/unit/lib/h2_world.h"

#include "lib/http/h2_head.h"

START_TEST(a_get_is_answered_with_fields_and_trailers)
{
	struct world w;
	struct call c;
	world_pair(&w, NULL, NULL);
	call_start(&w, &c, "GET", "/sum?x=1", 0);
	ck_assert(until(&w, is_over, &c));
	ck_assert(c.ended && !c.reset);
	ck_assert_uint_eq(c.status, 200);
	ck_assert_str_eq(c.field, "yes");
	ck_assert_str_eq(c.trailer, "0");
	ck_assert_str_eq(w.path, "/sum?x=1");
	ck_assert_str_eq(w.authority, "orders:8080");
	ck_assert_uint_eq(w.fields, 1); /* x-mixed; keep-alive and te are not for the next hop */
	ck_assert_int_eq(w.framing, FRAMING_NONE);
	call_done(&c);
	world_done(&w);
}
END_TEST

/* What the peer's table gains by a second head that differs from the first in one field's value. */
static size_t table_gain(const char *name)
{
	nghttp2_hd_deflater *d;
	size_t before = 0;
	ck_assert_int_eq(nghttp2_hd_deflate_new(&d, 4096), 0);
	for (int i = 0; i < 2; i++) {
		struct arena a;
		struct message m;
		struct h2_nv nv;
		uint8_t out[512];
		before = nghttp2_hd_deflate_get_dynamic_table_size(d);
		arena_init(&a, 4096);
		message_init(&m, &a, true);
		m.method = STR("GET");
		m.authority = STR("orders");
		ck_assert(message_add(&m, STR("user-agent"), STR("test"), true));
		ck_assert(message_add(&m, str_of(name), i ? STR("8b1f4c52") : STR("17c09aa3"), true));
		h2_nv_message(&nv, &m);
		ck_assert_int_gt(nghttp2_hd_deflate_hd(d, out, sizeof(out), nv.v, nv.n), 0);
		h2_nv_done(&nv);
		arena_done(&a);
	}
	size_t gain = nghttp2_hd_deflate_get_dynamic_table_size(d) - before;
	ck_assert_uint_gt(before, 0); /* user-agent and the authority */
	nghttp2_hd_deflate_del(d);
	return gain;
}

START_TEST(values_of_one_request_alone_push_nothing_out_of_the_table)
{
	static const char *const once[] = {"traceparent",     "X-Request-Id",      "x-b3-traceid",
					   "x-b3-spanid",     "x-b3-parentspanid", "x-correlation-id",
					   "x-amzn-trace-id", "idempotency-key",   "authorization"};
	for (size_t i = 0; i < ARRAY_LEN(once); i++)
		ck_assert_uint_eq(table_gain(once[i]), 0);
	ck_assert_uint_gt(table_gain("x-tenant-id"), 0);
	ck_assert_uint_gt(table_gain("accept-text"), 0); /* its length alone says nothing */
}
END_TEST

START_TEST(a_body_comes_back_byte_by_byte)
{
	struct world w;
	struct call c;
	size_t n = 3 * 1000 * 1000 + 17;
	world_pair(&w, NULL, NULL);
	call_start(&w, &c, "POST", "/echo", n);
	ck_assert(until(&w, is_over, &c));
	ck_assert_uint_eq(c.got, n);
	ck_assert_uint_eq(c.sum, call_sum(n));
	call_done(&c);
	world_done(&w);
}
END_TEST

static bool hundred_over(void *arg)
{
	struct call *c = arg;
	for (int i = 0; i < 100; i++)
		if (!is_over(&c[i]))
			return false;
	return true;
}

START_TEST(a_hundred_streams_at_once)
{
	static struct call c[100];
	struct world w;
	world_pair(&w, NULL, NULL);
	for (int i = 0; i < 100; i++)
		call_start(&w, &c[i], "POST", "/echo", 1000 * (size_t)i + 1);
	ck_assert_uint_eq(codec_h2.room(w.client), 0);
	ck_assert_uint_eq(codec_h2.open_streams(w.client), 100);
	ck_assert(until(&w, hundred_over, c));
	for (int i = 0; i < 100; i++) {
		ck_assert_uint_eq(c[i].got, 1000 * (size_t)i + 1);
		ck_assert_uint_eq(c[i].sum, call_sum(c[i].got));
		call_done(&c[i]);
	}
	ck_assert(until(&w, no_servings, &w));
	ck_assert_uint_eq(codec_h2.open_streams(w.client), 0);
	ck_assert_uint_ge(w.readies, 2); /* room came back */
	ck_assert(w.client_idle);
	world_done(&w);
}
END_TEST

static bool all_stalled(void *arg)
{
	struct world *w = arg;
	unsigned n = 0;
	list_for_each (x, &w->servings, struct serving, node)
		n += x->got == 65536;
	return n == 16;
}

START_TEST(sixteen_stalled_streams_do_not_freeze_others)
{
	static struct call stalled[16];
	struct world w;
	struct call c;
	world_pair(&w, NULL, NULL);
	for (int i = 0; i < 16; i++)
		call_start(&w, &stalled[i], "POST", "/stall", 1 << 20);
	/* Exactly the first window of each arrives, and not one byte more. */
	ck_assert(until(&w, all_stalled, &w));
	ck_assert_uint_eq(h2_budget_used(), 16 * 65536);
	call_start(&w, &c, "POST", "/echo", 5 << 20);
	ck_assert(until(&w, is_over, &c));
	ck_assert_uint_eq(c.got, 5 << 20);
	ck_assert(all_stalled(&w));
	for (int i = 0; i < 16; i++) {
		codec_h2.reset(stalled[i].st, REASON_CLIENT_GONE, false);
		call_done(&stalled[i]);
	}
	ck_assert(until(&w, no_servings, &w));
	call_done(&c);
	world_done(&w);
}
END_TEST

START_TEST(a_reader_that_stops_stops_the_sender)
{
	struct world w;
	struct call c, other;
	world_pair(&w, NULL, NULL);
	call_start(&w, &c, "GET", "/big/30000000", 0);
	c.limit = 1;
	call_start(&w, &other, "GET", "/big/3000000", 0);
	ck_assert(until(&w, is_over, &other));
	ck_assert_uint_eq(other.got, 3000000);
	ck_assert_uint_eq(c.got, 65536);
	ck_assert(!c.ended);
	/* Reading on, it goes on to the last byte. */
	c.limit = 0;
	codec_h2.consumed(c.st, c.unconsumed);
	ck_assert(until(&w, is_over, &c));
	ck_assert_uint_eq(c.got, 30000000);
	call_done(&c);
	call_done(&other);
	world_done(&w);
}
END_TEST

START_TEST(what_a_sender_queues_is_bounded)
{
	struct world w;
	struct call c;
	world_pair(&w, NULL, NULL);
	call_start(&w, &c, "POST", "/stall", 10 << 20);
	run_ms(&w, 50);
	/* One window has arrived, one mark (and at most one piece more) waits. */
	ck_assert_uint_le(c.sent, 65536 + 65536 + 16384);
	ck_assert_uint_eq(codec_h2.send_room(c.st), 0);
	codec_h2.reset(c.st, REASON_CLIENT_GONE, false);
	ck_assert(until(&w, no_servings, &w));
	call_done(&c);
	world_done(&w);
}
END_TEST

START_TEST(trailers_pass_both_ways)
{
	struct world w;
	struct call c;
	struct fields t = {0};
	world_pair(&w, NULL, NULL);
	call_start(&w, &c, "POST", "/sum", BODY_OPEN);
	codec_h2.send_body(c.st, STR("abc"));
	ck_assert(fields_add(&t, &c.arena, STR("X-Sum"), STR("42"), true));
	codec_h2.send_end(c.st, &t);
	c.out_ended = true;
	ck_assert(until(&w, is_over, &c));
	ck_assert_str_eq(c.trailer, "3");
	ck_assert_uint_eq(c.got, strlen("with trailers"));
	call_done(&c);
	world_done(&w);
}
END_TEST

START_TEST(informational_answers_and_head)
{
	struct world w;
	struct call c;
	world_pair(&w, NULL, NULL);
	call_start(&w, &c, "GET", "/hints", 0);
	ck_assert(until(&w, is_over, &c));
	ck_assert_uint_eq(c.informational, 2);
	ck_assert_uint_eq(c.status, 200);
	call_done(&c);
	call_start(&w, &c, "HEAD", "/sum", 0);
	ck_assert(until(&w, is_over, &c));
	ck_assert_uint_eq(c.status, 200);
	ck_assert_uint_eq(c.got, 0);
	call_done(&c);
	world_done(&w);
}
END_TEST

static bool was_reset(void *arg)
{
	return ((struct call *)arg)->reset;
}

START_TEST(an_early_answer_leaves_whole_before_the_reset)
{
	struct world w;
	struct call c;
	world_pair(&w, NULL, NULL);
	call_start(&w, &c, "POST", "/early", 10 << 20);
	ck_assert(until(&w, was_reset, &c));
	ck_assert_uint_eq(c.status, 413);
	ck_assert(c.ended);
	ck_assert_int_eq(c.why.reason, REASON_NONE);
	ck_assert(!c.why.unprocessed);
	call_done(&c);
	ck_assert(until(&w, no_servings, &w));
	world_done(&w);
}
END_TEST

START_TEST(extended_connect_is_a_tunnel)
{
	struct world w;
	struct call c;
	struct message m;
	world_pair(&w, NULL, NULL);
	call_open(&w, &c);
	message_init(&m, &c.arena, true);
	m.method = STR("CONNECT");
	m.protocol = STR("websocket");
	m.scheme = STR("http");
	m.authority = STR("a");
	m.path = STR("/chat");
	m.framing = FRAMING_TUNNEL;
	codec_h2.send_head(c.st, &m, false);
	codec_h2.send_body(c.st, STR("ping"));
	codec_h2.send_end(c.st, NULL);
	c.out_ended = true;
	ck_assert(until(&w, is_over, &c));
	ck_assert_str_eq(w.protocol, "websocket");
	ck_assert_str_eq(w.method, "CONNECT");
	ck_assert_int_eq(w.framing, FRAMING_TUNNEL);
	ck_assert_uint_eq(c.got, 4);
	call_done(&c);
	world_done(&w);
}
END_TEST

START_TEST(a_refused_stream_is_unprocessed)
{
	struct world w;
	struct call c;
	world_pair(&w, NULL, NULL);
	call_start(&w, &c, "GET", "/refuse", 0);
	ck_assert(until(&w, is_over, &c));
	ck_assert(c.reset && c.why.unprocessed && c.why.before_response);
	ck_assert_int_eq(c.why.reason, REASON_REFUSED);
	call_done(&c);
	world_done(&w);
}
END_TEST

static bool got_three(void *arg)
{
	return ((struct call *)arg)->got == 3;
}
static bool told_to_drain(void *arg)
{
	return ((struct world *)arg)->client_draining;
}

START_TEST(drain_lets_open_streams_finish)
{
	struct world w;
	struct call c;
	world_pair(&w, NULL, NULL);
	call_start(&w, &c, "POST", "/echo", BODY_OPEN);
	codec_h2.send_body(c.st, STR("one"));
	ck_assert(until(&w, got_three, &c));
	codec_h2.drain(w.server);
	ck_assert(until(&w, told_to_drain, &w));
	ck_assert_uint_eq(codec_h2.room(w.client), 0);
	codec_h2.send_body(c.st, STR("two"));
	codec_h2.send_end(c.st, NULL);
	c.out_ended = true;
	ck_assert(until(&w, is_over, &c));
	ck_assert(c.ended);
	ck_assert_uint_eq(c.got, 6);
	ck_assert(until(&w, both_gone, &w));
	ck_assert_int_eq(w.client_reason, REASON_NONE);
	ck_assert_int_eq(w.server_reason, REASON_NONE);
	call_done(&c);
	world_done(&w);
}
END_TEST

START_TEST(a_draining_client_closes_after_its_last_stream)
{
	struct world w;
	struct call c;
	world_pair(&w, NULL, NULL);
	call_start(&w, &c, "GET", "/big/300000", 0);
	codec_h2.drain(w.client);
	ck_assert_uint_eq(codec_h2.room(w.client), 0);
	ck_assert(until(&w, both_gone, &w));
	ck_assert(c.ended);
	ck_assert_uint_eq(c.got, 300000);
	ck_assert_int_eq(w.client_reason, REASON_NONE);
	call_done(&c);
	world_done(&w);
}
END_TEST

static bool one_serving(void *arg)
{
	return ((struct world *)arg)->n_servings == 1;
}

START_TEST(a_lost_connection_resets_every_stream)
{
	struct world w;
	struct call c;
	world_pair(&w, NULL, NULL);
	call_start(&w, &c, "GET", "/hold", 0);
	ck_assert(until(&w, one_serving, &w));
	codec_h2.session_close(&w.server);
	ck_assert(until(&w, client_gone, &w));
	ck_assert(c.reset);
	ck_assert(!c.why.unprocessed); /* it had it */
	ck_assert(c.why.before_response);
	ck_assert_int_eq(c.why.reason, REASON_UPSTREAM_RESET);
	call_done(&c);
	world_done(&w);
}
END_TEST

static bool room(void *arg)
{
	const struct world *w = arg;
	return w->client != NULL && codec_h2.room(w->client) > 0;
}

struct seen {
	struct world *w;
	unsigned streams, servings;
};

static bool all_seen_and_so_many_left(void *arg)
{
	const struct seen *s = arg;
	return s->w->streams_seen == s->streams && s->w->n_servings == s->servings;
}

/* Calls that reach the server and are given up, one after the other, until the connection takes no more. */
static unsigned give_up_while_there_is_room(struct world *w)
{
	struct call c;
	unsigned n = 0;
	for (; n < 1000 && room(w); n++) {
		struct seen begun = {w, w->streams_seen + 1, w->n_servings + 1};
		struct seen gone = {w, w->streams_seen + 1, w->n_servings};
		call_start(w, &c, "GET", "/hold", 0);
		ck_assert(until(w, all_seen_and_so_many_left, &begun));
		codec_h2.reset(c.st, REASON_CLIENT_GONE, false);
		ck_assert(until(w, all_seen_and_so_many_left, &gone));
		call_done(&c);
	}
	return n;
}

/* The server would end it at the 201st, with whatever else was asked on it. */
START_TEST(a_client_leaves_a_connection_before_it_has_given_up_too_much)
{
	struct world w;
	struct http_limits lim = http_limits_default;
	lim.resets_rate = 1; /* the clock gives next to none back meanwhile */
	world_pair(&w, &lim, &lim);
	ck_assert(until(&w, is_ready, &w));
	ck_assert_uint_eq(give_up_while_there_is_room(&w), 101);
	ck_assert(until(&w, both_gone, &w));
	ck_assert_int_eq(w.client_reason, REASON_NONE);
	ck_assert_int_eq(w.server_reason, REASON_NONE);
	world_done(&w);
}
END_TEST

/* A stream of somebody else stays, and the connection is good again when the server's bucket is. */
START_TEST(a_client_that_gave_up_much_rests_while_a_stream_is_open)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	struct call c, next;
	lim.resets_rate = 200;
	world_pair(&w, &lim, &lim);
	ck_assert(until(&w, is_ready, &w));
	call_start(&w, &c, "POST", "/echo", BODY_OPEN);
	ck_assert(until(&w, one_serving, &w));
	for (unsigned round = 0; round < 3; round++) {
		ck_assert_uint_ge(give_up_while_there_is_room(&w), 50);
		unsigned readies = w.readies;
		ck_assert(until(&w, room, &w));
		ck_assert_uint_gt(w.readies, readies);
	}
	codec_h2.send_body(c.st, STR("still here"));
	codec_h2.send_end(c.st, NULL);
	c.out_ended = true;
	call_start(&w, &next, "GET", "/sum", 0);
	ck_assert(until(&w, is_over, &next));
	ck_assert(until(&w, is_over, &c));
	ck_assert_uint_eq(c.got, 10);
	ck_assert(!w.client_closed && !w.server_closed);
	call_done(&c);
	call_done(&next);
	world_done(&w);
}
END_TEST

START_TEST(idle_streams_and_connections_end)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	struct call c;
	lim.stream_idle_ms = 100;
	lim.idle_timeout_ms = 100;
	world_pair(&w, &lim, NULL);
	call_start(&w, &c, "GET", "/hold", 0);
	ck_assert(until(&w, is_over, &c));
	ck_assert(c.reset);
	ck_assert_int_eq(w.server_reset.reason, REASON_IDLE);
	ck_assert(until(&w, both_gone, &w));
	ck_assert_int_eq(w.server_reason, REASON_NONE);
	ck_assert(w.server_draining && w.client_draining);
	call_done(&c);
	world_done(&w);
}
END_TEST

START_TEST(a_connection_in_use_is_not_idle)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	struct call c;
	lim.idle_timeout_ms = 200;
	world_pair(&w, &lim, &lim);
	for (int i = 0; i < 10; i++) {
		call_start(&w, &c, "GET", "/sum", 0);
		ck_assert(until(&w, is_over, &c));
		ck_assert(c.ended);
		call_done(&c);
		run_ms(&w, 50);
	}
	ck_assert(!w.client_draining && !w.server_draining);
	ck_assert(until(&w, both_gone, &w));
	world_done(&w);
}
END_TEST

START_TEST(an_old_connection_drains)
{
	struct http_limits lim = http_limits_default;
	struct world w;
	lim.age_max_ms = 60;
	world_pair(&w, NULL, &lim);
	ck_assert(until(&w, both_gone, &w));
	ck_assert(w.client_draining);
	ck_assert_int_eq(w.client_reason, REASON_NONE);
	world_done(&w);
}
END_TEST

START_TEST(a_window_grows_with_its_reader_and_within_the_budget)
{
	struct h2_window w, hog;
	uint64_t us = 1000;
	h2_window_init(&w, 65536, 1 << 20);
	h2_window_received(&w, 65536, us);
	ck_assert(h2_window_consumed(&w, 65536, us + 100, 5000));
	ck_assert_uint_eq(w.size, 131072);
	/* A slow reader does not grow: the window was not what limited it. */
	h2_window_received(&w, 131072, us);
	ck_assert(!h2_window_consumed(&w, 131072, us + 1000000, 5000));
	us += 1000000;
	for (int i = 0; i < 8; i++) {
		h2_window_received(&w, w.size, us);
		h2_window_consumed(&w, w.size, us, 5000);
	}
	ck_assert_uint_eq(w.size, 1 << 20);
	ck_assert_uint_eq(h2_budget_used(), (1 << 20) - 65536);
	h2_window_init(&hog, 65536, 1 << 20);
	h2_window_received(&hog, H2_BUDGET_MAX, us);
	ck_assert(h2_budget_spent());
	ck_assert(!h2_window_consumed(&hog, 65536, us, 5000));
	ck_assert_uint_eq(hog.size, 65536);
	h2_window_done(&hog);
	ck_assert(!h2_budget_spent());
	h2_window_done(&w);
	ck_assert_uint_eq(h2_budget_used(), 0);
}
END_TEST

START_TEST(streams_are_refused_unprocessed_when_the_budget_is_spent)
{
	struct h2_window hog;
	struct world w;
	struct call c;
	world_pair(&w, NULL, NULL);
	h2_window_init(&hog, 65536, 65536);
	h2_window_received(&hog, H2_BUDGET_MAX, 1);
	call_start(&w, &c, "GET", "/sum", 0);
	ck_assert(until(&w, is_over, &c));
	ck_assert(c.reset && c.why.unprocessed);
	call_done(&c);
	h2_window_done(&hog);
	call_start(&w, &c, "GET", "/sum", 0);
	ck_assert(until(&w, is_over, &c));
	ck_assert(c.ended);
	call_done(&c);
	world_done(&w);
}
END_TEST

START_TEST(acts_in_the_middle_of_each_callback)
{
	enum breakpoint at = (enum breakpoint)(1 + _i / BY_COUNT);
	struct fields t = {0};
	struct world w;
	struct call c[4];
	world_pair(&w, NULL, NULL);
	w.break_at = at;
	w.break_by = (enum breaker)(_i % BY_COUNT);
	call_start(&w, &c[0], "POST", "/echo", 400000);
	call_start(&w, &c[1], "POST", "/sum", BODY_OPEN);
	codec_h2.send_body(c[1].st, STR("abc"));
	ck_assert(fields_add(&t, &c[1].arena, STR("x-sum"), STR("42"), true));
	codec_h2.send_end(c[1].st, &t);
	c[1].out_ended = true;
	call_start(&w, &c[2], "GET", "/big/400000", 0);
	call_start(&w, &c[3], "POST", "/stall", 200000);
	run_ms(&w, 20);
	if (c[3].st)
		codec_h2.reset(c[3].st, REASON_TIMEOUT, false);
	for (int i = 0; i < 3; i++)
		ck_assert(until(&w, is_over, &c[i]));
	if (!w.server_closed)
		ck_assert(until(&w, no_servings, &w));
	else
		ck_assert(until(&w, client_gone, &w));
	for (int i = 0; i < 4; i++)
		call_done(&c[i]);
	world_done(&w);
}
END_TEST

Suite *h2_suite(void);
Suite *h2_suite(void)
{
	Suite *s = suite_create("h2");
	TCase *t = tcase_create("pair");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_get_is_answered_with_fields_and_trailers);
	tcase_add_test(t, values_of_one_request_alone_push_nothing_out_of_the_table);
	tcase_add_test(t, a_body_comes_back_byte_by_byte);
	tcase_add_test(t, a_hundred_streams_at_once);
	tcase_add_test(t, sixteen_stalled_streams_do_not_freeze_others);
	tcase_add_test(t, a_reader_that_stops_stops_the_sender);
	tcase_add_test(t, what_a_sender_queues_is_bounded);
	tcase_add_test(t, trailers_pass_both_ways);
	tcase_add_test(t, informational_answers_and_head);
	tcase_add_test(t, an_early_answer_leaves_whole_before_the_reset);
	tcase_add_test(t, extended_connect_is_a_tunnel);
	tcase_add_test(t, a_refused_stream_is_unprocessed);
	tcase_add_test(t, drain_lets_open_streams_finish);
	tcase_add_test(t, a_draining_client_closes_after_its_last_stream);
	tcase_add_test(t, a_lost_connection_resets_every_stream);
	tcase_add_test(t, a_client_leaves_a_connection_before_it_has_given_up_too_much);
	tcase_add_test(t, a_client_that_gave_up_much_rests_while_a_stream_is_open);
	tcase_add_test(t, idle_streams_and_connections_end);
	tcase_add_test(t, a_connection_in_use_is_not_idle);
	tcase_add_test(t, an_old_connection_drains);
	tcase_add_test(t, a_window_grows_with_its_reader_and_within_the_budget);
	tcase_add_test(t, streams_are_refused_unprocessed_when_the_budget_is_spent);
	tcase_add_loop_test(t, acts_in_the_middle_of_each_callback, 0, BREAK_RESET * BY_COUNT);
	suite_add_tcase(s, t);
	return s;
}
