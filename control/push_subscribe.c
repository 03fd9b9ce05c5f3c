/* SPDX-License-Identifier: Apache-2.0 */
/* push_subscribe.c: what a request says of names: to be told of, to forget, held already. Nothing in it is trusted: names and their
 * number are capped. */
#include "control/push_session.h"

#include "lib/mem.h"

#include <stdio.h>

static bool name_valid(const char *name)
{
	size_t n = strnlen(name, PUSHED_NAME_MAX + 1);
	if (n == 0 || n > PUSHED_NAME_MAX)
		return false;
	for (size_t i = 0; i < n; i++)
		if ((unsigned char)name[i] <= 0x20 || name[i] == 0x7f)
			return false;
	return true;
}

/* Self is indexed by instance and a session reaches its own only, whatever it asks for. */
static struct slot *slot_of(struct track *t, const char *name)
{
	struct push_session *s = t->session;
	if (t->type != PUSHED_SELF)
		return push_index_slot(&s->push->index, t->type, str_of(name));
	bool own = strcmp(name, "self") == 0 || strcmp(name, "*") == 0;
	return push_index_slot(&s->push->index, t->type, own ? str_of(s->group->key) : STR("?"));
}

static void subscribe(struct track *t, const char *name)
{
	struct push_session *s = t->session;
	struct map_node *n = map_get(&t->subs, str_of(name));
	struct sub *sub = n ? CONTAINER_OF(n, struct sub, node) : NULL;
	if (!sub) {
		size_t len = strlen(name);
		sub = mem_zalloc(sizeof(*sub) + len + 1);
		memcpy(sub->name, name, len);
		sub->track = t;
		list_init(&sub->work);
		map_put(&t->subs, &sub->node, str_make(sub->name, len));
		sub->slot = slot_of(t, name);
		list_push(&sub->slot->subs, &sub->in_slot);
		s->push->counts.subscriptions++;
	}
	sub->force = true;
	push_sub_dirty(sub);
}

static void unsubscribe(struct track *t, const char *name)
{
	struct map_node *n = map_get(&t->subs, str_of(name));
	if (!n)
		return;
	push_sub_free(CONTAINER_OF(n, struct sub, node));
	n = map_get(&t->subs, STR("*"));
	if (!n)
		return;
	/* The wildcard still covers it: the proxy must hear that it keeps it. */
	CONTAINER_OF(n, struct sub, node)->force = true;
	push_sub_dirty(CONTAINER_OF(n, struct sub, node));
}

/* What the peer says that it has already. Held without a subscription until the subscriptions that came with it are resolved, in
 * the session's next flush: what they do not lead to is told removed. */
static void take_initial(struct track *t, const char *name, const char *version)
{
	struct push_session *s = t->session;
	struct str key = str_of(name);
	if (t->type == PUSHED_SELF) {
		if (strcmp(name, "self") != 0)
			return;
		key = str_of(s->group->key);
	}
	if (map_get(&t->helds, key))
		return; /* said before, or sent in this stream: we know better */
	struct held *h = push_held_get(t, push_index_entry(&s->push->index, t->type, key));
	h->claimed = s->flushes;
	snprintf(h->sent, sizeof(h->sent), "%.*s", PUSHED_VERSION_LEN, *version ? version : "?");
	list_push(&t->gone, &h->work);
	push_session_dirty(s);
}

static bool names_within(struct push_session *s, struct track *t, const push_request_pb *req)
{
	const char *wrong = NULL;
	if (t->subs.len + req->n_resource_names_subscribe > 2 * PUSH_NAMES_MAX ||
	    t->helds.len + req->n_initial_resource_versions > 2 * PUSH_NAMES_MAX) {
		push_session_end(s, GRPC_RESOURCE_EXHAUSTED, "too many names of one type at once");
		return false;
	}
	for (size_t i = 0; !wrong && i < req->n_resource_names_subscribe; i++)
		if (!name_valid(req->resource_names_subscribe[i]))
			wrong = "a name to subscribe to is empty, longer than 512 bytes or has control bytes";
	for (size_t i = 0; !wrong && i < req->n_initial_resource_versions; i++)
		if (!name_valid(req->initial_resource_versions[i]->key))
			wrong = "a name in initial_resource_versions is not one";
	if (wrong)
		push_session_end(s, GRPC_INVALID_ARGUMENT, wrong);
	return !wrong;
}

void push_take_names(struct push_session *s, struct track *t, const push_request_pb *req)
{
	if (!names_within(s, t, req))
		return;
	bool first = !t->seen;
	t->seen = true;
	for (size_t i = 0; i < req->n_initial_resource_versions; i++)
		take_initial(t, req->initial_resource_versions[i]->key, req->initial_resource_versions[i]->value);
	for (size_t i = 0; i < req->n_resource_names_subscribe; i++)
		subscribe(t, req->resource_names_subscribe[i]);
	for (size_t i = 0; i < req->n_resource_names_unsubscribe; i++)
		unsubscribe(t, req->resource_names_unsubscribe[i]);
	if (first && t->type == PUSHED_MESH && !req->n_resource_names_subscribe && !req->n_resource_names_unsubscribe)
		subscribe(t, "*"); /* the old way to say it */
	if (t->subs.len > PUSH_NAMES_MAX)
		push_session_end(s, GRPC_RESOURCE_EXHAUSTED, "more than 10,000 names of one type are subscribed to");
}
