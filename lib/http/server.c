/* SPDX-License-Identifier: Apache-2.0 */
/* server.c: whole requests in, whole answers out, over either codec. Owns its connections and the exchanges on them; an
 * exchange outlives its answer until the last byte of it has been handed to the codec.
 *
 * A connection is first looked at (TLS handshake and ALPN, or the first bytes in plain), then a codec takes it over. */
#include "lib/http/server.h"

#include "lib/list.h"
#include "lib/mem.h"

#include <unistd.h>

#define SERVER_MAGIC   0x68737276u
#define LINK_MAGIC     0x68736c6bu
#define EXCHANGE_MAGIC 0x68737863u
#define HANDSHAKE_MS   10000
#define FIRST_BYTES_MS 10000
#define EXCHANGE_ARENA (160 << 10) /* a head of 40 KiB twice (trailers), tables, the answer's fields */
#define SEND_PIECE     (16u << 10)

struct http_server {
	uint32_t magic;
	struct loop *loop;
	struct http_server_cfg cfg;
	struct list links;
	unsigned count;
	size_t bodies; /* bytes: http_exchange.held of all */
	bool draining;
};

/* A connection. Freed when it is closed; owns conn until the codec has it, then the session. */
struct link {
	uint32_t magic;
	struct list node; /* http_server.links */
	struct http_server *server;
	struct conn *conn;
	struct http_session *session;
	struct timer timer; /* plain: until the first bytes have told the protocol */
	struct list exchanges;
};

/* Freed when the answer has left for the codec, or the client has gone. Owns the stream. */
struct http_exchange {
	uint32_t magic;
	struct list node; /* link.exchanges */
	struct link *link;
	struct http_stream *st;
	struct arena arena;
	struct message *m;
	struct buf body;
	struct str body_text; /* the body in one piece, once it was asked for */
	char *body_copy;
	size_t held; /* bytes of the body, wherever they are */
	void *user;
	bool complete, told, answered;
	struct buf out; /* what of the answer was not yet handed over */
};

/* --- exchanges --- */

static void exchange_gone(void *p)
{
	struct http_exchange *x = p;
	arena_done(&x->arena);
	buf_done(&x->body);
	buf_done(&x->out);
	mem_free(x->body_copy);
	x->magic = 0;
	mem_free(x);
}

static void let_go(struct http_exchange *x)
{
	x->link->server->bodies -= x->held;
	x->held = 0;
}

static void exchange_free(struct http_exchange *x)
{
	let_go(x);
	list_remove(&x->node);
	loop_defer_free(x->link->server->loop, x, exchange_gone);
}

/* The user that keeps it hears that there is nobody to answer. */
static void tell_gone(struct http_exchange *x)
{
	const struct http_server_cfg *cfg = &x->link->server->cfg;
	if (x->told && !x->answered && cfg->on_gone)
		cfg->on_gone(cfg->ctx, x);
	x->answered = true;
}

static void exchange_end(struct http_exchange *x)
{
	http_stream_ops(x->st)->close(x->st); /* also when the rest of the request was not read */
	x->st = NULL;
	exchange_free(x);
}

/* Hands over what there is room for; the rest follows with on_room. */
static void exchange_pump(struct http_exchange *x)
{
	const struct codec_ops *ops = http_stream_ops(x->st);
	while (x->out.len && ops->send_room(x->st)) {
		struct str piece = buf_peek(&x->out);
		piece.len = MIN(piece.len, (size_t)SEND_PIECE);
		ops->send_body(x->st, piece);
		buf_drain(&x->out, piece.len);
	}
	if (x->out.len)
		return;
	ops->send_end(x->st, NULL);
	exchange_end(x);
}

static void reply(struct http_exchange *x, uint16_t status, const char *content_type)
{
	struct message m;
	MUST_BE(x, EXCHANGE_MAGIC);
	MUST(!x->answered && x->st);
	x->answered = true;
	if (!x->body_copy) /* nobody has it any more */
		let_go(x);
	message_init(&m, &x->arena, false);
	m.version = HTTP_1_1;
	m.status = status;
	m.has_length = http_status_has_body(status);
	m.content_length = x->out.len;
	bool said = !content_type || message_add(&m, STR("content-type"), str_of(content_type), true);
	bool end = !said || !m.has_length || x->out.len == 0 || str_is(x->m->method, "HEAD");
	if (!said) { /* the request's head has eaten the arena */
		m.status = 500;
		m.content_length = 0;
	}
	http_stream_ops(x->st)->send_head(x->st, &m, end);
	if (end)
		exchange_end(x);
	else
		exchange_pump(x);
}

void exchange_reply(struct http_exchange *x, uint16_t status, const char *content_type, struct str body)
{
	MUST_BE(x, EXCHANGE_MAGIC);
	buf_add_str(&x->out, body);
	reply(x, status, content_type);
}

void exchange_reply_buf(struct http_exchange *x, uint16_t status, const char *content_type, struct buf *body)
{
	MUST_BE(x, EXCHANGE_MAGIC);
	buf_move(&x->out, body, body->len);
	reply(x, status, content_type);
}

const struct message *exchange_request(const struct http_exchange *x)
{
	return x->m;
}

struct str exchange_body(const struct http_exchange *x)
{
	return x->body_text;
}

char *exchange_take_body(struct http_exchange *x, size_t *ret_len)
{
	char *body = x->body_copy;

	*ret_len = x->body_text.len;
	x->body_copy = NULL;
	x->body_text = (struct str){NULL, 0};
	return body;
}

struct conn *exchange_conn(const struct http_exchange *x)
{
	return http_session_ops(x->link->session)->conn(x->link->session);
}

struct arena *exchange_arena(const struct http_exchange *x)
{
	return (struct arena *)&x->arena;
}

void exchange_set_user(struct http_exchange *x, void *user)
{
	x->user = user;
}

void *exchange_user(const struct http_exchange *x)
{
	return x->user;
}

/* --- what the codec says of a stream --- */

static void refuse_body(struct http_exchange *x)
{
	const struct reason_row *row = reason_row(REASON_BODY_TOO_LARGE);
	buf_done(&x->body);
	let_go(x);
	exchange_reply(x, row->http_status, "text/plain", str_of(row->text));
}

/* Many at once, each of which would be taken alone. */
static void refuse_crowd(struct http_exchange *x)
{
	buf_done(&x->body);
	let_go(x);
	exchange_reply(x, 503, "text/plain", STR("too many large requests at once; try again\n"));
}

static void on_head(void *ctx, struct message *m)
{
	struct http_exchange *x = ctx;
	MUST_BE(x, EXCHANGE_MAGIC);
	const struct http_server_cfg *cfg = &x->link->server->cfg;
	x->m = m;
	if (cfg->admit && !cfg->admit(cfg->ctx, x))
		return;
	if (m->has_length && m->content_length > x->link->server->cfg.body_max) {
		refuse_body(x);
		return;
	}
	if (m->expect_continue) {
		struct message go;
		message_init(&go, &x->arena, false);
		go.status = 100;
		http_stream_ops(x->st)->send_head(x->st, &go, false);
	}
	/* No tunnels here: the answer to the question is no, and only then is the request at its end. */
	if (m->framing == FRAMING_TUNNEL && str_is(m->method, "CONNECT"))
		exchange_reply(x, reason_row(REASON_METHOD)->http_status, "text/plain", STR("no tunnels here\n"));
	else if (m->framing == FRAMING_TUNNEL) {
		m->framing = FRAMING_NONE;
		x->told = true;
		x->complete = true;
		x->link->server->cfg.on_request(x->link->server->cfg.ctx, x);
	}
}

static void on_body(void *ctx, struct str bytes)
{
	struct http_exchange *x = ctx;
	MUST_BE(x, EXCHANGE_MAGIC);
	http_stream_ops(x->st)->consumed(x->st, bytes.len);
	if (x->answered)
		return;
	struct http_server *s = x->link->server;
	if (x->body.len + bytes.len > s->cfg.body_max) {
		refuse_body(x);
		return;
	}
	if (s->cfg.bodies_max && s->bodies + bytes.len > s->cfg.bodies_max) {
		refuse_crowd(x);
		return;
	}
	s->bodies += bytes.len;
	x->held += bytes.len;
	buf_add_str(&x->body, bytes);
}

static void body_in_one_piece(struct http_exchange *x)
{
	size_t n = x->body.len, at = 0;
	if (n == 0)
		return;
	x->body_copy = mem_alloc(n + 1);
	while (x->body.len) {
		struct str piece = buf_peek(&x->body);
		memcpy(x->body_copy + at, piece.p, piece.len);
		at += piece.len;
		buf_drain(&x->body, piece.len);
	}
	x->body_copy[n] = '\0';
	x->body_text = str_make(x->body_copy, n);
}

static void on_end(void *ctx)
{
	struct http_exchange *x = ctx;
	MUST_BE(x, EXCHANGE_MAGIC);
	const struct http_server_cfg *cfg = &x->link->server->cfg;
	x->complete = true;
	if (x->answered || x->told)
		return;
	body_in_one_piece(x);
	x->told = true;
	cfg->on_request(cfg->ctx, x);
}

static void on_reset(void *ctx, const struct http_reset *why)
{
	struct http_exchange *x = ctx;
	MUST_BE(x, EXCHANGE_MAGIC);
	tell_gone(x);
	http_stream_ops(x->st)->close(x->st);
	x->st = NULL;
	exchange_free(x);
}

static void on_room(void *ctx)
{
	struct http_exchange *x = ctx;
	MUST_BE(x, EXCHANGE_MAGIC);
	if (x->answered)
		exchange_pump(x);
}

static const struct http_stream_events stream_events = {
    .on_head = on_head,
    .on_body = on_body,
    .on_end = on_end,
    .on_reset = on_reset,
    .on_room = on_room,
};

/* --- connections --- */

static void link_gone(void *p)
{
	struct link *l = p;
	l->magic = 0;
	mem_free(l);
}

static void link_free(struct link *l)
{
	while (!list_empty(&l->exchanges)) {
		struct http_exchange *x = list_first(&l->exchanges, struct http_exchange, node);
		tell_gone(x);
		if (x->st)
			http_stream_ops(x->st)->close(x->st);
		exchange_free(x);
	}
	timer_stop(&l->timer);
	if (l->session)
		http_session_ops(l->session)->session_close(&l->session);
	conn_close(&l->conn);
	list_remove(&l->node);
	l->server->count--;
	loop_defer_free(l->server->loop, l, link_gone);
}

static bool on_stream(void *ctx, struct http_stream *st, const struct http_stream_events **ret_ev, void **ret_ctx,
		      struct arena **ret_arena)
{
	struct link *l = ctx;
	MUST_BE(l, LINK_MAGIC);
	struct http_exchange *x = NEW(struct http_exchange);
	x->magic = EXCHANGE_MAGIC;
	x->link = l;
	x->st = st;
	arena_init(&x->arena, EXCHANGE_ARENA);
	buf_init(&x->body, l->server->cfg.body_max);
	buf_init(&x->out, SIZE_MAX);
	list_push(&l->exchanges, &x->node);
	*ret_ev = &stream_events;
	*ret_ctx = x;
	*ret_arena = &x->arena;
	return true;
}

static void on_closed(void *ctx, enum reason reason, const struct err *err)
{
	struct link *l = ctx;
	MUST_BE(l, LINK_MAGIC);
	link_free(l);
}

static const struct http_session_events session_events = {.on_stream = on_stream, .on_closed = on_closed};

static void serve(struct link *l, const struct codec_ops *ops)
{
	struct conn *c = l->conn;
	timer_stop(&l->timer);
	l->conn = NULL;
	l->session = ops->session_new(c, HTTP_SERVER, &http_limits_default, &session_events, l);
	if (l->server->draining)
		ops->drain(l->session);
}

static void on_open(void *ctx)
{
	struct link *l = ctx;
	MUST_BE(l, LINK_MAGIC);
	serve(l, str_is(conn_alpn(l->conn), "h2") ? &codec_h2 : &codec_h1);
}

/* HTTP/1 has no method PRI, so the first bytes tell (RFC 9113 3.4). */
static void on_first_bytes(void *ctx)
{
	struct link *l = ctx;
	MUST_BE(l, LINK_MAGIC);
	const struct str preface = STR("PRI * HTTP/2.0");
	struct buf *rx = conn_rx(l->conn);
	size_t n = MIN(rx->len, preface.len);
	bool same = n && memcmp(buf_pullup(rx, n).p, preface.p, n) == 0;
	if (same && n < preface.len && !conn_rx_eof(l->conn))
		return;
	if (n || conn_rx_eof(l->conn))
		serve(l, same && n == preface.len ? &codec_h2 : &codec_h1);
}

static void on_fail(void *ctx, const struct err *err)
{
	struct link *l = ctx;
	MUST_BE(l, LINK_MAGIC);
	link_free(l);
}

static void on_timer(struct timer *t)
{
	struct link *l = CONTAINER_OF(t, struct link, timer);
	MUST_BE(l, LINK_MAGIC);
	link_free(l);
}

static const struct conn_events tls_events = {.on_open = on_open, .on_fail = on_fail};
static const struct conn_events plain_events = {.on_rx = on_first_bytes, .on_fail = on_fail};

/* Has a whole request, or an answer that has not left. */
static bool busy(const struct link *l)
{
	list_for_each (x, &l->exchanges, struct http_exchange, node)
		if (x->told || x->answered)
			return true;
	return false;
}

/* At the limit the oldest connection that asks nothing gives way: who only holds connections keeps no probe out. */
static bool make_room(struct http_server *s)
{
	if (s->count < s->cfg.connections_max)
		return true;
	list_for_each_safe (l, &s->links, struct link, node)
		if (!busy(l)) {
			link_free(l);
			return true;
		}
	return false;
}

void http_server_accept(struct http_server *s, int fd)
{
	MUST_BE(s, SERVER_MAGIC);
	if (!make_room(s)) {
		close(fd);
		return;
	}
	struct link *l = NEW(struct link);
	l->magic = LINK_MAGIC;
	l->server = s;
	list_init(&l->exchanges);
	list_push(&s->links, &l->node);
	s->count++;
	timer_init(&l->timer, s->loop, on_timer);
	l->conn = conn_new(s->loop, fd, s->cfg.tls ? &tls_events : &plain_events, l);
	if (s->cfg.tls)
		conn_tls_accept(l->conn, s->cfg.tls, NULL, HANDSHAKE_MS);
	else
		timer_start(&l->timer, FIRST_BYTES_MS);
}

struct http_server *http_server_new(struct loop *loop, const struct http_server_cfg *cfg)
{
	MUST(loop != NULL && cfg->on_request != NULL);
	struct http_server *s = NEW(struct http_server);
	s->magic = SERVER_MAGIC;
	s->loop = loop;
	s->cfg = *cfg;
	list_init(&s->links);
	return s;
}

void http_server_drain(struct http_server *s)
{
	MUST_BE(s, SERVER_MAGIC);
	s->draining = true;
	list_for_each (l, &s->links, struct link, node)
		if (l->session)
			http_session_ops(l->session)->drain(l->session);
}

static void server_gone(void *p)
{
	struct http_server *s = p;
	s->magic = 0;
	mem_free(s);
}

void http_server_free(struct http_server **ret_s)
{
	struct http_server *s = *ret_s;
	if (!s)
		return;
	MUST_BE(s, SERVER_MAGIC);
	*ret_s = NULL;
	while (!list_empty(&s->links))
		link_free(list_first(&s->links, struct link, node));
	loop_defer_free(s->loop, s, server_gone);
}
