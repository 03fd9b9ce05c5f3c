/* SPDX-License-Identifier: Apache-2.0 */
/* h2_head.c: see h2_head.h. nghttp2 has already refused upper case, bad bytes in names and values, white space around
 * values, unknown, repeated or late pseudo-fields, connection-specific fields, te other than trailers, and lengths that are no
 * number. Left to do here: authority against host, userinfo, odd bytes in the target, sizes, Expect, cookies, framing. */
#include "lib/http/h2_head.h"

#include "lib/http/parse.h"
#include "lib/mem.h"

/* Never part of a message: the codec's own business, or meaningless on the other side of a hop. Asked of every field of every
 * head: by length, so that most are compared with nothing. */
static bool is_connection_field(struct str name)
{
	switch (name.len) {
	case 4:
		return str_ieq(name, STR("host"));
	case 7:
		return str_ieq(name, STR("upgrade"));
	case 10:
		return str_ieq(name, STR("connection")) || str_ieq(name, STR("keep-alive"));
	case 14:
		return str_ieq(name, STR("content-length")) || str_ieq(name, STR("http2-settings"));
	case 16:
		return str_ieq(name, STR("proxy-connection"));
	case 17:
		return str_ieq(name, STR("transfer-encoding"));
	}
	return false;
}

static void bad(struct h2_head *h, enum reason why)
{
	if (h->bad == REASON_NONE)
		h->bad = why;
}

void h2_head_begin(struct h2_head *h, struct arena *a, bool request, bool trailers)
{
	*h = (struct h2_head){.arena = a};
	if (trailers)
		return;
	h->m = arena_alloc(a, sizeof(*h->m));
	if (!h->m) {
		bad(h, REASON_HEAD_TOO_LARGE);
		return;
	}
	message_init(h->m, a, request);
	h->m->version = HTTP_2;
}

/* --- receiving --- */

/* As in HTTP/1: what one codec takes, the next one must. */
static bool method_ok(struct str s)
{
	return http1_is_token(s) && s.len <= HTTP1_METHOD_MAX;
}

static bool target_ok(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c <= 0x20 || c >= 0x7f || c == '#')
			return false;
	}
	return true;
}

/* A protocol that HTTP/1.1 may spell as an Upgrade: token, with a version perhaps; several between sidecars, as they were offered. Never h2c,
 * which would tunnel past every policy. */
static bool protocol_ok(struct str list)
{
	bool more = list.len > 0;
	while (more) {
		struct str one, name, version;
		more = str_cut(list, ',', &one, &list);
		one = str_trim(one);
		bool has_version = str_cut(one, '/', &name, &version);
		if (!http1_is_token(name) || (has_version && !http1_is_token(version)) || str_ieq(name, STR("h2c")))
			return false;
	}
	return true;
}

/* The text of a pseudo-field, copied into the arena. */
static void keep(struct h2_head *h, struct str *ret, struct str value)
{
	*ret = arena_str(h->arena, value);
	if (!ret->p)
		bad(h, REASON_HEAD_TOO_LARGE);
}

/* As in HTTP/1, which it may be written into: no userinfo, no second spelling, no list. */
static void authority(struct h2_head *h, struct str *ret, struct str value)
{
	if (!http1_authority(value, false, &value))
		bad(h, REASON_BAD_REQUEST);
	else
		keep(h, ret, value);
}

static void request_pseudo(struct h2_head *h, const struct http_limits *lim, struct str name, struct str value)
{
	struct message *m = h->m;
	if (str_is(name, ":method")) {
		if (!method_ok(value))
			bad(h, REASON_BAD_REQUEST);
		keep(h, &m->method, value);
	} else if (str_is(name, ":scheme")) {
		if (str_ieq(value, STR("http")))
			m->scheme = STR("http");
		else if (str_ieq(value, STR("https")))
			m->scheme = STR("https");
		else
			bad(h, REASON_BAD_REQUEST);
	} else if (str_is(name, ":authority")) {
		h->authority_seen = true;
		authority(h, &m->authority, value);
	} else if (str_is(name, ":path")) {
		if (value.len > lim->target_max) {
			bad(h, REASON_URI_TOO_LONG);
			return;
		}
		if (!target_ok(value))
			bad(h, REASON_BAD_REQUEST);
		keep(h, &m->path, value);
	} else if (str_is(name, ":protocol")) {
		if (!protocol_ok(value))
			bad(h, REASON_BAD_REQUEST);
		keep(h, &m->protocol, value);
	} else {
		bad(h, REASON_BAD_REQUEST);
	}
}

static void response_pseudo(struct h2_head *h, struct str name, struct str value)
{
	uint64_t status = 0;
	if (str_is(name, ":status") && value.len == 3 && str_to_u64(value, 999, &status) && status >= 100 &&
	    status != 101)
		h->m->status = (uint16_t)status;
	else
		bad(h, REASON_BAD_REQUEST);
}

static void host_field(struct h2_head *h, struct str value)
{
	h->host_seen = true;
	authority(h, &h->host, value);
}

static void length_field(struct h2_head *h, struct str value)
{
	if (h->m->has_length || !str_to_u64(value, INT64_MAX, &h->m->content_length))
		bad(h, REASON_BAD_REQUEST);
	h->m->has_length = true;
}

static void expect_field(struct h2_head *h, struct str value)
{
	if (!h->m->expect_continue && str_ieq(value, STR("100-continue")))
		h->m->expect_continue = true;
	else
		bad(h, REASON_EXPECTATION);
}

static void message_field(struct h2_head *h, struct str name, struct str value)
{
	bool request = h->m->request;
	if (str_is(name, "host") && request) {
		host_field(h, value);
		return;
	}
	if (str_is(name, "content-length")) {
		length_field(h, value);
		return;
	}
	/* What nghttp2 lets through of these (http2-settings, host in a response) is dropped, never sent on. */
	if (is_connection_field(name))
		return;
	if (request && str_is(name, "expect"))
		expect_field(h, value);
	if (str_is(name, "cookie"))
		h->crumbs++;
	if (!message_add(h->m, name, value, false))
		bad(h, REASON_HEAD_TOO_LARGE);
}

static void trailer_field(struct h2_head *h, struct str name, struct str value)
{
	if (name.p[0] == ':')
		bad(h, REASON_BAD_REQUEST);
	else if (!http1_trailer_forbidden(name) && !fields_add(&h->trailers, h->arena, name, value, false))
		bad(h, REASON_HEAD_TOO_LARGE);
}

void h2_head_field(struct h2_head *h, const struct http_limits *lim, struct str name, struct str value)
{
	h->bytes += name.len + value.len + 4;
	h->n++;
	/* 28 beyond HTTP/1's count: pseudo-fields and cookie crumbs. */
	if (h->bytes > lim->head_max || h->n > lim->fields_max + 28)
		bad(h, REASON_HEAD_TOO_LARGE);
	if (h->bad != REASON_NONE)
		return;
	if (name.len == 0)
		bad(h, REASON_BAD_REQUEST);
	else if (!h->m)
		trailer_field(h, name, value);
	else if (name.p[0] != ':')
		message_field(h, name, value);
	else if (h->m->request)
		request_pseudo(h, lim, name, value);
	else
		response_pseudo(h, name, value);
}

/* RFC 9113 8.2.3: crumbs become one cookie field, where the first one stood. */
static void join_cookies(struct h2_head *h)
{
	struct message *m = h->m;
	size_t total = 0, at = 0, kept = 0;
	struct field *first = NULL;
	for (size_t i = 0; i < m->fields.len; i++)
		if (str_is(m->fields.v[i].name, "cookie"))
			total += m->fields.v[i].value.len + 2;
	char *joined = arena_alloc(h->arena, total);
	if (!joined) {
		bad(h, REASON_HEAD_TOO_LARGE);
		return;
	}
	for (size_t i = 0; i < m->fields.len; i++) {
		struct field f = m->fields.v[i];
		if (!str_is(f.name, "cookie")) {
			m->fields.v[kept++] = f;
			continue;
		}
		if (at > 0) {
			memcpy(joined + at, "; ", 2);
			at += 2;
		}
		if (f.value.len)
			memcpy(joined + at, f.value.p, f.value.len);
		at += f.value.len;
		if (!first) {
			first = &m->fields.v[kept++];
			*first = f;
		}
	}
	m->fields.len = kept;
	if (first)
		first->value = str_make(joined, at);
}

static void request_end(struct h2_head *h, bool end_stream)
{
	struct message *m = h->m;
	bool connect = str_is(m->method, "CONNECT");
	if (h->host_seen && h->authority_seen && !str_ieq(h->host, m->authority))
		bad(h, REASON_BAD_REQUEST);
	if (!h->authority_seen)
		m->authority = h->host;
	if (m->authority.len == 0)
		bad(h, REASON_BAD_REQUEST);
	bool slash = m->path.len > 0 && m->path.p[0] == '/';
	bool star = str_is(m->path, "*") && str_is(m->method, "OPTIONS");
	if (!(connect && m->protocol.len == 0) && !slash && !star)
		bad(h, REASON_BAD_REQUEST);
	if (connect)
		m->framing = FRAMING_TUNNEL;
	else if (m->has_length)
		m->framing = FRAMING_LENGTH;
	else
		m->framing = end_stream ? FRAMING_NONE : FRAMING_CHUNKED;
	struct str same;
	bool plain = connect && m->protocol.len == 0;
	if ((connect && m->has_length) ||
	    (plain && m->authority.len > 0 && !http1_authority(m->authority, true, &same)))
		bad(h, REASON_BAD_REQUEST);
	/* a length of 0 may be followed by an empty DATA frame; by more nghttp2 does not let it be */
	if (str_is(m->method, "TRACE") && (m->has_length ? m->content_length > 0 : !end_stream))
		bad(h, REASON_BAD_REQUEST);
}

static void response_end(struct h2_head *h, bool end_stream, enum h2_asked asked)
{
	struct message *m = h->m;
	if (m->status == 0 || (m->status < 200 && end_stream))
		bad(h, REASON_BAD_REQUEST);
	m->head_only = asked == H2_ASKED_HEAD;
	bool tunnel = asked == H2_ASKED_CONNECT && m->status >= 200 && m->status < 300;
	/* Says nothing there, and must not be sent on as if it did (RFC 9110 8.6). */
	if (tunnel || m->status < 200 || m->status == 204)
		m->has_length = false;
	if (tunnel)
		m->framing = FRAMING_TUNNEL;
	else if (m->head_only || !http_status_has_body(m->status))
		m->framing = FRAMING_NONE;
	else if (m->has_length)
		m->framing = FRAMING_LENGTH;
	else
		m->framing = end_stream ? FRAMING_NONE : FRAMING_CHUNKED;
}

void h2_head_end(struct h2_head *h, const struct http_limits *lim, bool end_stream, enum h2_asked asked)
{
	if (h->bad != REASON_NONE || !h->m)
		return;
	if (h->crumbs > 1)
		join_cookies(h);
	if (h->m->request)
		request_end(h, end_stream);
	else
		response_end(h, end_stream, asked);
	if (!h->m->has_length)
		h->m->content_length = 0;
}

/* --- sending --- */

static void nv_add(struct h2_nv *nv, struct str name, struct str value, uint8_t flags)
{
	if (nv->n == nv->cap) {
		size_t cap = nv->cap * 2;
		nghttp2_nv *v = mem_alloc(cap * sizeof(*v));
		memcpy(v, nv->v, nv->n * sizeof(*v));
		if (nv->v != nv->few)
			mem_free(nv->v);
		nv->v = v;
		nv->cap = cap;
	}
	nv->v[nv->n++] = (nghttp2_nv){
	    .name = (uint8_t *)name.p,
	    .value = (uint8_t *)(value.len ? value.p : ""),
	    .namelen = name.len,
	    .valuelen = value.len,
	    .flags = flags,
	};
}

/* A name of the program's own, lower case: nghttp2 need not copy it. */
static void nv_own(struct h2_nv *nv, struct str name, struct str value)
{
	nv_add(nv, name, value, NGHTTP2_NV_FLAG_NO_COPY_NAME);
}

/* Secrets never enter the peer's dynamic table (RFC 7541 7.1.3). */
static bool is_secret(struct str name, struct str value)
{
	return str_ieq(name, STR("authorization")) || str_ieq(name, STR("proxy-authorization")) ||
	       (str_ieq(name, STR("cookie")) && value.len < 20);
}

/* Names of one request alone: in the table, of 4 KiB, their values would never be found again and push out what is. */
static bool is_once(struct str name)
{
	switch (name.len) {
	case 11:
		return str_ieq(name, STR("traceparent")) || str_ieq(name, STR("x-b3-spanid"));
	case 12:
		return str_ieq(name, STR("x-request-id")) || str_ieq(name, STR("x-b3-traceid"));
	case 15:
		return str_ieq(name, STR("x-amzn-trace-id")) || str_ieq(name, STR("idempotency-key"));
	case 16:
		return str_ieq(name, STR("x-correlation-id"));
	case 17:
		return str_ieq(name, STR("x-b3-parentspanid"));
	}
	return false;
}

static void nv_put(struct h2_nv *nv, struct str name, struct str value)
{
	bool literal = is_secret(name, value) || is_once(name);
	nv_add(nv, name, value, literal ? NGHTTP2_NV_FLAG_NO_INDEX : NGHTTP2_NV_FLAG_NONE);
}

static void nv_begin(struct h2_nv *nv)
{
	nv->v = nv->few;
	nv->n = 0;
	nv->cap = ARRAY_LEN(nv->few);
}

bool h2_is_connect(const struct message *m)
{
	return str_is(m->method, "CONNECT") || (m->protocol.len > 0 && m->framing == FRAMING_TUNNEL);
}

/* An Upgrade of HTTP/1.1 is an extended CONNECT here (RFC 8441). */
static void nv_request(struct h2_nv *nv, const struct message *m)
{
	bool connect = h2_is_connect(m);
	nv_own(nv, STR(":method"), connect ? STR("CONNECT") : m->method);
	if (connect && m->protocol.len)
		nv_own(nv, STR(":protocol"), m->protocol);
	if (!connect || m->protocol.len) {
		nv_own(nv, STR(":scheme"), m->scheme.len ? m->scheme : STR("http"));
		nv_own(nv, STR(":path"), m->path.len ? m->path : STR("/"));
	}
	if (m->authority.len)
		nv_own(nv, STR(":authority"), m->authority);
}

static void nv_response(struct h2_nv *nv, const struct message *m)
{
	MUST(m->status >= 100 && m->status <= 999);
	/* HTTP/2 has no 101: what it opens is opened by a 200 (RFC 8441 5). */
	nv_own(nv, STR(":status"), str_from_u64(m->status == 101 ? 200 : m->status, nv->status));
}

static bool has_length(const struct message *m)
{
	if (m->framing == FRAMING_TUNNEL)
		return false;
	if (!m->request && (m->status < 200 || m->status == 204))
		return false;
	return m->framing == FRAMING_LENGTH || (m->has_length && m->framing == FRAMING_NONE);
}

void h2_nv_message(struct h2_nv *nv, const struct message *m)
{
	nv_begin(nv);
	if (m->request)
		nv_request(nv, m);
	else
		nv_response(nv, m);
	if (has_length(m))
		nv_own(nv, STR("content-length"), str_from_u64(m->content_length, nv->number));
	for (size_t i = 0; i < m->fields.len; i++) {
		const struct field *f = &m->fields.v[i];
		if (is_connection_field(f->name))
			continue;
		if (str_ieq(f->name, STR("te")) && !str_ieq(f->value, STR("trailers")))
			continue;
		nv_put(nv, f->name, f->value);
	}
}

void h2_nv_fields(struct h2_nv *nv, const struct fields *f)
{
	nv_begin(nv);
	for (size_t i = 0; i < f->len; i++)
		if (!is_connection_field(f->v[i].name))
			nv_put(nv, f->v[i].name, f->v[i].value);
}

void h2_nv_done(struct h2_nv *nv)
{
	if (nv->v != nv->few)
		mem_free(nv->v);
	nv->v = NULL;
}
