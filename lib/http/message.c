/* SPDX-License-Identifier: Apache-2.0 */
/* message.c: the field list of a message, and what a status code says by itself. No parsing, no writing: those are the
 * codecs'. Nothing here is freed: all of it lies in the message's arena. */
#include "lib/http/message.h"

#define FIELDS_FIRST 16 /* an ordinary browser's or service's head; doubles from there */

void message_init(struct message *m, struct arena *a, bool request)
{
	MUST(m != NULL && a != NULL);
	*m = (struct message){.arena = a, .request = request};
}

static bool fields_grow(struct fields *f, struct arena *a)
{
	size_t cap = f->cap ? f->cap * 2 : FIELDS_FIRST;
	struct field *v = arena_alloc(a, cap * sizeof(*v));
	if (!v)
		return false;
	if (f->len)
		memcpy(v, f->v, f->len * sizeof(*v));
	f->v = v;
	f->cap = cap;
	return true;
}

/* One piece of the arena for both, a NUL behind each. */
static bool copy_field(struct arena *a, struct str *name, struct str *value)
{
	char *p = arena_alloc(a, name->len + value->len + 2);
	if (!p)
		return false;
	char *v = p + name->len + 1;
	if (name->len > 0)
		memcpy(p, name->p, name->len);
	p[name->len] = 0;
	if (value->len > 0)
		memcpy(v, value->p, value->len);
	v[value->len] = 0;
	*name = str_make(p, name->len);
	*value = str_make(v, value->len);
	return true;
}

bool fields_add(struct fields *f, struct arena *a, struct str name, struct str value, bool borrow)
{
	if (f->len == f->cap && !fields_grow(f, a))
		return false;
	if (!borrow && !copy_field(a, &name, &value))
		return false;
	f->v[f->len++] = (struct field){.name = name, .value = value};
	return true;
}

bool message_add(struct message *m, struct str name, struct str value, bool borrow)
{
	return fields_add(&m->fields, m->arena, name, value, borrow);
}

const struct field *message_find(const struct message *m, struct str want)
{
	for (size_t i = 0; i < m->fields.len; i++)
		if (str_ieq(m->fields.v[i].name, want))
			return &m->fields.v[i];
	return NULL;
}

void message_drop(struct message *m, struct str want)
{
	size_t kept = 0;
	for (size_t i = 0; i < m->fields.len; i++)
		if (!str_ieq(m->fields.v[i].name, want))
			m->fields.v[kept++] = m->fields.v[i];
	m->fields.len = kept;
}

void message_drop_prefix(struct message *m, struct str want)
{
	size_t kept = 0;
	for (size_t i = 0; i < m->fields.len; i++) {
		struct str name = m->fields.v[i].name;
		if (name.len < want.len || !str_ieq(str_make(name.p, want.len), want))
			m->fields.v[kept++] = m->fields.v[i];
	}
	m->fields.len = kept;
}

bool http_status_has_body(uint16_t status)
{
	return status >= 200 && status != 204 && status != 304;
}

static const struct {
	uint16_t status;
	const char *phrase;
} phrases[] = {
    {100, "Continue"},
    {101, "Switching Protocols"},
    {103, "Early Hints"},
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {203, "Non-Authoritative Information"},
    {204, "No Content"},
    {205, "Reset Content"},
    {206, "Partial Content"},
    {300, "Multiple Choices"},
    {301, "Moved Permanently"},
    {302, "Found"},
    {303, "See Other"},
    {304, "Not Modified"},
    {305, "Use Proxy"},
    {307, "Temporary Redirect"},
    {308, "Permanent Redirect"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {402, "Payment Required"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {406, "Not Acceptable"},
    {407, "Proxy Authentication Required"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {410, "Gone"},
    {411, "Length Required"},
    {412, "Precondition Failed"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {416, "Range Not Satisfiable"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {426, "Upgrade Required"},
    {428, "Precondition Required"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {502, "Bad Gateway"},
    {503, "Service Unavailable"},
    {504, "Gateway Timeout"},
    {505, "HTTP Version Not Supported"},
    {511, "Network Authentication Required"},
};

const char *http_reason_phrase(uint16_t status)
{
	for (size_t i = 0; i < ARRAY_LEN(phrases); i++)
		if (phrases[i].status == status)
			return phrases[i].phrase;
	return "";
}
