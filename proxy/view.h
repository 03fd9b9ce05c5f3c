/* SPDX-License-Identifier: Apache-2.0 */
/* view.h: what one thread sees of the configuration: the snapshot in force for it, and who on this thread waits for an answer. The
 * configuration belongs to the main loop (config.h); a new snapshot comes over as a counted pointer, and is picked up at the end of a turn,
 * so that what one callback saw the next one of the turn sees too. No lock is taken on either side.
 *
 * A view on the configuration's own loop is the same without the way between. */
#ifndef WEFT_PROXY_VIEW_H
#define WEFT_PROXY_VIEW_H

#include "lib/list.h"
#include "lib/loop.h"
#include "proxy/snapshot.h"

#define VIEW_WAIT_MS  2000 /* a connection waits at most so long for the answer to its address */
#define VIEW_TOUCH_MS 1000 /* an address in use is said to be so that often at most */

struct config;
struct view;

/* `home`: the loop of the configuration, on whose thread this is called. `loop`: the view's, which does not run yet or is the same. */
struct view *view_new(struct loop *loop, struct config *c, struct loop *home);
/* On the thread of `home`, when the view's loop has ended. Waiters hear nothing more. */
void view_free(struct view **v);

/* The snapshot in force on this thread; borrowed until the next turn: take snapshot_ref() to keep it. Never NULL. */
struct snapshot *view_snapshot(const struct view *v);

/* Waits until something is known of `to` (both address kinds answered, manifest complete). Embed the waiter. */
struct view_waiter {
	struct list node;
	struct addr to;
	uint64_t deadline_ms;
	/* known: look into the new snapshot. !known: the time ran out, or there is no control plane to ask. */
	void (*on_answer)(struct view_waiter *w, bool known);
};
/* Callback comes from the loop, never from within. Cancel with view_unwant() (safe when not waiting). */
void view_want(struct view *v, struct view_waiter *w, const struct addr *to);
void view_unwant(struct view_waiter *w);
/* Says that an address is in use (keeps its subscription; called when a session or request begins). */
void view_touch(struct view *v, const struct addr *to);
size_t view_waiting(const struct view *v);

#endif
