/* SPDX-License-Identifier: Apache-2.0 */
/* http_server_test.c: the small server on a thread of its own, called by the small client (and by raw bytes) over unix
 * sockets in plain and over TCP with TLS, in HTTP/1.1 and HTTP/2. */
#include "lib/http/client.h"
#include "lib/http/server.h"
#include "lib/listener.h"
#include "lib/mem.h"
#include "tests/unit/lib/tls_pair.h"

#include <check.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

Suite *http_server_suite(void);

#define BODY_MAX (256 << 10)
#define BIG      (3 << 20)

static struct {
	pthread_t thread;
	struct loop *loop;
	struct http_server *plain, *tls;
	struct listener *plain_listener, *tls_listener;
	struct timer later;
	struct http_exchange *kept;
	char dir[32], path[64];
	struct addr at;
	unsigned gone; /* read after the thread has ended */
} srv;

static struct tls_pair pair;

static void on_later(struct timer *t)
{
	struct http_exchange *x = srv.kept;
	srv.kept = NULL;
	exchange_reply(x, 200, "text/plain", STR("late"));
}

static void reply_big(struct http_exchange *x)
{
	struct buf b;
	char block[4096];
	buf_init(&b, SIZE_MAX);
	for (size_t i = 0; i < BIG / sizeof(block); i++) {
		memset(block, 'a' + (int)(i % 26), sizeof(block));
		buf_add(&b, block, sizeof(block));
	}
	exchange_reply_buf(x, 200, "application/octet-stream", &b);
	ck_assert_uint_eq(b.len, 0);
}

static void on_request(void *ctx, struct http_exchange *x)
{
	const struct message *m = exchange_request(x);
	const struct field *auth = message_get(m, "authorization");
	ck_assert_ptr_nonnull(exchange_conn(x));
	if (str_is(m->path, "/echo"))
		exchange_reply(x, 200, "text/plain", exchange_body(x));
	else if (str_is(m->path, "/who"))
		exchange_reply(x, 200, "text/plain", auth ? auth->value : STR("nobody"));
	else if (str_is(m->path, "/version"))
		exchange_reply(x, 200, "text/plain", m->version == HTTP_2 ? STR("h2") : STR("h1"));
	else if (str_is(m->path, "/big"))
		reply_big(x);
	else if (str_is(m->path, "/late") || str_is(m->path, "/never")) {
		exchange_set_user(x, &srv);
		ck_assert_ptr_eq(exchange_user(x), &srv);
		srv.kept = x;
		if (str_is(m->path, "/late"))
			timer_start(&srv.later, 20);
	} else if (str_is(m->path, "/empty"))
		exchange_reply(x, 204, NULL, (struct str){0});
	else
		exchange_reply(x, 404, "text/plain", STR("no such page"));
}

static void on_gone(void *ctx, struct http_exchange *x)
{
	ck_assert_ptr_eq(x, srv.kept);
	srv.kept = NULL;
	srv.gone++;
}

static void on_accept_plain(void *ctx, int fd)
{
	http_server_accept(srv.plain, fd);
}

static void on_accept_tls(void *ctx, int fd)
{
	http_server_accept(srv.tls, fd);
}

static int choose_alpn(SSL *ssl, const unsigned char **out, unsigned char *len, const unsigned char *in,
		       unsigned in_len, void *arg)
{
	static const unsigned char ours[] = "\x02h2\x08http/1.1";
	unsigned char *chosen;
	if (SSL_select_next_proto(&chosen, len, ours, sizeof(ours) - 1, in, in_len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static void *serve(void *arg)
{
	loop_run(srv.loop);
	http_server_free(&srv.plain);
	http_server_free(&srv.tls);
	listener_free(&srv.plain_listener);
	listener_free(&srv.tls_listener);
	timer_stop(&srv.later);
	loop_free(&srv.loop);
	return NULL;
}

static void start(unsigned connections_max)
{
	struct err err;
	struct http_server_cfg cfg = {.body_max = BODY_MAX,
				      .bodies_max = BODY_MAX + BODY_MAX / 2,
				      .connections_max = connections_max,
				      .on_request = on_request,
				      .on_gone = on_gone};
	memset(&srv, 0, sizeof(srv));
	tls_pair_init(&pair);
	SSL_CTX_set_alpn_select_cb(pair.server, choose_alpn, NULL);
	strcpy(srv.dir, "/tmp/weft-http-XXXXXX");
	ck_assert_ptr_nonnull(mkdtemp(srv.dir));
	snprintf(srv.path, sizeof(srv.path), "%s/sock", srv.dir);
	srv.loop = loop_new(&err);
	timer_init(&srv.later, srv.loop, on_later);
	srv.plain = http_server_new(srv.loop, &cfg);
	cfg.tls = pair.server;
	srv.tls = http_server_new(srv.loop, &cfg);
	int plain = sock_listen_unix(srv.path, &err);
	ck_assert_msg(plain >= 0, "%s", err.text);
	ck_assert(addr_parse(STR("127.0.0.1:0"), &srv.at));
	int tcp = sock_listen_tcp(&srv.at, false, 64, &err);
	ck_assert_msg(tcp >= 0, "%s", err.text);
	ck_assert(sock_local(tcp, &srv.at));
	srv.plain_listener = listener_new(srv.loop, plain, on_accept_plain, NULL);
	srv.tls_listener = listener_new(srv.loop, tcp, on_accept_tls, NULL);
	ck_assert_int_eq(pthread_create(&srv.thread, NULL, serve, NULL), 0);
}

static void stop_loop(void *arg)
{
	loop_stop(srv.loop);
}

static void stop(void)
{
	ck_assert(loop_post(srv.loop, stop_loop, NULL));
	ck_assert_int_eq(pthread_join(srv.thread, NULL), 0);
	unlink(srv.path);
	rmdir(srv.dir);
	tls_pair_done(&pair);
}

enum way { PLAIN, TLS_H2, TLS_H1, WAYS };

static struct http_call call_of(enum way way, const char *method, const char *path)
{
	static const uint8_t only_h1[] = "\x08http/1.1";
	struct http_call c = {
	    .method = method, .authority = "test", .path = path, .answer_max = 8 << 20, .timeout_ms = 10000};
	if (way == PLAIN) {
		c.dial.unix_path = srv.path;
		return c;
	}
	c.dial.to = srv.at;
	c.dial.tls = pair.client;
	if (way == TLS_H1) {
		c.dial.alpn = only_h1;
		c.dial.alpn_len = sizeof(only_h1) - 1;
	}
	return c;
}

static void expect(struct http_call *c, uint16_t status, const char *text)
{
	struct http_answer a = {0};
	struct err err;
	ck_assert_msg(http_call_wait(c, &a, &err), "%s: %s", c->path, err.text);
	ck_assert_uint_eq(a.status, status);
	struct str got = a.body.len ? buf_pullup(&a.body, a.body.len) : STR("");
	ck_assert_msg(str_is(got, text), "%s: " STR_FMT, c->path, STR_ARG(got));
	if (*text)
		ck_assert_str_eq(a.content_type, "text/plain");
	buf_done(&a.body);
}

START_TEST(answers_calls)
{
	start(16);
	struct http_call c = call_of(_i, "GET", "/version");
	expect(&c, 200, _i == TLS_H2 ? "h2" : "h1");
	c = call_of(_i, "POST", "/echo");
	c.content_type = "application/json";
	c.body = STR("{\"a\": 1}");
	expect(&c, 200, "{\"a\": 1}");
	c.body = (struct str){0};
	expect(&c, 200, "");
	c = call_of(_i, "GET", "/who");
	expect(&c, 200, "nobody");
	c.bearer = "weft1.abc";
	expect(&c, 200, "Bearer weft1.abc");
	c = call_of(_i, "GET", "/late");
	expect(&c, 200, "late");
	c = call_of(_i, "GET", "/empty");
	expect(&c, 204, "");
	c = call_of(_i, "HEAD", "/who");
	expect(&c, 200, "");
	c = call_of(_i, "GET", "/else");
	expect(&c, 404, "no such page");
	stop();
}
END_TEST

START_TEST(carries_large_bodies_both_ways)
{
	struct http_answer a = {0};
	struct err err;
	start(16);
	struct http_call c = call_of(_i, "POST", "/echo");
	char *large = mem_alloc(BODY_MAX);
	for (size_t i = 0; i < BODY_MAX; i++)
		large[i] = (char)('a' + i % 23);
	c.content_type = "x/y";
	c.body = str_make(large, BODY_MAX);
	ck_assert_msg(http_call_wait(&c, &a, &err), "%s", err.text);
	ck_assert_uint_eq(a.body.len, BODY_MAX);
	for (size_t at = 0; a.body.len;) {
		struct str piece = buf_peek(&a.body);
		ck_assert(memcmp(piece.p, large + at, piece.len) == 0);
		at += piece.len;
		buf_drain(&a.body, piece.len);
	}
	buf_done(&a.body);
	c = call_of(_i, "GET", "/big");
	ck_assert_msg(http_call_wait(&c, &a, &err), "%s", err.text);
	ck_assert_uint_eq(a.body.len, BIG);
	buf_done(&a.body);
	mem_free(large);
	stop();
}
END_TEST

START_TEST(refuses_a_body_that_is_too_large_with_413)
{
	struct http_answer a = {0};
	struct err err;
	start(16);
	struct http_call c = call_of(_i, "POST", "/echo");
	char *large = mem_zalloc(BODY_MAX + 1);
	c.content_type = "x/y";
	c.body = str_make(large, BODY_MAX + 1);
	ck_assert_msg(http_call_wait(&c, &a, &err), "%s", err.text);
	ck_assert_uint_eq(a.status, 413);
	buf_done(&a.body);
	mem_free(large);
	stop();
}
END_TEST

static void expect_failure(struct http_call *c, enum err_code code)
{
	struct http_answer a = {0};
	struct err err;
	ck_assert(!http_call_wait(c, &a, &err));
	ck_assert_msg(err.code == code, "%s", err.text);
	ck_assert_uint_eq(a.body.len, 0);
}

START_TEST(a_call_fails_in_words_and_in_time)
{
	start(16);
	struct http_call c = call_of(_i, "GET", "/never");
	c.timeout_ms = 50;
	expect_failure(&c, ERR_TIMEOUT);
	c = call_of(_i, "GET", "/big");
	c.answer_max = 1000;
	expect_failure(&c, ERR_LIMIT);
	c = call_of(_i, "GET", "/");
	if (_i == PLAIN) {
		c.dial.unix_path = "/tmp/weft-there-is-no-such-socket";
		expect_failure(&c, ERR_SYSTEM);
	} else {
		c.dial.tls = pair.doubter;
		expect_failure(&c, ERR_TLS);
	}
	c = call_of(_i, "GET", "/version"); /* and the server lives */
	expect(&c, 200, _i == TLS_H2 ? "h2" : "h1");
	stop();
	ck_assert_uint_eq(srv.gone, 1);
}
END_TEST

/* --- raw bytes --- */

static int dial_raw(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	struct timeval tv = {.tv_sec = 10};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	strcpy(un.sun_path, srv.path);
	ck_assert_int_eq(connect(fd, (struct sockaddr *)&un, sizeof(un)), 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	return fd;
}

/* Reads until n bytes or the end. */
static size_t read_raw(int fd, char *to, size_t n)
{
	size_t got = 0;
	ssize_t r;
	while (got < n && (r = recv(fd, to + got, n - got, 0)) > 0)
		got += (size_t)r;
	to[got] = '\0';
	return got;
}

/* Posts n bytes there and returns the connection. */
static int post_raw(const char *path, size_t n)
{
	char head[128];
	int fd = dial_raw();
	char *body = mem_zalloc(n);
	snprintf(head, sizeof(head), "POST %s HTTP/1.1\r\nHost: t\r\nContent-Length: %zu\r\n\r\n", path, n);
	ck_assert_int_eq(send(fd, head, strlen(head), MSG_NOSIGNAL), (ssize_t)strlen(head));
	for (size_t at = 0; at < n;) {
		ssize_t sent = send(fd, body + at, n - at, MSG_NOSIGNAL);
		if (sent < 0)
			break; /* it was refused before its end */
		at += (size_t)sent;
	}
	mem_free(body);
	return fd;
}

static bool post_answer_is(const char *begins)
{
	char got[64];
	int fd = post_raw("/echo", BODY_MAX - 1000);
	size_t n = read_raw(fd, got, strlen(begins));
	close(fd);
	return n == strlen(begins) && strcmp(got, begins) == 0;
}

static void answer_kept(void *arg)
{
	on_later(NULL);
}

START_TEST(bodies_of_many_that_wait_are_bounded_together)
{
	int tries = 0;
	start(16);
	int fd = post_raw("/never", BODY_MAX - 1000);
	while (!post_answer_is("HTTP/1.1 503")) /* until the first one is there as a whole */
		ck_assert_int_lt(tries++, 200);
	char got[64];
	ck_assert(loop_post(srv.loop, answer_kept, NULL));
	ck_assert_uint_eq(read_raw(fd, got, 12), 12);
	ck_assert_str_eq(got, "HTTP/1.1 200");
	close(fd);
	ck_assert(post_answer_is("HTTP/1.1 200"));
	stop();
}
END_TEST

static void expect_raw(const char *in, size_t len, const char *begins)
{
	char got[4096];
	int fd = dial_raw();
	ck_assert_int_eq(send(fd, in, len, MSG_NOSIGNAL), (ssize_t)len);
	size_t n = read_raw(fd, got, strlen(begins));
	ck_assert_uint_eq(n, strlen(begins));
	ck_assert_int_eq(memcmp(got, begins, strlen(begins)), 0);
	close(fd);
}

START_TEST(plain_connections_speak_by_their_first_bytes)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0";
	start(16);
	expect_raw("GET /version HTTP/1.1\r\nHost: a\r\n\r\n", 35, "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\n");
	expect_raw("PRI * HTTP/1.1\r\n\r\n", 18, "HTTP/1.1 400 Bad Request\r\n");
	expect_raw("GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", 61,
		   "HTTP/1.1 404 Not Found\r\n");
	expect_raw("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", 35, "HTTP/1.1 405 Method Not Allowed\r\n");
	/* a SETTINGS frame is the first of HTTP/2: its type stands in the fourth byte */
	char got[16];
	int fd = dial_raw();
	ck_assert_int_eq(send(fd, preface, 5, MSG_NOSIGNAL), 5);
	ck_assert_int_eq(send(fd, preface + 5, sizeof(preface) - 5, MSG_NOSIGNAL), (ssize_t)sizeof(preface) - 5);
	ck_assert_uint_eq(read_raw(fd, got, 9), 9);
	ck_assert_int_eq(got[3], 4);
	close(fd);
	stop();
}
END_TEST

START_TEST(at_the_limit_idle_connections_give_way_and_busy_ones_stay)
{
	static const char ask[] = "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
			  keep[] = "GET /never HTTP/1.1\r\nHost: a\r\n\r\n";
	char got[8];
	start(2);
	int a = dial_raw(), b = dial_raw(), c = dial_raw();
	ck_assert_uint_eq(read_raw(a, got, 1), 0);
	ck_assert_int_eq(send(b, "G", 1, MSG_NOSIGNAL), 1);
	ck_assert_int_eq(send(c, keep, sizeof(keep) - 1, MSG_NOSIGNAL), sizeof(keep) - 1);
	int d = dial_raw(); /* b has asked nothing whole, c waits for its answer */
	ck_assert_uint_eq(read_raw(b, got, 1), 0);
	ck_assert_int_eq(send(d, ask, sizeof(ask) - 1, MSG_NOSIGNAL), sizeof(ask) - 1);
	ck_assert_uint_eq(read_raw(d, got, 4), 4);
	ck_assert_int_eq(recv(c, got, 1, MSG_DONTWAIT), -1);
	ck_assert_int_eq(errno, EAGAIN);
	close(a);
	close(b);
	close(c);
	close(d);
	stop();
}
END_TEST

Suite *http_server_suite(void)
{
	Suite *s = suite_create("http_server");
	TCase *tc = tcase_create("whole");
	tcase_set_timeout(tc, 60);
	tcase_add_loop_test(tc, answers_calls, 0, WAYS);
	tcase_add_loop_test(tc, carries_large_bodies_both_ways, 0, WAYS);
	tcase_add_loop_test(tc, refuses_a_body_that_is_too_large_with_413, 0, WAYS);
	tcase_add_test(tc, bodies_of_many_that_wait_are_bounded_together);
	tcase_add_loop_test(tc, a_call_fails_in_words_and_in_time, 0, WAYS);
	tcase_add_test(tc, plain_connections_speak_by_their_first_bytes);
	tcase_add_test(tc, at_the_limit_idle_connections_give_way_and_busy_ones_stay);
	suite_add_tcase(s, tc);
	return s;
}
