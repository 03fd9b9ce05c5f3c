/* SPDX-License-Identifier: Apache-2.0 */
/* http1_read.c: one HTTP/1 message through the parser, in pieces, into words that can be compared. */
#include "tests/unit/lib/http1_read.h"

#include "lib/mem.h"

static const char *const framings[] = {"none", "length", "chunked", "close", "tunnel"};

/* "METHOD scheme authority path 1.1 framing[ length][ close][ expect][ proto=P] {Name: value}... = body {trailer}" */
void http1_dump_head(struct buf *d, const struct message *m)
{
	if (m->request)
		buf_printf(d, STR_FMT " " STR_FMT " " STR_FMT " " STR_FMT, STR_ARG(m->method), STR_ARG(m->scheme),
			   STR_ARG(m->authority), STR_ARG(m->path));
	else
		buf_printf(d, "%u " STR_FMT, m->status, STR_ARG(m->reason));
	buf_printf(d, " %s %s", m->version == HTTP_1_1 ? "1.1" : "1.0", framings[m->framing]);
	if (m->has_length)
		buf_printf(d, " %llu", (unsigned long long)m->content_length);
	if (m->close)
		buf_printf(d, " close");
	if (m->expect_continue)
		buf_printf(d, " expect");
	if (m->protocol.len)
		buf_printf(d, " proto=" STR_FMT, STR_ARG(m->protocol));
	for (size_t i = 0; i < m->fields.len; i++)
		buf_printf(d, " {" STR_FMT ": " STR_FMT "}", STR_ARG(m->fields.v[i].name),
			   STR_ARG(m->fields.v[i].value));
}

static void dump_end(struct http1_read *r, const struct fields *trailers)
{
	if (r->body.len)
		buf_printf(&r->dump, " = ");
	buf_move(&r->dump, &r->body, r->body.len);
	for (size_t i = 0; i < trailers->len; i++)
		buf_printf(&r->dump, " {" STR_FMT ": " STR_FMT "}", STR_ARG(trailers->v[i].name),
			   STR_ARG(trailers->v[i].value));
}

static enum http1_step feed_body(struct http1_body *b, struct str in, struct http1_read *r)
{
	enum http1_step step;
	size_t at = 0;
	do {
		size_t used;
		struct str data;
		step = http1_body_feed(b, str_make(in.p + at, in.len - at), &used, &data);
		buf_add_str(&r->body, data);
		at += used;
	} while (step == HTTP1_MORE && at < in.len);
	r->used += at;
	return step;
}

/* Copies every piece to a block of its own size, so that reading beyond it is seen. */
void http1_read(struct http1_read *r, struct str in, size_t cut, size_t step_len, bool request,
		struct http1_asked asked)
{
	struct http1_head h;
	struct http1_body b;
	*r = (struct http1_read){.step = HTTP1_MORE};
	buf_init(&r->dump, 1 << 20);
	buf_init(&r->body, 1 << 20);
	arena_init(&r->arena, HTTP1_ARENA_MIN);
	http1_head_init(&h, &r->arena, &http_limits_default, request, &asked);
	bool head = true;
	size_t at = 0;
	while (at < in.len && r->step == HTTP1_MORE) {
		size_t n = cut && at < cut ? cut - at : MIN(step_len, in.len - at), used = 0;
		char *piece = mem_dup(in.p + at, n);
		at += n;
		if (head) {
			r->step = http1_head_feed(&h, str_make(piece, n), &used);
			r->used += used;
			if (r->step == HTTP1_DONE) {
				head = false;
				r->m = h.msg;
				http1_dump_head(&r->dump, r->m);
				http1_body_init(&b, r->m, &http_limits_default);
				r->step = feed_body(&b, str_make(piece + used, n - used), r);
			}
		} else
			r->step = feed_body(&b, str_make(piece, n), r);
		mem_free(piece);
	}
	r->why = r->step == HTTP1_BAD ? (head ? h.why : b.why) : REASON_NONE;
	if (r->step == HTTP1_BAD)
		MUST(head ? h.what : b.what);
	if (!head) {
		dump_end(r, &b.trailers);
		http1_body_done(&b);
	}
	http1_head_done(&h);
}

void http1_read_done(struct http1_read *r)
{
	buf_done(&r->dump);
	buf_done(&r->body);
	arena_done(&r->arena);
}

struct str http1_read_text(struct http1_read *r)
{
	return buf_pullup(&r->dump, r->dump.len);
}

bool http1_read_same(struct http1_read *a, struct http1_read *b)
{
	if (a->step != b->step || a->why != b->why)
		return false;
	return a->step == HTTP1_BAD || (a->used == b->used && str_eq(http1_read_text(a), http1_read_text(b)));
}

/* What the codec would plan for a message that came in, framing kept. */
struct http1_plan http1_read_plan(const struct message *m)
{
	return (struct http1_plan){
	    .http_1_0 = m->version == HTTP_1_0,
	    .close = m->close && m->version == HTTP_1_1,
	    .keep = !m->close && m->version == HTTP_1_0,
	    .length = m->has_length,
	    .content_length = m->content_length,
	    .chunked = m->framing == FRAMING_CHUNKED,
	    .upgrade = m->protocol,
	};
}
