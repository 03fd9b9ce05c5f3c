/* SPDX-License-Identifier: Apache-2.0 */
/* write.c: struct message to HTTP/1 bytes. First everything is looked at, then everything is written: nothing half. */
#include "lib/http/write.h"

#include "lib/http/parse.h"

#include <stdio.h>

/* Consumed by the codec that read the message; should one be here all the same, it would contradict the plan. */
static const struct str never_written[] = {
    STR("upgrade"),        STR("connection"),       STR("keep-alive"),        STR("content-length"),
    STR("http2-settings"), STR("proxy-connection"), STR("transfer-encoding"),
};

static bool is_ours(const struct message *m, struct str name)
{
	if (m->request && str_ieq(name, STR("host")))
		return true;
	for (size_t i = 0; i < ARRAY_LEN(never_written); i++)
		if (never_written[i].len == name.len && str_ieq(name, never_written[i]))
			return true;
	return false;
}

static bool fields_ok(const struct fields *f)
{
	for (size_t i = 0; i < f->len; i++)
		if (!http1_is_token(f->v[i].name) || !http1_is_value(f->v[i].value))
			return false;
	return true;
}

static bool request_ok(const struct message *m, const struct http1_plan *plan)
{
	struct str same;
	bool connect = str_is(m->method, "CONNECT");
	if (!http1_is_token(m->method) || (m->authority.len && !http1_authority(m->authority, connect, &same)) ||
	    (!m->authority.len && !plan->http_1_0))
		return false;
	if (connect)
		return m->authority.len > 0;
	if (str_is(m->path, "*"))
		return str_is(m->method, "OPTIONS");
	return m->path.len && m->path.p[0] == '/' && http1_is_target(m->path) &&
	       (!m->absolute_form || (m->authority.len && http1_is_token(m->scheme)));
}

static bool head_ok(const struct message *m, const struct http1_plan *plan)
{
	if (m->request ? !request_ok(m, plan) : m->status < 100 || m->status > 999 || !http1_is_phrase(m->reason))
		return false;
	return (plan->upgrade.len == 0 || http1_is_protocols(plan->upgrade)) && fields_ok(&m->fields);
}

static void add(struct buf *out, const char *text)
{
	buf_add(out, text, strlen(text));
}

/* Most fields are small: one reservation each, no calls a piece. */
static void add_field(struct buf *out, struct str name, struct str value)
{
	size_t n = name.len + 2 + value.len + 2, room;
	if (n > 4096) {
		buf_add_str(out, name);
		buf_add(out, ": ", 2);
		buf_add_str(out, value);
		buf_add(out, "\r\n", 2);
		return;
	}
	uint8_t *p = buf_reserve(out, n, &room);
	memcpy(p, name.p, name.len);
	p += name.len;
	*p++ = ':';
	*p++ = ' ';
	if (value.len)
		memcpy(p, value.p, value.len);
	p += value.len;
	*p++ = '\r';
	*p = '\n';
	buf_commit(out, n);
}

static void write_target(struct buf *out, const struct message *m)
{
	if (str_is(m->method, "CONNECT")) {
		buf_add_str(out, m->authority);
		return;
	}
	if (m->absolute_form) {
		buf_add_str(out, m->scheme);
		add(out, "://");
		buf_add_str(out, m->authority);
		if (str_is(m->path, "*"))
			return; /* OPTIONS of an absolute target without a path: RFC 9112 3.2.4 */
	}
	buf_add_str(out, m->path);
}

static void write_line(struct buf *out, const struct message *m, const struct http1_plan *plan)
{
	const char *version = plan->http_1_0 ? "HTTP/1.0" : "HTTP/1.1";
	if (m->request) {
		buf_add_str(out, m->method);
		buf_add(out, " ", 1);
		write_target(out, m);
		buf_add(out, " ", 1);
		add(out, version);
	} else {
		char code[] = {' ', (char)('0' + m->status / 100), (char)('0' + m->status / 10 % 10),
			       (char)('0' + m->status % 10), ' '};
		add(out, version);
		buf_add(out, code, sizeof(code));
		buf_add_str(out, m->reason.p != NULL ? m->reason : str_of(http_reason_phrase(m->status)));
	}
	buf_add(out, "\r\n", 2);
}

static void write_connection(struct buf *out, const struct message *m, const struct http1_plan *plan)
{
	const char *options[] = {plan->close  ? "close"
				 : plan->keep ? "keep-alive"
					      : NULL,
				 plan->upgrade.len ? "upgrade" : NULL, message_get(m, "te") ? "TE" : NULL};
	const char *before = "Connection: ";
	for (size_t i = 0; i < ARRAY_LEN(options); i++)
		if (options[i]) {
			add(out, before);
			add(out, options[i]);
			before = ", ";
		}
	if (before[0] == ',')
		buf_add(out, "\r\n", 2);
}

static void write_framing(struct buf *out, const struct http1_plan *plan)
{
	char digits[STR_U64_MAX];
	MUST(!plan->length || !plan->chunked);
	if (plan->length)
		add_field(out, STR("Content-Length"), str_from_u64(plan->content_length, digits));
	if (plan->chunked)
		add(out, "Transfer-Encoding: chunked\r\n");
	if (plan->upgrade.len)
		add_field(out, STR("Upgrade"), plan->upgrade);
}

bool http1_write_head(struct buf *out, const struct message *m, const struct http1_plan *plan)
{
	if (!head_ok(m, plan))
		return false;
	write_line(out, m, plan);
	if (m->request && m->authority.len)
		add_field(out, STR("Host"), m->authority);
	for (size_t i = 0; i < m->fields.len; i++)
		if (!is_ours(m, m->fields.v[i].name))
			add_field(out, m->fields.v[i].name, m->fields.v[i].value);
	if (m->request && m->expect_continue && !message_get(m, "expect"))
		add(out, "Expect: 100-continue\r\n");
	write_connection(out, m, plan);
	write_framing(out, plan);
	buf_add(out, "\r\n", 2);
	return true;
}

void http1_write_chunk(struct buf *out, struct str bytes)
{
	char size[24];
	MUST(bytes.len > 0);
	buf_add(out, size, (size_t)snprintf(size, sizeof(size), "%zx\r\n", bytes.len));
	buf_add_str(out, bytes);
	buf_add(out, "\r\n", 2);
}

void http1_write_last_chunk(struct buf *out, const struct fields *trailers)
{
	add(out, "0\r\n");
	for (size_t i = 0; trailers && i < trailers->len; i++) {
		struct field f = trailers->v[i];
		if (http1_is_token(f.name) && http1_is_value(f.value) && !http1_trailer_forbidden(f.name))
			add_field(out, f.name, f.value);
	}
	buf_add(out, "\r\n", 2);
}
