/* SPDX-License-Identifier: Apache-2.0 */
/* conn_test.c: how connections end: in order, by failure, from within callbacks. */
#include "tests/unit/lib/conn_end.h"

START_TEST(bytes_arrive_in_order_and_both_ends_see_the_end)
{
	end_a.to_send = 300000;
	end_a.end_when_sent = true;
	end_b.stop_on_eof = true;
	end_dial_kind(_i);
	loop_run(end_loop);
	ck_assert_uint_eq(end_a.opens, 1);
	ck_assert_uint_eq(end_b.opens, (unsigned)_i); /* an accepted plain one is open from the start */
	ck_assert_uint_eq(end_b.got, end_a.to_send);
	ck_assert(end_b.eof && conn_tx_ended(end_a.c));
	ck_assert_uint_eq(conn_rx_bytes(end_b.c), end_a.to_send);
	ck_assert_uint_eq(conn_tx_bytes(end_a.c), end_a.to_send);
	/* the other direction is still open */
	end_b.to_send = 70000;
	end_b.end_when_sent = true;
	end_a.stop_on_eof = true;
	end_pump(&end_b);
	loop_run(end_loop);
	ck_assert_uint_eq(end_a.got, end_b.to_send);
	ck_assert_uint_eq(end_a.fails + end_b.fails, 0);
}
END_TEST

START_TEST(a_reset_is_a_failure_once)
{
	char text[ADDR_TEXT_MAX];

	end_open_both(_i);
	end_a.stop_on_fail = true;
	conn_reset(&end_b.c);
	loop_run(end_loop);
	ck_assert_int_eq(end_a.err.code, ERR_CLOSED);
	ck_assert_ptr_nonnull(strstr(end_a.err.text, addr_text(&end_at, text)));
	ck_assert_ptr_nonnull(strstr(end_a.err.text, "reset"));
	ck_assert(!end_a.eof && !conn_is_open(end_a.c));
	buf_add(conn_tx(end_a.c), "x", 1); /* what the user does before it closes is harmless */
	conn_flush(end_a.c);
	conn_end_tx(end_a.c);
	conn_rx_kick(end_a.c);
	end_run_for(20);
	ck_assert_uint_eq(end_a.fails, 1);
}
END_TEST

START_TEST(fin_within_tls_is_truncation)
{
	end_open_both(1);
	end_b.to_send = 1000;
	end_pump(&end_b);
	end_a.stop_at = 1000;
	loop_run(end_loop);
	end_a.stop_on_fail = true;
	shutdown(conn_fd(end_b.c), SHUT_WR);
	loop_run(end_loop);
	ck_assert_int_eq(end_a.err.code, ERR_CLOSED);
	ck_assert_ptr_nonnull(strstr(end_a.err.text, "without close_notify"));
	ck_assert(!end_a.eof);
	ck_assert_uint_eq(end_a.got, 1000);
}
END_TEST

START_TEST(closing_with_unsent_bytes_is_not_an_orderly_end)
{
	end_open_both(1);
	end_a.stop_on_fail = true;
	buf_add(conn_tx(end_b.c), "lost", 4);
	conn_close(&end_b.c);
	loop_run(end_loop);
	ck_assert_uint_eq(end_a.fails, 1);
	ck_assert(!end_a.eof);
}
END_TEST

START_TEST(an_early_answer_is_read_although_writing_failed)
{
	end_open_both(_i);
	end_a.keep = true;
	/* b answers and goes; a learns of it by a write, with the answer still unread */
	conn_rx_pause(end_a.c, true);
	buf_add_str(conn_tx(end_b.c), STR("413"));
	conn_flush(end_b.c);
	end_run_for(20);
	conn_reset(&end_b.c);
	end_run_for(20);
	ck_assert_uint_eq(end_a.rxs, 0);
	end_a.stop_on_fail = true;
	conn_rx_pause(end_a.c, false);
	buf_add_str(conn_tx(end_a.c), STR("more of the request"));
	conn_flush(end_a.c);
	loop_run(end_loop);
	ck_assert_uint_eq(end_a.fails, 1);
	ck_assert_uint_eq(conn_rx(end_a.c)->len, 3);
}
END_TEST

START_TEST(a_paused_reader_sees_a_failed_write)
{
	end_open_both(_i);
	conn_rx_pause(end_a.c, true);
	end_run_for(5);
	conn_reset(&end_b.c);
	end_run_for(20);
	ck_assert_uint_eq(end_a.fails, 0);
	end_a.stop_on_fail = true;
	buf_add_str(conn_tx(end_a.c), STR("x"));
	conn_flush(end_a.c);
	loop_run(end_loop);
	ck_assert_int_eq(end_a.err.code, ERR_CLOSED);
}
END_TEST

START_TEST(close_flushed_delivers_although_the_peer_still_sends)
{
	end_open_both(_i);
	end_a.to_send = 1 << 20; /* a goes on sending what b never reads */
	end_a.keep = true;
	end_a.stop_on_eof = true;
	conn_rx_pause(end_b.c, true);
	end_pump(&end_a);
	end_run_for(10);
	buf_add_str(conn_tx(end_b.c), STR("HTTP/1.1 413 "));
	conn_close_flushed(&end_b.c);
	ck_assert_ptr_null(end_b.c);
	loop_run(end_loop);
	ck_assert(end_a.eof);
	ck_assert_uint_eq(end_a.fails, 0);
	ck_assert_uint_eq(conn_rx(end_a.c)->len, 13);
}
END_TEST

START_TEST(a_lingering_connection_goes_with_the_loop)
{
	end_open_both(_i);
	end_a.keep = true;
	buf_add_str(conn_tx(end_b.c), STR("bye"));
	conn_close_flushed(&end_b.c); /* LeakSanitizer looks whether teardown frees it */
	end_run_for(5);
}
END_TEST

static void on_rx_close(void *ctx)
{
	struct end *e = ctx;

	conn_close(&e->c);
	loop_stop(end_loop);
}

static void on_open_close(void *ctx)
{
	struct end *e = ctx;

	e->opens++;
	conn_close(&e->c);
	loop_stop(end_loop);
}

static void on_fail_close(void *ctx, const struct err *err)
{
	struct end *e = ctx;

	e->fails++;
	conn_close(&e->c);
	loop_stop(end_loop);
}

static const struct conn_events closing_events = {on_open_close, on_rx_close, NULL, on_fail_close};

START_TEST(closing_from_each_callback_is_safe)
{
	struct conn_dial d = {.to = end_at, .tls = _i ? end_tls.client : NULL};

	end_accept_tls = _i ? end_tls.server : NULL;
	end_a.c = conn_open(end_loop, &d, &closing_events, &end_a); /* on_open */
	loop_run(end_loop);
	ck_assert_ptr_null(end_a.c);
	ck_assert_uint_eq(end_a.opens, 1);
	end_run_for(20);
	conn_close(&end_b.c);
	end_a.opens = 0;
	end_open_both(_i);
	conn_set_events(end_a.c, &closing_events, &end_a); /* on_rx */
	buf_add_str(conn_tx(end_b.c), STR("x"));
	conn_flush(end_b.c);
	loop_run(end_loop);
	ck_assert_ptr_null(end_a.c);
	end_run_for(20);
	conn_close(&end_b.c);
	end_a.opens = 0;
	end_open_both(_i);
	conn_set_events(end_a.c, &closing_events, &end_a); /* on_fail */
	conn_reset(&end_b.c);
	loop_run(end_loop);
	ck_assert_ptr_null(end_a.c);
	ck_assert_uint_eq(end_a.fails, 1);
}
END_TEST

Suite *conn_suite(void);
Suite *conn_suite(void)
{
	Suite *s = suite_create("conn");
	TCase *t = tcase_create("conn");

	tcase_add_checked_fixture(t, end_setup, end_teardown);
	tcase_set_timeout(t, 20);
	tcase_add_loop_test(t, bytes_arrive_in_order_and_both_ends_see_the_end, 0, 2); /* plain, TLS */
	tcase_add_loop_test(t, a_reset_is_a_failure_once, 0, 2);                       /* plain, TLS */
	tcase_add_test(t, fin_within_tls_is_truncation);
	tcase_add_test(t, closing_with_unsent_bytes_is_not_an_orderly_end);
	tcase_add_loop_test(t, an_early_answer_is_read_although_writing_failed, 0, 2);      /* plain, TLS */
	tcase_add_loop_test(t, a_paused_reader_sees_a_failed_write, 0, 2);                  /* plain, TLS */
	tcase_add_loop_test(t, close_flushed_delivers_although_the_peer_still_sends, 0, 2); /* plain, TLS */
	tcase_add_loop_test(t, a_lingering_connection_goes_with_the_loop, 0, 2);            /* plain, TLS */
	tcase_add_loop_test(t, closing_from_each_callback_is_safe, 0, 2);                   /* plain, TLS */
	suite_add_tcase(s, t);
	return s;
}
