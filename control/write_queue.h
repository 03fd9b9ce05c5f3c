/* SPDX-License-Identifier: Apache-2.0 */
/* write_queue.h: who writes to the store on the loop's thread, and how many of them a turn of the loop lets write: each waits for the
 * disk. Who finds another connection within its transaction, or comes too late in a turn, waits here in the order of asking, and
 * the loop does not wait with him: an apply of 10,000 objects holds the store for 0.4 s.
 *
 * Nobody waits for ever: when it has let nobody write for WRITE_WAIT_MS the next one goes ahead and the loop waits, so a store that
 * is always busy keeps nobody out. The queue is as long as there are writers, which their owners bound. */
#ifndef WEFT_CONTROL_WRITE_QUEUE_H
#define WEFT_CONTROL_WRITE_QUEUE_H

#include "control/store.h"
#include "lib/loop.h"

#define WRITE_WAIT_MS 900
#define WRITE_TURN    4 /* writers that a turn of the loop lets write: some 6 ms */

struct write_queue;

/* Embed it; writer_init() first. */
struct writer {
	struct list node;
	uint64_t asked_ms;
	bool first; /* it goes before all others; set by its owner */
	/* Write now: nobody else does until this returns. Not called after writer_leave(). May free the writer. */
	void (*on_turn)(struct writer *w);
};
void writer_init(struct writer *w, void (*on_turn)(struct writer *w));
/* on_turn() comes: within this call when nobody is in the way (q NULL: nobody ever is), else in a later turn. */
void writer_take(struct write_queue *q, struct writer *w);
static inline bool writer_waits(const struct writer *w)
{
	return !list_empty(&w->node);
}
void writer_leave(struct writer *w); /* safe when it does not wait */

/* Both are borrowed; store is the loop's own connection. */
struct write_queue *write_queue_new(struct loop *loop, struct store *store);
void write_queue_free(struct write_queue **q); /* nobody waits */

#endif
