/* SPDX-License-Identifier: Apache-2.0 */
/* spine_world.c: the two sidecars, and what stands for the kernel's part of proxy/mark.h: every connection to the outbound listener meant to
 * go to SPINE_VIP, and what comes from 127.0.0.6 goes past the sidecar to the application. */
#include "tests/unit/proxy/spine_world.h"

#include "bpf/abi.h"
#include "feed.h"
#include "lib/mem.h"
#include "proxy/config_build.h"

#include <string.h>

/* --- proxy/mark.h without a kernel program --- */

struct mark {
	char unused;
};

struct mark *mark_new(const uint8_t *token)
{
	return NEW(struct mark);
}

void mark_free(struct mark **m)
{
	FREE(m);
}

bool mark_exempt(const struct mark *m, int fd, struct err *err)
{
	return true;
}

bool mark_client(const struct mark *m, int fd, const struct addr *client, const struct addr *via, struct err *err)
{
	return true;
}

bool mark_client_pooled(const struct mark *m, int fd, const struct addr *via, struct err *err)
{
	return true;
}

bool mark_original(int fd, const struct addr *peer, struct addr *ret)
{
	return addr_parse(STR(SPINE_VIP), ret);
}

struct addr mark_source(const struct addr *to)
{
	static const uint8_t v4[] = WEFT_SOURCE_V4;
	struct addr from = {.ip = {.len = 4}};
	memcpy(from.ip.b, v4, sizeof(v4));
	return from;
}

/* --- resources --- */

static void apply(struct spine_process *p, struct feed *f)
{
	struct err err = {0};
	f->from.origin = RESOURCE_FILE; /* held though nobody asked, and may be on loopback */
	ck_assert_msg(config_apply(p->config, &f->from, &err), "%s", err.text);
}

static void feed_out(struct spine *w, enum protocol protocol)
{
	static struct feed f;
	Weft__V1__Endpoints m = WEFT__V1__ENDPOINTS__INIT;
	Weft__V1__Endpoint e = WEFT__V1__ENDPOINT__INIT, *v[] = {&e};
	Weft__V1__EndpointPort port = WEFT__V1__ENDPOINT_PORT__INIT, *ports[] = {&port};
	char service[] = "shop/orders", identity[] = SPINE_IDENTITY, workload[] = "shop/orders-1";
	feed_mesh(&f, "1", PKI_TD);
	apply(&w->of_out, &f);
	feed_service(&f, service, "1", "10.1.0.1", protocol);
	apply(&w->of_out, &f);
	m.service = service;
	m.endpoints = v;
	m.n_endpoints = 1;
	e.address = (ProtobufCBinaryData){w->in_addr.ip.len, w->in_addr.ip.b};
	e.identity = identity;
	e.meshed = true;
	e.workload = workload;
	e.ports = ports;
	e.n_ports = 1;
	port.service_port = 80;
	port.port = w->in_addr.port;
	feed_message(&f, RESOURCE_ENDPOINTS, service, "1", &m.base);
	feed_alias(&f, "10.1.0.1");
	apply(&w->of_out, &f);
	feed_manifest(&f, service, "1", "10.1.0.1", "1", NULL);
	apply(&w->of_out, &f);
	config_commit(w->of_out.config);
}

static void feed_in(struct spine *w, enum protocol protocol)
{
	static struct feed f;
	Weft__V1__Self s = WEFT__V1__SELF__INIT;
	Weft__V1__WorkloadPort port = WEFT__V1__WORKLOAD_PORT__INIT, *ports[] = {&port};
	char ns[] = "shop", name[] = "orders-1", sa[] = "orders";
	feed_mesh(&f, "1", PKI_TD);
	apply(&w->of_in, &f);
	s.name = name;
	s.namespace_ = ns;
	s.service_account = sa;
	s.ports = ports;
	s.n_ports = 1;
	port.port = w->in_addr.port;
	port.protocol = (Weft__V1__Protocol)protocol;
	feed_message(&f, RESOURCE_SELF, "self", "1", &s.base);
	apply(&w->of_in, &f);
	config_commit(w->of_in.config);
}

/* --- the sidecars --- */

static void accept_out(void *ctx, int fd)
{
	struct spine *w = ctx;
	w->out.n_sessions++;
	session_accept(&w->out, OUTBOUND, fd);
}

static void accept_in(void *ctx, int fd)
{
	struct spine *w = ctx;
	struct addr peer, source = mark_source(&w->in_addr);
	ck_assert(sock_peer(fd, &peer));
	if (ip_eq(&peer.ip, &source.ip))
		w->on_origin(w, fd);
	else if (w->on_hop)
		w->on_hop(w, fd);
	else {
		w->in.n_sessions++;
		session_accept(&w->in, INBOUND, fd);
	}
}

static void make(struct spine *w, struct proxy *p, struct spine_process *of, const char *sa)
{
	struct err err = {0};
	struct credential *c = pki_credential(&w->pki, "shop", sa, false);
	p->loop = w->loop;
	p->mark = of->mark = mark_new(NULL);
	p->identity = identity_new();
	ck_assert_msg(identity_set(p->identity, c, &err), "%s", err.text);
	credential_unref(&c);
	of->config = config_new(w->loop);
	of->circuits = circuits_new();
	of->reputes = reputes_new();
	p->view = view_new(w->loop, of->config, w->loop);
	p->stats = stats_new();
	p->verdicts = verdicts_new();
	p->peers = verdicts_new();
	p->handshakes = handshakes_new(p->loop, 1);
	p->balancer = balancer_new(p->loop, balance_ops_find(""), p->stats, of->circuits, of->reputes);
	p->limits = http_limits_default;
	p->own_limits = http_limits_default;
	p->hop_limits = pool_limits(0);
	list_init(&p->sessions);
	struct pool_cfg pool = {.loop = w->loop, .identity = p->identity, .mark = p->mark};
	p->pool = pool_new(&pool);
}

static void unmake(struct proxy *p, struct spine_process *of)
{
	session_abort_all(p);
	pool_free(&p->pool);
	balancer_free(&p->balancer);
	view_free(&p->view);
	config_free(&of->config);
	circuits_free(&of->circuits);
	reputes_free(&of->reputes);
	identity_free(&p->identity);
	stats_free(&p->stats);
	verdicts_free(&p->verdicts);
	verdicts_free(&p->peers);
	handshakes_free(&p->handshakes);
	mark_free(&of->mark);
}

static struct listener *listen_on(struct spine *w, void (*on_accept)(void *, int), struct addr *ret)
{
	struct err err = {0};
	ck_assert(addr_parse(STR("127.0.0.1:1"), ret));
	ret->port = 0;
	int fd = sock_listen_tcp(ret, false, 512, &err);
	ck_assert_msg(fd >= 0 && sock_local(fd, ret), "%s", err.text);
	return listener_new(w->loop, fd, on_accept, w);
}

static void on_tick(struct timer *t)
{
	struct spine *w = CONTAINER_OF(t, struct spine, tick);
	if ((w->until && w->until(w->until_ctx)) || --w->ticks_left == 0)
		loop_stop(w->loop);
	else
		timer_start(t, 1);
}

void spine_init(struct spine *w, enum protocol protocol)
{
	struct err err = {0};
	memset(w, 0, sizeof(*w));
	pki_init(&w->pki, PKI_TD);
	w->loop = loop_new(&err);
	ck_assert_ptr_nonnull(w->loop);
	timer_init(&w->tick, w->loop, on_tick);
	make(w, &w->out, &w->of_out, "web");
	make(w, &w->in, &w->of_in, "orders");
	w->to_out = listen_on(w, accept_out, &w->out_addr);
	w->to_in = listen_on(w, accept_in, &w->in_addr);
	feed_out(w, protocol);
	feed_in(w, protocol);
}

void spine_done(struct spine *w)
{
	listener_free(&w->to_out);
	listener_free(&w->to_in);
	unmake(&w->out, &w->of_out);
	unmake(&w->in, &w->of_in);
	timer_stop(&w->tick);
	loop_free(&w->loop);
	pki_done(&w->pki);
}

bool spine_until(struct spine *w, unsigned ms, bool (*until)(void *ctx), void *ctx)
{
	w->until = until;
	w->until_ctx = ctx;
	w->ticks_left = ms + 1;
	timer_start(&w->tick, 1);
	loop_run(w->loop);
	return until == NULL || until(ctx);
}

void spine_run(struct spine *w, unsigned ms)
{
	spine_until(w, ms, NULL, NULL);
}

/* --- plain peers --- */

static void peer_rx(void *ctx)
{
	struct spine_peer *p = ctx;
	struct buf *rx = conn_rx(p->conn);
	while (rx->len > 0) {
		struct str s = buf_peek(rx);
		size_t room = p->len < sizeof(p->got) - 1 ? sizeof(p->got) - 1 - p->len : 0;
		if (room > 0)
			memcpy(p->got + p->len, s.p, MIN(room, s.len));
		p->len += s.len;
		buf_drain(rx, s.len);
	}
	p->eof = conn_rx_eof(p->conn);
}

static void peer_fail(void *ctx, const struct err *err)
{
	struct spine_peer *p = ctx;
	p->failed = true;
}

static void peer_nothing(void *ctx)
{
}

static const struct conn_events peer_events = {
    .on_open = peer_nothing,
    .on_rx = peer_rx,
    .on_tx_room = peer_nothing,
    .on_fail = peer_fail,
};

void spine_peer_dial(struct spine *w, struct spine_peer *p, const struct addr *to)
{
	struct conn_dial d = {.to = *to};
	memset(p, 0, sizeof(*p));
	p->conn = conn_open(w->loop, &d, &peer_events, p);
}

void spine_peer_take(struct spine *w, struct spine_peer *p, int fd)
{
	*p = (struct spine_peer){.want = p->want};
	p->conn = conn_new(w->loop, fd, &peer_events, p);
}

void spine_peer_say(struct spine_peer *p, const char *text)
{
	buf_add_str(conn_tx(p->conn), str_of(text));
	conn_flush(p->conn);
}

void spine_peer_end(struct spine_peer *p, bool reset)
{
	if (p->conn == NULL)
		return;
	if (reset)
		conn_reset(&p->conn);
	else
		conn_close(&p->conn);
}

bool spine_peer_got(void *peer)
{
	struct spine_peer *p = peer;
	return memmem(p->got, MIN(p->len, sizeof(p->got) - 1), p->want, strlen(p->want)) != NULL;
}

bool spine_peer_over(void *peer)
{
	struct spine_peer *p = peer;
	return p->eof || p->failed;
}
