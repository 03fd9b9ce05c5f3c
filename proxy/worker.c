/* SPDX-License-Identifier: Apache-2.0 */
/* worker.c: puts the stations together, gives them the descriptors of the handover, and drains on SIGTERM: readiness off, GOAWAY and
 * Connection: close, until quiet or the grace is over. So it does in an upgrade, when another worker serves, but its endpoint stays.
 * Nothing of a request's way is in here. */
#include "proxy/worker.h"

#include "lib/event.h"
#include "lib/harden.h"
#include "lib/listener.h"
#include "lib/mem.h"
#include "proxy/admin.h"
#include "proxy/config_build.h"
#include "proxy/file.h"
#include "proxy/harden.h"
#include "proxy/link.h"
#include "proxy/ready.h"
#include "proxy/session.h"
#include "proxy/succession.h"
#include "proxy/shed.h"
#include "proxy/supervisor.h"
#include "proxy/undo.h"

#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#define CREDENTIAL_MAX     (64 * 1024)
#define JOIN_MAX           4096
#define DRAIN_LOOK_MS      50
#define RETIRE_IDLE_MS     5000 /* a client that has an idle connection still may use it once more for so long */
#define IDLE_DOWNSTREAM_MS (3600 * 1000)

struct worker {
	const struct args *args;
	struct handover handover;
	struct proxy proxy;
	struct admin *admin;
	struct shed *shed;
	struct link *link; /* NULL with -f */
	struct undo *undo; /* NULL: nothing to look at */
	struct succession *succession;
	struct listener *out[HANDOVER_OUT_MAX], *in[HANDOVER_IN_MAX];
	struct timer drain;
	uint64_t drain_until_ms; /* 0: no drain */
	uint64_t idle_until_ms;  /* retired: when connections that nobody used end too; 0 then */
	bool stopping;           /* a signal came */
	char join[JOIN_MAX + 1];
};

static void accept_outbound(void *ctx, int fd)
{
	session_accept(ctx, OUTBOUND, fd);
}

static void accept_inbound(void *ctx, int fd)
{
	session_accept(ctx, INBOUND, fd);
}

/* --- what the handover carries --- */

static bool read_token(struct worker *w, struct err *err)
{
	uint8_t token[WEFT_TOKEN_LEN];
	size_t len = 0;
	if (w->handover.token < 0) {
		w->proxy.mark = mark_new(NULL);
		return true;
	}
	if (!handover_read(w->handover.token, token, sizeof(token), &len, err))
		return false;
	if (len != sizeof(token))
		return err_set(err, ERR_INVALID, "the exemption token has %zu bytes instead of %zu", len,
			       sizeof(token));
	w->proxy.mark = mark_new(token);
	mem_wipe(token, sizeof(token));
	return true;
}

/* What the worker before this one had: no new certificate is needed after a crash. */
static void read_credential(struct worker *w)
{
	struct err err;
	size_t len = 0;
	if (w->handover.credential < 0)
		return;
	uint8_t *blob = mem_alloc(CREDENTIAL_MAX);
	struct credential *c = NULL;
	if (handover_read(w->handover.credential, blob, CREDENTIAL_MAX, &len, &err))
		c = credential_unpack(blob, len, &err);
	if (c == NULL || !identity_set(w->proxy.identity, c, &err))
		event(EV_IDENTITY_FAILED, "why=\"the credential of the last worker: %s\"", err.text);
	credential_unref(&c);
	mem_wipe_free(blob, CREDENTIAL_MAX);
}

/* Every credential goes to the supervisor, sealed, for the worker after this one. */
static void keep_credential(void *ctx, const struct credential *c)
{
	struct worker *w = ctx;
	struct err err;
	uint8_t *blob;
	size_t len;
	if (w->handover.super < 0)
		return;
	if (!credential_pack(c, &blob, &len, &err)) {
		event(EV_IDENTITY_FAILED, "why=\"packing the credential: %s\"", err.text);
		return;
	}
	int fd = handover_seal("weft-credential", blob, len, &err);
	if (fd < 0 || !handover_say(w->handover.super, NOTE_CREDENTIAL, "", fd, &err))
		event(EV_IDENTITY_FAILED, "why=\"%s\"", err.text);
	if (fd >= 0)
		close(fd);
	mem_wipe_free(blob, len);
}

/* --- start --- */

static bool configure(struct worker *w, struct err *err)
{
	struct proxy_options o = w->args->options;
	struct proxy *p = &w->proxy;
	size_t len = 0;
	if (o.file != NULL)
		return config_file_load(o.file, p->config, p->identity, err);
	if (o.token == NULL && w->handover.join >= 0) {
		if (!handover_read(w->handover.join, w->join, JOIN_MAX, &len, err))
			return err_prefix(err, "join token");
		while (len > 0 && (w->join[len - 1] == '\n' || w->join[len - 1] == '\r'))
			len--;
		w->join[len] = '\0';
		o.token = w->join;
	}
	read_credential(w);
	struct link_cfg cfg = {
	    .loop = p->loop,
	    .options = &o,
	    .config = p->config,
	    .identity = p->identity,
	    .mark = p->mark,
	    .on_credential = keep_credential,
	    .ctx = w,
	};
	p->link = w->link = link_new(&cfg, err);
	return w->link != NULL;
}

static void set_limits(struct proxy *p, const struct proxy_options *o)
{
	p->limits = http_limits_default;
	/* An application's idle connection is ended by the application: closing it here would race with the request that it is about to
	 * send, which without a mesh it would only risk at its server's leisure. */
	p->limits.idle_timeout_ms = o->idle_downstream_ms != 0 ? o->idle_downstream_ms : IDLE_DOWNSTREAM_MS;
	if (o->head_timeout_ms != 0)
		p->limits.head_timeout_ms = o->head_timeout_ms;
	if (o->stream_idle_ms != 0)
		p->limits.stream_idle_ms = o->stream_idle_ms;
	p->own_limits = p->limits;
	p->hop_limits = pool_limits(o->idle_upstream_ms);
	p->hop_limits.stream_idle_ms = p->limits.stream_idle_ms;
	p->own_limits.resets_burst = p->hop_limits.resets_burst = OWN_RESETS_BURST;
	p->own_limits.resets_rate = p->hop_limits.resets_rate = OWN_RESETS_RATE;
	p->own_limits.heads_a_turn = p->hop_limits.heads_a_turn = OWN_HEADS_A_TURN;
}

static bool make(struct worker *w, struct err *err)
{
	struct proxy *p = &w->proxy;
	p->loop = loop_new(err);
	if (p->loop == NULL || !read_token(w, err))
		return false;
	p->identity = identity_new();
	p->config = config_new(p->loop);
	p->stats = stats_new();
	p->verdicts = verdicts_new();
	p->peers = verdicts_new();
	p->handshakes = handshakes_new(p->loop);
	p->balancer = balancer_new(p->loop, balance_ops_find(w->args->options.balancer), p->stats);
	balancer_hedge_after(p->balancer, w->args->options.hedge_after_ms);
	set_limits(p, &w->args->options);
	list_init(&p->sessions);
	struct pool_cfg pool = {.loop = p->loop,
				.identity = p->identity,
				.mark = p->mark,
				.age_ms = w->args->options.connection_age_ms,
				.idle_ms = w->args->options.idle_upstream_ms,
				.stream_idle_ms = w->args->options.stream_idle_ms};
	p->pool = pool_new(&pool);
	w->shed = shed_new(p, w->args->options.memory_max, err);
	return w->shed != NULL && configure(w, err);
}

/* No endpoint any more, no new requests on old connections; what is open goes on. */
static void withdraw(void *arg)
{
	struct worker *w = arg;
	if (w->proxy.draining)
		return;
	admin_not_ready(w->admin);
	if (w->link != NULL)
		link_goodbye(w->link);
	session_drain_all(&w->proxy);
}

/* Also asked for on the admin socket, before the signal comes. */
static void begin_drain(void *arg)
{
	struct worker *w = arg;
	if (w->proxy.draining)
		return;
	event(EV_STOPPING, "connections=%zu drain_ms=%llu", w->proxy.n_sessions, (unsigned long long)w->args->drain_ms);
	withdraw(w);
}

/* The kernel stops sending connections here when the capture of the machine's own namespace ends: then nobody may be told to come. */
static void follow_capture(struct worker *w)
{
	const struct proxy_options *o = &w->args->options;
	struct undo_cfg cfg = {.loop = w->proxy.loop,
			       .mark = w->proxy.mark,
			       .name = o->instance,
			       .ns = o->ns,
			       .on_over = withdraw,
			       .ctx = w};
	w->undo = undo_new(&cfg);
}

static void listen_all(struct worker *w)
{
	struct loop *loop = w->proxy.loop;
	for (unsigned i = 0; i < w->handover.n_out; i++)
		w->out[i] = listener_new(loop, w->handover.out[i], accept_outbound, &w->proxy);
	for (unsigned i = 0; i < w->handover.n_in; i++)
		w->in[i] = listener_new(loop, w->handover.in[i], accept_inbound, &w->proxy);
	w->admin = admin_new(&w->proxy, w->handover.status, w->handover.admin, begin_drain, w);
	admin_set_succession(w->admin, w->succession);
}

/* --- the end --- */

/* Nothing new is accepted here any more; where other processes have the sockets too, they go on. */
static void deafen(struct worker *w)
{
	for (unsigned i = 0; i < w->handover.n_out; i++)
		listener_free(&w->out[i]);
	for (unsigned i = 0; i < w->handover.n_in; i++)
		listener_free(&w->in[i]);
}

static void look(struct timer *t)
{
	struct worker *w = CONTAINER_OF(t, struct worker, drain);
	uint64_t now = loop_now_ms(w->proxy.loop);
	if (w->idle_until_ms != 0 && now >= w->idle_until_ms) {
		w->idle_until_ms = 0;
		session_drain_all(&w->proxy);
	}
	if (w->proxy.n_sessions == 0 || now >= w->drain_until_ms)
		loop_stop(w->proxy.loop);
	else
		timer_start(&w->drain, DRAIN_LOOK_MS);
}

/* What was set before holds too: the nearer end wins. */
static void drain_within(struct worker *w, uint64_t ms)
{
	uint64_t until = loop_now_ms(w->proxy.loop) + ms;
	w->drain_until_ms = w->drain_until_ms != 0 ? MIN(w->drain_until_ms, until) : until;
	timer_start(&w->drain, DRAIN_LOOK_MS);
}

static void on_signal(void *arg, int signum)
{
	struct worker *w = arg;
	(void)signum;
	if (w->stopping || w->admin == NULL) { /* a second signal means now, and a successor has nothing to drain */
		loop_stop(w->proxy.loop);
		return;
	}
	w->stopping = true;
	begin_drain(w);
	drain_within(w, w->args->drain_ms);
}

/* --- an upgrade --- */

static bool may_succeed(void *ctx, struct err *why)
{
	struct worker *w = ctx;
	return ready_to_succeed(&w->proxy, why);
}

static void succeed(void *ctx)
{
	listen_all(ctx);
	follow_capture(ctx);
}

/* The endpoint stays: it is the successor's now, and so is the file in the state directory. */
static void retire(void *ctx, const char *successor)
{
	struct worker *w = ctx;
	event(EV_RETIRING, "successor=\"%s\" connections=%zu drain_ms=%llu", successor, w->proxy.n_sessions,
	      (unsigned long long)w->args->upgrade_drain_ms);
	deafen(w);
	undo_free(&w->undo);
	admin_retire(w->admin);
	if (w->link != NULL)
		link_retire(w->link);
	session_retire_all(&w->proxy);
	pool_drain(w->proxy.pool);
	w->idle_until_ms = loop_now_ms(w->proxy.loop) + RETIRE_IDLE_MS;
	drain_within(w, w->args->upgrade_drain_ms);
}

static void succession_begin(struct worker *w)
{
	struct succession_cfg cfg = {
	    .loop = w->proxy.loop,
	    .sock = w->handover.super,
	    .successor = w->args->successor,
	    .ready = may_succeed,
	    .on_ready = succeed,
	    .on_retire = retire,
	    .ctx = w,
	};
	if (w->handover.super >= 0)
		w->succession = succession_new(&cfg);
	if (w->succession == NULL || !w->args->successor)
		listen_all(w);
}

static void unmake(struct worker *w)
{
	struct proxy *p = &w->proxy;
	shed_free(&w->shed);
	session_abort_all(p);
	deafen(w);
	undo_free(&w->undo);
	admin_free(&w->admin);
	succession_free(&w->succession);
	link_free(&w->link);
	pool_free(&p->pool);
	balancer_free(&p->balancer);
	config_free(&p->config);
	identity_free(&p->identity);
	stats_free(&p->stats);
	verdicts_free(&p->verdicts);
	verdicts_free(&p->peers);
	handshakes_free(&p->handshakes);
	mark_free(&p->mark);
	loop_free(&p->loop);
	mem_wipe(w->join, sizeof(w->join));
}

int worker_run(const struct args *a, const struct handover *h)
{
	static struct worker w;
	struct err err;
	w.args = a;
	w.handover = *h;
	/* One arena: with the bounded caches above malloc nothing is gained by more, and each costs memory that does not come back. */
	mallopt(M_ARENA_MAX, 1);
	if (!harden_process(&err) || !make(&w, &err)) {
		event(EV_FATAL, "why=\"%s\"", err.text);
		return WORKER_EXIT_CONFIG;
	}
	timer_init(&w.drain, w.proxy.loop, look);
	loop_on_signal(w.proxy.loop, SIGTERM, on_signal, &w);
	loop_on_signal(w.proxy.loop, SIGINT, on_signal, &w);
	signal(SIGPIPE, SIG_IGN);
	succession_begin(&w);
	if (!harden_syscalls(false, &err)) {
		event(EV_FATAL, "why=\"%s\"", err.text);
		return WORKER_EXIT_CONFIG;
	}
	event(EV_STARTED, "pid=%d version=%s outbound=%u inbound=%u", (int)getpid(), WEFT_VERSION, h->n_out, h->n_in);
	if (!a->successor)
		follow_capture(&w);
	loop_run(w.proxy.loop);
	unmake(&w);
	event(EV_STOPPED, "pid=%d", (int)getpid());
	return 0;
}
