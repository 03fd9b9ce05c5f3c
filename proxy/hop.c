/* SPDX-License-Identifier: Apache-2.0 */
/* hop.c: x-weft-* fields out of and into neutral messages. The spelling of field names costs one short field for a usual
 * client: "t" says Train-Case for all; exceptions are listed as they are spelt. */
#include "proxy/hop.h"

#include "lib/buf.h"

#define NO_AUTHORITY "none.invalid" /* what :authority says beside x-weft-target: none */
#define CASE_MAX     1024 /* bytes of the x-weft-case field; further exceptions lose their spelling, not their meaning */

enum hop_field {
#define HOP_FIELD(name, field, by, meaning) F_##name,
#include "proxy/hop.tbl.h"
#undef HOP_FIELD
	F_COUNT
};
static const struct str names[F_COUNT] = {
#define HOP_FIELD(name, field, by, meaning) STR(field),
#include "proxy/hop.tbl.h"
#undef HOP_FIELD
};
#define PREFIX STR("x-weft-")

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

/* A name is listed once if all its fields are spelt alike, and otherwise once for each of them, in order: the last one counts for those
 * that follow. */
static bool needs_saying(const struct fields *f, size_t i, char base)
{
	struct str name = f->v[i].name;
	bool first = true, alike = true, usual = spelt_as(name, base);
	for (size_t k = 0; k < f->len; k++) {
		if (k == i || !str_ieq(f->v[k].name, name))
			continue;
		first = first && k > i;
		alike = alike && str_eq(f->v[k].name, name);
	}
	return alike ? first && !usual : true;
}

static bool encode_case(struct message *m)
{
	size_t train = 0, lower = 0;
	if (m->version == HTTP_2) /* lower case by its own rules */
		return true;
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
		if (!needs_saying(&m->fields, i, value[0]) || len + 1 + name.len > sizeof(value))
			continue;
		value[len++] = ',';
		memcpy(value + len, name.p, name.len);
		len += name.len;
	}
	return message_add(m, names[F_CASE], str_make(value, len), false);
}

/* The spelling of the `nth` field of this name: the nth that is listed, or the last one. */
static bool exception(struct str list, struct str name, size_t nth, struct str *ret)
{
	struct str head;
	bool found = false;
	for (size_t n = 0; list.len > 0 && n <= nth;) {
		str_cut(list, ',', &head, &list);
		if (!str_ieq(head, name))
			continue;
		*ret = head;
		found = true;
		n++;
	}
	return found;
}

/* How many fields before the one at `i` have its name. */
static size_t namesakes(const struct fields *f, size_t i)
{
	size_t n = 0;
	for (size_t k = 0; k < i; k++)
		n += str_ieq(f->v[k].name, f->v[i].name);
	return n;
}

static bool decode_case(struct message *m, struct str value)
{
	struct str base, list;
	str_cut(value, ',', &base, &list);
	bool train = str_is(base, "t");
	for (size_t i = 0; i < m->fields.len; i++) {
		struct field *f = &m->fields.v[i];
		if ((list.len > 0 && exception(list, f->name, namesakes(&m->fields, i), &f->name)) || !train)
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
	if (m->request || m->reason.p == NULL || str_is(m->reason, http_reason_phrase(m->status)) ||
	    m->version == HTTP_2)
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
	return message_add(m, names[F_REASON], n > 0 ? str_make(out, n) : STR("%"), false);
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

static bool is_own(struct str name)
{
	return name.len >= PREFIX.len && str_letter_may_be(name.p[0], PREFIX.p[0]) &&
	       str_same_letters(name.p, PREFIX.p, PREFIX.len);
}

bool hop_bars_trailer(struct str name, bool from_sidecar)
{
	return is_own(name) && !(from_sidecar && str_ieq(name, names[F_ERROR]));
}

void hop_strip(struct message *m)
{
	message_drop_prefix(m, PREFIX);
}

static bool add(struct message *m, enum hop_field f, struct str value)
{
	return message_add(m, names[f], value, true);
}

/* HTTP/2 wants an authority; HTTP/1.0 may have none, HTTP/1.1 an empty one. */
static bool encode_target(struct message *m)
{
	if (m->request && m->authority.len == 0) {
		m->authority = str_of(NO_AUTHORITY);
		return add(m, F_TARGET, STR("none"));
	}
	return !m->absolute_form || add(m, F_TARGET, STR("absolute"));
}

/* Who asked in HTTP/2 is served in HTTP/2 where the application lets one choose. */
static bool encode_version(struct message *m)
{
	if (m->version == HTTP_1_0)
		return add(m, F_VERSION, STR("1.0"));
	return m->version != HTTP_2 || !m->request || add(m, F_VERSION, STR("2"));
}

static bool encode_upgrade(struct message *m)
{
	return m->request || m->protocol.len == 0 || message_add(m, names[F_UPGRADE], m->protocol, true);
}

bool hop_encode(struct message *m)
{
	return encode_case(m) && encode_upgrade(m) && encode_reason(m) && encode_version(m) &&
	       (m->framing != FRAMING_CLOSE || add(m, F_FRAMING, STR("close"))) &&
	       (!m->close || add(m, F_CLOSE, STR("1"))) && encode_target(m);
}

/* Takes all hop fields out; *said has the first of each, p NULL where there was none. One look at each field. */
static void gather(struct message *m, struct str said[static F_COUNT])
{
	struct fields *f = &m->fields;
	size_t kept = 0;
	memset(said, 0, F_COUNT * sizeof(*said));
	for (size_t i = 0; i < f->len; i++) {
		if (!is_own(f->v[i].name)) {
			f->v[kept++] = f->v[i];
			continue;
		}
		for (size_t k = 0; k < F_COUNT; k++)
			if (said[k].p == NULL && str_ieq(f->v[i].name, names[k]))
				said[k] = f->v[i].value.p != NULL ? f->v[i].value : STR("");
	}
	f->len = kept;
}

/* What the framing of a tunnel has hidden. */
static bool decode_declined(struct message *m, struct str said)
{
	if (m->request || said.p == NULL || m->framing != FRAMING_TUNNEL)
		return true;
	m->framing = http_status_has_body(m->status) ? FRAMING_CHUNKED : FRAMING_NONE;
	if (m->framing == FRAMING_NONE || str_is(said, "-"))
		return true; /* a 204 has no length either (RFC 9110 8.6) */
	m->has_length = true;
	m->framing = FRAMING_LENGTH;
	return str_to_u64(said, INT64_MAX, &m->content_length);
}

static void decode_request(struct message *m, const struct str said[static F_COUNT])
{
	/* An upgrade of HTTP/1.1: extended CONNECT was only how it travelled. */
	if (m->version != HTTP_2 && m->protocol.len > 0)
		m->method = STR("GET");
	m->absolute_form = str_is(said[F_TARGET], "absolute");
	if (str_is(said[F_TARGET], "none"))
		m->authority = STR("");
}

static bool decode_response(struct message *m, const struct str said[static F_COUNT])
{
	if (said[F_UPGRADE].p != NULL)
		m->protocol = said[F_UPGRADE];
	if (m->framing == FRAMING_CHUNKED && str_is(said[F_FRAMING], "close"))
		m->framing = FRAMING_CLOSE;
	m->reason = str_of(http_reason_phrase(m->status));
	return said[F_REASON].p == NULL || decode_reason(m, said[F_REASON]);
}

bool hop_decode(struct message *m, bool *ret_unprocessed)
{
	struct str said[F_COUNT];
	gather(m, said);
	m->version = str_is(said[F_VERSION], "1.0") ? HTTP_1_0 : str_is(said[F_VERSION], "2") ? HTTP_2 : HTTP_1_1;
	m->close = str_is(said[F_CLOSE], "1");
	if (ret_unprocessed != NULL)
		*ret_unprocessed = str_is(said[F_UNPROCESSED], "1");
	if (m->request)
		decode_request(m, said);
	else if (!decode_declined(m, said[F_DECLINED]) || !decode_response(m, said))
		return false;
	/* No sidecar says more than that, and the search costs its length times the fields. */
	bool spelt = said[F_CASE].len > 0 && said[F_CASE].len <= CASE_MAX;
	if (spelt && !decode_case(m, said[F_CASE]))
		return false;
	return m->request || said[F_ERROR].len == 0 || message_add(m, names[F_ERROR], said[F_ERROR], true);
}

bool hop_add_error(struct message *m, const char *hop, enum reason cause, const char *policy)
{
	struct str v = arena_printf(m->arena, "%s;%s;%s", hop, reason_row(cause)->label, policy);
	return v.p != NULL && message_add(m, names[F_ERROR], v, true);
}

bool hop_add_declined(struct message *m)
{
	struct str length = STR("-");
	if (m->has_length || m->framing == FRAMING_NONE)
		length = arena_printf(m->arena, "%llu", (unsigned long long)(m->has_length ? m->content_length : 0));
	return length.p != NULL && message_add(m, names[F_DECLINED], length, true);
}

enum reason hop_cause(const struct message *m)
{
	const struct field *f = message_find(m, names[F_ERROR]);
	struct str hop, cause, policy;
	char label[32];
	enum reason r;
	if (f == NULL)
		return REASON_NONE;
	str_cut(f->value, ';', &hop, &cause);
	str_cut(cause, ';', &cause, &policy);
	if (cause.len >= sizeof(label))
		return REASON_INTERNAL;
	memcpy(label, cause.p, cause.len);
	label[cause.len] = '\0';
	return reason_from_label(label, &r) && r != REASON_NONE ? r : REASON_INTERNAL;
}

bool hop_add_unprocessed(struct message *m)
{
	return add(m, F_UNPROCESSED, STR("1"));
}
