/* SPDX-License-Identifier: Apache-2.0 */
/* push_status.c: how far every proxy and every resource is, in words for `weft status` and in numbers for `weft wait`. Reads
 * what push.c keeps and changes nothing. */
#include "control/push.h"
#include "control/push_session.h"
#include "lib/mem.h"

static void progress_of(const struct entry *e, struct push_progress *ret)
{
	*ret = (struct push_progress){0};
	list_for_each (h, &e->helds, struct held, in_entry) {
		if (h->subs == 0)
			continue;
		ret->holders++;
		ret->applied += e->res && strcmp(h->acked, e->res->version) == 0;
		ret->refused += h->refused != NULL;
	}
}

bool push_progress(const struct push *p, enum pushed_type type, const char *key, struct push_progress *ret)
{
	const struct entry *e = push_index_entry_find(&p->index, type, str_of(key));
	if (!e || !e->res)
		return false;
	progress_of(e, ret);
	return true;
}

/* {"proxy": "shop/orders-1", "reason": "..."} for each that refused. */
static json_t *refusals_json(const struct entry *e)
{
	json_t *list = json_array();
	list_for_each (h, &e->helds, struct held, in_entry)
		if (h->refused)
			json_array_append_new(list, json_pack("{s:s, s:s, s:s}", "proxy", h->track->session->group->key,
							      "version", h->sent, "reason", h->refused));
	return list;
}

/* "applied by 37 of 40, refused by 3: why" */
static char *summary(const struct entry *e, const struct push_progress *n)
{
	if (n->refused == 0)
		return mem_printf("applied by %zu of %zu", n->applied, n->holders);
	const char *why = "";
	list_for_each (h, &e->helds, struct held, in_entry)
		if (h->refused)
			why = h->refused;
	return mem_printf("applied by %zu of %zu, refused by %zu: %s", n->applied, n->holders, n->refused, why);
}

static json_t *resource_json(const struct entry *e)
{
	struct push_progress n;
	progress_of(e, &n);
	char *text = summary(e, &n);
	json_t *o =
	    json_pack("{s:s, s:s, s:s, s:I, s:I, s:I, s:s, s:o}", "type", pushed_type_label(e->type), "name", e->key,
		      "version", e->res->version, "proxies", (json_int_t)n.holders, "applied", (json_int_t)n.applied,
		      "refused", (json_int_t)n.refused, "summary", text, "refusals", refusals_json(e));
	mem_free(text);
	return o;
}

static json_t *resources_json(const struct push *p)
{
	json_t *list = json_array();
	for (size_t t = 0; t < PUSHED_TYPES; t++)
		map_for_each (it, &p->index.entries[t]) {
			const struct entry *e = CONTAINER_OF(it, struct entry, node);
			if (e->res && !list_empty(&e->helds))
				json_array_append_new(list, resource_json(e));
		}
	return list;
}

static json_t *session_json(const struct push_session *s)
{
	size_t held = 0, applied = 0, refused = 0, subscribed = 0;
	for (size_t i = 0; i < PUSHED_TYPES; i++) {
		const struct track *t = &s->tracks[i];
		subscribed += t->subs.len;
		map_for_each (it, &t->helds) {
			const struct held *h = CONTAINER_OF(it, struct held, node);
			held += h->subs > 0;
			applied += h->subs > 0 && h->entry->res && strcmp(h->acked, h->entry->res->version) == 0;
			refused += h->refused != NULL;
		}
	}
	const struct flight *oldest = list_first(&s->flights, struct flight, node);
	uint64_t lag = oldest ? s->push->hooks.now_ms(s->push->ctx) - oldest->sent_ms : 0;
	return json_pack("{s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:I, s:I, s:I}", "name", s->group->key, "identity",
			 s->identity, "address", s->address, "version", s->version, "connected", 1, "subscribed",
			 (json_int_t)subscribed, "resources", (json_int_t)held, "acked", (json_int_t)applied, "refused",
			 (json_int_t)refused, "lag_ms", (json_int_t)lag);
}

json_t *push_status(const struct push *p)
{
	json_t *proxies = json_array();
	map_for_each (it, &p->groups) {
		/* of several streams of one instance the newest speaks for it */
		struct group *g = CONTAINER_OF(it, struct group, node);
		json_array_append_new(proxies,
				      session_json(CONTAINER_OF(g->sessions.prev, struct push_session, in_group)));
	}
	return json_pack("{s:o, s:o}", "proxies", proxies, "resources", resources_json(p));
}
