/* SPDX-License-Identifier: Apache-2.0 */
/* conn_end.c: see conn_end.h. */
#include "tests/unit/lib/conn_end.h"

struct tls_pair end_tls;
struct loop *end_loop;
struct timer end_deadline;
struct end end_a, end_b;
struct listener *end_listener;
struct addr end_at;
SSL_CTX *end_accept_tls;

static uint8_t byte_at(uint64_t i)
{
	return (uint8_t)(i * 2654435761u >> 13);
}

void end_pump(struct end *e)
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
		loop_stop(end_loop);
	end_pump(e);
}

void end_on_rx(void *ctx)
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
		loop_stop(end_loop);
	e->eof = conn_rx_eof(e->c);
	if (e->eof && e->stop_on_eof)
		loop_stop(end_loop);
}

static void on_tx_room(void *ctx)
{
	struct end *e = ctx;

	e->rooms++;
	end_pump(e);
}

void end_on_fail(void *ctx, const struct err *err)
{
	struct end *e = ctx;

	e->fails++;
	e->err = *err;
	if (e->stop_on_fail)
		loop_stop(end_loop);
}

const struct conn_events end_events = {on_open, end_on_rx, on_tx_room, end_on_fail};

static void on_deadline(struct timer *t)
{
	ck_abort_msg("nothing happened until the deadline");
}

static void on_accept(void *ctx, int fd)
{
	end_b.c = conn_new(end_loop, fd, &end_events, &end_b);
	if (end_accept_tls)
		conn_tls_accept(end_b.c, end_accept_tls, NULL, DEADLINE_MS);
}

void end_setup(void)
{
	struct err err;

	tls_pair_init(&end_tls);
	end_loop = loop_new(&err);
	ck_assert(end_loop);
	timer_init(&end_deadline, end_loop, on_deadline);
	timer_start(&end_deadline, DEADLINE_MS);
	end_a = end_b = (struct end){0};
	end_accept_tls = NULL;
	ck_assert(addr_parse(STR("127.0.0.1:0"), &end_at));
	int fd = sock_listen_tcp(&end_at, false, 16, &err);
	ck_assert_msg(fd >= 0, "%s", err.text);
	ck_assert(sock_local(fd, &end_at));
	end_listener = listener_new(end_loop, fd, on_accept, NULL);
}

void end_teardown(void)
{
	conn_close(&end_a.c);
	conn_close(&end_b.c);
	listener_free(&end_listener);
	timer_stop(&end_deadline);
	loop_free(&end_loop);
	tls_pair_done(&end_tls);
}

void end_dial(SSL_CTX *client, SSL_CTX *server)
{
	struct conn_dial d = {.to = end_at, .tls = client, .timeout_ms = DEADLINE_MS};

	end_accept_tls = server;
	end_a.c = conn_open(end_loop, &d, &end_events, &end_a);
}

void end_dial_kind(int kind)
{
	end_dial(kind ? end_tls.client : NULL, kind ? end_tls.server : NULL);
}

static void on_stop(struct timer *t)
{
	loop_stop(end_loop);
}

void end_run_for(uint64_t ms)
{
	struct timer t;

	timer_init(&t, end_loop, on_stop);
	timer_start(&t, ms);
	loop_run(end_loop);
	timer_stop(&t);
}

void end_open_both(int kind)
{
	end_a.stop_on_open = true;
	end_b.stop_on_open = kind;
	end_dial_kind(kind);
	while (!end_a.opens || !end_b.c || !conn_is_open(end_b.c))
		end_run_for(5);
	end_a.stop_on_open = end_b.stop_on_open = false;
}
