/* SPDX-License-Identifier: Apache-2.0 */
/* push_peer.c: see push_peer.h. */
#include "tests/unit/control/push_peer.h"

#include <stdio.h>

typedef Envoy__Service__Discovery__V3__Node node_pb;
typedef Envoy__Service__Discovery__V3__Status status_pb;
typedef Envoy__Service__Discovery__V3__StringPair pair_pb;

uint64_t peer_now;
unsigned peer_dirty_calls, peer_nacks;
char peer_last_nack[512];
struct push *peer_push;
struct peer peer_a, peer_b;

static uint64_t hook_now(void *ctx)
{
	return peer_now;
}

static bool hook_instance_ok(void *ctx, const char *ns, const char *sa, const char *instance, struct err *err)
{
	if (strcmp(instance, "stranger") == 0)
		return err_set(err, ERR_DENIED, "instance %s/%s was not issued to service account %s", ns, instance,
			       sa);
	return true;
}

static void hook_dirty(void *ctx)
{
	peer_dirty_calls++;
}

static void hook_nack(void *ctx, const char *proxy, const char *type, const char *name, const char *reason)
{
	peer_nacks++;
	snprintf(peer_last_nack, sizeof(peer_last_nack), "%s %s %s %s", proxy, type, name, reason);
}

static bool peer_send(void *ctx, struct str message)
{
	struct peer *w = ctx;
	if (w->deaf)
		return false;
	w->bytes += message.len;
	if (w->discard) {
		w->n++;
		return true;
	}
	ck_assert_uint_lt(w->n, PEER_RESPONSES_MAX);
	response_pb *m = envoy__service__discovery__v3__delta_discovery_response__unpack(NULL, message.len,
											 (const uint8_t *)message.p);
	ck_assert_ptr_nonnull(m);
	w->got[w->n++] = m;
	return true;
}

static void peer_end(void *ctx, enum grpc_status status, const char *text)
{
	struct peer *w = ctx;
	w->ended = true;
	w->status = status;
	snprintf(w->text, sizeof(w->text), "%s", text);
	push_close(&w->s);
}

const struct push_link peer_link = {.send = peer_send, .end = peer_end};

void peer_forget(struct peer *w)
{
	for (size_t i = 0; !w->discard && i < w->n; i++)
		envoy__service__discovery__v3__delta_discovery_response__free_unpacked(w->got[i], NULL);
	w->n = 0;
}

void peer_open(struct peer *w, const char *id)
{
	*w = (struct peer){.id = id};
	struct push_peer who = {"spiffe://td/ns/shop/sa/orders", "shop", "orders", "10.1.0.2:4000"};
	w->s = push_open(peer_push, &who, &peer_link, w);
}

void peer_close(struct peer *w)
{
	peer_forget(w);
	push_close(&w->s);
}

void peer_ask(struct peer *w, const char *type_url, const char *const *sub, const char *const *unsub,
	      const char *const *initial, const char *nonce, const char *refusal)
{
	static const char *none[] = {NULL};
	push_request_pb m = ENVOY__SERVICE__DISCOVERY__V3__DELTA_DISCOVERY_REQUEST__INIT;
	node_pb node = ENVOY__SERVICE__DISCOVERY__V3__NODE__INIT;
	node.id = (char *)w->id;
	node.build_version = (char *)"weft-proxy 0.1.0";
	status_pb detail = ENVOY__SERVICE__DISCOVERY__V3__STATUS__INIT;
	pair_pb pairs[16], *pairs_at[16];
	m.node = &node;
	m.type_url = (char *)type_url;
	for (sub = sub ? sub : none; sub[m.n_resource_names_subscribe]; m.n_resource_names_subscribe++)
		;
	m.resource_names_subscribe = (char **)sub;
	for (unsub = unsub ? unsub : none; unsub[m.n_resource_names_unsubscribe]; m.n_resource_names_unsubscribe++)
		;
	m.resource_names_unsubscribe = (char **)unsub;
	for (initial = initial ? initial : none; initial[0]; initial += 2) {
		pair_pb *at = &pairs[m.n_initial_resource_versions];
		*at = (pair_pb)ENVOY__SERVICE__DISCOVERY__V3__STRING_PAIR__INIT;
		at->key = (char *)initial[0];
		at->value = (char *)initial[1];
		pairs_at[m.n_initial_resource_versions++] = at;
	}
	m.initial_resource_versions = pairs_at;
	if (nonce)
		m.response_nonce = (char *)nonce;
	if (refusal) {
		detail.code = 3;
		detail.message = (char *)refusal;
		m.error_detail = &detail;
	}
	push_request(w->s, &m);
}

void peer_subscribe(struct peer *w, enum pushed_type t, const char *const *names)
{
	peer_ask(w, pushed_type_url(t), names, NULL, NULL, NULL, NULL);
}

void peer_ack(struct peer *w, enum pushed_type t, const response_pb *m)
{
	peer_ask(w, pushed_type_url(t), NULL, NULL, NULL, m->nonce, NULL);
}

void push_put(enum pushed_type t, const char *name, const char *value, const char *const *aliases)
{
	size_t n = 0;
	while (aliases && aliases[n])
		n++;
	struct pushed *r = pushed_new(t, NULL, name, aliases, n, str_of(value));
	push_set(peer_push, r);
	pushed_unref(&r);
}

void push_put_self(const char *key, const char *value)
{
	struct pushed *r = pushed_new(PUSHED_SELF, key, "self", NULL, 0, str_of(value));
	push_set(peer_push, r);
	pushed_unref(&r);
}

const char *peer_value(const response_pb *m, size_t i)
{
	static char text[64];
	const ProtobufCBinaryData *v = &m->resources[i]->resource->value;
	snprintf(text, sizeof(text), "%.*s", (int)v->len, (const char *)v->data);
	return text;
}

bool peer_removed(const response_pb *m, const char *name)
{
	size_t n = 0;
	for (size_t i = 0; i < m->n_removed_resources; i++)
		n += strcmp(m->removed_resources[i], name) == 0;
	ck_assert_uint_le(n, 1); /* never said twice in a response */
	return n == 1;
}

void peer_setup(void)
{
	static const struct push_hooks hooks = {
	    .now_ms = hook_now, .instance_ok = hook_instance_ok, .on_dirty = hook_dirty, .on_nack = hook_nack};
	peer_now = 1000;
	peer_dirty_calls = peer_nacks = 0;
	peer_push = push_new(&hooks, NULL);
	peer_open(&peer_a, "orders-1");
	peer_open(&peer_b, "orders-2");
}

void peer_teardown(void)
{
	peer_close(&peer_a);
	peer_close(&peer_b);
	ck_assert_uint_eq(push_counts(peer_push)->subscriptions, 0);
	ck_assert_uint_eq(push_counts(peer_push)->sessions, 0);
	push_free(&peer_push);
}
