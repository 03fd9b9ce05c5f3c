/* SPDX-License-Identifier: Apache-2.0 */
/* h1_pair.c: see h1_pair.h. */
#include "tests/unit/lib/h1_pair.h"

#include "lib/mem.h"

#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#define DEADLINE_MS 20000
#define SURPLUS_MS  3 /* after what was expected: time for what was not */

struct loop *h1_loop;
struct h1_raw h1_raw;
struct h1_own h1_own;
bool h1_got_all;
static struct timer deadline, surplus;

void h1_check_over(void)
{
	struct str log = h1_own.log.len ? buf_pullup(&h1_own.log, h1_own.log.len) : STR("");
	bool heard = !h1_own.wait_for || (memmem(log.p, log.len, h1_own.wait_for, strlen(h1_own.wait_for)) != NULL);
	bool bytes = h1_raw.want_eof ? h1_raw.eof || h1_raw.reset : h1_raw.got.len >= h1_raw.want;
	if (heard && bytes && h1_raw.sent_all && !h1_got_all) {
		h1_got_all = true;
		timer_start(&surplus, SURPLUS_MS);
	}
}

void h1_log_body(struct str bytes)
{
	if (!h1_own.in_body)
		buf_printf(&h1_own.log, "body(");
	h1_own.in_body = true;
	buf_add_str(&h1_own.log, bytes);
}

void h1_log_word(const char *word)
{
	if (h1_own.in_body)
		buf_printf(&h1_own.log, ") ");
	h1_own.in_body = false;
	buf_add_str(&h1_own.log, str_of(word));
	h1_check_over();
}

static void on_deadline(struct timer *t)
{
	ck_abort_msg("deadline: log \"" STR_FMT "\", got \"" STR_FMT "\"",
		     STR_ARG(buf_pullup(&h1_own.log, MIN(h1_own.log.len, (size_t)4096))),
		     STR_ARG(buf_pullup(&h1_raw.got, MIN(h1_raw.got.len, (size_t)4096))));
}

static void on_surplus(struct timer *t)
{
	loop_stop(h1_loop);
}

static void raw_send(struct timer *t)
{
	size_t n = MIN(h1_raw.piece, h1_raw.to_send.len);
	if (n) {
		ssize_t sent = send(h1_raw.fd, h1_raw.to_send.p, n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (sent < 0 && errno == EPIPE)
			h1_raw.to_send.len = 0;
		else if (sent > 0)
			h1_raw.to_send = str_make(h1_raw.to_send.p + sent, h1_raw.to_send.len - (size_t)sent);
	}
	if (h1_raw.to_send.len) {
		timer_start(&h1_raw.next, 0);
		return;
	}
	if (h1_raw.fin_after)
		shutdown(h1_raw.fd, SHUT_WR);
	h1_raw.sent_all = true;
	h1_check_over();
}

static void raw_io(struct io *io, bool readable, bool writable)
{
	size_t room;
	uint8_t *p = buf_reserve(&h1_raw.got, 1024, &room);
	ssize_t n = recv(h1_raw.fd, p, room, MSG_DONTWAIT);
	buf_commit(&h1_raw.got, n > 0 ? (size_t)n : 0);
	if (n == 0 || (n < 0 && errno != EAGAIN)) {
		h1_raw.eof = n == 0;
		h1_raw.reset = n < 0;
		io_want(&h1_raw.io, false, false);
	}
	h1_check_over();
}

struct conn *h1_pair(void)
{
	int fd[2];
	struct err err;
	h1_loop = loop_new(&err);
	ck_assert(h1_loop != NULL);
	ck_assert_int_eq(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fd), 0);
	timer_init(&deadline, h1_loop, on_deadline);
	timer_start(&deadline, DEADLINE_MS);
	timer_init(&surplus, h1_loop, on_surplus);
	memset(&h1_raw, 0, sizeof(h1_raw));
	memset(&h1_own, 0, sizeof(h1_own));
	h1_got_all = false;
	h1_raw.fd = fd[1];
	buf_init(&h1_raw.got, SIZE_MAX);
	buf_init(&h1_own.log, SIZE_MAX);
	h1_own.lim = http_limits_default;
	io_init(&h1_raw.io, h1_loop, h1_raw.fd, raw_io);
	io_want(&h1_raw.io, true, false);
	timer_init(&h1_raw.next, h1_loop, raw_send);
	return conn_new(h1_loop, fd[0], NULL, NULL);
}

void h1_pair_done(void)
{
	if (h1_own.st)
		http_stream_ops(h1_own.st)->close(h1_own.st);
	if (h1_own.session)
		codec_h1.session_close(&h1_own.session);
	arena_done(&h1_own.arena);
	buf_done(&h1_raw.got);
	buf_done(&h1_own.log);
	io_stop(&h1_raw.io);
	close(h1_raw.fd);
	timer_stop(&h1_raw.next);
	timer_stop(&deadline);
	timer_stop(&surplus);
	loop_free(&h1_loop);
}

void h1_say(struct str bytes, size_t piece)
{
	h1_raw.to_send = bytes;
	h1_raw.piece = piece;
	h1_raw.sent_all = false;
	timer_start(&h1_raw.next, 0);
}

void h1_close(void)
{
	struct http_stream *st = h1_own.st;
	h1_own.st = NULL;
	codec_h1.close(st);
}

void h1_on_trailers(void *ctx, const struct fields *f, struct arena *a)
{
	for (size_t i = 0; i < f->len; i++)
		H1_LOG("trailer(" STR_FMT "=" STR_FMT ") ", STR_ARG(f->v[i].name), STR_ARG(f->v[i].value));
}

void h1_on_reset(void *ctx, const struct http_reset *why)
{
	H1_LOG("reset(%s%s%s) ", reason_row(why->reason)->label, why->unprocessed ? " unprocessed" : "",
	       why->before_response ? " before" : "");
	h1_close();
}

static bool on_stream(void *ctx, struct http_stream *st, const struct http_stream_events **ret_ev, void **ret_ctx,
		      struct arena **ret_arena)
{
	if (!h1_own.serve)
		return false;
	h1_own.st = st;
	arena_done(&h1_own.arena);
	arena_init(&h1_own.arena, 128 << 10);
	*ret_ev = h1_own.serve;
	*ret_arena = &h1_own.arena;
	return true;
}

static void on_ready(void *ctx)
{
	H1_LOG("ready ");
}

static void on_idle(void *ctx, bool idle)
{
}

static void on_draining(void *ctx)
{
	h1_own.drainings++;
}

static void on_closed(void *ctx, enum reason reason, const struct err *err)
{
	h1_own.closed = true;
	H1_LOG("closed(%s) ", reason_row(reason)->label);
}

const struct http_session_events h1_session_events = {on_stream, on_ready, on_idle, on_draining, on_closed};

void h1_compare(const char *claim, const char *want_log, struct str want_out)
{
	char *log = mem_strndup(h1_own.log.len ? buf_pullup(&h1_own.log, h1_own.log.len).p : "", h1_own.log.len);
	char *ready = strstr(log, "ready closed(peer_protocol)"); /* when the surplus came in a later turn */
	if (ready)
		memmove(ready, ready + 6, strlen(ready + 6) + 1);
	ck_assert_msg(strcmp(log, want_log) == 0, "%s: heard \"%s\", want \"%s\"", claim, log, want_log);
	struct str out = h1_raw.got.len ? buf_pullup(&h1_raw.got, h1_raw.got.len) : STR("");
	ck_assert_msg(str_eq(out, want_out), "%s: got \"" STR_FMT "\"", claim, STR_ARG(out));
	mem_free(log);
}
