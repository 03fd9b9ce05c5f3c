/* SPDX-License-Identifier: Apache-2.0 */
/* push_test.c: the server's side of delta xDS, by what a proxy sees of it. */
#include "control/push.h"

#include "lib/mem.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

typedef Envoy__Service__Discovery__V3__DeltaDiscoveryResponse response_pb;
typedef Envoy__Service__Discovery__V3__Node node_pb;
typedef Envoy__Service__Discovery__V3__Status status_pb;
typedef Envoy__Service__Discovery__V3__StringPair pair_pb;

#define RESPONSES_MAX 64

static uint64_t now;
static unsigned dirty_calls, nacks;
static struct push *p;

/* One proxy as the test plays it. */
struct peer {
	struct push_session *s;
	const char *id;
	response_pb *got[RESPONSES_MAX];
	size_t n, bytes;
	bool deaf;    /* send() fails */
	bool discard; /* counts, keeps nothing */
	bool ended;
	enum grpc_status status;
	char text[256];
};

static uint64_t hook_now(void *ctx)
{
	return now;
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
	dirty_calls++;
}

static char last_nack[512];
static void hook_nack(void *ctx, const char *proxy, const char *type, const char *name, const char *reason)
{
	nacks++;
	snprintf(last_nack, sizeof(last_nack), "%s %s %s %s", proxy, type, name, reason);
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
	ck_assert_uint_lt(w->n, RESPONSES_MAX);
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

static const struct push_link link_ops = {.send = peer_send, .end = peer_end};

static void peer_forget(struct peer *w)
{
	for (size_t i = 0; !w->discard && i < w->n; i++)
		envoy__service__discovery__v3__delta_discovery_response__free_unpacked(w->got[i], NULL);
	w->n = 0;
}

static void peer_open(struct peer *w, const char *id)
{
	*w = (struct peer){.id = id};
	struct push_peer who = {"spiffe://td/ns/shop/sa/orders", "shop", "orders", "10.1.0.2:4000"};
	w->s = push_open(p, &who, &link_ops, w);
}

static void peer_close(struct peer *w)
{
	peer_forget(w);
	push_close(&w->s);
}

static char url[128];
static const char *url_of(enum pushed_type t)
{
	snprintf(url, sizeof(url), "%s", pushed_type_url(t));
	return url;
}

/* Lists end with NULL; initial is name, version, name, version ... */
static void ask_url(struct peer *w, const char *type_url, const char *const *sub, const char *const *unsub,
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

#define NAMES(...) ((const char *const[]){__VA_ARGS__, NULL})

static void subscribe(struct peer *w, enum pushed_type t, const char *const *names)
{
	ask_url(w, url_of(t), names, NULL, NULL, NULL, NULL);
}

static void ack(struct peer *w, enum pushed_type t, const response_pb *m)
{
	ask_url(w, url_of(t), NULL, NULL, NULL, m->nonce, NULL);
}

static void put(enum pushed_type t, const char *name, const char *value, const char *const *aliases)
{
	size_t n = 0;
	while (aliases && aliases[n])
		n++;
	struct pushed *r = pushed_new(t, NULL, name, aliases, n, str_of(value));
	push_set(p, r);
	pushed_unref(&r);
}

static void put_self(const char *key, const char *value)
{
	struct pushed *r = pushed_new(PUSHED_SELF, key, "self", NULL, 0, str_of(value));
	push_set(p, r);
	pushed_unref(&r);
}

static const char *value_of(const response_pb *m, size_t i)
{
	static char text[64];
	const ProtobufCBinaryData *v = &m->resources[i]->resource->value;
	snprintf(text, sizeof(text), "%.*s", (int)v->len, (const char *)v->data);
	return text;
}

static bool removed(const response_pb *m, const char *name)
{
	size_t n = 0;
	for (size_t i = 0; i < m->n_removed_resources; i++)
		n += strcmp(m->removed_resources[i], name) == 0;
	ck_assert_uint_le(n, 1); /* never said twice in a response */
	return n == 1;
}

static struct peer a, b;

static void setup(void)
{
	static const struct push_hooks hooks = {
	    .now_ms = hook_now, .instance_ok = hook_instance_ok, .on_dirty = hook_dirty, .on_nack = hook_nack};
	now = 1000;
	dirty_calls = nacks = 0;
	p = push_new(&hooks, NULL);
	peer_open(&a, "orders-1");
	peer_open(&b, "orders-2");
}

static void teardown(void)
{
	peer_close(&a);
	peer_close(&b);
	ck_assert_uint_eq(push_counts(p)->subscriptions, 0);
	ck_assert_uint_eq(push_counts(p)->sessions, 0);
	push_free(&p);
}

START_TEST(address_leads_to_canonical_name_with_every_alias)
{
	put(PUSHED_SERVICE, "shop/orders", "v1", NAMES("addr:240.0.0.1", "addr:fd77::1"));
	subscribe(&a, PUSHED_SERVICE, NAMES("addr:240.0.0.1"));
	ck_assert_uint_eq(a.n, 0); /* nothing from within a request */
	ck_assert_uint_eq(dirty_calls, 1);
	push_flush(p);
	ck_assert_uint_eq(a.n, 1);
	ck_assert_str_eq(a.got[0]->type_url, "type.googleapis.com/weft.v1.Service");
	ck_assert_uint_eq(a.got[0]->n_resources, 1);
	ck_assert_str_eq(a.got[0]->resources[0]->name, "shop/orders");
	ck_assert_str_eq(a.got[0]->resources[0]->resource->type_url, "type.googleapis.com/weft.v1.Service");
	ck_assert_uint_eq(a.got[0]->resources[0]->n_aliases, 2);
	ck_assert_str_eq(a.got[0]->resources[0]->aliases[1], "addr:fd77::1");
	ck_assert_uint_eq(strlen(a.got[0]->resources[0]->version), 16);
	ck_assert_str_eq(value_of(a.got[0], 0), "v1");
	ck_assert_uint_gt(strlen(a.got[0]->nonce), 0);
	ck_assert_uint_eq(b.n, 0);
}
END_TEST

START_TEST(nothing_there_is_said_and_remembered)
{
	subscribe(&a, PUSHED_SERVICE, NAMES("addr:10.9.9.9"));
	push_flush(p);
	ck_assert_uint_eq(a.n, 1);
	ck_assert(removed(a.got[0], "addr:10.9.9.9"));
	put(PUSHED_SERVICE, "shop/late", "v1", NAMES("addr:10.9.9.9"));
	push_flush(p);
	ck_assert_uint_eq(a.n, 2);
	ck_assert_str_eq(a.got[1]->resources[0]->name, "shop/late");
	ck_assert_uint_eq(a.got[1]->n_removed_resources, 0);
}
END_TEST

START_TEST(vanished_resource_is_removed_by_every_name_asked_for)
{
	put(PUSHED_SERVICE, "shop/orders", "v1", NAMES("addr:240.0.0.1", "addr:fd77::1"));
	subscribe(&a, PUSHED_SERVICE, NAMES("addr:240.0.0.1"));
	subscribe(&b, PUSHED_SERVICE, NAMES("shop/orders", "addr:fd77::1"));
	push_flush(p);
	push_remove(p, PUSHED_SERVICE, "shop/orders");
	push_flush(p);
	ck_assert_uint_eq(a.n, 2);
	ck_assert_uint_eq(a.got[1]->n_resources, 0);
	ck_assert_uint_eq(a.got[1]->n_removed_resources, 2);
	ck_assert(removed(a.got[1], "shop/orders") && removed(a.got[1], "addr:240.0.0.1"));
	ck_assert_uint_eq(b.got[1]->n_removed_resources, 2);
	ck_assert(removed(b.got[1], "shop/orders") && removed(b.got[1], "addr:fd77::1"));
	put(PUSHED_SERVICE, "shop/orders", "v1", NAMES("addr:240.0.0.1"));
	push_flush(p);
	ck_assert_uint_eq(a.n, 3);
	ck_assert_uint_eq(b.n, 3);
}
END_TEST

START_TEST(address_that_moves_to_another_service_takes_the_old_one_away)
{
	put(PUSHED_SERVICE, "shop/old", "v1", NAMES("addr:240.0.0.1", "addr:240.0.0.9"));
	subscribe(&a, PUSHED_SERVICE, NAMES("addr:240.0.0.1"));
	push_flush(p);
	put(PUSHED_SERVICE, "shop/old", "v2", NAMES("addr:240.0.0.9"));
	put(PUSHED_SERVICE, "shop/new", "v1", NAMES("addr:240.0.0.1"));
	push_flush(p);
	ck_assert_uint_eq(a.n, 2);
	ck_assert_uint_eq(a.got[1]->n_resources, 1);
	ck_assert_str_eq(a.got[1]->resources[0]->name, "shop/new");
	ck_assert_uint_eq(a.got[1]->n_removed_resources, 1);
	ck_assert(removed(a.got[1], "shop/old"));
}
END_TEST

START_TEST(name_claimed_twice_answers_with_the_newest_then_the_older)
{
	put(PUSHED_WORKLOAD, "shop/w1", "one", NAMES("addr:10.0.0.5"));
	put(PUSHED_WORKLOAD, "shop/w2", "two", NAMES("addr:10.0.0.5"));
	subscribe(&a, PUSHED_WORKLOAD, NAMES("addr:10.0.0.5"));
	push_flush(p);
	ck_assert_str_eq(a.got[0]->resources[0]->name, "shop/w2");
	put(PUSHED_WORKLOAD, "shop/w1", "one again", NAMES("addr:10.0.0.5"));
	push_flush(p);
	ck_assert_uint_eq(a.n, 1); /* not the owner of the name */
	push_remove(p, PUSHED_WORKLOAD, "shop/w2");
	push_flush(p);
	ck_assert_str_eq(a.got[1]->resources[0]->name, "shop/w1");
	ck_assert(removed(a.got[1], "shop/w2") && !removed(a.got[1], "addr:10.0.0.5"));
}
END_TEST

START_TEST(unchanged_content_is_not_pushed)
{
	put(PUSHED_SERVICE, "shop/orders", "v1", NULL);
	subscribe(&a, PUSHED_SERVICE, NAMES("shop/orders"));
	push_flush(p);
	put(PUSHED_SERVICE, "shop/orders", "v1", NULL);
	push_flush(p);
	ck_assert_uint_eq(a.n, 1);
}
END_TEST

START_TEST(changes_of_one_turn_go_out_once_with_the_last_state)
{
	put(PUSHED_SERVICE, "shop/orders", "v1", NULL);
	subscribe(&a, PUSHED_SERVICE, NAMES("shop/orders", "shop/other"));
	push_flush(p);
	put(PUSHED_SERVICE, "shop/orders", "v2", NULL);
	put(PUSHED_SERVICE, "shop/orders", "v3", NULL);
	put(PUSHED_SERVICE, "shop/other", "x", NULL);
	push_flush(p);
	ck_assert_uint_eq(a.n, 2);
	ck_assert_uint_eq(a.got[1]->n_resources, 2);
	ck_assert_str_eq(value_of(a.got[1], 0), "v3");
	/* there and back again: nothing to say but the version that it has */
	put(PUSHED_SERVICE, "shop/brief", "x", NULL);
	push_remove(p, PUSHED_SERVICE, "shop/brief");
	push_flush(p);
	ck_assert_uint_eq(a.n, 2);
}
END_TEST

START_TEST(manifest_goes_last_in_the_turn)
{
	put(PUSHED_MANIFEST, "shop/orders", "m", NULL);
	put(PUSHED_ENDPOINTS, "shop/orders", "e", NULL);
	put(PUSHED_SERVICE, "shop/orders", "s", NULL);
	subscribe(&a, PUSHED_MANIFEST, NAMES("shop/orders"));
	subscribe(&a, PUSHED_ENDPOINTS, NAMES("shop/orders"));
	subscribe(&a, PUSHED_SERVICE, NAMES("shop/orders"));
	push_flush(p);
	ck_assert_uint_eq(a.n, 3);
	ck_assert_str_eq(a.got[0]->type_url, pushed_type_url(PUSHED_SERVICE));
	ck_assert_str_eq(a.got[1]->type_url, pushed_type_url(PUSHED_ENDPOINTS));
	ck_assert_str_eq(a.got[2]->type_url, pushed_type_url(PUSHED_MANIFEST));
}
END_TEST

START_TEST(asking_again_is_answered_again)
{
	put(PUSHED_SERVICE, "shop/orders", "v1", NAMES("addr:240.0.0.1"));
	subscribe(&a, PUSHED_SERVICE, NAMES("addr:240.0.0.1", "addr:1.1.1.1"));
	push_flush(p);
	subscribe(&a, PUSHED_SERVICE, NAMES("addr:240.0.0.1", "addr:1.1.1.1"));
	push_flush(p);
	ck_assert_uint_eq(a.n, 2);
	ck_assert_uint_eq(a.got[1]->n_resources, 1);
	ck_assert(removed(a.got[1], "addr:1.1.1.1"));
}
END_TEST

START_TEST(unsubscribed_name_is_forgotten_without_an_answer)
{
	put(PUSHED_SERVICE, "shop/orders", "v1", NAMES("addr:240.0.0.1"));
	subscribe(&a, PUSHED_SERVICE, NAMES("addr:240.0.0.1", "addr:1.1.1.1"));
	push_flush(p);
	ask_url(&a, pushed_type_url(PUSHED_SERVICE), NULL, NAMES("addr:240.0.0.1", "addr:1.1.1.1", "never"), NULL, NULL,
		NULL);
	put(PUSHED_SERVICE, "shop/orders", "v2", NAMES("addr:240.0.0.1", "addr:1.1.1.1"));
	push_flush(p);
	ck_assert_uint_eq(a.n, 1);
	ck_assert_uint_eq(push_counts(p)->subscriptions, 0);
}
END_TEST

START_TEST(mesh_answers_to_its_name_to_the_wildcard_and_to_silence)
{
	put(PUSHED_MESH, "mesh", "m1", NULL);
	subscribe(&a, PUSHED_MESH, NAMES("mesh"));
	ask_url(&b, pushed_type_url(PUSHED_MESH), NULL, NULL, NULL, NULL, NULL);
	push_flush(p);
	ck_assert_str_eq(a.got[0]->resources[0]->name, "mesh");
	ck_assert_str_eq(b.got[0]->resources[0]->name, "mesh");
	subscribe(&a, PUSHED_MESH, NAMES("*"));
	push_flush(p);
	ck_assert_uint_eq(a.n, 2);
	/* the wildcard still covers it: it is said again */
	ask_url(&a, pushed_type_url(PUSHED_MESH), NULL, NAMES("mesh"), NULL, NULL, NULL);
	push_flush(p);
	ck_assert_uint_eq(a.n, 3);
	ck_assert_uint_eq(a.got[2]->n_resources, 1);
	/* an answer with empty lists is no wildcard */
	ack(&b, PUSHED_MESH, b.got[0]);
	push_flush(p);
	ck_assert_uint_eq(b.n, 1);
}
END_TEST

START_TEST(wildcard_in_both_lists_subscribes_to_nothing)
{
	put(PUSHED_SERVICE, "shop/orders", "v1", NULL);
	put(PUSHED_MESH, "mesh", "m1", NULL);
	ask_url(&a, pushed_type_url(PUSHED_SERVICE), NAMES("*"), NAMES("*"), NULL, NULL, NULL);
	ask_url(&a, pushed_type_url(PUSHED_MESH), NAMES("*"), NAMES("*"), NULL, NULL, NULL);
	ask_url(&b, pushed_type_url(PUSHED_SERVICE), NULL, NULL, NULL, NULL, NULL);
	push_flush(p);
	ck_assert_uint_eq(a.n, 0);
	ck_assert_uint_eq(b.n, 0);
}
END_TEST

START_TEST(self_is_only_its_own)
{
	put_self("shop/orders-1", "mine");
	put_self("shop/orders-2", "yours");
	subscribe(&a, PUSHED_SELF, NAMES("self", "shop/orders-2", "?"));
	subscribe(&b, PUSHED_SELF, NAMES("self"));
	push_flush(p);
	ck_assert_uint_eq(a.n, 1);
	ck_assert_uint_eq(a.got[0]->n_resources, 1);
	ck_assert_str_eq(a.got[0]->resources[0]->name, "self");
	ck_assert_str_eq(value_of(a.got[0], 0), "mine");
	ck_assert(removed(a.got[0], "shop/orders-2") && removed(a.got[0], "?"));
	ck_assert_str_eq(value_of(b.got[0], 0), "yours");
	put_self("shop/orders-2", "yours 2");
	push_remove(p, PUSHED_SELF, "shop/orders-1");
	push_flush(p);
	ck_assert_uint_eq(a.got[1]->n_removed_resources, 1);
	ck_assert(removed(a.got[1], "self"));
	ck_assert_uint_eq(b.n, 2);
}
END_TEST

START_TEST(reconnect_gets_only_differences)
{
	put(PUSHED_SERVICE, "shop/same", "v1", NAMES("addr:240.0.0.1"));
	put(PUSHED_SERVICE, "shop/changed", "v2", NAMES("addr:240.0.0.2"));
	char same[32];
	snprintf(same, sizeof(same), "%s", push_get(p, PUSHED_SERVICE, "shop/same")->version);
	ask_url(&a, pushed_type_url(PUSHED_SERVICE), NAMES("addr:240.0.0.1", "addr:240.0.0.2", "addr:240.0.0.3"), NULL,
		NAMES("shop/same", same, "shop/changed", "0123456789abcdef", "shop/gone", "x"), NULL, NULL);
	push_flush(p);
	ck_assert_uint_eq(a.n, 1);
	ck_assert_uint_eq(a.got[0]->n_resources, 1);
	ck_assert_str_eq(a.got[0]->resources[0]->name, "shop/changed");
	ck_assert_uint_eq(a.got[0]->n_removed_resources, 2);
	ck_assert(removed(a.got[0], "shop/gone") && removed(a.got[0], "addr:240.0.0.3"));
	/* what it has counts as applied */
	struct push_progress n;
	ck_assert(push_progress(p, PUSHED_SERVICE, "shop/same", &n));
	ck_assert_uint_eq(n.holders, 1);
	ck_assert_uint_eq(n.applied, 1);
	/* asked for again later it is sent */
	subscribe(&a, PUSHED_SERVICE, NAMES("addr:240.0.0.1"));
	push_flush(p);
	ck_assert_uint_eq(a.got[1]->n_resources, 1);
}
END_TEST

START_TEST(reconnect_without_any_difference_is_silent)
{
	put(PUSHED_SERVICE, "shop/same", "v1", NAMES("addr:240.0.0.1"));
	put_self("shop/orders-1", "mine");
	char same[32], self[32];
	snprintf(same, sizeof(same), "%s", push_get(p, PUSHED_SERVICE, "shop/same")->version);
	snprintf(self, sizeof(self), "%s", push_get(p, PUSHED_SELF, "shop/orders-1")->version);
	ask_url(&a, pushed_type_url(PUSHED_SERVICE), NAMES("addr:240.0.0.1", "shop/same"), NULL,
		NAMES("shop/same", same), NULL, NULL);
	ask_url(&a, pushed_type_url(PUSHED_SELF), NAMES("self"), NULL, NAMES("self", self), NULL, NULL);
	push_flush(p);
	ck_assert_uint_eq(a.n, 0);
}
END_TEST

START_TEST(held_on_reconnect_but_not_asked_for_is_removed)
{
	put(PUSHED_SERVICE, "shop/old", "v1", NAMES("addr:240.0.0.9"));
	put(PUSHED_SERVICE, "shop/new", "v1", NAMES("addr:240.0.0.1"));
	ask_url(&a, pushed_type_url(PUSHED_SERVICE), NAMES("addr:240.0.0.1"), NULL, NAMES("shop/old", "x"), NULL, NULL);
	push_flush(p);
	ck_assert_uint_eq(a.got[0]->n_resources, 1);
	ck_assert_uint_eq(a.got[0]->n_removed_resources, 1);
	ck_assert(removed(a.got[0], "shop/old"));
}
END_TEST

START_TEST(applied_is_counted_for_each_proxy)
{
	struct push_progress n;
	put(PUSHED_SERVICE, "shop/orders", "v1", NULL);
	ck_assert(push_progress(p, PUSHED_SERVICE, "shop/orders", &n));
	ck_assert_uint_eq(n.holders, 0);
	ck_assert(!push_progress(p, PUSHED_SERVICE, "shop/none", &n));
	subscribe(&a, PUSHED_SERVICE, NAMES("shop/orders"));
	subscribe(&b, PUSHED_SERVICE, NAMES("shop/orders"));
	push_flush(p);
	ack(&a, PUSHED_SERVICE, a.got[0]);
	ck_assert(push_progress(p, PUSHED_SERVICE, "shop/orders", &n));
	ck_assert_uint_eq(n.holders, 2);
	ck_assert_uint_eq(n.applied, 1);
	/* an answer to the old version does not count for the new one */
	put(PUSHED_SERVICE, "shop/orders", "v2", NULL);
	push_flush(p);
	ack(&b, PUSHED_SERVICE, b.got[0]);
	ck_assert(push_progress(p, PUSHED_SERVICE, "shop/orders", &n));
	ck_assert_uint_eq(n.applied, 0);
	ack(&b, PUSHED_SERVICE, b.got[1]);
	ack(&a, PUSHED_SERVICE, a.got[1]);
	ck_assert(push_progress(p, PUSHED_SERVICE, "shop/orders", &n));
	ck_assert_uint_eq(n.applied, 2);
}
END_TEST

START_TEST(one_bad_of_ten_is_refused_by_name)
{
	char name[10][16];
	const char *names[11] = {0};
	for (size_t i = 0; i < 10; i++) {
		snprintf(name[i], sizeof(name[i]), "shop/s%zu", i);
		put(PUSHED_SERVICE, name[i], "v1", NULL);
		names[i] = name[i];
	}
	subscribe(&a, PUSHED_SERVICE, names);
	push_flush(p);
	ck_assert_uint_eq(a.n, 1);
	ask_url(&a, pushed_type_url(PUSHED_SERVICE), NULL, NULL, NULL, a.got[0]->nonce,
		"shop/s3: ports[0].port: 0 is not in 1 to 65535\nshop/nobody: x\nno colon here");
	ck_assert_uint_eq(nacks, 1);
	ck_assert_str_eq(last_nack, "shop/orders-1 Service shop/s3 ports[0].port: 0 is not in 1 to 65535");
	struct push_progress n;
	size_t applied = 0, refused = 0;
	for (size_t i = 0; i < 10; i++) {
		ck_assert(push_progress(p, PUSHED_SERVICE, names[i], &n));
		applied += n.applied;
		refused += n.refused;
	}
	ck_assert_uint_eq(applied, 9);
	ck_assert_uint_eq(refused, 1);
	/* the refused version is not sent over and over; the next one is, and clears the refusal */
	push_flush(p);
	ck_assert_uint_eq(a.n, 1);
	put(PUSHED_SERVICE, "shop/s3", "v2", NULL);
	push_flush(p);
	ack(&a, PUSHED_SERVICE, a.got[1]);
	ck_assert(push_progress(p, PUSHED_SERVICE, "shop/s3", &n));
	ck_assert_uint_eq(n.refused, 0);
	ck_assert_uint_eq(n.applied, 1);
}
END_TEST

START_TEST(refusal_without_names_refuses_the_whole_response)
{
	put(PUSHED_SERVICE, "shop/a", "v1", NULL);
	put(PUSHED_SERVICE, "shop/b", "v1", NULL);
	subscribe(&a, PUSHED_SERVICE, NAMES("shop/a", "shop/b"));
	push_flush(p);
	ask_url(&a, pushed_type_url(PUSHED_SERVICE), NULL, NULL, NULL, a.got[0]->nonce, "out of\tmemory \xff here");
	ck_assert_uint_eq(nacks, 2);
	ck_assert_ptr_nonnull(strstr(last_nack, "out of?memory ? here"));
}
END_TEST

START_TEST(refusal_of_self_goes_by_its_wire_name)
{
	put_self("shop/orders-1", "mine");
	subscribe(&a, PUSHED_SELF, NAMES("self"));
	push_flush(p);
	ask_url(&a, pushed_type_url(PUSHED_SELF), NULL, NULL, NULL, a.got[0]->nonce, "self: bad port");
	ck_assert_str_eq(last_nack, "shop/orders-1 Self self bad port");
}
END_TEST

START_TEST(strange_answers_change_nothing)
{
	put(PUSHED_SERVICE, "shop/a", "v1", NULL);
	subscribe(&a, PUSHED_SERVICE, NAMES("shop/a"));
	push_flush(p);
	static const char *const odd[] = {"0", "2", "99999999999999999999", "-1", "abc", "1 "};
	for (size_t i = 0; i < ARRAY_LEN(odd); i++)
		ask_url(&a, pushed_type_url(PUSHED_SERVICE), NULL, NULL, NULL, odd[i], NULL);
	struct push_progress n;
	ck_assert(push_progress(p, PUSHED_SERVICE, "shop/a", &n));
	ck_assert_uint_eq(n.applied, 0);
	ck_assert(!a.ended);
	/* subscription changes count, whatever the nonce is */
	ask_url(&a, pushed_type_url(PUSHED_SERVICE), NAMES("shop/b"), NULL, NULL, "77", NULL);
	push_flush(p);
	ck_assert(removed(a.got[1], "shop/b"));
	/* twice the same answer */
	ack(&a, PUSHED_SERVICE, a.got[0]);
	ask_url(&a, pushed_type_url(PUSHED_SERVICE), NULL, NULL, NULL, a.got[0]->nonce, "shop/a: late");
	ck_assert_uint_eq(nacks, 0);
}
END_TEST

START_TEST(unsubscribed_in_flight_then_answered)
{
	put(PUSHED_SERVICE, "shop/a", "v1", NULL);
	subscribe(&a, PUSHED_SERVICE, NAMES("shop/a"));
	push_flush(p);
	ask_url(&a, pushed_type_url(PUSHED_SERVICE), NULL, NAMES("shop/a"), NULL, a.got[0]->nonce, "shop/a: no");
	ask_url(&a, pushed_type_url(PUSHED_SERVICE), NULL, NULL, NULL, a.got[0]->nonce, NULL);
	push_flush(p);
	ck_assert_uint_eq(a.n, 1);
}
END_TEST

START_TEST(type_of_a_later_version_is_answered_with_nothing_there)
{
	ask_url(&a, "type.googleapis.com/weft.v1.Hologram", NAMES("shop/x"), NULL, NULL, NULL, NULL);
	ck_assert_uint_eq(a.n, 1);
	ck_assert(!a.ended);
	ck_assert_str_eq(a.got[0]->type_url, "type.googleapis.com/weft.v1.Hologram");
	ck_assert(removed(a.got[0], "shop/x"));
	ask_url(&a, "type.googleapis.com/weft.v1.Hologram", NULL, NULL, NULL, a.got[0]->nonce, NULL);
	ck_assert(!a.ended);
}
END_TEST

START_TEST(stream_is_bound_to_an_instance_of_its_account)
{
	struct peer w;
	peer_open(&w, "stranger");
	subscribe(&w, PUSHED_SERVICE, NAMES("shop/a"));
	ck_assert(w.ended);
	ck_assert_int_eq(w.status, GRPC_PERMISSION_DENIED);
	ck_assert_ptr_nonnull(strstr(w.text, "stranger"));
	peer_open(&w, "../etc");
	subscribe(&w, PUSHED_SERVICE, NAMES("shop/a"));
	ck_assert_int_eq(w.status, GRPC_INVALID_ARGUMENT);
	peer_open(&w, "");
	subscribe(&w, PUSHED_SERVICE, NAMES("shop/a"));
	ck_assert_int_eq(w.status, GRPC_INVALID_ARGUMENT);
	peer_open(&w, "orders-1");
	subscribe(&w, PUSHED_SERVICE, NAMES("shop/a"));
	w.id = "orders-2";
	subscribe(&w, PUSHED_SERVICE, NAMES("shop/a"));
	ck_assert_int_eq(w.status, GRPC_INVALID_ARGUMENT);
	w.id = "orders-1";
}
END_TEST

START_TEST(bad_names_end_the_stream)
{
	char longest[PUSHED_NAME_MAX + 2];
	memset(longest, 'a', sizeof(longest));
	longest[PUSHED_NAME_MAX + 1] = 0;
	const char *bad[] = {"", longest, "a b", "x\x01y", "\x7f"};
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		struct peer w;
		peer_open(&w, "orders-1");
		subscribe(&w, PUSHED_SERVICE, NAMES("fine", bad[i]));
		ck_assert(w.ended);
		ck_assert_int_eq(w.status, GRPC_INVALID_ARGUMENT);
		peer_open(&w, "orders-1");
		ask_url(&w, pushed_type_url(PUSHED_SERVICE), NULL, NULL, NAMES(bad[i], "v"), NULL, NULL);
		ck_assert(w.ended);
	}
	longest[PUSHED_NAME_MAX] = 0;
	subscribe(&a, PUSHED_SERVICE, NAMES(longest));
	ck_assert(!a.ended);
}
END_TEST

static char **many_names(size_t n)
{
	char **names = mem_zalloc((n + 1) * sizeof(*names));
	for (size_t i = 0; i < n; i++)
		names[i] = mem_printf("shop/s%05zu", i);
	return names;
}

static void many_done(char **names)
{
	for (size_t i = 0; names[i]; i++)
		mem_free(names[i]);
	mem_free(names);
}

START_TEST(subscriptions_are_capped)
{
	char **names = many_names(PUSH_NAMES_MAX);
	subscribe(&a, PUSHED_SERVICE, (const char *const *)names);
	subscribe(&a, PUSHED_ENDPOINTS, (const char *const *)names); /* each type has its own */
	subscribe(&a, PUSHED_SERVICE, (const char *const *)names);   /* the same once more are no more */
	ck_assert(!a.ended);
	subscribe(&a, PUSHED_SERVICE, NAMES("one/more"));
	ck_assert(a.ended);
	ck_assert_int_eq(a.status, GRPC_RESOURCE_EXHAUSTED);
	ck_assert_uint_eq(push_counts(p)->subscriptions, 0);
	many_done(names);
}
END_TEST

static void put_big(const char *name, char fill)
{
	char *value = mem_alloc(100001);
	memset(value, fill, 100000);
	value[100000] = 0;
	put(PUSHED_ENDPOINTS, name, value, NULL);
	mem_free(value);
}

START_TEST(slow_reader_holds_up_nobody_and_costs_a_window)
{
	char **names = many_names(200);
	for (size_t i = 0; i < 200; i++)
		put_big(names[i], 'a'); /* 20 MB in all */
	a.discard = true;
	subscribe(&a, PUSHED_ENDPOINTS, (const char *const *)names);
	subscribe(&b, PUSHED_ENDPOINTS, NAMES("shop/s00000"));
	push_flush(p);
	ck_assert_uint_ge(a.bytes, PUSH_WINDOW);
	ck_assert_uint_lt(a.bytes, PUSH_WINDOW + PUSH_RESPONSE);
	ck_assert_uint_eq(b.n, 1);
	/* what changes meanwhile is sent once, in its last state */
	size_t before = a.bytes;
	for (int round = 0; round < 50; round++) {
		put_big("shop/s00199", (char)('b' + round % 20));
		push_flush(p);
	}
	ck_assert_uint_eq(a.bytes, before);
	ck_assert_uint_eq(b.n, 1);
	/* each answer lets more through, until all is there */
	char nonce[24];
	for (uint64_t i = 1; i <= a.n; i++) {
		snprintf(nonce, sizeof(nonce), "%llu", (unsigned long long)i);
		ask_url(&a, pushed_type_url(PUSHED_ENDPOINTS), NULL, NULL, NULL, nonce, NULL);
		push_flush(p);
	}
	ck_assert_uint_eq(push_counts(p)->resources, 201);
	struct push_progress n;
	for (size_t i = 0; i < 200; i++) {
		ck_assert(push_progress(p, PUSHED_ENDPOINTS, names[i], &n));
		ck_assert_uint_ge(n.applied, 1);
	}
	many_done(names);
}
END_TEST

START_TEST(change_for_many_goes_out_a_slice_at_a_time_once_to_each)
{
	enum { MANY = 3 * PUSH_TURN_SESSIONS + 1 };
	static struct peer many[MANY];
	static char ids[MANY][16];
	put(PUSHED_SERVICE, "shop/orders", "v1", NULL);
	for (size_t i = 0; i < MANY; i++) {
		snprintf(ids[i], sizeof(ids[i]), "many-%zu", i);
		peer_open(&many[i], ids[i]);
		subscribe(&many[i], PUSHED_SERVICE, NAMES("shop/orders"));
	}
	for (unsigned slice = 0; slice < 3; slice++)
		ck_assert(push_flush(p));
	ck_assert_uint_eq(push_counts(p)->responses, 3 * PUSH_TURN_SESSIONS);
	/* who came last is not overtaken by who changes all the time */
	put(PUSHED_SERVICE, "shop/orders", "v2", NULL);
	ck_assert(push_flush(p));
	ck_assert_uint_eq(many[MANY - 1].n, 1);
	ck_assert_str_eq(value_of(many[MANY - 1].got[0], 0), "v2");
	while (push_flush(p))
		;
	for (size_t i = 0; i < MANY; i++) {
		ck_assert_uint_eq(many[i].n, i < MANY - 1 ? 2 : 1);
		ck_assert_str_eq(value_of(many[i].got[many[i].n - 1], 0), "v2");
		peer_close(&many[i]);
	}
}
END_TEST

START_TEST(reconnect_that_waits_for_its_slice_is_still_sent_nothing_that_it_holds)
{
	put(PUSHED_SERVICE, "shop/orders", "v1", NULL);
	const char *version = push_get(p, PUSHED_SERVICE, "shop/orders")->version;
	enum { MANY = PUSH_TURN_SESSIONS + 1 };
	static struct peer many[MANY];
	static char ids[MANY][16];
	for (size_t i = 0; i < MANY; i++) {
		snprintf(ids[i], sizeof(ids[i]), "many-%zu", i);
		peer_open(&many[i], ids[i]);
		ask_url(&many[i], url_of(PUSHED_SERVICE), NAMES("shop/orders"), NULL, NAMES("shop/orders", version),
			NULL, NULL);
	}
	ck_assert(push_flush(p));
	ck_assert(!push_flush(p));
	ck_assert_uint_eq(push_counts(p)->bytes, 0);
	struct push_progress n;
	ck_assert(push_progress(p, PUSHED_SERVICE, "shop/orders", &n));
	ck_assert_uint_eq(n.applied, MANY);
	for (size_t i = 0; i < MANY; i++)
		peer_close(&many[i]);
}
END_TEST

START_TEST(who_does_not_answer_is_cut_after_a_while)
{
	char **names = many_names(30);
	for (size_t i = 0; i < 30; i++)
		put_big(names[i], 'a');
	a.discard = true;
	subscribe(&a, PUSHED_ENDPOINTS, (const char *const *)names);
	subscribe(&b, PUSHED_ENDPOINTS, NAMES("shop/s00000")); /* silent too, but holds nothing up */
	push_flush(p);
	now += PUSH_STALL_MS - 1;
	push_tick(p);
	ck_assert(!a.ended);
	now += 1;
	push_tick(p);
	ck_assert(a.ended);
	ck_assert_int_eq(a.status, GRPC_RESOURCE_EXHAUSTED);
	ck_assert(!b.ended);
	many_done(names);
}
END_TEST

START_TEST(who_does_not_say_who_it_is_is_cut_after_a_while)
{
	subscribe(&b, PUSHED_SERVICE, NAMES("shop/orders"));
	now += PUSH_NAME_MS - 1;
	push_tick(p);
	ck_assert(!a.ended);
	now++;
	push_tick(p);
	ck_assert(a.ended && a.status == GRPC_DEADLINE_EXCEEDED && !b.ended);
}
END_TEST

START_TEST(streams_are_capped_in_all)
{
	struct push_peer who = {"spiffe://td/ns/shop/sa/orders", "shop", "orders", "10.1.0.2:4000"};
	static struct push_session *many[PUSH_STREAMS_MAX - 2];
	for (size_t i = 0; i < ARRAY_LEN(many); i++) {
		many[i] = push_open(p, &who, &link_ops, NULL);
		ck_assert_ptr_nonnull(many[i]);
	}
	ck_assert_ptr_null(push_open(p, &who, &link_ops, NULL));
	push_close(&many[0]);
	many[0] = push_open(p, &who, &link_ops, NULL);
	ck_assert_ptr_nonnull(many[0]);
	for (size_t i = 0; i < ARRAY_LEN(many); i++)
		push_close(&many[i]);
}
END_TEST

START_TEST(who_does_not_read_is_cut_at_once)
{
	put(PUSHED_SERVICE, "shop/a", "v1", NULL);
	subscribe(&a, PUSHED_SERVICE, NAMES("shop/a"));
	subscribe(&a, PUSHED_MANIFEST, NAMES("shop/a"));
	subscribe(&b, PUSHED_SERVICE, NAMES("shop/a"));
	a.deaf = true;
	push_flush(p);
	ck_assert(a.ended);
	ck_assert_uint_eq(b.n, 1);
}
END_TEST

START_TEST(streams_of_one_instance_are_capped)
{
	struct peer w[PUSH_SESSIONS_MAX + 1];
	for (size_t i = 0; i <= PUSH_SESSIONS_MAX; i++) {
		peer_open(&w[i], "orders-7");
		subscribe(&w[i], PUSHED_SERVICE, NAMES("shop/a"));
	}
	ck_assert(w[0].ended);
	ck_assert_int_eq(w[0].status, GRPC_ABORTED);
	for (size_t i = 1; i <= PUSH_SESSIONS_MAX; i++) {
		ck_assert(!w[i].ended);
		peer_close(&w[i]);
	}
}
END_TEST

START_TEST(status_says_who_has_what)
{
	put(PUSHED_SERVICE, "shop/orders", "v1", NULL);
	subscribe(&a, PUSHED_SERVICE, NAMES("shop/orders"));
	subscribe(&b, PUSHED_SERVICE, NAMES("shop/orders"));
	push_flush(p);
	ack(&a, PUSHED_SERVICE, a.got[0]);
	ask_url(&b, pushed_type_url(PUSHED_SERVICE), NULL, NULL, NULL, b.got[0]->nonce, "shop/orders: bad \"port\"");
	json_t *o = push_status(p);
	json_t *r = json_array_get(json_object_get(o, "resources"), 0);
	ck_assert_str_eq(json_string_value(json_object_get(r, "summary")),
			 "applied by 1 of 2, refused by 1: bad \"port\"");
	ck_assert_str_eq(json_string_value(json_object_get(r, "name")), "shop/orders");
	json_t *why = json_array_get(json_object_get(r, "refusals"), 0);
	ck_assert_str_eq(json_string_value(json_object_get(why, "proxy")), "shop/orders-2");
	ck_assert_uint_eq(json_array_size(json_object_get(o, "proxies")), 2);
	json_decref(o);
}
END_TEST

/* Random requests and changes; what the peer knows at the end must be what is there, and nothing may be left over. */
START_TEST(any_order_of_events_ends_in_the_truth)
{
	srand(7);
	static const char *const names[] = {"shop/a",       "shop/b",       "shop/c",
					    "addr:1.0.0.1", "addr:1.0.0.2", "addr:1.0.0.3"};
	static const char *const values[] = {"v1", "v2", "v3"};
	const char *has[3] = {NULL, NULL, NULL}; /* what the peer believes of shop/a .. shop/c */
	char versions[3][32];
	bool subscribed[6] = {false};
	for (int round = 0; round < 4000; round++) {
		int i = rand() % 6, k = rand() % 3;
		switch (rand() % 6) {
		case 0:
		case 1:
			put(PUSHED_SERVICE, names[k], values[rand() % 3], NAMES(names[3 + rand() % 3]));
			break;
		case 2:
			push_remove(p, PUSHED_SERVICE, names[k]);
			break;
		case 3:
			subscribe(&a, PUSHED_SERVICE, NAMES(names[i]));
			subscribed[i] = true;
			break;
		case 4:
			push_flush(p); /* so that unsubscribing forgets what the peer has */
			break;
		case 5:
			ask_url(&a, pushed_type_url(PUSHED_SERVICE), NULL, NAMES(names[i]), NULL, NULL, NULL);
			subscribed[i] = false;
			break;
		}
		if (rand() % 2)
			continue;
		push_flush(p);
		for (size_t m = 0; m < a.n; m++) {
			for (size_t j = 0; j < a.got[m]->n_removed_resources; j++)
				for (int n = 0; n < 3; n++)
					if (strcmp(a.got[m]->removed_resources[j], names[n]) == 0)
						has[n] = NULL;
			for (size_t j = 0; j < a.got[m]->n_resources; j++)
				for (int n = 0; n < 3; n++)
					if (strcmp(a.got[m]->resources[j]->name, names[n]) == 0) {
						snprintf(versions[n], sizeof(versions[n]), "%s",
							 a.got[m]->resources[j]->version);
						has[n] = versions[n];
					}
			ack(&a, PUSHED_SERVICE, a.got[m]);
		}
		peer_forget(&a);
		for (int n = 0; n < 3; n++)
			if (subscribed[n]) {
				const struct pushed *r = push_get(p, PUSHED_SERVICE, names[n]);
				ck_assert_msg(!r == !has[n], "round %d: %s is %s", round, names[n],
					      r ? "missing" : "left");
				if (r)
					ck_assert_str_eq(has[n], r->version);
			}
	}
}
END_TEST

Suite *push_suite(void);
Suite *push_suite(void)
{
	Suite *s = suite_create("push");
	TCase *c = tcase_create("push");
	tcase_add_checked_fixture(c, setup, teardown);
	tcase_set_timeout(c, 60);
	tcase_add_test(c, address_leads_to_canonical_name_with_every_alias);
	tcase_add_test(c, nothing_there_is_said_and_remembered);
	tcase_add_test(c, vanished_resource_is_removed_by_every_name_asked_for);
	tcase_add_test(c, address_that_moves_to_another_service_takes_the_old_one_away);
	tcase_add_test(c, name_claimed_twice_answers_with_the_newest_then_the_older);
	tcase_add_test(c, unchanged_content_is_not_pushed);
	tcase_add_test(c, changes_of_one_turn_go_out_once_with_the_last_state);
	tcase_add_test(c, manifest_goes_last_in_the_turn);
	tcase_add_test(c, asking_again_is_answered_again);
	tcase_add_test(c, unsubscribed_name_is_forgotten_without_an_answer);
	tcase_add_test(c, mesh_answers_to_its_name_to_the_wildcard_and_to_silence);
	tcase_add_test(c, wildcard_in_both_lists_subscribes_to_nothing);
	tcase_add_test(c, self_is_only_its_own);
	tcase_add_test(c, reconnect_gets_only_differences);
	tcase_add_test(c, reconnect_without_any_difference_is_silent);
	tcase_add_test(c, held_on_reconnect_but_not_asked_for_is_removed);
	tcase_add_test(c, applied_is_counted_for_each_proxy);
	tcase_add_test(c, one_bad_of_ten_is_refused_by_name);
	tcase_add_test(c, refusal_without_names_refuses_the_whole_response);
	tcase_add_test(c, refusal_of_self_goes_by_its_wire_name);
	tcase_add_test(c, strange_answers_change_nothing);
	tcase_add_test(c, unsubscribed_in_flight_then_answered);
	tcase_add_test(c, type_of_a_later_version_is_answered_with_nothing_there);
	tcase_add_test(c, stream_is_bound_to_an_instance_of_its_account);
	tcase_add_test(c, bad_names_end_the_stream);
	tcase_add_test(c, subscriptions_are_capped);
	tcase_add_test(c, slow_reader_holds_up_nobody_and_costs_a_window);
	tcase_add_test(c, change_for_many_goes_out_a_slice_at_a_time_once_to_each);
	tcase_add_test(c, reconnect_that_waits_for_its_slice_is_still_sent_nothing_that_it_holds);
	tcase_add_test(c, who_does_not_answer_is_cut_after_a_while);
	tcase_add_test(c, who_does_not_say_who_it_is_is_cut_after_a_while);
	tcase_add_test(c, streams_are_capped_in_all);
	tcase_add_test(c, who_does_not_read_is_cut_at_once);
	tcase_add_test(c, streams_of_one_instance_are_capped);
	tcase_add_test(c, status_says_who_has_what);
	tcase_add_test(c, any_order_of_events_ends_in_the_truth);
	suite_add_tcase(s, c);
	return s;
}
