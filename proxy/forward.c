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

/* All lines of a field as one list with `entry` at its end. p NULL: no room. */
static struct str list_of(const struct message *m, const char *name, struct str entry)
{
	struct str list = entry;
	for (size_t i = m->fields.len; i-- > 0 && list.p != NULL;) {
		const struct field *f = &m->fields.v[i];
		if (str_ieq(f->name, str_of(name)) && f->value.len > 0 && is_closed(f->value))
			list = arena_printf(m->arena, STR_FMT ", " STR_FMT, STR_ARG(f->value), STR_ARG(list));
	}
	return list;
}

static bool append(struct message *m, const char *name, struct str spelt, struct str entry)
{
	struct str list = list_of(m, name, entry);
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
