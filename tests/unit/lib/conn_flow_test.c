/* SPDX-License-Identifier: Apache-2.0 */
/* conn_flow_test.c: how bytes flow: marks, pauses, turns, keys that change, and the memory it takes. */
#include "tests/unit/lib/conn_end.h"

#include <malloc.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

static size_t heap_now(void)
{
	return mallinfo2().uordblks;
}

#ifdef __SANITIZE_ADDRESS__
#define STREAM_BYTES (20ull << 20)
#else
#define STREAM_BYTES (100ull << 20)
#endif

START_TEST(long_streams_both_ways_keep_within_the_marks)
{
	end_a.to_send = end_b.to_send = STREAM_BYTES;
	end_a.end_when_sent = end_b.end_when_sent = true;
	end_a.stop_on_eof = end_b.stop_on_eof = true;
	timer_start(&end_deadline, 3 * DEADLINE_MS);
	end_a.stop_on_open = true;
	end_dial_kind(_i);
	loop_run(end_loop);
	size_t before = heap_now();
	if (!_i)
		end_pump(&end_b); /* an accepted plain one has no on_open */
	while (!end_a.eof || !end_b.eof)
		loop_run(end_loop);
	ck_assert_uint_eq(end_a.got, STREAM_BYTES);
	ck_assert_uint_eq(end_b.got, STREAM_BYTES);
	ck_assert_uint_gt(end_a.rooms, 0);
	ck_assert_uint_le(end_a.rx_max, 48 << 10);         /* the mark and one read */
	ck_assert_uint_le(end_a.tx_max, 68 << 10);         /* the mark and one block of end_pump() */
	ck_assert_uint_le(heap_now(), before + (3 << 20)); /* the caches of chunks at the most */
}
END_TEST

struct slow {
	struct timer timer;
	struct end *e;
	size_t held_max;
	unsigned ticks;
};

static void on_slow(struct timer *t)
{
	struct slow *s = CONTAINER_OF(t, struct slow, timer);
	struct buf *rx = conn_rx(s->e->c);

	s->held_max = MAX(s->held_max, rx->len);
	s->ticks++;
	s->e->got += rx->len;
	buf_drain(rx, rx->len);
	if (s->e->got == STREAM_BYTES / 20) {
		loop_stop(end_loop);
		return;
	}
	timer_start(t, 1);
}

START_TEST(a_slow_reader_stops_the_writer)
{
	struct slow slow = {.e = &end_b};

	timer_init(&slow.timer, end_loop, on_slow);
	end_a.to_send = STREAM_BYTES / 20;
	end_b.keep = true;
	end_a.stop_on_open = true;
	end_dial_kind(_i);
	loop_run(end_loop);
	while (!end_b.c || !conn_is_open(end_b.c))
		end_run_for(1);
	timer_start(&slow.timer, 1);
	loop_run(end_loop);
	ck_assert_uint_eq(end_b.got, end_a.to_send);
	ck_assert_uint_le(slow.held_max, 48 << 10);
	ck_assert_uint_le(end_a.tx_max, 68 << 10);
	ck_assert_uint_ge(slow.ticks, end_a.to_send / (48 << 10));
}
END_TEST

static double cpu_s(void)
{
	return (double)clock() / CLOCKS_PER_SEC;
}

START_TEST(a_paused_reader_neither_reads_nor_spins)
{
	end_a.to_send = 4 << 20;
	end_a.stop_on_open = true;
	end_dial_kind(_i);
	loop_run(end_loop);
	while (!end_b.c || !conn_is_open(end_b.c))
		end_run_for(1);
	conn_rx_pause(end_b.c, true);
	end_run_for(50);
	uint64_t got = end_b.got;
	double before = cpu_s();
	end_run_for(300);
	ck_assert_uint_eq(end_b.got, got);
	ck_assert(cpu_s() - before < 0.15);
	conn_rx_pause(end_b.c, false);
	end_b.stop_at = end_a.to_send;
	loop_run(end_loop);
	ck_assert_uint_eq(end_b.got, end_a.to_send);
}
END_TEST

START_TEST(a_kick_comes_at_the_end_of_the_turn_only)
{
	end_open_both(_i);
	end_a.keep = true;
	conn_rx_kick(end_a.c);
	ck_assert_uint_eq(end_a.rxs, 0);
	end_run_for(5);
	ck_assert_uint_eq(end_a.rxs, 1);
}
END_TEST

START_TEST(draining_a_full_buffer_later_resumes_reading)
{
	end_open_both(_i);
	end_a.keep = true;
	end_b.to_send = 1 << 20;
	end_pump(&end_b);
	end_run_for(50);
	ck_assert_uint_ge(conn_rx(end_a.c)->len, 32 << 10);
	ck_assert_uint_le(conn_rx(end_a.c)->len, 48 << 10);
	end_run_for(5);
	end_a.keep = false;
	end_a.stop_at = end_b.to_send;
	end_on_rx(&end_a);
	loop_run(end_loop);
	ck_assert_uint_eq(end_a.got, end_b.to_send);
}
END_TEST

START_TEST(small_writes_of_a_turn_leave_together)
{
	int pair[2];
	char got[64];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	end_a.c = conn_new(end_loop, pair[0], &end_events, &end_a);
	for (int i = 0; i < 10; i++) {
		buf_add(conn_tx(end_a.c), "ab", 2);
		conn_flush(end_a.c);
		ck_assert_int_eq(read(pair[1], got, sizeof(got)), -1);
	}
	end_run_for(1);
	ck_assert_int_eq(read(pair[1], got, sizeof(got)), 20);
	close(pair[1]);
}
END_TEST

#ifdef __SANITIZE_ADDRESS__
#define IDLE_MAX SIZE_MAX /* the sanitizer's heap tells nothing */
#else
#define IDLE_MAX (40u << 10) /* both ends; OpenSSL's record buffers alone would be 33 KiB an end */
#endif

START_TEST(an_idle_tls_connection_holds_little)
{
	enum { N = 20 };
	struct conn *held[N + 1][2];
	size_t before = 0;

	for (int i = 0; i <= N; i++) {
		struct conn_dial d = {.to = end_at, .tls = end_tls.client};

		if (i == 1) { /* the first made what is made once */
			conn_rest_all(end_loop);
			before = heap_now();
		}
		end_accept_tls = end_tls.server;
		end_a.opens = end_b.opens = 0;
		end_b.c = NULL;
		end_a.c = conn_open(end_loop, &d, &end_events, &end_a);
		while (!end_a.opens || !end_b.opens)
			end_run_for(2);
		end_a.sent = 0;
		end_a.to_send = 1000;
		end_b.keep = true;
		end_pump(&end_a);
		while (conn_rx_bytes(end_b.c) < 1000)
			end_run_for(2);
		buf_drain(conn_rx(end_b.c), 1000);
		held[i][0] = end_a.c;
		held[i][1] = end_b.c;
		end_a.to_send = 0;
	}
	ck_assert_uint_eq(conn_rest_all(end_loop), 8); /* of 42 those used last */
	ck_assert_uint_eq(conn_rest_all(end_loop), 0);
	size_t now = heap_now();
	ck_assert_uint_le(now > before ? (now - before) / N : 0, IDLE_MAX);
	end_a.c = held[0][0];
	end_b.c = held[0][1];
	end_a.to_send = 2000;
	end_pump(&end_a);
	while (conn_rx_bytes(end_b.c) < 2000)
		end_run_for(2);
	buf_drain(conn_rx(end_b.c), 1000);
	ck_assert_uint_eq(conn_rest_all(end_loop), 2);
	for (int i = 0; i <= N; i++) {
		conn_close(&held[i][0]);
		conn_close(&held[i][1]);
	}
	end_a.c = end_b.c = NULL;
}
END_TEST

START_TEST(keys_change_within_a_stream)
{
	end_open_both(1);
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(SSL_key_update(conn_ssl(_i ? end_a.c : end_b.c), SSL_KEY_UPDATE_REQUESTED), 1);
		end_a.to_send += 100000;
		end_b.to_send += 100000;
		end_pump(&end_a);
		end_pump(&end_b);
		while (end_a.got < end_a.to_send || end_b.got < end_b.to_send)
			end_run_for(2);
	}
	ck_assert_uint_eq(end_a.fails + end_b.fails, 0);
}
END_TEST

/* In 22 bytes each, with work for the other end. */
START_TEST(keys_that_change_all_the_time_end_the_connection)
{
	end_open_both(1);
	for (int i = 0; i < 200 && end_b.fails == 0; i++) {
		ck_assert_int_eq(
		    SSL_key_update(conn_ssl(end_a.c), _i ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED), 1);
		ck_assert_int_ge(SSL_do_handshake(conn_ssl(end_a.c)), -1); /* sends it, without data */
		end_run_for(1);
		ck_assert_msg(i < 100, "%d and still open", i);
	}
	ck_assert_uint_eq(end_b.fails, 1);
	ck_assert_int_eq(end_b.err.code, ERR_LIMIT);
}
END_TEST

static void on_rx_count(void *ctx)
{
	struct end *e = ctx;
	struct buf *rx = conn_rx(e->c);

	e->got += rx->len;
	buf_drain(rx, rx->len);
}

static void on_turn(struct task *t)
{
	loop_stop(end_loop);
}

START_TEST(one_connection_reads_a_bounded_amount_a_turn)
{
	static const struct conn_events counting = {.on_rx = on_rx_count, .on_fail = end_on_fail};
	int big = 4 << 20;
	struct task stop;

	end_open_both(0);
	conn_set_events(end_b.c, &counting, &end_b);
	setsockopt(conn_fd(end_b.c), SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof(big));
	setsockopt(conn_fd(end_a.c), SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof(big));
	conn_rx_pause(end_b.c, true);
	conn_set_marks(end_a.c, 32 << 10, 2 << 20);
	end_a.to_send = 1 << 20;
	end_pump(&end_a);
	end_run_for(50); /* 1 MiB waits in the kernel */
	conn_rx_pause(end_b.c, false);
	uint64_t most = 0;
	while (end_b.got < end_a.to_send) {
		uint64_t before = end_b.got;
		task_init(&stop, on_turn);
		loop_next_turn(end_loop, &stop);
		loop_run(end_loop);
		most = MAX(most, end_b.got - before);
	}
	ck_assert_uint_le(most, 256 << 10);
	ck_assert_uint_gt(most, 16 << 10);
}
END_TEST

Suite *conn_flow_suite(void);
Suite *conn_flow_suite(void)
{
	Suite *s = suite_create("conn_flow");
	TCase *t = tcase_create("conn");

	tcase_add_checked_fixture(t, end_setup, end_teardown);
	tcase_set_timeout(t, 20);
	tcase_add_loop_test(t, long_streams_both_ways_keep_within_the_marks, 0, 2); /* plain, TLS */
	tcase_add_loop_test(t, a_slow_reader_stops_the_writer, 0, 2);               /* plain, TLS */
	tcase_add_loop_test(t, a_paused_reader_neither_reads_nor_spins, 0, 2);      /* plain, TLS */
	tcase_add_loop_test(t, a_kick_comes_at_the_end_of_the_turn_only, 0, 2);     /* plain, TLS */
	tcase_add_loop_test(t, draining_a_full_buffer_later_resumes_reading, 0, 2); /* plain, TLS */
	tcase_add_test(t, small_writes_of_a_turn_leave_together);
	tcase_add_test(t, an_idle_tls_connection_holds_little);
	tcase_add_loop_test(t, keys_change_within_a_stream, 0, 2); /* asked by b, by a */
	tcase_add_loop_test(t, keys_that_change_all_the_time_end_the_connection, 0, 2);
	tcase_add_test(t, one_connection_reads_a_bounded_amount_a_turn);
	suite_add_tcase(s, t);
	return s;
}
