/* SPDX-License-Identifier: Apache-2.0 */
/* push_flight.c: responses and their answers. Pass two of a flush: what follows from pass one is written until all is sent or PUSH_WINDOW
 * bytes are unanswered. By hand, so that packed resources are copied, not packed again. */
#include "control/push_session.h"

#include "lib/mem.h"
#include "lib/utf8.h"

#include <inttypes.h>
#include <stdio.h>

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

void push_flight_free(struct push_session *s, struct flight *f)
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
	push_session_end(s, GRPC_RESOURCE_EXHAUSTED, "the proxy does not read what it subscribed to");
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
			put_removed(p, push_wire_name(h->entry));
			f->type = t->type;
			f->removes = true;
			if (n)
				CONTAINER_OF(n, struct slot, node)->mark = mark;
		}
		push_held_free(h);
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
		push_held_set_refused(h, NULL);
		memcpy(h->sent, res->version, sizeof(h->sent));
		p->counts.resources++;
	}
}

static bool track_pending(const struct track *t)
{
	return !list_empty(&t->out) || !list_empty(&t->absent) || !list_empty(&t->gone);
}

bool push_session_pending(const struct push_session *s)
{
	for (size_t i = 0; i < PUSHED_TYPES; i++)
		if (track_pending(&s->tracks[i]))
			return true;
	return false;
}

/* False: the session has ended and may be gone. */
bool push_track_send(struct track *t)
{
	struct push_session *s = t->session;
	while (track_pending(t) && s->flying < PUSH_WINDOW) {
		struct flight *f = flight_new(s);
		put_gone(t, f);
		put_out(t, f);
		if (s->push->scratch_len == 0) /* what was to be said gone had never been sent */
			push_flight_free(s, f);
		else if (!flight_send(s, f, pushed_type_url(t->type)))
			return false;
	}
	return true;
}

/* A type of a later version: there is nothing of it here, and the stream goes on. */
void push_answer_unknown_type(struct push_session *s, const push_request_pb *req)
{
	if (!req->n_resource_names_subscribe)
		return;
	if (s->flying >= PUSH_WINDOW || req->n_resource_names_subscribe > PUSH_NAMES_MAX ||
	    strlen(req->type_url) > PUSHED_NAME_MAX) {
		push_session_end(s, GRPC_RESOURCE_EXHAUSTED, "too much asked of a type that this weftd does not know");
		return;
	}
	struct flight *f = flight_new(s);
	for (size_t i = 0; i < req->n_resource_names_subscribe; i++)
		put_removed(s->push, req->resource_names_subscribe[i]);
	flight_send(s, f, req->type_url);
}

/* --- answers --- */

/* Printable and UTF-8, so that it can stand in a log line and in JSON. */
char *push_clean_text(struct str text, size_t max)
{
	char *out = mem_strndup(text.p ? text.p : "", utf8_cut(text.p, MIN(text.len, max)));
	utf8_clean(out);
	return out;
}

static void held_refused(struct held *h, struct str reason)
{
	struct push_session *s = h->track->session;
	push_held_set_refused(h, push_clean_text(reason, PUSH_REASON_MAX));
	s->push->hooks.on_nack(s->push->ctx, s->group->key, pushed_type_label(h->entry->type), push_wire_name(h->entry),
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
			push_held_applied(h);
	}
}

/* A nonce that is not known (an answer to what was said before a newer answer, or noise) changes nothing. */
void push_take_answer(struct push_session *s, struct track *t, const push_request_pb *req)
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
				push_held_applied(h);
		s->push->counts.acks += !req->error_detail;
		push_flight_free(s, f);
		if (push_session_pending(s))
			push_session_dirty(s);
		return;
	}
}
