/* SPDX-License-Identifier: Apache-2.0 */
/* store.h: what weftd must not forget, in one SQLite file (mode 0600): mesh settings, CA material, the objects that users
 * applied with every revision, join tokens, workload instances with their leases, virtual addresses.
 *
 * One process opens it (an exclusive lock), each thread by a connection of its own: a `struct store` is one thread's. Journal WAL,
 * synchronous FULL: a call that returned true is on the disk, but for leases (see there). Who reads waits for nobody and sees what was
 * committed; who writes waits for the transaction of another connection, then for the commit (one fsync); an apply of many
 * objects is one commit. Every failure of the file (full disk, corruption, failed fsync) is ERR_STORE, is said once per call as event
 * store_failed, changes nothing, and is never answered as "nothing there": that is ERR_NOT_FOUND, or an empty list with true.
 *
 * It knows no kinds: an object is a kind's name, a namespace, a name and a normalised JSON body. kind.h validates. */
#ifndef WEFT_CONTROL_STORE_H
#define WEFT_CONTROL_STORE_H

#include "lib/err.h"
#include "lib/list.h"
#include "lib/sock.h"

#include <jansson.h>

#define STORE_NAME_MAX     254           /* an object's name (DNS subdomain) and a NUL */
#define STORE_NS_MAX       64            /* a namespace, a service account, an instance (DNS labels) and a NUL */
#define STORE_CIDRS_MAX    16            /* mesh CIDRs */
#define STORE_OBJECTS_MAX  50000         /* objects in all */
#define STORE_BODY_MAX     (1024 * 1024) /* bytes of one normalised object */
#define STORE_REVISION_MAX 10000         /* revisions kept for history; older ones are dropped */
#define STORE_HASH_LEN     32            /* SHA-256 */

struct ca_material;
struct store;

/* What `weftd init` decides once. */
struct store_mesh {
	char trust_domain[256];
	struct cidr cidrs[STORE_CIDRS_MAX];
	size_t cidrs_len;
	char server[128]; /* "host:4810" as proxies reach weftd, the default of join tokens; may be empty */
};

/* Writes a new store; refuses (ERR_EXISTS) when the file is there. The material is copied. */
bool store_create(const char *path, const struct store_mesh *mesh, const struct ca_material *ca, struct err *err);
/* Opens, checks application id, schema version and integrity. ERR_NOT_FOUND: run `weftd init`. */
struct store *store_open(const char *path, struct err *err);
/* One more connection to what is open, for another thread. Open and free both on one thread, the first one last. */
struct store *store_open_beside(struct store *first, struct err *err);
void store_free(struct store **s);
/* Another connection writes: who can write later should. */
bool store_busy(const struct store *s);
/* True: no other connection writes until store_end_turn(), so what this one writes does not wait. False: one does now. */
bool store_try_turn(struct store *s) MUST_USE;
void store_end_turn(struct store *s);

bool store_mesh_get(struct store *s, struct store_mesh *ret, struct err *err);
bool store_ca_get(struct store *s, struct ca_material *ret, struct err *err); /* ca_material_done() by the caller */

/* --- objects --- */

/* Called within the transaction for each object that is created, changed or deleted, before it is written: completes the
 * body with what only the store can give (virtual addresses: vip.h) or refuses. before NULL: created; body NULL: deleted. */
struct store_item;
typedef bool store_admit_fn(struct store *s, const struct store_item *item, const json_t *before, json_t *body,
			    struct err *err);

enum store_result { STORE_CREATED, STORE_CHANGED, STORE_UNCHANGED, STORE_DELETED };

/* One object of a batch. Strings are borrowed; body is owned by the caller and completed by admit. */
struct store_item {
	const char *kind, *ns, *name;
	json_t *body;          /* NULL: delete it (ERR_NOT_FOUND when absent) */
	store_admit_fn *admit; /* NULL: nothing to complete */
	enum store_result result;
	bool want_before; /* keep what was there, for who shows differences */
	json_t *before;   /* then: a new reference, NULL: nothing was there */
};
/* All or nothing, in one transaction and one revision; objects that do not change make none. who: the identity that asked,
 * what: a line for the history ("apply orders.yaml"). *ret_revision: the revision in force afterwards. With dry_run
 * everything is tried and rolled back; results are those that it would have had. An error names the object. */
bool store_apply(struct store *s, struct store_item *items, size_t n, const char *who, const char *what, bool dry_run,
		 uint64_t *ret_revision, struct err *err);

/* The object's body with its revision, a new reference; ERR_NOT_FOUND. */
bool store_get(struct store *s, const char *kind, const char *ns, const char *name, json_t **ret_body,
	       uint64_t *ret_revision, struct err *err);
/* Every object of a kind in order of namespace and name; ns NULL: all namespaces. each returns false to stop (not an
 * error). body is borrowed during the call. The store may be read but not written from within. */
struct store_row {
	const char *kind, *ns, *name;
	json_t *body;
	uint64_t revision;
	int64_t created_ms, changed_ms; /* CLOCK_REALTIME */
};
bool store_each(struct store *s, const char *kind, const char *ns, bool (*each)(void *ctx, const struct store_row *row),
		void *ctx, struct err *err);
bool store_revision(struct store *s, uint64_t *ret, struct err *err); /* the one in force; 0: none yet */

/* After a commit, from within store_apply() just before it returns: what changed. Embed it. */
struct store_change {
	const char *kind, *ns, *name;
	json_t *body; /* as it is stored now, never changed any more; borrowed; NULL: deleted */
};
struct store_watch {
	struct list node;
	void (*on_change)(struct store_watch *w, uint64_t revision, const struct store_change *changes, size_t n);
};
void store_watch(struct store *s, struct store_watch *w);
/* Tells those who watch this connection what another one committed. */
void store_tell(struct store *s, uint64_t revision, const struct store_change *changes, size_t n);
void store_unwatch(struct store_watch *w); /* safe when not watching, if list_init'ed */

/* --- join tokens: what a token allows; the secret itself is only with its holder --- */

struct store_token {
	char id[33];                         /* hex, as in certs/token.h */
	uint8_t secret_hash[STORE_HASH_LEN]; /* SHA-256 of the secret as it stands in the token (64 hex digits) */
	char ns[STORE_NS_MAX], sa[STORE_NS_MAX];
	json_t
	    *labels; /* {"app": "orders", "version": "*"}: labels a workload may claim; "*" at the end matches any rest.
	                       NULL or {}: none */
	int64_t not_after; /* seconds since 1970 */
	char created_by[256];
	int64_t created_ms;
	uint64_t uses; /* instances that joined with it */
};
bool store_token_add(struct store *s, const struct store_token *t, struct err *err);
/* labels is a new reference (store_token_done). ERR_NOT_FOUND: never made, or deleted. Expiry is the caller's to check. */
bool store_token_get(struct store *s, const char *id, struct store_token *ret, struct err *err);
bool store_token_each(struct store *s, bool (*each)(void *ctx, const struct store_token *t), void *ctx,
		      struct err *err);
bool store_token_delete(struct store *s, const char *id, struct err *err);
void store_token_done(struct store_token *t);
/* True when every label of `labels` is allowed by `allowed` (a token's patterns); names the first that is not (ERR_DENIED). */
bool store_labels_allowed(const json_t *allowed, const json_t *labels, struct err *err);

/* --- bearer tokens of the API: SHA-256 of the whole text, who it stands for in the history --- */

bool store_bearer_add(struct store *s, const uint8_t hash[static STORE_HASH_LEN], const char *who, int64_t not_after,
		      struct err *err);
/* ERR_DENIED: not known or expired. */
bool store_bearer_find(struct store *s, const uint8_t hash[static STORE_HASH_LEN], char *ret_who, size_t who_size,
		       struct err *err);

/* --- instances: workloads that joined, and their leases --- */

struct store_instance {
	char ns[STORE_NS_MAX], name[STORE_NS_MAX], sa[STORE_NS_MAX];
	char token_id[33];
	json_t *allowed_labels; /* of the token it joined with: outlives the token */
	/* as last registered; NULL before the first registration */
	json_t *labels;    /* {"app": "orders"} */
	json_t *ports;     /* [{"port": 8080, "protocol": "http"}] */
	json_t *addresses; /* ["10.1.0.2", "fd00::2"] */
	char zone[64], version[64];
	int64_t joined_ms;
	int64_t
	    lease_ms; /* CLOCK_REALTIME when the lease runs out; 0: no lease (never registered, or stopped in order) */
};
void store_instance_done(struct store_instance *i);

/* First join, in one transaction: the token is spent for this instance (ERR_EXISTS when it was already), the instance is
 * written with the hash of its first rejoin secret. An instance of that name with another service account: ERR_DENIED. */
bool store_instance_join(struct store *s, const char *token_id, const char *name,
			 const uint8_t rejoin_hash[static STORE_HASH_LEN], struct store_instance *ret, struct err *err);
/* Rejoin: finds the instance by the presented secret's hash (its current one, or the one before, for an answer that was
 * lost on the way), makes new_hash the current one. ERR_DENIED when no instance has it. */
bool store_instance_rejoin(struct store *s, const uint8_t presented[static STORE_HASH_LEN],
			   const uint8_t new_hash[static STORE_HASH_LEN], struct store_instance *ret, struct err *err);
bool store_instance_get(struct store *s, const char *ns, const char *name, struct store_instance *ret, struct err *err);
bool store_instance_each(struct store *s, bool (*each)(void *ctx, const struct store_instance *i), void *ctx,
			 struct err *err);
/* Writes what a workload registered (labels, ports, addresses, zone, version) and its lease. i->ns and i->name choose it;
 * an instance that never joined by token (renewal by certificate after a restore) is created. */
bool store_instance_register(struct store *s, const struct store_instance *i, struct err *err);
bool store_instance_delete(struct store *s, const char *ns, const char *name, struct err *err);

/* Leases of many workloads in one commit without waiting for the disk: after a power cut a lease may be some seconds older,
 * which the grace after weftd's own start covers. until_ms 0 ends it (clean stop: waits for the disk). Unknown workloads are
 * skipped. */
struct store_lease {
	const char *ns, *name;
	int64_t until_ms;
};
bool store_lease_set(struct store *s, const struct store_lease *leases, size_t n, struct err *err);

#endif
