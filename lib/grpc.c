/* SPDX-License-Identifier: Apache-2.0 */
/* grpc.c: a gRPC call on an HTTP/2 stream: messages in 5-byte frames both ways, the queue towards a slow peer, status in
 * trailers. Both roles share it; how a call begins differs (grpc_call_new here for clients, grpc_server.c for servers).
 * Owns the call and its stream; the session belongs to others. A call whose owner finished it stays until its queue has left. */
#include "lib/grpc_call.h"

#include "lib/mem.h"

#include <stdio.h>
#include <stdlib.h>

static void call_free(void *p)
{
	struct grpc_call *call = p;
	call->magic = 0;
	buf_done(&call->out);
	mem_free(call->in);
	arena_done(&call->arena);
	mem_free(call);
}

static void deadline_passed(struct timer *t)
{
	struct grpc_call *call = CONTAINER_OF(t, struct grpc_call, deadline);
	MUST_BE(call, GRPC_CALL_MAGIC);
	if (!call->over && !call->finishing)
		grpc_refuse(call, GRPC_DEADLINE_EXCEEDED, "the caller's deadline has passed");
}

struct grpc_call *grpc_call_make(struct loop *loop, bool client)
{
	struct grpc_call *call = NEW(struct grpc_call);
	call->magic = GRPC_CALL_MAGIC;
	call->loop = loop;
	call->client = client;
	call->status = GRPC_UNKNOWN;
	list_init(&call->node);
	timer_init(&call->deadline, loop, deadline_passed);
	arena_init(&call->arena, 64 << 10);
	buf_init(&call->out, GRPC_QUEUE_MAX);
	return call;
}

/* The stream is gone or let go: the call's memory goes after the turn. */
void grpc_call_drop(struct grpc_call *call)
{
	call->over = true;
	call->st = NULL;
	list_remove(&call->node);
	timer_stop(&call->deadline);
	loop_defer_free(call->loop, call, call_free);
}

/* The end as the owner hears it, once; then the call is gone. */
static void tell_end(struct grpc_call *call, enum grpc_status status, const char *text)
{
	bool tell = !call->finishing && !call->over;
	call->over = true;
	if (tell && call->ev && call->ev->on_end)
		call->ev->on_end(call->ctx, call, status, text);
	grpc_call_drop(call);
}

/* --- status text on the wire: percent-encoded UTF-8 --- */

static struct str encode_text(struct arena *a, const char *text)
{
	static const char hex[] = "0123456789ABCDEF";
	size_t n = strnlen(text, GRPC_TEXT_MAX);
	char *to = arena_alloc(a, n * 3 + 1);
	size_t at = 0;
	if (!to)
		return STR("");
	for (size_t i = 0; i < n; i++) {
		unsigned char c = (unsigned char)text[i];
		if (c >= 0x20 && c < 0x7f && c != '%') {
			to[at++] = (char)c;
			continue;
		}
		to[at++] = '%';
		to[at++] = hex[c >> 4];
		to[at++] = hex[c & 15];
	}
	return str_make(to, at);
}

static int hex_of(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	if (c >= 'a' && c <= 'f')
		return c - 'a' + 10;
	return -1;
}

/* Control bytes become '?': the text goes into logs. */
static void decode_text(char *to, size_t size, struct str s)
{
	size_t at = 0;
	for (size_t i = 0; i < s.len && at + 1 < size; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c == '%' && i + 2 < s.len && hex_of(s.p[i + 1]) >= 0 && hex_of(s.p[i + 2]) >= 0) {
			c = (unsigned char)(hex_of(s.p[i + 1]) << 4 | hex_of(s.p[i + 2]));
			i += 2;
		}
		to[at++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
	}
	to[at] = 0;
}

/* --- sending --- */

void grpc_call_trailers(struct grpc_call *call, enum grpc_status status, const char *text, struct fields *ret)
{
	char number[8];
	int n = snprintf(number, sizeof(number), "%d", (int)status);
	bool ok = fields_add(ret, &call->arena, STR("grpc-status"), str_make(number, (size_t)n), false);
	if (ok && text && text[0])
		ok = fields_add(ret, &call->arena, STR("grpc-message"), encode_text(&call->arena, text), true);
	(void)ok; /* an arena that is full sends what fits: nghttp2 then ends the stream and the peer sees UNKNOWN */
}

static void server_head(struct grpc_call *call)
{
	struct message m;
	if (call->head_out)
		return;
	message_init(&m, &call->arena, false);
	m.status = 200;
	m.framing = FRAMING_CHUNKED;
	if (!message_add(&m, STR("content-type"), STR("application/grpc"), true))
		return;
	codec_h2.send_head(call->st, &m, false);
	call->head_out = true;
}

/* The server's last word has been handed over: the rest is the codec's. */
static void let_go(struct grpc_call *call)
{
	struct http_stream *st = call->st;
	codec_h2.reset(st, REASON_NONE, false);
	grpc_call_drop(call);
}

/* Moves the queue on as far as the stream takes it; true when the call is gone. */
static bool push(struct grpc_call *call)
{
	size_t room;
	if (call->out.len > 0)
		server_head(call);
	while (call->out.len > 0 && (room = codec_h2.send_room(call->st)) > 0) {
		struct str p = buf_peek(&call->out);
		p.len = MIN(p.len, room);
		codec_h2.send_body(call->st, p);
		buf_drain(&call->out, p.len);
	}
	if (call->out.len > 0)
		return false;
	if (call->finishing) {
		struct fields t = {0};
		grpc_call_trailers(call, call->status, call->text, &t);
		codec_h2.send_end(call->st, &t);
		let_go(call);
		return true;
	}
	if (call->half_closing && !call->out_ended) {
		call->out_ended = true;
		codec_h2.send_end(call->st, NULL);
	}
	return false;
}

bool grpc_send(struct grpc_call *call, struct str message)
{
	MUST_BE(call, GRPC_CALL_MAGIC);
	MUST(!call->half_closing && !call->finishing);
	if (call->over)
		return true; /* the end is on its way: nobody will read it */
	if (message.len > GRPC_MESSAGE_MAX || (call->out.len > 0 && call->out.len + message.len + 5 > GRPC_QUEUE_MAX)) {
		call->want_room = true;
		return false;
	}
	uint8_t head[5] = {0, (uint8_t)(message.len >> 24), (uint8_t)(message.len >> 16), (uint8_t)(message.len >> 8),
			   (uint8_t)message.len};
	buf_add(&call->out, head, sizeof(head));
	buf_add_str(&call->out, message);
	push(call);
	return true;
}

void grpc_half_close(struct grpc_call *call)
{
	MUST_BE(call, GRPC_CALL_MAGIC);
	MUST(call->client);
	if (call->over || call->half_closing)
		return;
	call->half_closing = true;
	push(call);
}

void grpc_cancel(struct grpc_call **pcall)
{
	struct grpc_call *call = *pcall;
	if (!call)
		return;
	MUST_BE(call, GRPC_CALL_MAGIC);
	*pcall = NULL;
	call->ev = NULL;
	if (call->over)
		return; /* being told its end: freed by who tells */
	codec_h2.reset(call->st, REASON_CLIENT_GONE, false);
	grpc_call_drop(call);
}

/* Ends the call with a status of our own making: a server's trailers, a client's RST_STREAM. */
static void end_with(struct grpc_call *call, enum grpc_status status, const char *text)
{
	call->status = status;
	snprintf(call->text, sizeof(call->text), "%s", text ? text : "");
	call->finishing = true;
	call->ev = NULL;
	mem_free(call->in);
	call->in = NULL;
	if (call->client) {
		codec_h2.reset(call->st, REASON_CLIENT_GONE, false);
		grpc_call_drop(call);
	} else if (!call->head_out && call->out.len == 0) {
		grpc_answer_only(call, 200, status, text);
	} else {
		push(call);
	}
}

/* Trailers-only: one head with the status in it. The call is gone after it. */
void grpc_answer_only(struct grpc_call *call, uint16_t http, enum grpc_status status, const char *text)
{
	struct message m;
	call->finishing = true;
	call->ev = NULL;
	message_init(&m, &call->arena, false);
	m.status = http;
	m.framing = FRAMING_NONE;
	if (message_add(&m, STR("content-type"), STR("application/grpc"), true))
		grpc_call_trailers(call, status, text, &m.fields);
	codec_h2.send_head(call->st, &m, true);
	let_go(call);
}

void grpc_finish(struct grpc_call **pcall, enum grpc_status status, const char *text)
{
	struct grpc_call *call = *pcall;
	if (!call)
		return;
	MUST_BE(call, GRPC_CALL_MAGIC);
	MUST(!call->client);
	*pcall = NULL;
	call->ev = NULL;
	if (!call->over)
		end_with(call, status, text);
}

/* Something of the peer's cannot be accepted: our side of the wire, then the owner. */
void grpc_refuse(struct grpc_call *call, enum grpc_status status, const char *text)
{
	const struct grpc_call_events *ev = call->ev;
	void *ctx = call->ctx;
	/* on_end is told from this callback; the wire afterwards, so that `call` is whole while the owner looks at it. */
	call->over = true;
	if (ev && ev->on_end)
		ev->on_end(ctx, call, status, text);
	call->over = false;
	end_with(call, status, text);
}

/* --- receiving --- */

static void deliver(struct grpc_call *call, struct str message)
{
	if (call->ev && call->ev->on_message)
		call->ev->on_message(call->ctx, call, message);
}

/* The frame head in call->head is complete. False: refused, and the call is no longer ours. */
static bool frame_begins(struct grpc_call *call)
{
	const uint8_t *h = call->head;
	call->need = (size_t)h[1] << 24 | (size_t)h[2] << 16 | (size_t)h[3] << 8 | h[4];
	if (h[0] == 1)
		grpc_refuse(call, GRPC_UNIMPLEMENTED, "compressed messages are not supported");
	else if (h[0] != 0)
		grpc_refuse(call, GRPC_INTERNAL, "a message frame has unknown flags");
	else if (call->need > GRPC_MESSAGE_MAX)
		grpc_refuse(call, GRPC_RESOURCE_EXHAUSTED, "a message is larger than 4 MiB");
	else
		return true;
	return false;
}

/* Keeps part of a message; memory grows with what has come, not with what was announced. */
static void keep(struct grpc_call *call, struct str s)
{
	if (call->in_len + s.len > call->in_cap) {
		size_t cap = MAX(call->in_cap * 2, 4096);
		call->in_cap = MIN(MAX(cap, call->in_len + s.len), MAX(call->need, 1));
		call->in = mem_realloc(call->in, call->in_cap);
	}
	memcpy(call->in + call->in_len, s.p, s.len);
	call->in_len += s.len;
}

static void drop_partial(struct grpc_call *call)
{
	mem_free(call->in);
	call->in = NULL;
	call->in_len = call->in_cap = 0;
}

/* One step through the bytes of a piece; returns how many were taken. */
static size_t step(struct grpc_call *call, struct str s)
{
	if (call->head_len < sizeof(call->head)) {
		size_t n = MIN(s.len, sizeof(call->head) - call->head_len);
		memcpy(call->head + call->head_len, s.p, n);
		call->head_len += (uint8_t)n;
		if (call->head_len < sizeof(call->head) || !frame_begins(call) || call->need > 0)
			return n;
		call->head_len = 0;
		deliver(call, STR(""));
		return n;
	}
	size_t n = MIN(s.len, call->need - call->in_len);
	if (call->in_len == 0 && n == call->need) {
		call->head_len = 0;
		deliver(call, str_make(s.p, n));
		return n;
	}
	keep(call, str_make(s.p, n));
	if (call->in_len < call->need)
		return n;
	struct str whole = str_make(call->in, call->in_len);
	uint8_t *mem = call->in;
	call->in = NULL;
	call->in_len = call->in_cap = 0;
	call->head_len = 0;
	deliver(call, whole);
	mem_free(mem);
	return n;
}

static void on_body(void *ctx, struct str bytes)
{
	struct grpc_call *call = ctx;
	MUST_BE(call, GRPC_CALL_MAGIC);
	codec_h2.consumed(call->st, bytes.len);
	while (bytes.len > 0 && !call->over && !call->finishing) {
		size_t n = step(call, bytes);
		bytes.p += n;
		bytes.len -= n;
	}
}

static void note_status(struct grpc_call *call, const struct fields *f)
{
	for (size_t i = 0; i < f->len; i++) {
		uint64_t v;
		if (str_is(f->v[i].name, "grpc-status") && !call->status_seen && str_to_u64(f->v[i].value, 99, &v)) {
			call->status_seen = true;
			call->status = v <= GRPC_UNAUTHENTICATED ? (enum grpc_status)v : GRPC_UNKNOWN;
		} else if (str_is(f->v[i].name, "grpc-message")) {
			decode_text(call->text, sizeof(call->text), f->v[i].value);
		}
	}
}

bool grpc_content_type(const struct message *m)
{
	const struct field *f = message_get(m, "content-type");
	struct str want = STR("application/grpc");
	if (!f || f->value.len < want.len || !str_ieq(str_make(f->value.p, want.len), want))
		return false;
	return f->value.len == want.len || strchr("+; ", f->value.p[want.len]) != NULL;
}

/* What an answer that is not gRPC's means to a caller: the table of the gRPC over HTTP/2 mapping. */
static enum grpc_status of_http(uint16_t status)
{
	switch (status) {
	case 400:
		return GRPC_INTERNAL;
	case 401:
		return GRPC_UNAUTHENTICATED;
	case 403:
		return GRPC_PERMISSION_DENIED;
	case 404:
		return GRPC_UNIMPLEMENTED;
	case 429:
	case 502:
	case 503:
	case 504:
		return GRPC_UNAVAILABLE;
	}
	return GRPC_UNKNOWN;
}

static void client_head(void *ctx, struct message *m)
{
	struct grpc_call *call = ctx;
	char text[64];
	if (m->status < 200 || call->finishing)
		return;
	note_status(call, &m->fields);
	if (!call->status_seen && (m->status != 200 || !grpc_content_type(m))) {
		snprintf(text, sizeof(text), "the server answered HTTP %u and not gRPC", m->status);
		grpc_refuse(call, of_http(m->status), text);
	}
}

static void client_trailers(void *ctx, const struct fields *f, struct arena *a)
{
	struct grpc_call *call = ctx;
	note_status(call, f);
}

static void client_end(void *ctx)
{
	struct grpc_call *call = ctx;
	enum grpc_status status = call->status;
	if (call->finishing)
		return;
	if (!call->status_seen)
		snprintf(call->text, sizeof(call->text), "the answer ended without a grpc-status");
	else if (call->head_len > 0 && status == GRPC_OK) {
		status = GRPC_INTERNAL;
		snprintf(call->text, sizeof(call->text), "the answer ended within a message");
	}
	struct http_stream *st = call->st;
	call->over = true;
	drop_partial(call);
	if (call->ev && call->ev->on_end)
		call->ev->on_end(call->ctx, call, status, call->text);
	codec_h2.close(st);
	grpc_call_drop(call);
}

static void on_reset(void *ctx, const struct http_reset *why)
{
	struct grpc_call *call = ctx;
	MUST_BE(call, GRPC_CALL_MAGIC);
	enum grpc_status status = GRPC_CANCELLED;
	struct http_stream *st = call->st;
	if (call->client)
		status = why->unprocessed || !reason_row(why->reason)->grpc_status
			     ? GRPC_UNAVAILABLE
			     : (enum grpc_status)reason_row(why->reason)->grpc_status;
	codec_h2.close(st);
	tell_end(call, status, reason_row(why->reason)->text);
}

void grpc_on_room(void *ctx)
{
	struct grpc_call *call = ctx;
	MUST_BE(call, GRPC_CALL_MAGIC);
	if (call->over || push(call))
		return;
	if (!call->want_room || call->out.len > GRPC_QUEUE_MAX / 2)
		return;
	call->want_room = false;
	if (call->ev && call->ev->on_room)
		call->ev->on_room(call->ctx, call);
}

static void server_end(void *ctx)
{
	struct grpc_call *call = ctx;
	if (call->finishing || call->over)
		return;
	if (call->head_len > 0)
		grpc_refuse(call, GRPC_INTERNAL, "the call ended within a message");
	else if (call->ev && call->ev->on_half_close)
		call->ev->on_half_close(call->ctx, call);
}

static const struct http_stream_events client_events = {
    .on_head = client_head,
    .on_body = on_body,
    .on_trailers = client_trailers,
    .on_end = client_end,
    .on_reset = on_reset,
    .on_room = grpc_on_room,
};

const struct http_stream_events grpc_server_events = {
    .on_head = grpc_server_head,
    .on_body = on_body,
    .on_trailers = NULL,
    .on_end = server_end,
    .on_reset = on_reset,
    .on_room = grpc_on_room,
};

/* --- beginning as a client --- */

struct grpc_call *grpc_call_new(struct http_session *s, const char *authority, const char *path, const char *bearer,
				const struct grpc_call_events *ev, void *ctx)
{
	struct message m;
	MUST(s != NULL && http_session_ops(s) == &codec_h2 && ev != NULL);
	if (codec_h2.room(s) == 0 || (bearer && strlen(bearer) > GRPC_BEARER_MAX))
		return NULL;
	struct conn *conn = codec_h2.conn(s);
	struct grpc_call *call = grpc_call_make(conn_loop(conn), true);
	call->ev = ev;
	call->ctx = ctx;
	call->st = codec_h2.open(s, &client_events, call, &call->arena);
	message_init(&m, &call->arena, true);
	m.method = STR("POST");
	m.scheme = conn_ssl(conn) ? STR("https") : STR("http");
	m.authority = str_of(authority);
	m.path = str_of(path);
	m.framing = FRAMING_CHUNKED;
	bool ok = message_add(&m, STR("content-type"), STR("application/grpc"), true) &&
		  message_add(&m, STR("te"), STR("trailers"), true) &&
		  message_add(&m, STR("user-agent"), STR("weft/" WEFT_VERSION), true);
	if (ok && bearer) {
		struct str value = arena_printf(&call->arena, "Bearer %s", bearer);
		ok = value.p && message_add(&m, STR("authorization"), value, true);
	}
	MUST(ok); /* the arena holds far more than these */
	codec_h2.send_head(call->st, &m, false);
	call->head_out = true;
	return call;
}

struct conn *grpc_call_conn(const struct grpc_call *call)
{
	MUST_BE(call, GRPC_CALL_MAGIC);
	return call->st ? codec_h2.conn(http_stream_session(call->st)) : NULL;
}

const struct message *grpc_call_request(const struct grpc_call *call)
{
	MUST_BE(call, GRPC_CALL_MAGIC);
	return call->request;
}
