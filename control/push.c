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
#include "lib/utf8.h"

#include <inttypes.h>
#include <stdio.h>

#define SESSION_MAGIC 0x70757368u

/* --- marking --- */

static void session_dirty(struct push_session *s)
{
	if (s->ended || !list_empty(&s->dirty))
		return;
	bool first = list_empty(&s->push->dirty);
	list_push(&s->push->dirty, &s->dirty);
	if (first)
		s->push->hooks.on_dirty(s->push->ctx);
}

static void sub_dirty(struct sub *sub)
{
	list_remove(&sub->work);
	list_push(&sub->track->dirty, &sub->work);
	session_dirty(sub->track->session);
}

static void slot_touched(void *ctx, struct slot *slot)
{
	list_for_each (sub, &slot->subs, struct sub, in_slot)
		sub_dirty(sub);
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

/* --- what a session holds --- */

static struct held *held_get(struct track *t, struct entry *e)
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

static void held_free(struct held *h)
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

static void held_set_refused(struct held *h, char *reason)
{
	mem_free(h->refused);
	h->refused = reason;
}

static void held_applied(struct held *h)
{
	memcpy(h->acked, h->sent, sizeof(h->acked));
	held_set_refused(h, NULL);
}

/* The name that a proxy knows the resource of this entry by. */
static const char *wire_name(const struct entry *e)
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

static void sub_free(struct sub *sub)
{
	struct track *t = sub->track;
	struct held *h = sub->held;
	sub_detach(sub);
	if (h && h->subs == 0)
		held_free(h); /* it asked to forget: there is nothing to tell */
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
	struct held *h = held_get(t, e);
	sub_attach(sub, h);
	sub->absent_said = false;
	if (h->claimed == t->session->flushes) {
		sub->force = false;
		if (strcmp(h->sent, e->res->version) == 0)
			held_applied(h);
	}
	h->resend |= sub->force;
	sub->force = false;
	if ((h->resend || strcmp(h->sent, e->res->version) != 0) && list_empty(&h->work))
		list_push(&t->out, &h->work);
}

static void track_resolve(struct track *t)
{
	while (!list_empty(&t->dirty))
		sub_resolve(list_first(&t->dirty, struct sub, work));
}

/* --- pass two: responses, written by hand so that packed resources are copied, not packed again --- */

/* Tags of DeltaDiscoveryResponse (xds.proto): field number << 3 | length-delimited. */
enum { TAG_RESOURCES = 2 << 3 | 2, TAG_TYPE_URL = 4 << 3 | 2, TAG_NONCE = 5 << 3 | 2, TAG_REMOVED = 6 << 3 | 2 };

static void put_field(struct push *p, uint8_t tag, struct str bytes)
{
	size_t need = p->scratch_len + bytes.len + 11; /* tag and the longest length */
	if (need > p->scratch_cap) {
		p->scratch_cap = MAX(need, 2 * p->scratch_cap);
		p->scratch = mem_realloc(p->scratch, p->scratch_cap);
	}
	uint8_t *at = p->scratch + p->scratch_len;
	*at++ = tag;
	size_t len = bytes.len;
	for (; len >= 0x80; len >>= 7)
		*at++ = (uint8_t)(len | 0x80);
	*at++ = (uint8_t)len;
	if (bytes.len)
		memcpy(at, bytes.p, bytes.len);
	p->scratch_len = (size_t)(at - p->scratch) + bytes.len;
}

static void put_removed(struct push *p, const char *name)
{
	put_field(p, TAG_REMOVED, str_of(name));
	p->counts.removals++;
}

static void session_end(struct push_session *s, enum grpc_status status, const char *text)
{
	if (s->ended)
		return;
	s->ended = true;
	list_remove(&s->dirty);
	s->link->end(s->ctx, status, text);
}

static struct flight *flight_new(struct push_session *s)
{
	struct flight *f = NEW(struct flight);
	f->nonce = ++s->nonce;
	f->sent_ms = s->push->hooks.now_ms(s->push->ctx);
	list_init(&f->helds);
	list_push(&s->flights, &f->node);
	s->push->scratch_len = 0;
	return f;
}

static void flight_free(struct push_session *s, struct flight *f)
{
	list_for_each_safe (h, &f->helds, struct held, in_flight) {
		h->flight = NULL;
		list_remove(&h->in_flight);
	}
	s->flying -= f->bytes;
	list_remove(&f->node);
	mem_free(f);
}

/* Closes the response in scratch and sends it. False: the session has ended and may be gone. */
static bool flight_send(struct push_session *s, struct flight *f, const char *type_url)
{
	struct push *p = s->push;
	char nonce[24];
	snprintf(nonce, sizeof(nonce), "%" PRIu64, f->nonce);
	put_field(p, TAG_TYPE_URL, str_of(type_url));
	put_field(p, TAG_NONCE, str_of(nonce));
	f->bytes = p->scratch_len;
	s->flying += f->bytes;
	p->counts.responses++;
	p->counts.bytes += f->bytes;
	if (s->link->send(s->ctx, str_make(p->scratch, p->scratch_len)))
		return true;
	p->counts.stalled++;
	session_end(s, GRPC_RESOURCE_EXHAUSTED, "the proxy does not read what it subscribed to");
	return false;
}

/* Names of resources that the session can no longer see, then names that never led anywhere; never one name twice. */
static void put_gone(struct track *t, struct flight *f)
{
	struct push *p = t->session->push;
	uint64_t mark = ++p->marks;
	while (!list_empty(&t->gone) && p->scratch_len < PUSH_RESPONSE) {
		struct held *h = list_first(&t->gone, struct held, work);
		struct map_node *n = map_get(&p->index.slots[t->type], h->entry->node.key);
		if (h->sent[0]) {
			put_removed(p, wire_name(h->entry));
			f->type = t->type;
			f->removes = true;
			if (n)
				CONTAINER_OF(n, struct slot, node)->mark = mark;
		}
		held_free(h);
	}
	while (!list_empty(&t->absent) && p->scratch_len < PUSH_RESPONSE) {
		struct sub *sub = list_first(&t->absent, struct sub, work);
		list_remove(&sub->work);
		sub->force = false;
		sub->absent_said = true;
		if (sub->slot->mark != mark)
			put_removed(p, sub->name);
	}
}

static void put_out(struct track *t, struct flight *f)
{
	struct push *p = t->session->push;
	while (!list_empty(&t->out)) {
		struct held *h = list_first(&t->out, struct held, work);
		const struct pushed *res = h->entry->res;
		MUST(res);
		if (p->scratch_len && p->scratch_len + res->packed.len > PUSH_RESPONSE)
			return;
		put_field(p, TAG_RESOURCES, res->packed);
		list_remove(&h->work);
		list_remove(&h->in_flight);
		list_push(&f->helds, &h->in_flight);
		h->flight = f;
		h->resend = false;
		held_set_refused(h, NULL);
		memcpy(h->sent, res->version, sizeof(h->sent));
		p->counts.resources++;
	}
}

static bool track_pending(const struct track *t)
{
	return !list_empty(&t->out) || !list_empty(&t->absent) || !list_empty(&t->gone);
}

static bool session_pending(const struct push_session *s)
{
	for (size_t i = 0; i < PUSHED_TYPES; i++)
		if (track_pending(&s->tracks[i]))
			return true;
	return false;
}

/* False: the session has ended and may be gone. */
static bool track_send(struct track *t)
{
	struct push_session *s = t->session;
	while (track_pending(t) && s->flying < PUSH_WINDOW) {
		struct flight *f = flight_new(s);
		put_gone(t, f);
		put_out(t, f);
		if (s->push->scratch_len == 0) /* what was to be said gone had never been sent */
			flight_free(s, f);
		else if (!flight_send(s, f, pushed_type_url(t->type)))
			return false;
	}
	return true;
}

static void session_flush(struct push_session *s)
{
	for (size_t i = 0; i < PUSHED_TYPES; i++)
		track_resolve(&s->tracks[i]);
	s->flushes++;
	for (size_t i = 0; i < PUSHED_TYPES; i++)
		if (!track_send(&s->tracks[i]))
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

/* --- answers --- */

/* Printable and UTF-8, so that it can stand in a log line and in JSON. */
static char *clean_text(struct str text, size_t max)
{
	char *out = mem_strndup(text.p ? text.p : "", utf8_cut(text.p, MIN(text.len, max)));
	utf8_clean(out);
	return out;
}

static void held_refused(struct held *h, struct str reason)
{
	struct push_session *s = h->track->session;
	held_set_refused(h, clean_text(reason, PUSH_REASON_MAX));
	s->push->hooks.on_nack(s->push->ctx, s->group->key, pushed_type_label(h->entry->type), wire_name(h->entry),
			       h->refused);
}

/* "namespace/name: reason" a line; the others of this response were applied. Without any such line all were refused. */
static void flight_refused(struct push_session *s, struct flight *f, struct track *t, struct str text)
{
	bool named = false;
	struct str rest = text, line;
	s->push->counts.nacks++;
	while (rest.len) {
		str_cut(rest, '\n', &line, &rest);
		struct str name, reason;
		if (!str_cut(line, ':', &name, &reason))
			continue;
		if (t->type == PUSHED_SELF && str_is(name, "self"))
			name = str_of(s->group->key);
		struct map_node *n = map_get(&t->helds, name);
		struct held *h = n ? CONTAINER_OF(n, struct held, node) : NULL;
		if (!h || h->flight != f || h->refused)
			continue;
		held_refused(h, str_trim(reason));
		named = true;
	}
	list_for_each (h, &f->helds, struct held, in_flight) {
		if (!named)
			held_refused(h, text);
		else if (!h->refused)
			held_applied(h);
	}
}

/* A nonce that is not known (an answer to what was said before a newer answer, or noise) changes nothing. */
static void take_answer(struct push_session *s, struct track *t, const push_request_pb *req)
{
	uint64_t nonce;
	if (!str_to_u64(str_of(req->response_nonce), UINT64_MAX, &nonce))
		return;
	list_for_each (f, &s->flights, struct flight, node) {
		if (f->nonce != nonce)
			continue;
		if (t && req->error_detail)
			flight_refused(s, f, t, str_of(req->error_detail->message));
		else
			list_for_each (h, &f->helds, struct held, in_flight)
				held_applied(h);
		s->push->counts.acks += !req->error_detail;
		flight_free(s, f);
		if (session_pending(s))
			session_dirty(s);
		return;
	}
}

/* --- subscriptions --- */

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
	sub_dirty(sub);
}

static void unsubscribe(struct track *t, const char *name)
{
	struct map_node *n = map_get(&t->subs, str_of(name));
	if (!n)
		return;
	sub_free(CONTAINER_OF(n, struct sub, node));
	n = map_get(&t->subs, STR("*"));
	if (!n)
		return;
	/* The wildcard still covers it: the proxy must hear that it keeps it. */
	CONTAINER_OF(n, struct sub, node)->force = true;
	sub_dirty(CONTAINER_OF(n, struct sub, node));
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
	struct held *h = held_get(t, push_index_entry(&s->push->index, t->type, key));
	h->claimed = s->flushes;
	snprintf(h->sent, sizeof(h->sent), "%.*s", PUSHED_VERSION_LEN, *version ? version : "?");
	list_push(&t->gone, &h->work);
	session_dirty(s);
}

static bool names_within(struct push_session *s, struct track *t, const push_request_pb *req)
{
	const char *wrong = NULL;
	if (t->subs.len + req->n_resource_names_subscribe > 2 * PUSH_NAMES_MAX ||
	    t->helds.len + req->n_initial_resource_versions > 2 * PUSH_NAMES_MAX) {
		session_end(s, GRPC_RESOURCE_EXHAUSTED, "too many names of one type at once");
		return false;
	}
	for (size_t i = 0; !wrong && i < req->n_resource_names_subscribe; i++)
		if (!name_valid(req->resource_names_subscribe[i]))
			wrong = "a name to subscribe to is empty, longer than 512 bytes or has control bytes";
	for (size_t i = 0; !wrong && i < req->n_initial_resource_versions; i++)
		if (!name_valid(req->initial_resource_versions[i]->key))
			wrong = "a name in initial_resource_versions is not one";
	if (wrong)
		session_end(s, GRPC_INVALID_ARGUMENT, wrong);
	return !wrong;
}

static void take_names(struct push_session *s, struct track *t, const push_request_pb *req)
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
		session_end(s, GRPC_RESOURCE_EXHAUSTED, "more than 10,000 names of one type are subscribed to");
}

/* A type of a later version: there is nothing of it here, and the stream goes on. */
static void answer_unknown_type(struct push_session *s, const push_request_pb *req)
{
	if (!req->n_resource_names_subscribe)
		return;
	if (s->flying >= PUSH_WINDOW || req->n_resource_names_subscribe > PUSH_NAMES_MAX ||
	    strlen(req->type_url) > PUSHED_NAME_MAX) {
		session_end(s, GRPC_RESOURCE_EXHAUSTED, "too much asked of a type that this weftd does not know");
		return;
	}
	struct flight *f = flight_new(s);
	for (size_t i = 0; i < req->n_resource_names_subscribe; i++)
		put_removed(s->push, req->resource_names_subscribe[i]);
	flight_send(s, f, req->type_url);
}

/* --- sessions --- */

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
		session_end(s, GRPC_INVALID_ARGUMENT, "the first request must name the instance in node.id");
		return false;
	}
	if (!p->hooks.instance_ok(p->ctx, s->ns, s->sa, id, &err)) {
		session_end(s, err.code == ERR_STORE ? GRPC_UNAVAILABLE : GRPC_PERMISSION_DENIED, err.text);
		return false;
	}
	s->version = clean_text(str_of(req->node->build_version), 63);
	s->group = group_get(p, s->ns, id);
	if (s->group->len >= PUSH_SESSIONS_MAX)
		session_end(list_first(&s->group->sessions, struct push_session, in_group), GRPC_ABORTED,
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
		session_end(s, GRPC_INVALID_ARGUMENT, "node.id changed within a stream");
		return;
	}
	enum pushed_type type;
	bool known = pushed_type_of(str_of(req->type_url), &type);
	if (req->response_nonce[0])
		take_answer(s, known ? &s->tracks[type] : NULL, req);
	if (known)
		take_names(s, &s->tracks[type], req);
	else
		answer_unknown_type(s, req);
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
		sub_free(CONTAINER_OF(it, struct sub, node));
	map_for_each (it, &t->helds)
		held_free(CONTAINER_OF(it, struct held, node));
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
		flight_free(s, f);
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
	return oldest && session_pending(s) && now - oldest->sent_ms >= PUSH_STALL_MS;
}

void push_tick(struct push *p)
{
	uint64_t now = p->hooks.now_ms(p->ctx);
	list_for_each_safe (s, &p->sessions, struct push_session, node) {
		if (s->ended)
			continue;
		if (!s->group && now - s->opened_ms >= PUSH_NAME_MS) {
			session_end(s, GRPC_DEADLINE_EXCEEDED, "the stream has not said for 10 s which instance it is");
		} else if (stalls(s, now)) {
			p->counts.stalled++;
			session_end(s, GRPC_RESOURCE_EXHAUSTED, "the proxy has not answered its pushes for 30 s");
		}
	}
}

void push_end_all(struct push *p, const char *text)
{
	list_for_each_safe (s, &p->sessions, struct push_session, node)
		session_end(s, GRPC_UNAVAILABLE, text);
}

const struct push_counts *push_counts(const struct push *p)
{
	return &p->counts;
}
