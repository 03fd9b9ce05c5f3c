/* SPDX-License-Identifier: Apache-2.0 */
/* push_progress.c: who has applied what of some services and who has not, one by one: for `weft wait` and `weft describe`. Reads
 * what push.c keeps and changes nothing. */
#include "control/push.h"
#include "control/push_session.h"
#include "lib/mem.h"

#include <string.h>

struct report {
	const struct push *push;
	uint64_t now_ms;
	json_t *resources, *behind;
	struct map late; /* proxies that have yet to answer, each once */
};

struct late {
	struct map_node node;
	char key[];
};

static void add_late(struct report *r, const struct push_session *s)
{
	size_t len = strlen(s->group->key);

	if (map_get(&r->late, str_make(s->group->key, len)))
		return;
	struct late *l = mem_zalloc(sizeof(*l) + len + 1);
	memcpy(l->key, s->group->key, len);
	map_put(&r->late, &l->node, str_make(l->key, len));
}

static json_t *waiting_json(struct report *r)
{
	json_t *n = json_integer((json_int_t)r->late.len);

	map_for_each (it, &r->late) {
		map_del(&r->late, it);
		mem_free(CONTAINER_OF(it, struct late, node));
	}
	map_done(&r->late);
	return n;
}

static bool is_applied(const struct held *h)
{
	return h->entry->res && h->subs > 0 && strcmp(h->acked, h->entry->res->version) == 0;
}

/* Why a resource is not applied, in words; out is returned. */
static const char *why_not(const struct report *r, const struct held *h, char *out, size_t size)
{
	const struct flight *oldest = list_first(&h->track->session->flights, struct flight, node);
	const char *what = h->entry->res ? "" : "its removal ";

	if (h->refused)
		snprintf(out, size, "%s", h->refused);
	else if (h->flight)
		snprintf(out, size, "%ssent %.1f s ago, not answered", what,
			 (double)(r->now_ms - h->flight->sent_ms) / 1000.0);
	else if (oldest)
		snprintf(out, size, "%snot sent: it has not answered for %.1f s", what,
			 (double)(r->now_ms - oldest->sent_ms) / 1000.0);
	else
		snprintf(out, size, "%snot sent yet", what);
	return out;
}

static void add_behind(struct report *r, const struct push_session *s, const struct entry *e, bool refused,
		       const char *why)
{
	if (!refused)
		add_late(r, s);
	if (json_array_size(r->behind) < PUSH_LISTED_MAX)
		json_array_append_new(r->behind, json_pack("{s:s, s:s, s:s, s:b, s:s}", "proxy", s->group->key, "type",
							   pushed_type_label(e->type), "name", e->key, "refused",
							   refused, "why", why));
}

static void report_entry(struct report *r, const struct entry *e)
{
	struct push_progress n = {0};
	char why[PUSH_REASON_MAX + 64];

	list_for_each (h, &e->helds, struct held, in_entry) {
		if (!h->track->session->group || (e->res && h->subs == 0))
			continue;
		n.holders++;
		if (is_applied(h)) {
			n.applied++;
			continue;
		}
		bool refused = h->refused && e->res && strcmp(h->sent, e->res->version) == 0;
		n.refused += refused;
		add_behind(r, h->track->session, e, refused, why_not(r, h, why, sizeof(why)));
	}
	if (n.holders && json_array_size(r->resources) < PUSH_LISTED_MAX)
		json_array_append_new(r->resources,
				      json_pack("{s:s, s:s, s:s, s:I, s:I, s:I}", "type", pushed_type_label(e->type),
						"name", e->key, "version", e->res ? e->res->version : "", "proxies",
						(json_int_t)n.holders, "applied", (json_int_t)n.applied, "refused",
						(json_int_t)n.refused));
}

/* What a proxy was told to be gone is not kept with the proxy, only that it was told: it counts until that is answered. */
static void report_removals(struct report *r, enum pushed_type type, const char *name)
{
	list_for_each (s, &r->push->sessions, struct push_session, node)
		list_for_each (f, &s->flights, struct flight, node) {
			char why[64];
			if (!f->removes || f->type != type || !s->group)
				continue;
			add_late(r, s);
			snprintf(why, sizeof(why), "a removal sent %.1f s ago, not answered",
				 (double)(r->now_ms - f->sent_ms) / 1000.0);
			if (json_array_size(r->behind) < PUSH_LISTED_MAX)
				json_array_append_new(r->behind,
						      json_pack("{s:s, s:s, s:s, s:b, s:s}", "proxy", s->group->key,
								"type", pushed_type_label(type), "name", name,
								"refused", 0, "why", why));
			break;
		}
}

/* Types whose names are those of a service; a workload may have the same name and is something else. */
static bool of_services(enum pushed_type type)
{
	return type != PUSHED_MESH && type != PUSHED_SELF && type != PUSHED_WORKLOAD;
}

static void report_service(struct report *r, const char *name)
{
	for (size_t t = 0; t < PUSHED_TYPES; t++) {
		const struct entry *e = of_services(t) ? push_index_entry_find(&r->push->index, t, str_of(name)) : NULL;
		if (e)
			report_entry(r, e);
		if (of_services(t) && (!e || !e->res))
			report_removals(r, t, name);
	}
}

static void report_all(struct report *r)
{
	for (size_t t = 0; t < PUSHED_TYPES; t++)
		map_for_each (it, &r->push->index.entries[t])
			report_entry(r, CONTAINER_OF(it, struct entry, node));
}

json_t *push_progress_json(const struct push *p, const json_t *services)
{
	struct report r = {
	    .push = p, .now_ms = p->hooks.now_ms(p->ctx), .resources = json_array(), .behind = json_array()};
	const char *name;
	json_t *v;

	map_init(&r.late);
	if (services)
		json_object_foreach((json_t *)(uintptr_t)services, name, v) report_service(&r, name);
	else
		report_all(&r);
	return json_pack("{s:o, s:o, s:o}", "waiting", waiting_json(&r), "resources", r.resources, "behind", r.behind);
}

/* --- who holds it --- */

static json_t *holder_json(const struct report *r, const struct held *h)
{
	char why[PUSH_REASON_MAX + 64];
	const char *state = is_applied(h) ? "applied" : h->refused ? "refused" : "waiting";
	json_t *o =
	    json_pack("{s:s, s:s, s:s}", "proxy", h->track->session->group->key, "version", h->acked, "state", state);

	if (!is_applied(h))
		json_object_set_new(o, "why", json_string(why_not(r, h, why, sizeof(why))));
	return o;
}

json_t *push_holders_json(const struct push *p, const json_t *services)
{
	const struct report r = {.push = p, .now_ms = p->hooks.now_ms(p->ctx)};
	json_t *list = json_array(), *v;
	const char *name;

	json_object_foreach((json_t *)(uintptr_t)services, name, v)
	{
		for (size_t t = 0; t < PUSHED_TYPES; t++) {
			const struct entry *e =
			    of_services(t) ? push_index_entry_find(&p->index, t, str_of(name)) : NULL;
			if (!e || !e->res)
				continue;
			json_t *holders = json_array();
			list_for_each (h, &e->helds, struct held, in_entry)
				if (h->subs && h->track->session->group && json_array_size(holders) < PUSH_LISTED_MAX)
					json_array_append_new(holders, holder_json(&r, h));
			json_array_append_new(list,
					      json_pack("{s:s, s:s, s:s, s:o}", "type", pushed_type_label(t), "name",
							name, "version", e->res->version, "holders", holders));
		}
	}
	return list;
}

bool push_connected(const struct push *p, const char *instance)
{
	return map_get(&p->groups, str_of(instance)) != NULL;
}
