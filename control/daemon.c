/* SPDX-License-Identifier: Apache-2.0 */
/* daemon.c: makes the parts of weftd, ties them by their hooks, and runs the loop. The order of the start matters: everything
 * that is applied or registered is compiled before the first proxy is let in, so that a restart never looks like an empty
 * mesh. */
#include "control/daemon.h"

#include "certs/tlsctx.h"
#include "control/ads.h"
#include "control/daemon_impl.h"
#include "control/issue_call.h"
#include "control/own_cert.h"
#include "lib/event.h"
#include "lib/fdtable.h"
#include "lib/mem.h"

#include <malloc.h>
#include <openssl/sha.h>
#include <signal.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#define TICK_MS          1000
#define LATE_MS          2000 /* between two ticks: weftd did not run */
#define COMPILE_PIECE_US 5000
#define END_MS           300  /* for the last answers to leave */
#define END_MAX_MS       5000 /* for calls of the API to come to their answers */
#define RENEW_RETRY_MS   60000
#define BACKLOG          1024
#define DESCRIPTORS      8192
#define LINKS_MAX        20000
#define PAGES_MAX        64
#define STOPPING_TEXT    "weftd is stopping"

/* Virtual addresses are in the mesh, whatever `weftd init` was told. */
static const struct cidr vip_ranges[] = {
    {{4, {240}}, 4},
    {{16, {0xfd, 0x77, 0x65, 0x66, 0x74, 0x00, 0x00, 0x01}}, 64},
};

_Static_assert(TICK_MS + WRITE_WAIT_MS < LATE_MS, "a tick that was put off is no sign that weftd did not run");

/* --- clocks --- */

static uint64_t hook_now_ms(void *ctx)
{
	return loop_now_ms(((struct daemon *)ctx)->loop);
}

static int64_t hook_wall_ms(void *ctx)
{
	struct timespec t;
	clock_gettime(CLOCK_REALTIME, &t);
	return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

/* --- registry: hooks --- */

static bool hook_instance(void *ctx, const char *ns, const char *name, struct store_instance *ret, struct err *err)
{
	return store_instance_get(((struct daemon *)ctx)->store, ns, name, ret, err);
}

static bool hook_save(void *ctx, const struct store_instance *i, struct err *err)
{
	return store_instance_register(((struct daemon *)ctx)->store, i, err);
}

static bool hook_leases(void *ctx, const struct store_lease *leases, size_t n, struct err *err)
{
	return store_lease_set(((struct daemon *)ctx)->store, leases, n, err);
}

static bool hook_busy(void *ctx)
{
	return store_busy(((struct daemon *)ctx)->store);
}

static void hook_workload(void *ctx, const struct registry_workload *w)
{
	compile_workload(((struct daemon *)ctx)->compile, w);
}

static void hook_workload_gone(void *ctx, const struct registry_workload *w, const char *why)
{
	struct daemon *d = ctx;
	compile_workload_gone(d->compile, w);
	event(registry_alive(d->registry, w) ? EV_WORKLOAD_GONE : EV_LEASE_EXPIRED, "workload=%s why=\"%s\"", w->key,
	      why);
}

static void hook_guard(void *ctx, size_t kept, size_t of)
{
	event(EV_LEASE_GUARD, "kept=%zu of=%zu", kept, of);
}

static const struct registry_hooks registry_hooks = {
    .now_ms = hook_now_ms,
    .wall_ms = hook_wall_ms,
    .instance = hook_instance,
    .save = hook_save,
    .leases = hook_leases,
    .busy = hook_busy,
    .on_change = hook_workload,
    .on_gone = hook_workload_gone,
    .on_guard = hook_guard,
};

/* --- compile and push: hooks --- */

static void hook_dirty(void *ctx)
{
	struct daemon *d = ctx;
	loop_at_turn_end(d->loop, &d->flush);
}

static void hook_set(void *ctx, struct pushed *res)
{
	push_set(((struct daemon *)ctx)->push, res);
}

static void hook_remove(void *ctx, enum pushed_type type, const char *key)
{
	push_remove(((struct daemon *)ctx)->push, type, key);
}

static void hook_warn(void *ctx, const char *text)
{
	event(EV_CONFIG_WARNING, "text=\"%s\"", text);
}

static const struct compile_hooks compile_hooks = {
    .set = hook_set,
    .remove = hook_remove,
    .warn = hook_warn,
    .on_dirty = hook_dirty,
};

static bool hook_instance_ok(void *ctx, const char *ns, const char *sa, const char *instance, struct err *err)
{
	struct store_instance i;
	if (!store_instance_get(((struct daemon *)ctx)->store, ns, instance, &i, err))
		return err_prefix(err, "instance %s/%s", ns, instance);
	bool ok = strcmp(i.sa, sa) == 0 ||
		  err_set(err, ERR_DENIED, "instance %s/%s was issued to service account %s, not to %s", ns, instance,
			  i.sa, sa);
	store_instance_done(&i);
	return ok;
}

static void hook_nack(void *ctx, const char *proxy, const char *type, const char *name, const char *reason)
{
	event(EV_NACK, "proxy=%s type=%s name=\"%s\" reason=\"%s\"", proxy, type, name, reason);
}

static const struct push_hooks push_hooks = {
    .now_ms = hook_now_ms,
    .instance_ok = hook_instance_ok,
    .on_dirty = hook_dirty,
    .on_nack = hook_nack,
};

/* A change of 10,000 objects is compiled in pieces, a piece a turn, and pushed when it is compiled as a whole. */
static void on_flush(struct task *t)
{
	struct daemon *d = CONTAINER_OF(t, struct daemon, flush);
	if (d->api && api_telling(d->api))
		return; /* hook_told() comes */
	if (!compile_flush(d->compile, COMPILE_PIECE_US)) {
		loop_next_turn(d->loop, t);
		return;
	}
	if (push_flush(d->push))
		loop_next_turn(d->loop, t);
	if (d->api)
		api_settle(d->api);
}

/* --- methods of 4810 --- */

static bool on_push(void *ctx, struct grpc_call *call, const struct grpc_call_events **ret_ev, void **ret_ctx,
		    enum grpc_status *ret_status, const char **ret_text)
{
	return ads_call(((struct daemon *)ctx)->push, call, ret_ev, ret_ctx, ret_status, ret_text);
}

static bool on_talk(void *ctx, struct grpc_call *call, const struct grpc_call_events **ret_ev, void **ret_ctx,
		    enum grpc_status *ret_status, const char **ret_text)
{
	return talk_server_call(((struct daemon *)ctx)->talks, call, ret_ev, ret_ctx, ret_status, ret_text);
}

static bool on_issue(void *ctx, struct grpc_call *call, const struct grpc_call_events **ret_ev, void **ret_ctx,
		     enum grpc_status *ret_status, const char **ret_text)
{
	return issue_call(((struct daemon *)ctx)->issue, call, ret_ev, ret_ctx, ret_status, ret_text);
}

static const struct grpc_method methods[] = {
    {ADS_PATH, on_push},
    {TALK_METHOD_PATH, on_talk},
    {ISSUE_PATH, on_issue},
    {NULL, NULL},
};

/* --- who it is --- */

static bool load_ca(struct daemon *d, struct err *err)
{
	struct ca_material m;
	if (!store_ca_get(d->store, &m, err))
		return false;
	d->ca = ca_new(&m, err);
	ca_material_done(&m);
	return d->ca != NULL;
}

static void log_refused(void *port, const struct err *why)
{
	event(EV_PEER_REFUSED, "to=\"%s\" why=\"%s\"", (const char *)port, why->text);
}

/* Makes a certificate and the contexts of both ports; on failure the former ones stay. */
static bool renew_own(struct daemon *d, struct err *err)
{
	static const char *const alpn_link[] = {ALPN_H2, NULL}, *const alpn_api[] = {ALPN_H2, "http/1.1", NULL};
	const char *names[DAEMON_NAMES_MAX + 1] = {NULL};
	for (size_t i = 0; i < d->o->names_len; i++)
		names[i] = d->o->names[i];
	struct credential *c = own_cert_new(d->ca, d->mesh.trust_domain, names, err);
	if (!c)
		return false;
	SSL_CTX *link = tlsctx_server_optional(c, alpn_link, conn_tls_arg_index(), err);
	SSL_CTX *api = link ? tlsctx_server_optional(c, alpn_api, conn_tls_arg_index(), err) : NULL;
	if (!api) {
		SSL_CTX_free(link);
		credential_unref(&c);
		return false;
	}
	tlsctx_on_refused(link, log_refused, "link");
	tlsctx_on_refused(api, log_refused, "api");
	tlsctx_allow_lapsed(link, (int64_t)d->o->renew_grace_s);
	if (d->grpc)
		grpc_server_set_tls(d->grpc, link);
	if (d->api)
		api_set_tls(d->api, api);
	if (d->credential) {
		tlsctx_succeed(link, d->tls_link);
		tlsctx_succeed(api, d->tls_api);
	}
	SSL_CTX_free(d->tls_link);
	SSL_CTX_free(d->tls_api);
	credential_unref(&d->credential);
	d->tls_link = link;
	d->tls_api = api;
	d->credential = c;
	return true;
}

static void renew_when_due(struct daemon *d)
{
	struct err err;
	uint64_t now = loop_now_ms(d->loop);
	if (!own_cert_due(d->credential, hook_wall_ms(d) / 1000) || now < d->renew_after_ms)
		return;
	if (!renew_own(d, &err)) {
		d->renew_after_ms = now + RENEW_RETRY_MS;
		event(EV_IDENTITY_FAILED, "error=\"%s\"", err.text);
		return;
	}
	event(EV_IDENTITY_ISSUED, "identity=\"%s\" not_after=%lld", credential_id(d->credential)->id,
	      (long long)credential_not_after(d->credential));
}

/* --- what it knows --- */

static void compile_own(struct daemon *d)
{
	struct cidr cidrs[STORE_CIDRS_MAX + ARRAY_LEN(vip_ranges)];
	size_t n = d->mesh.cidrs_len;
	struct str root = ca_root_der(d->ca);
	memcpy(cidrs, d->mesh.cidrs, n * sizeof(*cidrs));
	for (size_t i = 0; i < ARRAY_LEN(vip_ranges); i++)
		cidrs[n++] = vip_ranges[i];
	compile_mesh(d->compile, d->mesh.trust_domain, cidrs, n, &root, 1);
}

struct loading {
	struct registry *registry;
	struct err *err;
	bool failed;
};

static bool load_workload(void *ctx, const struct store_instance *i)
{
	struct loading *l = ctx;
	l->failed = !registry_load(l->registry, i, l->err);
	return !l->failed;
}

static bool start_knowledge(struct daemon *d, struct err *err)
{
	d->push = push_new(&push_hooks, d);
	d->compile = compile_new(&compile_hooks, d);
	d->registry = registry_new(&registry_hooks, d, d->mesh.trust_domain, d->o->lease_s * 1000);
	compile_own(d);
	d->sync = sync_new(d->store, d->compile, err);
	if (!d->sync)
		return false;
	struct loading l = {.registry = d->registry, .err = err};
	if (!store_instance_each(d->store, load_workload, &l, err) || l.failed)
		return false;
	compile_flush(d->compile, UINT64_MAX);
	push_flush(d->push);
	return true;
}

/* --- what it serves --- */

static bool start_services(struct daemon *d, struct err *err)
{
	struct issue_cfg issue = {
	    .store = d->store, .writes = d->writes, .ca = d->ca, .lifetime_s = d->o->certificate_s};
	struct talk_server_cfg talk = {
	    .loop = d->loop, .registry = d->registry, .writes = d->writes, .wall_ms = hook_wall_ms, .ctx = d};
	struct api_cfg api = {.store = d->store,
			      .tls = d->tls_api,
			      .status = daemon_status,
			      .progress = daemon_progress,
			      .reach = daemon_reach,
			      .told = hook_dirty,
			      .ctx = d};
	struct grpc_server_cfg grpc = {.tls = d->tls_link, .methods = methods, .connections_max = LINKS_MAX, .ctx = d};
	struct http_server_cfg pages = {
	    .body_max = 0, .connections_max = PAGES_MAX, .on_request = daemon_page, .ctx = d};
	struct str root = ca_root_der(d->ca);
	SHA256((const unsigned char *)root.p, root.len, api.root_hash);
	if (!(d->issue = issue_new(&issue, err)))
		return false;
	d->talks = talk_server_new(&talk);
	d->grpc = grpc_server_new(d->loop, &grpc);
	d->pages = http_server_new(d->loop, &pages);
	d->api = api_new(d->loop, &api, err);
	return d->api != NULL;
}

static void accept_link(void *ctx, int fd)
{
	grpc_server_accept(((struct daemon *)ctx)->grpc, fd);
}

static void accept_api(void *ctx, int fd)
{
	api_accept(((struct daemon *)ctx)->api, fd);
}

static void accept_page(void *ctx, int fd)
{
	http_server_accept(((struct daemon *)ctx)->pages, fd);
}

static bool listen_on(struct daemon *d, const struct addr *a, size_t n, void (*on_accept)(void *ctx, int fd),
		      struct err *err)
{
	static const struct ip any6 = {.len = 16};
	for (size_t i = 0; i < n; i++) {
		int fd = sock_listen_tcp(&a[i], ip_eq(&a[i].ip, &any6), BACKLOG, err);
		if (fd < 0)
			return false;
		d->listeners[d->listeners_len++] = listener_new(d->loop, fd, on_accept, d);
	}
	return true;
}

static bool start_listeners(struct daemon *d, struct err *err)
{
	const struct daemon_options *o = d->o;
	return listen_on(d, o->listen, o->listen_len, accept_link, err) &&
	       listen_on(d, o->listen_api, o->listen_api_len, accept_api, err) &&
	       listen_on(d, o->listen_admin, o->listen_admin_len, accept_page, err);
}

/* --- its life --- */

static void tick(struct writer *w)
{
	struct daemon *d = CONTAINER_OF(w, struct daemon, tick_write);
	uint64_t now = loop_now_ms(d->loop), since = now - d->ticked_ms;
	d->ticked_ms = now;
	timer_start(&d->tick, TICK_MS);
	if (since > LATE_MS) {
		/* What proxies said meanwhile waits to be read: nobody is judged before that. */
		registry_grace(d->registry, since - TICK_MS);
		return;
	}
	talk_server_tick(d->talks);
	registry_tick(d->registry);
	push_tick(d->push);
	renew_when_due(d);
}

static void on_tick(struct timer *t)
{
	struct daemon *d = CONTAINER_OF(t, struct daemon, tick);
	writer_take(d->writes, &d->tick_write); /* leases */
}

/* Who applied something hears that it is there, and not that the connection was closed. */
static void on_ended(struct timer *t)
{
	struct daemon *d = CONTAINER_OF(t, struct daemon, end);
	bool busy = api_busy(d->api);
	if ((busy || d->answering) && loop_now_ms(d->loop) < d->end_by_ms) {
		d->answering = busy;
		timer_start(&d->end, END_MS);
		return;
	}
	loop_stop(d->loop);
}

/* Proxies are told to come again; what they registered stays until its leases end, as with every restart. */
static void on_signal(void *ctx, int signum)
{
	struct daemon *d = ctx;
	if (d->stopping)
		return;
	d->stopping = true;
	d->ready = false;
	event(EV_STOPPING, "signal=%s", strsignal(signum));
	for (size_t i = 0; i < d->listeners_len; i++)
		listener_free(&d->listeners[i]);
	d->listeners_len = 0;
	talk_server_end_all(d->talks, STOPPING_TEXT);
	push_end_all(d->push, STOPPING_TEXT);
	d->end_by_ms = loop_now_ms(d->loop) + END_MAX_MS;
	timer_start(&d->end, END_MS);
}

/* Thousands of links need descriptors; what the system allows is taken, and there is room for most before the API's thread is made. */
static void raise_descriptors(void)
{
	struct rlimit l;
	if (getrlimit(RLIMIT_NOFILE, &l) == 0 && l.rlim_cur < l.rlim_max) {
		l.rlim_cur = l.rlim_max;
		(void)setrlimit(RLIMIT_NOFILE, &l);
	}
	fdtable_reserve(DESCRIPTORS);
}

static bool start(struct daemon *d, struct err *err)
{
	raise_descriptors();
	/* No fast bins: 10,000 objects leave 300,000 small pieces there, and one free() of a larger one joins them all, for 50 ms. */
	mallopt(M_MXFAST, 0);
	signal(SIGPIPE, SIG_IGN);
	task_init(&d->flush, on_flush);
	writer_init(&d->tick_write, tick);
	d->tick_write.first = true; /* behind a thousand joins it would be late */
	d->loop = loop_new(err);
	if (!d->loop)
		return false;
	timer_init(&d->tick, d->loop, on_tick);
	timer_init(&d->end, d->loop, on_ended);
	d->store = store_open(d->o->store, err);
	if (d->store)
		d->writes = write_queue_new(d->loop, d->store);
	if (!d->store || !store_mesh_get(d->store, &d->mesh, err) || !load_ca(d, err) || !renew_own(d, err) ||
	    !start_knowledge(d, err) || !start_services(d, err) || !start_listeners(d, err))
		return false;
	loop_on_signal(d->loop, SIGTERM, on_signal, d);
	loop_on_signal(d->loop, SIGINT, on_signal, d);
	d->ticked_ms = loop_now_ms(d->loop);
	timer_start(&d->tick, TICK_MS);
	d->ready = true;
	return true;
}

/* In the reverse order of start(); takes what there is. */
static void stop(struct daemon *d)
{
	for (size_t i = 0; i < d->listeners_len; i++)
		listener_free(&d->listeners[i]);
	if (d->loop) {
		timer_stop(&d->tick);
		timer_stop(&d->end);
	}
	task_cancel(&d->flush);
	writer_leave(&d->tick_write);
	if (d->talks)
		talk_server_end_all(d->talks, STOPPING_TEXT);
	if (d->push)
		push_end_all(d->push, STOPPING_TEXT);
	if (d->issue)
		issue_calls_end(d->issue);
	api_free(&d->api);
	http_server_free(&d->pages);
	grpc_server_free(&d->grpc);
	talk_server_free(&d->talks);
	issue_free(&d->issue);
	sync_free(&d->sync);
	compile_free(&d->compile);
	registry_free(&d->registry);
	push_free(&d->push);
	SSL_CTX_free(d->tls_link);
	SSL_CTX_free(d->tls_api);
	credential_unref(&d->credential);
	ca_free(&d->ca);
	write_queue_free(&d->writes);
	store_free(&d->store);
	loop_free(&d->loop);
}

bool daemon_run(const struct daemon_options *o, struct err *err)
{
	struct daemon d = {.o = o};
	bool ok = start(&d, err);
	if (ok) {
		event(EV_STARTED, "pid=%d version=%s trust_domain=%s store=\"%s\"", (int)getpid(), WEFT_VERSION,
		      d.mesh.trust_domain, o->store);
		event(EV_READY, "services=%zu workloads=%zu", compile_services(d.compile), registry_count(d.registry));
		loop_run(d.loop);
		event(EV_STOPPED, "pid=%d", (int)getpid());
	}
	stop(&d);
	return ok;
}
