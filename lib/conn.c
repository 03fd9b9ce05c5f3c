/* SPDX-License-Identifier: Apache-2.0 */
/* conn.c: the life of a connection: handshake, read, write. How it is opened is in conn_dial.c, how it ends in conn_end.c, TLS records in
 * conn_tls.c.
 *
 * All that moves bytes happens in three places: on_io() (the descriptor is ready), on_work() (the end of a turn: starts,
 * flushes, kicks, gives idle memory back) and on_more() (the next turn: bytes that wait inside OpenSSL, of which the
 * descriptor does not tell). Each callback may close the connection; the struct stays until the turn is over, so what
 * runs after a callback asks conn_alive() first. */
#include "lib/conn_impl.h"

#include "lib/chunk.h"
#include "lib/mem.h"

#include <errno.h>
#include <sys/uio.h>

#define RX_MARK         (32u << 10)
#define TX_MARK         (64u << 10)
#define TURN_BUDGET     (256u << 10) /* bytes read a connection and turn */
#define READ_MIN        1024         /* a chunk with less room than this is left as it is */
#define IOV_MAX_PIECES  16
#define DIAL_TIMEOUT_MS 10000

/* Idle connections are many: this is counted in docs (1,000 idle ones: 0.5 MB of these). */
_Static_assert(sizeof(struct conn) <= 512, "struct conn stays within 512 bytes");

static void flush(struct conn *c);

void conn_set_state(struct conn *c, enum conn_state to)
{
	static const uint8_t from[] = {
	    [CONN_CONNECTING] = 0,
	    [CONN_HANDSHAKE] = 1u << CONN_CONNECTING | 1u << CONN_OPEN,
	    [CONN_OPEN] = 1u << CONN_CONNECTING | 1u << CONN_HANDSHAKE,
	    [CONN_FAILED] = 1u << CONN_CONNECTING | 1u << CONN_HANDSHAKE | 1u << CONN_OPEN,
	    [CONN_LINGERING] = 1u << CONN_OPEN,
	    [CONN_CLOSED] = 0xff,
	};

	MUST(from[to] & 1u << c->state);
	c->state = to;
}

const char *conn_peer_text(const struct conn *c, char out[static ADDR_TEXT_MAX])
{
	if (c->peer.ip.len == 0)
		return "a local peer";
	return addr_text(&c->peer, out);
}

/* --- what is watched --- */

bool conn_may_read(const struct conn *c)
{
	return c->state == CONN_OPEN && !c->rx_eof && !c->paused && !buf_full(&c->rx);
}

static void update_watch(struct conn *c)
{
	bool read = false, write = false;

	switch (c->state) {
	case CONN_CONNECTING:
		write = true;
		break;
	case CONN_HANDSHAKE:
		read = !c->step_waits && !c->tls_wants_write;
		write = !c->step_waits && c->tls_wants_write;
		break;
	case CONN_OPEN: {
		bool was = c->reading;
		c->reading = read = conn_may_read(c);
		if (read && !was && c->ssl && conn_tls_has_bytes(c))
			loop_next_turn(c->loop, &c->more);
		read = (read && !c->held) || c->write_wants_read;
		write = c->tx_blocked || (c->reading && c->tls_wants_write);
		break;
	}
	case CONN_LINGERING:
		read = c->tx_ended;
		write = !c->tx_ended && c->tx_blocked;
		break;
	case CONN_FAILED:
	case CONN_CLOSED:
		return;
	}
	io_want(&c->io, read, write);
}

/* --- connecting --- */

static void opened(struct conn *c)
{
	timer_stop(&c->timer);
	conn_set_state(c, CONN_OPEN);
	loop_at_turn_end(c->loop, &c->work); /* what was written meanwhile, and the watch */
	if (c->ev && c->ev->on_open)
		c->ev->on_open(c->ctx);
}

static void handshake(struct conn *c)
{
	c->budget = TURN_BUDGET;
	c->rx_drained = false;
	switch (conn_tls_handshake(c)) {
	case CONN_STEP_DONE:
		opened(c);
		return;
	case CONN_STEP_AGAIN:
		update_watch(c);
		return;
	case CONN_STEP_END:
	case CONN_STEP_FULL:
	case CONN_STEP_FAIL:
		break;
	}
	if (c->tx_errno)
		conn_fail_errno(c, c->tx_errno, "TLS handshake with");
	else
		conn_fail_tls(c, "TLS handshake with");
}

/* A server's step, when its user lets it. */
static void try_handshake(struct conn *c)
{
	c->step_waits = c->ev && c->ev->on_step && !c->ev->on_step(c->ctx);
	if (c->step_waits)
		update_watch(c);
	else
		handshake(c);
}

void conn_tls_step(struct conn *c)
{
	MUST_BE(c, CONN_MAGIC);
	if (c->state != CONN_HANDSHAKE || !c->step_waits)
		return;
	c->step_waits = false;
	handshake(c);
}

static void connected(struct conn *c)
{
	socklen_t len = sizeof(int);
	int why = 0;

	if (!c->connected_at_once && getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &why, &len) != 0)
		why = errno;
	if (why != 0) {
		conn_fail_errno(c, why, "cannot connect to");
		return;
	}
	if (!c->ssl) {
		opened(c);
		return;
	}
	conn_set_state(c, CONN_HANDSHAKE);
	handshake(c);
}

static void on_timer(struct timer *t)
{
	struct conn *c = CONTAINER_OF(t, struct conn, timer);
	char peer[ADDR_TEXT_MAX];
	struct err err;

	MUST_BE(c, CONN_MAGIC);
	if (c->state == CONN_LINGERING) {
		conn_destroy(c, c->tx.len > 0); /* unsent bytes: the peer must not take it for a whole answer */
		return;
	}
	err_set(&err, ERR_TIMEOUT,
		c->state == CONN_CONNECTING ? "connecting to %s took longer than %u ms"
					    : "the TLS handshake with %s took longer than %u ms",
		conn_peer_text(c, peer), c->timeout_ms);
	conn_fail(c, &err);
}

/* --- reading --- */

static enum conn_step fill_plain(struct conn *c)
{
	while (!buf_full(&c->rx)) {
		size_t room;

		if (c->budget == 0)
			return CONN_STEP_AGAIN; /* the descriptor stays readable */
		uint8_t *p = buf_reserve(&c->rx, READ_MIN, &room);
		room = MIN(room, c->budget);
		ssize_t n = recv(c->fd, p, room, MSG_DONTWAIT);
		buf_commit(&c->rx, n > 0 ? (size_t)n : 0);
		if (n == 0)
			return CONN_STEP_END;
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return CONN_STEP_AGAIN;
		if (n < 0) {
			c->rx_errno = errno;
			return CONN_STEP_FAIL;
		}
		c->budget -= (uint32_t)n;
		if ((size_t)n < room)
			return CONN_STEP_AGAIN; /* that was all: what comes later wakes us */
	}
	return CONN_STEP_FULL;
}

/* Reads and tells the user, until the descriptor is dry, the budget of the turn is spent, or rx is full or paused. */
void conn_read_some(struct conn *c)
{
	bool dying = c->tx_errno; /* conn_fail_write() goes on when we are done */
	enum conn_step step;

	c->budget = TURN_BUDGET;
	c->rx_drained = false;
	do {
		size_t before = c->rx.len;
		step = c->ssl ? conn_tls_fill(c) : fill_plain(c);
		c->rx_bytes += c->rx.len - before;
		c->rx_eof = step == CONN_STEP_END && !dying;
		if ((c->rx.len > before || c->rx_eof) && c->ev && c->ev->on_rx)
			c->ev->on_rx(c->ctx);
	} while (step == CONN_STEP_FULL && conn_may_read(c));
	if (c->state != CONN_OPEN || dying)
		return;
	if (step == CONN_STEP_FAIL) {
		if (c->tx_errno)
			conn_fail_errno(c, c->tx_errno, "connection with");
		else if (c->ssl)
			conn_fail_tls(c, "TLS with");
		else
			conn_fail_errno(c, c->rx_errno, "connection with");
		return;
	}
	loop_at_turn_end(c->loop, &c->work);
}

/* --- writing --- */

static enum conn_step drain_plain(struct conn *c)
{
	while (c->tx.len > 0) {
		struct iovec iov[IOV_MAX_PIECES];
		struct msghdr msg = {.msg_iov = iov, .msg_iovlen = buf_iov(&c->tx, iov, IOV_MAX_PIECES)};
		ssize_t n = sendmsg(c->fd, &msg, MSG_DONTWAIT | MSG_NOSIGNAL);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			return CONN_STEP_AGAIN;
		if (n < 0) {
			c->tx_errno = errno;
			return CONN_STEP_FAIL;
		}
		buf_drain(&c->tx, (size_t)n);
		c->tx_bytes += (uint64_t)n;
	}
	return CONN_STEP_DONE;
}

/* Everything has left: FIN. */
static void end(struct conn *c)
{
	enum conn_step step = c->ssl ? conn_tls_end(c) : CONN_STEP_DONE;

	c->tx_blocked = step == CONN_STEP_AGAIN;
	if (step == CONN_STEP_FAIL && c->tx_errno) {
		conn_fail_write(c, c->tx_errno);
		return;
	}
	if (step == CONN_STEP_AGAIN)
		return;
	if (c->state == CONN_LINGERING && (c->rx_eof || conn_discard(c))) {
		conn_destroy(c, false); /* the peer has ended, too: closing says FIN */
		return;
	}
	shutdown(c->fd, SHUT_WR);
	c->tx_ended = true;
	c->tx_room_due = true; /* the user hears that all has left */
}

static void flush(struct conn *c)
{
	if (c->tx_ended) {
		buf_done(&c->tx); /* there is no way for it any more */
		return;
	}
	if (buf_full(&c->tx))
		c->tx_room_due = true;
	enum conn_step step = c->ssl ? conn_tls_drain(c) : drain_plain(c);
	c->tx_blocked = step == CONN_STEP_AGAIN && !c->write_wants_read;
	if (step == CONN_STEP_FAIL) {
		if (c->tx_errno)
			conn_fail_write(c, c->tx_errno);
		else if (c->state == CONN_LINGERING)
			conn_destroy(c, true);
		else
			conn_fail_tls(c, "TLS with");
		return;
	}
	if (step == CONN_STEP_DONE && c->end_tx)
		end(c);
	if (conn_alive(c) && c->tx_room_due && c->tx.len < c->tx.mark / 2) {
		c->tx_room_due = false;
		if (c->state == CONN_OPEN && c->ev && c->ev->on_tx_room)
			c->ev->on_tx_room(c->ctx);
	}
}

/* --- the three places --- */

/* Short of memory: the bytes stay in the kernel for now, and whose turn it would have been is the first one soon. */
static void hold(struct conn *c)
{
	c->held = true;
	loop_soon(c->loop, &c->more);
}

static void on_io_open(struct conn *c, bool readable, bool writable)
{
	if ((writable && c->tx_blocked) || (readable && c->write_wants_read))
		flush(c);
	if (c->state == CONN_OPEN && (readable || (writable && c->tls_wants_write)) && conn_may_read(c)) {
		if (chunk_tripped())
			hold(c);
		else
			conn_read_some(c);
	}
	update_watch(c);
}

static void on_io(struct io *io, bool readable, bool writable)
{
	struct conn *c = CONTAINER_OF(io, struct conn, io);

	MUST_BE(c, CONN_MAGIC);
	switch (c->state) {
	case CONN_CONNECTING:
		connected(c);
		break;
	case CONN_HANDSHAKE:
		try_handshake(c);
		break;
	case CONN_OPEN:
		on_io_open(c, readable, writable);
		break;
	case CONN_LINGERING:
		if (!c->tx_ended)
			flush(c);
		else if (conn_discard(c))
			conn_destroy(c, false);
		update_watch(c);
		break;
	case CONN_FAILED:
	case CONN_CLOSED:
		MUST(!"io on a dead connection");
	}
}

static void on_work(struct task *t)
{
	struct conn *c = CONTAINER_OF(t, struct conn, work);

	MUST_BE(c, CONN_MAGIC);
	if (c->failure) {
		conn_fail(c, c->failure);
		return;
	}
	if (c->state == CONN_CONNECTING && c->connected_at_once)
		connected(c);
	else if (c->state == CONN_HANDSHAKE && c->handshake_due) {
		c->handshake_due = false;
		try_handshake(c);
	}
	if (c->state == CONN_OPEN && c->kick) {
		c->kick = false;
		if (c->ev && c->ev->on_rx)
			c->ev->on_rx(c->ctx);
	}
	if ((c->state == CONN_OPEN || c->state == CONN_LINGERING) && !c->tx_blocked &&
	    (c->tx.len > 0 || (c->end_tx && !c->tx_ended)))
		flush(c);
	if (c->state == CONN_OPEN && c->ssl)
		conn_tls_tidy(c);
	update_watch(c);
}

static void on_more(struct task *t)
{
	struct conn *c = CONTAINER_OF(t, struct conn, more);

	MUST_BE(c, CONN_MAGIC);
	if (c->state == CONN_LINGERING) { /* the loop is going away, and the user went before */
		conn_destroy(c, true);
		return;
	}
	c->held = false;
	if (chunk_tripped())
		hold(c);
	else if (conn_may_read(c))
		conn_read_some(c);
	update_watch(c);
}

/* --- making --- */

struct conn *conn_make(struct loop *loop, enum conn_state state, const struct conn_events *ev, void *ctx)
{
	struct conn *c = NEW(struct conn);

	c->magic = CONN_MAGIC;
	c->state = state;
	c->loop = loop;
	c->ev = ev;
	c->ctx = ctx;
	c->fd = -1;
	buf_init(&c->rx, RX_MARK);
	buf_init(&c->tx, TX_MARK);
	buf_init(&c->pre, SIZE_MAX);
	timer_init(&c->timer, loop, on_timer);
	list_init(&c->warm);
	task_init(&c->work, on_work);
	task_init(&c->more, on_more);
	loop_at_turn_end(loop, &c->work);
	return c;
}

void conn_take_fd(struct conn *c, int fd)
{
	c->fd = fd;
	io_init(&c->io, c->loop, fd, on_io);
}

struct conn *conn_new(struct loop *loop, int fd, const struct conn_events *ev, void *ctx)
{
	struct conn *c = conn_make(loop, CONN_OPEN, ev, ctx);

	conn_take_fd(c, fd);
	sock_peer(fd, &c->peer);
	return c;
}

void conn_start_timer(struct conn *c, uint64_t ms)
{
	c->timeout_ms = (uint32_t)MIN(ms ? ms : DIAL_TIMEOUT_MS, UINT32_MAX);
	timer_start(&c->timer, c->timeout_ms);
}

void conn_tls_accept(struct conn *c, SSL_CTX *ctx, void *tls_arg, uint64_t timeout_ms)
{
	struct err err;

	MUST_BE(c, CONN_MAGIC);
	MUST(c->state == CONN_OPEN && !c->ssl);
	conn_set_state(c, CONN_HANDSHAKE);
	conn_start_timer(c, timeout_ms);
	buf_move(&c->pre, &c->rx, c->rx.len);
	c->rx_bytes = 0;
	c->handshake_due = true;
	c->reading = c->kick = c->rx_eof = c->held = false; /* `more`, which would end `held`, does not come */
	task_cancel(&c->more);
	loop_at_turn_end(c->loop, &c->work);
	if (!conn_tls_server(c, ctx, tls_arg, &err))
		c->failure = mem_dup(&err, sizeof(err));
}

/* --- what the user asks for --- */

void conn_set_events(struct conn *c, const struct conn_events *ev, void *ctx)
{
	MUST_BE(c, CONN_MAGIC);
	c->ev = ev;
	c->ctx = ctx;
}

struct loop *conn_loop(const struct conn *c)
{
	return c->loop;
}

struct buf *conn_rx(struct conn *c)
{
	MUST_BE(c, CONN_MAGIC);
	if (!c->reading && c->state == CONN_OPEN)
		loop_at_turn_end(c->loop, &c->work); /* it may be about to be drained: look then whether to read on */
	return &c->rx;
}

bool conn_rx_eof(const struct conn *c)
{
	return c->rx_eof;
}

void conn_rx_pause(struct conn *c, bool pause)
{
	MUST_BE(c, CONN_MAGIC);
	if (c->paused == pause)
		return;
	c->paused = pause;
	if (c->state == CONN_OPEN)
		loop_at_turn_end(c->loop, &c->work);
}

void conn_rx_kick(struct conn *c)
{
	MUST_BE(c, CONN_MAGIC);
	if (c->state != CONN_OPEN)
		return;
	c->kick = true;
	loop_at_turn_end(c->loop, &c->work);
}

struct buf *conn_tx(struct conn *c)
{
	MUST_BE(c, CONN_MAGIC);
	return &c->tx;
}

bool conn_tx_full(const struct conn *c)
{
	return buf_full(&c->tx);
}

void conn_flush(struct conn *c)
{
	MUST_BE(c, CONN_MAGIC);
	if (c->state == CONN_OPEN)
		loop_at_turn_end(c->loop, &c->work);
}

void conn_set_marks(struct conn *c, size_t rx, size_t tx)
{
	c->rx.mark = rx;
	c->tx.mark = tx;
	if (c->state == CONN_OPEN)
		loop_at_turn_end(c->loop, &c->work);
}

void conn_end_tx(struct conn *c)
{
	MUST_BE(c, CONN_MAGIC);
	c->end_tx = true;
	conn_flush(c);
}

bool conn_tx_ended(const struct conn *c)
{
	return c->tx_ended;
}

int conn_fd(const struct conn *c)
{
	return c->fd;
}

SSL *conn_ssl(const struct conn *c)
{
	return c->ssl;
}

struct str conn_alpn(const struct conn *c)
{
	const unsigned char *p = NULL;
	unsigned len = 0;

	if (c->ssl)
		SSL_get0_alpn_selected(c->ssl, &p, &len);
	return str_make(p, len);
}

bool conn_is_open(const struct conn *c)
{
	return c->state == CONN_OPEN;
}

size_t conn_held(const struct conn *c)
{
	return c->rx.len + c->tx.len;
}

uint64_t conn_rx_bytes(const struct conn *c)
{
	return c->rx_bytes;
}

bool conn_is_quiet(const struct conn *c)
{
	char byte;
	if (c->ssl != NULL)
		return true;
	return recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
}

uint64_t conn_tx_bytes(const struct conn *c)
{
	return c->tx_bytes;
}

const struct addr *conn_peer(const struct conn *c)
{
	return &c->peer;
}
