/* SPDX-License-Identifier: Apache-2.0 */
/* talk.c: one struct a call. What is registered belongs to the registry; the call only keeps it alive. A refusal ends the call,
 * so that the proxy comes again with a back-off: what stands in its way may have gone by then. */
#include "control/talk.h"

#include "control/caller.h"
#include "control/write_queue.h"
#include "lib/event.h"
#include "lib/mem.h"
#include "lib/proto_arena.h"

#include <stdio.h>

#define TALK_MAGIC 0x74616c6bu

struct talk_server {
	struct talk_server_cfg cfg;
	struct list talks;
	size_t len;
	size_t held; /* bytes, of all talks */
};

struct talk {
	uint32_t magic;
	struct talk_server *server;
	struct list node;
	struct grpc_call *call;
	struct registry_link link;
	char ns[STORE_NS_MAX], sa[STORE_NS_MAX];
	uint64_t heard_ms;
	unsigned registers;
	bool joined; /* event proxy_joined was said */
	/* A registration that waits until the store can be written; NULL: none. */
	uint8_t *held;
	size_t held_len;
	struct writer writer;
};

static void held_drop(struct talk *t)
{
	writer_leave(&t->writer);
	t->server->held -= t->held_len;
	mem_free(t->held);
	t->held = NULL;
	t->held_len = 0;
}

static void talk_done(struct talk *t)
{
	char address[ADDR_TEXT_MAX];
	if (t->joined)
		event(EV_PROXY_LEFT, "identity=\"%s/%s\" address=%s registered=%s", t->ns, t->sa,
		      ip_text(&t->link.source, address), t->link.workload ? "lease" : "no");
	registry_link_down(&t->link);
	held_drop(t);
	list_remove(&t->node);
	t->server->len--;
	t->magic = 0;
	mem_free(t);
}

static void talk_end(struct talk *t, enum grpc_status status, const char *text)
{
	grpc_finish(&t->call, status, text);
	talk_done(t);
}

/* False: it does not read, the call was ended and t is gone. */
static bool talk_send(struct talk *t, const Weft__V1__LinkDown *m)
{
	size_t len = weft__v1__link_down__get_packed_size(m);
	uint8_t *bytes = mem_alloc(len + 1);
	weft__v1__link_down__pack(m, bytes);
	bool ok = grpc_send(t->call, str_make(bytes, len));
	mem_free(bytes);
	if (!ok)
		talk_end(t, GRPC_RESOURCE_EXHAUSTED, "the proxy does not read");
	return ok;
}

/* --- register --- */

/* t is gone. */
static void talk_refuse(struct talk *t, enum grpc_status status, const char *reason)
{
	Weft__V1__LinkDown m = WEFT__V1__LINK_DOWN__INIT;
	Weft__V1__Refused refused = WEFT__V1__REFUSED__INIT;
	refused.reason = (char *)reason;
	m.kind_case = WEFT__V1__LINK_DOWN__KIND_REFUSED;
	m.refused = &refused;
	if (talk_send(t, &m))
		talk_end(t, status, reason);
}

static bool labels_json(const Weft__V1__Register *r, json_t *out, struct err *err)
{
	for (size_t i = 0; i < r->n_labels; i++) {
		const char *key = r->labels[i]->key;
		if (json_object_get(out, key))
			return err_set(err, ERR_INVALID, "labels: %.100s is there twice", key);
		if (json_object_set_new(out, key, json_string(r->labels[i]->value)) != 0)
			return err_set(err, ERR_INVALID, "labels[%zu]: not UTF-8", i);
	}
	return true;
}

static bool read_ips(const Weft__V1__Register *r, struct ip out[static 2], struct err *err)
{
	if (r->n_addresses > 2)
		return err_set(err, ERR_LIMIT, "addresses: %zu, at most one of each family", r->n_addresses);
	for (size_t i = 0; i < r->n_addresses; i++) {
		const ProtobufCBinaryData *b = &r->addresses[i];
		if (b->len != 4 && b->len != 16)
			return err_set(err, ERR_INVALID, "addresses[%zu]: %zu bytes, must be 4 or 16", i, b->len);
		out[i].len = (uint8_t)b->len;
		memcpy(out[i].b, b->data, b->len);
	}
	return true;
}

static bool do_register(struct talk *t, const Weft__V1__Register *r, struct err *err)
{
	struct ip more[2] = {{0}};
	json_t *labels = json_object();
	bool ok = ++t->registers <= TALK_REGISTERS_MAX ||
		  err_set(err, ERR_LIMIT, "registered %d times on one link", TALK_REGISTERS_MAX);
	ok = ok && labels_json(r, labels, err) && read_ips(r, more, err);
	struct registry_claim claim = {.ns = t->ns,
				       .sa = t->sa,
				       .instance = r->instance,
				       .version = r->version,
				       .zone = r->zone,
				       .labels = labels,
				       .ports = (const Weft__V1__WorkloadPort *const *)r->ports,
				       .n_ports = r->n_ports,
				       .more = more,
				       .n_more = r->n_addresses,
				       .source = caller_address(t->call)->ip};
	ok = ok && registry_register(t->server->cfg.registry, &t->link, &claim, err);
	json_decref(labels);
	return ok;
}

/* A failing store is ours and may pass; the rest is the proxy's to change. */
static enum grpc_status status_of(const struct err *err)
{
	if (err->code == ERR_STORE || err->code == ERR_SYSTEM)
		return GRPC_UNAVAILABLE;
	return err->code == ERR_INVALID || err->code == ERR_UNSUPPORTED ? GRPC_INVALID_ARGUMENT
									: GRPC_PERMISSION_DENIED;
}

/* t may be gone afterwards. */
static void on_register(struct talk *t, const Weft__V1__Register *r)
{
	struct err err;
	char text[IP_TEXT_MAX];
	if (!do_register(t, r, &err)) {
		event(EV_REGISTER_REFUSED, "identity=\"%s/%s\" instance=\"%.64s\" address=%s reason=\"%s\"", t->ns,
		      t->sa, r->instance, ip_text(&caller_address(t->call)->ip, text), err.text);
		talk_refuse(t, status_of(&err), err.text);
		return;
	}
	const struct registry_workload *w = t->link.workload;
	if (!t->joined)
		event(EV_PROXY_JOINED, "workload=%s identity=\"%s\" address=%s version=\"%s\"", w->key, w->identity,
		      ip_text(&t->link.source, text), w->version);
	t->joined = true;
	Weft__V1__LinkDown m = WEFT__V1__LINK_DOWN__INIT;
	Weft__V1__Registered ok = WEFT__V1__REGISTERED__INIT;
	ok.workload = w->key;
	ok.lease_s = (uint32_t)(registry_lease_ms(t->server->cfg.registry) / 1000);
	ok.address = (ProtobufCBinaryData){t->link.source.len, t->link.source.b};
	m.kind_case = WEFT__V1__LINK_DOWN__KIND_REGISTERED;
	m.registered = &ok;
	(void)talk_send(t, &m);
}

/* Until its turn to write, which may be now; then t may be gone. One that waits already says less than this one. */
static void hold(struct talk *t, struct str message, const Weft__V1__Register *r)
{
	held_drop(t);
	if (t->server->held + message.len > t->server->cfg.held_max) {
		on_register(t, r);
		return;
	}
	t->held = mem_dup(message.p, message.len);
	t->held_len = message.len;
	t->server->held += message.len;
	writer_take(t->server->cfg.writes, &t->writer);
}

/* --- the rest --- */

/* As on_register(). */
static void on_heartbeat(struct talk *t, const Weft__V1__Heartbeat *h)
{
	Weft__V1__LinkDown m = WEFT__V1__LINK_DOWN__INIT;
	Weft__V1__HeartbeatAck ack = WEFT__V1__HEARTBEAT_ACK__INIT;
	if (t->joined && !t->link.workload && !t->held) {
		/* Its lease was over before this came, or another link said goodbye: it must register anew. */
		talk_end(t, GRPC_ABORTED, "the registration is gone; register again");
		return;
	}
	registry_heartbeat(&t->link);
	ack.sequence = h->sequence;
	ack.now_ms = t->server->cfg.wall_ms(t->server->cfg.ctx);
	m.kind_case = WEFT__V1__LINK_DOWN__KIND_HEARTBEAT_ACK;
	m.heartbeat_ack = &ack;
	(void)talk_send(t, &m);
}

/* What comes while a registration waits does not wait with it: who says goodbye takes it back. */
static void on_goodbye(struct talk *t)
{
	held_drop(t);
	registry_goodbye(&t->link);
}

/* What was held was read before, and is read again: it may refer to nothing but its own bytes. */
static void on_turn(struct writer *w)
{
	struct talk *t = CONTAINER_OF(w, struct talk, writer);
	uint8_t *message = t->held;
	struct proto_arena arena;
	size_t len = t->held_len;
	t->held = NULL; /* not held_drop()'s any more */
	held_drop(t);
	proto_arena_init(&arena, TALK_DECODE_MAX);
	const Weft__V1__LinkUp *m = proto_unpack(&arena, &weft__v1__link_up__descriptor, str_make(message, len), NULL);
	MUST(m && m->kind_case == WEFT__V1__LINK_UP__KIND_REGISTER);
	on_register(t, m->register_);
	proto_arena_done(&arena);
	mem_free(message);
}

static void on_message(void *ctx, struct grpc_call *call, struct str message)
{
	struct talk *t = ctx;
	struct proto_arena arena;
	struct err err;
	MUST_BE(t, TALK_MAGIC);
	t->heard_ms = loop_now_ms(t->server->cfg.loop);
	proto_arena_init(&arena, TALK_DECODE_MAX);
	const Weft__V1__LinkUp *m = proto_unpack(&arena, &weft__v1__link_up__descriptor, message, &err);
	if (!m)
		talk_end(t, GRPC_INVALID_ARGUMENT, err.text);
	else if (m->kind_case == WEFT__V1__LINK_UP__KIND_REGISTER)
		hold(t, message, m->register_);
	else if (m->kind_case == WEFT__V1__LINK_UP__KIND_HEARTBEAT)
		on_heartbeat(t, m->heartbeat);
	else if (m->kind_case == WEFT__V1__LINK_UP__KIND_GOODBYE)
		on_goodbye(t);
	/* else: something of a later version, which can do without an answer */
	proto_arena_done(&arena);
}

static void on_half_close(void *ctx, struct grpc_call *call)
{
	struct talk *t = ctx;
	if (t->held)
		talk_end(t, GRPC_ABORTED, "the call was ended before its registration was stored");
	else
		talk_end(t, GRPC_OK, "");
}

static void on_end(void *ctx, struct grpc_call *call, enum grpc_status status, const char *text)
{
	talk_done(ctx);
}

static const struct grpc_call_events events = {
    .on_message = on_message,
    .on_half_close = on_half_close,
    .on_end = on_end,
};

bool talk_server_call(struct talk_server *s, struct grpc_call *call, const struct grpc_call_events **ret_ev,
		      void **ret_ctx, enum grpc_status *ret_status, const char **ret_text)
{
	const struct spiffe *id = caller_identity(call);
	if (!id) {
		*ret_status = GRPC_UNAUTHENTICATED;
		*ret_text = CALLER_NONE_TEXT;
		return false;
	}
	struct talk *t = NEW(struct talk);
	t->magic = TALK_MAGIC;
	t->server = s;
	t->call = call;
	t->heard_ms = loop_now_ms(s->cfg.loop);
	snprintf(t->ns, sizeof(t->ns), STR_FMT, STR_ARG(id->ns));
	snprintf(t->sa, sizeof(t->sa), STR_FMT, STR_ARG(id->sa));
	registry_link_init(&t->link);
	writer_init(&t->writer, on_turn);
	list_push(&s->talks, &t->node);
	s->len++;
	*ret_ev = &events;
	*ret_ctx = t;
	return true;
}

void talk_server_tick(struct talk_server *s)
{
	uint64_t now = loop_now_ms(s->cfg.loop), silent = 2 * registry_lease_ms(s->cfg.registry);
	list_for_each_safe (t, &s->talks, struct talk, node)
		if (now - t->heard_ms > silent)
			talk_end(t, GRPC_DEADLINE_EXCEEDED, "no heartbeat for two leases");
}

void talk_server_end_all(struct talk_server *s, const char *text)
{
	list_for_each_safe (t, &s->talks, struct talk, node)
		talk_end(t, GRPC_UNAVAILABLE, text);
}

struct talk_server *talk_server_new(const struct talk_server_cfg *cfg)
{
	struct talk_server *s = NEW(struct talk_server);
	s->cfg = *cfg;
	if (s->cfg.held_max == 0)
		s->cfg.held_max = TALK_HELD_MAX;
	list_init(&s->talks);
	return s;
}

void talk_server_free(struct talk_server **s)
{
	MUST(!*s || (*s)->len == 0);
	FREE(s);
}

size_t talk_server_count(const struct talk_server *s)
{
	return s->len;
}
