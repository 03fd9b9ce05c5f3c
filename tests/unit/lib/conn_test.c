/* SPDX-License-Identifier: Apache-2.0 */
/* conn_test.c: two connections on one loop, plain and TLS, over loopback TCP. Every loop run has a deadline. */
#include "lib/conn.h"
#include "lib/listener.h"
#include "lib/mem.h"
#include "tests/unit/lib/tls_pair.h"

#include <check.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEADLINE_MS 20000

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
		for (size_t i = 0; i < piece.len; i++)
			ck_assert_uint_eq((uint8_t)piece.p[i], byte_at(e->got + i));
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

Suite *conn_suite(void);
Suite *conn_suite(void)
{
	Suite *s = suite_create("conn");
	TCase *t = tcase_create("conn");

	tcase_add_checked_fixture(t, setup, teardown);
	tcase_set_timeout(t, 60);
	tcase_add_loop_test(t, bytes_arrive_in_order_and_both_ends_see_the_end, 0, 2);
	tcase_add_loop_test(t, a_refused_dial_names_the_peer, 0, 2);
	tcase_add_test(t, a_distrusted_server_is_named_by_both_ends);
	suite_add_tcase(s, t);
	return s;
}
