/* SPDX-License-Identifier: Apache-2.0 */
/* conn_end.c: how a connection ends: it fails and its user hears why, or its user closes it, at once, with a reset, or when what was
 * written has left. */
#include "lib/conn_impl.h"

#include "lib/mem.h"

#include <errno.h>
#include <unistd.h>

#define LINGER_MS      2000
#define LINGER_DISCARD (64u << 10)

/* The last thing that the user hears. */
void conn_fail(struct conn *c, const struct err *err)
{
	conn_set_state(c, CONN_FAILED);
	timer_stop(&c->timer);
	task_cancel(&c->work);
	task_cancel(&c->more);
	if (c->fd >= 0)
		io_stop(&c->io);
	if (c->ev && c->ev->on_fail)
		c->ev->on_fail(c->ctx, err);
}

void conn_fail_errno(struct conn *c, int why, const char *what)
{
	char peer[ADDR_TEXT_MAX];
	struct err err;

	errno = why;
	err_errno(&err, "%s %s", what, conn_peer_text(c, peer));
	if (why == ECONNRESET || why == EPIPE)
		err.code = ERR_CLOSED;
	if (why == ETIMEDOUT)
		err.code = ERR_TIMEOUT;
	conn_fail(c, &err);
}

void conn_fail_tls(struct conn *c, const char *what)
{
	struct err err;

	if (c->rx_errno) {
		conn_fail_errno(c, c->rx_errno, what);
		return;
	}
	conn_tls_error(c, what, &err);
	conn_fail(c, &err);
}

/* Writing failed. What the peer sent before it went (an early answer, an alert that says why) is read first. */
void conn_fail_write(struct conn *c, int why)
{
	c->tx_errno = why;
	buf_done(&c->tx);
	if (c->state == CONN_LINGERING) {
		conn_destroy(c, false);
		return;
	}
	if (conn_may_read(c))
		conn_read_some(c);
	if (conn_alive(c) && c->state != CONN_FAILED)
		conn_fail_errno(c, why, "connection with");
}

static void free_conn(void *p)
{
	struct conn *c = p;

	c->magic = 0;
	mem_free(c);
}

void conn_destroy(struct conn *c, bool reset)
{
	MUST(conn_alive(c));
	conn_set_state(c, CONN_CLOSED);
	timer_stop(&c->timer);
	task_cancel(&c->work);
	task_cancel(&c->more);
	if (c->fd >= 0) {
		io_stop(&c->io);
		if (reset)
			sock_reset_close(c->fd);
		else
			close(c->fd);
		c->fd = -1;
	}
	if (c->ssl)
		conn_tls_cool(c);
	SSL_free(c->ssl);
	c->ssl = NULL;
	buf_done(&c->rx);
	buf_done(&c->tx);
	buf_done(&c->pre);
	FREE(&c->failure);
	loop_defer_free(c->loop, c, free_conn);
}

/* Reads what the peer sent and drops it. True once the peer has ended. */
bool conn_discard(struct conn *c)
{
	uint8_t scratch[8192];

	for (size_t got = 0; got < LINGER_DISCARD;) {
		ssize_t n = recv(c->fd, scratch, sizeof(scratch), MSG_DONTWAIT);
		if (n == 0 || (n < 0 && errno != EAGAIN && errno != EINTR))
			return true;
		if (n < 0)
			return false;
		got += (size_t)n;
	}
	return false;
}

/* --- what the user asks for --- */

static struct conn *take(struct conn **ret_c)
{
	struct conn *c = *ret_c;

	*ret_c = NULL;
	if (c) {
		MUST_BE(c, CONN_MAGIC);
		MUST(conn_alive(c));
	}
	return c;
}

void conn_close_flushed(struct conn **ret_c)
{
	struct conn *c;

	if (!*ret_c || (*ret_c)->state != CONN_OPEN) {
		conn_close(ret_c);
		return;
	}
	c = take(ret_c);
	conn_set_state(c, CONN_LINGERING);
	c->ev = NULL;
	c->end_tx = true;
	buf_done(&c->rx);
	timer_start(&c->timer, LINGER_MS);
	task_cancel(&c->more);
	loop_at_free(c->loop, &c->more);
	loop_at_turn_end(c->loop, &c->work);
}

void conn_close(struct conn **ret_c)
{
	struct conn *c = take(ret_c);

	if (!c)
		return;
	/* close_notify says "this was all": never when it was not */
	if (c->ssl && c->state == CONN_OPEN && c->tx.len == 0 && !c->tx_errno)
		conn_tls_end(c);
	/* bytes left unread turn the close into a reset, which may overtake the alert that says why we refuse */
	if (c->ssl && c->state == CONN_FAILED && c->fd >= 0) {
		shutdown(c->fd, SHUT_WR);
		conn_discard(c);
	}
	conn_destroy(c, false);
}

void conn_reset(struct conn **ret_c)
{
	struct conn *c = take(ret_c);

	if (c)
		conn_destroy(c, true);
}
