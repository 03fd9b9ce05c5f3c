/* SPDX-License-Identifier: Apache-2.0 */
/* push.c: delta xDS, server's side. A request changes subscriptions and marks them dirty; a change of a resource marks the
 * subscriptions to each of its names dirty. push_flush() then goes twice over each dirty session: first every dirty
 * subscription is resolved to the resource that it stands for now, then what follows from that is written, type by type
 * (pushed.tbl.h), until all is sent or PUSH_WINDOW bytes are unanswered. An answer opens the window again, so a proxy that
 * reads slowly gets the newest state later, and costs a list of names, never a queue.
 *
 * It trusts the caller for who the peer is, and nothing that the peer says: names, counts and texts are capped. */
#include "control/push.h"

#include "control/push_session.h"
#include "lib/mem.h"

#define SESSION_MAGIC 0x70757368u

/* --- marking --- */

void push_session_dirty(struct push_session *s)
{
	if (s->ended || !list_empty(&s->dirty))
		return;
	bool first = list_empty(&s->push->dirty);
	list_push(&s->push->dirty, &s->dirty);
	if (first)
		s->push->hooks.on_dirty(s->push->ctx);
}

void push_sub_dirty(struct sub *sub)
{
	list_remove(&sub->work);
	list_push(&sub->track->dirty, &sub->work);
	push_session_dirty(sub->track->session);
}

static void slot_touched(void *ctx, struct slot *slot)
{
	list_for_each (sub, &slot->subs, struct sub, in_slot)
		push_sub_dirty(sub);
}

void push_set(struct push *p, struct pushed *res)
{
	MUST(res->packed.len <= PUSH_RESOURCE_MAX);
	push_index_set(&p->index, res, slot_touched, NULL);
}

void push_remove(struct push *p, enum pushed_type type, const char *key)
{
	push_index_remove(&p->index, type, str_of(key), slot_touched, NULL);
}

const struct pushed *push_get(const struct push *p, enum pushed_type type, const char *key)
{
	const struct entry *e = push_index_entry_find(&p->index, type, str_of(key));
	return e ? e->res : NULL;
}

/* --- flushing --- */

static void session_flush(struct push_session *s)
{
	for (size_t i = 0; i < PUSHED_TYPES; i++)
		push_track_resolve(&s->tracks[i]);
	s->flushes++;
	for (size_t i = 0; i < PUSHED_TYPES; i++)
		if (!push_track_send(&s->tracks[i]))
			return;
}

/* Who waits longest comes first, so a proxy that is dirty all the time holds up nobody. */
bool push_flush(struct push *p)
{
	uint64_t until = p->counts.bytes + PUSH_TURN_BYTES;
	for (unsigned n = 0; n < PUSH_TURN_SESSIONS && p->counts.bytes < until && !list_empty(&p->dirty); n++) {
		struct push_session *s = list_first(&p->dirty, struct push_session, dirty);
		list_remove(&s->dirty);
		session_flush(s);
	}
	return !list_empty(&p->dirty);
}

/* --- sessions --- */

void push_session_end(struct push_session *s, enum grpc_status status, const char *text)
{
	if (s->ended)
		return;
	s->ended = true;
	list_remove(&s->dirty);
	s->link->end(s->ctx, status, text);
}

static struct group *group_get(struct push *p, const char *ns, const char *instance)
{
	char *key = mem_printf("%s/%s", ns, instance);
	struct map_node *n = map_get(&p->groups, str_of(key));
	struct group *g = n ? CONTAINER_OF(n, struct group, node) : NULL;
	if (!g) {
		size_t len = strlen(key);
		g = mem_zalloc(sizeof(*g) + len + 1);
		memcpy(g->key, key, len);
		list_init(&g->sessions);
		map_put(&p->groups, &g->node, str_make(g->key, len));
	}
	mem_free(key);
	return g;
}

static void group_leave(struct push_session *s)
{
	struct group *g = s->group;
	if (!g)
		return;
	s->group = NULL;
	list_remove(&s->in_group);
	if (--g->len > 0)
		return;
	map_del(&s->push->groups, &g->node);
	mem_free(g);
}

/* The first request says which instance of the authenticated service account speaks. */
static bool session_bind(struct push_session *s, const push_request_pb *req)
{
	struct push *p = s->push;
	struct err err;
	const char *id = req->node ? req->node->id : "";
	if (!str_is_dns_label(str_of(id))) {
		push_session_end(s, GRPC_INVALID_ARGUMENT, "the first request must name the instance in node.id");
		return false;
	}
	if (!p->hooks.instance_ok(p->ctx, s->ns, s->sa, id, &err)) {
		push_session_end(s, err.code == ERR_STORE ? GRPC_UNAVAILABLE : GRPC_PERMISSION_DENIED, err.text);
		return false;
	}
	s->version = push_clean_text(str_of(req->node->build_version), 63);
	s->group = group_get(p, s->ns, id);
	if (s->group->len >= PUSH_SESSIONS_MAX)
		push_session_end(list_first(&s->group->sessions, struct push_session, in_group), GRPC_ABORTED,
				 "newer streams of this instance took the place of this one");
	list_push(&s->group->sessions, &s->in_group);
	s->group->len++;
	return true;
}

static bool same_instance(const struct push_session *s, const push_request_pb *req)
{
	const char *slash = strchr(s->group->key, '/');
	return !req->node || !req->node->id[0] || strcmp(req->node->id, slash + 1) == 0;
}

void push_request(struct push_session *s, const push_request_pb *req)
{
	MUST_BE(s, SESSION_MAGIC);
	if (s->ended)
		return;
	s->push->counts.requests++;
	if (!s->group) {
		if (!session_bind(s, req))
			return;
	} else if (!same_instance(s, req)) {
		push_session_end(s, GRPC_INVALID_ARGUMENT, "node.id changed within a stream");
		return;
	}
	enum pushed_type type;
	bool known = pushed_type_of(str_of(req->type_url), &type);
	if (req->response_nonce[0])
		push_take_answer(s, known ? &s->tracks[type] : NULL, req);
	if (known)
		push_take_names(s, &s->tracks[type], req);
	else
		push_answer_unknown_type(s, req);
}

struct push_session *push_open(struct push *p, const struct push_peer *peer, const struct push_link *link, void *ctx)
{
	if (p->counts.sessions >= PUSH_STREAMS_MAX)
		return NULL;
	struct push_session *s = NEW(struct push_session);
	s->magic = SESSION_MAGIC;
	s->push = p;
	s->link = link;
	s->ctx = ctx;
	s->identity = mem_strdup(peer->identity);
	s->ns = mem_strdup(peer->ns);
	s->sa = mem_strdup(peer->sa);
	s->address = mem_strdup(peer->address);
	s->opened_ms = p->hooks.now_ms(p->ctx);
	s->flushes = 1;
	list_init(&s->dirty);
	list_init(&s->in_group);
	list_init(&s->flights);
	list_push(&p->sessions, &s->node);
	for (size_t i = 0; i < PUSHED_TYPES; i++) {
		struct track *t = &s->tracks[i];
		t->session = s;
		t->type = (enum pushed_type)i;
		map_init(&t->subs);
		map_init(&t->helds);
		list_init(&t->dirty);
		list_init(&t->absent);
		list_init(&t->out);
		list_init(&t->gone);
	}
	p->counts.sessions++;
	return s;
}

static void track_done(struct track *t)
{
	map_for_each (it, &t->subs)
		push_sub_free(CONTAINER_OF(it, struct sub, node));
	map_for_each (it, &t->helds)
		push_held_free(CONTAINER_OF(it, struct held, node));
	map_done(&t->subs);
	map_done(&t->helds);
}

void push_close(struct push_session **sp)
{
	struct push_session *s = *sp;
	*sp = NULL;
	if (!s)
		return;
	MUST_BE(s, SESSION_MAGIC);
	for (size_t i = 0; i < PUSHED_TYPES; i++)
		track_done(&s->tracks[i]);
	list_for_each_safe (f, &s->flights, struct flight, node)
		push_flight_free(s, f);
	group_leave(s);
	list_remove(&s->dirty);
	list_remove(&s->node);
	s->push->counts.sessions--;
	s->magic = 0;
	mem_free(s->identity);
	mem_free(s->ns);
	mem_free(s->sa);
	mem_free(s->address);
	mem_free(s->version);
	mem_free(s);
}

/* --- the whole --- */

struct push *push_new(const struct push_hooks *hooks, void *ctx)
{
	struct push *p = NEW(struct push);
	p->hooks = *hooks;
	p->ctx = ctx;
	push_index_init(&p->index);
	list_init(&p->sessions);
	list_init(&p->dirty);
	map_init(&p->groups);
	return p;
}

void push_free(struct push **pp)
{
	struct push *p = *pp;
	*pp = NULL;
	if (!p)
		return;
	MUST(list_empty(&p->sessions));
	push_index_done(&p->index);
	map_done(&p->groups);
	mem_free(p->scratch);
	mem_free(p);
}

/* Of those that said who they are only who holds up pushes is cut: a proxy with nothing due may stay silent for ever. */
static bool stalls(const struct push_session *s, uint64_t now)
{
	struct flight *oldest = list_first(&s->flights, struct flight, node);
	return oldest && push_session_pending(s) && now - oldest->sent_ms >= PUSH_STALL_MS;
}

void push_tick(struct push *p)
{
	uint64_t now = p->hooks.now_ms(p->ctx);
	list_for_each_safe (s, &p->sessions, struct push_session, node) {
		if (s->ended)
			continue;
		if (!s->group && now - s->opened_ms >= PUSH_NAME_MS) {
			push_session_end(s, GRPC_DEADLINE_EXCEEDED,
					 "the stream has not said for 10 s which instance it is");
		} else if (stalls(s, now)) {
			p->counts.stalled++;
			push_session_end(s, GRPC_RESOURCE_EXHAUSTED, "the proxy has not answered its pushes for 30 s");
		}
	}
}

void push_end_all(struct push *p, const char *text)
{
	list_for_each_safe (s, &p->sessions, struct push_session, node)
		push_session_end(s, GRPC_UNAVAILABLE, text);
}

const struct push_counts *push_counts(const struct push *p)
{
	return &p->counts;
}
