/* SPDX-License-Identifier: Apache-2.0 */
/* api_clerk.h: one thread that runs the calls of the API, one after another, with a connection of its own to the store: reading
 * 10,000 objects, writing them and waiting for the disk take most of a second, in which the loop's thread serves proxies.
 *
 * What a call committed is told to those who watch the loop's own connection (store_watch()) in pieces, a piece a turn, before the
 * call counts as run and before the next one begins: so no more is under way than one call changes. Whoever compiles what
 * changed looks at clerk_telling(), since half of a call is not to be pushed.
 *
 * All functions are the loop's thread's. */
#ifndef WEFT_CONTROL_API_CLERK_H
#define WEFT_CONTROL_API_CLERK_H

#include "control/api_call.h"
#include "lib/loop.h"

struct clerk_events {
	/* The call has been run, what it changed was told and clerk_settle() called since: call_finish() it. */
	void (*on_run)(void *ctx, struct call *c);
	/* Everything a call changed has been told: compile it, then clerk_settle(). NULL: there is nothing to wait for. */
	void (*on_told)(void *ctx);
	void *ctx;
};

struct clerk;
/* cfg is borrowed; store is the loop's own connection. */
struct clerk *clerk_new(struct loop *loop, const struct api_cfg *cfg, const struct clerk_events *ev, struct err *err);
/* The call is the clerk's until on_run(), which comes in a later turn; calls are run in the order in which they came. Who asks
 * bounds how many there are. */
void clerk_take(struct clerk *k, struct call *c);
/* Nobody wants it any more. True: it had not begun and is the caller's again. False: it is run to its end, on_run() comes. */
bool clerk_drop(struct clerk *k, struct call *c);
bool clerk_telling(const struct clerk *k);
/* A call has been taken and is not run yet. */
bool clerk_busy(const struct clerk *k);
/* What was told is compiled. Nothing to do when nobody waits for it. */
void clerk_settle(struct clerk *k);
/* After its calls have been dropped. Waits for the one that is run, for which on_run() comes; what it changed is told to nobody. */
void clerk_free(struct clerk **k);

#endif
