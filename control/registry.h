/* SPDX-License-Identifier: Apache-2.0 */
/* registry.h: which workloads there are. A sidecar registers its workload over its link; the workload is an endpoint while its
 * lease lives, and is gone at once on a clean stop. A lost link alone removes nothing. A state machine without sockets and
 * without the store: both are behind hooks. What it trusts: identity and source address, which its caller took from the
 * certificate and the connection. What it does not: everything that was said.
 *
 * The guard: if more than 30 % of the workloads (and at least 3) would vanish within one lease, the fault is likelier ours
 * than theirs; they are kept (GUARD_MAX_MS at most) and the owner is told. */
#ifndef WEFT_CONTROL_REGISTRY_H
#define WEFT_CONTROL_REGISTRY_H

#include "control/store.h"
#include "lib/map.h"
#include "lib/proto/weft.pb-c.h"
#include "lib/sock.h"

#define REGISTRY_WORKLOADS_MAX 50000
#define REGISTRY_PORTS_MAX     256
#define REGISTRY_LINKS_MAX     4 /* of one workload at once */
#define GUARD_MIN              3
#define GUARD_PERCENT          30
#define GUARD_MAX_MS           (60 * 60 * 1000)

struct registry;

struct registry_port {
	uint16_t port;
	Weft__V1__Protocol protocol;
};

/* One address of a workload: at most one of each family. */
struct registry_address {
	struct ip ip;      /* len 0: none */
	uint64_t until_ms; /* its own lease: somebody came from it so recently */
	bool said;         /* the last registration names it: stays as long as the workload does */
};

/* A registered workload. Readers borrow it; it changes only through the registry, which then calls on_change. */
struct registry_workload {
	struct map_node node; /* by key */
	char *key;            /* "namespace/instance" */
	char ns[STORE_NS_MAX], instance[STORE_NS_MAX], sa[STORE_NS_MAX];
	char *identity; /* spiffe://... */
	json_t *labels; /* {"app": "orders"}, never NULL */
	struct registry_port *ports;
	size_t n_ports;
	struct registry_address addresses[2]; /* IPv4, IPv6 */
	char zone[64], version[64];
	uint64_t until_ms;   /* the lease, on the clock of now_ms */
	uint64_t written_ms; /* when the store learnt of it last */
	bool renewed;        /* since then */
	struct list links;   /* registry_link.node */
};

/* One link that registered. Embed it; registry_link_init() first. */
struct registry_link {
	struct list node;
	struct registry *registry;
	struct registry_workload *workload; /* NULL: not registered (refused, said goodbye, lease over) */
	struct ip source;
	uint64_t heard_ms;
};
void registry_link_init(struct registry_link *l);

struct registry_hooks {
	uint64_t (*now_ms)(void *ctx); /* monotonic */
	int64_t (*wall_ms)(void *ctx); /* since 1970: leases in the store */
	/* The instance as it joined; ERR_NOT_FOUND: it never did. store_instance_done() by the registry. */
	bool (*instance)(void *ctx, const char *ns, const char *name, struct store_instance *ret, struct err *err);
	bool (*save)(void *ctx, const struct store_instance *i, struct err *err);
	bool (*leases)(void *ctx, const struct store_lease *leases, size_t n, struct err *err);
	/* The store would have to be waited for: what can be written in the next tick is. NULL: never. */
	bool (*busy)(void *ctx);
	/* New, or changed in what others see of it. */
	void (*on_change)(void *ctx, const struct registry_workload *w);
	/* About to be freed. why: "stopped", "its lease ran out" ... */
	void (*on_gone)(void *ctx, const struct registry_workload *w, const char *why);
	/* The guard holds (kept > 0) so many of so many, or has let go (0). */
	void (*on_guard)(void *ctx, size_t kept, size_t of);
};

/* lease_ms: at least 1000. */
struct registry *registry_new(const struct registry_hooks *hooks, void *ctx, const char *trust_domain,
			      uint64_t lease_ms);
void registry_free(struct registry **r); /* links must be gone */

/* At weftd's start: a workload whose lease stands in the store. It gets the whole grace from now on. */
bool registry_load(struct registry *r, const struct store_instance *i, struct err *err);

/* What a link says and where it comes from. Strings are borrowed. */
struct registry_claim {
	const char *ns, *sa; /* of the certificate */
	const char *instance, *version, *zone;
	const json_t *labels; /* an object of strings, checked here; NULL: none */
	const Weft__V1__WorkloadPort *const *ports;
	size_t n_ports;
	const struct ip *more; /* addresses of further families */
	size_t n_more;
	struct ip source;
};
/* False and err: refused, nothing is registered through this link (an earlier registration of it stays). */
bool registry_register(struct registry *r, struct registry_link *l, const struct registry_claim *claim,
		       struct err *err);
void registry_heartbeat(struct registry_link *l);
void registry_goodbye(
    struct registry_link *l); /* clean stop: the workload is gone at once, for the store by the next tick */
void registry_link_down(struct registry_link *l); /* the lease runs on; safe when it never registered */

/* Once a second: renewals into the store, leases that are over, the guard. */
void registry_tick(struct registry *r);

/* weftd itself did not run for so long (a large apply, a machine that slept): nobody could renew, so every lease that lived is longer
 * by that. Before the registry_tick() that comes next. */
void registry_grace(struct registry *r, uint64_t ms);

uint64_t registry_lease_ms(const struct registry *r);
size_t registry_count(const struct registry *r);
size_t registry_guarded(const struct registry *r); /* kept by the guard now */
const struct registry_workload *registry_find(const struct registry *r, const char *ns, const char *instance);
bool registry_alive(const struct registry *r, const struct registry_workload *w); /* its lease lives */
/* The addresses that it has, as an array of strings: the caller's. */
json_t *registry_addresses_json(const struct registry_workload *w);
/* Every workload, in no order. */
const struct registry_workload *registry_next(const struct registry *r, const struct registry_workload *w);

#endif
