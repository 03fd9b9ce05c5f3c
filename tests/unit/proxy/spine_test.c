/* SPDX-License-Identifier: Apache-2.0 */
/* The way of a request through two sidecars when one of the four ends does what it should not, or not in the usual order. */
#include "tests/unit/proxy/spine_world.h"

#include "lib/mem.h"
#include "lib/pressure.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static struct spine w;
static struct spine_peer client, origin;

static void on_origin(struct spine *s, int fd)
{
	spine_peer_end(&origin, false);
	spine_peer_take(s, &origin, fd);
}

static void setup(void)
{
	memset(&client, 0, sizeof(client));
	memset(&origin, 0, sizeof(origin));
	spine_init(&w, PROTOCOL_HTTP);
	w.on_origin = on_origin;
}

/* --- a far end of the hop that the test plays --- */

enum far_does { FAR_REFUSE, FAR_ANSWER, FAR_HEAD_ONLY, FAR_UNPROCESSED };

struct far_stream {
	struct list node;
	struct http_stream *st;
	struct arena arena;
};

static struct far {
	struct conn *conn;
	struct http_session *session;
	struct tls_peer peer;
	struct list streams;
	enum far_does does;
	unsigned seen, refuse; /* streams so far; refuse the first so many */
	size_t body;           /* of the last request */
	size_t answer;         /* bytes to answer with */
	bool ended;
	void (*fields)(struct message *m); /* adds to the answer */
} far;

static void far_reply(struct far_stream *x)
{
	struct message m;
	static const char block[16384];
	message_init(&m, &x->arena, false);
	m.status = far.does == FAR_UNPROCESSED && far.seen <= far.refuse ? 503 : 200;
	m.framing = FRAMING_LENGTH;
	m.has_length = true;
	m.content_length = far.answer;
	if (m.status == 503)
		ck_assert(message_add(&m, STR("x-weft-unprocessed"), STR("1"), true));
	if (far.fields)
		far.fields(&m);
	codec_h2.send_head(x->st, &m, far.answer == 0 && far.does != FAR_HEAD_ONLY);
	for (size_t left = far.answer; left > 0 && far.does != FAR_HEAD_ONLY;) {
		size_t n = MIN(left, sizeof(block));
		codec_h2.send_body(x->st, str_make(block, n));
		left -= n;
		if (left == 0)
			codec_h2.send_end(x->st, NULL);
	}
}

static void far_gone(struct far_stream *x)
{
	codec_h2.close(x->st);
	list_remove(&x->node);
	arena_done(&x->arena);
	mem_free(x);
}

static void far_head(void *ctx, struct message *m)
{
	struct far_stream *x = ctx;
	if (far.does == FAR_HEAD_ONLY)
		far_reply(x);
}

static void far_body(void *ctx, struct str bytes)
{
	struct far_stream *x = ctx;
	codec_h2.consumed(x->st, bytes.len);
	far.body += bytes.len;
	if (far.does != FAR_REFUSE || far.seen > far.refuse)
		return;
	codec_h2.reset(x->st, REASON_REFUSED, true);
	list_remove(&x->node);
	arena_done(&x->arena);
	mem_free(x);
}

static void far_end(void *ctx)
{
	struct far_stream *x = ctx;
	far.ended = true;
	if (far.does != FAR_HEAD_ONLY)
		far_reply(x);
}

static void far_reset(void *ctx, const struct http_reset *why)
{
	far_gone(ctx);
}

static const struct http_stream_events far_stream_events = {
    .on_head = far_head,
    .on_body = far_body,
    .on_end = far_end,
    .on_reset = far_reset,
};

static bool far_on_stream(void *ctx, struct http_stream *st, const struct http_stream_events **ev, void **ret_ctx,
			  struct arena **arena)
{
	struct far_stream *x = NEW(struct far_stream);
	x->st = st;
	arena_init(&x->arena, 1 << 20);
	list_push(&far.streams, &x->node);
	*ev = &far_stream_events;
	*ret_ctx = x;
	*arena = &x->arena;
	far.seen++;
	far.body = 0;
	return true;
}

static void far_closed(void *ctx, enum reason reason, const struct err *err)
{
	while (!list_empty(&far.streams))
		far_gone(CONTAINER_OF(far.streams.next, struct far_stream, node));
	codec_h2.session_close(&far.session);
}

static const struct http_session_events far_session_events = {.on_stream = far_on_stream, .on_closed = far_closed};

static void far_open(void *ctx)
{
	struct conn *c = far.conn;
	far.conn = NULL;
	far.session = codec_h2.session_new(c, HTTP_SERVER, &http_limits_default, &far_session_events, NULL);
}

static void far_nothing(void *ctx)
{
}

static void far_fail(void *ctx, const struct err *err)
{
	ck_abort_msg("%s", err->text);
}

static const struct conn_events far_conn_events = {far_open, far_nothing, far_nothing, far_fail};

static void on_hop(struct spine *s, int fd)
{
	far.conn = conn_new(s->loop, fd, &far_conn_events, NULL);
	conn_tls_accept(far.conn, identity_server(s->in.identity), &far.peer, 5000);
}

static void setup_opaque(void)
{
	spine_init(&w, PROTOCOL_UNDECLARED);
	w.on_origin = on_origin;
}

static void setup_far(void)
{
	setup();
	memset(&far, 0, sizeof(far));
	list_init(&far.streams);
	w.on_hop = on_hop;
}

/* Everything that was opened has gone. */
static bool quiet(void *ctx)
{
	return w.out.n_sessions == 0 && w.in.n_sessions == 0;
}

static void teardown(void)
{
	spine_peer_end(&client, false);
	spine_peer_end(&origin, false);
	pool_drain(w.out.pool);
	ck_assert(spine_until(&w, 3000, quiet, NULL));
	if (far.session)
		far_closed(NULL, REASON_NONE, NULL);
	spine_done(&w);
}

static void ask(const char *text)
{
	spine_peer_dial(&w, &client, &w.out_addr);
	spine_peer_say(&client, text);
}

static void expect(struct spine_peer *p, const char *want)
{
	p->want = want;
	ck_assert_msg(spine_until(&w, 3000, spine_peer_got, p), "%s instead of %s", p->got, want);
}

/* --- the usual way --- */

START_TEST(a_request_goes_through_two_sidecars)
{
	ask("GET /a HTTP/1.1\r\nHost: orders\r\nX-MiXeD: 1\r\n\r\n");
	expect(&origin, "\r\n\r\n");
	ck_assert_ptr_nonnull(strstr(origin.got, "X-MiXeD: 1\r\n"));
	ck_assert_ptr_nonnull(strstr(origin.got, "X-Forwarded-For: 127.0.0.1\r\n"));
	spine_peer_say(&origin, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	expect(&client, "\r\n\r\nhi");
}
END_TEST

/* --- a second attempt --- */

static char post[256];

static void ask_post(void)
{
	snprintf(post, sizeof(post), "POST / HTTP/1.1\r\nHost: orders\r\nContent-Length: 100\r\n\r\n%0100d", 7);
	ask(post);
}

START_TEST(a_refused_body_is_sent_again)
{
	far.does = FAR_REFUSE;
	far.refuse = 1;
	ask_post();
	expect(&client, "HTTP/1.1 200 OK\r\n");
	ck_assert_uint_eq(far.seen, 2);
	ck_assert_uint_eq(far.body, 100);
}
END_TEST

START_TEST(a_body_that_no_application_got_is_sent_again)
{
	far.does = FAR_UNPROCESSED;
	far.refuse = 1;
	ask_post();
	expect(&client, "HTTP/1.1 200 OK\r\n");
	ck_assert_uint_eq(far.seen, 2);
	ck_assert_uint_eq(far.body, 100);
}
END_TEST

START_TEST(who_is_refused_twice_is_told)
{
	far.does = FAR_REFUSE;
	far.refuse = 2;
	ask_post();
	expect(&client, "x-weft-error: outbound;refused;");
	ck_assert_uint_eq(far.seen, 2);
}
END_TEST

/* --- ends in an unusual order --- */

static bool pool_empty(void *ctx)
{
	return pool_conns(w.out.pool) == 0;
}

static bool answered(void *ctx)
{
	return far.ended;
}

START_TEST(an_answer_outlives_the_connection_it_came_on)
{
	far.answer = 60000;
	spine_peer_dial(&w, &client, &w.out_addr);
	conn_rx_pause(client.conn, true);
	int small = 2048;
	setsockopt(conn_fd(client.conn), SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	/* Pipelined: the answers to come fill what the kernel holds for the client. */
	for (int i = 0; i < 200; i++)
		spine_peer_say(&client, "GET / HTTP/1.1\r\nHost: orders\r\n\r\n");
	ck_assert(spine_until(&w, 3000, answered, NULL));
	spine_run(&w, 300); /* until nothing moves */
	far_closed(NULL, REASON_NONE, NULL);
	ck_assert(spine_until(&w, 3000, pool_empty, NULL));
	spine_run(&w, 10);
	conn_rx_pause(client.conn, false);
	client.want = "\r\n\r\n";
	ck_assert(spine_until(&w, 3000, spine_peer_got, &client));
	spine_run(&w, 100);
}
END_TEST

START_TEST(a_head_answer_that_never_ends_does_not_outlive_its_client)
{
	far.does = FAR_HEAD_ONLY;
	far.answer = 5;
	ask("HEAD / HTTP/1.1\r\nHost: orders\r\n\r\n");
	expect(&client, "\r\n\r\n");
	spine_peer_end(&client, true);
	ck_assert(spine_until(&w, 3000, quiet, NULL));
}
END_TEST

static bool none_in(void *ctx)
{
	return w.in.n_sessions == 0;
}

/* The bytes and the reset are both there when the sidecar first reads, and the bytes fill what it reads into. */
START_TEST(opaque_bytes_and_a_reset_at_once_end_the_connection_alone)
{
	static const char bytes[20000];
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(&w.in_addr, &ss);
	for (size_t n = 4060; n <= 4100; n++) {
		int fd = socket(AF_INET, SOCK_STREAM, 0);
		ck_assert_int_eq(connect(fd, (struct sockaddr *)&ss, len), 0);
		spine_run(&w, 2);
		ck_assert_uint_eq(w.in.n_sessions, 1);
		ck_assert_int_eq(send(fd, bytes, n, 0), (ssize_t)n);
		sock_reset_close(fd);
		spine_run(&w, 2);
		ck_assert(spine_until(&w, 3000, none_in, NULL));
	}
}
END_TEST

START_TEST(idle_connections_do_not_hold_a_drain_up)
{
	struct spine_peer silent;
	ask("GET / HTTP/1.1\r\nHost: orders\r\n\r\n");
	expect(&origin, "\r\n\r\n");
	spine_peer_say(&origin, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	expect(&client, "\r\n\r\nhi");
	spine_peer_dial(&w, &silent, &w.out_addr);
	spine_run(&w, 10);
	ck_assert_uint_eq(w.out.n_sessions, 2);
	ck_assert_uint_eq(w.in.n_sessions, 1);
	session_drain_all(&w.in);
	session_drain_all(&w.out);
	ck_assert(spine_until(&w, 1000, quiet, NULL));
	ck_assert(spine_until(&w, 1000, spine_peer_over, &client));
	ck_assert(client.eof && !client.failed && silent.eof && !silent.failed);
	spine_peer_end(&silent, false);
}
END_TEST

/* --- tunnels --- */

static void open_tunnel(void)
{
	ask("GET /ws HTTP/1.1\r\nHost: orders\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\nearly");
	expect(&origin, "\r\n\r\n");
	ck_assert_ptr_nonnull(strcasestr(origin.got, "upgrade: websocket\r\n"));
	spine_peer_say(&origin,
		       "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhello");
	expect(&client, "HTTP/1.1 101 ");
	expect(&client, "\r\n\r\nhello");
	expect(&origin, "\r\n\r\nearly");
	spine_peer_say(&client, "ping");
	expect(&origin, "earlyping");
}

START_TEST(a_tunnel_passes_the_last_words_of_its_origin)
{
	open_tunnel();
	spine_peer_say(&origin, "last words");
	conn_end_tx(origin.conn);
	expect(&client, "hellolast words");
	ck_assert(spine_until(&w, 2000, spine_peer_over, &client));
	ck_assert(client.eof && !client.failed);
}
END_TEST

START_TEST(a_tunnel_passes_the_last_words_of_its_client)
{
	open_tunnel();
	spine_peer_say(&client, "last words");
	conn_end_tx(client.conn);
	expect(&origin, "pinglast words");
	ck_assert(spine_until(&w, 2000, spine_peer_over, &origin));
	ck_assert(origin.eof && !origin.failed);
	spine_peer_say(&origin, "answer");
	expect(&client, "helloanswer");
}
END_TEST

START_TEST(a_tunnel_ends_with_its_client)
{
	open_tunnel();
	spine_peer_end(&client, true);
	ck_assert(spine_until(&w, 2000, spine_peer_over, &origin));
}
END_TEST

START_TEST(an_upgrade_that_is_declined_is_an_ordinary_exchange)
{
	ask("GET /ws HTTP/1.1\r\nHost: orders\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n");
	expect(&origin, "\r\n\r\n");
	spine_peer_say(&origin, "HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno");
	expect(&client, "\r\n\r\nno");
	spine_peer_say(&client, "GET /next HTTP/1.1\r\nHost: orders\r\n\r\n");
	expect(&origin, "GET /next ");
	spine_peer_say(&origin, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	expect(&client, "\r\n\r\nok");
}
END_TEST

/* HTTP/2 has no other way for an upgrade than CONNECT, which is served as GET: any other method must stay what it is. */
START_TEST(an_upgrade_does_not_change_the_method)
{
	ask("DELETE /a HTTP/1.1\r\nHost: orders\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n");
	expect(&origin, "\r\n\r\n");
	ck_assert_msg(strncmp(origin.got, "DELETE /a HTTP/1.1\r\n", 20) == 0, "%s", origin.got);
	spine_peer_say(&origin, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhi");
	expect(&client, "\r\n\r\nhi");
}
END_TEST

/* --- an authenticated peer that lies --- */

static const struct {
	const char *name, *value;
} lies[] = {
    {"x-weft-case", "t,evil: 1\r\nEvil"},
    {"x-weft-case", "t,Evil: 1"},
    {"x-weft-reason", "OK\r\nEvil: 1"},
    {"x-weft-reason", "OK%0D%0AEvil: 1"},
    {"x-weft-reason", "a%7Fb"},
    {"x-weft-framing", "close"},
    {"x-weft-version", "1.0"},
    {"x-weft-upgrade", "x\r\nEvil: 1"},
    {"x-weft-error", "a\r\nEvil: 1"},
    {"x-weft-unknown", "1"},
    {"transfer-encoding", "chunked"},
    {"connection", "close, evil"},
    {"content-length", "7"},
    {"evil:", "1"},
    {"ev il", "1"},
    {"upgrade", "evil"},
};

static int the_lie;

static void lie(struct message *m)
{
	ck_assert(message_add(m, str_of(lies[the_lie].name), str_of(lies[the_lie].value), true));
}

/* Its answer arrives without what it slipped in, or not at all; the next one is untouched by it. */
START_TEST(a_lying_sidecar_splits_no_answer)
{
	far.answer = 5;
	the_lie = _i;
	far.fields = lie;
	ask("GET / HTTP/1.1\r\nHost: orders\r\n\r\n");
	client.want = "\r\n\r\n";
	spine_until(&w, 1000, spine_peer_got, &client);
	spine_run(&w, 20);
	ck_assert_msg(client.len > 0 || spine_peer_over(&client), "nothing");
	ck_assert_msg(strcasestr(client.got, "\nevil") == NULL && strcasestr(client.got, "x-weft-unknown") == NULL,
		      "%s", client.got);
	if (client.len > 0)
		ck_assert_msg(strncmp(client.got, "HTTP/1.", 7) == 0 && strstr(client.got, "\r\n\r\n") != NULL, "%s",
			      client.got);
	spine_peer_end(&client, false);
	far.fields = NULL;
	ask("GET / HTTP/1.1\r\nHost: orders\r\n\r\n");
	expect(&client, "HTTP/1.1 200 OK\r\n");
}
END_TEST

/* --- the end of the process --- */

static struct spine_peer hops[8];
static unsigned n_hops;

static void on_silent_hop(struct spine *s, int fd)
{
	ck_assert_uint_lt(n_hops, ARRAY_LEN(hops));
	spine_peer_take(s, &hops[n_hops++], fd); /* a handshake that gets no answer */
}

/* Requests before, at and behind each step, a tunnel, a handshake that waits; stopped after so many milliseconds. */
START_TEST(stops_with_everything_in_flight)
{
	static struct spine_peer many[6];
	static const char *const said[] = {"", "GET / HT",
					   "GET /a HTTP/1.1\r\nHost: a\r\n\r\nGET /b HTTP/1.1\r\nHost: a\r\n\r\n",
					   "POST /c HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nabc",
					   "GET /d HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n"};
	memset(&origin, 0, sizeof(origin));
	spine_init(&w, PROTOCOL_HTTP);
	w.on_origin = on_origin;
	if (_i % 3 == 2)
		w.on_hop = on_silent_hop;
	for (size_t i = 0; i < ARRAY_LEN(said); i++) {
		spine_peer_dial(&w, &many[i], &w.out_addr);
		spine_peer_say(&many[i], said[i]);
	}
	spine_peer_dial(&w, &many[5], &w.in_addr);
	spine_peer_say(&many[5], "\x16\x03\x01");
	spine_run(&w, (unsigned)_i);
	if (origin.conn && _i % 2 == 0) {
		spine_peer_say(&origin, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc");
		spine_run(&w, 2);
	}
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		spine_peer_end(&many[i], _i % 5 == 0);
	for (size_t i = 0; i < n_hops; i++)
		spine_peer_end(&hops[i], false);
	spine_peer_end(&origin, false);
	spine_done(&w);
}
END_TEST

/* --- no descriptors --- */

static void hold_connections(const struct addr *to, unsigned n)
{
	struct sockaddr_storage ss;
	socklen_t len = addr_to_sockaddr(to, &ss);
	for (unsigned i = 0; i < n; i++)
		if (connect(socket(AF_INET, SOCK_STREAM, 0), (struct sockaddr *)&ss, len) != 0)
			_exit(1);
	pause();
}

static uint64_t cpu_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

static bool starved(void *ctx)
{
	return w.in.n_sessions >= *(size_t *)ctx;
}

START_TEST(without_descriptors_it_waits_and_recovers)
{
	struct rlimit old, few;
	size_t some = 20;
	ck_assert_int_eq(getrlimit(RLIMIT_NOFILE, &old), 0);
	int next = dup(0); /* the lowest free one */
	close(next);
	few = (struct rlimit){(rlim_t)next + 2 * some, old.rlim_max};
	pid_t child = fork();
	if (child == 0)
		hold_connections(&w.in_addr, 300);
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &few), 0);
	ck_assert(spine_until(&w, 3000, starved, &some));
	uint64_t before = cpu_ms();
	spine_run(&w, 500);
	ck_assert_uint_le(w.in.n_sessions, 2 * some);
	ck_assert_uint_lt(cpu_ms() - before, 250); /* does not spin */
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
	ck_assert(spine_until(&w, 3000, none_in, NULL));
	ck_assert_int_eq(setrlimit(RLIMIT_NOFILE, &old), 0);
	ask("GET / HTTP/1.1\r\nHost: orders\r\n\r\n");
	expect(&origin, "\r\n\r\n");
	spine_peer_end(&client, true); /* or the request would be asked again when the origin ends */
}
END_TEST

static bool one_out(void *ctx)
{
	return w.out.n_sessions == 1;
}

static long failed_of_all(void)
{
	json_t *all = balance_dump(w.out.balancer), *one;
	size_t i;
	long failed = 0;
	ck_assert_uint_eq(json_array_size(all), 1);
	json_array_foreach(all, i, one) failed += (long)json_integer_value(json_object_get(one, "failed"));
	json_decref(all);
	return failed;
}

START_TEST(want_of_descriptors_is_no_failure_of_the_endpoint)
{
	spine_peer_dial(&w, &client, &w.out_addr);
	ck_assert(spine_until(&w, 3000, one_out, NULL));
	pressure_set_descriptors(1);
	spine_peer_say(&client, "SSH-2.0-opaque\r\n");
	bool over = spine_until(&w, 3000, spine_peer_over, &client);
	pressure_set_descriptors(0);
	ck_assert(over);
	ck_assert_int_eq(failed_of_all(), 0);
}
END_TEST

/* --- what may not be said --- */

START_TEST(trailers_cannot_speak_for_a_sidecar)
{
	ask("POST / HTTP/1.1\r\nHost: orders\r\nTransfer-Encoding: chunked\r\n\r\n"
	    "1\r\na\r\n0\r\nX-Weft-Close: 1\r\nX-Sum: up\r\n\r\n");
	expect(&origin, "0\r\n");
	expect(&origin, "um: up\r\n\r\n");
	ck_assert_ptr_null(strcasestr(origin.got, "x-weft"));
	spine_peer_say(&origin, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
				"1\r\na\r\n0\r\nX-Weft-Error: inbound;denied;\r\nX-Sum: down\r\n\r\n");
	expect(&client, "um: down\r\n\r\n");
	ck_assert_ptr_null(strcasestr(client.got, "x-weft"));
}
END_TEST

START_TEST(every_line_of_x_forwarded_for_is_kept_in_order)
{
	ask("GET / HTTP/1.1\r\nHost: orders\r\nX-Forwarded-For: 1.1.1.1\r\nA: b\r\nx-forwarded-for: 2.2.2.2, "
	    "3.3.3.3\r\n\r\n");
	expect(&origin, "\r\n\r\n");
	ck_assert_ptr_nonnull(strstr(origin.got, "X-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 127.0.0.1\r\n"));
	ck_assert_ptr_null(strstr(origin.got, "x-forwarded-for"));
	spine_peer_say(&origin, "HTTP/1.1 204 No Content\r\n\r\n");
	expect(&client, "204 No Content\r\n");
}
END_TEST

Suite *spine_suite(void)
{
	Suite *s = suite_create("spine");
	TCase *both = tcase_create("two sidecars"), *one = tcase_create("one sidecar and a far end");
	TCase *opaque = tcase_create("opaque"), *stop = tcase_create("stop");
	tcase_add_checked_fixture(both, setup, teardown);
	tcase_set_timeout(both, 30);
	tcase_add_test(both, a_request_goes_through_two_sidecars);
	tcase_add_test(both, idle_connections_do_not_hold_a_drain_up);
	tcase_add_test(both, a_tunnel_passes_the_last_words_of_its_origin);
	tcase_add_test(both, a_tunnel_passes_the_last_words_of_its_client);
	tcase_add_test(both, a_tunnel_ends_with_its_client);
	tcase_add_test(both, an_upgrade_that_is_declined_is_an_ordinary_exchange);
	tcase_add_test(both, an_upgrade_does_not_change_the_method);
	tcase_add_test(both, without_descriptors_it_waits_and_recovers);
	tcase_add_test(both, trailers_cannot_speak_for_a_sidecar);
	tcase_add_test(both, every_line_of_x_forwarded_for_is_kept_in_order);
	suite_add_tcase(s, both);
	tcase_set_timeout(stop, 30);
	tcase_add_loop_test(stop, stops_with_everything_in_flight, 0, 18);
	suite_add_tcase(s, stop);
	tcase_add_checked_fixture(opaque, setup_opaque, teardown);
	tcase_set_timeout(opaque, 30);
	tcase_add_test(opaque, opaque_bytes_and_a_reset_at_once_end_the_connection_alone);
	tcase_add_test(opaque, want_of_descriptors_is_no_failure_of_the_endpoint);
	suite_add_tcase(s, opaque);
	tcase_add_checked_fixture(one, setup_far, teardown);
	tcase_set_timeout(one, 30);
	tcase_add_test(one, a_refused_body_is_sent_again);
	tcase_add_test(one, a_body_that_no_application_got_is_sent_again);
	tcase_add_test(one, who_is_refused_twice_is_told);
	tcase_add_test(one, an_answer_outlives_the_connection_it_came_on);
	tcase_add_loop_test(one, a_lying_sidecar_splits_no_answer, 0, ARRAY_LEN(lies));
	tcase_add_test(one, a_head_answer_that_never_ends_does_not_outlive_its_client);
	suite_add_tcase(s, one);
	return s;
}
