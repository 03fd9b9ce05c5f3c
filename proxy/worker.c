/* SPDX-License-Identifier: Apache-2.0 */
/* worker.c: the main thread: puts together what a process has once (configuration, identity, link, pages) and the crew of threads that
 * serves, gives them the descriptors of the handover, and drains on SIGTERM: readiness off, GOAWAY and Connection: close, until quiet or the
 * grace is over. So it does in an upgrade, when another worker serves, but its endpoint stays. Nothing of a request's way is in here. */
#include "proxy/worker.h"

#include "lib/event.h"
#include "lib/harden.h"
#include "lib/listener.h"
#include "lib/mem.h"
#include "proxy/admin.h"
#include "proxy/config_build.h"
#include "proxy/cpus.h"
#include "proxy/crew.h"
#include "proxy/file.h"
#include "proxy/harden.h"
#include "proxy/link.h"
#include "proxy/ready.h"
#include "proxy/succession.h"
#include "proxy/shed.h"
#include "proxy/supervisor.h"
#include "proxy/undo.h"

#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#define CREDENTIAL_MAX (64 * 1024)
#define JOIN_MAX       4096
#define DRAIN_LOOK_MS  50
#define RETIRE_IDLE_MS 5000 /* a client that has an idle connection still may use it once more for so long */

struct worker {
	const struct args *args;
	struct handover handover;
	struct loop *loop;
	struct config *config;
	struct identity *identity;
	struct mark *mark;
	struct crew *crew;
	struct admin *admin;
	struct shed *shed;
	struct link *link; /* NULL with -f */
	struct undo *undo; /* NULL: nothing to look at */
	struct succession *succession;
	struct listener *out[HANDOVER_OUT_MAX], *in[HANDOVER_IN_MAX];
	struct timer drain;
	uint64_t drain_until_ms; /* 0: no drain */
	uint64_t idle_until_ms;  /* retired: when connections that nobody used end too; 0 then */
	bool draining;
	bool stopping; /* a signal came */
	char join[JOIN_MAX + 1];
};

static void accept_outbound(void *ctx, int fd)
{
	crew_accept(ctx, OUTBOUND, fd);
}

static void accept_inbound(void *ctx, int fd)
{
	crew_accept(ctx, INBOUND, fd);
}

/* --- what the handover carries --- */

static bool read_token(struct worker *w, struct err *err)
{
	uint8_t token[WEFT_TOKEN_LEN];
	size_t len = 0;
	if (w->handover.token < 0) {
		w->mark = mark_new(NULL);
		return true;
	}
	if (!handover_read(w->handover.token, token, sizeof(token), &len, err))
		return false;
	if (len != sizeof(token))
		return err_set(err, ERR_INVALID, "the exemption token has %zu bytes instead of %zu", len,
			       sizeof(token));
	w->mark = mark_new(token);
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
	if (c == NULL || !identity_set(w->identity, c, &err))
		event(EV_IDENTITY_FAILED, "why=\"the credential of the last worker: %s\"", err.text);
	credential_unref(&c);
	mem_wipe_free(blob, CREDENTIAL_MAX);
}

/* Every credential goes to all threads, and to the supervisor, sealed, for the worker after this one. */
static void on_credential(void *ctx, const struct credential *c)
{
	struct worker *w = ctx;
	struct err err;
	uint8_t *blob;
	size_t len;
	crew_identity(w->crew, c);
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
	size_t len = 0;
	if (o.file != NULL)
		return config_file_load(o.file, w->config, w->identity, err);
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
	    .loop = w->loop,
	    .options = &o,
	    .config = w->config,
	    .identity = w->identity,
	    .mark = w->mark,
	    .on_credential = on_credential,
	    .ctx = w,
	};
	w->link = link_new(&cfg, err);
	return w->link != NULL;
}

static bool make(struct worker *w, struct err *err)
{
	unsigned n = w->args->options.threads;
	w->loop = loop_new(err);
	if (w->loop == NULL || !read_token(w, err))
		return false;
	w->identity = identity_new();
	w->config = config_new(w->loop);
	if (!configure(w, err))
		return false;
	struct crew_cfg crew = {
	    .loop = w->loop,
	    .config = w->config,
	    .identity = w->identity,
	    .mark = w->mark,
	    .options = &w->args->options,
	    .threads = n != 0 ? n : MIN(cpus_allowed(), OPTIONS_THREADS_MAX),
	};
	/* One arena a thread: with the bounded caches above malloc nothing is gained by more, and each costs memory that does not come
	 * back. */
	mallopt(M_ARENA_MAX, crew.threads == 1 ? 1 : (int)crew.threads + 1);
	w->crew = crew_new(&crew, err);
	if (w->crew != NULL)
		w->shed = shed_new(w->loop, w->crew, w->args->options.memory_max, err);
	return w->shed != NULL;
}

/* No endpoint any more, no new requests on old connections; what is open goes on. */
static void withdraw(void *arg)
{
	struct worker *w = arg;
	if (w->draining)
		return;
	w->draining = true;
	admin_not_ready(w->admin);
	if (w->link != NULL)
		link_goodbye(w->link);
	crew_drain(w->crew);
}

/* Also asked for on the admin socket, before the signal comes. */
static void begin_drain(void *arg)
{
	struct worker *w = arg;
	if (w->draining)
		return;
	event(EV_STOPPING, "connections=%zu drain_ms=%llu", crew_sessions(w->crew),
	      (unsigned long long)w->args->drain_ms);
	withdraw(w);
}

/* The kernel stops sending connections here when the capture of the machine's own namespace ends: then nobody may be told to come. */
static void follow_capture(struct worker *w)
{
	const struct proxy_options *o = &w->args->options;
	struct undo_cfg cfg = {
	    .loop = w->loop, .mark = w->mark, .name = o->instance, .ns = o->ns, .on_over = withdraw, .ctx = w};
	w->undo = undo_new(&cfg);
}

static void listen_all(struct worker *w)
{
	for (unsigned i = 0; i < w->handover.n_out; i++)
		w->out[i] = listener_new(w->loop, w->handover.out[i], accept_outbound, w->crew);
	for (unsigned i = 0; i < w->handover.n_in; i++)
		w->in[i] = listener_new(w->loop, w->handover.in[i], accept_inbound, w->crew);
	struct admin_cfg cfg = {
	    .loop = w->loop,
	    .crew = w->crew,
	    .config = w->config,
	    .identity = w->identity,
	    .link = w->link,
	    .status_fd = w->handover.status,
	    .admin_fd = w->handover.admin,
	    .on_drain = begin_drain,
	    .ctx = w,
	};
	w->admin = admin_new(&cfg);
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
	uint64_t now = loop_now_ms(w->loop);
	if (w->idle_until_ms != 0 && now >= w->idle_until_ms) {
		w->idle_until_ms = 0;
		crew_drain(w->crew);
	}
	if (crew_sessions(w->crew) == 0 || now >= w->drain_until_ms)
		loop_stop(w->loop);
	else
		timer_start(&w->drain, DRAIN_LOOK_MS);
}

/* What was set before holds too: the nearer end wins. */
static void drain_within(struct worker *w, uint64_t ms)
{
	uint64_t until = loop_now_ms(w->loop) + ms;
	w->drain_until_ms = w->drain_until_ms != 0 ? MIN(w->drain_until_ms, until) : until;
	timer_start(&w->drain, DRAIN_LOOK_MS);
}

static void on_signal(void *arg, int signum)
{
	struct worker *w = arg;
	(void)signum;
	if (w->stopping || w->admin == NULL) { /* a second signal means now, and a successor has nothing to drain */
		loop_stop(w->loop);
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
	return ready_to_succeed(w->identity, w->config, w->link, why);
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
	event(EV_RETIRING, "successor=\"%s\" connections=%zu drain_ms=%llu", successor, crew_sessions(w->crew),
	      (unsigned long long)w->args->upgrade_drain_ms);
	deafen(w);
	undo_free(&w->undo);
	admin_retire(w->admin);
	if (w->link != NULL)
		link_retire(w->link);
	crew_retire(w->crew);
	w->idle_until_ms = loop_now_ms(w->loop) + RETIRE_IDLE_MS;
	drain_within(w, w->args->upgrade_drain_ms);
}

static void succession_begin(struct worker *w)
{
	struct succession_cfg cfg = {
	    .loop = w->loop,
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
	shed_stop(w->shed);
	deafen(w);
	undo_free(&w->undo);
	admin_free(&w->admin);
	crew_free(&w->crew);
	shed_free(&w->shed);
	succession_free(&w->succession);
	link_free(&w->link);
	config_free(&w->config);
	identity_free(&w->identity);
	mark_free(&w->mark);
	loop_free(&w->loop);
	mem_wipe(w->join, sizeof(w->join));
}

int worker_run(const struct args *a, const struct handover *h)
{
	static struct worker w;
	struct err err;
	w.args = a;
	w.handover = *h;
	if (!harden_process(&err) || !make(&w, &err)) {
		event(EV_FATAL, "why=\"%s\"", err.text);
		return WORKER_EXIT_CONFIG;
	}
	timer_init(&w.drain, w.loop, look);
	loop_on_signal(w.loop, SIGTERM, on_signal, &w);
	loop_on_signal(w.loop, SIGINT, on_signal, &w);
	signal(SIGPIPE, SIG_IGN);
	succession_begin(&w);
	if (!harden_syscalls(false, &err)) {
		event(EV_FATAL, "why=\"%s\"", err.text);
		return WORKER_EXIT_CONFIG;
	}
	event(EV_STARTED, "pid=%d version=%s outbound=%u inbound=%u", (int)getpid(), WEFT_VERSION, h->n_out, h->n_in);
	if (!a->successor)
		follow_capture(&w);
	loop_run(w.loop);
	unmake(&w);
	event(EV_STOPPED, "pid=%d", (int)getpid());
	return 0;
}
