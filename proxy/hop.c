/* SPDX-License-Identifier: Apache-2.0 */
/* hop.c: x-weft-* fields out of and into neutral messages. The spelling of field names costs one short field for a usual
 * client: "t" says Train-Case for all; exceptions are listed as they are spelt. */
#include "proxy/hop.h"

#include "lib/buf.h"

#define CASE_MAX                            1024 /* bytes of the x-weft-case field; further exceptions lose their spelling, not their meaning */

#define HOP_FIELD(name, field, by, meaning) static const char F_##name[] = field;
#include "proxy/hop.tbl.h"
#undef HOP_FIELD

static bool alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

/* The character at i of a Train-Case spelling of `name`. */
static char train_at(struct str name, size_t i)
{
	char c = name.p[i];
	if (!alpha(c))
		return c;
	bool first = i == 0 || name.p[i - 1] == '-';
	return first ? (char)(c & ~0x20) : (char)(c | 0x20);
}

static bool is_train(struct str name)
{
	for (size_t i = 0; i < name.len; i++)
		if (name.p[i] != train_at(name, i))
			return false;
	return true;
}

static bool is_lower(struct str name)
{
	for (size_t i = 0; i < name.len; i++)
		if (name.p[i] >= 'A' && name.p[i] <= 'Z')
			return false;
	return true;
}

static bool spelt_as(struct str name, char base)
{
	return base == 't' ? is_train(name) : is_lower(name);
}

static bool encode_case(struct message *m)
{
	size_t train = 0, lower = 0;
	for (size_t i = 0; i < m->fields.len; i++) {
		train += is_train(m->fields.v[i].name);
		lower += is_lower(m->fields.v[i].name);
	}
	if (lower == m->fields.len)
		return true;
	char value[CASE_MAX];
	size_t len = 0;
	value[len++] = train >= lower ? 't' : 'l';
	for (size_t i = 0; i < m->fields.len; i++) {
		struct str name = m->fields.v[i].name;
		if (spelt_as(name, value[0]) || len + 1 + name.len > sizeof(value))
			continue;
		value[len++] = ',';
		memcpy(value + len, name.p, name.len);
		len += name.len;
	}
	return message_add(m, str_of(F_CASE), str_make(value, len), false);
}

static bool exception(struct str list, struct str name, struct str *ret)
{
	struct str head;
	while (list.len > 0) {
		str_cut(list, ',', &head, &list);
		if (str_ieq(head, name)) {
			*ret = head;
			return true;
		}
	}
	return false;
}

static bool decode_case(struct message *m, struct str value)
{
	struct str base, list;
	str_cut(value, ',', &base, &list);
	bool train = str_is(base, "t");
	for (size_t i = 0; i < m->fields.len; i++) {
		struct field *f = &m->fields.v[i];
		if (exception(list, f->name, &f->name) || !train)
			continue;
		char *p = arena_alloc(m->arena, f->name.len);
		if (p == NULL)
			return false;
		for (size_t k = 0; k < f->name.len; k++)
			p[k] = train_at(f->name, k);
		f->name.p = p;
	}
	return true;
}

/* A reason phrase may hold bytes that a field value may not begin or end with, and obs-text: percent-encoded like grpc-message. */
static bool encode_reason(struct message *m)
{
	if (m->request || str_is(m->reason, http_reason_phrase(m->status)) || m->version == HTTP_2)
		return true;
	static const char hex[] = "0123456789ABCDEF";
	char out[512];
	size_t n = 0;
	for (size_t i = 0; i < m->reason.len && n + 3 <= sizeof(out); i++) {
		uint8_t c = (uint8_t)m->reason.p[i];
		if (c > ' ' && c < 0x7f && c != '%') {
			out[n++] = (char)c;
			continue;
		}
		out[n++] = '%';
		out[n++] = hex[c >> 4];
		out[n++] = hex[c & 15];
	}
	return message_add(m, str_of(F_REASON), n > 0 ? str_make(out, n) : STR("%"), false);
}

static int unhex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if (c >= 'A' && c <= 'F')
		return c - 'A' + 10;
	return -1;
}

/* CR, LF and NUL cannot come out of it: the peer is authenticated, not trusted. */
static bool decode_reason(struct message *m, struct str v)
{
	char *p = arena_alloc(m->arena, v.len + 1);
	size_t n = 0;
	if (p == NULL)
		return false;
	for (size_t i = 0; i < v.len; i++) {
		char c = v.p[i];
		if (c == '%' && i + 2 < v.len && unhex(v.p[i + 1]) >= 0 && unhex(v.p[i + 2]) >= 0) {
			c = (char)(unhex(v.p[i + 1]) << 4 | unhex(v.p[i + 2]));
			i += 2;
		} else if (c == '%') {
			continue;
		}
		if ((uint8_t)c >= ' ' || c == '\t')
			p[n++] = c;
	}
	m->reason = str_make(p, n);
	return true;
}

void hop_strip(struct message *m)
{
	message_del_prefix(m, "x-weft-");
}

static bool add(struct message *m, const char *name, const char *value)
{
	return message_add(m, str_of(name), str_of(value), true);
}

bool hop_encode(struct message *m)
{
	return encode_case(m) && encode_reason(m) && (m->version != HTTP_1_0 || add(m, F_VERSION, "1.0")) &&
	       (m->framing != FRAMING_CLOSE || add(m, F_FRAMING, "close")) && (!m->close || add(m, F_CLOSE, "1")) &&
	       (!m->absolute_form || add(m, F_TARGET, "absolute")) &&
	       (m->protocol.len == 0 || message_add(m, str_of(F_UPGRADE), m->protocol, true));
}

static bool has(const struct message *m, const char *name, const char *value)
{
	const struct field *f = message_get(m, name);
	return f != NULL && str_is(f->value, value);
}

bool hop_decode(struct message *m, bool *ret_unprocessed)
{
	const struct field *f;
	struct str error = {NULL, 0}, casing = {NULL, 0};
	if ((f = message_get(m, F_CASE)) != NULL)
		casing = f->value;
	if (!m->request && (f = message_get(m, F_ERROR)) != NULL)
		error = f->value;
	m->version = has(m, F_VERSION, "1.0") ? HTTP_1_0 : HTTP_1_1;
	m->close = has(m, F_CLOSE, "1");
	m->absolute_form = m->request && has(m, F_TARGET, "absolute");
	if (!m->request && m->framing == FRAMING_CHUNKED && has(m, F_FRAMING, "close"))
		m->framing = FRAMING_CLOSE;
	if ((f = message_get(m, F_UPGRADE)) != NULL)
		m->protocol = f->value;
	if (ret_unprocessed != NULL)
		*ret_unprocessed = has(m, F_UNPROCESSED, "1");
	if (!m->request) {
		m->reason = str_of(http_reason_phrase(m->status));
		if ((f = message_get(m, F_REASON)) != NULL && !decode_reason(m, f->value))
			return false;
	}
	hop_strip(m);
	if (casing.len > 0 && !decode_case(m, casing))
		return false;
	return error.len == 0 || message_add(m, str_of(F_ERROR), error, true);
}

bool hop_add_error(struct message *m, const char *hop, enum reason cause, const char *policy)
{
	struct str v = arena_printf(m->arena, "%s;%s;%s", hop, reason_row(cause)->label, policy);
	return v.p != NULL && message_add(m, str_of(F_ERROR), v, true);
}

bool hop_add_unprocessed(struct message *m)
{
	return add(m, F_UNPROCESSED, "1");
}
