/* SPDX-License-Identifier: Apache-2.0 */
/* parse_head.c: message heads of HTTP/1, from bytes to struct message. Reading order: request and status line, fields, what the fields mean together, the
 * head as a whole. */
#include "lib/http/parse_impl.h"

#define LINE0_EXTRA    (HTTP1_METHOD_MAX + 1 + 1 + 8 + 2) /* method SP target SP HTTP/1.1 CRLF */
#define CONNECTION_MAX 32                                 /* options in all Connection lines of a message */

/* --- request line and status line --- */

static bool bad(struct http1_head *h, enum reason why, const char *what)
{
	h->why = h->msg && !h->msg->request ? REASON_UPSTREAM_PROTOCOL : why;
	h->what = what;
	return false;
}

static bool malformed(struct http1_head *h, const char *what)
{
	return bad(h, REASON_BAD_REQUEST, what);
}

static bool no_room(struct http1_head *h)
{
	return bad(h, REASON_HEAD_TOO_LARGE, "the head does not fit into its memory");
}

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

/* HTTP-version, exactly eight bytes, case-sensitive. */
static bool version_line(struct http1_head *h, struct str v)
{
	if (v.len != 8 || memcmp(v.p, "HTTP/", 5) != 0 || !is_digit(v.p[5]) || v.p[6] != '.' || !is_digit(v.p[7]))
		return malformed(h, "the HTTP version is malformed");
	if (v.p[5] != '1' || v.p[7] > '1')
		return bad(h, REASON_BAD_VERSION, "only HTTP/1.0 and HTTP/1.1 are spoken here");
	h->msg->version = v.p[7] == '1' ? HTTP_1_1 : HTTP_1_0;
	return true;
}

/* scheme "://" authority [path] [query] of http and https. */
static bool target_absolute(struct http1_head *h, struct str target)
{
	struct message *m = h->msg;
	struct str scheme, rest;
	if (!str_cut(target, ':', &scheme, &rest) ||
	    (!http1_is_word(scheme, "http") && !http1_is_word(scheme, "https")) || !str_starts(rest, STR("//")))
		return malformed(h, "the request target has no form that is allowed here");
	rest = str_make(rest.p + 2, rest.len - 2);
	size_t n = 0;
	while (n < rest.len && rest.p[n] != '/' && rest.p[n] != '?')
		n++;
	if (!http1_authority(str_make(rest.p, n), false, &m->authority))
		return malformed(h, "the authority of the request target is malformed");
	struct str path = str_make(rest.p + n, rest.len - n);
	m->absolute_form = true;
	m->scheme = http1_is_word(scheme, "https") ? STR("https") : STR("http"); /* in lower case: RFC 9110 4.2.3 */
	if (path.len == 0)
		m->path = str_is(m->method, "OPTIONS") ? STR("*") : STR("/");
	else if (path.p[0] == '/')
		m->path = path;
	else {
		m->path = arena_printf(m->arena, "/" STR_FMT, STR_ARG(path));
		if (!m->path.p)
			return no_room(h);
	}
	return true;
}

static bool target_line(struct http1_head *h, struct str target)
{
	struct message *m = h->msg;
	if (target.len > h->lim->target_max)
		return bad(h, REASON_URI_TOO_LONG, "the request target is too long");
	if (!http1_is_target(target))
		return malformed(h, "the request target is empty or has bytes that may not be in it");
	m->scheme = STR("http");
	if (str_is(m->method, "CONNECT")) {
		if (!http1_authority(target, true, &m->authority))
			return malformed(h, "CONNECT needs host:port as its target");
		return true;
	}
	if (target.p[0] == '/' || (str_is(target, "*") && str_is(m->method, "OPTIONS"))) {
		m->path = target;
		return true;
	}
	return target_absolute(h, target);
}

static bool request_line(struct http1_head *h, struct str line)
{
	struct str target, version;
	if (!str_cut(line, ' ', &h->msg->method, &line) || !http1_is_token(h->msg->method) ||
	    h->msg->method.len > HTTP1_METHOD_MAX)
		return malformed(h, "the method is malformed");
	if (!str_cut(line, ' ', &target, &version))
		return malformed(h, "the request line has not three parts");
	return version_line(h, version) && target_line(h, target);
}

/* The space before an empty reason phrase may be missing: it often is, and nothing can be read in two ways. */
static bool status_line(struct http1_head *h, struct str line)
{
	struct str version, rest;
	if (!str_cut(line, ' ', &version, &rest) || !version_line(h, version))
		return malformed(h, "the status line is malformed");
	if (rest.len < 3 || (rest.len > 3 && rest.p[3] != ' '))
		return malformed(h, "the status code is not three digits");
	uint64_t status;
	if (!str_to_u64(str_make(rest.p, 3), 999, &status) || status < 100)
		return malformed(h, "the status code is not three digits");
	h->msg->status = (uint16_t)status;
	h->msg->reason = rest.len > 4 ? str_make(rest.p + 4, rest.len - 4) : STR("");
	if (!http1_is_phrase(h->msg->reason))
		return malformed(h, "the reason phrase has control bytes");
	return true;
}

/* --- fields --- */

static bool on_host(struct http1_head *h, struct str name, struct str value)
{
	if (!h->msg->request)
		return message_add(h->msg, name, value, true) || no_room(h);
	if (h->has_host)
		return malformed(h, "more than one Host");
	h->has_host = true;
	return http1_authority(value, false, &h->host) || malformed(h, "Host is empty or malformed");
}

static bool on_length(struct http1_head *h, struct str name, struct str value)
{
	if (h->msg->has_length)
		return malformed(h, "more than one Content-Length");
	h->msg->has_length = true;
	return str_to_u64(value, HTTP1_CHUNK_MAX, &h->msg->content_length) ||
	       malformed(h, "Content-Length is not a number");
}

/* "gzip, chunked" and its like: legal, but nobody here decodes it. */
static bool is_coded_chunked(struct str value)
{
	struct str coding;
	if (!str_cut(value, ',', &coding, &value))
		return false;
	coding = str_trim(coding);
	return (http1_is_word(coding, "gzip") || http1_is_word(coding, "deflate") ||
		http1_is_word(coding, "compress")) &&
	       http1_is_word(str_trim(value), "chunked");
}

static bool on_coding(struct http1_head *h, struct str name, struct str value)
{
	if (h->has_te)
		return malformed(h, "more than one Transfer-Encoding");
	h->has_te = true;
	h->te_unknown = is_coded_chunked(value);
	return h->te_unknown || http1_is_word(value, "chunked") || malformed(h, "Transfer-Encoding is not \"chunked\"");
}

static bool on_connection(struct http1_head *h, struct str name, struct str value)
{
	return fields_add(&h->connection, h->msg->arena, name, value, true) || no_room(h);
}

static bool on_upgrade(struct http1_head *h, struct str name, struct str value)
{
	return fields_add(&h->upgrade, h->msg->arena, name, value, true) || no_room(h);
}

/* Only "trailers" passes on (RFC 9110 10.1.4); transfer codings are between neighbours. */
static bool on_te(struct http1_head *h, struct str name, struct str value)
{
	while (value.len) {
		struct str one;
		if (!str_cut(value, ',', &one, &value))
			value.len = 0;
		if (http1_is_word(str_trim(one), "trailers") && !h->te_trailers) {
			h->te_trailers = true;
			return message_add(h->msg, name, STR("trailers"), true) || no_room(h);
		}
	}
	return true;
}

static bool on_expect(struct http1_head *h, struct str name, struct str value)
{
	struct message *m = h->msg;
	if (!m->request)
		return message_add(m, name, value, true) || no_room(h);
	if (m->version == HTTP_1_0)
		return true; /* RFC 9110 10.1.1: ignored */
	if (m->expect_continue || !http1_is_word(value, "100-continue"))
		return bad(h, REASON_EXPECTATION, "the only expectation is 100-continue");
	m->expect_continue = true;
	return message_add(m, name, value, true) || no_room(h);
}

static bool on_drop(struct http1_head *h, struct str name, struct str value)
{
	return true;
}

static const struct {
	struct str name;
	bool (*take)(struct http1_head *, struct str name, struct str value);
} special[] = {
    {STR("te"), on_te},
    {STR("host"), on_host},
    {STR("expect"), on_expect},
    {STR("upgrade"), on_upgrade},
    {STR("connection"), on_connection},
    {STR("keep-alive"), on_drop},
    {STR("content-length"), on_length},
    {STR("http2-settings"), on_drop},
    {STR("proxy-connection"), on_drop},
    {STR("transfer-encoding"), on_coding},
};

static bool field_line(struct http1_head *h, struct str line)
{
	struct str name, value;
	if (h->fields++ == h->lim->fields_max)
		return bad(h, REASON_HEAD_TOO_LARGE, "too many fields");
	if (!http1_field_cut(line, &name, &value))
		return malformed(h, "a field line is malformed");
	for (size_t i = 0; i < ARRAY_LEN(special); i++)
		if (special[i].name.len == name.len && str_ieq(special[i].name, name))
			return special[i].take(h, name, value);
	return message_add(h->msg, name, value, true) || no_room(h);
}

/* --- what the fields mean together --- */

/* Fields that must reach the recipient: a Connection line that names one would make the next hop read another message. */
static const char *const never_nominated[] = {
    "authorization", "cache-control", "content-encoding",  "content-length", "content-range", "content-type", "cookie",
    "expect",        "host",          "transfer-encoding", "set-cookie",
};

struct options {
	bool close, keep_alive, upgrade;
	unsigned count;
};

static bool option_take(struct http1_head *h, struct str option, struct options *o)
{
	if (!http1_is_token(option) || ++o->count > CONNECTION_MAX)
		return malformed(h, "Connection is not a short list of tokens");
	for (size_t i = 0; i < ARRAY_LEN(never_nominated); i++)
		if (http1_is_word(option, never_nominated[i]))
			return malformed(h, "Connection names a field that is not for this hop");
	if (http1_is_word(option, "close"))
		o->close = true;
	else if (http1_is_word(option, "keep-alive"))
		o->keep_alive = true;
	else if (http1_is_word(option, "upgrade"))
		o->upgrade = true;
	else if (!http1_is_word(option, "te")) {
		char name[256]; /* longer ones cannot be compared by message_del; nobody has such a field */
		if (option.len >= sizeof(name))
			return malformed(h, "Connection is not a short list of tokens");
		memcpy(name, option.p, option.len);
		name[option.len] = '\0';
		message_del(h->msg, name);
	}
	return true;
}

static bool connection_judge(struct http1_head *h, struct options *o)
{
	for (size_t i = 0; i < h->connection.len; i++) {
		struct str rest = h->connection.v[i].value, one;
		bool more = true;
		while (more) {
			more = str_cut(rest, ',', &one, &rest);
			one = str_trim(one);
			if (one.len && !option_take(h, one, o))
				return false;
		}
	}
	h->msg->close = o->close || (h->msg->version == HTTP_1_0 && !o->keep_alive);
	return true;
}

static bool is_protocol(struct str s)
{
	struct str name, version;
	bool has_version = str_cut(s, '/', &name, &version);
	return http1_is_token(name) && (!has_version || http1_is_token(version));
}

bool http1_is_protocols(struct str list)
{
	struct str one;
	bool more = list.len > 0, ok = more;
	while (ok && more) {
		more = str_cut(list, ',', &one, &list);
		ok = is_protocol(str_trim(one));
	}
	return ok;
}

/* The protocols offered, without h2c, which would tunnel past every policy. Rebuilt as "a, b". */
static bool upgrade_judge(struct http1_head *h, bool nominated)
{
	struct message *m = h->msg;
	struct str list = {0};
	for (size_t i = 0; i < h->upgrade.len; i++) {
		struct str rest = h->upgrade.v[i].value, one;
		bool more = true;
		while (more) {
			more = str_cut(rest, ',', &one, &rest);
			one = str_trim(one);
			if (one.len && !is_protocol(one))
				return malformed(h, "Upgrade is not a list of protocols");
			if (!one.len || http1_is_word(one, "h2c"))
				continue;
			if (!nominated || m->version == HTTP_1_0)
				continue; /* RFC 9110 7.8: not meant for us, or ignored */
			list =
			    list.len ? arena_printf(m->arena, STR_FMT ", " STR_FMT, STR_ARG(list), STR_ARG(one)) : one;
			if (!list.p)
				return no_room(h);
		}
	}
	m->protocol = list;
	return true;
}

static bool lengths_judge(struct http1_head *h)
{
	struct message *m = h->msg;
	if (h->te_unknown && !m->has_length && m->version == HTTP_1_1)
		return bad(h, REASON_UNKNOWN_CODING, "the transfer coding is not supported");
	if (h->has_te && m->has_length)
		return malformed(h, "both Content-Length and Transfer-Encoding");
	if (h->has_te && m->version == HTTP_1_0)
		return malformed(h, "Transfer-Encoding in HTTP/1.0");
	return true;
}

/* RFC 9112 3.2: Host says the same as the target, or is missing where that is allowed. */
static bool host_judge(struct http1_head *h)
{
	struct message *m = h->msg;
	if (!h->has_host)
		return m->version == HTTP_1_0 || malformed(h, "no Host");
	if (!m->authority.len) {
		m->authority = h->host;
		return true;
	}
	if (str_ieq(m->authority, h->host))
		return true;
	/* CONNECT host:port with "Host: host": an old habit of several clients. */
	bool prefix = !m->absolute_form && str_starts(m->authority, h->host) && m->authority.p[h->host.len] == ':';
	return prefix || malformed(h, "Host is not the authority of the request target");
}

static bool request_judge(struct http1_head *h)
{
	struct message *m = h->msg;
	struct options o = {0};
	if (!lengths_judge(h) || !host_judge(h) || !connection_judge(h, &o) || !upgrade_judge(h, o.upgrade))
		return false;
	bool body = h->has_te || (m->has_length && m->content_length > 0);
	bool connect = str_is(m->method, "CONNECT");
	if (body && (connect || str_is(m->method, "TRACE")))
		return malformed(h, "the method has no content");
	/* Offered by a GET without content only: an extended CONNECT of HTTP/2 (RFC 8441) can say no other. Who is asked may ignore it
	 * (RFC 9110 7.8), so the request goes on without. */
	if (!str_is(m->method, "GET") || h->has_te || m->has_length)
		m->protocol = (struct str){0};
	m->framing = h->has_te                    ? FRAMING_CHUNKED
		     : connect || m->protocol.len ? FRAMING_TUNNEL
		     : m->has_length              ? FRAMING_LENGTH
						  : FRAMING_NONE;
	return true;
}

/* A member of the list that was offered. */
static bool was_offered(struct str offered, struct str protocol)
{
	bool more = offered.len > 0;
	while (more) {
		struct str one;
		more = str_cut(offered, ',', &one, &offered);
		if (str_ieq(str_trim(one), protocol))
			return true;
	}
	return false;
}

static bool response_framing(struct http1_head *h)
{
	struct message *m = h->msg;
	bool content = h->has_te || (m->has_length && m->content_length > 0);
	if (m->status == 101 || (h->asked.connect && m->status / 100 == 2)) {
		if (content)
			return malformed(h, "content where the connection becomes a tunnel");
		if (m->status == 101 && !was_offered(h->asked.upgrade, m->protocol))
			return malformed(h, "101 for an upgrade that was not offered");
		m->has_length = false;
		m->framing = FRAMING_TUNNEL;
	} else if (m->status < 200 || m->status == 204) {
		if (content)
			return malformed(h, "content in a response that has none");
		m->has_length = false;
	} else if (m->head_only || m->status == 304) {
		m->framing = FRAMING_NONE; /* the length is that of the answer to a GET */
	} else {
		m->framing = h->has_te ? FRAMING_CHUNKED : m->has_length ? FRAMING_LENGTH : FRAMING_CLOSE;
	}
	return true;
}

static bool response_judge(struct http1_head *h)
{
	struct message *m = h->msg;
	struct options o = {0};
	if (!lengths_judge(h) || !connection_judge(h, &o) || !upgrade_judge(h, o.upgrade))
		return false;
	m->head_only = h->asked.head;
	if (m->status != 101 && m->status != 426)
		m->protocol = (struct str){0};
	if (!response_framing(h))
		return false;
	m->close |= m->framing == FRAMING_CLOSE;
	return true;
}

/* --- the head as a whole --- */

void http1_head_init(struct http1_head *h, struct arena *a, const struct http_limits *lim, bool request,
		     const struct http1_asked *asked)
{
	MUST(a != NULL && lim != NULL);
	*h = (struct http1_head){.lim = lim, .lines = {.arena = a, .free_first = true}};
	if (asked)
		h->asked = *asked;
	h->msg = arena_alloc(a, sizeof(*h->msg));
	if (h->msg)
		message_init(h->msg, a, request);
}

void http1_head_done(struct http1_head *h)
{
	http1_lines_done(&h->lines);
}

static bool head_may(const void *ctx, size_t line, size_t before, size_t n)
{
	const struct http1_head *h = ctx;
	return line == 0 ? n <= LINE0_EXTRA + h->lim->target_max : before + n <= h->lim->head_max + 2;
}

static bool head_over(struct http1_head *h, struct str begun)
{
	if (h->lines.count)
		return bad(h, REASON_HEAD_TOO_LARGE, "the fields are too large");
	if (!memchr(begun.p, ' ', MIN(begun.len, (size_t)HTTP1_METHOD_MAX + 1)))
		return malformed(h, "the method is malformed");
	return bad(h, REASON_URI_TOO_LONG, "the request target is too long");
}

static enum http1_step head_line(struct http1_head *h, struct str line)
{
	bool first = h->lines.count++ == 0;
	if (first && line.len == 0 && h->msg->request && !h->blank) {
		h->blank = true; /* RFC 9112 2.2: one empty line after the request before */
		h->lines.count = 0;
		return HTTP1_MORE;
	}
	if (first)
		return (h->msg->request ? request_line(h, line) : status_line(h, line)) ? HTTP1_MORE : HTTP1_BAD;
	h->lines.bytes += line.len + 2;
	if (line.len)
		return field_line(h, line) ? HTTP1_MORE : HTTP1_BAD;
	return (h->msg->request ? request_judge(h) : response_judge(h)) ? HTTP1_DONE : HTTP1_BAD;
}

static enum http1_step head_lines(struct http1_head *h, struct str whole)
{
	enum http1_step step = HTTP1_MORE;
	while (whole.len && step == HTTP1_MORE) {
		struct str line;
		if (!http1_line_cut(&whole, &line)) {
			malformed(h, "a line does not end in CRLF, or has a bare CR");
			return HTTP1_BAD;
		}
		step = head_line(h, line);
	}
	return step;
}

enum http1_step http1_head_feed(struct http1_head *h, struct str in, size_t *ret_used)
{
	enum http1_step step = HTTP1_MORE;
	size_t at = 0;
	if (!h->msg)
		step = (no_room(h), HTTP1_BAD);
	while (at < in.len && step == HTTP1_MORE) {
		struct http1_piece piece;
		at += http1_lines_take(&h->lines, str_make(in.p + at, in.len - at), head_may, h, &piece);
		if (piece.no_room)
			step = (no_room(h), HTTP1_BAD);
		else if (piece.whole.len)
			step = head_lines(h, piece.whole);
		if (piece.over.p && step == HTTP1_MORE)
			step = (head_over(h, piece.over), HTTP1_BAD);
	}
	*ret_used = at;
	return step;
}
