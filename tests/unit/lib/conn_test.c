/* SPDX-License-Identifier: Apache-2.0 */
/* conn_test.c: two connections on one loop, plain and TLS, over loopback TCP. Every loop run has a deadline. */
#include "lib/chunk.h"
#include "lib/conn.h"
#include "lib/listener.h"
#include "lib/mem.h"
#include "tests/unit/lib/tls_pair.h"

#include <check.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define DEADLINE_MS 5000

/* One end: counts what it hears of, checks what it receives against a stream of known bytes. */
struct end {
	struct conn *c;
	struct loop *loop;
	unsigned opens, rxs, rooms, fails;
	struct err err;
	uint64_t got, to_send, sent;
	size_t rx_max, tx_max; /* most bytes seen in the buffers */
	bool keep;             /* does not drain */
	bool echo;
	bool end_when_sent;
	bool eof;
	uint64_t stop_at; /* stops the loop when so many bytes are in */
	bool stop_on_open, stop_on_eof, stop_on_fail;
};

static struct tls_pair tls;
static struct loop *loop;
static struct timer deadline;
static struct end a, b; /* a dials, b accepts */
static struct listener *listener;
static struct addr at;
static SSL_CTX *accept_tls;

static uint8_t byte_at(uint64_t i)
{
	return (uint8_t)(i * 2654435761u >> 13);
}

static void pump(struct end *e)
{
	uint8_t block[4096];

	while (e->sent < e->to_send && !conn_tx_full(e->c)) {
		size_t n = MIN(sizeof(block), e->to_send - e->sent);
		for (size_t i = 0; i < n; i++)
			block[i] = byte_at(e->sent + i);
		buf_add(conn_tx(e->c), block, n);
		e->sent += n;
	}
	e->tx_max = MAX(e->tx_max, conn_tx(e->c)->len);
	if (e->end_when_sent && e->sent == e->to_send)
		conn_end_tx(e->c);
	conn_flush(e->c);
}

static void on_open(void *ctx)
{
	struct end *e = ctx;

	e->opens++;
	ck_assert(conn_is_open(e->c));
	if (e->stop_on_open)
		loop_stop(loop);
	pump(e);
}

static void on_rx(void *ctx)
{
	struct end *e = ctx;
	struct buf *rx = conn_rx(e->c);

	e->rxs++;
	e->rx_max = MAX(e->rx_max, rx->len);
	if (e->echo) {
		buf_move(conn_tx(e->c), rx, rx->len);
		conn_flush(e->c);
	}
	while (!e->keep && rx->len > 0) {
		struct str piece = buf_peek(rx);
		size_t same = 0; /* one assertion a piece: each is written to a file */
		while (same < piece.len && (uint8_t)piece.p[same] == byte_at(e->got + same))
			same++;
		ck_assert_uint_eq(same, piece.len);
		e->got += piece.len;
		buf_drain(rx, piece.len);
	}
	if (e->stop_at && e->got >= e->stop_at)
		loop_stop(loop);
	e->eof = conn_rx_eof(e->c);
	if (e->eof && e->stop_on_eof)
		loop_stop(loop);
}

static void on_tx_room(void *ctx)
{
	struct end *e = ctx;

	e->rooms++;
	pump(e);
}

static void on_fail(void *ctx, const struct err *err)
{
	struct end *e = ctx;

	e->fails++;
	e->err = *err;
	if (e->stop_on_fail)
		loop_stop(loop);
}

static const struct conn_events events = {on_open, on_rx, on_tx_room, on_fail};

static void on_deadline(struct timer *t)
{
	ck_abort_msg("nothing happened until the deadline");
}

static void on_accept(void *ctx, int fd)
{
	b.c = conn_new(loop, fd, &events, &b);
	if (accept_tls)
		conn_tls_accept(b.c, accept_tls, NULL, DEADLINE_MS);
}

static void setup(void)
{
	struct err err;

	tls_pair_init(&tls);
	loop = loop_new(&err);
	ck_assert(loop);
	timer_init(&deadline, loop, on_deadline);
	timer_start(&deadline, DEADLINE_MS);
	a = b = (struct end){0};
	accept_tls = NULL;
	ck_assert(addr_parse(STR("127.0.0.1:0"), &at));
	int fd = sock_listen_tcp(&at, false, 16, &err);
	ck_assert_msg(fd >= 0, "%s", err.text);
	ck_assert(sock_local(fd, &at));
	listener = listener_new(loop, fd, on_accept, NULL);
}

static void teardown(void)
{
	conn_close(&a.c);
	conn_close(&b.c);
	listener_free(&listener);
	timer_stop(&deadline);
	loop_free(&loop);
	tls_pair_done(&tls);
}

static void dial(SSL_CTX *client, SSL_CTX *server)
{
	struct conn_dial d = {.to = at, .tls = client, .timeout_ms = DEADLINE_MS};

	accept_tls = server;
	a.c = conn_open(loop, &d, &events, &a);
}

static void dial_kind(int kind)
{
	dial(kind ? tls.client : NULL, kind ? tls.server : NULL);
}

START_TEST(bytes_arrive_in_order_and_both_ends_see_the_end)
{
	a.to_send = 300000;
	a.end_when_sent = true;
	b.stop_on_eof = true;
	dial_kind(_i);
	loop_run(loop);
	ck_assert_uint_eq(a.opens, 1);
	ck_assert_uint_eq(b.opens, (unsigned)_i); /* an accepted plain one is open from the start */
	ck_assert_uint_eq(b.got, a.to_send);
	ck_assert(b.eof && conn_tx_ended(a.c));
	ck_assert_uint_eq(conn_rx_bytes(b.c), a.to_send);
	ck_assert_uint_eq(conn_tx_bytes(a.c), a.to_send);
	/* the other direction is still open */
	b.to_send = 70000;
	b.end_when_sent = true;
	a.stop_on_eof = true;
	pump(&b);
	loop_run(loop);
	ck_assert_uint_eq(a.got, b.to_send);
	ck_assert_uint_eq(a.fails + b.fails, 0);
}
END_TEST

START_TEST(a_refused_dial_names_the_peer)
{
	char text[ADDR_TEXT_MAX];

	listener_free(&listener);
	a.stop_on_fail = true;
	dial_kind(_i);
	ck_assert_uint_eq(a.fails, 0);
	loop_run(loop);
	ck_assert_uint_eq(a.fails, 1);
	ck_assert_int_eq(a.err.code, ERR_SYSTEM);
	ck_assert_ptr_nonnull(strstr(a.err.text, addr_text(&at, text)));
	ck_assert_ptr_nonnull(strstr(a.err.text, "refused"));
}
END_TEST

START_TEST(a_distrusted_server_is_named_by_both_ends)
{
	a.stop_on_fail = false;
	b.stop_on_fail = true;
	dial(tls.doubter, tls.server);
	loop_run(loop);
	while (a.fails == 0 || b.fails == 0)
		loop_run(loop);
	ck_assert_int_eq(a.err.code, ERR_TLS);
	ck_assert_ptr_nonnull(strstr(a.err.text, "its certificate is refused: self-signed certificate"));
	ck_assert_ptr_nonnull(strstr(b.err.text, "alert unknown ca"));
	ck_assert_uint_eq(a.opens + b.opens, 0);
}
END_TEST

static void on_stop(struct timer *t)
{
	loop_stop(loop);
}

static void run_for(uint64_t ms)
{
	struct timer t;

	timer_init(&t, loop, on_stop);
	timer_start(&t, ms);
	loop_run(loop);
	timer_stop(&t);
}

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
	a.to_send = b.to_send = STREAM_BYTES;
	a.end_when_sent = b.end_when_sent = true;
	a.stop_on_eof = b.stop_on_eof = true;
	timer_start(&deadline, 3 * DEADLINE_MS);
	a.stop_on_open = true;
	dial_kind(_i);
	loop_run(loop);
	size_t before = heap_now();
	if (!_i)
		pump(&b); /* an accepted plain one has no on_open */
	while (!a.eof || !b.eof)
		loop_run(loop);
	ck_assert_uint_eq(a.got, STREAM_BYTES);
	ck_assert_uint_eq(b.got, STREAM_BYTES);
	ck_assert_uint_gt(a.rooms, 0);
	ck_assert_uint_le(a.rx_max, 48 << 10);             /* the mark and one read */
	ck_assert_uint_le(a.tx_max, 68 << 10);             /* the mark and one block of pump() */
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
		loop_stop(loop);
		return;
	}
	timer_start(t, 1);
}

START_TEST(a_slow_reader_stops_the_writer)
{
	struct slow slow = {.e = &b};

	timer_init(&slow.timer, loop, on_slow);
	a.to_send = STREAM_BYTES / 20;
	b.keep = true;
	a.stop_on_open = true;
	dial_kind(_i);
	loop_run(loop);
	while (!b.c || !conn_is_open(b.c))
		run_for(1);
	timer_start(&slow.timer, 1);
	loop_run(loop);
	ck_assert_uint_eq(b.got, a.to_send);
	ck_assert_uint_le(slow.held_max, 48 << 10);
	ck_assert_uint_le(a.tx_max, 68 << 10);
	ck_assert_uint_ge(slow.ticks, a.to_send / (48 << 10));
}
END_TEST

static double cpu_s(void)
{
	return (double)clock() / CLOCKS_PER_SEC;
}

START_TEST(a_paused_reader_neither_reads_nor_spins)
{
	a.to_send = 4 << 20;
	a.stop_on_open = true;
	dial_kind(_i);
	loop_run(loop);
	while (!b.c || !conn_is_open(b.c))
		run_for(1);
	conn_rx_pause(b.c, true);
	run_for(50);
	uint64_t got = b.got;
	double before = cpu_s();
	run_for(300);
	ck_assert_uint_eq(b.got, got);
	ck_assert(cpu_s() - before < 0.15);
	conn_rx_pause(b.c, false);
	b.stop_at = a.to_send;
	loop_run(loop);
	ck_assert_uint_eq(b.got, a.to_send);
}
END_TEST

static void open_both(int kind)
{
	a.stop_on_open = true;
	b.stop_on_open = kind;
	dial_kind(kind);
	while (!a.opens || !b.c || !conn_is_open(b.c))
		run_for(5);
	a.stop_on_open = b.stop_on_open = false;
}

START_TEST(a_reset_is_a_failure_once)
{
	char text[ADDR_TEXT_MAX];

	open_both(_i);
	a.stop_on_fail = true;
	conn_reset(&b.c);
	loop_run(loop);
	ck_assert_int_eq(a.err.code, ERR_CLOSED);
	ck_assert_ptr_nonnull(strstr(a.err.text, addr_text(&at, text)));
	ck_assert_ptr_nonnull(strstr(a.err.text, "reset"));
	ck_assert(!a.eof && !conn_is_open(a.c));
	buf_add(conn_tx(a.c), "x", 1); /* what the user does before it closes is harmless */
	conn_flush(a.c);
	conn_end_tx(a.c);
	conn_rx_kick(a.c);
	run_for(20);
	ck_assert_uint_eq(a.fails, 1);
}
END_TEST

START_TEST(fin_within_tls_is_truncation)
{
	open_both(1);
	b.to_send = 1000;
	pump(&b);
	a.stop_at = 1000;
	loop_run(loop);
	a.stop_on_fail = true;
	shutdown(conn_fd(b.c), SHUT_WR);
	loop_run(loop);
	ck_assert_int_eq(a.err.code, ERR_CLOSED);
	ck_assert_ptr_nonnull(strstr(a.err.text, "without close_notify"));
	ck_assert(!a.eof);
	ck_assert_uint_eq(a.got, 1000);
}
END_TEST

START_TEST(closing_with_unsent_bytes_is_not_an_orderly_end)
{
	open_both(1);
	a.stop_on_fail = true;
	buf_add(conn_tx(b.c), "lost", 4);
	conn_close(&b.c);
	loop_run(loop);
	ck_assert_uint_eq(a.fails, 1);
	ck_assert(!a.eof);
}
END_TEST

START_TEST(an_early_answer_is_read_although_writing_failed)
{
	open_both(_i);
	a.keep = true;
	/* b answers and goes; a learns of it by a write, with the answer still unread */
	conn_rx_pause(a.c, true);
	buf_add_str(conn_tx(b.c), STR("413"));
	conn_flush(b.c);
	run_for(20);
	conn_reset(&b.c);
	run_for(20);
	ck_assert_uint_eq(a.rxs, 0);
	a.stop_on_fail = true;
	conn_rx_pause(a.c, false);
	buf_add_str(conn_tx(a.c), STR("more of the request"));
	conn_flush(a.c);
	loop_run(loop);
	ck_assert_uint_eq(a.fails, 1);
	ck_assert_uint_eq(conn_rx(a.c)->len, 3);
}
END_TEST

START_TEST(a_paused_reader_sees_a_failed_write)
{
	open_both(_i);
	conn_rx_pause(a.c, true);
	run_for(5);
	conn_reset(&b.c);
	run_for(20);
	ck_assert_uint_eq(a.fails, 0);
	a.stop_on_fail = true;
	buf_add_str(conn_tx(a.c), STR("x"));
	conn_flush(a.c);
	loop_run(loop);
	ck_assert_int_eq(a.err.code, ERR_CLOSED);
}
END_TEST

START_TEST(a_silent_server_times_the_handshake_out)
{
	struct conn_dial d = {.to = at, .tls = tls.client, .timeout_ms = 30};

	b.keep = true;
	a.stop_on_fail = true;
	a.c = conn_open(loop, &d, &events, &a); /* b stays plain and says nothing */
	loop_run(loop);
	ck_assert_int_eq(a.err.code, ERR_TIMEOUT);
	ck_assert_ptr_nonnull(strstr(a.err.text, "TLS handshake"));
	ck_assert_ptr_nonnull(strstr(a.err.text, "30 ms"));
}
END_TEST

START_TEST(rubbish_instead_of_a_handshake_is_refused)
{
	struct conn_dial d = {.to = at};

	accept_tls = tls.server;
	b.stop_on_fail = true;
	a.keep = true;
	a.c = conn_open(loop, &d, &events, &a);
	buf_add_str(conn_tx(a.c), STR("GET / HTTP/1.1\r\n\r\n"));
	loop_run(loop);
	ck_assert_int_eq(b.err.code, ERR_TLS);
	ck_assert_ptr_nonnull(strstr(b.err.text, "TLS handshake with 127.0.0.1:"));
	ck_assert_ptr_nonnull(strstr(b.err.text, "http request"));
}
END_TEST

/* --- peeked bytes --- */

static void on_rx_detect(void *ctx)
{
	struct buf *rx = conn_rx(b.c);

	if (rx->len < 100)
		return; /* as detection would wait */
	ck_assert_uint_eq((uint8_t)buf_peek(rx).p[0], 0x16);
	conn_set_events(b.c, &events, &b);
	conn_tls_accept(b.c, tls.server, NULL, DEADLINE_MS);
}

static const struct conn_events detect_events = {.on_rx = on_rx_detect, .on_fail = on_fail};

static void on_accept_detect(void *ctx, int fd)
{
	b.c = conn_new(loop, fd, &detect_events, &b);
}

START_TEST(peeked_bytes_begin_the_handshake)
{
	struct err err;

	listener_free(&listener);
	at.port = 0;
	int fd = sock_listen_tcp(&at, false, 16, &err);
	ck_assert(fd >= 0 && sock_local(fd, &at));
	listener = listener_new(loop, fd, on_accept_detect, NULL);
	a.to_send = 50000;
	b.stop_at = 50000;
	dial(tls.client, NULL);
	loop_run(loop);
	ck_assert_uint_eq(b.got, 50000);
	ck_assert_uint_eq(conn_rx_bytes(b.c), 50000);
	ck_assert_uint_eq(b.opens, 1);
}
END_TEST

START_TEST(one_held_for_want_of_memory_is_read_after_its_handshake)
{
	void *some = chunk_get(CHUNK_2K); /* with nothing taken nothing is too much */
	chunk_hold();
	dial(tls.client, NULL);
	run_for(20); /* the ClientHello is there, and waits */
	ck_assert_ptr_nonnull(b.c);
	ck_assert_uint_eq(conn_rx_bytes(b.c), 0);
	conn_tls_accept(b.c, tls.server, NULL, DEADLINE_MS);
	chunk_trip(SIZE_MAX, NULL);
	chunk_put(some, CHUNK_2K);
	while (a.opens + b.opens < 2)
		run_for(2);
	run_for(20); /* nothing waits within OpenSSL: the descriptor has to tell */
	a.to_send = 50000;
	b.stop_at = 50000;
	pump(&a);
	loop_run(loop);
	ck_assert_uint_eq(b.got, 50000);
}
END_TEST

/* --- closing --- */

START_TEST(close_flushed_delivers_although_the_peer_still_sends)
{
	open_both(_i);
	a.to_send = 1 << 20; /* a goes on sending what b never reads */
	a.keep = true;
	a.stop_on_eof = true;
	conn_rx_pause(b.c, true);
	pump(&a);
	run_for(10);
	buf_add_str(conn_tx(b.c), STR("HTTP/1.1 413 "));
	conn_close_flushed(&b.c);
	ck_assert_ptr_null(b.c);
	loop_run(loop);
	ck_assert(a.eof);
	ck_assert_uint_eq(a.fails, 0);
	ck_assert_uint_eq(conn_rx(a.c)->len, 13);
}
END_TEST

START_TEST(a_lingering_connection_goes_with_the_loop)
{
	open_both(_i);
	a.keep = true;
	buf_add_str(conn_tx(b.c), STR("bye"));
	conn_close_flushed(&b.c); /* LeakSanitizer looks whether teardown frees it */
	run_for(5);
}
END_TEST

static void on_rx_close(void *ctx)
{
	struct end *e = ctx;

	conn_close(&e->c);
	loop_stop(loop);
}

static void on_open_close(void *ctx)
{
	struct end *e = ctx;

	e->opens++;
	conn_close(&e->c);
	loop_stop(loop);
}

static void on_fail_close(void *ctx, const struct err *err)
{
	struct end *e = ctx;

	e->fails++;
	conn_close(&e->c);
	loop_stop(loop);
}

static const struct conn_events closing_events = {on_open_close, on_rx_close, NULL, on_fail_close};

START_TEST(closing_from_each_callback_is_safe)
{
	struct conn_dial d = {.to = at, .tls = _i ? tls.client : NULL};

	accept_tls = _i ? tls.server : NULL;
	a.c = conn_open(loop, &d, &closing_events, &a); /* on_open */
	loop_run(loop);
	ck_assert_ptr_null(a.c);
	ck_assert_uint_eq(a.opens, 1);
	run_for(20);
	conn_close(&b.c);
	a.opens = 0;
	open_both(_i);
	conn_set_events(a.c, &closing_events, &a); /* on_rx */
	buf_add_str(conn_tx(b.c), STR("x"));
	conn_flush(b.c);
	loop_run(loop);
	ck_assert_ptr_null(a.c);
	run_for(20);
	conn_close(&b.c);
	a.opens = 0;
	open_both(_i);
	conn_set_events(a.c, &closing_events, &a); /* on_fail */
	conn_reset(&b.c);
	loop_run(loop);
	ck_assert_ptr_null(a.c);
	ck_assert_uint_eq(a.fails, 1);
}
END_TEST

START_TEST(a_kick_comes_at_the_end_of_the_turn_only)
{
	open_both(_i);
	a.keep = true;
	conn_rx_kick(a.c);
	ck_assert_uint_eq(a.rxs, 0);
	run_for(5);
	ck_assert_uint_eq(a.rxs, 1);
}
END_TEST

START_TEST(draining_a_full_buffer_later_resumes_reading)
{
	open_both(_i);
	a.keep = true;
	b.to_send = 1 << 20;
	pump(&b);
	run_for(50);
	ck_assert_uint_ge(conn_rx(a.c)->len, 32 << 10);
	ck_assert_uint_le(conn_rx(a.c)->len, 48 << 10);
	run_for(5);
	a.keep = false;
	a.stop_at = b.to_send;
	on_rx(&a);
	loop_run(loop);
	ck_assert_uint_eq(a.got, b.to_send);
}
END_TEST

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
	struct conn_dial d = {.to = at, .prepare = prepare_seen, .prepare_arg = &seen};

	ck_assert(addr_parse(STR("127.0.0.6:0"), &d.from));
	a.stop_on_open = true;
	a.c = conn_open(loop, &d, &events, &a);
	ck_assert_int_eq(seen, conn_fd(a.c));
	loop_run(loop);
	struct addr from;
	ck_assert(sock_local(conn_fd(a.c), &from));
	ck_assert(ip_eq(&from.ip, &d.from.ip));
	while (!b.c)
		run_for(1);
	ck_assert(addr_eq(conn_peer(b.c), &from));
	conn_close(&a.c);
	d.prepare = prepare_refuses;
	a.stop_on_fail = true;
	a.c = conn_open(loop, &d, &events, &a);
	loop_run(loop);
	ck_assert_int_eq(a.err.code, ERR_DENIED);
}
END_TEST

START_TEST(a_dial_to_a_missing_unix_socket_fails_by_callback)
{
	struct conn_dial d = {.unix_path = "/nonexistent/weft.sock"};

	a.stop_on_fail = true;
	a.c = conn_open(loop, &d, &events, &a);
	ck_assert_uint_eq(a.fails, 0);
	loop_run(loop);
	ck_assert_ptr_nonnull(strstr(a.err.text, "/nonexistent/weft.sock: No such file"));
}
END_TEST

START_TEST(small_writes_of_a_turn_leave_together)
{
	int pair[2];
	char got[64];

	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair), 0);
	a.c = conn_new(loop, pair[0], &events, &a);
	for (int i = 0; i < 10; i++) {
		buf_add(conn_tx(a.c), "ab", 2);
		conn_flush(a.c);
		ck_assert_int_eq(read(pair[1], got, sizeof(got)), -1);
	}
	run_for(1);
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
		struct conn_dial d = {.to = at, .tls = tls.client};

		if (i == 1) { /* the first made what is made once */
			conn_rest_all(loop);
			before = heap_now();
		}
		accept_tls = tls.server;
		a.opens = b.opens = 0;
		b.c = NULL;
		a.c = conn_open(loop, &d, &events, &a);
		while (!a.opens || !b.opens)
			run_for(2);
		a.sent = 0;
		a.to_send = 1000;
		b.keep = true;
		pump(&a);
		while (conn_rx_bytes(b.c) < 1000)
			run_for(2);
		buf_drain(conn_rx(b.c), 1000);
		held[i][0] = a.c;
		held[i][1] = b.c;
		a.to_send = 0;
	}
	ck_assert_uint_eq(conn_rest_all(loop), 8); /* of 42 those used last */
	ck_assert_uint_eq(conn_rest_all(loop), 0);
	size_t now = heap_now();
	ck_assert_uint_le(now > before ? (now - before) / N : 0, IDLE_MAX);
	a.c = held[0][0];
	b.c = held[0][1];
	a.to_send = 2000;
	pump(&a);
	while (conn_rx_bytes(b.c) < 2000)
		run_for(2);
	buf_drain(conn_rx(b.c), 1000);
	ck_assert_uint_eq(conn_rest_all(loop), 2);
	for (int i = 0; i <= N; i++) {
		conn_close(&held[i][0]);
		conn_close(&held[i][1]);
	}
	a.c = b.c = NULL;
}
END_TEST

START_TEST(keys_change_within_a_stream)
{
	open_both(1);
	for (int i = 0; i < 5; i++) {
		ck_assert_int_eq(SSL_key_update(conn_ssl(_i ? a.c : b.c), SSL_KEY_UPDATE_REQUESTED), 1);
		a.to_send += 100000;
		b.to_send += 100000;
		pump(&a);
		pump(&b);
		while (a.got < a.to_send || b.got < b.to_send)
			run_for(2);
	}
	ck_assert_uint_eq(a.fails + b.fails, 0);
}
END_TEST

/* In 22 bytes each, with work for the other end. */
START_TEST(keys_that_change_all_the_time_end_the_connection)
{
	open_both(1);
	for (int i = 0; i < 200 && b.fails == 0; i++) {
		ck_assert_int_eq(
		    SSL_key_update(conn_ssl(a.c), _i ? SSL_KEY_UPDATE_REQUESTED : SSL_KEY_UPDATE_NOT_REQUESTED), 1);
		ck_assert_int_ge(SSL_do_handshake(conn_ssl(a.c)), -1); /* sends it, without data */
		run_for(1);
		ck_assert_msg(i < 100, "%d and still open", i);
	}
	ck_assert_uint_eq(b.fails, 1);
	ck_assert_int_eq(b.err.code, ERR_LIMIT);
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
	loop_stop(loop);
}

START_TEST(one_connection_reads_a_bounded_amount_a_turn)
{
	static const struct conn_events counting = {.on_rx = on_rx_count, .on_fail = on_fail};
	int big = 4 << 20;
	struct task stop;

	open_both(0);
	conn_set_events(b.c, &counting, &b);
	setsockopt(conn_fd(b.c), SOL_SOCKET, SO_RCVBUFFORCE, &big, sizeof(big));
	setsockopt(conn_fd(a.c), SOL_SOCKET, SO_SNDBUFFORCE, &big, sizeof(big));
	conn_rx_pause(b.c, true);
	conn_set_marks(a.c, 32 << 10, 2 << 20);
	a.to_send = 1 << 20;
	pump(&a);
	run_for(50); /* 1 MiB waits in the kernel */
	conn_rx_pause(b.c, false);
	uint64_t most = 0;
	while (b.got < a.to_send) {
		uint64_t before = b.got;
		task_init(&stop, on_turn);
		loop_next_turn(loop, &stop);
		loop_run(loop);
		most = MAX(most, b.got - before);
	}
	ck_assert_uint_le(most, 256 << 10);
	ck_assert_uint_gt(most, 16 << 10);
}
END_TEST

Suite *conn_suite(void);
Suite *conn_suite(void)
{
	Suite *s = suite_create("conn");
	TCase *t = tcase_create("conn");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 20);
	tcase_add_loop_test(t, bytes_arrive_in_order_and_both_ends_see_the_end, 0, 2); /* plain, TLS */
	tcase_add_loop_test(t, a_refused_dial_names_the_peer, 0, 2);                   /* plain, TLS */
	tcase_add_test(t, a_distrusted_server_is_named_by_both_ends);
	tcase_add_loop_test(t, long_streams_both_ways_keep_within_the_marks, 0, 2); /* plain, TLS */
	tcase_add_loop_test(t, a_slow_reader_stops_the_writer, 0, 2);               /* plain, TLS */
	tcase_add_loop_test(t, a_paused_reader_neither_reads_nor_spins, 0, 2);      /* plain, TLS */
	tcase_add_loop_test(t, a_reset_is_a_failure_once, 0, 2);                    /* plain, TLS */
	tcase_add_test(t, fin_within_tls_is_truncation);
	tcase_add_test(t, closing_with_unsent_bytes_is_not_an_orderly_end);
	tcase_add_loop_test(t, an_early_answer_is_read_although_writing_failed, 0, 2); /* plain, TLS */
	tcase_add_loop_test(t, a_paused_reader_sees_a_failed_write, 0, 2);             /* plain, TLS */
	tcase_add_test(t, a_silent_server_times_the_handshake_out);
	tcase_add_test(t, rubbish_instead_of_a_handshake_is_refused);
	tcase_add_test(t, peeked_bytes_begin_the_handshake);
	tcase_add_test(t, one_held_for_want_of_memory_is_read_after_its_handshake);
	tcase_add_loop_test(t, close_flushed_delivers_although_the_peer_still_sends, 0, 2); /* plain, TLS */
	tcase_add_loop_test(t, a_lingering_connection_goes_with_the_loop, 0, 2);            /* plain, TLS */
	tcase_add_loop_test(t, closing_from_each_callback_is_safe, 0, 2);                   /* plain, TLS */
	tcase_add_loop_test(t, a_kick_comes_at_the_end_of_the_turn_only, 0, 2);             /* plain, TLS */
	tcase_add_loop_test(t, draining_a_full_buffer_later_resumes_reading, 0, 2);         /* plain, TLS */
	tcase_add_test(t, a_dial_binds_its_source_and_prepares_its_socket);
	tcase_add_test(t, a_dial_to_a_missing_unix_socket_fails_by_callback);
	tcase_add_test(t, small_writes_of_a_turn_leave_together);
	tcase_add_test(t, an_idle_tls_connection_holds_little);
	tcase_add_loop_test(t, keys_change_within_a_stream, 0, 2); /* asked by b, by a */
	tcase_add_loop_test(t, keys_that_change_all_the_time_end_the_connection, 0, 2);
	tcase_add_test(t, one_connection_reads_a_bounded_amount_a_turn);
	suite_add_tcase(s, t);
	return s;
}
