/* SPDX-License-Identifier: Apache-2.0 */
/* h1_client_test.c: the HTTP/1 codec as a client: what it writes, and which answers leave the connection usable. Every row runs
 * with its bytes in one piece and, again, one byte a loop turn. */
#include "tests/unit/lib/h1_pair.h"

static void client_head(void *ctx, struct message *m)
{
	H1_LOG("%u(" STR_FMT ") ", m->status, STR_ARG(m->reason));
}

static void client_body(void *ctx, struct str bytes)
{
	h1_log_body(bytes);
	codec_h1.consumed(h1_own.st, bytes.len);
}

static void client_end(void *ctx)
{
	H1_LOG("end ");
	h1_close();
}

static void client_room(void *ctx)
{
}

static const struct http_stream_events client_events = {client_head, client_body, h1_on_trailers,
							client_end,  h1_on_reset, client_room};

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
	message_init(m, &h1_own.arena, true);
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
	arena_init(&h1_own.arena, 128 << 10);
	h1_own.st = codec_h1.open(h1_own.session, &client_events, NULL, &h1_own.arena);
	ck_assert_uint_eq(codec_h1.room(h1_own.session), 0);
	ask_head(&m, ask);
	bool end = ask == ASK_GET || ask == ASK_HEAD || ask == ASK_OLD || ask == ASK_CLOSE || ask == ASK_ABSOLUTE ||
		   ask == ASK_BAD;
	codec_h1.send_head(h1_own.st, &m, end);
	if (end || ask == ASK_EXPECT)
		return;
	bool tunnel = ask == ASK_UPGRADE || ask == ASK_EXTENDED || ask == ASK_CONNECT;
	codec_h1.send_body(h1_own.st, tunnel ? STR("ping") : STR("hello"));
	ck_assert(fields_add(&trailers, &h1_own.arena, STR("T"), STR("1"), true));
	if (ask != ASK_UNFINISHED)
		codec_h1.send_end(h1_own.st, ask == ASK_CHUNKED ? &trailers : NULL);
}

/* The raw end reads the request (up to its head and body, or what of a tunnel comes first), then answers. */
static void run_client_row(const struct client_row *row, size_t piece)
{
	struct conn *c = h1_pair();
	h1_own.session = codec_h1.session_new(c, HTTP_CLIENT, &h1_own.lim, &h1_session_events, NULL);
	h1_own.wait_for = "ready";
	h1_raw.sent_all = true;
	h1_check_over();
	loop_run(h1_loop);
	if (row->ask != ASK_NOTHING)
		client_ask(row->ask);
	h1_got_all = false;
	bool tunnel = row->ask == ASK_UPGRADE || row->ask == ASK_EXTENDED || row->ask == ASK_CONNECT;
	const char *ping = strstr(row->out, "ping");
	h1_raw.want = strlen(row->out) - (tunnel && ping ? 4 : 0);
	h1_own.wait_for = row->ask == ASK_BAD ? "closed(" : NULL;
	h1_raw.sent_all = true;
	h1_check_over();
	loop_run(h1_loop);
	if (row->ask != ASK_BAD) {
		h1_got_all = false;
		h1_raw.want = strlen(row->out);
		h1_raw.fin_after = row->fin;
		h1_own.wait_for = row->reusable ? "end ready" : "closed(";
		h1_say(row->in, piece);
		loop_run(h1_loop);
	}
	ck_assert_msg(!h1_own.closed == row->reusable, "%s: reusable", row->claim);
	ck_assert_uint_eq(codec_h1.room(h1_own.session), row->reusable);
	h1_compare(row->claim, row->log, str_of(row->out));
	h1_pair_done();
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
		struct conn *c = h1_pair();
		h1_own.session = codec_h1.session_new(c, HTTP_CLIENT, &h1_own.lim, &h1_session_events, NULL);
		h1_own.wait_for = "ready";
		h1_raw.sent_all = true;
		h1_check_over();
		loop_run(h1_loop);
		struct message m;
		arena_init(&h1_own.arena, 128 << 10);
		h1_own.st = codec_h1.open(h1_own.session, &client_events, NULL, &h1_own.arena);
		ask_head(&m, ASK_UNFINISHED);
		codec_h1.send_head(h1_own.st, &m, false);
		codec_h1.send_body(h1_own.st, str_make("hello you", cut));
		codec_h1.reset(h1_own.st, REASON_CLIENT_GONE, false);
		h1_own.st = NULL;
		ck_assert_uint_eq(codec_h1.room(h1_own.session), 0);
		h1_got_all = false;
		h1_own.wait_for = "closed(";
		h1_raw.want_eof = true;
		h1_check_over();
		loop_run(h1_loop);
		ck_assert(h1_own.closed);
		h1_pair_done();
	}
}
END_TEST

Suite *h1_client_suite(void);
Suite *h1_client_suite(void)
{
	Suite *s = suite_create("h1_client");
	TCase *tc = tcase_create("codec");
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, client, 0, (int)ARRAY_LEN(client_rows));
	tcase_add_test(tc, a_connection_owed_a_body_is_never_idle);
	suite_add_tcase(s, tc);
	return s;
}
