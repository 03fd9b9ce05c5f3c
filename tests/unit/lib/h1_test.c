/* SPDX-License-Identifier: Apache-2.0 */
/* h1_test.c: the HTTP/1 codec as a server whose answers depend on the path. Every row runs with its bytes in one piece and,
 * again, one byte a loop turn. */
#include "lib/mem.h"
#include "tests/unit/lib/h1_pair.h"

static void answer(struct http_stream *st, uint16_t status, const char *body, const char *reason)
{
	struct message m;
	message_init(&m, &h1_own.arena, false);
	m.status = status;
	m.reason = reason[0] != '\0' ? str_of(reason) : (struct str){NULL, 0};
	m.version = HTTP_1_1;
	m.has_length = body != NULL;
	m.content_length = body ? strlen(body) : 0;
	m.close = str_is(h1_own.m->path, "/close");
	if (str_is(h1_own.m->path, "/old"))
		m.version = HTTP_1_0;
	ck_assert(message_add(&m, STR("X-MiXeD"), STR("1"), true));
	bool end = !body || !*body || str_is(h1_own.m->method, "HEAD");
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
	message_init(&m, &h1_own.arena, false);
	m.status = 200;
	m.version = version;
	if (str_is(h1_own.m->path, "/until-close")) {
		m.framing = FRAMING_CLOSE;
		m.close = true;
	}
	codec_h1.send_head(st, &m, false);
	codec_h1.send_body(st, STR("ab"));
	codec_h1.send_body(st, STR("cde"));
	ck_assert(fields_add(&trailers, &h1_own.arena, STR("T"), STR("1"), true));
	codec_h1.send_end(st, &trailers);
}

static void tunnel_open(struct http_stream *st, uint16_t status)
{
	struct message m;
	message_init(&m, &h1_own.arena, false);
	m.status = status;
	m.framing = FRAMING_TUNNEL;
	codec_h1.send_head(st, &m, false);
}

static void server_reply(void)
{
	struct str path = h1_own.m->path;
	if (str_is(path, "/chunked") || str_is(path, "/until-close"))
		answer_streamed(h1_own.st, HTTP_1_1);
	else if (str_is(path, "/old-streamed"))
		answer_streamed(h1_own.st, HTTP_1_0);
	else if (str_is(path, "/204"))
		answer(h1_own.st, 204, NULL, "");
	else if (str_is(path, "/304"))
		answer(h1_own.st, 304, "12345", "");
	else if (str_is(path, "/empty"))
		answer(h1_own.st, 200, NULL, "");
	else if (!str_is(path, "/limbo"))
		answer(h1_own.st, 200, "ok", "Fine");
}

static void server_head(void *ctx, struct message *m)
{
	h1_own.m = m;
	H1_LOG("head(" STR_FMT " " STR_FMT STR_FMT ") ", STR_ARG(m->method), STR_ARG(m->authority), STR_ARG(m->path));
	if (str_is(m->path, "/deny"))
		answer(h1_own.st, 403, "", "");
	if (str_is(m->path, "/continue"))
		answer(h1_own.st, 100, NULL, "");
	if (m->protocol.len || str_is(m->method, "CONNECT")) {
		if (str_is(m->path, "/no-upgrade"))
			answer(h1_own.st, 200, "ok", "Fine");
		else if (!str_is(m->path, "/limbo"))
			tunnel_open(h1_own.st, str_is(m->path, "/up-by-200") || !m->protocol.len ? 200 : 101);
	}
}

static void server_body(void *ctx, struct str bytes)
{
	if (h1_own.hold_body) {
		h1_own.held += bytes.len;
		if (h1_own.drop_body)
			codec_h1.consumed(h1_own.st, bytes.len);
		return;
	}
	h1_log_body(bytes);
	codec_h1.consumed(h1_own.st, bytes.len);
	if (h1_own.m->framing == FRAMING_TUNNEL)
		codec_h1.send_body(h1_own.st, bytes);
}

static void server_end(void *ctx)
{
	H1_LOG("end ");
	if (str_is(h1_own.m->path, "/deny") || str_is(h1_own.m->path, "/no-upgrade"))
		;
	else if (h1_own.m->framing == FRAMING_TUNNEL)
		codec_h1.send_end(h1_own.st, NULL);
	else
		server_reply();
	if (!str_is(h1_own.m->path, "/limbo"))
		h1_close();
}

static void on_room(void *ctx)
{
	H1_LOG("room ");
}

static const struct http_stream_events server_events = {server_head, server_body, h1_on_trailers,
							server_end,  h1_on_reset, on_room};

struct server_row {
	const char *claim;
	struct str in;
	bool fin;        /* the client ends its side behind it */
	bool want_eof;   /* the server closes */
	const char *log; /* bodies may come in pieces: body(..) body(..) are joined before comparing */
	const char *out;
};

#define H          " HTTP/1.1\r\nHost: a\r\n"
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

static void run_server_row(const struct server_row *row, size_t piece)
{
	struct conn *c = h1_pair();
	h1_own.serve = &server_events;
	h1_own.session = codec_h1.session_new(c, HTTP_SERVER, &h1_own.lim, &h1_session_events, NULL);
	h1_raw.want = strlen(row->out);
	h1_raw.want_eof = row->want_eof;
	h1_raw.fin_after = row->fin;
	if (strstr(row->log, "closed("))
		h1_own.wait_for = "closed(";
	else if (h1_raw.want == 0)
		h1_own.wait_for = row->log;
	h1_say(row->in, piece);
	loop_run(h1_loop);
	h1_compare(row->claim, row->log, str_of(row->out));
	bool said_close =
	    strstr(row->in.p, "Connection: close") || (strstr(row->in.p, "HTTP/1.0") && !strstr(row->in.p, "alive"));
	ck_assert_uint_eq(h1_own.drainings, said_close);
	h1_pair_done();
}

START_TEST(server)
{
	run_server_row(&server_rows[_i], SIZE_MAX);
	run_server_row(&server_rows[_i], 1);
}
END_TEST

START_TEST(refuses_a_stream_with_503_when_the_owner_will_not_have_it)
{
	struct conn *c = h1_pair();
	h1_own.session = codec_h1.session_new(c, HTTP_SERVER, &h1_own.lim, &h1_session_events, NULL);
	h1_raw.want_eof = true;
	h1_own.wait_for = "closed(";
	h1_say((struct str)S("GET /" H "\r\n"), SIZE_MAX);
	loop_run(h1_loop);
	h1_compare("503", "closed(overload) ",
		   (struct str)S(OWN("503 Service Unavailable", "44", "the proxy is short of memory or descriptors")));
	h1_pair_done();
}
END_TEST

static void run_timeout(const char *in, const char *log, const char *out)
{
	struct conn *c = h1_pair();
	h1_own.serve = &server_events;
	h1_own.lim.head_timeout_ms = 30;
	h1_own.lim.idle_timeout_ms = 60;
	h1_own.lim.stream_idle_ms = 90;
	h1_own.session = codec_h1.session_new(c, HTTP_SERVER, &h1_own.lim, &h1_session_events, NULL);
	h1_raw.want_eof = true;
	h1_own.wait_for = "closed(";
	h1_say(str_of(in), SIZE_MAX);
	loop_run(h1_loop);
	h1_compare(log, log, str_of(out));
	h1_pair_done();
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
	struct conn *c = h1_pair();
	h1_own.serve = &server_events;
	h1_own.session = codec_h1.session_new(c, HTTP_SERVER, &h1_own.lim, &h1_session_events, NULL);
	codec_h1.drain(h1_own.session);
	h1_raw.want_eof = h1_raw.sent_all = true;
	h1_own.wait_for = "closed(";
	loop_run(h1_loop);
	h1_compare("idle", "closed(ok) ", (struct str){0});
	h1_pair_done();

	c = h1_pair();
	h1_own.serve = &server_events;
	h1_own.session = codec_h1.session_new(c, HTTP_SERVER, &h1_own.lim, &h1_session_events, NULL);
	h1_raw.want_eof = false;
	h1_own.wait_for = "end ";
	h1_say((struct str)S("GET /limbo" H "\r\n"), SIZE_MAX);
	loop_run(h1_loop);
	codec_h1.drain(h1_own.session);
	answer(h1_own.st, 200, "ok", "Fine");
	h1_close();
	h1_got_all = false;
	h1_own.wait_for = "closed(";
	h1_raw.want_eof = true;
	loop_run(h1_loop);
	h1_compare("busy", "head(GET a/limbo) end closed(ok) ", (struct str)S(FINE_CLOSE));
	h1_pair_done();
}
END_TEST

static void ask_late(struct timer *t)
{
	timer_stop(t);
	h1_say((struct str)S("GET /" H "\r\n"), SIZE_MAX);
}

/* The age comes while nothing is asked: a FIN would cross the next request. */
START_TEST(an_old_connection_ends_with_its_next_answer_not_before_it)
{
	struct conn *c = h1_pair();
	struct timer late;
	h1_own.serve = &server_events;
	h1_own.lim.age_max_ms = 30;
	h1_own.session = codec_h1.session_new(c, HTTP_SERVER, &h1_own.lim, &h1_session_events, NULL);
	timer_init(&late, h1_loop, ask_late);
	timer_start(&late, 120);
	h1_raw.want_eof = true;
	h1_own.wait_for = "closed(";
	loop_run(h1_loop);
	h1_compare("old", "head(GET a/) end closed(ok) ", (struct str)S(FINE_CLOSE));
	h1_pair_done();
}
END_TEST

/* 1 MiB in; nothing is consumed: the codec stops at its window and what is behind stays in the sockets. */
START_TEST(stops_reading_a_body_that_is_not_consumed)
{
	struct conn *c = h1_pair();
	size_t n = 1 << 20;
	char *bytes = mem_zalloc(n + 100);
	int head = snprintf(bytes, 100, "POST /" H "Content-Length: %zu\r\n\r\n", n);
	memset(bytes + head, 'x', n);
	h1_own.serve = &server_events;
	h1_own.session = codec_h1.session_new(c, HTTP_SERVER, &h1_own.lim, &h1_session_events, NULL);
	h1_own.hold_body = true;
	h1_own.wait_for = "head(";
	h1_say(str_make(bytes, (size_t)head + n), SIZE_MAX);
	h1_raw.sent_all = true;
	h1_raw.want = 0;
	loop_run(h1_loop);
	ck_assert_uint_ge(h1_own.held, h1_own.lim.window);
	ck_assert_uint_le(h1_own.held, h1_own.lim.window + (16 << 10));
	size_t held = h1_own.held;
	h1_own.drop_body = true;
	codec_h1.consumed(h1_own.st, held);
	h1_got_all = false;
	h1_raw.want = strlen(FINE);
	loop_run(h1_loop);
	ck_assert_uint_eq(h1_own.held, n);
	struct str out = buf_pullup(&h1_raw.got, h1_raw.got.len);
	ck_assert(str_is(out, FINE));
	mem_free(bytes);
	h1_pair_done();
}
END_TEST

Suite *h1_suite(void);
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
	suite_add_tcase(s, tc);
	return s;
}
