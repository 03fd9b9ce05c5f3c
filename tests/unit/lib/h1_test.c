/* SPDX-License-Identifier: Apache-2.0 */
/* h1_test.c: the HTTP/1 codec on one end of a socket pair, raw bytes on the other. What the owner of the codec heard is
 * a line of words; what the other end got is compared byte by byte. Every row runs with its bytes in one piece and, again,
 * one byte a loop turn. */
#include "lib/http/codec.h"
#include "lib/mem.h"

#include <check.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

Suite *h1_suite(void);

#define DEADLINE_MS 20000
#define SURPLUS_MS  3 /* after what was expected: time for what was not */

static struct loop *loop;
static struct timer deadline, surplus;
static bool got_all;

/* The raw end. */
static struct {
	int fd;
	struct io io;
	struct timer next;
	struct str to_send;
	size_t piece;
	bool fin_after, eof, reset;
	struct buf got;
	size_t want; /* bytes; then the run is over, unless want_eof */
	bool want_eof, sent_all;
} raw;

/* The owner of the codec. */
static struct {
	struct http_session *session;
	struct http_stream *st;
	struct arena arena;
	struct buf log;
	struct message *m;
	struct http_limits lim;
	bool closed, hold_body, drop_body, in_body;
	unsigned drainings;
	size_t held;
	const char *wait_for; /* words of the log that end the run */
} own;

static void check_over(void)
{
	struct str log = own.log.len ? buf_pullup(&own.log, own.log.len) : STR("");
	bool heard = !own.wait_for || (memmem(log.p, log.len, own.wait_for, strlen(own.wait_for)) != NULL);
	bool bytes = raw.want_eof ? raw.eof || raw.reset : raw.got.len >= raw.want;
	if (heard && bytes && raw.sent_all && !got_all) {
		got_all = true;
		timer_start(&surplus, SURPLUS_MS);
	}
}

/* Pieces of a body that follow each other are one word. */
static void log_body(struct str bytes)
{
	if (!own.in_body)
		buf_printf(&own.log, "body(");
	own.in_body = true;
	buf_add_str(&own.log, bytes);
}

static void log_word(const char *word)
{
	if (own.in_body)
		buf_printf(&own.log, ") ");
	own.in_body = false;
	buf_add_str(&own.log, str_of(word));
	check_over();
}

#define LOG(...)                                           \
	do {                                               \
		char word[512];                            \
		snprintf(word, sizeof(word), __VA_ARGS__); \
		log_word(word);                            \
	} while (0)

static void on_deadline(struct timer *t)
{
	ck_abort_msg("deadline: log \"" STR_FMT "\", got \"" STR_FMT "\"",
		     STR_ARG(buf_pullup(&own.log, MIN(own.log.len, (size_t)4096))),
		     STR_ARG(buf_pullup(&raw.got, MIN(raw.got.len, (size_t)4096))));
}

static void on_surplus(struct timer *t)
{
	loop_stop(loop);
}

static void raw_send(struct timer *t)
{
	size_t n = MIN(raw.piece, raw.to_send.len);
	if (n) {
		ssize_t sent = send(raw.fd, raw.to_send.p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EPIPE)
			raw.to_send.len = 0;
		else if (sent > 0)
			raw.to_send = str_make(raw.to_send.p + sent, raw.to_send.len - (size_t)sent);
	}
	if (raw.to_send.len) {
		timer_start(&raw.next, 0);
		return;
	}
	if (raw.fin_after)
		shutdown(raw.fd, SHUT_WR);
	raw.sent_all = true;
	check_over();
}

static void raw_io(struct io *io, bool readable, bool writable)
{
	size_t room;
	uint8_t *p = buf_reserve(&raw.got, 1024, &room);
	ssize_t n = recv(raw.fd, p, room, MSG_DONTWAIT);
	buf_commit(&raw.got, n > 0 ? (size_t)n : 0);
	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		raw.eof = n == 0;
		raw.reset = n < 0;
		io_want(&raw.io, false, false);
	}
	check_over();
}

static struct conn *make_pair(void)
{
	int fd[2];
	struct err err;
	loop = loop_new(&err);
	ck_assert(loop != NULL);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
	timer_init(&deadline, loop, on_deadline);
	timer_start(&deadline, DEADLINE_MS);
	timer_init(&surplus, loop, on_surplus);
	memset(&raw, 0, sizeof(raw));
	memset(&own, 0, sizeof(own));
	got_all = false;
	raw.fd = fd[1];
	buf_init(&raw.got, SIZE_MAX);
	buf_init(&own.log, SIZE_MAX);
	own.lim = http_limits_default;
	io_init(&raw.io, loop, raw.fd, raw_io);
	io_want(&raw.io, true, false);
	timer_init(&raw.next, loop, raw_send);
	return conn_new(loop, fd[0], NULL, NULL);
}

static void tear_down(void)
{
	if (own.st)
		http_stream_ops(own.st)->close(own.st);
	if (own.session)
		codec_h1.session_close(&own.session);
	arena_done(&own.arena);
	buf_done(&raw.got);
	buf_done(&own.log);
	io_stop(&raw.io);
	close(raw.fd);
	timer_stop(&raw.next);
	timer_stop(&deadline);
	timer_stop(&surplus);
	loop_free(&loop);
}

static void say(struct str bytes, size_t piece)
{
	raw.to_send = bytes;
	raw.piece = piece;
	raw.sent_all = false;
	timer_start(&raw.next, 0);
}

/* --- a server whose answers depend on the path --- */

static void answer(struct http_stream *st, uint16_t status, const char *body, const char *reason)
{
	struct message m;
	message_init(&m, &own.arena, false);
	m.status = status;
	m.reason = reason[0] != '\0' ? str_of(reason) : (struct str){NULL, 0};
	m.version = HTTP_1_1;
	m.has_length = body != NULL;
	m.content_length = body ? strlen(body) : 0;
	m.close = str_is(own.m->path, "/close");
	if (str_is(own.m->path, "/old"))
		m.version = HTTP_1_0;
	ck_assert(message_add(&m, STR("X-MiXeD"), STR("1"), true));
	bool end = !body || !*body || str_is(own.m->method, "HEAD");
	codec_h1.send_head(st, &m, end);
	if (end)
		return;
	codec_h1.send_body(st, str_of(body));
	codec_h1.send_end(st, NULL);
}

static void answer_streamed(struct http_stream *st, enum http_version version)
{
	struct message m;
	struct fields trailers = {0};
	message_init(&m, &own.arena, false);
	m.status = 200;
	m.version = version;
	if (str_is(own.m->path, "/until-close")) {
		m.framing = FRAMING_CLOSE;
		m.close = true;
	}
	codec_h1.send_head(st, &m, false);
	codec_h1.send_body(st, STR("ab"));
	codec_h1.send_body(st, STR("cde"));
	ck_assert(fields_add(&trailers, &own.arena, STR("T"), STR("1"), true));
	codec_h1.send_end(st, &trailers);
}

static void tunnel_open(struct http_stream *st, uint16_t status)
{
	struct message m;
	message_init(&m, &own.arena, false);
	m.status = status;
	m.framing = FRAMING_TUNNEL;
	codec_h1.send_head(st, &m, false);
}

static void server_reply(void)
{
	struct str path = own.m->path;
	if (str_is(path, "/chunked") || str_is(path, "/until-close"))
		answer_streamed(own.st, HTTP_1_1);
	else if (str_is(path, "/old-streamed"))
		answer_streamed(own.st, HTTP_1_0);
	else if (str_is(path, "/204"))
		answer(own.st, 204, NULL, "");
	else if (str_is(path, "/304"))
		answer(own.st, 304, "12345", "");
	else if (str_is(path, "/empty"))
		answer(own.st, 200, NULL, "");
	else if (!str_is(path, "/limbo"))
		answer(own.st, 200, "ok", "Fine");
}

static void server_close(void)
{
	struct http_stream *st = own.st;
	own.st = NULL;
	codec_h1.close(st);
}

static void server_head(void *ctx, struct message *m)
{
	own.m = m;
	LOG("head(" STR_FMT " " STR_FMT STR_FMT ") ", STR_ARG(m->method), STR_ARG(m->authority), STR_ARG(m->path));
	if (str_is(m->path, "/deny"))
		answer(own.st, 403, "", "");
	if (str_is(m->path, "/continue"))
		answer(own.st, 100, NULL, "");
	if (m->protocol.len || str_is(m->method, "CONNECT")) {
		if (str_is(m->path, "/no-upgrade"))
			answer(own.st, 200, "ok", "Fine");
		else if (!str_is(m->path, "/limbo"))
			tunnel_open(own.st, str_is(m->path, "/up-by-200") || !m->protocol.len ? 200 : 101);
	}
}

static void server_body(void *ctx, struct str bytes)
{
	if (own.hold_body) {
		own.held += bytes.len;
		if (own.drop_body)
			codec_h1.consumed(own.st, bytes.len);
		return;
	}
	log_body(bytes);
	codec_h1.consumed(own.st, bytes.len);
	if (own.m->framing == FRAMING_TUNNEL)
		codec_h1.send_body(own.st, bytes);
}

static void server_trailers(void *ctx, const struct fields *f, struct arena *a)
{
	for (size_t i = 0; i < f->len; i++)
		LOG("trailer(" STR_FMT "=" STR_FMT ") ", STR_ARG(f->v[i].name), STR_ARG(f->v[i].value));
}

static void server_end(void *ctx)
{
	LOG("end ");
	if (str_is(own.m->path, "/deny") || str_is(own.m->path, "/no-upgrade"))
		;
	else if (own.m->framing == FRAMING_TUNNEL)
		codec_h1.send_end(own.st, NULL);
	else
		server_reply();
	if (!str_is(own.m->path, "/limbo"))
		server_close();
}

static void on_reset(void *ctx, const struct http_reset *why)
{
	LOG("reset(%s%s%s) ", reason_row(why->reason)->label, why->unprocessed ? " unprocessed" : "",
	    why->before_response ? " before" : "");
	server_close();
}

static void on_room(void *ctx)
{
	LOG("room ");
}

static const struct http_stream_events server_events = {server_head, server_body, server_trailers,
							server_end,  on_reset,    on_room};

static bool refuse_streams;

static bool on_stream(void *ctx, struct http_stream *st, const struct http_stream_events **ret_ev, void **ret_ctx,
		      struct arena **ret_arena)
{
	if (refuse_streams)
		return false;
	own.st = st;
	arena_done(&own.arena);
	arena_init(&own.arena, 128 << 10);
	*ret_ev = &server_events;
	*ret_arena = &own.arena;
	return true;
}

static void on_ready(void *ctx)
{
	LOG("ready ");
}

static void on_idle(void *ctx, bool idle)
{
}

static void on_draining(void *ctx)
{
	own.drainings++;
}

static void on_closed(void *ctx, enum reason reason, const struct err *err)
{
	own.closed = true;
	LOG("closed(%s) ", reason_row(reason)->label);
}

static const struct http_session_events session_events = {on_stream, on_ready, on_idle, on_draining, on_closed};

struct server_row {
	const char *claim;
	struct str in;
	bool fin;        /* the client ends its side behind it */
	bool want_eof;   /* the server closes */
	const char *log; /* bodies may come in pieces: body(..) body(..) are joined before comparing */
	const char *out;
};

#define H " HTTP/1.1\r\nHost: a\r\n"
#define S(text)                        \
	{                              \
		text, sizeof(text) - 1 \
	}
#define OK_FIELDS  "X-MiXeD: 1\r\n"
#define OK_BODY    "Content-Length: 2\r\n\r\nok"
#define FINE       "HTTP/1.1 200 Fine\r\n" OK_FIELDS OK_BODY
#define FINE_CLOSE "HTTP/1.1 200 Fine\r\n" OK_FIELDS "Connection: close\r\n" OK_BODY
#define OWN(status, len, text)                                                                                         \
	"HTTP/1.1 " status "\r\nContent-Type: text/plain\r\nContent-Length: " len "\r\nConnection: close\r\n\r\n" text \
	"\n"
#define BAD OWN("400 Bad Request", "38", "the request is malformed or ambiguous")

static const struct server_row server_rows[] = {
    {"answers and stays open", S("GET /" H "\r\n"), false, false, "head(GET a/) end ", FINE},
    {"answers pipelined requests one after the other", S("GET /1" H "\r\nGET /2" H "\r\n\r\nGET /3" H "\r\n"), false,
     false, "head(GET a/1) end head(GET a/2) end head(GET a/3) end ", FINE FINE FINE},
    {"passes a body by length and goes on", S("POST /" H "Content-Length: 5\r\n\r\nhelloGET /2" H "\r\n"), false, false,
     "head(POST a/) body(hello) end head(GET a/2) end ", FINE FINE},
    {"passes a chunked body with trailers",
     S("POST /" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: 1\r\n\r\n"), false, false,
     "head(POST a/) body(hello) trailer(T=1) end ", FINE},
    {"answers in chunks with trailers", S("GET /chunked" H "\r\n"), false, false, "head(GET a/chunked) end ",
     "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n3\r\ncde\r\n0\r\nT: 1\r\n\r\n"},
    {"answers HEAD without a body, then the next", S("HEAD /" H "\r\nGET /" H "\r\n"), false, false,
     "head(HEAD a/) end head(GET a/) end ", "HTTP/1.1 200 Fine\r\n" OK_FIELDS "Content-Length: 2\r\n\r\n" FINE},
    {"answers HEAD of a streamed page without a body", S("HEAD /chunked" H "\r\nGET /" H "\r\n"), false, false,
     "head(HEAD a/chunked) end head(GET a/) end ", "HTTP/1.1 200 OK\r\n\r\n" FINE},
    {"204 has no length and no body", S("GET /204" H "\r\n"), false, false, "head(GET a/204) end ",
     "HTTP/1.1 204 No Content\r\n" OK_FIELDS "\r\n"},
    {"304 keeps its length and has no body", S("GET /304" H "\r\nGET /" H "\r\n"), false, false,
     "head(GET a/304) end head(GET a/) end ",
     "HTTP/1.1 304 Not Modified\r\n" OK_FIELDS "Content-Length: 5\r\n\r\n" FINE},
    {"an answer without a body says so", S("GET /empty" H "\r\n"), false, false, "head(GET a/empty) end ",
     "HTTP/1.1 200 OK\r\n" OK_FIELDS "Content-Length: 0\r\n\r\n"},
    {"closes when the client said close", S("GET /" H "Connection: close\r\n\r\n"), false, true,
     "head(GET a/) end closed(ok) ", FINE_CLOSE},
    {"closes when the answer says close", S("GET /close" H "\r\n"), false, true, "head(GET a/close) end closed(ok) ",
     FINE_CLOSE},
    {"never answers what is pipelined behind close", S("GET /" H "Connection: close\r\n\r\nGET /2" H "\r\n"), false,
     true, "head(GET a/) end closed(ok) ", FINE_CLOSE},
    {"closes behind HTTP/1.0", S("GET / HTTP/1.0\r\n\r\n"), false, true, "head(GET /) end closed(ok) ", FINE_CLOSE},
    {"stays open for HTTP/1.0 with keep-alive", S("GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), false, false,
     "head(GET /) end ", "HTTP/1.1 200 Fine\r\n" OK_FIELDS "Connection: keep-alive\r\n" OK_BODY},
    {"streams to HTTP/1.0 until it closes", S("GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), false, true,
     "head(GET /chunked) end closed(ok) ", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde"},
    {"keeps an answer of HTTP/1.0 one", S("GET /old" H "\r\n"), false, false, "head(GET a/old) end ",
     "HTTP/1.0 200 Fine\r\n" OK_FIELDS "Connection: keep-alive\r\n" OK_BODY},
    {"streams an answer of HTTP/1.0 until it closes", S("GET /old-streamed" H "\r\n"), false, true,
     "head(GET a/old-streamed) end closed(ok) ", "HTTP/1.0 200 OK\r\nConnection: close\r\n\r\nabcde"},
    {"an answer that lasted until its connection closed does so here", S("GET /until-close" H "\r\n"), false, true,
     "head(GET a/until-close) end closed(ok) ", "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcde"},
    {"a client that ended its side gets its answer", S("GET /" H "\r\n"), true, true, "head(GET a/) end closed(ok) ",
     FINE},
    {"a client that ended its side gets all its answers", S("GET /" H "\r\nGET /2" H "\r\n"), true, true,
     "head(GET a/) end head(GET a/2) end closed(ok) ", FINE FINE},
    {"an end before any request is in order", S(""), true, true, "closed(ok) ", ""},
    {"an end behind an empty line is in order", S("GET /" H "\r\n\r\n"), true, true, "head(GET a/) end closed(ok) ",
     FINE},
    {"an end within a head is a loss", S("GET / HT"), true, true, "reset(client_gone before) closed(client_gone) ", ""},
    {"an end within a body is a loss", S("POST /" H "Content-Length: 5\r\n\r\nhel"), true, true,
     "head(POST a/) body(hel) reset(client_gone before) closed(client_gone) ", ""},
    {"an end within chunks is a loss", S("POST /" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"), true,
     true, "head(POST a/) body(hello) reset(client_gone before) closed(client_gone) ", ""},
    {"refuses two lengths, and never answers what is pipelined behind",
     S("POST /" H "Content-Length: 1\r\nContent-Length: 1\r\n\r\nxGET /2" H "\r\n"), false, true,
     "reset(bad_request before) closed(bad_request) ", BAD},
    {"refuses length and chunked, and never answers what is pipelined behind",
     S("POST /" H "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /2" H "\r\n"), false, true,
     "reset(bad_request before) closed(bad_request) ", BAD},
    {"answers what came before a refused request", S("GET /" H "\r\nGET /\r\n\r\n"), false, true,
     "head(GET a/) end reset(bad_request before) closed(bad_request) ", FINE BAD},
    {"refuses a malformed chunk with 400 while nothing is answered",
     S("POST /" H "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n5;\n"), false, true,
     "head(POST a/) body(hello) reset(bad_request before) closed(bad_request) ", BAD},
    {"HTTP/2.0 is refused with 505", S("GET / HTTP/2.0\r\nHost: a\r\n\r\n"), false, true,
     "reset(bad_version before) closed(bad_version) ",
     OWN("505 HTTP Version Not Supported", "34", "the HTTP version is not supported")},
    {"an unknown expectation is refused with 417", S("GET /" H "Expect: x\r\n\r\n"), false, true,
     "reset(expectation before) closed(expectation) ",
     OWN("417 Expectation Failed", "34", "the expectation is not understood")},
    {"passes 100 on before the body", S("POST /continue" H "Expect: 100-continue\r\nContent-Length: 2\r\n\r\nhi"),
     false, false, "head(POST a/continue) body(hi) end ", "HTTP/1.1 100 Continue\r\n" OK_FIELDS "\r\n" FINE},
    {"says no 1xx to HTTP/1.0", S("POST /continue HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi"),
     false, false, "head(POST /continue) body(hi) end ",
     "HTTP/1.1 200 Fine\r\n" OK_FIELDS "Connection: keep-alive\r\n" OK_BODY},
    {"an answer that leaves the body unread closes", S("POST /deny" H "Content-Length: 4\r\n\r\nbodyGET /2" H "\r\n"),
     false, true, "head(POST a/deny) body(body) end closed(ok) ",
     "HTTP/1.1 403 Forbidden\r\n" OK_FIELDS "Connection: close\r\nContent-Length: 0\r\n\r\n"},
    {"an upgrade is a tunnel both ways, half-closed by the client",
     S("GET /up" H "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello"), true, true,
     "head(GET a/up) body(\x81\x05hello) end closed(ok) ",
     "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n\x81\x05hello"},
    {"200 of a tunnel answers an upgrade with 101",
     S("GET /up-by-200" H "Connection: upgrade\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\r\n\r\n"), true, true,
     "head(GET a/up-by-200) body(GET / HTTP/1.1\r\n\r\n) end closed(ok) ",
     "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nGET / HTTP/1.1\r\n\r\n"},
    {"bytes behind a refused upgrade are the next request",
     S("GET /no-upgrade" H "Connection: upgrade\r\nUpgrade: websocket\r\n\r\nGET /2" H "\r\n"), false, false,
     "head(GET a/no-upgrade) end head(GET a/2) end ", FINE FINE},
    {"CONNECT is a tunnel", S("CONNECT b:1 HTTP/1.1\r\nHost: b:1\r\n\r\nraw\n"), true, true,
     "head(CONNECT b:1) body(raw\n) end closed(ok) ", "HTTP/1.1 200 OK\r\n\r\nraw\n"},
    {"early bytes of a tunnel wait for the answer",
     S("GET /limbo" H "Connection: upgrade\r\nUpgrade: websocket\r\n\r\nearly"), false, false, "head(GET a/limbo) ",
     ""},
};

static void compare(const char *claim, const char *want_log, struct str want_out)
{
	char *log = mem_strndup(own.log.len ? buf_pullup(&own.log, own.log.len).p : "", own.log.len);
	char *ready = strstr(log, "ready closed(peer_protocol)"); /* when the surplus came in a later turn */
	if (ready)
		memmove(ready, ready + 6, strlen(ready + 6) + 1);
	ck_assert_msg(strcmp(log, want_log) == 0, "%s: heard \"%s\", want \"%s\"", claim, log, want_log);
	struct str out = raw.got.len ? buf_pullup(&raw.got, raw.got.len) : STR("");
	ck_assert_msg(str_eq(out, want_out), "%s: got \"" STR_FMT "\"", claim, STR_ARG(out));
	mem_free(log);
}

static void run_server_row(const struct server_row *row, size_t piece)
{
	struct conn *c = make_pair();
	refuse_streams = false;
	own.session = codec_h1.session_new(c, HTTP_SERVER, &own.lim, &session_events, NULL);
	raw.want = strlen(row->out);
	raw.want_eof = row->want_eof;
	raw.fin_after = row->fin;
	if (strstr(row->log, "closed("))
		own.wait_for = "closed(";
	else if (raw.want == 0)
		own.wait_for = row->log;
	say(row->in, piece);
	loop_run(loop);
	compare(row->claim, row->log, str_of(row->out));
	bool said_close =
	    strstr(row->in.p, "Connection: close") || (strstr(row->in.p, "HTTP/1.0") && !strstr(row->in.p, "alive"));
	ck_assert_uint_eq(own.drainings, said_close);
	tear_down();
}

START_TEST(server)
{
	run_server_row(&server_rows[_i], SIZE_MAX);
	run_server_row(&server_rows[_i], 1);
}
END_TEST

START_TEST(refuses_a_stream_with_503_when_the_owner_will_not_have_it)
{
	struct conn *c = make_pair();
	refuse_streams = true;
	own.session = codec_h1.session_new(c, HTTP_SERVER, &own.lim, &session_events, NULL);
	raw.want_eof = true;
	own.wait_for = "closed(";
	say((struct str)S("GET /" H "\r\n"), SIZE_MAX);
	loop_run(loop);
	compare("503", "closed(overload) ",
		(struct str)S(OWN("503 Service Unavailable", "44", "the proxy is short of memory or descriptors")));
	tear_down();
}
END_TEST

static void run_timeout(const char *in, const char *log, const char *out)
{
	struct conn *c = make_pair();
	refuse_streams = false;
	own.lim.head_timeout_ms = 30;
	own.lim.idle_timeout_ms = 60;
	own.lim.stream_idle_ms = 90;
	own.session = codec_h1.session_new(c, HTTP_SERVER, &own.lim, &session_events, NULL);
	raw.want_eof = true;
	own.wait_for = "closed(";
	say(str_of(in), SIZE_MAX);
	loop_run(loop);
	compare(log, log, str_of(out));
	tear_down();
}

START_TEST(slow_heads_get_408_and_silent_connections_are_closed)
{
	run_timeout("GET / HT", "reset(head_timeout before) closed(head_timeout) ",
		    OWN("408 Request Timeout", "40", "the request head did not arrive in time"));
	run_timeout("", "closed(idle) ", "");
	run_timeout("GET /" H "\r\n", "head(GET a/) end closed(idle) ", FINE);
	run_timeout("POST /" H "Content-Length: 5\r\n\r\nhel",
		    "head(POST a/) body(hel) reset(idle before) closed(idle) ", "");
	run_timeout("GET /limbo" H "\r\n", "head(GET a/limbo) end reset(idle before) closed(idle) ", "");
}
END_TEST

START_TEST(drains_an_idle_connection_at_once_and_a_busy_one_after_its_answer)
{
	struct conn *c = make_pair();
	refuse_streams = false;
	own.session = codec_h1.session_new(c, HTTP_SERVER, &own.lim, &session_events, NULL);
	codec_h1.drain(own.session);
	raw.want_eof = raw.sent_all = true;
	own.wait_for = "closed(";
	loop_run(loop);
	compare("idle", "closed(ok) ", (struct str){0});
	tear_down();

	c = make_pair();
	own.session = codec_h1.session_new(c, HTTP_SERVER, &own.lim, &session_events, NULL);
	raw.want_eof = false;
	own.wait_for = "end ";
	say((struct str)S("GET /limbo" H "\r\n"), SIZE_MAX);
	loop_run(loop);
	codec_h1.drain(own.session);
	answer(own.st, 200, "ok", "Fine");
	server_close();
	got_all = false;
	own.wait_for = "closed(";
	raw.want_eof = true;
	loop_run(loop);
	compare("busy", "head(GET a/limbo) end closed(ok) ", (struct str)S(FINE_CLOSE));
	tear_down();
}
END_TEST

static void ask_late(struct timer *t)
{
	timer_stop(t);
	say((struct str)S("GET /" H "\r\n"), SIZE_MAX);
}

/* The age comes while nothing is asked: a FIN would cross the next request. */
START_TEST(an_old_connection_ends_with_its_next_answer_not_before_it)
{
	struct conn *c = make_pair();
	struct timer late;
	refuse_streams = false;
	own.lim.age_max_ms = 30;
	own.session = codec_h1.session_new(c, HTTP_SERVER, &own.lim, &session_events, NULL);
	timer_init(&late, loop, ask_late);
	timer_start(&late, 120);
	raw.want_eof = true;
	own.wait_for = "closed(";
	loop_run(loop);
	compare("old", "head(GET a/) end closed(ok) ", (struct str)S(FINE_CLOSE));
	tear_down();
}
END_TEST

/* 1 MiB in; nothing is consumed: the codec stops at its window and what is behind stays in the sockets. */
START_TEST(stops_reading_a_body_that_is_not_consumed)
{
	struct conn *c = make_pair();
	size_t n = 1 << 20;
	char *bytes = mem_zalloc(n + 100);
	int head = snprintf(bytes, 100, "POST /" H "Content-Length: %zu\r\n\r\n", n);
	memset(bytes + head, 'x', n);
	refuse_streams = false;
	own.session = codec_h1.session_new(c, HTTP_SERVER, &own.lim, &session_events, NULL);
	own.hold_body = true;
	own.wait_for = "head(";
	say(str_make(bytes, (size_t)head + n), SIZE_MAX);
	raw.sent_all = true;
	raw.want = 0;
	loop_run(loop);
	ck_assert_uint_ge(own.held, own.lim.window);
	ck_assert_uint_le(own.held, own.lim.window + (16 << 10));
	size_t held = own.held;
	own.drop_body = true;
	codec_h1.consumed(own.st, held);
	got_all = false;
	raw.want = strlen(FINE);
	loop_run(loop);
	ck_assert_uint_eq(own.held, n);
	struct str out = buf_pullup(&raw.got, raw.got.len);
	ck_assert(str_is(out, FINE));
	mem_free(bytes);
	tear_down();
}
END_TEST

/* --- the client --- */

static void client_head(void *ctx, struct message *m)
{
	LOG("%u(" STR_FMT ") ", m->status, STR_ARG(m->reason));
}

static void client_body(void *ctx, struct str bytes)
{
	log_body(bytes);
	codec_h1.consumed(own.st, bytes.len);
}

static void client_end(void *ctx)
{
	LOG("end ");
	server_close();
}

static void client_room(void *ctx)
{
}

static const struct http_stream_events client_events = {client_head, client_body, server_trailers,
							client_end,  on_reset,    client_room};

enum ask {
	ASK_GET,
	ASK_HEAD,
	ASK_POST,
	ASK_CHUNKED,
	ASK_OLD,
	ASK_CLOSE,
	ASK_UPGRADE,
	ASK_EXTENDED,
	ASK_CONNECT,
	ASK_UNFINISHED,
	ASK_EXPECT,
	ASK_ABSOLUTE,
	ASK_BAD,
	ASK_NOTHING
};

struct client_row {
	const char *claim;
	enum ask ask;
	const char *out; /* the request on the wire */
	struct str in;   /* the answer */
	bool fin;
	bool reusable; /* ready for another afterwards */
	const char *log;
};

#define R       "HTTP/1.1 200 OK\r\n"
#define GET_OUT "GET /p?q HTTP/1.1\r\nHost: b:8080\r\nX-MiXeD: 1\r\n"

static const struct client_row client_rows[] = {
    {"gets an answer and may be used again", ASK_GET, GET_OUT "\r\n", S(R "Content-Length: 2\r\n\r\nhi"), false, true,
     "ready 200(OK) body(hi) end ready "},
    {"gets a chunked answer with trailers", ASK_GET, GET_OUT "\r\n",
     S(R "Transfer-Encoding: chunked\r\n\r\n2;x=y\r\nhi\r\n0\r\nT: 1\r\n\r\n"), false, true,
     "ready 200(OK) body(hi) trailer(T=1) end ready "},
    {"gets an answer that lasts until the end", ASK_GET, GET_OUT "\r\n", S(R "\r\nhi"), true, false,
     "ready 200(OK) body(hi) end closed(ok) "},
    {"passes interim answers on", ASK_GET, GET_OUT "\r\n",
     S("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n" R "Content-Length: 0\r\n\r\n"), false, true,
     "ready 100(Continue) 103(Early) 200(OK) end ready "},
    {"an answer to HEAD has no body", ASK_HEAD, "HEAD /p?q HTTP/1.1\r\nHost: b:8080\r\nX-MiXeD: 1\r\n\r\n",
     S(R "Content-Length: 9\r\n\r\n"), false, true, "ready 200(OK) end ready "},
    {"closes when the server said close", ASK_GET, GET_OUT "\r\n",
     S(R "Connection: close\r\nContent-Length: 2\r\n\r\nhi"), false, false, "ready 200(OK) body(hi) end closed(ok) "},
    {"closes behind HTTP/1.0", ASK_GET, GET_OUT "\r\n", S("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi"), false,
     false, "ready 200(OK) body(hi) end closed(ok) "},
    {"sends a body by length", ASK_POST,
     "POST /p?q HTTP/1.1\r\nHost: b:8080\r\nX-MiXeD: 1\r\nContent-Length: 5\r\n\r\nhello",
     S(R "Content-Length: 0\r\n\r\n"), false, true, "ready 200(OK) end ready "},
    {"sends a body in chunks with trailers", ASK_CHUNKED,
     "POST /p?q HTTP/1.1\r\nHost: b:8080\r\nX-MiXeD: 1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nT: "
     "1\r\n\r\n",
     S(R "Content-Length: 0\r\n\r\n"), false, true, "ready 200(OK) end ready "},
    {"asks in HTTP/1.0 with keep-alive", ASK_OLD,
     "GET /p?q HTTP/1.0\r\nHost: b:8080\r\nX-MiXeD: 1\r\nConnection: keep-alive\r\n\r\n",
     S("HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n"), false, true,
     "ready 200(OK) end ready "},
    {"asks to close and does", ASK_CLOSE, GET_OUT "Connection: close\r\n\r\n", S(R "Content-Length: 0\r\n\r\n"), false,
     false, "ready 200(OK) end closed(ok) "},
    {"an absolute target stays one", ASK_ABSOLUTE,
     "GET http://b:8080/p?q HTTP/1.1\r\nHost: b:8080\r\nX-MiXeD: 1\r\n\r\n", S(R "Content-Length: 0\r\n\r\n"), false,
     true, "ready 200(OK) end ready "},
    {"upgrades", ASK_UPGRADE, GET_OUT "Connection: upgrade\r\nUpgrade: websocket\r\n\r\nping",
     S("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\npong"), true, false,
     "ready 101(Switching Protocols) body(pong) end closed(ok) "},
    {"an extended CONNECT of HTTP/2 is a GET that upgrades", ASK_EXTENDED,
     GET_OUT "Connection: upgrade\r\nUpgrade: websocket\r\n\r\nping",
     S("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\npong"), true, false,
     "ready 101(Switching Protocols) body(pong) end closed(ok) "},
    {"sends nothing into a tunnel that was refused", ASK_UPGRADE,
     GET_OUT "Connection: upgrade\r\nUpgrade: websocket\r\n\r\n", S("HTTP/1.1 400 No\r\nContent-Length: 0\r\n\r\n"),
     false, true, "ready 400(No) end ready "},
    {"CONNECT opens a tunnel", ASK_CONNECT, "CONNECT b:8080 HTTP/1.1\r\nHost: b:8080\r\nX-MiXeD: 1\r\n\r\nping",
     S(R "\r\npong"), true, false, "ready 200(OK) body(pong) end closed(ok) "},
    {"an answer before the request was complete: never used again", ASK_UNFINISHED,
     "POST /p?q HTTP/1.1\r\nHost: b:8080\r\nX-MiXeD: 1\r\nContent-Length: 9\r\n\r\nhello",
     S(R "Content-Length: 0\r\n\r\n"), false, false, "ready 200(OK) end closed(ok) "},
    {"417 before the body: never used again", ASK_EXPECT,
     "POST /p?q HTTP/1.1\r\nHost: b:8080\r\nX-MiXeD: 1\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n",
     S("HTTP/1.1 417 No\r\nContent-Length: 0\r\n\r\n"), false, false, "ready 417(No) end closed(ok) "},
    {"a request that cannot be said is lost unprocessed", ASK_BAD, "", S(""), false, false,
     "ready reset(internal unprocessed before) closed(internal) "},
    {"the server's end before an answer", ASK_GET, GET_OUT "\r\n", S(""), true, false,
     "ready reset(upstream_reset before) closed(upstream_reset) "},
    {"the server's end within a head", ASK_GET, GET_OUT "\r\n", S("HTTP/1.1 2"), true, false,
     "ready reset(upstream_reset) closed(upstream_reset) "},
    {"the server's end within a body", ASK_GET, GET_OUT "\r\n", S(R "Content-Length: 5\r\n\r\nhi"), true, false,
     "ready 200(OK) body(hi) reset(upstream_reset) closed(upstream_reset) "},
    {"the server's end within chunks", ASK_GET, GET_OUT "\r\n",
     S(R "Transfer-Encoding: chunked\r\n\r\n2\r\nhi\r\n0\r\n"), true, false,
     "ready 200(OK) body(hi) reset(upstream_reset) closed(upstream_reset) "},
    {"a malformed answer", ASK_GET, GET_OUT "\r\n", S(R "Content-Length: 1, 1\r\n\r\nx"), false, false,
     "ready reset(upstream_protocol) closed(upstream_protocol) "},
    {"a malformed chunk", ASK_GET, GET_OUT "\r\n", S(R "Transfer-Encoding: chunked\r\n\r\n2\r\nhi!\r\n"), false, false,
     "ready 200(OK) body(hi) reset(upstream_protocol) closed(upstream_protocol) "},
    {"101 that was not asked for", ASK_GET, GET_OUT "\r\n",
     S("HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), false, false,
     "ready reset(upstream_protocol) closed(upstream_protocol) "},
    {"bytes behind an answer", ASK_GET, GET_OUT "\r\n", S(R "Content-Length: 2\r\n\r\nhi!"), false, false,
     "ready 200(OK) body(hi) end closed(peer_protocol) "},
    {"a second answer that nobody asked for", ASK_HEAD, "HEAD /p?q HTTP/1.1\r\nHost: b:8080\r\nX-MiXeD: 1\r\n\r\n",
     S(R "Content-Length: 9\r\n\r\nHTTP/1.1 200 OK\r\n"), false, false, "ready 200(OK) end closed(peer_protocol) "},
    {"bytes on an idle connection", ASK_NOTHING, "", S("HTTP/1.1 408 X\r\nContent-Length: 0\r\n\r\n"), false, false,
     "closed(peer_protocol) "},
    {"the server closes an idle connection", ASK_NOTHING, "", S(""), true, false, "ready closed(ok) "},
};

static void ask_head(struct message *m, enum ask ask)
{
	message_init(m, &own.arena, true);
	m->version = ask == ASK_OLD ? HTTP_1_0 : HTTP_1_1;
	m->method = ask == ASK_HEAD                             ? STR("HEAD")
		    : ask == ASK_CONNECT || ask == ASK_EXTENDED ? STR("CONNECT")
		    : ask == ASK_POST || ask == ASK_CHUNKED || ask == ASK_UNFINISHED || ask == ASK_EXPECT ? STR("POST")
													  : STR("GET");
	m->scheme = STR("http");
	m->authority = STR("b:8080");
	m->path = ask == ASK_CONNECT ? (struct str){0} : ask == ASK_BAD ? STR("/ x") : STR("/p?q");
	m->absolute_form = ask == ASK_ABSOLUTE;
	m->close = ask == ASK_CLOSE;
	m->expect_continue = ask == ASK_EXPECT;
	m->has_length = ask == ASK_POST || ask == ASK_UNFINISHED || ask == ASK_EXPECT;
	m->content_length = ask == ASK_POST ? 5 : 9;
	if (ask == ASK_UPGRADE || ask == ASK_EXTENDED)
		m->protocol = STR("websocket");
	ck_assert(message_add(m, STR("X-MiXeD"), STR("1"), true));
}

static void client_ask(enum ask ask)
{
	struct message m;
	struct fields trailers = {0};
	arena_init(&own.arena, 128 << 10);
	own.st = codec_h1.open(own.session, &client_events, NULL, &own.arena);
	ck_assert_uint_eq(codec_h1.room(own.session), 0);
	ask_head(&m, ask);
	bool end = ask == ASK_GET || ask == ASK_HEAD || ask == ASK_OLD || ask == ASK_CLOSE || ask == ASK_ABSOLUTE ||
		   ask == ASK_BAD;
	codec_h1.send_head(own.st, &m, end);
	if (end || ask == ASK_EXPECT)
		return;
	bool tunnel = ask == ASK_UPGRADE || ask == ASK_EXTENDED || ask == ASK_CONNECT;
	codec_h1.send_body(own.st, tunnel ? STR("ping") : STR("hello"));
	ck_assert(fields_add(&trailers, &own.arena, STR("T"), STR("1"), true));
	if (ask != ASK_UNFINISHED)
		codec_h1.send_end(own.st, ask == ASK_CHUNKED ? &trailers : NULL);
}

/* The raw end reads the request (up to its head and body, or what of a tunnel comes first), then answers. */
static void run_client_row(const struct client_row *row, size_t piece)
{
	struct conn *c = make_pair();
	own.session = codec_h1.session_new(c, HTTP_CLIENT, &own.lim, &session_events, NULL);
	own.wait_for = "ready";
	raw.sent_all = true;
	check_over();
	loop_run(loop);
	if (row->ask != ASK_NOTHING)
		client_ask(row->ask);
	got_all = false;
	bool tunnel = row->ask == ASK_UPGRADE || row->ask == ASK_EXTENDED || row->ask == ASK_CONNECT;
	const char *ping = strstr(row->out, "ping");
	raw.want = strlen(row->out) - (tunnel && ping ? 4 : 0);
	own.wait_for = row->ask == ASK_BAD ? "closed(" : NULL;
	raw.sent_all = true;
	check_over();
	loop_run(loop);
	if (row->ask != ASK_BAD) {
		got_all = false;
		raw.want = strlen(row->out);
		raw.fin_after = row->fin;
		own.wait_for = row->reusable ? "end ready" : "closed(";
		say(row->in, piece);
		loop_run(loop);
	}
	ck_assert_msg(!own.closed == row->reusable, "%s: reusable", row->claim);
	ck_assert_uint_eq(codec_h1.room(own.session), row->reusable);
	compare(row->claim, row->log, str_of(row->out));
	tear_down();
}

START_TEST(client)
{
	run_client_row(&client_rows[_i], SIZE_MAX);
	run_client_row(&client_rows[_i], 1);
}
END_TEST

/* SMG-11: the request is cut at each byte of its body; the connection is never idle again. */
START_TEST(a_connection_owed_a_body_is_never_idle)
{
	for (size_t cut = 0; cut <= 9; cut++) {
		struct conn *c = make_pair();
		own.session = codec_h1.session_new(c, HTTP_CLIENT, &own.lim, &session_events, NULL);
		own.wait_for = "ready";
		raw.sent_all = true;
		check_over();
		loop_run(loop);
		struct message m;
		arena_init(&own.arena, 128 << 10);
		own.st = codec_h1.open(own.session, &client_events, NULL, &own.arena);
		ask_head(&m, ASK_UNFINISHED);
		codec_h1.send_head(own.st, &m, false);
		codec_h1.send_body(own.st, str_make("hello you", cut));
		codec_h1.reset(own.st, REASON_CLIENT_GONE, false);
		own.st = NULL;
		ck_assert_uint_eq(codec_h1.room(own.session), 0);
		got_all = false;
		own.wait_for = "closed(";
		raw.want_eof = true;
		check_over();
		loop_run(loop);
		ck_assert(own.closed);
		tear_down();
	}
}
END_TEST

Suite *h1_suite(void)
{
	Suite *s = suite_create("h1");
	TCase *tc = tcase_create("codec");
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, server, 0, (int)ARRAY_LEN(server_rows));
	tcase_add_test(tc, refuses_a_stream_with_503_when_the_owner_will_not_have_it);
	tcase_add_test(tc, slow_heads_get_408_and_silent_connections_are_closed);
	tcase_add_test(tc, drains_an_idle_connection_at_once_and_a_busy_one_after_its_answer);
	tcase_add_test(tc, an_old_connection_ends_with_its_next_answer_not_before_it);
	tcase_add_test(tc, stops_reading_a_body_that_is_not_consumed);
	tcase_add_loop_test(tc, client, 0, (int)ARRAY_LEN(client_rows));
	tcase_add_test(tc, a_connection_owed_a_body_is_never_idle);
	suite_add_tcase(s, tc);
	return s;
}
