/* SPDX-License-Identifier: Apache-2.0 */
/* config.h: what the proxy knows: holds pushed resources (all or on demand), checks them, decides when a service is complete
 * (its manifest), builds snapshots. One a process, on the main loop. Fed by link.c (weftd) or file.c (-f), and by the copy
 * kept on disk (config_build.h). The data path reads it through the view of its thread (view.h). */
#ifndef WEFT_PROXY_CONFIG_H
#define WEFT_PROXY_CONFIG_H

#include "lib/list.h"
#include "lib/loop.h"
#include "proxy/snapshot.h"

#include <jansson.h>

#define CONFIG_NEGATIVE_MAX 4096  /* "nothing there" answers kept */
#define CONFIG_LISTED_MAX   5000  /* resources followed because a manifest lists them */
#define CONFIG_NAMES_MAX    10000 /* addresses and services followed at once; the longest unused goes first */

struct config;

/* The snapshot in force; borrowed until the next turn: take snapshot_ref() to keep it. Never NULL (an empty one knows nothing). */
struct snapshot *config_snapshot(const struct config *c);
/* Somebody waits for what is at this address: it is asked for, and followed, where a snapshot does not say it yet. */
void config_ask(struct config *c, const struct addr *to);
/* Says that an address is in use (keeps its subscription). */
void config_touch(struct config *c, const struct addr *to);

/* Who hears of each new snapshot, at the swap; borrowed for the call. Embed it; config_unwatch() is safe when zeroed. */
struct config_watcher {
	struct list node;
	void (*on_swap)(struct config_watcher *w, struct snapshot *now);
};
void config_watch(struct config *c, struct config_watcher *w);
void config_unwatch(struct config_watcher *w);

bool config_ready(const struct config *c);   /* mesh configuration and own identity are there */
json_t *config_dump(const struct config *c); /* for the admin socket: every resource with version and state */

#endif
