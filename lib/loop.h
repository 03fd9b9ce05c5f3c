/* SPDX-License-Identifier: Apache-2.0 */
/* loop.h: one event loop (libev) a thread: descriptors, timers, signals, work at the end of a turn, deferred frees, and
 * posting from other threads. Nothing called from a loop may block.
 *
 * A turn: io and timer callbacks run, then the tasks of loop_at_turn_end() (this is where connections flush once), then
 * the frees of loop_defer_free(). Inner code marks closing and returns; nothing is freed beneath a running callback. */
#ifndef WEFT_LIB_LOOP_H
#define WEFT_LIB_LOOP_H

#include "lib/err.h"
#include "lib/list.h"
#include "lib/mailbox.h"

#include <ev.h>

struct loop;
struct turns; /* turns.h; the loop only keeps it */

struct loop *loop_new(struct err *err);
void loop_free(struct loop **loop);
void loop_run(struct loop *loop); /* until loop_stop() */
void loop_stop(struct loop *loop);
/* Milliseconds and microseconds of CLOCK_MONOTONIC as of the start of this turn (cached; no system call). */
uint64_t loop_now_ms(const struct loop *loop);
uint64_t loop_now_us(const struct loop *loop);

/* A watched descriptor. Embed it; the callback finds its owner by CONTAINER_OF. */
struct io {
	ev_io ev;
	struct loop *loop;
	void (*cb)(struct io *io, bool readable, bool writable);
};
void io_init(struct io *io, struct loop *loop, int fd, void (*cb)(struct io *, bool readable, bool writable));
void io_want(struct io *io, bool read, bool write); /* false, false: not watched; cheap when nothing changes */
void io_stop(struct io *io);                        /* before the descriptor is closed */

/* A one-shot timer. Coarse timeouts (idle, keep-alive) should keep a deadline and look once a second. */
struct timer {
	ev_timer ev;
	struct loop *loop;
	void (*cb)(struct timer *timer);
};
void timer_init(struct timer *t, struct loop *loop, void (*cb)(struct timer *));
void timer_start(struct timer *t, uint64_t after_ms); /* (re)starts */
void timer_stop(struct timer *t);                     /* safe when not running */
static inline bool timer_running(const struct timer *t)
{
	return ev_is_active(&t->ev);
}

/* Work at the end of this turn, once, however often it is asked for. Embed it; task_init first. */
struct task {
	struct list node;
	void (*cb)(struct task *task);
};
void task_init(struct task *t, void (*cb)(struct task *));
/* Runs before the loop sleeps. Tasks may add tasks; what is added after 64 rounds waits for the next turn. */
void loop_at_turn_end(struct loop *loop, struct task *t);
/* Runs at the start of the next turn, which comes without sleeping: for who has more to do but lets others go first. */
void loop_next_turn(struct loop *loop, struct task *t);
/* Runs in the first turn in which nothing else happens: no descriptor, no timer, no task of loop_next_turn(). The loop does not sleep before. */
void loop_when_idle(struct loop *loop, struct task *t);
/* Microseconds of CLOCK_MONOTONIC now (a system call, or nearly): to see what a piece of work took. */
uint64_t loop_clock_us(void);
/* Runs in LOOP_SOON_MS, in the order of asking: for who waits for what another thread does, and shall not keep a processor from it. */
#define LOOP_SOON_MS 1
void loop_soon(struct loop *loop, struct task *t);
/* Runs when the loop is freed, unless cancelled: for things that no one but the loop owns any more. */
void loop_at_free(struct loop *loop, struct task *t);
void task_cancel(struct task *t); /* safe when not queued */
static inline bool task_queued(const struct task *t)
{
	return !list_empty(&t->node);
}

/* Where turns.c keeps what it has of this loop: NULL at first. It frees it by loop_at_free(). */
struct turns **loop_turns_place(struct loop *loop);

/* Where conn_tls.c keeps which connections of this loop have kept their TLS buffers; the loop only keeps it. */
struct loop_warm {
	struct list conns; /* the one used last is last */
	unsigned n;
};
struct loop_warm *loop_warm(struct loop *loop);

/* Frees `p` with `fn` after the callbacks of this turn have unwound. */
void loop_defer_free(struct loop *loop, void *p, void (*fn)(void *));

/* From any thread: opens the letter on the loop's own, in the order in which they were sent; nothing when it is on its way already. The
 * caller's memory. */
void loop_send(struct loop *loop, struct letter *l);
/* The same for fn(arg), in memory of its own. At most 4,096 at once (false when full). */
bool loop_post(struct loop *loop, void (*fn)(void *arg), void *arg) MUST_USE;
/* Opens what was sent by now, on the caller's thread: after loop_run(), when the senders have ended. loop_free() wants nothing left. */
void loop_open_mail(struct loop *loop);

/* Signal `signum` calls fn(arg) on the loop (default loop's thread only). Several signals may be watched. */
void loop_on_signal(struct loop *loop, int signum, void (*fn)(void *arg, int signum), void *arg);

#endif
