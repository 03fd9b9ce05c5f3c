/* SPDX-License-Identifier: Apache-2.0 */
/* conn_dial_test.c: how connections begin: dials, handshakes and their refusals. */
#include "lib/chunk.h"
#include "tests/unit/lib/conn_end.h"

#include <sys/socket.h>

START_TEST(a_refused_dial_names_the_peer)
{
	char text[ADDR_TEXT_MAX];

	listener_free(&end_listener);
	end_a.stop_on_fail = true;
	end_dial_kind(_i);
	ck_assert_uint_eq(end_a.fails, 0);
	loop_run(end_loop);
	ck_assert_uint_eq(end_a.fails, 1);
	ck_assert_int_eq(end_a.err.code, ERR_SYSTEM);
	ck_assert_ptr_nonnull(strstr(end_a.err.text, addr_text(&end_at, text)));
	ck_assert_ptr_nonnull(strstr(end_a.err.text, "refused"));
}
END_TEST

START_TEST(a_distrusted_server_is_named_by_both_ends)
{
	end_a.stop_on_fail = false;
	end_b.stop_on_fail = true;
	end_dial(end_tls.doubter, end_tls.server);
	loop_run(end_loop);
	while (end_a.fails == 0 || end_b.fails == 0)
		loop_run(end_loop);
	ck_assert_int_eq(end_a.err.code, ERR_TLS);
	ck_assert_ptr_nonnull(strstr(end_a.err.text, "its certificate is refused: self-signed certificate"));
	ck_assert_ptr_nonnull(strstr(end_b.err.text, "alert unknown ca"));
	ck_assert_uint_eq(end_a.opens + end_b.opens, 0);
}
END_TEST

START_TEST(a_silent_server_times_the_handshake_out)
{
	struct conn_dial d = {.to = end_at, .tls = end_tls.client, .timeout_ms = 30};

	end_b.keep = true;
	end_a.stop_on_fail = true;
	end_a.c = conn_open(end_loop, &d, &end_events, &end_a); /* b stays plain and says nothing */
	loop_run(end_loop);
	ck_assert_int_eq(end_a.err.code, ERR_TIMEOUT);
	ck_assert_ptr_nonnull(strstr(end_a.err.text, "TLS handshake"));
	ck_assert_ptr_nonnull(strstr(end_a.err.text, "30 ms"));
}
END_TEST

START_TEST(rubbish_instead_of_a_handshake_is_refused)
{
	struct conn_dial d = {.to = end_at};

	end_accept_tls = end_tls.server;
	end_b.stop_on_fail = true;
	end_a.keep = true;
	end_a.c = conn_open(end_loop, &d, &end_events, &end_a);
	buf_add_str(conn_tx(end_a.c), STR("GET / HTTP/1.1\r\n\r\n"));
	loop_run(end_loop);
	ck_assert_int_eq(end_b.err.code, ERR_TLS);
	ck_assert_ptr_nonnull(strstr(end_b.err.text, "TLS handshake with 127.0.0.1:"));
	ck_assert_ptr_nonnull(strstr(end_b.err.text, "http request"));
}
END_TEST

/* --- peeked bytes --- */

static void on_rx_detect(void *ctx)
{
	struct buf *rx = conn_rx(end_b.c);

	if (rx->len < 100)
		return; /* as detection would wait */
	ck_assert_uint_eq((uint8_t)buf_peek(rx).p[0], 0x16);
	conn_set_events(end_b.c, &end_events, &end_b);
	conn_tls_accept(end_b.c, end_tls.server, NULL, DEADLINE_MS);
}

static const struct conn_events detect_events = {.on_rx = on_rx_detect, .on_fail = end_on_fail};

static void on_accept_detect(void *ctx, int fd)
{
	end_b.c = conn_new(end_loop, fd, &detect_events, &end_b);
}

START_TEST(peeked_bytes_begin_the_handshake)
{
	struct err err;

	listener_free(&end_listener);
	end_at.port = 0;
	int fd = sock_listen_tcp(&end_at, false, 16, &err);
	ck_assert(fd >= 0 && sock_local(fd, &end_at));
	end_listener = listener_new(end_loop, fd, on_accept_detect, NULL);
	end_a.to_send = 50000;
	end_b.stop_at = 50000;
	end_dial(end_tls.client, NULL);
	loop_run(end_loop);
	ck_assert_uint_eq(end_b.got, 50000);
	ck_assert_uint_eq(conn_rx_bytes(end_b.c), 50000);
	ck_assert_uint_eq(end_b.opens, 1);
}
END_TEST

START_TEST(one_held_for_want_of_memory_is_read_after_its_handshake)
{
	void *some = chunk_get(CHUNK_2K); /* with nothing taken nothing is too much */
	chunk_hold();
	end_dial(end_tls.client, NULL);
	end_run_for(20); /* the ClientHello is there, and waits */
	ck_assert_ptr_nonnull(end_b.c);
	ck_assert_uint_eq(conn_rx_bytes(end_b.c), 0);
	conn_tls_accept(end_b.c, end_tls.server, NULL, DEADLINE_MS);
	chunk_trip(SIZE_MAX, NULL);
	chunk_put(some, CHUNK_2K);
	while (end_a.opens + end_b.opens < 2)
		end_run_for(2);
	end_run_for(20); /* nothing waits within OpenSSL: the descriptor has to tell */
	end_a.to_send = 50000;
	end_b.stop_at = 50000;
	end_pump(&end_a);
	loop_run(end_loop);
	ck_assert_uint_eq(end_b.got, 50000);
}
END_TEST

/* --- sockets --- */

static bool prepare_seen(void *arg, int fd, struct err *err)
{
	*(int *)arg = fd;
	return true;
}

static bool prepare_refuses(void *arg, int fd, struct err *err)
{
	return err_set(err, ERR_DENIED, "capture does not answer");
}

START_TEST(a_dial_binds_its_source_and_prepares_its_socket)
{
	int seen = -1;
	struct conn_dial d = {.to = end_at, .prepare = prepare_seen, .prepare_arg = &seen};

	ck_assert(addr_parse(STR("127.0.0.6:0"), &d.from));
	end_a.stop_on_open = true;
	end_a.c = conn_open(end_loop, &d, &end_events, &end_a);
	ck_assert_int_eq(seen, conn_fd(end_a.c));
	loop_run(end_loop);
	struct addr from;
	ck_assert(sock_local(conn_fd(end_a.c), &from));
	ck_assert(ip_eq(&from.ip, &d.from.ip));
	while (!end_b.c)
		end_run_for(1);
	ck_assert(addr_eq(conn_peer(end_b.c), &from));
	conn_close(&end_a.c);
	d.prepare = prepare_refuses;
	end_a.stop_on_fail = true;
	end_a.c = conn_open(end_loop, &d, &end_events, &end_a);
	loop_run(end_loop);
	ck_assert_int_eq(end_a.err.code, ERR_DENIED);
}
END_TEST

START_TEST(a_dial_to_a_missing_unix_socket_fails_by_callback)
{
	struct conn_dial d = {.unix_path = "/nonexistent/weft.sock"};

	end_a.stop_on_fail = true;
	end_a.c = conn_open(end_loop, &d, &end_events, &end_a);
	ck_assert_uint_eq(end_a.fails, 0);
	loop_run(end_loop);
	ck_assert_ptr_nonnull(strstr(end_a.err.text, "/nonexistent/weft.sock: No such file"));
}
END_TEST

Suite *conn_dial_suite(void);
Suite *conn_dial_suite(void)
{
	Suite *s = suite_create("conn_dial");
	TCase *t = tcase_create("conn");

	tcase_add_checked_fixture(t, end_setup, end_teardown);
	tcase_set_timeout(t, 20);
	tcase_add_loop_test(t, a_refused_dial_names_the_peer, 0, 2); /* plain, TLS */
	tcase_add_test(t, a_distrusted_server_is_named_by_both_ends);
	tcase_add_test(t, a_silent_server_times_the_handshake_out);
	tcase_add_test(t, rubbish_instead_of_a_handshake_is_refused);
	tcase_add_test(t, peeked_bytes_begin_the_handshake);
	tcase_add_test(t, one_held_for_want_of_memory_is_read_after_its_handshake);
	tcase_add_test(t, a_dial_binds_its_source_and_prepares_its_socket);
	tcase_add_test(t, a_dial_to_a_missing_unix_socket_fails_by_callback);
	suite_add_tcase(s, t);
	return s;
}
