/* SPDX-License-Identifier: Apache-2.0 */
/* subscribe.c: delta xDS, client's side. Addresses to (un)follow collect until the end of the turn and go out as one request
 * a type. Names are "addr:IP"; what comes back bears its canonical name. Versions are those of what is held: a refused
 * resource has none, so that a reconnect brings it again. */
#include "proxy/subscribe.h"

#include "lib/buf.h"
#include "lib/event.h"
#include "lib/mem.h"
#include "lib/proto/xds.pb-c.h"
#include "lib/proto_arena.h"
#include "proxy/config_build.h"

#define UNPACKED_MAX (48u << 20) /* bytes while a response is read: the longest gRPC message, unpacked */

typedef Envoy__Service__Discovery__V3__DeltaDiscoveryRequest request_pb;
typedef Envoy__Service__Discovery__V3__DeltaDiscoveryResponse response_pb;
typedef Envoy__Service__Discovery__V3__Resource resource_pb;
typedef Envoy__Service__Discovery__V3__StringPair pair_pb;

struct ips { /* addresses waiting to be sent; bounded by CONFIG_NAMES_MAX, as config.c follows no more */
	struct ip *v;
	size_t len, cap;
};

struct names { /* the same of one type by name; bounded by CONFIG_LISTED_MAX */
	char **v;
	size_t len, cap;
};

struct subscribe {
	struct loop *loop;
	struct config *config;
	char *node_id, *node_cluster;
	void (*send)(void *ctx, struct str message); /* NULL: no stream */
	void *send_ctx;
	bool first_sent
	    [RESOURCE_COUNT]; /* on this stream: the first request of a type says who we are and what is held */
	struct ips follow, unfollow;
	struct names follow_names[RESOURCE_COUNT], unfollow_names[RESOURCE_COUNT];
	struct task flush;
	struct subscribe_counts counts;
};

/* --- lists --- */

static void ips_add(struct ips *l, const struct ip *ip)
{
	if (l->len == l->cap) {
		l->cap = l->cap ? 2 * l->cap : 8;
		l->v = mem_realloc(l->v, l->cap * sizeof(*l->v));
	}
	l->v[l->len++] = *ip;
}

static void ips_del(struct ips *l, const struct ip *ip)
{
	for (size_t i = 0; i < l->len; i++)
		if (ip_eq(&l->v[i], ip)) {
			l->v[i] = l->v[--l->len];
			return;
		}
}

static void ips_clear(struct ips *l)
{
	mem_free(l->v);
	*l = (struct ips){0};
}

static void names_add(struct names *l, const char *name)
{
	if (l->len == l->cap) {
		l->cap = l->cap ? 2 * l->cap : 8;
		l->v = mem_realloc(l->v, l->cap * sizeof(*l->v));
	}
	l->v[l->len++] = mem_strdup(name);
}

static void names_del(struct names *l, const char *name)
{
	for (size_t i = 0; i < l->len; i++)
		if (strcmp(l->v[i], name) == 0) {
			mem_free(l->v[i]);
			l->v[i] = l->v[--l->len];
			return;
		}
}

static void names_clear(struct names *l)
{
	for (size_t i = 0; i < l->len; i++)
		mem_free(l->v[i]);
	mem_free(l->v);
	*l = (struct names){0};
}

/* --- requests --- */

static void send_request(struct subscribe *s, request_pb *req)
{
	if (!s->send)
		return; /* the stream ended while this was put together */
	size_t len = envoy__service__discovery__v3__delta_discovery_request__get_packed_size(req);
	uint8_t *bytes = mem_alloc(len + 1);
	envoy__service__discovery__v3__delta_discovery_request__pack(req, bytes);
	s->send(s->send_ctx, str_make(bytes, len));
	mem_free(bytes);
}

struct versions { /* of one type, while the first request is made */
	enum resource_type type;
	pair_pb *pairs, **refs;
	size_t len, cap;
};

static void versions_add(void *ctx, const struct resource *r)
{
	struct versions *v = ctx;
	if (r->type != v->type)
		return;
	if (v->len == v->cap) {
		v->cap = v->cap ? 2 * v->cap : 16;
		v->pairs = mem_realloc(v->pairs, v->cap * sizeof(*v->pairs));
	}
	pair_pb *p = &v->pairs[v->len++];
	envoy__service__discovery__v3__string_pair__init(p);
	p->key = (char *)(uintptr_t)r->name;
	p->value = (char *)(uintptr_t)r->version;
}

/* Sends a request of this type; the first on a stream also says who we are and which versions are held. */
static void send_typed(struct subscribe *s, enum resource_type t, request_pb *req)
{
	Envoy__Service__Discovery__V3__Node node = ENVOY__SERVICE__DISCOVERY__V3__NODE__INIT;
	struct versions held = {.type = t};
	char build[] = "weft-proxy " WEFT_VERSION;

	req->type_url = (char *)(uintptr_t)resource_type_url(t);
	if (!s->first_sent[t]) {
		s->first_sent[t] = true;
		node.id = s->node_id;
		node.cluster = s->node_cluster;
		node.build_version = build;
		req->node = &node;
		config_each_resource(s->config, versions_add, &held);
		held.refs = mem_alloc((held.len + 1) * sizeof(*held.refs));
		for (size_t i = 0; i < held.len; i++)
			held.refs[i] = &held.pairs[i];
		req->initial_resource_versions = held.refs;
		req->n_initial_resource_versions = held.len;
	}
	send_request(s, req);
	mem_free(held.refs);
	mem_free(held.pairs);
}

/* "addr:IP" of each address: one allocation for the array, one for the text; both mem_free. */
static char **alias_names(const struct ips *l, char **ret_text)
{
	char **v = mem_alloc((l->len + 1) * sizeof(*v));
	char *text = *ret_text = mem_alloc(l->len * RESOURCE_ALIAS_MAX + 1);
	for (size_t i = 0; i < l->len; i++, text += RESOURCE_ALIAS_MAX)
		v[i] = (char *)(uintptr_t)resource_alias(&l->v[i], text);
	return v;
}

/* Aliases of the types that are followed by address, then names; array and text by mem_free. */
static char **all_names(enum resource_type t, const struct ips *ips, const struct names *names, size_t *ret_n,
			char **ret_text)
{
	static const struct ips none;
	bool by_address = resource_followed(t) == RESOURCE_BY_ADDRESS;
	const struct ips *l = by_address ? ips : &none;
	char **v = alias_names(l, ret_text);
	v = mem_realloc(v, (l->len + names->len + 1) * sizeof(*v));
	for (size_t i = 0; i < names->len; i++)
		v[l->len + i] = names->v[i];
	*ret_n = l->len + names->len;
	return v;
}

/* Says to each type what is (no longer) wanted of it, by address and by name, in one request. Forgets what it said. */
static void send_wanted(struct subscribe *s)
{
	for (size_t i = 0; i < RESOURCE_COUNT; i++) {
		enum resource_type t = (enum resource_type)i;
		request_pb req = ENVOY__SERVICE__DISCOVERY__V3__DELTA_DISCOVERY_REQUEST__INIT;
		char *follow_text, *unfollow_text;
		if (!resource_on_demand(t))
			continue;
		req.resource_names_subscribe =
		    all_names(t, &s->follow, &s->follow_names[t], &req.n_resource_names_subscribe, &follow_text);
		req.resource_names_unsubscribe = all_names(t, &s->unfollow, &s->unfollow_names[t],
							   &req.n_resource_names_unsubscribe, &unfollow_text);
		/* A first request without names would mean "everything"; one that only lets go is not needed as a first. */
		if (req.n_resource_names_subscribe || (req.n_resource_names_unsubscribe && s->first_sent[t]))
			send_typed(s, t, &req);
		mem_free(req.resource_names_subscribe);
		mem_free(req.resource_names_unsubscribe);
		mem_free(follow_text);
		mem_free(unfollow_text);
	}
}

static void forget_wanted(struct subscribe *s)
{
	ips_clear(&s->follow);
	ips_clear(&s->unfollow);
	for (size_t t = 0; t < RESOURCE_COUNT; t++) {
		names_clear(&s->follow_names[t]);
		names_clear(&s->unfollow_names[t]);
	}
}

static void on_flush(struct task *t)
{
	struct subscribe *s = CONTAINER_OF(t, struct subscribe, flush);
	if (s->send)
		send_wanted(s);
	forget_wanted(s);
}

/* --- what config.c asks for --- */

static void follow(void *ctx, const struct ip *ip)
{
	struct subscribe *s = ctx;
	if (!s->send)
		return; /* the next stream begins with all that is followed */
	ips_del(&s->unfollow, ip);
	ips_add(&s->follow, ip);
	loop_at_turn_end(s->loop, &s->flush);
}

static void unfollow(void *ctx, const struct ip *ip)
{
	struct subscribe *s = ctx;
	if (!s->send)
		return;
	ips_del(&s->follow, ip);
	ips_add(&s->unfollow, ip);
	loop_at_turn_end(s->loop, &s->flush);
}

static void follow_name(void *ctx, enum resource_type t, const char *name)
{
	struct subscribe *s = ctx;
	if (!s->send)
		return;
	names_del(&s->unfollow_names[t], name);
	names_add(&s->follow_names[t], name);
	loop_at_turn_end(s->loop, &s->flush);
}

static void unfollow_name(void *ctx, enum resource_type t, const char *name)
{
	struct subscribe *s = ctx;
	if (!s->send)
		return;
	names_del(&s->follow_names[t], name);
	names_add(&s->unfollow_names[t], name);
	loop_at_turn_end(s->loop, &s->flush);
}

static const struct config_source source = {
    .follow = follow,
    .unfollow = unfollow,
    .follow_name = follow_name,
    .unfollow_name = unfollow_name,
};

struct subscribe *subscribe_new(struct loop *loop, struct config *c, const char *node_id, const char *node_cluster)
{
	struct subscribe *s = NEW(struct subscribe);
	s->loop = loop;
	s->config = c;
	s->node_id = mem_strdup(node_id);
	s->node_cluster = mem_strdup(node_cluster);
	task_init(&s->flush, on_flush);
	config_set_source(c, &source, s);
	return s;
}

void subscribe_free(struct subscribe **sp)
{
	struct subscribe *s = *sp;
	*sp = NULL;
	if (!s)
		return;
	subscribe_stop(s);
	config_set_source(s->config, NULL, NULL);
	mem_free(s->node_id);
	mem_free(s->node_cluster);
	mem_free(s);
}

/* --- streams --- */

static void add_ip(void *ctx, const struct ip *ip)
{
	ips_add(ctx, ip);
}

static void add_name(void *ctx, enum resource_type t, const char *name)
{
	struct subscribe *s = ctx;
	names_add(&s->follow_names[t], name);
}

void subscribe_start(struct subscribe *s, void (*send)(void *ctx, struct str message), void *ctx)
{
	subscribe_stop(s);
	s->send = send;
	s->send_ctx = ctx;
	config_set_linked(s->config, true);
	for (size_t t = 0; t < RESOURCE_COUNT; t++) {
		request_pb req = ENVOY__SERVICE__DISCOVERY__V3__DELTA_DISCOVERY_REQUEST__INIT;
		char *name = (char *)(uintptr_t)resource_followed((enum resource_type)t);
		if (resource_on_demand((enum resource_type)t))
			continue;
		req.resource_names_subscribe = &name;
		req.n_resource_names_subscribe = 1;
		send_typed(s, (enum resource_type)t, &req);
	}
	config_each_address(s->config, true, add_ip, &s->follow);
	config_each_name(s->config, add_name, s);
	send_wanted(s);
	forget_wanted(s);
}

void subscribe_stop(struct subscribe *s)
{
	s->send = NULL;
	memset(s->first_sent, 0, sizeof(s->first_sent));
	forget_wanted(s);
	task_cancel(&s->flush);
	config_set_linked(s->config, false);
}

/* --- responses --- */

/* What stands in a NACK or a log: one line, no surprises, whatever the name holds. */
static void clean_name(const char *name, char out[static RESOURCE_NAME_MAX])
{
	size_t n = 0;
	for (; name[n] && n < RESOURCE_NAME_MAX - 1; n++)
		out[n] = name[n] > ' ' && name[n] <= '~' && name[n] != ':' ? name[n] : '?';
	out[n] = '\0';
}

struct is_held {
	const resource_pb *r;
	enum resource_type type;
	bool yes;
};

static void look_held(void *ctx, const struct resource *r)
{
	struct is_held *q = ctx;
	q->yes = q->yes ||
		 (r->type == q->type && strcmp(r->name, q->r->name) == 0 && strcmp(r->version, q->r->version) == 0);
}

/* A resource without content says that the version held is still the right one. */
static bool still_held(struct subscribe *s, enum resource_type t, const resource_pb *r, struct err *err)
{
	struct is_held q = {.r = r, .type = t};
	config_each_resource(s->config, look_held, &q);
	return q.yes || err_set(err, ERR_INVALID, "has no content, and this version is not held");
}

static bool take_resource(struct subscribe *s, enum resource_type t, const resource_pb *r, struct err *err)
{
	struct str aliases[RESOURCE_ALIASES_MAX];
	if (!r->resource)
		return still_held(s, t, r, err);
	if (strcmp(r->resource->type_url, resource_type_url(t)) != 0)
		return err_set(err, ERR_INVALID, "its content is \"%.128s\", the response says %s",
			       r->resource->type_url, resource_type_name(t));
	if (r->n_aliases > RESOURCE_ALIASES_MAX)
		return err_set(err, ERR_LIMIT, "aliases: %zu, at most %d", r->n_aliases, RESOURCE_ALIASES_MAX);
	for (size_t i = 0; i < r->n_aliases; i++)
		aliases[i] = str_of(r->aliases[i]);
	struct resource_from from = {
	    .type = t,
	    .origin = RESOURCE_PUSHED,
	    .name = str_of(r->name),
	    .version = str_of(r->version),
	    .bytes = str_make(r->resource->value.data, r->resource->value.len),
	    .aliases = aliases,
	    .n_aliases = r->n_aliases,
	};
	return config_apply(s->config, &from, err);
}

/* The good ones apply, each bad one adds its line to `nack`. */
static void take_resources(struct subscribe *s, enum resource_type t, const response_pb *resp, struct buf *nack)
{
	for (size_t i = 0; i < resp->n_removed_resources; i++)
		config_remove(s->config, t, str_of(resp->removed_resources[i]));
	s->counts.removed += resp->n_removed_resources;
	for (size_t i = 0; i < resp->n_resources; i++) {
		const resource_pb *r = resp->resources[i];
		struct err err = {0};
		char name[RESOURCE_NAME_MAX];
		if (take_resource(s, t, r, &err)) {
			s->counts.applied++;
			continue;
		}
		s->counts.refused++;
		clean_name(r->name, name);
		event(EV_RESOURCE_REFUSED, "type=%s name=\"%.128s\" reason=\"%s\"", resource_type_name(t), name,
		      err.text);
		if (nack->len < SUBSCRIBE_NACK_MAX - RESOURCE_NAME_MAX - ERR_TEXT_MAX)
			buf_printf(nack, "%s%s: %s", nack->len ? "\n" : "", name, err.text);
	}
}

static void answer(struct subscribe *s, const response_pb *resp, struct buf *nack)
{
	request_pb req = ENVOY__SERVICE__DISCOVERY__V3__DELTA_DISCOVERY_REQUEST__INIT;
	Envoy__Service__Discovery__V3__Status status = ENVOY__SERVICE__DISCOVERY__V3__STATUS__INIT;
	char *text = NULL;
	req.type_url = resp->type_url;
	req.response_nonce = resp->nonce;
	if (nack->len) {
		text = mem_alloc(nack->len + 1);
		size_t len = 0;
		for (struct str piece; (piece = buf_peek(nack)).len; buf_drain(nack, piece.len)) {
			memcpy(text + len, piece.p, piece.len);
			len += piece.len;
		}
		text[len] = '\0';
		status.code = 3; /* INVALID_ARGUMENT */
		status.message = text;
		req.error_detail = &status;
	}
	send_request(s, &req);
	mem_free(text);
}

static bool names_pending(const struct subscribe *s)
{
	bool any = false;
	for (size_t t = 0; t < RESOURCE_COUNT; t++)
		any = any || s->follow_names[t].len;
	return any;
}

bool subscribe_message(struct subscribe *s, struct str message, struct err *err)
{
	enum resource_type t;
	struct buf nack;
	MUST(s->send != NULL);
	struct proto_arena memory;
	proto_arena_init(&memory, UNPACKED_MAX);
	response_pb *resp =
	    proto_unpack(&memory, &envoy__service__discovery__v3__delta_discovery_response__descriptor, message, err);
	if (!resp) {
		proto_arena_done(&memory);
		return err_prefix(err, "what came is not a DeltaDiscoveryResponse");
	}
	s->counts.responses++;
	buf_init(&nack, SUBSCRIBE_NACK_MAX);
	if (resource_type_parse(str_of(resp->type_url), &t))
		take_resources(s, t, resp, &nack);
	else
		buf_printf(&nack, "this type is not known to this proxy");
	/* What a manifest lists is asked for before the manifest is acknowledged: who waits until this proxy has applied a change
	 * must not find it done in between. */
	if (s->send && names_pending(s)) {
		send_wanted(s);
		forget_wanted(s);
	}
	answer(s, resp, &nack);
	buf_done(&nack);
	proto_arena_done(&memory);
	return true;
}

const struct subscribe_counts *subscribe_counts(const struct subscribe *s)
{
	return &s->counts;
}
