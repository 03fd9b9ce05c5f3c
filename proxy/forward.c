/* SPDX-License-Identifier: Apache-2.0 */
/* forward.c: see forward.h. Each field is a list; several lines of it are one (RFC 9110 5.3). Nothing here believes a word of it. */
#include "proxy/forward.h"

/* Behind an open quote, or a backslash at the end of one, an entry would be read as part of it. */
static bool is_closed(struct str s)
{
	bool quoted = false;
	for (size_t i = 0; i < s.len; i++) {
		if (s.p[i] == '"')
			quoted = !quoted;
		else if (quoted && s.p[i] == '\\')
			i++;
	}
	return !quoted;
}

static bool is_listed(const struct field *f, struct str name)
{
	return str_ieq(f->name, name) && f->value.len > 0 && is_closed(f->value);
}

static char *put(char *at, struct str s)
{
	memcpy(at, s.p, s.len);
	return at + s.len;
}

/* All lines of a field as one list with `entry` at its end. p NULL: no room. */
static struct str list_of(const struct message *m, struct str name, struct str entry)
{
	size_t len = entry.len;
	for (size_t i = 0; i < m->fields.len; i++)
		if (is_listed(&m->fields.v[i], name))
			len += m->fields.v[i].value.len + 2;
	char *list = arena_alloc(m->arena, len), *at = list;
	if (list == NULL)
		return (struct str){0};
	for (size_t i = 0; i < m->fields.len; i++)
		if (is_listed(&m->fields.v[i], name))
			at = put(put(at, m->fields.v[i].value), STR(", "));
	put(at, entry);
	return str_make(list, len);
}

static bool append(struct message *m, const char *name, struct str spelt, struct str entry)
{
	struct str list = list_of(m, str_of(name), entry);
	if (list.p == NULL)
		return false;
	message_del(m, name);
	return message_add(m, spelt, list, true);
}

bool forward_client(struct message *m, const struct ip *client)
{
	char ip[IP_TEXT_MAX];
	ip_text(client, ip);
	struct str entry = arena_str(m->arena, str_of(ip));
	if (entry.p == NULL || !append(m, "x-forwarded-for", STR("X-Forwarded-For"), entry))
		return false;
	if (message_get(m, "forwarded") == NULL)
		return true;
	entry = arena_printf(m->arena, client->len == 4 ? "for=%s" : "for=\"[%s]\"", ip);
	return entry.p != NULL && append(m, "forwarded", STR("Forwarded"), entry);
}
