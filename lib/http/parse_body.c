/* SPDX-License-Identifier: Apache-2.0 */
/* parse_body.c: message bodies of HTTP/1: by length, in chunks with their extensions and trailers, until the end. */
#include "lib/http/parse_impl.h"

/* RFC 9110 6.5.1. Also what the mesh itself or a cache would act upon. */
static const struct str trailer_forbidden[] = {
    STR("age"),
    STR("authorization"),
    STR("cache-control"),
    STR("connection"),
    STR("content-encoding"),
    STR("content-length"),
    STR("content-range"),
    STR("content-type"),
    STR("cookie"),
    STR("cookie2"),
    STR("date"),
    STR("expect"),
    STR("expires"),
    STR("forwarded"),
    STR("host"),
    STR("http2-settings"),
    STR("if-match"),
    STR("if-modified-since"),
    STR("if-none-match"),
    STR("if-range"),
    STR("if-unmodified-since"),
    STR("keep-alive"),
    STR("location"),
    STR("max-forwards"),
    STR("pragma"),
    STR("proxy-authenticate"),
    STR("proxy-authorization"),
    STR("proxy-connection"),
    STR("range"),
    STR("retry-after"),
    STR("set-cookie"),
    STR("te"),
    STR("trailer"),
    STR("transfer-encoding"),
    STR("upgrade"),
    STR("vary"),
    STR("via"),
    STR("www-authenticate"),
    STR("x-forwarded-for"),
    STR("x-forwarded-host"),
    STR("x-forwarded-proto"),
};

bool http1_trailer_forbidden(struct str name)
{
	for (size_t i = 0; i < ARRAY_LEN(trailer_forbidden); i++)
		if (str_ieq(name, trailer_forbidden[i]))
			return true;
	return false;
}

enum chunk_state {
	CHUNK_SIZE,
	CHUNK_EXT_NAME_0, /* the first byte of it */
	CHUNK_EXT_NAME,
	CHUNK_EXT_VALUE_0,
	CHUNK_EXT_VALUE,
	CHUNK_EXT_QUOTED,
	CHUNK_EXT_ESCAPED,
	CHUNK_EXT_QUOTED_END,
	CHUNK_SIZE_LF,
	CHUNK_DATA,
	CHUNK_DATA_CR,
	CHUNK_DATA_LF,
	CHUNK_TRAILERS,
	CHUNK_END,
};

void http1_body_init(struct http1_body *b, const struct message *m, const struct http_limits *lim)
{
	MUST(m != NULL && m->arena != NULL && lim != NULL);
	*b = (struct http1_body){.lim = lim, .framing = m->framing, .request = m->request, .lines.arena = m->arena};
	if (m->framing == FRAMING_LENGTH)
		b->left = m->content_length;
}

void http1_body_done(struct http1_body *b)
{
	http1_lines_done(&b->lines);
}

static enum http1_step body_bad(struct http1_body *b, enum reason why, const char *what)
{
	b->why = b->request ? why : REASON_UPSTREAM_PROTOCOL;
	b->what = what;
	return HTTP1_BAD;
}

static int hex(char c)
{
	return c >= '0' && c <= '9'   ? c - '0'
	       : c >= 'a' && c <= 'f' ? c - 'a' + 10
	       : c >= 'A' && c <= 'F' ? c - 'A' + 10
				      : -1;
}

/* A byte of the size, or the one that ends it. */
static bool chunk_size(struct http1_body *b, char c)
{
	int digit = hex(c);
	if (digit >= 0) {
		if (b->digits++ == 16)
			return false;
		b->left = b->left << 4 | (unsigned)digit;
		return true;
	}
	b->state = c == '\r' ? CHUNK_SIZE_LF : CHUNK_EXT_NAME_0;
	return b->digits > 0 && b->left <= HTTP1_CHUNK_MAX && (c == '\r' || c == ';');
}

/* After a name or a value is whole: another, a value, or the end of the line. */
static bool chunk_ext_next(struct http1_body *b, char c, bool may_value)
{
	if (c == '=' && may_value)
		b->state = CHUNK_EXT_VALUE_0;
	else
		b->state = c == ';' ? CHUNK_EXT_NAME_0 : CHUNK_SIZE_LF;
	return c == '\r' || c == ';' || b->state == CHUNK_EXT_VALUE_0;
}

/* A byte of *( ";" name [ "=" ( token / quoted-string ) ] ), without the white space that nobody may send. */
static bool chunk_ext(struct http1_body *b, char c)
{
	if (++b->ext_chunk > HTTP1_EXT_CHUNK_MAX || ++b->ext_all > HTTP1_EXT_ALL_MAX)
		return false;
	switch ((enum chunk_state)b->state) {
	case CHUNK_EXT_NAME_0:
		b->state = CHUNK_EXT_NAME;
		return http1_char_is(c, C_TOKEN);
	case CHUNK_EXT_NAME:
		return http1_char_is(c, C_TOKEN) || chunk_ext_next(b, c, true);
	case CHUNK_EXT_VALUE_0:
		b->state = c == '"' ? CHUNK_EXT_QUOTED : CHUNK_EXT_VALUE;
		return c == '"' || http1_char_is(c, C_TOKEN);
	case CHUNK_EXT_VALUE:
		return http1_char_is(c, C_TOKEN) || chunk_ext_next(b, c, false);
	case CHUNK_EXT_QUOTED:
		b->state = c == '"' ? CHUNK_EXT_QUOTED_END : c == '\\' ? CHUNK_EXT_ESCAPED : CHUNK_EXT_QUOTED;
		return c == '"' || c == '\\' || http1_char_is(c, C_QUOTED);
	case CHUNK_EXT_ESCAPED:
		b->state = CHUNK_EXT_QUOTED;
		return http1_char_is(c, C_VALUE);
	case CHUNK_EXT_QUOTED_END:
		return chunk_ext_next(b, c, false);
	case CHUNK_SIZE:
	case CHUNK_SIZE_LF:
	case CHUNK_DATA:
	case CHUNK_DATA_CR:
	case CHUNK_DATA_LF:
	case CHUNK_TRAILERS:
	case CHUNK_END:
		break;
	}
	return false;
}

/* A byte between the contents of two chunks. */
static bool chunk_frame(struct http1_body *b, char c)
{
	switch ((enum chunk_state)b->state) {
	case CHUNK_SIZE:
		return chunk_size(b, c);
	case CHUNK_SIZE_LF:
		b->state = b->left ? CHUNK_DATA : CHUNK_TRAILERS;
		return c == '\n';
	case CHUNK_DATA_CR:
		b->state = CHUNK_DATA_LF;
		return c == '\r';
	case CHUNK_DATA_LF:
		b->state = CHUNK_SIZE;
		b->digits = 0;
		b->ext_chunk = 0;
		return c == '\n';
	case CHUNK_EXT_NAME_0:
	case CHUNK_EXT_NAME:
	case CHUNK_EXT_VALUE_0:
	case CHUNK_EXT_VALUE:
	case CHUNK_EXT_QUOTED:
	case CHUNK_EXT_ESCAPED:
	case CHUNK_EXT_QUOTED_END:
		return chunk_ext(b, c);
	case CHUNK_DATA:
	case CHUNK_TRAILERS:
	case CHUNK_END:
		break;
	}
	return false;
}

static bool trailer_may(const void *ctx, size_t line, size_t before, size_t n)
{
	const struct http1_body *b = ctx;
	return before + n <= b->lim->head_max + 2;
}

static enum http1_step trailer_line(struct http1_body *b, struct str line)
{
	struct str name, value;
	b->lines.count++;
	b->lines.bytes += line.len + 2;
	if (line.len == 0) {
		b->state = CHUNK_END;
		return HTTP1_DONE;
	}
	if (b->fields++ == b->lim->fields_max)
		return body_bad(b, REASON_HEAD_TOO_LARGE, "too many trailer fields");
	if (!http1_field_cut(line, &name, &value))
		return body_bad(b, REASON_BAD_REQUEST, "a trailer field is malformed");
	if (!http1_trailer_forbidden(name) && !fields_add(&b->trailers, b->lines.arena, name, value, true))
		return body_bad(b, REASON_HEAD_TOO_LARGE, "the trailers do not fit into their memory");
	return HTTP1_MORE;
}

static enum http1_step trailers_feed(struct http1_body *b, struct str in, size_t *ret_used)
{
	struct http1_piece piece;
	*ret_used = http1_lines_take(&b->lines, in, trailer_may, b, &piece);
	if (piece.no_room)
		return body_bad(b, REASON_HEAD_TOO_LARGE, "the trailers do not fit into their memory");
	enum http1_step step = HTTP1_MORE;
	while (piece.whole.len && step == HTTP1_MORE) {
		struct str line;
		if (!http1_line_cut(&piece.whole, &line))
			return body_bad(b, REASON_BAD_REQUEST, "a trailer line does not end in CRLF, or has a bare CR");
		step = trailer_line(b, line);
	}
	if (piece.over.p && step == HTTP1_MORE)
		return body_bad(b, REASON_HEAD_TOO_LARGE, "the trailers are too large");
	return step;
}

/* Content of the counted kinds: what of `in` belongs to the body or the chunk. */
static struct str content_take(struct http1_body *b, struct str in)
{
	struct str data = str_make(in.p, (size_t)MIN((uint64_t)in.len, b->left));
	b->left -= data.len;
	return data;
}

static enum http1_step chunked_feed(struct http1_body *b, struct str in, size_t *ret_used, struct str *ret_data)
{
	size_t at = 0;
	while (at < in.len && b->state != CHUNK_DATA && b->state != CHUNK_TRAILERS)
		if (!chunk_frame(b, in.p[at++])) {
			*ret_used = at;
			return body_bad(b, REASON_BAD_REQUEST, "the chunked framing is malformed");
		}
	*ret_used = at;
	if (at == in.len)
		return HTTP1_MORE;
	struct str rest = str_make(in.p + at, in.len - at);
	if (b->state == CHUNK_TRAILERS) {
		size_t used;
		enum http1_step step = trailers_feed(b, rest, &used);
		*ret_used = at + used;
		return step;
	}
	*ret_data = content_take(b, rest);
	*ret_used = at + ret_data->len;
	if (b->left == 0)
		b->state = CHUNK_DATA_CR;
	return HTTP1_MORE;
}

enum http1_step http1_body_feed(struct http1_body *b, struct str in, size_t *ret_used, struct str *ret_data)
{
	*ret_data = (struct str){0};
	*ret_used = 0;
	switch (b->framing) {
	case FRAMING_NONE:
		return HTTP1_DONE;
	case FRAMING_LENGTH:
		*ret_data = content_take(b, in);
		*ret_used = ret_data->len;
		return b->left ? HTTP1_MORE : HTTP1_DONE;
	case FRAMING_CHUNKED:
		return b->state == CHUNK_END ? HTTP1_DONE : chunked_feed(b, in, ret_used, ret_data);
	case FRAMING_CLOSE:
	case FRAMING_TUNNEL:
		*ret_data = in;
		*ret_used = in.len;
		return HTTP1_MORE;
	}
	return HTTP1_BAD;
}
