/* SPDX-License-Identifier: Apache-2.0 */
/* swarm_subscribe.c: delta xDS as a simulated sidecar speaks it, in place of proxy/subscribe.c: it follows addresses, acknowledges what comes and
 * remembers names and versions for the next stream, and looks at nothing else. A thousand of them share one core with each other; that weftd
 * waits for that core is no property of weftd, so this reads the few fields that it needs straight from the bytes. */
#include "proxy/subscribe.h"

#include "lib/mem.h"
#include "lib/proto/xds.pb-c.h"
#include "proxy/resource.h"
#include "tests/bench/swarm.h"

#include <stdio.h>

typedef Envoy__Service__Discovery__V3__DeltaDiscoveryRequest request_pb;
typedef Envoy__Service__Discovery__V3__StringPair pair_pb;

#define HELD_MAX 1024

struct held {
	enum resource_type type;
	char name[128], version[24];
};

struct subscribe {
	char *instance;
	void (*send)(void *ctx, struct str message);
	void *ctx;
	unsigned answered; /* a bit for each type */
	bool configured;
	struct held *held;
	size_t n_held;
	struct subscribe_counts counts;
};

/* --- protobuf, as far as it takes --- */

/* The next field; those that are not length-delimited have no bytes. False: the end, or not protobuf. */
static bool field_next(struct str *rest, unsigned *ret_field, struct str *ret_bytes)
{
	uint64_t key = 0, len = 0;
	size_t at = 0;
	for (unsigned shift = 0; at < rest->len && shift < 64; shift += 7) {
		uint8_t c = (uint8_t)rest->p[at++];
		key |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			break;
	}
	for (unsigned shift = 0; at < rest->len && shift < 64; shift += 7) {
		uint8_t c = (uint8_t)rest->p[at++];
		len |= (uint64_t)(c & 0x7f) << shift;
		if (!(c & 0x80))
			break;
	}
	if (at == 0 || ((key & 7) == 2 && len > rest->len - at))
		return false;
	*ret_field = (unsigned)(key >> 3);
	*ret_bytes = str_make(rest->p + at, (key & 7) == 2 ? len : 0);
	at += ret_bytes->len;
	*rest = str_make(rest->p + at, rest->len - at);
	return true;
}

/* --- what is held --- */

static struct held *held_find(struct subscribe *s, enum resource_type t, struct str name)
{
	for (size_t i = 0; i < s->n_held; i++)
		if (s->held[i].type == t && str_is(name, s->held[i].name))
			return &s->held[i];
	return NULL;
}

static void take_resource(struct subscribe *s, enum resource_type t, struct str bytes)
{
	struct str name = {0}, version = {0}, value;
	unsigned field;
	while (field_next(&bytes, &field, &value)) {
		if (field == 1)
			version = value;
		else if (field == 3)
			name = value;
	}
	struct held *h = held_find(s, t, name);
	if (!h) {
		MUST(s->n_held < HELD_MAX && name.len < sizeof(h->name) && version.len < sizeof(h->version));
		s->held = mem_realloc(s->held, (s->n_held + 1) * sizeof(*s->held));
		h = &s->held[s->n_held++];
		*h = (struct held){.type = t};
		memcpy(h->name, name.p, name.len);
	}
	memcpy(h->version, version.p, version.len);
	s->counts.applied++;
}

static void take_removed(struct subscribe *s, enum resource_type t, struct str name)
{
	struct held *h = held_find(s, t, name);
	if (h)
		*h = s->held[--s->n_held];
	s->counts.removed++;
}

/* --- requests --- */

static void send_request(struct subscribe *s, const request_pb *req)
{
	uint8_t bytes[16384];
	size_t len = envoy__service__discovery__v3__delta_discovery_request__get_packed_size(req);
	MUST(len <= sizeof(bytes));
	envoy__service__discovery__v3__delta_discovery_request__pack(req, bytes);
	if (s->send)
		s->send(s->ctx, str_make(bytes, len));
}

static size_t wanted(enum resource_type t, char text[][RESOURCE_ALIAS_MAX], char **ret)
{
	const char *name = resource_followed(t);
	if (!resource_on_demand(t)) {
		ret[0] = (char *)(uintptr_t)name;
		return 1;
	}
	if (name != RESOURCE_BY_ADDRESS)
		return 0;
	for (unsigned i = 0; i < swarm_n_follow; i++)
		ret[i] = (char *)(uintptr_t)resource_alias(&swarm_follow[i], text[i]);
	return swarm_n_follow;
}

/* The first request of a type: who we are, what is wanted, what is held. */
static void send_first(struct subscribe *s, enum resource_type t)
{
	char text[SWARM_FOLLOW_MAX][RESOURCE_ALIAS_MAX], *names[SWARM_FOLLOW_MAX], build[] = "swarm";
	request_pb req = ENVOY__SERVICE__DISCOVERY__V3__DELTA_DISCOVERY_REQUEST__INIT;
	Envoy__Service__Discovery__V3__Node node = ENVOY__SERVICE__DISCOVERY__V3__NODE__INIT;
	pair_pb pairs[HELD_MAX], *refs[HELD_MAX];
	node.id = s->instance;
	node.build_version = build;
	req.node = &node;
	req.type_url = (char *)(uintptr_t)resource_type_url(t);
	req.resource_names_subscribe = names;
	req.n_resource_names_subscribe = wanted(t, text, names);
	req.initial_resource_versions = refs;
	for (size_t i = 0; i < s->n_held; i++) {
		if (s->held[i].type != t)
			continue;
		pair_pb *p = refs[req.n_initial_resource_versions] = &pairs[req.n_initial_resource_versions];
		envoy__service__discovery__v3__string_pair__init(p);
		p->key = s->held[i].name;
		p->value = s->held[i].version;
		req.n_initial_resource_versions++;
	}
	if (req.n_resource_names_subscribe)
		send_request(s, &req);
	else
		s->answered |= 1u << t;
}

bool subscribe_message(struct subscribe *s, struct str message, struct err *err)
{
	struct str url = {0}, nonce = {0}, value, rest = message;
	unsigned field;
	enum resource_type t;
	char number[24], type_url[64];
	request_pb ack = ENVOY__SERVICE__DISCOVERY__V3__DELTA_DISCOVERY_REQUEST__INIT;
	while (field_next(&rest, &field, &value)) {
		if (field == 4)
			url = value;
		else if (field == 5)
			nonce = value;
	}
	if (!resource_type_parse(url, &t) || nonce.len >= sizeof(number))
		return err_set(err, ERR_PROTOCOL, "not a response that a simulated sidecar can read");
	for (rest = message; field_next(&rest, &field, &value);) {
		if (field == 2)
			take_resource(s, t, value);
		else if (field == 6)
			take_removed(s, t, value);
	}
	s->counts.responses++;
	snprintf(type_url, sizeof(type_url), STR_FMT, STR_ARG(url));
	snprintf(number, sizeof(number), STR_FMT, STR_ARG(nonce));
	ack.type_url = type_url;
	ack.response_nonce = number;
	send_request(s, &ack);
	s->answered |= 1u << t;
	if (!s->configured && s->answered == (1u << RESOURCE_COUNT) - 1 && held_find(s, RESOURCE_SELF, STR("self"))) {
		s->configured = true;
		swarm_configured(s->instance);
	}
	if (t == RESOURCE_MANIFEST || t == RESOURCE_ENDPOINTS || t == RESOURCE_WORKLOAD)
		swarm_changed(s->instance);
	return true;
}

/* --- streams --- */

struct subscribe *subscribe_new(struct loop *loop, struct config *c, const char *node_id, const char *node_cluster)
{
	struct subscribe *s = NEW(struct subscribe);
	(void)loop;
	(void)c;
	(void)node_cluster;
	s->instance = mem_strdup(node_id);
	return s;
}

void subscribe_free(struct subscribe **s)
{
	mem_free((*s)->instance);
	mem_free((*s)->held);
	FREE(s);
}

void subscribe_start(struct subscribe *s, void (*send)(void *ctx, struct str message), void *ctx)
{
	s->send = send;
	s->ctx = ctx;
	for (size_t t = 0; t < RESOURCE_COUNT; t++)
		send_first(s, (enum resource_type)t);
}

void subscribe_stop(struct subscribe *s)
{
	s->send = NULL;
}

const struct subscribe_counts *subscribe_counts(const struct subscribe *s)
{
	return &s->counts;
}
