/* SPDX-License-Identifier: Apache-2.0 */
/* push_held.c: what a session holds: the resources that its subscriptions lead to. Pass one of a flush: each dirty subscription is resolved
 * to the resource that it stands for now. */
#include "control/push_session.h"

#include "lib/mem.h"

struct held *push_held_get(struct track *t, struct entry *e)
{
	struct map_node *n = map_get(&t->helds, e->node.key);
	if (n)
		return CONTAINER_OF(n, struct held, node);
	struct held *h = NEW(struct held);
	h->entry = e;
	h->track = t;
	list_init(&h->work);
	list_init(&h->in_flight);
	list_push(&e->helds, &h->in_entry);
	map_put(&t->helds, &h->node, e->node.key);
	return h;
}

void push_held_free(struct held *h)
{
	struct push *p = h->track->session->push;
	struct entry *e = h->entry;
	map_del(&h->track->helds, &h->node);
	list_remove(&h->work);
	list_remove(&h->in_flight);
	list_remove(&h->in_entry);
	mem_free(h->refused);
	mem_free(h);
	push_index_entry_drop(&p->index, e);
}

void push_held_set_refused(struct held *h, char *reason)
{
	mem_free(h->refused);
	h->refused = reason;
}

void push_held_applied(struct held *h)
{
	memcpy(h->acked, h->sent, sizeof(h->acked));
	push_held_set_refused(h, NULL);
}

/* The name that a proxy knows the resource of this entry by. */
const char *push_wire_name(const struct entry *e)
{
	return e->type == PUSHED_SELF ? "self" : e->key;
}

static void sub_detach(struct sub *sub)
{
	struct held *h = sub->held;
	sub->held = NULL;
	if (!h || --h->subs > 0)
		return;
	list_remove(&h->work);
	list_push(&h->track->gone, &h->work);
}

static void sub_attach(struct sub *sub, struct held *h)
{
	if (sub->held == h)
		return;
	sub_detach(sub);
	sub->held = h;
	if (h->subs++ == 0)
		list_remove(&h->work); /* from gone */
}

void push_sub_free(struct sub *sub)
{
	struct track *t = sub->track;
	struct held *h = sub->held;
	sub_detach(sub);
	if (h && h->subs == 0)
		push_held_free(h); /* it asked to forget: there is nothing to tell */
	map_del(&t->subs, &sub->node);
	list_remove(&sub->work);
	list_remove(&sub->in_slot);
	push_index_slot_drop(&t->session->push->index, sub->slot);
	t->session->push->counts.subscriptions--;
	mem_free(sub);
}

/* --- pass one: names to resources --- */

static void sub_resolve(struct sub *sub)
{
	struct track *t = sub->track;
	struct entry *e = slot_owner(sub->slot);
	list_remove(&sub->work);
	if (!e) {
		sub_detach(sub);
		if (sub->force || !sub->absent_said)
			list_push(&t->absent, &sub->work);
		return;
	}
	struct held *h = push_held_get(t, e);
	sub_attach(sub, h);
	sub->absent_said = false;
	if (h->claimed == t->session->flushes) {
		sub->force = false;
		if (strcmp(h->sent, e->res->version) == 0)
			push_held_applied(h);
	}
	h->resend |= sub->force;
	sub->force = false;
	if ((h->resend || strcmp(h->sent, e->res->version) != 0) && list_empty(&h->work))
		list_push(&t->out, &h->work);
}

void push_track_resolve(struct track *t)
{
	while (!list_empty(&t->dirty))
		sub_resolve(list_first(&t->dirty, struct sub, work));
}
