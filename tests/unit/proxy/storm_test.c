/* SPDX-License-Identifier: Apache-2.0 */
/* Random schedules through two sidecars: pipelined requests of every shape, from clients that stop, pause and vanish at any byte, to origins that
 * do the same. Whatever happens: a client sees the right answer, an answer of a sidecar's own, or a connection that ends; an origin
 * sees a request once (more often only where that is safe); nothing is left behind. WEFT_STORM=FIRST,COUNT runs other schedules than the usual ones. */
#include "tests/unit/proxy/spine_world.h"

#include "lib/http/parse.h"
#include "lib/mem.h"

#include <dirent.h>
#include <stdlib.h>
#include <string.h>

#define CLIENTS_MAX  6
#define REQUESTS_MAX 4
#define PLANS        (CLIENTS_MAX * REQUESTS_MAX)
#define BODY_MAX     150000
#define NEVER        SIZE_MAX
#define STUCK_MS     8000

static struct spine w;
static uint64_t seed, state;
static bool peaceful; /* this schedule: nobody misbehaves, so all answers must be right */

static uint32_t rnd(uint32_t below)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return (uint32_t)(state >> 33) % below;
}

static bool chance(uint32_t percent)
{
	return rnd(100) < percent;
}

static char pattern(unsigned id, size_t at)
{
	return (char)('a' + (id * 7 + at * 3 + at / 1000) % 26);
}

#define CHECK(cond, ...)                                                                 \
	do {                                                                             \
		if (!(cond)) {                                                           \
			fprintf(stderr, "storm: seed %llu: ", (unsigned long long)seed); \
			fprintf(stderr, __VA_ARGS__);                                    \
			fprintf(stderr, "\n");                                           \
			abort();                                                         \
		}                                                                        \
	} while (0)

/* --- what is asked and answered --- */

struct plan {
	bool head, chunked_up, trailers_up;
	size_t up; /* bytes of request body */
	uint16_t status;
	enum { DOWN_LENGTH, DOWN_CHUNKED, DOWN_CLOSE } how;
	bool trailers_down, close, early;
	size_t down; /* bytes of answer body */
	size_t cut;  /* the origin resets after so many bytes of it */
	unsigned interim;
	bool slow_read; /* the origin takes the request in small steps */
	unsigned seen;  /* by origins */
};
static struct plan plans[PLANS];

static size_t some_size(void)
{
	static const size_t sizes[] = {0, 1, 100, 4096, 16384, 16385, 65536, BODY_MAX};
	return chance(50) ? sizes[rnd(ARRAY_LEN(sizes))] : rnd(chance(80) ? 3000 : BODY_MAX);
}

static void make_plan(struct plan *p)
{
	*p = (struct plan){.status = 200, .cut = NEVER};
	p->head = chance(10);
	if (!p->head && chance(40)) {
		p->up = some_size();
		p->chunked_up = chance(50);
		p->trailers_up = p->chunked_up && chance(30);
	}
	p->status = chance(10) ? 204 : chance(10) ? 404 : 200;
	p->down = p->status == 204 ? 0 : some_size();
	p->how = (int)rnd(3);
	p->trailers_down = p->how == DOWN_CHUNKED && chance(30);
	p->close = chance(5);
	p->interim = chance(15) ? 1 + rnd(3) : 0;
	p->slow_read = chance(15);
	if (peaceful)
		return;
	p->early = chance(5);
	if (chance(15))
		p->cut = p->down > 0 ? rnd((uint32_t)p->down) : 0;
}

/* --- origins: codec_h1 as a server --- */

struct origin {
	struct list node;
	struct http_session *session;
};
struct serving {
	struct list node;
	struct origin *o;
	struct http_stream *st;
	struct arena arena;
	struct plan *plan;
	unsigned id;
	size_t got, sent, unconsumed;
	bool head_sent, ended, out_ended;
};
static struct list origins, servings;
static struct timer reader; /* of the slow ones */

static void serving_free(struct serving *x)
{
	list_remove(&x->node);
	arena_done(&x->arena);
	mem_free(x);
}

static void serving_over(struct serving *x)
{
	if (!x->ended || !x->out_ended)
		return;
	codec_h1.close(x->st);
	serving_free(x);
}

static void origin_head(struct serving *x)
{
	struct plan *p = x->plan;
	struct message m;
	for (unsigned i = 0; i < p->interim; i++) {
		message_init(&m, &x->arena, false);
		m.status = 103;
		ck_assert(message_add(&m, STR("Link"), STR("</a>"), true));
		codec_h1.send_head(x->st, &m, false);
	}
	message_init(&m, &x->arena, false);
	m.status = p->status;
	m.close = p->close;
	bool none = p->head || p->status == 204;
	m.head_only = p->head;
	m.framing = none                     ? FRAMING_NONE
		    : p->how == DOWN_LENGTH  ? FRAMING_LENGTH
		    : p->how == DOWN_CHUNKED ? FRAMING_CHUNKED
					     : FRAMING_CLOSE;
	if (p->how == DOWN_CLOSE)
		m.close = true;
	if (p->how == DOWN_LENGTH && p->status != 204) {
		m.has_length = true;
		m.content_length = p->down;
	}
	codec_h1.send_head(x->st, &m, none);
	x->head_sent = true;
	x->out_ended = none;
}

/* False: cut, and gone. */
static bool origin_push(struct serving *x)
{
	struct plan *p = x->plan;
	size_t room;
	char piece[8192];
	if (!x->head_sent)
		origin_head(x);
	while (!x->out_ended && x->sent < MIN(p->down, p->cut) && (room = codec_h1.send_room(x->st)) > 0) {
		size_t n = MIN(MIN(room, sizeof(piece)), MIN(p->down, p->cut) - x->sent);
		for (size_t i = 0; i < n; i++)
			piece[i] = pattern(x->id, x->sent + i);
		codec_h1.send_body(x->st, str_make(piece, n));
		x->sent += n;
	}
	if (p->cut != NEVER && x->sent >= p->cut) {
		codec_h1.reset(x->st, REASON_INTERNAL, false);
		serving_free(x);
		return false;
	}
	if (!x->out_ended && x->sent == p->down) {
		struct fields f = {NULL, 0, 0};
		if (p->trailers_down)
			ck_assert(fields_add(&f, &x->arena, STR("X-Sum"), STR("1"), true));
		codec_h1.send_end(x->st, &f);
		x->out_ended = true;
	}
	return true;
}

static void o_head(void *ctx, struct message *m)
{
	struct serving *x = ctx;
	CHECK(m->path.len > 1, "path " STR_FMT, STR_ARG(m->path));
	x->id = (unsigned)atoi(m->path.p + 1);
	CHECK(x->id < PLANS, "id %u", x->id);
	x->plan = &plans[x->id];
	/* What is idempotent and lost its origin before an answer may come again: from the near sidecar once, and for each time from the far
	 * one, whose kept connection had ended. */
	unsigned most = x->plan->up > 0 ? 1 : x->plan->cut == NEVER ? 2 : 4;
	CHECK(++x->plan->seen <= most, "request %u came %u times", x->id, x->plan->seen);
	if (x->plan->early)
		origin_push(x);
}

static void o_body(void *ctx, struct str bytes)
{
	struct serving *x = ctx;
	for (size_t i = 0; i < bytes.len; i++)
		CHECK(bytes.p[i] == pattern(x->id, x->got + i), "body of request %u differs at %zu", x->id, x->got + i);
	x->got += bytes.len;
	CHECK(x->got <= x->plan->up, "body of request %u is too long", x->id);
	if (x->plan->slow_read)
		x->unconsumed += bytes.len;
	else
		codec_h1.consumed(x->st, bytes.len);
}

static void o_end(void *ctx)
{
	struct serving *x = ctx;
	x->ended = true;
	CHECK(x->got == x->plan->up, "request %u ended after %zu of %zu bytes", x->id, x->got, x->plan->up);
	if (origin_push(x))
		serving_over(x);
}

static void o_room(void *ctx)
{
	struct serving *x = ctx;
	if (x->head_sent && origin_push(x))
		serving_over(x);
}

static void o_reset(void *ctx, const struct http_reset *why)
{
	struct serving *x = ctx;
	codec_h1.close(x->st);
	serving_free(x);
}

static const struct http_stream_events serving_events = {
    .on_head = o_head, .on_body = o_body, .on_end = o_end, .on_reset = o_reset, .on_room = o_room};

static bool o_stream(void *ctx, struct http_stream *st, const struct http_stream_events **ev, void **ret_ctx,
		     struct arena **arena)
{
	struct serving *x = NEW(struct serving);
	x->o = ctx;
	x->st = st;
	arena_init(&x->arena, 1 << 20);
	list_push(&servings, &x->node);
	*ev = &serving_events;
	*ret_ctx = x;
	*arena = &x->arena;
	return true;
}

static void origin_drop(struct origin *o)
{
	list_for_each_safe (x, &servings, struct serving, node)
		if (x->o == o) {
			codec_h1.close(x->st);
			serving_free(x);
		}
	codec_h1.session_close(&o->session);
	list_remove(&o->node);
	mem_free(o);
}

static void o_closed(void *ctx, enum reason reason, const struct err *err)
{
	origin_drop(ctx);
}

static const struct http_session_events origin_events = {.on_stream = o_stream, .on_closed = o_closed};

static void on_origin(struct spine *s, int fd)
{
	static const struct conn_events none = {NULL, NULL, NULL, NULL};
	struct origin *o = NEW(struct origin);
	list_push(&origins, &o->node);
	struct conn *c = conn_new(s->loop, fd, &none, NULL);
	o->session = codec_h1.session_new(c, HTTP_SERVER, &http_limits_default, &origin_events, o);
}

static void on_reader(struct timer *t)
{
	list_for_each_safe (x, &servings, struct serving, node) {
		size_t most = rnd(20000), n = MIN(x->unconsumed, most);
		x->unconsumed -= n;
		if (n > 0)
			codec_h1.consumed(x->st, n);
	}
	timer_start(t, 1);
}

/* --- clients: bytes --- */

struct client {
	struct conn *conn;
	struct timer timer;
	struct buf out; /* all requests */
	size_t stop;    /* sends no byte beyond */
	enum { LIKES_ALL, CLOSES, RESETS, HALF_CLOSES } then;
	unsigned first, n, at; /* of plans; the answer being read */
	bool pauses, done, eof, local;
	/* the answer being read */
	struct arena arena;
	struct http1_head head;
	struct http1_body body;
	bool in_body;
	size_t got;
};
static struct client clients[CLIENTS_MAX];
static unsigned n_right, n_local, n_cut;

static void write_request(struct buf *out, unsigned id, const struct plan *p)
{
	buf_printf(out, "%s /%u HTTP/1.1\r\nHost: orders\r\nX-Id: %u\r\n",
		   p->head     ? "HEAD"
		   : p->up > 0 ? "POST"
			       : "GET",
		   id, id);
	if (p->chunked_up && p->up > 0)
		buf_printf(out, "Transfer-Encoding: chunked\r\n\r\n");
	else if (p->up > 0)
		buf_printf(out, "Content-Length: %zu\r\n\r\n", p->up);
	else
		buf_printf(out, "\r\n");
	for (size_t at = 0; at < p->up;) {
		size_t most = (size_t)1 + rnd(9000), n = MIN(p->up - at, most);
		if (p->chunked_up)
			buf_printf(out, "%zx\r\n", n);
		for (size_t i = 0; i < n; i++) {
			char c = pattern(id, at + i);
			buf_add(out, &c, 1);
		}
		at += n;
		if (p->chunked_up)
			buf_printf(out, "\r\n");
	}
	if (p->chunked_up && p->up > 0)
		buf_printf(out, p->trailers_up ? "0\r\nX-Sum: 1\r\n\r\n" : "0\r\n\r\n");
}

static void answer_begin(struct client *c)
{
	struct http1_asked asked = {.head = plans[c->first + c->at].head};
	arena_init(&c->arena, 1 << 20);
	http1_head_init(&c->head, &c->arena, &http_limits_default, false, &asked);
	c->in_body = false;
	c->got = 0;
}

static void answer_drop(struct client *c)
{
	http1_head_done(&c->head);
	if (c->in_body)
		http1_body_done(&c->body);
	c->in_body = false;
	arena_done(&c->arena);
}

static void client_done(struct client *c, bool reset)
{
	if (c->done)
		return;
	c->done = true;
	timer_stop(&c->timer);
	if (reset)
		conn_reset(&c->conn);
	else
		conn_close(&c->conn);
	n_cut += c->at < c->n;
	if (c->at < c->n)
		answer_drop(c);
	buf_done(&c->out);
}

/* The answer is whole: is it the right one? */
static void answer_done(struct client *c)
{
	const struct plan *p = &plans[c->first + c->at];
	struct message *m = c->head.msg;
	bool local = c->local;
	CHECK(local || m->status == p->status, "answer %u has status %u", c->first + c->at, m->status);
	CHECK(local || p->head || c->got == p->down, "answer %u ended after %zu of %zu bytes (framing %d)",
	      c->first + c->at, c->got, p->down, m->framing);
	CHECK(!local || !peaceful, "answer %u came from a sidecar: %u " STR_FMT, c->first + c->at, m->status,
	      STR_ARG(message_get(m, "x-weft-error") ? message_get(m, "x-weft-error")->value : STR("?")));
	n_right += !local;
	n_local += local;
	answer_drop(c);
	c->local = false;
	if (++c->at == c->n)
		client_done(c, false);
	else
		answer_begin(c);
}

static void check_body(struct client *c, struct str data)
{
	const struct plan *p = &plans[c->first + c->at];
	for (size_t i = 0; i < data.len && !c->local; i++)
		CHECK(data.p[i] == pattern(c->first + c->at, c->got + i), "answer %u differs at %zu", c->first + c->at,
		      c->got + i);
	c->got += data.len;
	CHECK(c->local || c->got <= p->down, "answer %u is too long", c->first + c->at);
}

static void client_read(struct client *c, struct buf *rx)
{
	while (!c->done) {
		size_t used;
		struct str data;
		if (!c->in_body) {
			if (rx->len == 0)
				return;
			enum http1_step step = http1_head_feed(&c->head, buf_peek(rx), &used);
			buf_drain(rx, used);
			CHECK(step != HTTP1_BAD, "answer %u is malformed: %s", c->first + c->at, c->head.what);
			if (step == HTTP1_MORE)
				continue;
			struct message *m = c->head.msg;
			http1_head_done(&c->head);
			if (m->status < 200) {
				struct http1_asked asked = {.head = plans[c->first + c->at].head};
				CHECK(m->status == 103, "interim %u", m->status);
				http1_head_init(&c->head, &c->arena, &http_limits_default, false, &asked);
				continue;
			}
			/* the codec's own answers (408, 503 of overload) name no hop */
			c->local = message_get(m, "x-weft-error") != NULL || m->status == 400 || m->status == 408;
			http1_body_init(&c->body, m, &http_limits_default);
			c->in_body = true;
		}
		size_t before = rx->len;
		enum http1_step step = http1_body_feed(&c->body, buf_peek(rx), &used, &data);
		check_body(c, data);
		buf_drain(rx, used);
		CHECK(step != HTTP1_BAD, "answer body %u is malformed: %s", c->first + c->at, c->body.what);
		if (step == HTTP1_DONE)
			answer_done(c);
		else if (rx->len == 0 || rx->len == before)
			return;
	}
}

static void c_rx(void *ctx)
{
	struct client *c = ctx;
	if (c->done)
		return;
	client_read(c, conn_rx(c->conn));
	if (c->done || !conn_rx_eof(c->conn) || conn_rx(c->conn)->len > 0)
		return;
	if (c->in_body && c->head.msg->framing == FRAMING_CLOSE) {
		answer_done(c);
		if (c->done)
			return;
	}
	CHECK(!peaceful || c->at > 0, "the connection ended before answer %u", c->first + c->at);
	client_done(c, false);
}

static void c_fail(void *ctx, const struct err *err)
{
	struct client *c = ctx;
	CHECK(!peaceful || c->at > 0, "the connection failed before answer %u: %s", c->first + c->at, err->text);
	client_done(c, false);
}

static void c_nothing(void *ctx)
{
}

static const struct conn_events client_events = {c_nothing, c_rx, c_nothing, c_fail};

static void on_client_timer(struct timer *t)
{
	struct client *c = CONTAINER_OF(t, struct client, timer);
	size_t most = (size_t)1 + rnd(chance(50) ? 200 : 40000);
	size_t n = MIN(MIN(c->out.len, c->stop), most);
	if (conn_tx_full(c->conn))
		n = 0;
	buf_move(conn_tx(c->conn), &c->out, n);
	conn_flush(c->conn);
	if (c->stop != NEVER)
		c->stop -= n;
	if (c->stop == 0 && c->then != LIKES_ALL && chance(30)) {
		if (c->then != HALF_CLOSES) {
			client_done(c, c->then == RESETS);
			return;
		}
		conn_end_tx(c->conn);
		c->stop = NEVER;
		buf_done(&c->out);
	}
	if (c->pauses)
		conn_rx_pause(c->conn, chance(70));
	timer_start(t, 1 + rnd(3));
}

static void client_begin(struct client *c, unsigned first)
{
	struct conn_dial d = {.to = w.out_addr};
	memset(c, 0, sizeof(*c));
	c->first = first;
	c->n = 1 + rnd(REQUESTS_MAX);
	c->pauses = chance(20);
	buf_init(&c->out, SIZE_MAX);
	for (unsigned i = 0; i < c->n; i++) {
		make_plan(&plans[first + i]);
		write_request(&c->out, first + i, &plans[first + i]);
	}
	c->stop = NEVER;
	if (!peaceful && chance(40)) {
		c->stop = rnd((uint32_t)c->out.len + 1);
		c->then = 1 + rnd(3);
	}
	answer_begin(c);
	c->conn = conn_open(w.loop, &d, &client_events, c);
	timer_init(&c->timer, w.loop, on_client_timer);
	timer_start(&c->timer, rnd(3));
}

static bool clients_done(void *ctx)
{
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		if (!clients[i].done)
			return false;
	return true;
}

/* Sessions of clients have gone, no request is left on the hop, no origin has one. */
static bool calm(void *ctx)
{
	size_t requests = 0;
	json_t *dump = session_dump_all(&w.in);
	size_t i;
	json_t *one;
	json_array_foreach(dump, i, one) requests += json_array_size(json_object_get(one, "requests"));
	json_decref(dump);
	return w.out.n_sessions == 0 && requests == 0 && list_empty(&servings);
}

static void swap_identity(struct proxy *p, const char *sa)
{
	struct err err = {0};
	struct credential *c = pki_credential(&w.pki, "shop", sa, false);
	ck_assert(identity_set(p->identity, c, &err));
	credential_unref(&c);
}

static void schedule(uint64_t s)
{
	seed = s;
	state = s * 0x9e3779b97f4a7c15u + 1;
	peaceful = chance(30);
	for (unsigned i = 0; i < CLIENTS_MAX; i++)
		client_begin(&clients[i], i * REQUESTS_MAX);
	if (chance(10)) {
		spine_run(&w, 1 + rnd(5));
		swap_identity(&w.in, "orders");
		swap_identity(&w.out, "web");
	}
	if (!peaceful && chance(10)) {
		spine_run(&w, 1 + rnd(10));
		session_drain_all(chance(50) ? &w.in : &w.out);
		w.in.draining = w.out.draining = false;
	}
	if (!peaceful && chance(5)) {
		spine_run(&w, 1 + rnd(10));
		session_abort_all(chance(50) ? &w.in : &w.out);
	}
	CHECK(spine_until(&w, STUCK_MS, clients_done, NULL), "a client waits for ever");
	CHECK(spine_until(&w, STUCK_MS, calm, NULL), "something is left: %zu sessions, %d served", w.out.n_sessions,
	      !list_empty(&servings));
}

static size_t open_fds(void)
{
	size_t n = 0;
	DIR *d = opendir("/proc/self/fd");
	while (readdir(d) != NULL)
		n++;
	closedir(d);
	return n;
}

static bool nothing_left(void *ctx)
{
	return w.in.n_sessions == 0 && w.out.n_sessions == 0 && list_empty(&origins);
}

START_TEST(nothing_is_wrong_lost_or_left)
{
	unsigned long long first = 1, count = 150;
	const char *range = getenv("WEFT_STORM");
	if (range != NULL)
		ck_assert_int_eq(sscanf(range, "%llu,%llu", &first, &count), 2);
	list_init(&origins);
	list_init(&servings);
	size_t fds = open_fds();
	spine_init(&w, PROTOCOL_HTTP);
	w.on_origin = on_origin;
	timer_init(&reader, w.loop, on_reader);
	timer_start(&reader, 1);
	for (unsigned long long i = first; i < first + count; i++)
		schedule(i);
	if (range != NULL)
		fprintf(stderr, "storm: %u right answers, %u of a sidecar's own, %u connections cut\n", n_right,
			n_local, n_cut);
	ck_assert(n_right > count && n_local > 0 && n_cut > 0);
	pool_drain(w.out.pool);
	pool_drain(w.in.pool);
	CHECK(spine_until(&w, STUCK_MS, nothing_left, NULL), "connections are left: %zu in, %zu out, origins %d",
	      w.in.n_sessions, w.out.n_sessions, !list_empty(&origins));
	ck_assert_uint_eq(pool_conns(w.out.pool), 0);
	ck_assert_uint_eq(pool_conns(w.in.pool), 0);
	timer_stop(&reader);
	spine_done(&w);
	ck_assert_uint_eq(open_fds(), fds);
}
END_TEST

Suite *storm_suite(void)
{
	Suite *s = suite_create("storm");
	TCase *t = tcase_create("schedules");
	tcase_set_timeout(t, 0);
	tcase_add_test(t, nothing_is_wrong_lost_or_left);
	suite_add_tcase(s, t);
	return s;
}
