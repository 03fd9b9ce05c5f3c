/* SPDX-License-Identifier: Apache-2.0 */
/* grpc_test.c: gRPC calls between the two roles over TLS and plain connections: unary, streams both ways, refusals, caps. */
#include "lib/grpc.h"
#include "lib/mem.h"
#include "tests/unit/lib/tls_pair.h"

#include <check.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEADLINE_MS 20000

struct world {
	struct loop *loop;
	struct grpc_server *server;
	struct http_session *client;
	struct conn *dialled;
	bool ready, closed, refused_dial;
	/* the server's side of the last call */
	struct grpc_call *call;
	unsigned server_messages, server_rooms, accepted;
	size_t server_bytes;
	bool half_closed, server_ended, server_send_refused;
	enum grpc_status server_status;
	char bearer[64];
	/* the client's */
	unsigned messages, rooms;
	size_t bytes;
	uint8_t last;
	bool ended;
	enum grpc_status status;
	char text[256];
	struct grpc_call *mine;
	bool cancel_at_message;
};

/* --- server --- */

static void s_message(void *ctx, struct grpc_call *call, struct str m)
{
	struct world *w = ctx;
	w->server_messages++;
	w->server_bytes += m.len;
	const struct message *head = grpc_call_request(call);
	if (str_is(head->path, "/t.T/Echo"))
		ck_assert(grpc_send(call, m));
	if (str_is(head->path, "/t.T/Abort"))
		grpc_finish(&w->call, GRPC_ABORTED, "caf\xc3\xa9 100%\nnext");
}

static void s_half_close(void *ctx, struct grpc_call *call)
{
	struct world *w = ctx;
	w->half_closed = true;
	if (str_is(grpc_call_request(call)->path, "/t.T/Echo"))
		grpc_finish(&w->call, GRPC_OK, NULL);
}

static void s_end(void *ctx, struct grpc_call *call, enum grpc_status status, const char *text)
{
	struct world *w = ctx;
	w->server_ended = true;
	w->server_status = status;
	w->call = NULL;
}

static void s_room(void *ctx, struct grpc_call *call)
{
	((struct world *)ctx)->server_rooms++;
}

static const struct grpc_call_events server_events = {s_message, s_half_close, s_end, s_room};

static bool take(void *ctx, struct grpc_call *call, const struct grpc_call_events **ret_ev, void **ret_ctx,
		 enum grpc_status *ret_status, const char **ret_text)
{
	struct world *w = ctx;
	const struct field *f = message_get(grpc_call_request(call), "authorization");
	w->call = call;
	w->accepted++;
	if (f)
		snprintf(w->bearer, sizeof(w->bearer), STR_FMT, STR_ARG(f->value));
	*ret_ev = &server_events;
	*ret_ctx = w;
	return true;
}

static bool refuse_call(void *ctx, struct grpc_call *call, const struct grpc_call_events **ret_ev, void **ret_ctx,
			enum grpc_status *ret_status, const char **ret_text)
{
	*ret_status = GRPC_PERMISSION_DENIED;
	*ret_text = "not you";
	return false;
}

static const struct grpc_method methods[] = {
    {"/t.T/Echo", take}, {"/t.T/Hold", take}, {"/t.T/Abort", take}, {"/t.T/Deny", refuse_call}, {NULL, NULL},
};

/* --- client --- */

static void c_message(void *ctx, struct grpc_call *call, struct str m)
{
	struct world *w = ctx;
	w->messages++;
	w->bytes += m.len;
	w->last = m.len ? (uint8_t)m.p[m.len - 1] : 0;
	if (w->cancel_at_message)
		grpc_cancel(&w->mine);
}

static void c_end(void *ctx, struct grpc_call *call, enum grpc_status status, const char *text)
{
	struct world *w = ctx;
	w->ended = true;
	w->status = status;
	w->mine = NULL;
	snprintf(w->text, sizeof(w->text), "%s", text);
}

static void c_room(void *ctx, struct grpc_call *call)
{
	((struct world *)ctx)->rooms++;
}

static const struct grpc_call_events client_events = {c_message, NULL, c_end, c_room};

static void on_ready(void *ctx)
{
	((struct world *)ctx)->ready = true;
}

static void on_closed(void *ctx, enum reason why, const struct err *err)
{
	struct world *w = ctx;
	w->closed = true;
	codec_h2.session_close(&w->client);
}

static const struct http_session_events session_events = {.on_ready = on_ready, .on_closed = on_closed};

/* --- running --- */

struct waiting {
	struct timer t;
	const bool *flag;
	const unsigned *count;
	unsigned want;
	uint64_t until;
};

static void look(struct timer *t)
{
	struct waiting *wait = CONTAINER_OF(t, struct waiting, t);
	bool met = (wait->flag && *wait->flag) || (wait->count && *wait->count >= wait->want);
	if (met || loop_now_ms(t->loop) > wait->until)
		loop_stop(t->loop);
	else
		timer_start(t, 1);
}

static void run(struct world *w, const bool *flag, const unsigned *count, unsigned want, uint64_t ms)
{
	struct waiting wait = {.flag = flag, .count = count, .want = want, .until = loop_now_ms(w->loop) + ms};
	timer_init(&wait.t, w->loop, look);
	timer_start(&wait.t, 1);
	loop_run(w->loop);
	timer_stop(&wait.t);
}

static void until(struct world *w, const bool *flag)
{
	run(w, flag, NULL, 0, DEADLINE_MS);
	ck_assert(*flag);
}

static void until_count(struct world *w, const unsigned *count, unsigned want)
{
	run(w, NULL, count, want, DEADLINE_MS);
	ck_assert_uint_ge(*count, want);
}

static const struct conn_events no_events;

static void world_init(struct world *w)
{
	int fd[2];
	struct grpc_server_cfg cfg = {.methods = methods, .connections_max = 1, .ctx = w};
	memset(w, 0, sizeof(*w));
	w->loop = loop_new(NULL);
	ck_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd) == 0);
	w->server = grpc_server_new(w->loop, &cfg);
	grpc_server_accept(w->server, fd[0]);
	w->client = codec_h2.session_new(conn_new(w->loop, fd[1], &no_events, NULL), HTTP_CLIENT, &http_limits_default,
					 &session_events, w);
	until(w, &w->ready);
}

static void world_done(struct world *w)
{
	grpc_cancel(&w->mine);
	if (w->call)
		grpc_finish(&w->call, GRPC_UNAVAILABLE, "stopping");
	codec_h2.session_close(&w->client);
	grpc_server_free(&w->server);
	run(w, NULL, NULL, 0, 2);
	loop_free(&w->loop);
}

static void begin(struct world *w, const char *path)
{
	w->mine = grpc_call_new(w->client, "weftd", path, "secret", &client_events, w);
	ck_assert_ptr_nonnull(w->mine);
}

/* --- calls --- */

START_TEST(a_unary_call)
{
	struct world w;
	world_init(&w);
	begin(&w, "/t.T/Echo");
	ck_assert(grpc_send(w.mine, STR("hello")));
	grpc_half_close(w.mine);
	until(&w, &w.ended);
	ck_assert_int_eq(w.status, GRPC_OK);
	ck_assert_uint_eq(w.messages, 1);
	ck_assert_uint_eq(w.bytes, 5);
	ck_assert_str_eq(w.bearer, "Bearer secret");
	world_done(&w);
}
END_TEST

START_TEST(messages_of_every_size_stream_both_ways)
{
	static const size_t sizes[] = {0, 1, 4, 5, 16379, 16384, 65536, 1000000, GRPC_MESSAGE_MAX - 5, 0, 7};
	struct world w;
	size_t total = 0;
	char *m = mem_zalloc(GRPC_MESSAGE_MAX);
	world_init(&w);
	begin(&w, "/t.T/Echo");
	for (unsigned i = 0; i < ARRAY_LEN(sizes); i++) {
		m[sizes[i] ? sizes[i] - 1 : 0] = (char)(i + 1);
		ck_assert(grpc_send(w.mine, str_make(m, sizes[i])));
		until_count(&w, &w.messages, i + 1);
		ck_assert_uint_eq(w.last, sizes[i] ? i + 1 : 0);
		total += sizes[i];
		ck_assert_uint_eq(w.bytes, total);
	}
	ck_assert(!w.ended);
	grpc_half_close(w.mine);
	until(&w, &w.ended);
	ck_assert_int_eq(w.status, GRPC_OK);
	mem_free(m);
	world_done(&w);
}
END_TEST

START_TEST(many_small_messages_in_one_piece)
{
	struct world w;
	world_init(&w);
	begin(&w, "/t.T/Echo");
	for (int i = 0; i < 5000; i++)
		ck_assert(grpc_send(w.mine, STR("0123456789")));
	grpc_half_close(w.mine);
	until(&w, &w.ended);
	ck_assert_uint_eq(w.messages, 5000);
	ck_assert_uint_eq(w.bytes, 50000);
	world_done(&w);
}
END_TEST

START_TEST(an_unknown_method_and_a_refused_call)
{
	struct world w;
	world_init(&w);
	begin(&w, "/t.T/None");
	until(&w, &w.ended);
	ck_assert_int_eq(w.status, GRPC_UNIMPLEMENTED);
	w.ended = false;
	begin(&w, "/t.T/Deny");
	until(&w, &w.ended);
	ck_assert_int_eq(w.status, GRPC_PERMISSION_DENIED);
	ck_assert_str_eq(w.text, "not you");
	ck_assert_uint_eq(w.accepted, 0);
	world_done(&w);
}
END_TEST

START_TEST(a_status_text_survives_the_wire)
{
	struct world w;
	world_init(&w);
	begin(&w, "/t.T/Abort");
	ck_assert(grpc_send(w.mine, STR("x")));
	until(&w, &w.ended);
	ck_assert_int_eq(w.status, GRPC_ABORTED);
	ck_assert_str_eq(w.text, "caf\xc3\xa9 100%?next"); /* no second line in a log */
	world_done(&w);
}
END_TEST

START_TEST(what_was_queued_leaves_before_the_status)
{
	struct world w;
	char *m = mem_zalloc(1 << 20);
	world_init(&w);
	begin(&w, "/t.T/Hold");
	until_count(&w, &w.accepted, 1);
	for (int i = 0; i < 3; i++)
		ck_assert(grpc_send(w.call, str_make(m, 1 << 20)));
	grpc_finish(&w.call, GRPC_NOT_FOUND, "gone");
	ck_assert_ptr_null(w.call);
	until(&w, &w.ended);
	ck_assert_uint_eq(w.messages, 3);
	ck_assert_uint_eq(w.bytes, 3 << 20);
	ck_assert_int_eq(w.status, GRPC_NOT_FOUND);
	ck_assert(!w.server_ended); /* it ended itself */
	mem_free(m);
	world_done(&w);
}
END_TEST

START_TEST(a_cancelled_call_ends_at_the_server)
{
	struct world w;
	world_init(&w);
	begin(&w, "/t.T/Hold");
	until_count(&w, &w.accepted, 1);
	grpc_cancel(&w.mine);
	ck_assert_ptr_null(w.mine);
	until(&w, &w.server_ended);
	ck_assert_int_eq(w.server_status, GRPC_CANCELLED);
	ck_assert(!w.ended);
	world_done(&w);
}
END_TEST

START_TEST(a_call_may_be_cancelled_from_its_message)
{
	struct world w;
	world_init(&w);
	w.cancel_at_message = true;
	begin(&w, "/t.T/Echo");
	ck_assert(grpc_send(w.mine, STR("a")));
	ck_assert(grpc_send(w.mine, STR("b")));
	until(&w, &w.server_ended);
	ck_assert_uint_eq(w.messages, 1);
	ck_assert(!w.ended);
	world_done(&w);
}
END_TEST

START_TEST(a_lost_connection_ends_calls_on_both_sides)
{
	struct world w;
	world_init(&w);
	begin(&w, "/t.T/Hold");
	until_count(&w, &w.accepted, 1);
	grpc_finish(&w.call, GRPC_OK, NULL);
	until(&w, &w.ended);
	w.ended = false;
	begin(&w, "/t.T/Hold");
	until_count(&w, &w.accepted, 2);
	w.call = NULL;
	grpc_server_free(&w.server);
	until(&w, &w.ended);
	ck_assert_int_eq(w.status, GRPC_UNAVAILABLE);
	until(&w, &w.closed);
	world_done(&w);
}
END_TEST

/* --- limits --- */

START_TEST(the_queue_towards_a_slow_peer_has_a_cap_and_says_when_there_is_room)
{
	struct world w;
	char *m = mem_zalloc(1 << 20);
	unsigned sent = 0;
	world_init(&w);
	begin(&w, "/t.T/Hold");
	until_count(&w, &w.accepted, 1);
	/* Nothing runs between these: what the stream does not take stays in the queue. */
	while (sent < 10 && grpc_send(w.call, str_make(m, 1 << 20)))
		sent++;
	ck_assert_uint_ge(sent, 3);
	ck_assert_uint_le(sent, 5);
	until_count(&w, &w.server_rooms, 1);
	ck_assert(grpc_send(w.call, str_make(m, 1 << 20)));
	ck_assert(!grpc_send(w.call, str_make(m, GRPC_MESSAGE_MAX + 1)));
	grpc_finish(&w.call, GRPC_OK, NULL);
	until(&w, &w.ended);
	ck_assert_uint_eq(w.messages, sent + 1);
	mem_free(m);
	world_done(&w);
}
END_TEST

/* A client that speaks bytes, not messages. */
struct bytes {
	struct arena arena;
	struct http_stream *st;
	bool done;
	uint16_t status;
	uint64_t grpc;
};

static void b_fields(struct bytes *b, const struct fields *f)
{
	for (size_t i = 0; i < f->len; i++)
		if (str_is(f->v[i].name, "grpc-status"))
			ck_assert(str_to_u64(f->v[i].value, 99, &b->grpc));
}
static void b_head(void *ctx, struct message *m)
{
	struct bytes *b = ctx;
	b->status = m->status;
	b_fields(b, &m->fields);
}
static void b_body(void *ctx, struct str s)
{
	codec_h2.consumed(((struct bytes *)ctx)->st, s.len);
}
static void b_trailers(void *ctx, const struct fields *f, struct arena *a)
{
	b_fields(ctx, f);
}
static void b_end(void *ctx)
{
	((struct bytes *)ctx)->done = true;
}
static void b_reset(void *ctx, const struct http_reset *why)
{
	struct bytes *b = ctx;
	codec_h2.close(b->st);
	b->st = NULL;
	b->done = true;
}
static const struct http_stream_events bytes_events = {b_head, b_body, b_trailers, b_end, b_reset, NULL};

static void bytes_call(struct world *w, struct bytes *b, const char *method, const char *type, const char *coding,
		       struct str body)
{
	struct message m;
	memset(b, 0, sizeof(*b));
	b->grpc = 99;
	arena_init(&b->arena, 64 << 10);
	b->st = codec_h2.open(w->client, &bytes_events, b, &b->arena);
	message_init(&m, &b->arena, true);
	m.method = str_of(method);
	m.scheme = STR("http");
	m.authority = STR("a");
	m.path = STR("/t.T/Hold");
	m.framing = FRAMING_CHUNKED;
	ck_assert(message_add(&m, STR("content-type"), str_of(type), true));
	if (coding)
		ck_assert(message_add(&m, STR("grpc-encoding"), str_of(coding), true));
	codec_h2.send_head(b->st, &m, false);
	codec_h2.send_body(b->st, body);
	until(w, &b->done);
}

static void bytes_done(struct bytes *b)
{
	if (b->st)
		codec_h2.reset(b->st, REASON_CLIENT_GONE, false);
	arena_done(&b->arena);
}

static const struct {
	const char *what, *method, *type, *coding;
	struct str body;
	uint16_t http;
	enum grpc_status grpc;
} refused[] = {
    {"GET", "GET", "application/grpc", NULL, STR(""), 405, GRPC_INTERNAL},
    {"no gRPC", "POST", "application/json", NULL, STR(""), 415, GRPC_INTERNAL},
    {"gRPC-web", "POST", "application/grpc-web", NULL, STR(""), 415, GRPC_INTERNAL},
    {"gzip", "POST", "application/grpc", "gzip", STR(""), 200, GRPC_UNIMPLEMENTED},
    {"compressed flag", "POST", "application/grpc+proto", NULL, STR("\1\0\0\0\1x"), 200, GRPC_UNIMPLEMENTED},
    {"unknown flag", "POST", "application/grpc", NULL, STR("\2\0\0\0\1x"), 200, GRPC_INTERNAL},
    {"4 GiB announced", "POST", "application/grpc", NULL, STR("\0\xff\xff\xff\xff"), 200, GRPC_RESOURCE_EXHAUSTED},
    {"one byte more than the cap", "POST", "application/grpc", NULL, STR("\0\0\x40\0\1"), 200, GRPC_RESOURCE_EXHAUSTED},
};

START_TEST(what_is_not_grpc_is_refused)
{
	struct world w;
	struct bytes b;
	world_init(&w);
	bytes_call(&w, &b, refused[_i].method, refused[_i].type, refused[_i].coding, refused[_i].body);
	ck_assert_msg(b.status == refused[_i].http && b.grpc == refused[_i].grpc, "%s: HTTP %u, status %u",
		      refused[_i].what, b.status, (unsigned)b.grpc);
	ck_assert_uint_eq(w.server_messages, 0);
	if (refused[_i].body.len)
		ck_assert(w.server_ended);
	bytes_done(&b);
	world_done(&w);
}
END_TEST

START_TEST(connections_beyond_the_most_are_closed)
{
	struct world w;
	int fd[2];
	char c;
	world_init(&w);
	ck_assert(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fd) == 0);
	grpc_server_accept(w.server, fd[0]);
	ck_assert_int_eq(read(fd[1], &c, 1), 0);
	close(fd[1]);
	world_done(&w);
}
END_TEST

/* --- TLS --- */

static int pick_h2(SSL *ssl, const unsigned char **out, unsigned char *outlen, const unsigned char *in, unsigned inlen,
		   void *arg)
{
	static const unsigned char h2[] = "\2h2";
	return SSL_select_next_proto((unsigned char **)out, outlen, h2, 3, in, inlen) == OPENSSL_NPN_NEGOTIATED
		   ? SSL_TLSEXT_ERR_OK
		   : SSL_TLSEXT_ERR_NOACK;
}

static void dial_open(void *ctx)
{
	struct world *w = ctx;
	w->client = codec_h2.session_new(w->dialled, HTTP_CLIENT, &http_limits_default, &session_events, w);
	w->dialled = NULL;
}
static void dial_rx(void *ctx)
{
	struct world *w = ctx;
	if (conn_rx_eof(w->dialled))
		w->refused_dial = true;
}
static void dial_fail(void *ctx, const struct err *err)
{
	((struct world *)ctx)->refused_dial = true;
}
static const struct conn_events dial_events = {.on_open = dial_open, .on_rx = dial_rx, .on_fail = dial_fail};
static void dial_idle(void *ctx)
{
}
static const struct conn_events idle_events = {.on_open = dial_idle, .on_rx = dial_rx, .on_fail = dial_fail};

static void tls_world(struct world *w, struct tls_pair *tls, const char *alpn)
{
	struct addr a;
	struct grpc_server_cfg cfg = {.methods = methods, .connections_max = 4, .ctx = w};
	memset(w, 0, sizeof(*w));
	tls_pair_init(tls);
	SSL_CTX_set_alpn_select_cb(tls->server, pick_h2, NULL);
	cfg.tls = tls->server;
	w->loop = loop_new(NULL);
	w->server = grpc_server_new(w->loop, &cfg);
	ck_assert(addr_parse(STR("127.0.0.1:0"), &a));
	int lfd = sock_listen_tcp(&a, false, 8, NULL);
	ck_assert_int_ge(lfd, 0);
	ck_assert(sock_local(lfd, &a));
	struct conn_dial dial = {.to = a, .tls = tls->client, .alpn = (const uint8_t *)alpn, .alpn_len = strlen(alpn)};
	w->dialled = conn_open(w->loop, &dial, strcmp(alpn, "\2h2") == 0 ? &dial_events : &idle_events, w);
	int fd = -1;
	for (int i = 0; i < 5000 && fd < 0; i++) {
		run(w, NULL, NULL, 0, 1);
		fd = accept4(lfd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	}
	ck_assert_int_ge(fd, 0);
	grpc_server_accept(w->server, fd);
	close(lfd);
}

START_TEST(calls_over_tls)
{
	struct world w;
	struct tls_pair tls;
	tls_world(&w, &tls, "\2h2");
	until(&w, &w.ready);
	begin(&w, "/t.T/Echo");
	ck_assert(grpc_send(w.mine, STR("over TLS")));
	grpc_half_close(w.mine);
	until(&w, &w.ended);
	ck_assert_int_eq(w.status, GRPC_OK);
	ck_assert_uint_eq(w.bytes, 8);
	world_done(&w);
	tls_pair_done(&tls);
}
END_TEST

START_TEST(without_alpn_h2_the_connection_is_closed)
{
	struct world w;
	struct tls_pair tls;
	tls_world(&w, &tls, "\2xx");
	until(&w, &w.refused_dial);
	ck_assert_uint_eq(w.accepted, 0);
	conn_close(&w.dialled);
	world_done(&w);
	tls_pair_done(&tls);
}
END_TEST

Suite *grpc_suite(void);
Suite *grpc_suite(void)
{
	Suite *s = suite_create("grpc");
	TCase *t = tcase_create("calls");
	tcase_set_timeout(t, 60);
	tcase_add_test(t, a_unary_call);
	tcase_add_test(t, messages_of_every_size_stream_both_ways);
	tcase_add_test(t, many_small_messages_in_one_piece);
	tcase_add_test(t, an_unknown_method_and_a_refused_call);
	tcase_add_test(t, a_status_text_survives_the_wire);
	tcase_add_test(t, what_was_queued_leaves_before_the_status);
	tcase_add_test(t, a_cancelled_call_ends_at_the_server);
	tcase_add_test(t, a_call_may_be_cancelled_from_its_message);
	tcase_add_test(t, a_lost_connection_ends_calls_on_both_sides);
	tcase_add_test(t, the_queue_towards_a_slow_peer_has_a_cap_and_says_when_there_is_room);
	tcase_add_loop_test(t, what_is_not_grpc_is_refused, 0, ARRAY_LEN(refused));
	tcase_add_test(t, connections_beyond_the_most_are_closed);
	tcase_add_test(t, calls_over_tls);
	tcase_add_test(t, without_alpn_h2_the_connection_is_closed);
	suite_add_tcase(s, t);
	return s;
}
