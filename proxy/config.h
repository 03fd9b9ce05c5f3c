/* SPDX-License-Identifier: Apache-2.0 */
/* config.h: what the proxy knows: holds pushed resources (all or on demand), checks them, decides when a service is complete
 * (its manifest), builds snapshots, answers "what is at this address". Fed by link.c (weftd) or file.c (-f), and by the
 * copy kept on disk. The data path reads config_snapshot() and waits with config_want(). */
#ifndef WEFT_PROXY_CONFIG_H
#define WEFT_PROXY_CONFIG_H

#include "lib/list.h"
#include "lib/loop.h"
#include "proxy/snapshot.h"

#include <jansson.h>

#define CONFIG_WAIT_MS      2000  /* a connection waits at most so long for the answer to its address */
#define CONFIG_NEGATIVE_MAX 4096  /* "nothing there" answers kept */
#define CONFIG_LISTED_MAX   5000  /* resources followed because a manifest lists them */
#define CONFIG_NAMES_MAX    10000 /* addresses and services followed at once; the longest unused goes first */

struct config;

/* The snapshot in force; borrowed until the next turn: take snapshot_ref() to keep it. Never NULL (an empty one knows nothing). */
struct snapshot *config_snapshot(const struct config *c);

/* Waits until something is known of `to` (both address kinds answered, manifest complete). Embed the waiter. */
struct config_waiter {
	struct list node;
	struct addr to;
	uint64_t deadline_ms;
	/* known: look into the new snapshot. !known: the time ran out, or there is no control plane to ask. */
	void (*on_answer)(struct config_waiter *w, bool known);
};
/* Callback comes from the loop, never from within. Cancel with config_unwant() (safe when not waiting). */
void config_want(struct config *c, struct config_waiter *w, const struct addr *to);
void config_unwant(struct config_waiter *w);
/* Says that an address is in use (keeps its subscription; called when a session or request begins). */
void config_touch(struct config *c, const struct addr *to);

bool config_ready(const struct config *c);   /* mesh configuration and own identity are there */
json_t *config_dump(const struct config *c); /* for the admin socket: every resource with version, state, waiters */

#endif
